"""The figure of a learning curve: accuracy against the number of labels, as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from hsifcn.report.figures import MARKERS, PALETTE, STYLE, WIDTH_INCHES

NAMES = {"oa": "OA", "aa": "AA"}


def learning_curve_svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw OA and AA, with a standard deviation on either side where there are several seeds.

    Parameters
    ----------
    rows : sequence of mapping
        ``labels``, and ``oa`` and ``aa`` of ``evaluation.seeds.statistic``.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 3.0), layout="constrained")
        axes = figure.subplots()
        for style, (key, name) in enumerate(NAMES.items()):
            known = [row for row in rows if row[key]["mean"] is not None]
            labels = [row["labels"] for row in known]
            means = [100 * row[key]["mean"] for row in known]
            spreads = [100 * (row[key]["std"] or 0.0) for row in known]
            axes.errorbar(
                labels, means, spreads, color=PALETTE[style], marker=MARKERS[style], capsize=2,
                label=name,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks([row["labels"] for row in rows])
        axes.set_xticklabels([f"{row['labels']:,.0f}" for row in rows])
        axes.minorticks_off()
        axes.set_xlabel("training labels")
        axes.set_ylabel("test pixels, per cent")
        axes.legend(loc="lower right")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
