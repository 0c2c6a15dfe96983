"""How sure an accuracy is: intervals and tests that respect how ground truth is made.

Ground truth is drawn field by field, and the pixels of a field resemble each other, so that a
thousand pixels of three fields are nearer to three observations than to a thousand. Intervals of
accuracies therefore resample whole fields. `mcnemar` and `area_estimates` take pixels as
independent draws and say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from hsifcn.core.errors import LabelError, MismatchError
from hsifcn.evaluation.metrics import class_accuracies, overall_average_kappa, parts

Labels = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]
Interval = tuple[float, float] | None

Z_95 = 1.96  # standard errors on either side, as Olofsson et al. round it
EXACT_BELOW = 25  # discordant pixels under which McNemar's test is the exact one
_WEIGHTS_AT_ONCE = 4_000_000  # bounds the memory of the resampling, not its result


def bootstrap_over_fields(
    truth: Labels,
    predictions: dict[str, Labels],
    fields: Labels,
    n_classes: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """95 % intervals of the accuracies of several maps, from resampling fields.

    The cluster bootstrap (Davison and Hinkley 1997, doi:10.1017/CBO9780511802843, section 3.8):
    each resample draws as many fields as there are, with replacement, and takes all their
    pixels. All maps share the resamples. A class none of whose fields is drawn is left out of the
    AA of that resample, and has no measure of its own in it.

    Parameters
    ----------
    truth : ndarray, (rows, cols), integer
        True labels of the test pixels, 0 elsewhere.
    predictions : dict of str to ndarray, (rows, cols), integer
        Label maps by name; 0 is unclassified.
    fields : ndarray, (rows, cols), integer
        Number of the field that a pixel belongs to, 0 where none, as of `splits.fields` of all
        labels.
    n_classes : int
        Number of classes.
    resamples : int
        Number of resamples.
    seed : int
        Seed of the resampling.

    Returns
    -------
    dict of str to dict
        By name of the map, ``oa``, ``aa`` and ``kappa``, each the 2.5th and the 97.5th percentile,
        or None where the test pixels lie in fewer than two fields; and ``per_class``, the same of
        ``recall``, ``precision``, ``f1`` and ``iou`` for classes 1 to n, None where fewer than two
        fields are of the class.

    Raises
    ------
    MismatchError
        Arrays of different shapes.
    LabelError
        Labels above ``n_classes``, or test pixels that belong to no field.
    """
    maps = list(predictions.values())
    true, correct, predicted = _counts_by_field(truth, maps, fields, n_classes)
    drawn = _resample([true, *correct, *predicted], resamples, seed)
    drawn_true, drawn_correct = drawn[0], drawn[1 : 1 + len(maps)]
    intervals: dict[str, dict[str, Any]] = {}
    n_fields = (true > 0).sum(axis=0)
    for name, right, found in zip(predictions, drawn_correct, drawn[1 + len(maps) :], strict=True):
        scores = overall_average_kappa(right, drawn_true, found)
        intervals[name] = {
            measure: _interval(values, len(true))
            for measure, values in zip(("oa", "aa", "kappa"), scores, strict=True)
        }
        per_class = class_accuracies(right, drawn_true, found)
        intervals[name]["per_class"] = [
            {
                measure: _interval(values[drawn_true[:, i] > 0, i], int(n_fields[i]))
                for measure, values in per_class.items()
            }
            for i in range(n_classes)
        ]
    return intervals


def paired_difference(
    truth: Labels,
    a: Labels,
    b: Labels,
    fields: Labels,
    n_classes: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """How much better map ``a`` is than map ``b``, with 95 % intervals from resampling fields.

    Both maps are measured on the same resamples (see `bootstrap_over_fields`), so that what makes
    a field hard for both cancels out.

    Parameters
    ----------
    truth, fields, n_classes, resamples, seed
        As for `bootstrap_over_fields`.
    a, b : ndarray, (rows, cols), integer
        Label maps; 0 is unclassified.

    Returns
    -------
    dict
        ``oa_difference`` and its ``interval``, ``aa_difference`` and its ``aa_interval``, and
        ``per_class``, a list of ``recall_difference`` and ``interval`` for classes 1 to n. All are
        accuracy of ``a`` less accuracy of ``b``, fractions of 1. None where undefined: an interval
        needs two fields (for a class, two of its fields), a difference test pixels.

    Raises
    ------
    MismatchError, LabelError
        As for `bootstrap_over_fields`.
    """
    true, correct, predicted = _counts_by_field(truth, [a, b], fields, n_classes)
    observed = [table.sum(axis=0, keepdims=True) for table in (true, *correct, *predicted)]
    oa, aa, recalls = _differences(observed)
    drawn_oa, drawn_aa, drawn_recalls = _differences(
        _resample([true, *correct, *predicted], resamples, seed)
    )
    n_fields = (true > 0).sum(axis=0)
    return {
        "oa_difference": _none_if_nan(oa[0]),
        "interval": _interval(drawn_oa, len(true)),
        "aa_difference": _none_if_nan(aa[0]),
        "aa_interval": _interval(drawn_aa, len(true)),
        "per_class": [
            {
                "recall_difference": _none_if_nan(recalls[0, i]),
                "interval": _interval(drawn_recalls[:, i], int(n_fields[i])),
            }
            for i in range(n_classes)
        ],
    }


def mcnemar(truth: Labels, a: Labels, b: Labels) -> float:
    """McNemar's test of whether two maps are equally accurate.

    It takes every pixel as an independent observation, which pixels of one field are not: its p
    is too small for maps of large fields, and `paired_difference` is the one to trust.

    Parameters
    ----------
    truth : ndarray, (rows, cols), integer
        True labels of the test pixels, 0 elsewhere.
    a, b : ndarray, (rows, cols), integer
        Label maps.

    Returns
    -------
    float
        Two-sided p: exact binomial under 25 pixels that only one map has right, else chi-square
        with continuity correction (McNemar 1947, doi:10.1007/BF02295996; Edwards 1948,
        doi:10.1007/BF02289261). 1 where there is no such pixel.

    Raises
    ------
    MismatchError
        Arrays of different shapes.
    """
    _check_shapes(truth, a, b)
    labelled = truth > 0
    right_a, right_b = a[labelled] == truth[labelled], b[labelled] == truth[labelled]
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    discordant = only_a + only_b
    if discordant == 0:
        return 1.0
    if discordant < EXACT_BELOW:
        return float(stats.binomtest(only_a, discordant, 0.5).pvalue)
    # Equal counts would be overcorrected into a difference of 1.
    excess = max(abs(only_a - only_b) - 1, 0)
    return float(stats.chi2.sf(excess**2 / discordant, df=1))


@dataclass(frozen=True, eq=False)
class AreaEstimates:
    """Areas of the classes, corrected for the errors of the map.

    Attributes
    ----------
    proportion, standard_error : ndarray, (n_classes,), float64
        Estimated share of the mapped area a class, and its standard error.
    interval : ndarray, (n_classes, 2), float64
        95 % interval of ``proportion``, kept within 0 and 1.
    area : ndarray, (n_classes,), float64, or None
        ``proportion`` in the unit of the pixel area; None where that was not given.
    area_interval : ndarray, (n_classes, 2), float64, or None
        95 % interval of ``area``.
    joined : tuple of int
        Mapped classes (from 0; n_classes for unclassified) that were taken as one stratum.
    """

    proportion: Floats
    standard_error: Floats
    interval: Floats
    area: Floats | None
    area_interval: Floats | None
    joined: tuple[int, ...]


def area_estimates(
    confusion: npt.NDArray[np.int64],
    mapped_pixels: npt.NDArray[np.integer[Any]],
    pixel_area: float | None = None,
) -> AreaEstimates:
    """Area of each class with its 95 % interval, by the stratified estimator.

    Counting the pixels of a map gives biased areas; this takes the test pixels as a random sample
    of each mapped class and weighs them by how much of the map that class covers (Olofsson et al.
    2014, doi:10.1016/j.rse.2014.02.015, eqs 9 to 13). Where the test pixels are no such sample, as
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
    sample = confusion.T.astype(np.float64)  # rows are mapped classes, as in the paper
    mapped = np.array(mapped_pixels, np.float64)
    if mapped.shape != (len(sample),):
        raise MismatchError(
            f"{mapped.size} counts of mapped pixels for {len(sample)} columns of the confusion",
            "count the pixels of every class and, last, the unclassified ones",
        )
    if not mapped.any():
        raise MismatchError("the map has no pixels to estimate areas of", "count the whole map")
    joined = _strata_to_join(sample.sum(axis=1), mapped)
    if joined:
        first, *others = joined
        sample[first], mapped[first] = sample[list(joined)].sum(0), mapped[list(joined)].sum()
        mapped[others] = 0
    sample, mapped = sample[mapped > 0], mapped[mapped > 0]
    sizes = sample.sum(axis=1, keepdims=True)
    if sizes.min() < 2:  # then there is one stratum
        sizes = np.full_like(sizes, np.nan)
    weights = (mapped / mapped.sum())[:, np.newaxis]
    shares = sample / sizes
    proportion = np.asarray((weights * shares).sum(axis=0))
    variance = (weights**2 * shares * (1 - shares) / (sizes - 1)).sum(axis=0)
    error = np.sqrt(variance)
    interval = np.stack([proportion - Z_95 * error, proportion + Z_95 * error], axis=1)
    interval = interval.clip(0, 1)
    if pixel_area is None:
        return AreaEstimates(proportion, error, interval, None, None, joined)
    total = float(mapped.sum()) * pixel_area
    area, area_interval = proportion * total, interval * total
    return AreaEstimates(proportion, error, interval, area, area_interval, joined)


