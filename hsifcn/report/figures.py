"""Charts as inline SVG: one quantity a chart, axes with units, colours safe for the colour-blind.

Charts are about 480 px wide, so that two stand side by side on a screen and one fits a phone with
its text still readable. Labels come from the data and are never parsed as mathematics.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from hsifcn.core.formats import MINUS, finite

# Okabe and Ito's palette without its yellow, which is too faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH_INCHES = 4.4
MAX_LABEL = 32  # characters; a longer one would leave no room for the chart
# Colours that follow the page, light or dark, and what they are called in style.css.
PAPER, INK, SOFT, AXIS, GRID = "#fcfcfa", "#333333", "#555555", "#777777", "#e4e4e0"
PAGE_COLOURS = {PAPER: "paper", INK: "ink", SOFT: "soft", AXIS: "axis", GRID: "grid"}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hsifcn",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.edgecolor": AXIS,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "font.size": 9,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class Point:
    """One point of a curve; a point that was not measured was fitted."""

    x: float
    y: float
    measured: bool = True


@dataclass(frozen=True)
class Curve:
    """One contender's points; its style number gives it the same look in all charts."""

    label: str
    style: int
    points: Sequence[Point]


@dataclass(frozen=True)
class Difference:
    """One line of a forest plot, in percentage points: value and interval by measure."""

    label: str
    values: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Chart:
    """A drawn chart and its caption."""

    svg: Markup
    caption: str


