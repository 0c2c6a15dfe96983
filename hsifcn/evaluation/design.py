"""Design-based estimates: what a probability sample of a map tells of the whole map.

Every figure is a ratio of two totals, estimated from a stratified random sample whose strata may,
but need not, be the classes of the map (Stehman 2014, doi:10.1080/01431161.2014.930207). Where they
are, the figures are those of Olofsson et al. (2014, doi:10.1016/j.rse.2014.02.015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float] | None

Z_95 = 1.96  # standard errors on either side, as Olofsson et al. round it
_TAIL = 0.025  # beyond either end of a 95 % interval
_NO_ERROR = 1e-12  # standard errors and differences below it are rounding
NEGLIGIBLE = 0.05  # share of a stratum that is sampled (Cochran 1977, "Sampling Techniques", 2.6)
FEW = 5  # points that vary, from which the normal distribution is commonly relied on


@dataclass(frozen=True)
class Estimate:
    """A figure of the whole map; all fractions of 1.

    Attributes
    ----------
    value : float or None
        None where nothing was sampled that could tell.
    standard_error : float or None
        None where it is unknown: a stratum with a single point.
    interval : (low, high) or None
        95 %. None where it is unknown; never without width.
    """

    value: float | None
    standard_error: float | None
    interval: Interval


UNKNOWN = Estimate(None, None, None)


@dataclass(frozen=True, eq=False)
class StratifiedSample:
    """Counts of a stratified random sample.

    Attributes
    ----------
    counts : ndarray, (strata, ...), number
        Points of each stratum by what was found: mapped class and true class, say.
    sizes : ndarray, (strata,), number
        Pixels of each stratum.
    """

    counts: npt.NDArray[Any]
    sizes: npt.NDArray[Any]

    @property
    def drawn(self) -> Floats:
        """Points of each stratum, (strata,)."""
        return np.asarray(self.cells.sum(axis=1))

    @property
    def cells(self) -> Floats:
        """The counts, (strata, cells)."""
        return self.counts.reshape(len(self.counts), -1).astype(np.float64)


def estimate_mean(sample: StratifiedSample, y: npt.NDArray[Any], low: float = 0.0) -> Estimate:
    """Mean of a variable over the map, such as OA (y: right or wrong) or the share of a class.

    The interval is 1.96 standard errors on either side. Where fewer than five points vary from the
    others of their stratum, no normal distribution can be relied on: what strata without any
    variation may hide is added in quadrature, see `largest_unseen_share`. A sample without any
    variation has a standard error of 0, and an interval all the same.

    Parameters
    ----------
    sample : StratifiedSample
        Each stratum has a point.
    y : ndarray, (...)
        Value of a point, by what was found; between ``low`` and 1.
    low : float
        Least value; the interval is kept between it and 1.
    """
    value, error = _ratio(sample, y, np.ones_like(y))
    less, more = ((1 - low) * share for share in _hidden_shares(sample, y, low, 1))
    return _estimate(value, error, np.hypot(Z_95 * error, less), np.hypot(Z_95 * error, more), low)


def estimate_of_part(
    sample: StratifiedSample, y: npt.NDArray[Any], x: npt.NDArray[Any], *, extent_known: bool
) -> Estimate:
    """Share of a part of the map that is right, such as user's and producer's accuracy.

    Parameters
    ----------
    sample : StratifiedSample
        Each stratum has a point.
    y, x : ndarray, (...), 0 or 1
        Whether a point is right and of the part; whether it is of the part.
    extent_known : bool
        Whether it is known where the part lies, as that of a mapped class, but not that of a true
        class: of that, pixels may lie unseen in any stratum.
    """
    value, error = _ratio(sample, y, x)
    if np.isnan(value):
        return UNKNOWN
    y, x = np.ravel(y).astype(np.float64), np.ravel(x).astype(np.float64)
    inside = sample.cells @ x
    of_part = np.asarray(sample.sizes, np.float64) * inside / sample.drawn
    half = Z_95 * error
    if extent_known:
        held = inside > 0
        part = StratifiedSample((sample.cells * x)[held], of_part[held])
        less, more = _hidden_shares(part, y, 0, 1)
        return _estimate(value, error, np.hypot(half, less), np.hypot(half, more))
    share = of_part.sum() / np.sum(sample.sizes)
    hidden = max(_hidden_shares(sample, y - value * x, -value, 1 - value))
    below = np.hypot(half, value * hidden / (share + hidden))
    above = np.hypot(half, (1 - value) * hidden / (share + hidden))
    return _estimate(value, error, below, above)


def _hidden_shares(
    sample: StratifiedSample, y: npt.NDArray[Any], low: float, high: float
) -> tuple[float, float]:
    """Shares of the map that may hide values below, and above, what was seen of a variable.

    Only strata whose points are all alike hide something, and only where few points vary at all.
    """
    values, cells, drawn = np.ravel(y).astype(np.float64), sample.cells, sample.drawn
    alike = np.abs(values[:, np.newaxis] - values) < _NO_ERROR  # cells of equal values
    varying = drawn - (cells @ alike).max(axis=1)
    if varying.sum() >= FEW:
        return 0.0, 0.0
    means = cells @ values / drawn
    sides = (means > low + _NO_ERROR, means < high - _NO_ERROR)
    less, more = (_unseen_in(sample, (varying == 0) & side) for side in sides)
    return less, more


def _unseen_in(sample: StratifiedSample, strata: npt.NDArray[np.bool_]) -> float:
    """Largest share of the map that some strata may hide; see `largest_unseen_share`."""
    sizes = np.asarray(sample.sizes, np.float64)
    if not strata.any():
        return 0.0
    share = float(sizes[strata].sum() / sizes.sum())
    return share * largest_unseen_share(sample.drawn[strata], sizes[strata])


def largest_unseen_share(drawn: Floats, sizes: npt.NDArray[Any]) -> float:
    """Largest share of the map that a sample misses in 2.5 % of all draws.

    The maximum of ``sum W_h p_h`` over shares ``p_h`` of the strata, with ``prod (1 - p_h)^n_h`` no
    less than 2.5 %: an exact bound for the sum, as Clopper and Pearson (1934,
    doi:10.1093/biomet/26.4.404) have it for one stratum. Strata that were sampled whole hide
    nothing.

    Parameters
    ----------
    drawn : ndarray, (strata,), float64
        Points, at least one a stratum.
    sizes : ndarray, (strata,)
        Pixels.
    """
    from scipy.optimize import brentq

    weights = np.asarray(sizes, np.float64) / np.sum(sizes)
    partly = drawn < sizes
    drawn, weights = drawn[partly], weights[partly]
    if not len(drawn):
        return 0.0
    # At the maximum 1 - p_h is proportional to n_h / W_h, and 1 at most.
    rates = np.log(drawn / weights)

    def logarithm_of_chance(shift: float) -> float:
        return float((drawn * np.minimum(0, shift + rates)).sum() - np.log(_TAIL))

    lowest = (np.log(_TAIL) - drawn @ rates) / drawn.sum()
    shift = brentq(logarithm_of_chance, lowest - 1, -rates.min())
    return float((weights * -np.expm1(np.minimum(0, shift + rates))).sum())


def _ratio(
    sample: StratifiedSample, y: npt.NDArray[Any], x: npt.NDArray[Any]
) -> tuple[float, float]:
    """A ratio of totals and its standard error; Stehman (2014), equations 27 and 28."""
    drawn, sizes = sample.drawn, np.asarray(sample.sizes, np.float64)
    shares = sample.cells / drawn[:, np.newaxis]
    y, x = np.ravel(y).astype(np.float64), np.ravel(x).astype(np.float64)
    of_x = float(sizes @ (shares @ x))
    if of_x == 0:
        return float("nan"), float("nan")
    ratio = float(sizes @ (shares @ y)) / of_x
    residual = y - ratio * x
    means = shares @ residual
    squares = (shares * (residual - means[:, np.newaxis]) ** 2).sum(axis=1)
    # As usual, the correction for finite strata is left out where a small part is sampled.
    left = np.where(drawn > NEGLIGIBLE * sizes, 1 - drawn / sizes, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_mean = np.where(left > 0, squares / (drawn - 1) * left, 0.0)
    error = float(np.sqrt((sizes**2 * of_mean).sum())) / of_x
    return ratio, 0.0 if error < _NO_ERROR else error


def _estimate(value: float, error: float, below: float, above: float, low: float = 0.0) -> Estimate:
    """With the interval from ``value - below`` to ``value + above``, kept from ``low`` to 1."""
    known = None if np.isnan(error) else error
    if known is None or not below + above:
        return Estimate(value, known, None)
    return Estimate(value, known, (max(low, value - below), min(1.0, value + float(above))))