def _strata_to_join(sizes: Floats, mapped: Floats) -> tuple[int, ...]:
    """Which strata (n,), of so many test pixels and mapped pixels, cannot stand alone."""
    few = [int(i) for i in np.flatnonzero((mapped > 0) & (sizes < 2))]
    others = [int(i) for i in np.flatnonzero((mapped > 0) & (sizes >= 2))]
    if few and others and sizes[few].sum() < 2:
        few.append(min(others, key=lambda i: mapped[i]))
    return tuple(sorted(few)) if len(few) > 1 else ()


def _counts_by_field(
    truth: Labels, maps: list[Labels], fields: Labels, n_classes: int
) -> tuple[Floats, list[Floats], list[Floats]]:
    """Count true, correct and predicted pixels, each (n_fields, n_classes), for each map."""
    _check_shapes(truth, fields, *maps)
    n_fields = int(fields.max(initial=0))
    tables = [np.zeros((n_fields, n_classes), np.int64) for _ in range(1 + 2 * len(maps))]
    for part in parts(truth.size):
        tested = truth.reshape(-1)[part] > 0
        true, numbers = (array.reshape(-1)[part][tested] for array in (truth, fields))
        if true.size and numbers.min() < 1:
            raise LabelError(
                f"{int((numbers < 1).sum())} test pixels belong to no field",
                "number the fields of the labels that the test pixels come from",
            )
        found = [predicted.reshape(-1)[part][tested] for predicted in maps]
        if any(labels.size and labels.max() > n_classes for labels in (true, *found)):
            raise LabelError(f"labels above {n_classes}, the number of classes")
        pairs = [(true, true > 0)]
        pairs += [(true, labels == true) for labels in found]
        pairs += [(labels, labels > 0) for labels in found]
        for table, (labels, among) in zip(tables, pairs, strict=True):
            cells = (numbers[among].astype(np.int64) - 1) * n_classes + labels[among] - 1
            table += np.bincount(cells, minlength=table.size).reshape(table.shape)
    with_pixels = tables[0].any(axis=1)
    true_counts, *others = (table[with_pixels].astype(np.float64) for table in tables)
    return true_counts, others[: len(maps)], others[len(maps) :]


