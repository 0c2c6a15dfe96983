"""Charts of an explanation: accuracy by depth, kernels, wavelengths, how far the model sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from hsifcn.report.confusion import light_ink
from hsifcn.report.figures import (
    AXIS,
    INK,
    MARKERS,
    PALETTE,
    STYLE,
    WIDTH_INCHES,
    Chart,
    as_svg,
    canvas,
    draw_legend,
    end_at_100,
)

if TYPE_CHECKING:
    from hsifcn.propagation.source import PseudoLabelSource

Values = Mapping[str, Any]
MEASURES = {"interior_oa": "inside fields", "oa": "all test pixels", "boundary_oa": "boundaries"}
MOST_IN_LEGEND = 8  # classes of training pixels; the nearest
ORDERS = ("important first", "random", "important last")


def depth_chart(stages: Sequence[Values]) -> Chart:
    """Accuracy after each stage, of all test pixels, inside fields and at boundaries."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(3.0)
        handles, names = [], []
        for number, (key, name) in enumerate(MEASURES.items()):
            values = [stage["up_to_here"][key] for stage in stages]
            if any(value is None for value in values):
                continue
            axes.plot([100 * v for v in values], color=PALETTE[number], marker=MARKERS[number])
            handles.append(Line2D([], [], color=PALETTE[number], marker=MARKERS[number]))
            names.append(name)
        axes.set_xticks(range(len(stages)), [stride_name(stage["stride"]) for stage in stages])
        axes.set(xlabel="cells of the last stage that is added", ylabel="OA (%)")
        end_at_100(axes)
        if handles:
            draw_legend(figure, handles, names)
        return Chart(
            as_svg(figure, "depth"), "Overall accuracy of the map after each stage is added."
        )


def stride_name(stride: int) -> str:
    """``4 px``."""
    return f"{stride} px"


def kernel_chart(name: str, learned: npt.NDArray[np.float32], caption: str) -> Chart:
    """Bilinear kernel, mean of the learned ones, and their difference."""
    side = learned.shape[-1]
    factor = side // 2
    ramp = 1 - np.abs(np.arange(side) - (factor - 0.5)) / factor
    bilinear, mean = np.outer(ramp, ramp), learned.mean(0)
    difference = mean - bilinear
    top = float(max(np.abs(bilinear).max(), np.abs(mean).max()))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(WIDTH_INCHES, 1.85), layout="constrained")
        figure.patch.set_alpha(0)
        panels = (
            ("bilinear", bilinear, top),
            ("learned, mean", mean, top),
            ("difference", difference, float(np.abs(difference).max()) or 1.0),
        )
        for axes, (title, kernel, limit) in zip(figure.subplots(1, 3), panels, strict=True):
            _draw_kernel(axes, title, kernel, limit)
        return Chart(as_svg(figure, name), caption)


