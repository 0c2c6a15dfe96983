"""Accuracy of a label map: confusion matrix, OA, AA, kappa, per class.

Labels are counted from 1 here; 0 is unlabelled in the ground truth and unclassified in a map.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import LabelError, MismatchError

Labels = npt.NDArray[np.integer[Any]]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PART_PIXELS = 2**20  # counted at once


def confusion_matrix(truth: Labels, predicted: Labels, n_classes: int) -> Counts:
    """Count pixels by true and by predicted class.

    Parameters
    ----------
    truth : ndarray, any shape, integer
        True labels; pixels with 0 are left out.
    predicted : ndarray, same shape, integer
        Predicted labels; 0 is unclassified.
    n_classes : int
        Number of classes.

    Returns
    -------
    ndarray, (n_classes, n_classes + 1), int64
        Rows are true classes 1 to n, columns predicted classes 1 to n and last unclassified.

    Raises
    ------
    MismatchError
        The two have different shapes.
    LabelError
        A label is negative or above ``n_classes``.
    """
    if truth.shape != predicted.shape:
        raise MismatchError(
            f"the ground truth is {truth.shape} and the map is {predicted.shape}",
            "compare maps of the same size",
        )
    counts = np.zeros(n_classes * (n_classes + 1), np.int64)
    for part in parts(truth.size):
        labels, mapped = truth.reshape(-1)[part], predicted.reshape(-1)[part]
        labelled = labels != 0
        true, found = labels[labelled].astype(np.int64), mapped[labelled].astype(np.int64)
        _require_labels(true, "ground truth", n_classes)
        _require_labels(found, "map", n_classes)
        columns = np.where(found == 0, n_classes, found - 1)
        counts += np.bincount((true - 1) * (n_classes + 1) + columns, minlength=len(counts))
    return counts.reshape(n_classes, n_classes + 1)


def parts(size: int) -> Iterator[slice]:
    """Pixels of a flat array a part at a time: counting makes copies many times as large."""
    for start in range(0, size, PART_PIXELS):
        yield slice(start, start + PART_PIXELS)


def _require_labels(labels: npt.NDArray[np.int64], name: str, n_classes: int) -> None:
    if labels.size and (labels.min() < 0 or labels.max() > n_classes):
        raise LabelError(
            f"the {name} has labels from {labels.min()} to {labels.max()}, "
            f"there are {n_classes} classes",
            f"labels run from 0 to {n_classes}",
        )


def overall_average_kappa(
    correct: npt.NDArray[Any], true: npt.NDArray[Any], predicted: npt.NDArray[Any]
) -> tuple[Floats, Floats, Floats]:
    """OA, AA and kappa from counts a class.

    Parameters
    ----------
    correct, true, predicted : ndarray, (..., n_classes)
        Pixels of each class that are right, that truly are of it, and that are predicted as it
        (of all pixels that have a true label). Leading axes are independent cases.

    Returns
    -------
    oa, aa, kappa : ndarray, (...), float64
        Overall accuracy; recall averaged over the classes that have true pixels; Cohen's kappa
        (Cohen 1960, doi:10.1177/001316446002000104), unclassified counted as one more predicted
        class. NaN where undefined.
    """
    n = true.sum(axis=-1)
    n_present = (true > 0).sum(axis=-1)
    oa = _ratio(correct.sum(axis=-1), n)
    recalls = _ratio(correct, true)
    aa = _ratio(np.nansum(recalls, axis=-1), n_present)
    by_chance = _ratio(
        (true.astype(np.float64) * predicted).sum(axis=-1), n.astype(np.float64) ** 2
    )
    return oa, aa, _ratio(oa - by_chance, 1 - by_chance)


def class_accuracies(
    correct: npt.NDArray[Any], true: npt.NDArray[Any], predicted: npt.NDArray[Any]
) -> dict[str, Floats]:
    """``recall``, ``precision``, ``f1`` and ``iou`` of each class; see `Accuracy`.

    Parameters are those of `overall_average_kappa`; arrays (..., n_classes), NaN where undefined.
    """
    return {
        "recall": _ratio(correct, true),
        "precision": _ratio(correct, predicted),
        "f1": _ratio(2 * correct, true + predicted),
        "iou": _ratio(correct, true + predicted - correct),
    }


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Measures of accuracy of one map; all are fractions of 1, NaN where undefined.

    Attributes
    ----------
    confusion : ndarray, (n_classes, n_classes + 1), int64
        As of `confusion_matrix`.
    oa, aa, kappa : float
        Overall accuracy, recall averaged over the classes that have test pixels, Cohen's kappa.
    recall, precision, f1, iou : ndarray, (n_classes,), float64
        Producer's accuracy, user's accuracy, their harmonic mean, intersection over union. A
        class without test pixels has no recall, one that is never predicted no precision, one
        with neither none of the four.
    """

    confusion: Counts
    oa: float
    aa: float
    kappa: float
    recall: Floats
    precision: Floats
    f1: Floats
    iou: Floats

    @classmethod
    def from_confusion(cls, confusion: Counts) -> Accuracy:
        """Measure a confusion matrix, (n_classes, n_classes + 1), of `confusion_matrix`."""
        n_classes = confusion.shape[0]
        correct = np.diagonal(confusion)
        true = confusion.sum(axis=1)
        predicted = confusion[:, :n_classes].sum(axis=0)
        oa, aa, kappa = overall_average_kappa(correct, true, predicted)
        return cls(
            confusion=confusion,
            oa=float(oa),
            aa=float(aa),
            kappa=float(kappa),
            **class_accuracies(correct, true, predicted),
        )

    def as_dict(
        self, class_names: Sequence[str], n_train: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Everything as plain Python values for JSON; NaN becomes None.

        Parameters
        ----------
        class_names : sequence of str
            One name a class, all different.
        n_train : sequence of int, optional
            Training pixels a class, where known.

        Returns
        -------
        dict
            ``oa``, ``aa``, ``kappa``, ``per_class`` (name to ``recall``, ``precision``, ``f1``,
            ``iou``, ``n_train``, ``n_test``), ``confusion`` (n x n, without unclassified),
            ``unclassified`` (pixels a true class) and ``class_names``.

        Raises
        ------
        MismatchError
            The names or the training pixels are not one a class, or two names are equal.
        """
        n_classes = len(self.recall)
        if len(set(class_names)) != n_classes or len(class_names) != n_classes:
            raise MismatchError(
                f"{len(class_names)} class names, {len(set(class_names))} of them different, "
                f"for {n_classes} classes",
                "give every class a name of its own",
            )
        if n_train is not None and len(n_train) != n_classes:
            raise MismatchError(f"{len(n_train)} counts of training pixels, {n_classes} classes")
        n_test = self.confusion.sum(axis=1)
        per_class = {
            name: {
                "recall": _none_if_nan(self.recall[i]),
                "precision": _none_if_nan(self.precision[i]),
                "f1": _none_if_nan(self.f1[i]),
                "iou": _none_if_nan(self.iou[i]),
                "n_train": None if n_train is None else int(n_train[i]),
                "n_test": int(n_test[i]),
            }
            for i, name in enumerate(class_names)
        }
        return {
            "oa": _none_if_nan(self.oa),
            "aa": _none_if_nan(self.aa),
            "kappa": _none_if_nan(self.kappa),
            "per_class": per_class,
            "confusion": self.confusion[:, :n_classes].tolist(),
            "unclassified": self.confusion[:, n_classes].tolist(),
            "class_names": list(class_names),
        }


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    """Divide; NaN where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    ratio = np.full(part.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole != 0)
    return ratio


def _none_if_nan(value: float | np.float64) -> float | None:
    return None if math.isnan(value) else float(value)
