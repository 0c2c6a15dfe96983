"""``hsifcn compare-patch-vs-fcn``: the experiment of the project."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from hsifcn.cli import options as opt
from hsifcn.core import formats


@opt.command(
    "compare-patch-vs-fcn",
    "compare-patch-vs-fcn cube.mat -s fields:0.2:gap=2 --seeds 5",
    "compare-patch-vs-fcn cube.mat --models svm,patch,hsifcn --budget 0",
    name="compare-patch-vs-fcn",
)
@click.argument("scene", required=False)
@opt.labels
@click.option(
    "-s", "--split", "recipes", multiple=True, metavar="SPEC",
    help="Split to compare on, as for train; random:0.1 and checkerboard:14:gap=3 by default.",
)  # fmt: skip
@click.option(
    "--learn-from", type=click.Choice(["labels-alone", "pseudo-labels", "both"]),
    default="labels-alone", show_default=True,
    help="What all networks, the patch CNN too, learn from: labels alone, or pseudo-labels too, "
    "that a random walker propagates over the scene; or both, one after the other.",
)  # fmt: skip
@click.option("--patch", default=15, show_default=True, help="Side of the patches: 5, 7, ... 31.")
@click.option("--models", metavar="A,B", help="patch, materialised, cast, fcn8s, fcn1s, ...")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True,
    help="Trainings of each model, with seeds from --seed on.",
)  # fmt: skip
@opt.seed
@click.option(
    "--steps", type=click.IntRange(min=1),
    help="Optimiser steps of every network; by default each is trained until the loss of the "
    "validation pixels no longer falls, at most 4 times its usual steps.",
)  # fmt: skip
@click.option(
    "--budget", type=opt.Duration(), default="3min", show_default=True, metavar="TIME",
    help="For measuring how cost grows with patch and scene: 90s, 3min; 0 leaves that out.",
)  # fmt: skip
@click.option(
    "--quick", is_flag=True, help="One seed, half the usual steps, no growth, few models."
)
@opt.options(
    opt.max_memory,
    opt.device,
    opt.wavelengths,
    opt.nodata,
    opt.class_names,
    opt.bands,
    opt.keep_bad_bands,
)
@click.option("-o", "--out", metavar="DIR", help="runs/compare-<scene> by default.")
@click.option("--resume", is_flag=True, help="Keep the results that are there already.")
@opt.overwrite
@opt.common
def command(
    output: opt.Output,
    scene: str | None,
    label_paths: tuple[str, ...],
    label_field: str | None,
    all_touched: bool,
    recipes: tuple[str, ...],
    learn_from: str,
    patch: int,
    models: str | None,
    seeds: int,
    seed: int,
    steps: int | None,
    budget: float,
    quick: bool,
    max_memory: int | None,
    device: str,
    wavelengths: str | None,
    nodata: float | None,
    class_names: str | None,
    bands: str | None,
    keep_bad_bands: bool,
    out: str | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """Compare patch CNNs with whole-scene FCNs in memory, time and accuracy.

    Without SCENE, on the scene that comes with hsifcn. Every network learns from the same pixels.
    """
    from hsifcn.comparison.compare import compare
    from hsifcn.comparison.experiment import (
        DEFAULT_CONTENDERS,
        DEFAULT_SPLITS,
        QUICK_CONTENDERS,
        REGIMES,
        Experiment,
    )
    from hsifcn.data.indian_pines import OVERLAP, bundled_scene
    from hsifcn.io import scene_stem

    if scene is None:
        paths = bundled_scene()
        warnings.filterwarnings("ignore", OVERLAP)
    else:
        (found,) = opt.labels_of_scenes([scene], label_paths, output)
        paths = {"scene": scene, "labels": found}
    if wavelengths:
        paths["wavelengths"] = wavelengths
    if class_names:
        paths["class_names"] = class_names
    folder = Path(out) if out else Path("runs") / f"compare-{scene_stem(paths['scene'])}"
    standard = QUICK_CONTENDERS if quick else DEFAULT_CONTENDERS
    experiment = Experiment(
        scene=paths["scene"],
        labels=paths["labels"],
        wavelengths=paths.get("wavelengths"),
        nodata=nodata,
        class_names=paths.get("class_names"),
        bands=bands,
        keep_bad_bands=keep_bad_bands,
        label_field=label_field,
        all_touched=all_touched,
        splits={recipe: recipe for recipe in recipes} or dict(DEFAULT_SPLITS),
        regimes=tuple(REGIMES) if learn_from == "both" else (learn_from,),
        contenders=tuple(models.split(",")) if models else standard,
        patch=patch,
        seeds=1 if quick else seeds,
        first_seed=seed,
        steps=steps,
        quick=quick,
        budget_seconds=0.0 if quick else budget,
        device=opt.choose_device(device),
        max_memory=max_memory,
        command=opt.command_line(),
    )
    result = compare(experiment, folder, say=output.message, resume=resume, overwrite=overwrite)
    output.result(summary(result, folder), result)
    require_one_done(result)


def summary(result: dict[str, Any], folder: Path) -> str:
    """The comparison for people: two tables a split, and what they come to."""
    from hsifcn.cli import tables

    parts = []
    for split in result["splits"]:
        rows = [row for row in result["contenders"] if row["split"] == split["name"]]
        done = [row for row in rows if row["status"] == "done"]
        leakage = split["leakage"]
        title = (
            f"Split {split['name']} ({split['recipe']}), learnt from {split['learns_from']}: of "
            "the test pixels "
            f"{formats.percent(leakage['test_touching'], 0)} % touch a training pixel, "
            f"{formats.percent(leakage['test_within']['4'], 0)} % lie within 4 px of one."
        )
        parts += [tables.paragraph(title), accuracy_table(rows), cost_table(done)]
    notes = [
        result["steps"],
        "Memory is the peak above what the process held before the work.",
        *(
            f"* {row['label']}: extrapolated from its first {row['train_seconds_from_steps']} steps"
            for row in result["contenders"]
            if row.get("train_seconds_from_steps")
        ),
        *(
            f"{row['label']}, {row['split']}: {row['reason']}"
            for row in result["contenders"]
            if row["reason"]
        ),
        *result["verdict"],
    ]
    parts += ["\n".join(map(tables.paragraph, notes)), f"report: {folder / 'report.html'}"]
    return "\n\n".join(part for part in parts if part)


def accuracy_table(rows: list[dict[str, Any]]) -> str:
    """OA, AA and kappa of the contenders on one split."""
    from hsifcn.cli import tables

    keys = ("oa", "aa", "kappa")
    lines = [
        (
            row["label"],
            *(
                (formats.mean_sd(row[key]) for key in keys)
                if row["status"] == "done"
                else (row["status"], "", "")
            ),
        )
        for row in rows
    ]
    return tables.table(("model", "OA %", "AA %", "kappa %"), lines)


def cost_table(rows: list[dict[str, Any]]) -> str:
    """Time and memory of the contenders that are done; nothing where there is none."""
    from hsifcn.cli import tables

    def above(row: dict[str, Any], task: str, baseline: str) -> str:
        return formats.megabytes(row[f"peak_{task}_bytes"] - row[baseline])

    lines = [
        (
            row["label"],
            formats.count(row["steps"]),
            formats.significant(row["train_seconds"])
            + ("*" if row["train_seconds_from_steps"] else ""),
            formats.significant(row["predict_seconds"]),
            above(row, "train", "train_baseline_bytes"),
            above(row, "predict", "baseline_bytes"),
        )
        for row in rows
    ]
    columns = ("model", "steps", "train s", "map s", "train MB", "map MB")
    return tables.table(columns, lines) if lines else ""


def require_one_done(result: dict[str, Any]) -> None:
    """Raise where there is no figure and a contender failed."""
    from hsifcn.core.errors import FailedError

    states = [row["status"] for row in result["contenders"]]
    if "failed" in states and "done" not in states:
        reasons = {row["reason"] for row in result["contenders"] if row["status"] == "failed"}
        raise FailedError(f"every contender failed: {', '.join(sorted(reasons))}")
