"""Scores of a part of a scene, and the labels and probabilities that are made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.scene import Window, labels_of


@dataclass(frozen=True)
class MappedTile:
    """A part of a scene, classified.

    Attributes
    ----------
    core : Window
    logits : Tensor, (classes, rows, cols), float32
    classes : Tensor, (rows, cols), int64
        From 0.
    valid : ndarray, (rows, cols), bool
        False where the scene holds no measurement; the others mean nothing there.
    """

    core: Window
    logits: Tensor
    classes: Tensor
    valid: npt.NDArray[np.bool_]

    def labels(self, reject: float = 0.0) -> npt.NDArray[np.uint16]:
        """Labels; 0 where invalid, or where the class has a probability under ``reject``."""
        keep = self.valid
        if reject > 0:
            keep = keep & (self.confidence() >= reject)
        return np.where(keep, labels_of(self.classes.cpu().numpy()), np.uint16(0))

    def confidence(self) -> npt.NDArray[np.float32]:
        """Probability of the class that each pixel has, (rows, cols); no meaning where invalid."""
        chosen = self.logits.softmax(0).gather(0, self.classes[None])[0]
        confidence: npt.NDArray[np.float32] = chosen.cpu().numpy()
        return confidence

    def probabilities_and_margin(self) -> npt.NDArray[np.float32]:
        """Probability of every class, then what the greatest has before the second.

        Returns
        -------
        ndarray, (rows, cols, classes + 1), float32
            NaN where invalid. The margin is 1 where there is one class only.
        """
        shares = self.logits.softmax(0)
        greatest = shares.topk(min(2, len(shares)), dim=0).values
        margin = greatest[0] - greatest[1] if len(greatest) > 1 else greatest[0]
        bands = torch.cat([shares, margin[None]]).permute(1, 2, 0).cpu().numpy()
        return np.where(self.valid[..., None], bands, np.float32("nan"))

    def pieces(self, pixels: int) -> Iterator[MappedTile]:
        """Cut along rows into parts of about that many pixels, which are views."""
        step = max(1, pixels // self.core.cols)
        for row in range(0, self.core.rows, step):
            rows = slice(row, min(row + step, self.core.rows))
            core = Window(
                self.core.row + row, self.core.col, rows.stop - rows.start, self.core.cols
            )
            yield MappedTile(core, self.logits[:, rows], self.classes[rows], self.valid[rows])