def training_charts(log: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Loss, on a logarithmic axis, and validation accuracy against the training step."""
    charts = []
    loss = [(row["step"], row["loss"]) for row in log if (finite(row.get("loss")) or 0) > 0]
    accuracy = [
        (row["step"], row["validation_oa"])
        for row in log
        if finite(row.get("validation_oa")) is not None
    ]
    with matplotlib.rc_context(STYLE):
        if len(loss) > 1:
            figure, axes = canvas(2.9)
            axes.plot(*zip(*loss, strict=True), color=PALETTE[0])
            axes.set(xlabel="training step", ylabel="training loss (log scale)")
            _log(axes.yaxis, [value for _, value in loss])
            charts.append(Chart(as_svg(figure, "loss"), "Training loss."))
        if len(accuracy) > 1:
            figure, axes = canvas(2.9)
            steps, values = zip(*accuracy, strict=True)
            axes.plot(
                steps,
                [100 * value for value in values],
                color=PALETTE[1],
                marker="o",
                markersize=3.5,
            )
            axes.set(xlabel="training step", ylabel="validation OA (%)")
            end_at_100(axes)
            charts.append(
                Chart(as_svg(figure, "accuracy"), "Overall accuracy on validation pixels.")
            )
    return charts


def coverage_chart(rows: Sequence[Mapping[str, Any]]) -> Chart:
    """Accuracy of the most confident test pixels against their share."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(2.9)
        axes.plot(
            [100 * row["coverage"] for row in rows],
            [100 * row["accuracy"] for row in rows],
            color=PALETTE[0],
            marker="o",
            markersize=3.5,
        )
        axes.set(xlabel="test pixels kept (%)", ylabel="accuracy of those kept (%)")
        end_at_100(axes)
        return Chart(as_svg(figure, "coverage"), "Accuracy against coverage.")


def bar_chart(
    name: str, unit: str, labels: Sequence[str], series: Mapping[str, Sequence[float | None]],
    printed: Mapping[str, Sequence[str]], caption: str,
) -> Chart:  # fmt: skip
    """Horizontal bars on a logarithmic axis, one group a label, one bar a series."""
    values = [value for column in series.values() for value in column if value]
    values.append(min(values) / 2)  # the shortest bar is to be seen too
    height = 0.78 / len(series)
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(0.95 + 0.26 * len(series) * len(labels) + 0.1 * len(labels))
        left = _bounds(values)[0]
        for number, (title, column) in enumerate(series.items()):
            offset = (number - (len(series) - 1) / 2) * height
            for row, value in enumerate(column):
                if value:
                    axes.barh(
                        row + offset, value - left, height * 0.9, left=left, color=PALETTE[number]
                    )
                    axes.annotate(
                        printed[title][row],
                        (value, row + offset),
                        (3, 0),
                        textcoords="offset points",
                        va="center",
                        fontsize=8,
                        color=INK,
                    )
        _log(axes.xaxis, values, room=3.2)
        axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.grid(False, axis="y")
        axes.set_xlabel(unit)
        handles = [
            Line2D([], [], color=PALETTE[number], linewidth=6) for number in range(len(series))
        ]
        if len(series) > 1:
            draw_legend(figure, handles, list(series))
        return Chart(as_svg(figure, name), caption)


def growth_chart(
    name: str, curves: Sequence[Curve], xlabel: str, ylabel: str, caption: str,
    log_x: bool = False, log_y: bool = True,
) -> Chart:  # fmt: skip
    """Curves whose measured points are solid with markers and whose fitted parts are dashed."""
    points = [point for curve in curves for point in curve.points]
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(3.3)
        for curve in curves:
            _draw_curve(axes, curve)
        if log_x:
            _log(axes.xaxis, [point.x for point in points])
        else:
            axes.set_xticks(sorted({point.x for point in points}))
        if log_y:
            _log(axes.yaxis, [point.y for point in points])
        axes.set(xlabel=xlabel, ylabel=ylabel)
        handles = [_handle(curve.style) for curve in curves]
        labels = [curve.label for curve in curves]
        if not all(point.measured for point in points):
            handles.append(Line2D([], [], color=INK, linestyle=(0, (4, 2.5))))
            labels.append("fitted, not measured")
        draw_legend(figure, handles, labels)
        return Chart(as_svg(figure, name), caption)


def learning_chart(name: str, curves: Sequence[Curve], caption: str) -> Chart:
    """Draw validation accuracy against training time."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(3.3)
        for curve in curves:
            axes.plot(
                [point.x for point in curve.points],
                [point.y for point in curve.points],
                color=_colour(curve.style),
                marker=_marker(curve.style),
                markersize=3.5,
            )
        _log(axes.xaxis, [point.x for curve in curves for point in curve.points])
        axes.set(xlabel="training time (s, log scale)", ylabel="validation OA (%)")
        draw_legend(
            figure, [_handle(curve.style) for curve in curves], [curve.label for curve in curves]
        )
        return Chart(as_svg(figure, name), caption)


def forest_chart(differences: Sequence[Difference]) -> Chart:
    """Differences with their intervals, and a line at no difference."""
    measures = list(dict.fromkeys(measure for row in differences for measure in row.values))
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(0.95 + 0.62 * len(differences))
        axes.axvline(0, color=INK, linewidth=1)
        for row, difference in enumerate(differences):
            for measure, (value, low, high) in difference.values.items():
                number = measures.index(measure)
                height = row + number * 0.26
                axes.plot([low, high], [height, height], color=PALETTE[number])
                axes.plot([value], [height], color=PALETTE[number], marker=MARKERS[number])
            # Above its intervals a long label has the whole width, on a phone too.
            axes.text(
                0.01, row - 0.3, difference.label, transform=axes.get_yaxis_transform(),
                va="center", in_layout=False,
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5},
            )  # fmt: skip
        axes.set_yticks([])
        axes.set_ylim(len(differences) - 0.45, -0.55)
        axes.spines.left.set_visible(False)
        axes.set_xlabel(f"difference a {MINUS} b (percentage points)")
        handles = [_handle(number) for number in range(len(measures))]
        draw_legend(figure, handles, measures)
        return Chart(
            as_svg(figure, "forest"), "Differences with their intervals; the line marks none."
        )


def _draw_curve(axes: Axes, curve: Curve) -> None:
    """Each piece between two points is solid only if both its ends were measured."""
    points = sorted(curve.points, key=lambda point: point.x)
    colour = _colour(curve.style)
    for one, other in itertools.pairwise(points):
        solid = one.measured and other.measured
        axes.plot(
            [one.x, other.x],
            [one.y, other.y],
            color=colour,
            linestyle="solid" if solid else (0, (4, 2.5)),
        )
    measured = [point for point in points if point.measured]
    axes.plot(
        [point.x for point in measured],
        [point.y for point in measured],
        color=colour,
        linestyle="none",
        marker=_marker(curve.style),
    )


def canvas(height: float) -> tuple[Figure, Axes]:
    """An empty chart of the usual width; ``height`` in inches."""
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def end_at_100(axes: Axes) -> None:
    """Let no axis of per cent go on where no value can be."""
    axes.set_ylim(top=min(axes.get_ylim()[1], 101))


def draw_legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend above the chart."""
    columns = 2 if max(map(len, labels)) > 14 else 3
    figure.legend(
        handles,
        [_short(label) for label in labels],
        loc="outside upper left",
        ncols=columns,
        handlelength=2.2,
    )


def _short(label: str) -> str:
    return label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…"


def _handle(style: int) -> Line2D:
    return Line2D([], [], color=_colour(style), marker=_marker(style))


def _colour(style: int) -> str:
    return PALETTE[style % len(PALETTE)]


def _marker(style: int) -> str:
    return MARKERS[(style + style // len(PALETTE)) % len(MARKERS)]


def _bounds(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Round numbers below and above the values, and the ticks between: two at least.

    Ticks are powers of ten, and twice and five times these where few of them would be seen.
    """
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    factors = (1, 2, 5) if high - low <= 2 else (1,)
    ticks = [factor * 10.0**power for power in range(low, high + 2) for factor in factors]
    first = max(tick for tick in ticks if tick <= min(values))
    last = min(tick for tick in ticks if tick >= max(values) and tick > first)
    return first, last, ticks


def _log(axis: Axis, values: Sequence[float], room: float = 1.0) -> None:
    """Make an axis logarithmic with plain numbers at its ticks; room is left beyond the last."""
    axes = axis.axes
    low, high, ticks = _bounds(values)
    if axis is axes.xaxis:
        axes.set_xscale("log")
        axes.set_xlim(low, max(high, room * max(values)))
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, max(high, room * max(values)))
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.set_minor_locator(NullLocator())


def as_svg(figure: Figure, name: str) -> Markup:
    """Turn a figure into an element for an HTML page; ``name`` makes its ids unique there."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    for colour, variable in PAGE_COLOURS.items():
        text = text.replace(colour, f"var(--{variable})")
    # matplotlib has escaped the texts; nothing else in the drawing comes from the data.
    return Markup(text)
