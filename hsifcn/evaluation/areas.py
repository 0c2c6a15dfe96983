"""Areas of the classes, corrected for the errors of a map.

The test pixels are taken for a random sample of each mapped class; see `design`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import MismatchError
from hsifcn.evaluation.design import UNKNOWN, StratifiedSample, estimate_mean

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AreaEstimates:
    """Areas of the classes, corrected for the errors of the map.

    Attributes
    ----------
    proportion, standard_error : ndarray, (n_classes,), float64
        Estimated share of the mapped area a class, and its standard error.
    interval : ndarray, (n_classes, 2), float64
        95 % interval of ``proportion``, kept within 0 and 1; NaN where it would have no width.
    area : ndarray, (n_classes,), float64, or None
        ``proportion`` in the unit of the pixel area; None where that was not given.
    area_interval : ndarray, (n_classes, 2), float64, or None
        95 % interval of ``area``.
    accuracy : float
        OA, each mapped class weighted by its area.
    accuracy_interval : ndarray, (2,), float64
        95 % interval of ``accuracy``.
    joined : tuple of int
        Mapped classes (from 0; n_classes for unclassified) that were taken as one stratum.
    """

    proportion: Floats
    standard_error: Floats
    interval: Floats
    area: Floats | None
    area_interval: Floats | None
    accuracy: np.float64
    accuracy_interval: Floats
    joined: tuple[int, ...]


def area_estimates(
    confusion: npt.NDArray[np.int64],
    mapped_pixels: npt.NDArray[np.integer[Any]],
    pixel_area: float | None = None,
) -> AreaEstimates:
    """Area of each class and OA with their 95 % intervals, by the stratified estimator.

    Counting the pixels of a map gives biased areas; this takes the test pixels as a random sample
    of each mapped class and weighs them by how much of the map that class covers (Olofsson et al.
    2014, doi:10.1016/j.rse.2014.02.015, eqs 4 to 13). Where the test pixels are no such sample, as
    with whole fields, the intervals are too narrow.

    Mapped classes with fewer than two test pixels have no variance of their own. They are taken as
    one stratum (a collapsed stratum, Cochran 1977, "Sampling Techniques"), with the least mapped of
    the others where they have fewer than two together. That supposes one rate of sampling in them.

    Parameters
    ----------
    confusion : ndarray, (n_classes, n_classes + 1), int64
        As of `metrics.confusion_matrix`.
    mapped_pixels : ndarray, (n_classes + 1,), integer
        Pixels of the whole map that were classified as classes 1 to n, and last unclassified.
    pixel_area : float, optional
        Area of a pixel, in the unit wanted.

    Returns
    -------
    AreaEstimates
        All NaN where there are fewer than two test pixels.

    Raises
    ------
    MismatchError
        ``mapped_pixels`` does not have one count for each column of ``confusion``, or is all 0.
    """
    strata = _strata_of_map(confusion, mapped_pixels)
    n_classes = confusion.shape[0]
    drawn = strata.sample.sum(axis=1)
    if drawn.min() < 2:  # then there is one stratum
        shares, oa = [UNKNOWN] * n_classes, UNKNOWN
    else:
        counted = StratifiedSample(strata.sample, strata.mapped)
        shares = [estimate_mean(counted, np.arange(n_classes) == k) for k in range(n_classes)]
        wrong_right = np.stack([drawn - strata.correct, strata.correct], axis=1)
        oa = estimate_mean(StratifiedSample(wrong_right, strata.mapped), np.array([0, 1]))
    proportion = _numbers([share.value for share in shares])
    interval = _numbers([share.interval or (None, None) for share in shares])
    total = None if pixel_area is None else float(strata.mapped.sum()) * pixel_area
    return AreaEstimates(
        proportion,
        _numbers([share.standard_error for share in shares]),
        interval,
        None if total is None else proportion * total,
        None if total is None else interval * total,
        np.float64(np.nan if oa.value is None else oa.value),
        _numbers(oa.interval or (None, None)),
        strata.joined,
    )


@dataclass(frozen=True, eq=False)
class _Strata:
    """The mapped classes as strata, each with two test pixels if that can be.

    Attributes
    ----------
    sample : ndarray, (strata, n_classes), float64
        Test pixels by true class.
    correct, mapped : ndarray, (strata,), float64
        Test pixels that are right; pixels of the map.
    joined : tuple of int
        Of `AreaEstimates`.
    """

    sample: Floats
    correct: Floats
    mapped: Floats
    joined: tuple[int, ...]


def _strata_of_map(
    confusion: npt.NDArray[np.int64], mapped_pixels: npt.NDArray[np.integer[Any]]
) -> _Strata:
    """Strata that are mapped anywhere; those of too few test pixels are put together."""
    sample = confusion.T.astype(np.float64)  # rows are mapped classes, as in the paper
    mapped = np.array(mapped_pixels, np.float64)
    if mapped.shape != (len(sample),):
        raise MismatchError(
            f"{mapped.size} counts of mapped pixels for {len(sample)} columns of the confusion",
            "count the pixels of every class and, last, the unclassified ones",
        )
    if not mapped.any():
        raise MismatchError("the map has no pixels to estimate areas of", "count the whole map")
    correct = np.zeros(len(sample))
    correct[: len(confusion)] = np.diagonal(confusion)
    joined = _strata_to_join(sample.sum(axis=1), mapped)
    if joined:
        first, *others = joined
        correct[first] = correct[list(joined)].sum()
        sample[first], mapped[first] = sample[list(joined)].sum(0), mapped[list(joined)].sum()
        mapped[others] = 0
    held = mapped > 0
    return _Strata(sample[held], correct[held], mapped[held], joined)


def _numbers(values: Sequence[Any]) -> Floats:
    """Values as an array, NaN for None."""
    return np.array(values, np.float64)


def _strata_to_join(sizes: Floats, mapped: Floats) -> tuple[int, ...]:
    """Which strata (n,), of so many test pixels and mapped pixels, cannot stand alone."""
    few = [int(i) for i in np.flatnonzero((mapped > 0) & (sizes < 2))]
    others = [int(i) for i in np.flatnonzero((mapped > 0) & (sizes >= 2))]
    if few and others and sizes[few].sum() < 2:
        few.append(min(others, key=lambda i: mapped[i]))
    return tuple(sorted(few)) if len(few) > 1 else ()
