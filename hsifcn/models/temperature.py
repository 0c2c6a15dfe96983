"""One temperature that a network's logits are divided by, so that softmax gives probabilities."""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

# A few dozen validation pixels without an error would call for a temperature near 0. The prior says
# that its logarithm lies within about half a unit of 0: networks are seldom off by more.
PRIOR_SPREAD = 0.5
TEMPERATURES = np.geomspace(0.1, 10, 461)  # a per cent apart
# Scores of spectra that are far from all that was learnt are large, so it takes more to be unsure.
FOR_UNKNOWN_SCENES = np.concatenate([TEMPERATURES, 100 * TEMPERATURES[1:]])


def fit_temperature(logits: Floats, targets: npt.NDArray[np.integer[Any]]) -> float:
    """The temperature that logits are to be divided by so that softmax gives probabilities.

    Guo et al. (2017), arXiv:1706.04599, section 4.2: the one number that minimises the negative
    log-likelihood; here with a log-normal prior round 1, for when there are few pixels.

    Parameters
    ----------
    logits : ndarray, (pixels, classes), float
    targets : ndarray, (pixels,), integer
        Classes from 0.

    Returns
    -------
    float
        1 where there are no pixels.
    """
    scores = np.asarray(logits, np.float64)
    scores = scores - scores.max(axis=1, keepdims=True)
    right = scores[np.arange(len(targets)), targets]
    costs = [
        (np.log(np.exp(scores / t).sum(axis=1)) - right / t).sum()
        + 0.5 * (np.log(t) / PRIOR_SPREAD) ** 2
        for t in TEMPERATURES
    ]
    return float(TEMPERATURES[int(np.argmin(costs))])


def temperature_of_confidence(
    logits: Floats, confidence: float, temperatures: Floats = TEMPERATURES
) -> float:
    """The temperature at which softmax is, on average, so sure of the greatest class.

    Parameters
    ----------
    logits : ndarray, (pixels, classes), float
    confidence : float
        Mean over the pixels of the greatest probability.
    temperatures : ndarray, (n,), float
        From cold to hot.

    Returns
    -------
    float
        One of ``temperatures``; the last where all are too sure.
    """
    scores = np.asarray(logits, np.float32)
    scores = scores - scores.max(axis=1, keepdims=True)

    def too_sure(temperature: float) -> bool:
        return float((1 / np.exp(scores / temperature).sum(axis=1)).mean()) > confidence

    # The hotter, the less sure: the first that is not surer.
    first = bisect.bisect_left(temperatures, True, key=lambda t: not too_sure(t))
    return float(temperatures[min(first, len(temperatures) - 1)])
