"""``hsifcn compare-patch-vs-fcn``: the experiment of the project."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt
from hsifcn.core import formats

if TYPE_CHECKING:
    from hsifcn.comparison.experiment import Experiment

AS_ASKED = (  # options that an experiment takes as they are
    *("nodata", "bands", "keep_bad_bands", "label_field", "all_touched"),
    *("patch", "steps", "quick", "max_memory"),
)


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
@click.option(
    "--models",
    metavar="A,B",
    help="svm, rf, svm7x7, rf7x7, patch, materialised, cast, "
    "fcn8s, fcn1s, ...; or my_module:Net, a class with bands, classes.",
)
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
    out: str | None,
    resume: bool,
    overwrite: bool,
    **asked: Any,
) -> None:
    """Compare patch CNNs with whole-scene FCNs in memory, time and accuracy.

    Without SCENE, on the scene that comes with hsifcn. Every network learns from the same pixels.
    """
    from hsifcn.comparison.compare import compare
    from hsifcn.io import scene_stem

    files = input_files(scene, label_paths, asked, output)
    folder = Path(out) if out else Path("runs") / f"compare-{scene_stem(files['scene'])}"
    experiment = make_experiment(files, asked)
    result = compare(experiment, folder, say=output.message, resume=resume, overwrite=overwrite)
    output.result(summary(result, folder), result)
    require_one_done(result)


def input_files(
    scene: str | None, label_paths: Sequence[str], asked: Mapping[str, Any], output: opt.Output
) -> dict[str, str]:
    """Paths of ``scene``, ``labels`` and, where there are some, ``wavelengths``, ``class_names``.

    Those of the bundled scene where none is named.
    """
    from hsifcn.data.indian_pines import OVERLAP, bundled_scene

    if scene is None:
        files = bundled_scene()
        warnings.filterwarnings("ignore", OVERLAP)
    else:
        (labels,) = opt.labels_of_scenes([scene], label_paths, output)
        files = {"scene": scene, "labels": labels}
    named = {name: asked[name] for name in ("wavelengths", "class_names") if asked[name]}
    return {**files, **named}


def make_experiment(files: Mapping[str, str], asked: Mapping[str, Any]) -> Experiment:
    """What to compare, by the options; ``--quick`` goes before those that take long."""
    from hsifcn.comparison.experiment import (
        DEFAULT_CONTENDERS,
        DEFAULT_SPLITS,
        QUICK_CONTENDERS,
        REGIMES,
        Experiment,
    )

    quick, models, regime = asked["quick"], asked["models"], asked["learn_from"]
    standard = QUICK_CONTENDERS if quick else DEFAULT_CONTENDERS
    return Experiment(
        scene=files["scene"],
        labels=files["labels"],
        wavelengths=files.get("wavelengths"),
        class_names=files.get("class_names"),
        splits={recipe: recipe for recipe in asked["recipes"]} or dict(DEFAULT_SPLITS),
        regimes=tuple(REGIMES) if regime == "both" else (regime,),
        contenders=tuple(models.split(",")) if models else standard,
        seeds=1 if quick else asked["seeds"],
        first_seed=asked["seed"],
        budget_seconds=0.0 if quick else asked["budget"],
        device=opt.choose_device(asked["device"]),
        command=opt.command_line(),
        **{name: asked[name] for name in AS_ASKED},
    )


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
