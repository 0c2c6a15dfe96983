"""The losses: cross-entropy, at labelled pixels and against labels carried to all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor


def class_weights(counts: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
    """Weights 1/sqrt(n), of mean 1 over the training pixels; 0 for a class without any.

    Parameters
    ----------
    counts : ndarray, (classes,), integer
        Training pixels a class.
    """
    weights = np.where(counts > 0, 1 / np.sqrt(np.maximum(counts, 1)), 0.0)
    scaled: npt.NDArray[np.float64] = weights * counts.sum() / (weights * counts).sum()
    return scaled.astype(np.float32)


def labelled_cross_entropy(
    logits: Tensor, pixels: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float
) -> Tensor:
    """Weighted cross-entropy, summed over some pixels of scenes.

    Divide by the summed weights of all scenes and ranks together, never by each one's own.

    Parameters
    ----------
    logits : Tensor, (scenes, classes, rows, cols)
    pixels : Tensor, (n,), int64
        Flat indices of ``(scenes, rows, cols)``.
    targets : Tensor, (n,), int64
        Classes from 0.
    weights : Tensor, (classes,), float
    label_smoothing : float
        Share of the target that is spread over all classes.
    """
    scores = scores_at(logits, pixels)
    return F.cross_entropy(
        scores, targets, weight=weights, reduction="sum", label_smoothing=label_smoothing
    )


def scores_at(logits: Tensor, pixels: Tensor) -> Tensor:
    """Logits (n, classes) at flat indices of ``(scenes, rows, cols)``."""
    return logits.transpose(0, 1).flatten(1).index_select(1, pixels).t()


def propagated_cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy against a class of every pixel.

    Parameters
    ----------
    logits : Tensor, (scenes, classes, rows, cols)
    classes : Tensor, (scenes * rows * cols,), int64
        From 0.
    weights : Tensor, (scenes * rows * cols,), float
        Summing to 1.
    """
    scores = logits.flatten(2)
    losses = F.cross_entropy(scores, classes.view(len(scores), -1), reduction="none")
    return losses.flatten() @ weights
