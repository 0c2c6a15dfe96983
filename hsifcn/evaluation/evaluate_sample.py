"""Accuracy and areas of a map from a probability sample of it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import MismatchError
from hsifcn.core.scene import LabelMap
from hsifcn.data.classes import unite_classes
from hsifcn.evaluation.design import (
    UNKNOWN,
    Estimate,
    StratifiedSample,
    estimate_mean,
    estimate_of_part,
)
from hsifcn.evaluation.metrics import overall_average_kappa
from hsifcn.evaluation.sample_file import InterpretedSample, read_sample
from hsifcn.evaluation.sampling import UNCLASSIFIED
from hsifcn.io.crs import pixel_area

Floats = npt.NDArray[np.float64]

USE = (
    "These figures hold for the map as a whole, as far as it was sampled: they may be published "
    "as its accuracy and areas (probability sample; Olofsson et al. 2014, Stehman 2014)."
)
INTERVALS = (
    "Intervals: 95 %, 1.96 standard errors on either side. Where under five points vary from the "
    "others of their stratum they are wider, by what strata without any variation may hide."
)


@dataclass(frozen=True, eq=False)
class _Sampled:
    """The strata that have points, and what the map says at them.

    Attributes
    ----------
    points : InterpretedSample
        Strata numbered among those that have points.
    mapped : ndarray, (points,), int64
        Number of the mapped class, 0 where unclassified.
    names : tuple of str
        Of the strata.
    sizes : ndarray, (strata,), int64
    strata : ndarray, (points,), int64
    empty : tuple of str
        Strata that were drawn from, but have no true class at any point.
    """

    points: InterpretedSample
    mapped: npt.NDArray[np.int64]
    names: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    strata: npt.NDArray[np.int64]
    empty: tuple[str, ...]

    def counts(self, values: npt.NDArray[np.int64], n_values: int) -> StratifiedSample:
        """Points of each stratum by a whole number from 0, (strata, n_values)."""
        counts = np.zeros((len(self.sizes), n_values), np.int64)
        np.add.at(counts, (self.strata, values), 1)
        return StratifiedSample(counts, self.sizes)


def evaluate_sample(
    predicted: LabelMap,
    path: str,
    other: LabelMap | None = None,
    *,
    names: tuple[str, str] = ("the map", "the second map"),
) -> dict[str, Any]:
    """Measure a map by an interpreted sample.

    Parameters
    ----------
    predicted : LabelMap
        The map: the one that was sampled, or another of the same area.
    path : str
        The sample, see ``read_sample``.
    other : LabelMap, optional
        A second map of the same pixels, to be compared at the same points. Classes are matched by
        name, or by code where one of both has no names.
    names : tuple of str
        What messages call the two.

    Returns
    -------
    dict
        ``use``: what the figures may be used for. ``oa``; ``aa`` and ``kappa`` without intervals;
        ``per_class``: by name, ``precision`` (user's accuracy), ``recall`` (producer's accuracy),
        ``n_mapped`` and ``n_test`` (points); ``standard_errors`` and ``intervals`` of ``oa`` and of
        these two ``per_class``; ``areas`` as of ``evaluate``; ``confusion``: shares of the area,
        (classes, classes), true classes in rows; ``strata``; ``sampled_share`` of the map's pixels;
        ``difference``; ``notes``. What nothing was sampled of is None.

    Raises
    ------
    LabelError, MismatchError
        As of ``read_sample``.
    """
    if other is not None:
        if other.labels.shape != predicted.labels.shape:
            raise MismatchError(
                f"{names[0]} is {predicted.labels.shape} pixels and {names[1]} "
                f"{other.labels.shape}",
                "compare maps of the same pixels",
            )
        predicted, other = unite_classes([predicted, other], names, same_code_is_same=True)
    points = read_sample(path, predicted)
    mapped = predicted.labels[points.rows, points.cols].astype(np.int64)
    sampled = _without_empty_strata(points, mapped)
    sample = _by_mapped_and_true(sampled)
    classes, frame = points.class_names, int(sample.sizes.sum())
    areas = [_share(sample, k) for k in range(len(classes))]
    return {
        "use": USE,
        **_accuracies(sample, classes),
        "areas": _areas(areas, predicted, classes, frame),
        "class_names": list(classes),
        "strata": _strata(points),
        "sampled_share": frame / predicted.labels.size,
        "difference": None if other is None else _difference(sampled, other),
        "notes": [*_notes(points, sampled, predicted.labels.size), INTERVALS],
    }


def _by_mapped_and_true(sampled: _Sampled) -> StratifiedSample:
    """Points of each stratum, (strata, n_classes + 1, n_classes).

    Mapped classes in rows, unclassified first; true classes in columns.
    """
    n, points = len(sampled.points.class_names), sampled.points
    cells = sampled.counts(sampled.mapped * n + points.truth - 1, (n + 1) * n)
    return StratifiedSample(cells.counts.reshape(-1, n + 1, n), cells.sizes)


def _accuracies(sample: StratifiedSample, classes: tuple[str, ...]) -> dict[str, Any]:
    """The keys of ``evaluate_sample`` that tell accuracy."""
    n = len(classes)
    right = np.eye(n + 1, n, -1)
    oa = estimate_mean(sample, right)
    true = [np.tile(np.arange(n) == k, (n + 1, 1)).astype(float) for k in range(n)]
    producers = [estimate_of_part(sample, right * t, t, extent_known=False) for t in true]
    users = [_users_accuracy(sample, right, k) for k in range(n)]
    shares = (sample.counts * (sample.sizes / sample.drawn)[:, None, None]).sum(0)
    shares = shares / sample.sizes.sum()
    _, aa, kappa = overall_average_kappa(
        np.diagonal(shares, -1), shares.sum(axis=0), shares[1:].sum(axis=1)
    )
    counts = sample.counts.sum(axis=0)
    return {
        "oa": oa.value,
        "aa": float(aa),
        "kappa": None if np.isnan(kappa) else float(kappa),
        "per_class": {
            name: {
                "precision": users[k].value,
                "recall": producers[k].value,
                "n_mapped": int(counts[k + 1].sum()),
                "n_test": int(counts[:, k].sum()),
            }
            for k, name in enumerate(classes)
        },
        "standard_errors": _of_accuracies(oa, users, producers, classes, "standard_error"),
        "intervals": _of_accuracies(oa, users, producers, classes, "interval"),
        "confusion": shares[1:].T.tolist(),
        "unclassified": shares[0].tolist(),
    }


def _without_empty_strata(points: InterpretedSample, mapped: npt.NDArray[np.int64]) -> _Sampled:
    """Leave out strata without any interpreted point: nothing is known of them."""
    n_points = np.bincount(points.strata, minlength=len(points.sizes))
    kept = np.flatnonzero(n_points)
    number = np.full(len(points.sizes), -1)
    number[kept] = np.arange(len(kept))
    names = points.stratum_names
    empty = tuple(name for name, count in zip(names, n_points, strict=True) if not count)
    chosen = tuple(names[i] for i in kept)
    return _Sampled(points, mapped, chosen, points.sizes[kept], number[points.strata], empty)


def _users_accuracy(sample: StratifiedSample, right: Floats, k: int) -> Estimate:
    mapped = np.zeros_like(right)
    mapped[k + 1] = 1
    return estimate_of_part(sample, right * mapped, mapped, extent_known=True)


def _share(sample: StratifiedSample, k: int) -> Estimate:
    """Share of a class of the map's area; unknown where no point is mapped as it, or is of it."""
    if not sample.counts[:, k + 1].any() and not sample.counts[:, :, k].any():
        return UNKNOWN
    of_class = np.zeros(sample.counts.shape[1:])
    of_class[:, k] = 1
    return estimate_mean(sample, of_class)


