"""``hsifcn train``: learn from labelled pixels of whole scenes."""

from __future__ import annotations

import itertools
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt
from hsifcn.cli.training_text import plan_message, summary
from hsifcn.core import formats

if TYPE_CHECKING:
    from hsifcn.data.dataset import Dataset
    from hsifcn.inference.bundle import Bundle
    from hsifcn.training.loop import Progress
    from hsifcn.training.ranks import Ranks
    from hsifcn.training.settings import TrainOptions


def refuse(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Refuse an option that was removed, and say why."""
    if value:
        raise click.UsageError(f"{param.opts[0]} was removed: {REMOVED[param.opts[0]]}")


REMOVED = {
    "--staged": "training all skips at once is more accurate (2.4 points on fcn8s); leave it out",
    "--ensemble": "it gave 0.2 points at most; train with several --seed instead",
}


@opt.command(
    "train cube.mat",
    "train cube.hdr -l fields.gpkg --label-field crop --folds 5",
    "train cube.mat -s per-class:50 --seeds 10",
)
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE...")
@opt.options(opt.labels, opt.split)
@click.option(
    "--folds", type=click.IntRange(min=2), metavar="K",
    help="Test every label once, in K trainings over features or fields; then train the model that "
    "is kept on all labels.",
)  # fmt: skip
@click.option(
    "-m",
    "--model",
    help="hsifcn, fcn32s ... fcn1s, segnet, deconvnet, deeplab, patch15.",
)
@click.option(
    "--init", "init_path", metavar="MODEL", help="Start from a trained one of the same kind."
)
@opt.seed
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, metavar="N",
    help="Train N times, with seeds from --seed on, each into a folder of its own; give mean and "
    "standard deviation of every figure, as tables too.",
)  # fmt: skip
@click.option(
    "--learning-curve", type=opt.LearningCurve(), metavar="0.1,0.5,1",
    help="Train on each of these shares of the training labels, or, with steps:40,80,320, for each "
    "number of steps; tell accuracy by number of labels or steps.",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps, if not the default.")
@click.option("--inductive", is_flag=True, help="See no spectrum but the training pixels'.")
@opt.options(opt.refine, opt.max_memory, opt.device, opt.wavelengths, opt.nodata, opt.class_names)
@opt.options(opt.bands, opt.keep_bad_bands)
@click.option("-o", "--out", metavar="DIR", help="Run directory; runs/<scene> by default.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished run.")
@click.option(
    "--tensorboard", is_flag=True, help="Write curves for TensorBoard into the run directory."
)
@click.option("--staged", is_flag=True, hidden=True, expose_value=False, callback=refuse)
@click.option("--ensemble", hidden=True, expose_value=False, callback=refuse)
@opt.overwrite
@opt.common
def command(
    output: opt.Output,
    scenes: tuple[str, ...],
    label_paths: tuple[str, ...],
    model: str | None,
    seed: int,
    seeds: int,
    folds: int | None,
    init_path: str | None,
    out: str | None,
    resume: bool,
    overwrite: bool,
    **asked: Any,
) -> None:
    """Train on scenes, measure accuracy at the test pixels, fill a run directory.

    Processes that 'torchrun -m hsifcn train' starts share the scenes or crops of every step.
    """
    from hsifcn.core.process import load_torch, ranks_started

    if (seeds > 1 or asked["learning_curve"]) and ranks_started() > 1:
        raise click.UsageError("--seeds and --learning-curve train in turn: leave torchrun out")
    if asked["learning_curve"]:
        from hsifcn.cli.learning_curve import draw_learning_curve

        if folds:
            raise click.UsageError("--learning-curve needs a split: leave out --folds")
        if asked["steps"] and asked["learning_curve"].along == "steps":
            raise click.UsageError("--learning-curve tells the steps: leave out --steps")
        scenes = all_scenes(scenes)
        draw_learning_curve(
            output, run_folder(scenes, out), scenes, label_paths, range(seed, seed + seeds), asked,
            resume=resume, overwrite=overwrite,
        )  # fmt: skip
        return
    if seeds > 1:
        from hsifcn.cli.seeds import train_with_seeds

        folder = run_folder(all_scenes(scenes), out)
        train_with_seeds(output, folder, seed, seeds, resume=resume, overwrite=overwrite)
        return
    load_torch()
    from hsifcn.cli.tensorboard import summary_writer

    if folds:
        if asked["recipe"] not in (None, "all") or asked["refine"] != "none":
            raise click.UsageError("--folds splits the labels itself: leave out -s and --refine")
        asked["recipe"] = "all"
    if asked["tensorboard"]:
        summary_writer()  # that it is there, told before the work starts
    device = opt.choose_device(asked["device"])
    with joined_ranks(device) as ranks:
        output = output if ranks.first else replace(output, quiet=True)
        job = ranks.once(
            lambda: open_job(output, scenes, label_paths, model, seed, folds, init_path, out, asked)
        )
        job = replace(job, options=replace(job.options, device=device, ranks=ranks))
        with lock_folder(job):
            metrics = run_job(job, output, resume=resume, overwrite=overwrite)
        if ranks.first:
            output.result(summary(metrics, job.folder), metrics)


def all_scenes(given: Sequence[str]) -> tuple[str, ...]:
    """The scenes meant, with those of folders and patterns."""
    from hsifcn.io import find_scenes

    return tuple(found for scene in given for found in find_scenes(scene))


def run_folder(scenes: Sequence[str], out: str | None) -> Path:
    """The run directory: as given, else named after the first scene."""
    from hsifcn.io import scene_stem

    return Path(out) if out else Path("runs") / scene_stem(scenes[0])


@dataclass(frozen=True)
class Job:
    """A training as it was asked for, its scenes and labels opened.

    Attributes
    ----------
    dataset : Dataset
    options : TrainOptions
    folder : Path
        The run directory.
    labels : sequence of str or None
        Label file of each scene.
    folds : int or None
    tensorboard : bool
    config : dict
        For ``config.json``.
    """

    dataset: Dataset
    options: TrainOptions
    folder: Path
    labels: Sequence[str | None]
    folds: int | None
    tensorboard: bool
    config: dict[str, Any]


@contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Join the other processes that ``torchrun`` started, if any; where one fails, one tells so."""
    from hsifcn.training.ranks import LostRankError, join_ranks

    try:
        with join_ranks(device) as ranks:
            if not ranks.first:
                warnings.simplefilter("ignore")
            yield ranks
    except LostRankError as error:
        if error.told_elsewhere:
            sys.exit(error.exit_code)
        raise


def open_job(
    output: opt.Output,
    scenes: Sequence[str],
    label_paths: Sequence[str],
    model: str | None,
    seed: int,
    folds: int | None,
    init_path: str | None,
    out: str | None,
    asked: dict[str, Any],
) -> Job:
    """Open scenes, labels and the model to start from, and say what was found."""
    from hsifcn.models import DEFAULT_MODEL
    from hsifcn.training.settings import default_options

    scenes = all_scenes(scenes)
    labels, asked["further_labels"] = opt.labels_to_split(
        scenes, label_paths, output, asked["recipe"]
    )
    dataset = open_dataset(scenes, labels, seed, asked)
    options = default_options(
        model or DEFAULT_MODEL, seed, steps=asked["steps"], inductive=asked["inductive"],
        max_memory=asked["max_memory"], refine=asked["refine"],
    )  # fmt: skip
    if init_path:
        init = load_init(init_path, options.model, dataset, output)
        options = replace(options, init=init)
    for warning in itertools.chain.from_iterable(split.warnings for split in dataset.splits):
        output.message(f"warning: {warning}")
    config = record(scenes, labels, init_path, asked, dataset.splits[0].recipe)
    folder = run_folder(scenes, out)
    config["folds"] = folds
    return Job(dataset, options, folder, labels, folds, asked["tensorboard"], config)


def lock_folder(job: Job) -> AbstractContextManager[None]:
    """Keep other trainings out of the run directory, which is the first rank's."""
    from hsifcn.training.run_directory import lock_run_directory

    return lock_run_directory(job.folder) if job.options.ranks.first else nullcontext()


def run_job(job: Job, output: opt.Output, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """Train, or read the figures of a run that is finished; nothing on ranks but the first."""
    from hsifcn.inference.bundle import load_model
    from hsifcn.training.run import train_run
    from hsifcn.training.run_directory import prepare_run_directory, read_metrics
    from hsifcn.training.train import require_same_run

    dataset, options, folder = job.dataset, job.options, job.folder
    prepare = partial(prepare_run_directory, folder, overwrite=overwrite, resume=resume)
    if options.ranks.once(prepare):
        if not options.ranks.first:
            return {}
        require_same_run(load_model(folder / "model.safetensors"), dataset, options)
        output.message(f"{folder} is finished; nothing to do")
        return read_metrics(folder)
    measured = None
    if job.folds:
        with stop_on_sigterm() if options.ranks.first else nullcontext():
            measured = cross_validated(dataset, job.folds, options, job.labels, output)
    with stoppable(job, output) as progress:
        metrics = train_run(
            dataset,
            options,
            folder,
            progress=progress,
            announce=lambda plan: output.message(plan_message(plan, options.ranks.size)),
            resume=resume,
            config=job.config,
            folds=measured,
        )
    warn_of_unmeasured(metrics, output)
    return metrics


def warn_of_unmeasured(metrics: Mapping[str, Any], output: opt.Output) -> None:
    """Say how many test pixels hold no measurement."""
    lost = sum(metrics.get("unclassified", ()))
    if lost:
        output.message(
            f"warning: {lost:,} of {metrics['split']['n_test']:,} test pixels hold no measurement: "
            "they are unclassified and count as errors"
        )


@contextmanager
def stoppable(job: Job, output: opt.Output) -> Iterator[Progress]:
    """Give what shows the progress; Ctrl-C and SIGTERM stop the first rank, and it the others."""
    from hsifcn.cli.progress import training_progress
    from hsifcn.cli.tensorboard import tensorboard_events
    from hsifcn.training.loop import no_progress

    if not job.options.ranks.first:
        yield no_progress
        return
    with (
        stop_on_sigterm(),
        hint_when_stopped(output, job.folder),
        training_progress(output, job.options.steps) as shown,
        tensorboard_events(job.tensorboard, job.folder, job.options, shown) as progress,
    ):
        yield progress


def cross_validated(
    dataset: Dataset,
    folds: int,
    options: TrainOptions,
    labels: Sequence[str | None],
    output: opt.Output,
) -> dict[str, Any]:
    """Accuracy of a cross-validation; says how each fold went."""
    from hsifcn.training.folds import cross_validate

    def tell(number: int, n: int, oa: float) -> None:
        output.message(f"fold {number} of {n}: OA {formats.percent(oa)} %")

    sources = [path for path in labels if path is not None]
    return cross_validate(dataset, folds, options, sources=sources, tell=tell)


@contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Let SIGTERM stop the command as Ctrl-C does, with a checkpoint."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def open_dataset(
    scenes: Sequence[str], labels: Sequence[str | None], seed: int, asked: Mapping[str, Any]
) -> Dataset:
    """Scenes, labels and splits, opened as the options say."""
    from hsifcn.data import dataset

    return dataset.open_dataset(
        scenes,
        labels,
        asked["recipe"],
        seed,
        wavelengths=asked["wavelengths"],
        nodata=asked["nodata"],
        labelling=dataset.Labelling(
            asked["class_names"],
            asked["label_field"],
            asked["all_touched"],
            asked["further_labels"],
        ),
        bands=asked["bands"],
        keep_bad_bands=asked["keep_bad_bands"],
    )


def record(
    scenes: Sequence[str],
    labels: Sequence[str | None],
    init_path: str | None,
    asked: Mapping[str, Any],
    recipe: str,
) -> dict[str, Any]:
    """What was asked for, for ``config.json``."""
    kept = ("nodata", "label_field", "all_touched", "bands", "keep_bad_bands", "refine", "device")
    return {
        "command": opt.command_line(),
        "working_folder": str(Path.cwd()),
        "scenes": [opt.absolute(path) for path in scenes],
        "labels": [path and opt.absolute(path) for path in labels],
        "further_labels": [opt.absolute(path) for path in asked["further_labels"]],
        "split": asked["recipe"] or recipe,
        "wavelengths": asked["wavelengths"] and opt.absolute(asked["wavelengths"]),
        "class_names": asked["class_names"] and opt.absolute(asked["class_names"]),
        "init": init_path and opt.absolute(init_path),
        "max_memory": asked["max_memory"],
        **{name: asked[name] for name in kept},
    }


def load_init(path: str, model: str, dataset: Dataset, output: opt.Output) -> Bundle:
    """The model to start from; says how much of it is used and whether its split was another."""
    from hsifcn.inference.bundle import load_model
    from hsifcn.inference.targets import model_file
    from hsifcn.models import default_spec
    from hsifcn.training.transfer import initial_weights, origin

    init = load_model(model_file(Path(path)))
    spec = default_spec(model, init.spec.bands, dataset.n_classes)
    record = origin(init, initial_weights(init, spec, dataset.class_names))
    output.message(f"{path} ({init.spec.name}) gives {record['weights']:,} weights")
    if [part["digest"] for part in init.split] != [split.digest for split in dataset.splits]:
        output.message(
            f"warning: {path} was trained on another split: if of the same scene, test pixels may "
            "be among its training pixels"
        )
    return init


@contextmanager
def hint_when_stopped(output: opt.Output, folder: Path) -> Iterator[None]:
    """Say what can be done with an interrupted run."""
    try:
        yield
    except KeyboardInterrupt:
        checkpoint = folder / "checkpoint"
        if (checkpoint / "state.safetensors").exists():
            model = (checkpoint / "model.safetensors").exists()
            predict = f", or predict with {checkpoint}" * model
            output.message(f"stopped; go on with --resume{predict}")
        raise
