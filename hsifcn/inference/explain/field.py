"""How far a model really sees: the effective receptive field.

Luo, Li, Urtasun, Zemel (2016), *Understanding the Effective Receptive Field in Deep Convolutional
Neural Networks*, NIPS: the gradient of a score with respect to every pixel around tells how much
that pixel counts. The field that layers allow is an upper limit; most of it counts for little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

SHARES = (0.5, 0.9, 0.99)
PATCH = 15  # px; the window of the patch CNN that it is drawn beside


@dataclass(frozen=True, eq=False)
class Influence:
    """How much the pixels around one count for its score.

    Attributes
    ----------
    map : ndarray, (2 reach + 1, 2 reach + 1), float64
        Sums to 1; the pixel itself in the middle.
    pixels : int
        Pixels that it is a mean of.
    allowed : int
        Side of the square that layers allow, pixels.
    """

    map: npt.NDArray[np.float64]
    pixels: int
    allowed: int

    def within(self, side: int) -> float:
        """Share of the influence within a centred square."""
        reach = len(self.map) // 2
        half = min(reach, side // 2)
        return float(
            self.map[reach - half : reach + half + 1, reach - half : reach + half + 1].sum()
        )

    def side_of(self, share: float) -> int:
        """Side of the smallest centred square that holds a share of the influence."""
        sides = range(1, len(self.map) + 1, 2)
        return next((side for side in sides if self.within(side) >= share - 1e-9), len(self.map))

    def record(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "allowed_px": self.allowed,
            "sides_px": {f"{share:g}": self.side_of(share) for share in SHARES},
            "within_patch_15": self.within(PATCH),
            "pixels": self.pixels,
        }


def influence(
    network: nn.Module,
    spectra: Tensor,
    places: Sequence[tuple[int, int]],
    receptive_field: int,
    stride: int,
    label: int | None = None,
) -> Influence:
    """Mean influence of the surroundings on the score of the mapped class.

    Parameters
    ----------
    network : Module
        In the form that maps scenes, in evaluation mode.
    spectra : Tensor, (1, bands, rows, cols), float32
    places : sequence of (row, col)
    receptive_field, stride : int
        Of the network.
    label : int, optional
        The class, from 1, whose score is meant; the mapped one otherwise.
    """
    reach = receptive_field // 2
    total = np.zeros((2 * reach + 1, 2 * reach + 1))
    for row, col in places:
        gradient, top, left = _gradient(network, spectra, (row, col), reach, stride, label)
        rows, cols = gradient.shape
        first_row, first_col = reach - (row - top), reach - (col - left)
        # Pixels beyond the field have no influence; the window may hold a few.
        inside_rows = slice(max(0, -first_row), min(rows, len(total) - first_row))
        inside_cols = slice(max(0, -first_col), min(cols, len(total) - first_col))
        part = gradient[inside_rows, inside_cols]
        start_row, start_col = max(0, first_row), max(0, first_col)
        whole = part.sum()
        if whole > 0:
            total[start_row : start_row + part.shape[0], start_col : start_col + part.shape[1]] += (
                part / whole
            )
    return Influence(total / max(total.sum(), 1e-30), len(places), receptive_field)


def _gradient(
    network: nn.Module,
    spectra: Tensor,
    place: tuple[int, int],
    reach: int,
    stride: int,
    label: int | None,
) -> tuple[npt.NDArray[np.float64], int, int]:
    """Sum over bands of the gradient's size at each pixel of a window, and the window's corner."""
    (row, col), (rows, cols) = place, spectra.shape[2:]
    top = max(0, row - reach) // stride * stride
    left = max(0, col - reach) // stride * stride
    window = spectra[:, :, top : min(rows, row + reach + 1), left : min(cols, col + reach + 1)]
    window = window.clone().requires_grad_()
    with torch.enable_grad():
        scores = network(window)[0, :, row - top, col - left]
        chosen = int(scores.argmax()) if label is None else label - 1
        (gradient,) = torch.autograd.grad(scores[chosen], window)
    return gradient[0].abs().sum(0).double().numpy(), top, left
