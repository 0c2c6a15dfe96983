"""How sure an accuracy is: intervals and tests that respect how ground truth is made.

Ground truth is drawn field by field, and the pixels of a field resemble each other, so that a
thousand pixels of three fields are nearer to three observations than to a thousand. Intervals
therefore come from leaving out one field at a time. `mcnemar` takes pixels as independent draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, chdtrc, expit, logit, stdtrit

from hsifcn.core.errors import LabelError, MismatchError
from hsifcn.evaluation.metrics import class_accuracies, overall_average_kappa, parts

Labels = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]
Interval = tuple[float, float] | None

CONFIDENCE = 0.95
EXACT_BELOW = 25  # discordant pixels under which McNemar's test is the exact one
FIELDS_AT_ONCE = 65_536  # bounds the memory, not the result


def intervals_over_fields(
    truth: Labels, predictions: dict[str, Labels], fields: Labels, n_classes: int
) -> dict[str, dict[str, Any]]:
    """95 % intervals of the accuracies of several maps, with fields as the units.

    See `accuracy_interval`. A class none of whose fields is left is left out of the AA.

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

    Returns
    -------
    dict of str to dict
        By name of the map, ``oa``, ``aa`` and ``kappa``, each (low, high), or None where the test
        pixels lie in fewer than two fields; and ``per_class``, the same of ``recall``,
        ``precision``, ``f1`` and ``iou`` for classes 1 to n, None where fewer than two fields are
        of the class.

    Raises
    ------
    MismatchError
        Arrays of different shapes.
    LabelError
        Labels above ``n_classes``, or test pixels that belong to no field.
    """
    maps = list(predictions.values())
    true, correct, predicted = _counts_by_field(truth, maps, fields, n_classes)
    return {
        name: _intervals_of_map(right, true, found)
        for name, right, found in zip(predictions, correct, predicted, strict=True)
    }


def _intervals_of_map(correct: Floats, true: Floats, predicted: Floats) -> dict[str, Any]:
    """Intervals of one map from its counts, each (n_fields, n_classes)."""
    tables = (correct, true, predicted)
    totals = [table.sum(axis=0) for table in tables]
    value = _measures(*totals)
    rests = [_measures(*rest) for rest in _without_each_field(tables, totals)]
    without = {name: np.concatenate([rest[name] for rest in rests]) for name in value if rests}
    pixels, n_fields = true.sum(axis=1), (true > 0).sum(axis=0)
    share_of_classes = _share(true, totals[1]).sum(axis=1)
    overall = {"oa": (pixels, 0), "aa": (share_of_classes, 0), "kappa": (pixels, -1)}
    per_class = {
        "recall": true,
        "precision": predicted,
        "f1": true + predicted,
        "iou": true + predicted - correct,
    }
    if not rests:
        return {**dict.fromkeys(overall), "per_class": [dict.fromkeys(per_class)] * true.shape[1]}
    return {
        **{
            name: accuracy_interval(float(value[name]), without[name], weights, low)
            for name, (weights, low) in overall.items()
        },
        "per_class": [
            {
                name: accuracy_interval(float(value[name][i]), without[name][:, i], weights[:, i])
                if n_fields[i] > 1
                else None
                for name, weights in per_class.items()
            }
            for i in range(true.shape[1])
        ],
    }


def _measures(correct: Floats, true: Floats, predicted: Floats) -> dict[str, Floats]:
    """OA, AA and kappa (...), and measures of each class (..., n_classes), by name."""
    overall = overall_average_kappa(correct, true, predicted)
    return {
        **dict(zip(("oa", "aa", "kappa"), overall, strict=True)),
        **class_accuracies(correct, true, predicted),
    }


def accuracy_interval(value: float, without: Floats, weights: Floats, low: float = 0.0) -> Interval:
    """95 % interval of an accuracy from its values without each field.

    The delete-one-field jackknife (Efron and Stein 1981, doi:10.1214/aos/1176345462) with quantiles
    of Student's t. Its degrees of freedom follow the effective number of fields,
    ``n = (sum w)^2 / sum w^2``: a few large fields are few observations. One field of mean weight
    that is half right is added, as Agresti and Coull do with pixels (1998,
    doi:10.1080/00031305.1998.10480550): a handful of fields without an error does not show that
    there are none. That makes ``n + 1`` fields, ``n`` degrees of freedom. The interval is symmetric
    in the logit.

    Parameters
    ----------
    value : float
        Measured on all fields, between ``low`` and 1.
    without : ndarray, (n_fields,), float64
        Measured without each field; NaN where nothing is left.
    weights : ndarray, (n_fields,), float64
        How much each field counts, at least 0: its pixels, as a rule.
    low : float
        Least value of the measure.

    Returns
    -------
    (low, high), or None where fewer than two fields count or the value is not defined.
    """
    counted = (weights > 0) & ~np.isnan(without)
    if counted.sum() < 2 or np.isnan(value):
        return None
    share = weights[counted] / weights[counted].sum()
    n = float(1 / (share**2).sum())
    unit, left = ((x - low) / (1 - low) for x in (value, without[counted]))
    centre = (n * unit + 0.5) / (n + 1)
    left = (n * (1 - share) * left + 0.5) / (n * (1 - share) + 1)
    variance = _jackknife_variance(left) + (centre - unit) ** 2
    half = _student(n) * np.sqrt(variance) / (centre * (1 - centre))
    bounds = low + (1 - low) * expit(logit(centre) + np.array([-half, half]))
    return min(float(bounds[0]), value), max(float(bounds[1]), value)


def difference_interval(value: float, without: Floats, weights: Floats) -> Interval:
    """95 % interval of a difference of two accuracies; as `accuracy_interval`, on its own scale."""
    counted = (weights > 0) & ~np.isnan(without)
    if counted.sum() < 2 or np.isnan(value):
        return None
    share = weights[counted] / weights[counted].sum()
    half = _student(float(1 / (share**2).sum()) - 1) * np.sqrt(
        _jackknife_variance(without[counted])
    )
    return float(value - half), float(value + half)


def _jackknife_variance(without: Floats) -> float:
    return float((len(without) - 1) * np.var(without))


def _student(freedom: float) -> float:
    """Quantile of Student's t that a two-sided interval reaches to."""
    return float(stdtrit(max(1.0, freedom), (1 + CONFIDENCE) / 2))


