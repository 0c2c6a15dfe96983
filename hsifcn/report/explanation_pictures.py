"""Pictures of an explanation: maps by depth, heat maps, shares, the dotted grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from hsifcn.report import page
from hsifcn.report.explanation_charts import stride_name
from hsifcn.report.quicklook import label_image

if TYPE_CHECKING:
    from hsifcn.inference.explain.explanation import Explanation

Values = Mapping[str, Any]
MOST_CLASSES = 20  # that heat maps are shown of
THUMBNAIL = 160  # pixels of a heat map on the page
HEAT, SHARE = "inferno", "PuOr"


def depth_maps(
    explanation: Explanation, colours: Sequence[Sequence[int]], record: Values
) -> list[page.Picture]:
    """The map after each stage, and the ground truth."""
    pictures = []
    stages = record["stages"] or [{"stride": 1, "up_to_here": record["accuracy"]}]
    for number, stage in enumerate(stages):
        told = stage["up_to_here"]
        cells = f"cells of {stride_name(stage['stride'])}"
        title = f"Only {cells}" if number == 0 else f"… and {cells}"
        if not record["stages"]:
            title = "The map"
        if told["oa"] is not None:
            title += f": OA {page.percent_of(told['oa'])}"
            if told["boundary_oa"] is not None:
                title += f", boundaries {page.percent_of(told['boundary_oa'])}"
        pictures.append(page.picture(label_image(explanation.labels_after(number), colours), title))
    if explanation.pixels.truth.any():
        truth = label_image(explanation.pixels.truth, colours)
        pictures.append(page.picture(truth, "Ground truth; unlabelled pixels are dark"))
    return pictures


def classes_shown(explanation: Explanation) -> list[int]:
    """Classes, from 0, that heat maps are shown of: the most frequent in map and labels."""
    n_classes = len(explanation.logits)
    final = explanation.labels_after(len(explanation.shares) - 1)
    counts = np.bincount(final.ravel(), minlength=n_classes + 1)[1:]
    counts = counts + np.bincount(explanation.pixels.truth.ravel(), minlength=n_classes + 1)[1:]
    chosen = np.argsort(-counts, kind="stable")[:MOST_CLASSES]
    return sorted(int(k) for k in chosen)


def heat_maps(explanation: Explanation, shown: Sequence[int]) -> list[list[page.Picture]]:
    """Probability of each class after each stage: a list of pictures a class."""
    depths = [
        explanation.after(stage).softmax(0)[list(shown)].numpy()
        for stage in range(len(explanation.shares))
    ]
    return [
        [_coloured(depth[i], 0.0, 1.0, HEAT, explanation) for depth in depths]
        for i in range(len(shown))
    ]


def share_maps(explanation: Explanation, shown: Sequence[int]) -> list[list[page.Picture]]:
    """Share of each stage in the score of each class, and the score, less the mean of classes."""
    layers = [*explanation.shares, explanation.logits] if explanation.record["stages"] else []
    centred = [(layer - layer.mean(0))[list(shown)].numpy() for layer in layers]
    valid = explanation.pixels.valid
    rows = []
    for i in range(len(shown)):
        limit = max(
            (float(np.percentile(np.abs(layer[i][valid]), 99)) for layer in centred if valid.any()),
            default=1.0,
        )
        rows.append([_coloured(layer[i], -limit, limit, SHARE, explanation) for layer in centred])
    return rows


def _coloured(
    values: npt.NDArray[np.float32], low: float, high: float, name: str, explanation: Explanation
) -> page.Picture:
    """A small picture of values between two bounds; dark grey without a measurement."""
    step = max(1, -(-max(values.shape) // THUMBNAIL))
    scaled = np.clip((values[::step, ::step] - low) / ((high - low) or 1.0), 0, 1)
    colours = matplotlib.colormaps[name](scaled)[..., :3]
    image = np.rint(255 * colours).astype(np.uint8)
    image[~explanation.pixels.valid[::step, ::step]] = 38
    return page.picture(image, "")


def heat_scale() -> Markup:
    """The colours of the heat maps from 0 to 1."""
    stops = matplotlib.colormaps[HEAT](np.linspace(0, 1, 9))[:, :3]
    colours = ",".join("rgb({},{},{})".format(*(round(255 * part) for part in s)) for s in stops)
    return Markup(
        f'<p class="ramp">0 <i style="background:linear-gradient(to right,{colours})"></i> 1</p>'
    )


def grid_pictures(explanation: Explanation, class_names: Sequence[str]) -> list[page.Picture]:
    """Even areas of score 1 as they come out, of the class with the strongest grid, enlarged."""
    pictures = []
    for pattern, stride in zip(explanation.patterns, explanation.strides, strict=False):
        spread = pattern.max((1, 2)) - pattern.min((1, 2))
        number = int(spread.argmax())
        cell = pattern[number]
        tiled = np.tile(cell, (max(2, 24 // stride),) * 2)
        low, high = float(cell.min()), float(cell.max())
        scaled = (tiled - low) / ((high - low) or 1.0)
        image = np.rint(255 * matplotlib.colormaps["Greys_r"](scaled)[..., :3]).astype(np.uint8)
        caption = (
            f"Scores of 1 in all cells of {stride_name(stride)}, {class_names[number]}: "
            f"{low:.2f} (dark) to {high:.2f} (bright) at the pixels"
        )
        pictures.append(page.picture(image, caption))
    return pictures