def _of_accuracies(
    oa: Estimate,
    users: list[Estimate],
    producers: list[Estimate],
    names: tuple[str, ...],
    key: str,
) -> dict[str, Any]:
    return {
        "oa": getattr(oa, key),
        "per_class": {
            name: {"precision": getattr(user, key), "recall": getattr(producer, key)}
            for name, user, producer in zip(names, users, producers, strict=True)
        },
    }


def _areas(
    shares: list[Estimate], predicted: LabelMap, names: tuple[str, ...], frame: int
) -> dict[str, Any]:
    """Areas as ``evaluate`` tells them; hectares are of the sampled part of the map."""
    square_metres = pixel_area(predicted.grid)
    pixels = np.bincount(predicted.labels.ravel(), minlength=len(names) + 1)[1:]
    total = None if square_metres is None else square_metres * frame

    def scaled(value: float | None) -> float | None:
        return None if value is None or total is None else value * total

    return {
        name: {
            "mapped": float(pixels[k] / predicted.labels.size),
            "proportion": share.value,
            "standard_error": share.standard_error,
            "interval": share.interval,
            "square_metres": scaled(share.value),
            "square_metres_interval": share.interval
            and total
            and [bound * total for bound in share.interval],
        }
        for k, (name, share) in enumerate(zip(names, shares, strict=True))
    }


