"""Figures of several trainings: mean and standard deviation over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

OVERALL = ("oa", "aa", "kappa")
PER_CLASS = ("recall", "precision", "f1", "iou")
COUNTS = ("n_train", "n_test")


def statistic(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation (n - 1) of a figure.

    Parameters
    ----------
    values : sequence of float or None
        One a seed; None where it is not defined.

    Returns
    -------
    dict
        ``mean``, None where no seed has a value; ``std``, None where fewer than two have;
        ``values``, as given.
    """
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "values": list(values),
    }


def over_seeds(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Statistics of the accuracies of several trainings.

    Parameters
    ----------
    records : sequence of dict
        Of ``metrics.Accuracy.as_dict``, one a seed.

    Returns
    -------
    dict
        ``oa``, ``aa``, ``kappa`` and ``per_class`` (by name: ``recall``, ``precision``, ``f1``,
        ``iou``), each a `statistic`; ``n_train`` and ``n_test`` of a class are means.
    """
    names = dict.fromkeys(name for record in records for name in record["per_class"])

    def of_class(name: str, key: str) -> list[float | None]:
        return [record["per_class"].get(name, {}).get(key) for record in records]

    return {
        **{key: statistic([record[key] for record in records]) for key in OVERALL},
        "per_class": {
            name: {key: statistic(of_class(name, key)) for key in PER_CLASS}
            | {key: statistic(of_class(name, key))["mean"] for key in COUNTS}
            for name in names
        },
    }
