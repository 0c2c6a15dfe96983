"""``hsifcn train``: learn from labelled pixels of whole scenes."""

from __future__ import annotations

import itertools
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt
from hsifcn.core import formats

if TYPE_CHECKING:
    from hsifcn.data.dataset import Dataset
    from hsifcn.inference.bundle import Bundle
    from hsifcn.training.crops import CropSize
    from hsifcn.training.memory_plan import TrainingPlan
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
    "--learning-curve", type=opt.Shares(), metavar="0.1,0.5,1",
    help="Train on these shares of the training labels, too; tell accuracy by number of labels.",
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
    """Train on scenes, measure accuracy at the test pixels, fill a run directory."""
    from hsifcn.io import find_scenes, scene_stem

    scenes = tuple(found for scene in scenes for found in find_scenes(scene))
    folder = Path(out) if out else Path("runs") / scene_stem(scenes[0])
    if asked["learning_curve"]:
        from hsifcn.cli.learning_curve import draw_learning_curve

        if folds:
            raise click.UsageError("--learning-curve needs a split: leave out --folds")
        draw_learning_curve(
            output, folder, scenes, label_paths, range(seed, seed + seeds), asked,
            resume=resume, overwrite=overwrite,
        )  # fmt: skip
        return
    if seeds > 1:
        from hsifcn.cli.seeds import train_with_seeds

        train_with_seeds(output, folder, seed, seeds, resume=resume, overwrite=overwrite)
        return
    from hsifcn.core.process import load_torch

    load_torch()
    from hsifcn.cli.progress import training_progress
    from hsifcn.cli.tensorboard import summary_writer, tensorboard_events
    from hsifcn.inference.bundle import load_model
    from hsifcn.models import DEFAULT_MODEL
    from hsifcn.training.run import train_run
    from hsifcn.training.run_directory import (
        lock_run_directory,
        prepare_run_directory,
        read_metrics,
    )
    from hsifcn.training.settings import default_options
    from hsifcn.training.train import require_same_run

    if folds:
        if asked["recipe"] not in (None, "all") or asked["refine"] != "none":
            raise click.UsageError("--folds splits the labels itself: leave out -s and --refine")
        asked["recipe"] = "all"
    if asked["tensorboard"]:
        summary_writer()  # that it is there, told before the work starts
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
    options = replace(options, device=opt.choose_device(asked["device"]))
    for warning in itertools.chain.from_iterable(split.warnings for split in dataset.splits):
        output.message(f"warning: {warning}")
    with lock_run_directory(folder):
        if prepare_run_directory(folder, overwrite=overwrite, resume=resume):
            require_same_run(load_model(folder / "model.safetensors"), dataset, options)
            output.message(f"{folder} is finished; nothing to do")
            metrics = read_metrics(folder)
            output.result(summary(metrics, folder), metrics)
            return
        measured = None
        if folds:
            with stop_on_sigterm():
                measured = cross_validated(dataset, folds, options, labels, output)
        with (
            stop_on_sigterm(),
            hint_when_stopped(output, folder),
            training_progress(output, options.steps) as shown,
            tensorboard_events(asked["tensorboard"], folder, options, shown) as progress,
        ):
            metrics = train_run(
                dataset,
                options,
                folder,
                progress=progress,
                announce=lambda plan: output.message(plan_message(plan)),
                resume=resume,
                config=record(scenes, labels, init_path, asked, dataset.splits[0].recipe)
                | {"folds": folds},
                folds=measured,
            )
    lost = sum(metrics["unclassified"])
    if lost:
        output.message(
            f"warning: {lost:,} of {metrics['split']['n_test']:,} test pixels hold no measurement: "
            "they are unclassified and count as errors"
        )
    output.result(summary(metrics, folder), metrics)


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


def plan_message(plan: TrainingPlan) -> str:
    """How the network will be trained, with what memory, and about how long it will take."""
    how = "whole scenes" if plan.crops is None else crops_message(plan.crops)
    return (
        f"plan: {how}; about {formats.megabytes(plan.peak_bytes)} MB of memory, "
        f"{formats.about(plan.seconds)}"
    )


def crops_message(crops: CropSize) -> str:
    """The crops of a step, and the tiles of an evaluation."""
    at_once = "" if crops.batch == crops.count else f", {crops.batch} at once"
    tile = crops.core + 2 * crops.halo
    side = crops.window
    windows = f"; labels propagated over windows of {side}x{side}" if side else ""
    return (
        f"{crops.count} crops of {crops.side}x{crops.side} pixels a step{at_once}; validation in "
        f"tiles of {tile}x{tile}, halo {crops.halo}{windows}"
    )


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
        if (folder / "checkpoint" / "model.safetensors").exists():
            output.message(f"stopped; go on with --resume, or predict with {folder}/checkpoint")
        raise


def summary(metrics: dict[str, object], folder: Path) -> str:
    """The result of a run for people."""
    from typing import cast

    from hsifcn.cli import tables
    from hsifcn.data.splits import leakage_sentence

    values = cast(dict[str, Any], metrics)
    split = values["split"]
    overview = tables.facts(
        {
            "model": f"{values['model']}, {values['params'] / 1e6:.2f} M parameters, "
            f"{values['flops_per_pixel'] / 1e3:,.0f} kFLOP a pixel",
            "split": f"{split['recipe']}, seed {split['seed']}: {split['n_train']:,} training, "
            f"{split['n_validation']:,} validation, {split['n_test']:,} test pixels",
            "leakage": leakage_sentence(split["leakage"]),
            "accuracy": accuracy_fact(values),
            **chosen_fact(values.get("recipe")),
            **refined_fact(values.get("refined")),
            "cost": f"trained in {formats.seconds(values['train_seconds'])}, mapped in "
            f"{formats.seconds(values['predict_seconds'])}, peak memory "
            f"{formats.megabytes(values['peak_rss_bytes'])} MB",
            "run": f"{folder} (report.html, model.safetensors)",
        }
    )
    command = shlex.join(["hsifcn", "predict", str(folder)])
    return f"{tables.per_class(values)}\n\n{overview}\n\nnext: {command}"


def chosen_fact(recipe: dict[str, Any] | None) -> dict[str, str]:
    """What propagation chose from the labels; nothing where nothing was propagated."""
    sentence = formats.recipe_sentence(recipe)
    return {"chosen": sentence} if sentence else {}


def accuracy_fact(values: dict[str, Any]) -> str:
    """OA, AA and kappa; a sentence where no pixel tests."""
    folds = values.get("folds")
    of_what = "test pixels"
    if folds:
        of_what = (
            f"of {folds['n']} folds over {folds['units']}; the model that is kept learnt all labels"
        )
    if values["oa"] is None:
        return "not known: every labelled pixel trains and none tests"
    return (
        f"OA {formats.percent(values['oa'])} %, AA {formats.percent(values['aa'])} %, "
        f"kappa {formats.percent(values['kappa'])} % ({of_what})"
    )


def refined_fact(refined: dict[str, Any] | None) -> dict[str, str]:
    """Accuracy after the refinement; nothing where none was asked for."""
    if refined is None:
        return {}
    method, strength = refined["method"], refined["weights"]["strength"]
    accuracy = f"OA {formats.percent(refined['oa'])} %, AA {formats.percent(refined['aa'])} %"
    chosen = f"strength {strength:g}, width {refined['weights']['spectral_width']:g}"
    if not strength:
        chosen = "strength 0: no refinement was better at the validation pixels"
    return {"refined": f"{accuracy} ({method}, {chosen})"}
