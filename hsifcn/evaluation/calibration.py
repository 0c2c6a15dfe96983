"""Whether probabilities mean what they say: calibration error, and accuracy against coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

COVERAGES = tuple(np.linspace(0.05, 1.0, 20))


def expected_calibration_error(confidence: Floats, correct: Mask, bins: int = 15) -> float | None:
    """How far confidence is from accuracy, on average.

    Guo et al. (2017), eq. 3: the mean over bins of confidence, weighted by their pixels, of the
    difference between accuracy and mean confidence.

    Parameters
    ----------
    confidence : ndarray, (pixels,), float
        Probability of the predicted class.
    correct : ndarray, (pixels,), bool
        Whether that class is the true one.
    bins : int
        Number of bins of equal width.

    Returns
    -------
    float or None
        None without pixels.
    """
    if not confidence.size:
        return None
    # A bin holds its upper edge, as in the paper.
    which = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    surplus = np.bincount(which, weights=correct - confidence.astype(np.float64), minlength=bins)
    return float(np.abs(surplus).sum() / confidence.size)


def coverage_curve(confidence: Floats, correct: Mask) -> list[dict[str, float]]:
    """Accuracy of the most confident pixels, by the share of pixels that is kept.

    Parameters
    ----------
    confidence : ndarray, (pixels,), float
        Probability of the predicted class.
    correct : ndarray, (pixels,), bool
        Whether that class is the true one.

    Returns
    -------
    list of dict
        ``coverage`` (share kept), ``threshold`` (the least confidence kept: what ``--reject`` takes
        to keep about that share) and ``accuracy`` (of the pixels kept), by growing coverage. Empty
        without pixels.
    """
    if not confidence.size:
        return []
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum(correct[order])
    rows = []
    for share in COVERAGES:
        kept = max(1, round(share * len(order)))
        rows.append(
            {
                "coverage": kept / len(order),
                "threshold": float(confidence[order[kept - 1]]),
                "accuracy": float(right[kept - 1] / kept),
            }
        )
    return rows
