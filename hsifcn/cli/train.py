"""``hsifcn train``: learn from labelled pixels of whole scenes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt

if TYPE_CHECKING:
    from hsifcn.bundle import Bundle
    from hsifcn.inputs import Inputs


@click.command(epilog="Example: hsifcn train cube.mat -s checkerboard:14:gap=3 -o runs/disjoint")
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE...")
@opt.options(opt.labels, opt.split)
@click.option(
    "-m",
    "--model",
    help="hsifcn, fcn32s ... fcn1s, segnet, deconvnet, deeplab, patch15.",
)
@click.option(
    "--init", "start_path", metavar="MODEL", help="Start from a trained one, a patch CNN say."
)
@click.option("--staged", is_flag=True, help="FCNs: train the coarse scores first, then each skip.")
@opt.seed
@click.option(
    "--ensemble", "members", type=click.IntRange(1), default=1, metavar="N",
    help="Train N networks and average them.",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps, if not the default.")
@click.option("--inductive", is_flag=True, help="See no spectrum but the training pixels'.")
@opt.options(opt.refine, opt.max_memory, opt.device, opt.wavelengths, opt.class_names)
@opt.options(opt.bands, opt.keep_bad_bands)
@click.option("-o", "--out", metavar="DIR", help="Run directory; runs/<scene> by default.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished run.")
@opt.overwrite
@opt.common
def command(
    output: opt.Output,
    scenes: tuple[str, ...],
    label_paths: tuple[str, ...],
    label_field: str | None,
    all_touched: bool,
    recipe: str,
    model: str | None,
    start_path: str | None,
    staged: bool,
    seed: int,
    members: int,
    steps: int | None,
    inductive: bool,
    refine: str,
    max_memory: int | None,
    device: str,
    wavelengths: str | None,
    class_names: str | None,
    bands: str | None,
    keep_bad_bands: bool,
    out: str | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """Train on whole scenes, measure accuracy at the test pixels, fill a run directory."""
    from hsifcn.cli.progress import training_progress
    from hsifcn.inputs import Labelling, open_inputs
    from hsifcn.io import scene_stem
    from hsifcn.models import DEFAULT_MODEL
    from hsifcn.run import prepare_run_directory, train_run
    from hsifcn.training import default_settings

    labels = opt.labels_of_scenes(scenes, label_paths, output)
    labelling = Labelling(class_names, label_field, all_touched)
    inputs = open_inputs(
        scenes,
        labels,
        recipe,
        seed,
        wavelengths=wavelengths,
        labelling=labelling,
        bands=bands,
        keep_bad_bands=keep_bad_bands,
    )
    settings = default_settings(
        model or DEFAULT_MODEL, seed, steps=steps, inductive=inductive, staged=staged
    )
    start = starting_model(start_path, settings.model, inputs, output) if start_path else None
    chosen_device = opt.choose_device(device)
    folder = Path(out) if out else Path("runs") / scene_stem(scenes[0])
    if prepare_run_directory(folder, overwrite=overwrite, resume=resume):
        output.message(f"{folder} is finished; nothing to do")
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
        output.result(summary(metrics, folder), metrics)
        return
    for warning in itertools.chain.from_iterable(split.warnings for split in inputs.splits):
        output.message(f"warning: {warning}")
    config = {
        "command": opt.command_line(),
        "scenes": [opt.absolute(path) for path in scenes],
        "labels": [opt.absolute(path) for path in labels],
        "label_field": label_field,
        "all_touched": all_touched,
        "split": recipe,
        "wavelengths": wavelengths and opt.absolute(wavelengths),
        "class_names": class_names and opt.absolute(class_names),
        "bands": bands,
        "keep_bad_bands": keep_bad_bands,
        "init": start_path and opt.absolute(start_path),
        "refine": refine,
        "device": device,
        "max_memory": max_memory,
    }
    with (
        hint_when_stopped(output, folder),
        training_progress(output, members * settings.steps) as progress,
    ):
        metrics = train_run(
            inputs,
            settings,
            folder,
            device=chosen_device,
            max_memory=max_memory,
            progress=progress,
            resume=resume,
            start=start,
            members=members,
            refine=refine,
            config=config,
        )
    output.result(summary(metrics, folder), metrics)


def starting_model(path: str, model: str, inputs: Inputs, output: opt.Output) -> Bundle:
    """The model to start from; says what is taken of it and whether its split was another one."""
    from hsifcn.bundle import load_model
    from hsifcn.models import default_spec
    from hsifcn.prediction_files import model_file
    from hsifcn.transfer import inherited, origin

    start = load_model(model_file(Path(path)))
    spec = default_spec(model, start.spec.bands, len(inputs.class_names))
    record = origin(start, inherited(start, spec, inputs.class_names))
    output.message(
        f"{path} ({start.spec.name}) gives {model} {record['weights']:,} weights: "
        f"{', '.join(record['layers'])}"
    )
    if [part["digest"] for part in start.split] != [split.digest for split in inputs.splits]:
        output.message(
            f"warning: {path} was trained on another split: if of the same scene, test pixels may "
            "be among its training pixels"
        )
    return start


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
    from hsifcn.splits import leakage_sentence

    values = cast(dict[str, Any], metrics)
    split = values["split"]
    overview = tables.facts(
        {
            "model": f"{values['model']}, {values['params'] / 1e6:.2f} M parameters, "
            f"{values['flops_per_pixel'] / 1e3:,.0f} kFLOP a pixel",
            "split": f"{split['recipe']}, seed {split['seed']}: {split['n_train']:,} training, "
            f"{split['n_validation']:,} validation, {split['n_test']:,} test pixels",
            "leakage": leakage_sentence(split["leakage"]),
            "accuracy": f"OA {tables.percent(values['oa'])} %, AA {tables.percent(values['aa'])} %,"
            f" kappa {tables.percent(values['kappa'])} % (test pixels)",
            **refined_fact(values.get("refined")),
            "cost": f"trained in {tables.seconds(values['train_seconds'])} s, mapped in "
            f"{tables.seconds(values['predict_seconds'])} s, peak memory "
            f"{tables.megabytes(values['peak_rss_bytes'])} MB",
            "run": f"{folder} (report.html, model.safetensors); next: hsifcn predict {folder}",
        }
    )
    return f"{tables.per_class(values)}\n\n{overview}"


def refined_fact(refined: dict[str, Any] | None) -> dict[str, str]:
    """What the back end made of the accuracy; nothing where none was asked for."""
    from hsifcn.cli import tables

    if refined is None:
        return {}
    method, strength = refined["method"], refined["weights"]["strength"]
    accuracy = f"OA {tables.percent(refined['oa'])} %, AA {tables.percent(refined['aa'])} %"
    chosen = f"strength {strength:g}, width {refined['weights']['spectral_width']:g}"
    if not strength:
        chosen = "strength 0: the validation pixels speak for no refinement"
    return {"refined": f"{accuracy} ({method}, {chosen})"}