def paired_difference(
    truth: Labels, a: Labels, b: Labels, fields: Labels, n_classes: int
) -> dict[str, Any]:
    """How much better map ``a`` is than map ``b``, with 95 % intervals with fields as the units.

    Both maps lose the same field at a time, so that what makes a field hard for both cancels out.

    Parameters
    ----------
    truth, fields, n_classes
        As for `intervals_over_fields`.
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
        As for `intervals_over_fields`.
    """
    true, correct, predicted = _counts_by_field(truth, [a, b], fields, n_classes)
    tables = (true, *correct, *predicted)
    totals = [table.sum(axis=0) for table in tables]
    oa, aa, recalls = _differences(totals)
    rests = [_differences(rest) for rest in _without_each_field(tables, totals)]
    oa_left, aa_left = (np.concatenate([np.zeros(0), *(rest[i] for rest in rests)]) for i in (0, 1))
    n_fields = (true > 0).sum(axis=0)
    return {
        "oa_difference": _none_if_nan(oa),
        "interval": difference_interval(float(oa), oa_left, true.sum(axis=1)),
        "aa_difference": _none_if_nan(aa),
        "aa_interval": difference_interval(float(aa), aa_left, _share(true, totals[0]).sum(axis=1)),
        "per_class": [
            {
                "recall_difference": _none_if_nan(recalls[i]),
                "interval": difference_interval(
                    float(recalls[i]), np.concatenate([rest[2][:, i] for rest in rests]), true[:, i]
                )
                if n_fields[i] > 1
                else None,
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
        return min(1.0, 2 * float(bdtr(min(only_a, only_b), discordant, 0.5)))
    # Equal counts would be overcorrected into a difference of 1.
    excess = max(abs(only_a - only_b) - 1, 0)
    return float(chdtrc(1, excess**2 / discordant))


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


def _without_each_field(tables: tuple[Floats, ...], totals: list[Floats]) -> Iterator[list[Floats]]:
    """Sums of tables (n_fields, n_classes) without each field, some fields at a time."""
    for start in range(0, len(tables[0]), FIELDS_AT_ONCE):
        part = slice(start, start + FIELDS_AT_ONCE)
        yield [total - table[part] for table, total in zip(tables, totals, strict=True)]


def _share(table: Floats, total: Floats) -> Floats:
    """What part of the total of its class each field has; 0 for a class without pixels."""
    return np.divide(table, total, out=np.zeros_like(table), where=total > 0)


def _differences(counts: list[Floats]) -> tuple[Floats, Floats, Floats]:
    """OA, AA and recalls of a less those of b, of counts true, correct (2), predicted (2)."""
    true, correct_a, correct_b, predicted_a, predicted_b = counts
    oa_a, aa_a, _ = overall_average_kappa(correct_a, true, predicted_a)
    oa_b, aa_b, _ = overall_average_kappa(correct_b, true, predicted_b)
    recalls = np.full(true.shape, np.nan)
    np.divide(correct_a - correct_b, true, out=recalls, where=true > 0)
    return oa_a - oa_b, aa_a - aa_b, recalls


def _none_if_nan(value: float | Floats) -> float | None:
    return None if np.isnan(value) else float(value)


def _check_shapes(truth: Labels, *others: Labels) -> None:
    for other in others:
        if other.shape != truth.shape:
            raise MismatchError(
                f"the ground truth is {truth.shape} and a map is {other.shape}",
                "compare maps of the same size",
            )
