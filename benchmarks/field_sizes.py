"""How walks of several kinds carry labels over made scenes, by the width of their fields.

    python -m benchmarks.field_sizes [--seeds 4]

Scenes are made of fields (``benchmarks/made_fields.py``). Labels are carried over them
(``hsifcn/propagation.py``) as the recipe does, with the edges that it has where the labels cover
few fields or all, whatever they cover, with edges that are as high near labels as elsewhere, as if
fields were wide whatever the labels say, and with walks that end at the classifier more or less
often; no network is trained.
Writes ``docs/field_sizes.md``.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.made_fields import UNLABELLED, Labels, made_scene
from hsifcn.core.process import machine, versions
from hsifcn.data.splits import make_split
from hsifcn.propagation import random_walker as propagation
from hsifcn.propagation.label_coverage import agreement

OUT = Path(__file__).parent.parent / "docs" / "field_sizes.md"
SIDE, BANDS, CLASSES = 100, 100, 8
WIDTHS = (7, 10, 14, 20)  # of fields, in pixels
SPLITS = ("random:0.01", "per-class:5")
OTHERS: dict[str, dict[str, Any]] = {
    "edges as where few fields are labelled": {"between": lambda ends, covered: ends[0]},
    "edges as where all are": {"between": lambda ends, covered: ends[1]},
    "edges as high near labels": {"LABEL_EDGE": (1.0, 1.0)},
    "as if fields were wide": {"agreement": lambda parts: 1.0},
    "as likely to end at the classifier in narrow fields": {"NARROW_HASTE": 1.0},
    "half as likely to end at the classifier": {"PRIOR": propagation.PRIOR / 2},
    "twice as likely": {"PRIOR": 2 * propagation.PRIOR},
}  # in place of what ``propagation`` has


def standardised_scene(width: int, seed: int) -> tuple[Tensor, Labels]:
    """Standardised cube (1, bands, rows, cols) and labels (rows, cols) of fields so wide."""
    cube, labels = made_scene(width, seed, side=SIDE, bands=BANDS, classes=CLASSES)
    cube = (cube - cube.mean((0, 1))) / cube.std((0, 1))
    return torch.from_numpy(cube.astype(np.float32)).permute(2, 0, 1)[None], labels


def accuracies(width: int, recipe: str, seed: int) -> list[float]:
    """OA of the recipe, then of every one of ``OTHERS``, on one draw."""
    cube, labels = standardised_scene(width, seed)
    split = make_split(labels, recipe, seed=seed)
    known = split.train | split.validation
    pixels = torch.from_numpy(np.flatnonzero(known))
    targets = torch.from_numpy(labels[known].astype(np.int64) - 1)
    found = []
    for changed in ({"PRIOR": propagation.PRIOR}, *OTHERS.values()):
        with mock.patch.multiple(propagation, **changed):
            carried = propagation.propagate(cube, None, pixels, targets, CLASSES).argmax(0) + 1
        found.append(float((carried.numpy() == labels)[split.test].mean()))
    return found


def agreeing(width: int, recipe: str, seed: int) -> float:
    """Share of the labelled pixels of one draw whose nearest labelled pixel is of their class."""
    _, labels = standardised_scene(width, seed)
    split = make_split(labels, recipe, seed=seed)
    return agreement([np.where(split.train | split.validation, labels, 0)])


def row(width: int, recipe: str, seeds: int) -> str:
    """One line of the table."""
    near = mean(agreeing(width, recipe, seed) for seed in range(seeds))
    recipes, *others = np.transpose([accuracies(width, recipe, seed) for seed in range(seeds)])
    cells: list[Any] = [f"{width} px", f"`{recipe}`", f"{near:.2f}", f"{100 * mean(recipes):.1f}"]
    for other in others:
        gained = 100 * (other - recipes)
        cells.append(f"{mean(gained):+.1f} ± {stdev(gained):.1f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = [
        "# Walks, by the width of fields",
        "",
        f"Labels carried by random walks ([Design](../DESIGN.md), 26, 36, 37) over made scenes of "
        f"{SIDE} x {SIDE} pixels, {BANDS} bands and {CLASSES} classes, {100 * UNLABELLED:.0f} % of "
        f"the fields without a label; {given.seeds} scenes a row, on {machine()['cores']} cores of "
        f"{machine()['processor']}, torch {versions()['torch']}; printed by "
        "`python -m benchmarks.field_sizes`. OA of the walks in per cent, no network; behind it "
        "how far it is above or below that with other edges of spectra, those that the recipe has "
        "where the labels cover one field of each class, or all of them, with edges as high near "
        "labels as elsewhere, as if the nearest labels always agreed, with walks that end at the "
        "classifier as often in narrow fields as in wide ones, and half or twice as often (mean "
        "and standard deviation over scenes).",
        "",
        f"| width of fields | split | nearest labels agree | recipe | {' | '.join(OTHERS)} |",
        "|---|---|---|---|" + "---|" * len(OTHERS),
    ]
    for width in WIDTHS:
        for recipe in SPLITS:
            lines.append(row(width, recipe, given.seeds))
            print(lines[-1], flush=True)
    OUT.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
