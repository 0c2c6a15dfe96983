"""Learning curves, as SVG and CSV: accuracy against the number of labels, or of steps."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from hsifcn.core.formats import finite
from hsifcn.evaluation.seeds import OVERALL
from hsifcn.io.files import atomic_write
from hsifcn.report.figures import MARKERS, PALETTE, STYLE, WIDTH_INCHES, end_at_100
from hsifcn.report.paper_tables import csv_cell

NAMES = {"oa": "OA", "aa": "AA"}
AXES = {"labels": "training labels", "steps": "training steps"}


def learning_curve_svg(rows: Sequence[Mapping[str, Any]], along: str = "labels") -> str:
    """Draw OA and AA, with a standard deviation on either side where there are several seeds.

    Parameters
    ----------
    rows : sequence of mapping
        ``labels`` or ``steps``, and ``oa`` and ``aa`` of ``evaluation.seeds.statistic``.
    along : str
        Which of the two.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 3.0), layout="constrained")
        axes = figure.subplots()
        for style, (key, name) in enumerate(NAMES.items()):
            known = [row for row in rows if row[key]["mean"] is not None]
            places = [row[along] for row in known]
            means = [100 * row[key]["mean"] for row in known]
            spreads = [100 * (row[key]["std"] or 0.0) for row in known]
            axes.errorbar(
                places, means, spreads, color=PALETTE[style], marker=MARKERS[style], capsize=2,
                label=name,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks([row[along] for row in rows])
        axes.set_xticklabels([f"{row[along]:,.0f}" for row in rows])
        axes.minorticks_off()
        axes.set_xlabel(AXES[along])
        axes.set_ylabel("test pixels, per cent")
        axes.legend(loc="lower right")
        return _as_file(figure)


def learning_curve_csv(rows: Sequence[Mapping[str, Any]], along: str) -> str:
    """A line a point and figure: the number, figure, mean, std, seeds and values, as fractions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((along, "figure", "mean", "std", "n", "values"))
    for row in rows:
        for key in OVERALL:
            known = [value for value in row[key]["values"] if value is not None]
            values = " ".join(str(value) for value in known)
            found = row[key]["mean"], row[key]["std"]
            writer.writerow((f"{row[along]:.10g}", key, *found, len(known), values))
    return text.getvalue()


def write_validation_curves(folder: Path, contenders: Sequence[Mapping[str, Any]]) -> None:
    """Write ``validation_curves.csv`` and ``.svg`` of a comparison; nothing without curves."""
    rows = validation_curves(contenders)
    if not rows:
        return
    texts = {"csv": validation_curves_csv(rows), "svg": validation_curves_svg(rows)}
    for suffix, text in texts.items():
        with atomic_write(folder / f"validation_curves.{suffix}", overwrite=True) as temporary:
            temporary.write_text(text, "utf-8")


def validation_curves(contenders: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """OA at the validation pixels of every network by step, first seed, where it was recorded.

    Parameters
    ----------
    contenders : sequence of mapping
        Of ``comparison.json``.

    Returns
    -------
    list of dict
        ``split, model, step, seconds, validation_oa``.
    """
    return [
        {"split": row["split"], "model": row["label"], "step": step}
        | {"seconds": seconds, "validation_oa": accuracy}
        for row in contenders
        if row.get("train_oa_steps")  # which those of older versions lack
        for step, (seconds, accuracy) in zip(
            row["train_oa_steps"], row["train_oa_curve"], strict=True
        )
        if finite(accuracy) is not None
    ]


def validation_curves_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """``validation_curves`` as a table; accuracies as fractions of 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("split", "model", "step", "seconds", "validation_oa"))
    for row in rows:
        names = csv_cell(row["split"]), csv_cell(row["model"])
        writer.writerow((*names, row["step"], f"{row['seconds']:.3f}", row["validation_oa"]))
    return text.getvalue()


def validation_curves_svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw ``validation_curves``: a panel a split, a curve a model."""
    splits = list(dict.fromkeys(row["split"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 0.6 + 2.6 * len(splits)), layout="constrained")
        panels = figure.subplots(len(splits), squeeze=False)[:, 0]
        for axes, split in zip(panels, splits, strict=True):
            for style, model in enumerate(models):
                own = [row for row in rows if (row["split"], row["model"]) == (split, model)]
                axes.plot(
                    [row["step"] for row in own],
                    [100 * row["validation_oa"] for row in own],
                    color=PALETTE[style % len(PALETTE)],
                    marker=MARKERS[style % len(MARKERS)],
                    markersize=3.5,
                    label=model,
                )
            end_at_100(axes)
            axes.set_title(split, fontsize=9)
            axes.set(xlabel=AXES["steps"], ylabel="validation OA (%)")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
        return _as_file(figure)


def _as_file(figure: Figure) -> str:
    """The text of an SVG file, the same at every time."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
