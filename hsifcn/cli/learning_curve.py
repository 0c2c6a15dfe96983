"""``hsifcn train --learning-curve``: accuracy against the number of labels, or of steps."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt
from hsifcn.cli.seeds import REPLACED, without_options
from hsifcn.core import formats

if TYPE_CHECKING:
    from hsifcn.data.splits import Split

OF_CURVE = ("--learning-curve", "-s", "--split", "-l", "--labels")  # named anew for each training


def draw_learning_curve(
    output: opt.Output,
    folder: Path,
    scenes: Sequence[str],
    label_paths: Sequence[str],
    seeds: range,
    asked: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """Split the labels by every seed and train at each point of the curve."""
    from hsifcn.data.dataset import Labelling, split_scenes
    from hsifcn.io import open_scene

    if (asked["recipe"] or "").startswith("fixed:"):
        raise click.UsageError("--learning-curve draws labels: name another split than fixed")
    labels, further = opt.labels_to_split(scenes, label_paths, output, asked["recipe"])
    labelling = Labelling(asked["class_names"], asked["label_field"], asked["all_touched"], further)
    opened = [open_scene(path, nodata=asked["nodata"]) for path in scenes]
    splits = {
        seed: split_scenes(opened, labels, asked["recipe"], seed, labelling)[1] for seed in seeds
    }
    paths = [*(path for path in labels if path), *further]
    train_at_points(
        output, folder, asked["learning_curve"], seeds, splits, paths,
        resume=resume, overwrite=overwrite,
    )  # fmt: skip


def train_at_points(
    output: opt.Output,
    folder: Path,
    points: opt.CurvePoints,
    seeds: range,
    splits: Mapping[int, Sequence[Split]],
    label_paths: Sequence[str],
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """Train on shares of the labels or for some steps, each in a process of its own.

    All are tested on the same pixels.

    Parameters
    ----------
    output : Output
    folder : Path
        Gets a folder a point (``share-0.1``, ``steps-80``) with a run a seed, and a split file
        each.
    points : CurvePoints
        A greater share holds the labels of a smaller one.
    seeds : range
    splits : mapping of int to sequence of Split
        All labels, a split a scene, by seed.
    label_paths : sequence of str
        As for train, one a scene and further ones.
    resume, overwrite : bool

    Raises
    ------
    ExistingOutputError
        The folder holds something, and it is neither to be resumed nor overwritten.
    """
    from hsifcn.cli.running import run_command
    from hsifcn.core.errors import ExistingOutputError
    from hsifcn.data.splits import split_path, thin_split, write_split
    from hsifcn.training.run_directory import read_metrics

    if folder.exists() and any(folder.iterdir()) and not (resume or overwrite):
        raise ExistingOutputError(
            f"{folder} exists", "add --resume to go on, --overwrite, or choose another with -o"
        )
    words = without_options(sys.argv[1:], (*REPLACED, *OF_CURVE))
    labels = [word for path in label_paths for word in ("-l", path)]
    metrics: dict[float, list[dict[str, Any]]] = {value: [] for value in points.values}
    for value, seed in itertools.product(points.values, seeds):
        share, steps = (value, []) if points.along == "share" else (1, ["--steps", f"{value:.0f}"])
        run = folder / f"{points.along}-{value:.10g}" / f"seed-{seed}"
        run.parent.mkdir(parents=True, exist_ok=True)
        file = run.with_name(f"seed-{seed}.npz")
        for number, split in enumerate(splits[seed], start=1):
            write_split(split_path(file, number), thin_split(split, share, seed), overwrite=True)
        what = f"{value} steps" if steps else f"{formats.percent(share, 0)} % of the labels"
        output.message(f"{what}, seed {seed}: {run}")
        asked = [*labels, "-s", str(file), *steps, "--seed", str(seed), "-o", str(run)]
        run_command(words, asked)
        metrics[value].append(read_metrics(run))
    result = write_curve(folder, points.along, metrics)
    output.result(summary(result), result)


def write_curve(
    folder: Path, along: str, metrics: Mapping[float, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Write ``learning_curve.json``, ``.csv`` and ``.svg``; gives what the first holds."""
    from hsifcn.evaluation.seeds import OVERALL, statistic
    from hsifcn.io.files import atomic_write, write_json
    from hsifcn.report.learning_curve import learning_curve_csv, learning_curve_svg

    rows = []
    for value, found in metrics.items():
        n_train = [row["split"]["n_train"] + row["split"]["n_validation"] for row in found]
        row = {along: value, "labels": sum(n_train) / len(n_train)}
        rows.append(row | {key: statistic([one[key] for one in found]) for key in OVERALL})
    first = metrics[max(metrics)][0]
    result = {
        "model": first["model"],
        "along": "labels" if along == "share" else along,
        "n_test": first["split"]["n_test"],
        "leakage": first["split"]["leakage"],
        "rows": rows,
        "figure": str(folder / "learning_curve.svg"),
        "table": str(folder / "learning_curve.csv"),
    }
    drawn = learning_curve_svg(rows, result["along"]), learning_curve_csv(rows, result["along"])
    for path, text in zip((result["figure"], result["table"]), drawn, strict=True):
        with atomic_write(path, overwrite=True) as temporary:
            temporary.write_text(text, "utf-8")
    write_json(folder / "learning_curve.json", result)
    return result


def summary(result: dict[str, Any]) -> str:
    """Accuracy by number of labels or of steps, for people."""
    from hsifcn.cli import tables
    from hsifcn.data.splits import leakage_sentence
    from hsifcn.evaluation.seeds import OVERALL

    rows = [
        (formats.count(row[result["along"]]), *(formats.mean_sd(row[key]) for key in OVERALL))
        for row in result["rows"]
    ]
    of_which = "of the most labels " if result["along"] == "labels" else ""
    facts = {
        "model": result["model"],
        "test": f"{result['n_test']:,} pixels, the same for all; {of_which}"
        f"{leakage_sentence(result['leakage'])}",
        "figure": f"{result['figure']}, {result['table']}",
    }
    table = tables.table((result["along"], "OA %", "AA %", "kappa %"), rows)
    return f"{table}\n\n{tables.facts(facts)}"