def _draw_kernel(axes: Axes, title: str, kernel: npt.NDArray[Any], limit: float) -> None:
    """One kernel as shaded squares, with its numbers where they fit."""
    side = len(kernel)
    axes.imshow(kernel, cmap="PuOr", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_title(title, fontsize=9, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    for row, col in np.ndindex(kernel.shape) if side <= 4 else ():
        value = kernel[row, col]
        shade = matplotlib.colormaps["PuOr"]((value / limit + 1) / 2)
        ink = "white" if light_ink([255 * part for part in shade[:3]]) else "black"
        axes.text(col, row, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=ink)


def importance_chart(name: str, groups: Sequence[Values], caption: str) -> Chart:
    """Bars of importance a group of bands, with those of shuffled weights as a grey line."""
    values = [100 * group["importance"] for group in groups]
    places = range(len(groups))
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(3.3)
        spread = [100 * group["std"] for group in groups] if "std" in groups[0] else None
        axes.bar(places, values, color=PALETTE[0], width=0.8, yerr=spread, ecolor=INK)
        handles: list[Any] = [Patch(color=PALETTE[0])]
        names = ["the model"]
        if "shuffled" in groups[0]:
            shuffled = [100 * float(np.mean(group["shuffled"])) for group in groups]
            axes.plot(places, shuffled, color=PALETTE[4], marker="s", markersize=3.5)
            handles.append(Line2D([], [], color=PALETTE[4], marker="s"))
            names.append("shuffled weights")
        axes.axhline(0, color=AXIS, linewidth=0.8)
        labels = ["".join(filter(str.isdigit, group["first"])) for group in groups]
        axes.set_xticks(places, labels, rotation=60, ha="right", fontsize=8)
        axes.grid(False, axis="x")
        unit = "nm" if "nm" in groups[0]["first"] else "number"
        axes.set_xlabel(f"first band of the group ({unit})")
        axes.set_ylabel("probability lost (points)")
        if len(handles) > 1:
            draw_legend(figure, handles, names)
        return Chart(as_svg(figure, name), caption)


def deletion_chart(curves: Mapping[str, Sequence[float]]) -> Chart:
    """Accuracy against the number of groups replaced."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(3.3)
        handles = []
        for number, order in enumerate(ORDERS):
            style: Any = {"color": PALETTE[number], "marker": MARKERS[number], "markersize": 3.5}
            axes.plot([100 * value for value in curves[order]], **style)
            handles.append(Line2D([], [], **style))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="groups replaced", ylabel="pixels still right (%)")
        end_at_100(axes)
        draw_legend(figure, handles, list(ORDERS))
        return Chart(as_svg(figure, "deletion"), "Deletion test.")


def sight_chart(
    name: str,
    image: npt.NDArray[np.uint8],
    place: tuple[int, int],
    influence: npt.NDArray[np.float64],
    squares: Mapping[str, int],
    caption: str,
) -> Chart:
    """The influence of the surroundings over the scene, with squares drawn to scale.

    Parameters
    ----------
    name : str
        Makes the ids of the drawing unique on the page.
    image : ndarray, (rows, cols, 3), uint8
        The scene.
    place : tuple of int
        Row and column in the middle.
    influence : ndarray, (side, side), float64
        Round that pixel.
    squares : mapping
        Sides in pixels by name.
    caption : str
    """
    reach = len(influence) // 2
    view = max(20, min(reach + 4, max(image.shape[:2])))
    row, col = place
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = canvas(4.9)
        axes.imshow(image, interpolation="nearest")
        strength = np.sqrt(influence / max(influence.max(), 1e-30))
        heat = matplotlib.colormaps["inferno"](strength)
        heat[..., 3] = np.clip(1.6 * strength, 0, 0.85)
        axes.imshow(
            heat,
            extent=(col - reach - 0.5, col + reach + 0.5, row + reach + 0.5, row - reach - 0.5),
            interpolation="nearest",
        )
        handles = []
        for number, side in enumerate(squares.values()):
            style: Any = {"edgecolor": SQUARES[number], "fill": False, "linewidth": 1.8}
            corner = (col - side / 2, row - side / 2)
            axes.add_patch(Rectangle(corner, side, side, **style))
            handles.append(Patch(**style))
        axes.set(xlim=(col - view, col + view), ylim=(row + view, row - view), aspect="equal")
        axes.set_facecolor("#262626")
        axes.patch.set_alpha(1)
        axes.set(xlabel="column", ylabel="row")
        draw_legend(figure, handles, [f"{title}: {side} px" for title, side in squares.items()])
        return Chart(as_svg(figure, name), caption)


def source_chart(
    name: str,
    image: npt.NDArray[np.uint8],
    place: tuple[int, int],
    source: PseudoLabelSource,
    legend: Sequence[tuple[str, Sequence[int]]],
    caption: str,
) -> Chart:
    """Where a walk ends, over the scene, with the training pixels around.

    Parameters
    ----------
    name : str
        Makes the ids of the drawing unique on the page.
    image : ndarray, (rows, cols, 3), uint8
        The window that labels were propagated over.
    place : tuple of int
        Row and column in it that the walk starts at.
    source : PseudoLabelSource
    legend : sequence, (n_classes,)
        Name and colour (red, green, blue, 0-255) of each class.
    caption : str
    """
    row, col = place
    rows, cols = source.rows - source.window.row, source.cols - source.window.col
    away = np.maximum(abs(rows - row), abs(cols - col))
    order = np.argsort(away, kind="stable")
    enough = source.shares[order].cumsum() >= 0.9 * source.shares.sum()
    view = int(np.clip(away[order][enough.argmax()] + 4, 10, 60))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = canvas(4.6)
        axes.imshow(image, interpolation="nearest", alpha=0.6)
        strength = np.sqrt(source.ends.clip(0) / max(source.ends.max(), 1e-30))
        heat = matplotlib.colormaps["inferno"](strength)
        heat[..., 3] = np.clip(1.6 * strength, 0, 0.9)
        axes.imshow(heat, interpolation="nearest")
        drawn: dict[int, Any] = {}
        for i in order[away[order] <= view].tolist():
            label = int(source.classes[i])
            style: Any = {"edgecolor": [part / 255 for part in legend[label][1]], "linewidth": 1.6}
            corner = cols[i] - 0.4, rows[i] - 0.4
            axes.add_patch(Rectangle(corner, 0.8, 0.8, fill=False, **style))
            drawn.setdefault(label, Patch(fill=False, **style))
        axes.plot(col, row, marker="+", color="white", markersize=11, markeredgewidth=2.4)
        axes.set(xlim=(col - view, col + view), ylim=(row + view, row - view), aspect="equal")
        axes.set_facecolor("#262626")
        axes.patch.set_alpha(1)
        axes.set(xlabel="column", ylabel="row")
        if drawn:
            shown = list(drawn)[:MOST_IN_LEGEND]
            draw_legend(figure, [drawn[k] for k in shown], [legend[k][0] for k in shown])
        return Chart(as_svg(figure, name), caption)


SQUARES = ("#56B4E9", "#009E73", "#D55E00", "#CC79A7")


def field_squares(told: Values) -> dict[str, int]:
    """Sides of the squares that are drawn, by name."""
    sides = told["sides_px"]
    return {
        "patch": 15,
        "90 % of influence": sides["0.9"],
        "99 %": sides["0.99"],
        "layers allow": told["allowed_px"],
    }


def share_chart(name: str, pixel: Values) -> Chart:
    """Shares of every stage in the score of a class at a pixel, and in that of its rival."""
    stages = pixel["stages"]
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(0.9 + 0.55 * len(stages))
        for row, stage in enumerate(stages):
            axes.barh(row - 0.18, stage["share"], 0.34, color=PALETTE[0])
            axes.barh(row + 0.18, stage["rival_share"], 0.34, color=PALETTE[4])
        axes.axvline(0, color=AXIS, linewidth=0.8)
        axes.set_yticks(range(len(stages)), [stride_name(stage["stride"]) for stage in stages])
        axes.set_ylim(len(stages) - 0.5, -0.5)
        axes.grid(False, axis="y")
        axes.set(xlabel="share in the score", ylabel="cells of the stage")
        draw_legend(
            figure,
            [Patch(color=PALETTE[0]), Patch(color=PALETTE[4])],
            [pixel["class"], f"{pixel['rival']} (next)"],
        )
        return Chart(as_svg(figure, name), "Shares of every stage in two scores of this pixel.")