def _strata(points: InterpretedSample) -> dict[str, Any]:
    found = np.bincount(points.strata, minlength=len(points.sizes)).tolist()
    sizes, drawn = points.sizes.tolist(), points.drawn.tolist()
    return {
        name: {"pixels": sizes[i], "drawn": drawn[i], "interpreted": found[i]}
        for i, name in enumerate(points.stratum_names)
    }


def _difference(sampled: _Sampled, other: LabelMap) -> dict[str, Any]:
    """OA of the map less that of the other one, at the same points."""
    points = sampled.points
    found = other.labels[points.rows, points.cols].astype(np.int64)
    right, right_there = sampled.mapped == points.truth, found == points.truth
    sample = sampled.counts(1 + right.astype(np.int64) - right_there, 3)
    difference = estimate_mean(sample, np.array([-1, 0, 1]), low=-1.0)
    of_other = estimate_mean(sampled.counts(right_there.astype(np.int64), 2), np.array([0, 1]))
    return {
        "oa_of_other": of_other.value,
        "oa_of_other_interval": of_other.interval,
        "oa_difference": difference.value,
        "standard_error": difference.standard_error,
        "interval": difference.interval,
    }


def _notes(points: InterpretedSample, sampled: _Sampled, pixels: int) -> list[str]:
    notes = []
    drawn, found = int(points.drawn.sum()), len(points.truth)
    if found < drawn:
        notes.append(
            f"{drawn - found} of {drawn} points have no true class: the figures suppose that they "
            "are as the others of their stratum."
        )
    if sampled.empty:
        notes.append(
            f"No point of {', '.join(sampled.empty)} has a true class: the figures leave these "
            "strata out."
        )
    singles = np.bincount(sampled.strata, minlength=len(sampled.sizes)) == 1
    alone = [
        name
        for name, single, size in zip(sampled.names, singles, sampled.sizes, strict=True)
        if single and size > 1
    ]
    if alone:
        notes.append(
            f"No intervals: {', '.join(alone)} has a single point. Interpret another one there."
        )
    frame = int(sampled.sizes.sum())
    if frame < pixels:
        notes.append(
            f"The figures are of the {frame:,} pixels that were sampled from, "
            f"{100 * frame / pixels:.1f} % of the map; hectares too."
        )
    if frame > pixels:
        warnings.warn(
            f"the sample is of {frame:,} pixels, and the map has {pixels:,}: give the map of the "
            "same area",
            stacklevel=3,
        )
    if UNCLASSIFIED in points.stratum_names:
        notes.append("Unclassified pixels are a stratum of their own and count as errors.")
    return notes