def _resample(tables: list[Floats], resamples: int, seed: int) -> list[Floats]:
    """Sum each table, (n_fields, n_classes), over drawn fields: (resamples, n_classes) each."""
    n_fields = len(tables[0])
    stacked = np.concatenate(tables, axis=1)
    totals = np.zeros((resamples, stacked.shape[1]))
    if n_fields:
        rng = np.random.default_rng(seed)
        equal = np.full(n_fields, 1 / n_fields)
        step = max(1, _WEIGHTS_AT_ONCE // n_fields)
        for start in range(0, resamples, step):
            stop = min(start + step, resamples)
            weights = rng.multinomial(n_fields, equal, size=stop - start)
            totals[start:stop] = weights.astype(np.float64) @ stacked
    return np.split(totals, len(tables), axis=1)


def _differences(counts: list[Floats]) -> tuple[Floats, Floats, Floats]:
    """OA, AA and recalls of a less those of b, of counts true, correct (2), predicted (2)."""
    true, correct_a, correct_b, predicted_a, predicted_b = counts
    oa_a, aa_a, _ = overall_average_kappa(correct_a, true, predicted_a)
    oa_b, aa_b, _ = overall_average_kappa(correct_b, true, predicted_b)
    recalls = np.full(true.shape, np.nan)
    np.divide(correct_a - correct_b, true, out=recalls, where=true > 0)
    return oa_a - oa_b, aa_a - aa_b, recalls


def _interval(values: Floats, n_fields: int) -> Interval:
    """2.5th and 97.5th percentile of what is defined; None where fields cannot tell."""
    defined = values[~np.isnan(values)]
    if n_fields < 2 or not defined.size:
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def _none_if_nan(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _check_shapes(truth: Labels, *others: Labels) -> None:
    for other in others:
        if other.shape != truth.shape:
            raise MismatchError(
                f"the ground truth is {truth.shape} and a map is {other.shape}",
                "compare maps of the same size",
            )
