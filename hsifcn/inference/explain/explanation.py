"""What an explanation holds, and maps by a part of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hsifcn.core.scene import labels_of
from hsifcn.inference.explain.field import Influence
from hsifcn.inference.explain.inputs import Explained

Labels = npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Explanation:
    """How a map came about.

    Attributes
    ----------
    record : dict
        All figures, ready for JSON; see ``docs/files.md``.
    pixels : Explained
        Window, labels and split.
    shares : Tensor, (stages, classes, rows, cols), float32
        Share of each stage in every logit, coarse to fine; they add up to ``logits``. Of a network
        without skips one stage, the logits themselves.
    logits : Tensor, (classes, rows, cols), float32
        Divided by the model's temperature, as all scores here.
    patterns : tuple of ndarray, each (classes, stride, stride)
        What an even area of score 1 in each stage's cells becomes; empty without upsampling.
    kernels : tuple of ndarray, each (classes, 2 factor, 2 factor)
        Learned upsampling kernels, coarse to fine.
    influence : Influence
        Mean over pixels of the scene.
    pixel_influence : Influence or None
        Of the one pixel that was asked for.
    """

    record: dict[str, Any]
    pixels: Explained
    shares: Tensor
    logits: Tensor
    influence: Influence
    patterns: tuple[npt.NDArray[np.float32], ...] = ()
    kernels: tuple[npt.NDArray[np.float32], ...] = ()
    pixel_influence: Influence | None = None
    strides: tuple[int, ...] = field(default=(1,))

    def after(self, stage: int) -> Tensor:
        """Sum of the shares up to a stage, (classes, rows, cols)."""
        return self.shares[: stage + 1].sum(0)

    def labels_after(self, stage: int) -> Labels:
        """Map by the shares up to a stage, (rows, cols), 0 where there is no measurement."""
        return labels_by(self.after(stage), self.pixels.valid)


def labels_by(scores: Tensor, valid: npt.NDArray[np.bool_]) -> Labels:
    """Labels by the greatest score, (rows, cols), 0 where there is no measurement."""
    return np.where(valid, labels_of(scores.argmax(0).numpy()), np.uint16(0))
