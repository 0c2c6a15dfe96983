"""What metrics.json says of splits and accuracy, all scenes together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.data.dataset import Dataset
from hsifcn.data.splits import Split, fields
from hsifcn.evaluation.calibration import coverage_curve, expected_calibration_error
from hsifcn.evaluation.intervals import intervals_over_fields
from hsifcn.evaluation.metrics import Accuracy, confusion_matrix
from hsifcn.models import ModelSpec, geometry


def split_record(dataset: Dataset, spec: ModelSpec) -> dict[str, Any]:
    """What the split was and how much leaks across it, all scenes together."""
    splits = dataset.splits
    field = geometry(spec).receptive_field
    return {
        "recipe": splits[0].recipe,
        "seed": splits[0].seed,
        "digest": "+".join(split.digest for split in splits),
        "n_train": sum(split.n_train for split in splits),
        "n_validation": sum(split.n_validation for split in splits),
        "n_test": sum(split.n_test for split in splits),
        "leakage": pooled_leakage(splits, field),
    }


def pooled_leakage(splits: Sequence[Split], receptive_field: int | None) -> dict[str, Any]:
    """Leakage over all scenes: shares weighted by test pixels."""
    reports = [split.leakage(receptive_field) for split in splits]
    weights = np.array([split.n_test for split in splits], float)

    def pool(values: Sequence[float | None]) -> float | None:
        """None where no pixel tests."""
        pairs = zip(weights, values, strict=True)
        total = sum(weight * value for weight, value in pairs if value is not None)
        return float(total / weights.sum()) if weights.any() else None

    return {
        "test_touching": pool([report["test_touching"] for report in reports]),
        "test_within": {
            reach: pool([report["test_within"][reach] for report in reports])
            for reach in reports[0]["test_within"]
        },
        "test_in_shared_fields": pool([report["test_in_shared_fields"] for report in reports]),
        "receptive_field_px": receptive_field,
    }


def accuracy_record(
    dataset: Dataset, maps: Sequence[npt.NDArray[np.integer[Any]]]
) -> dict[str, Any]:
    """Accuracy at the test pixels of all scenes."""
    n_classes = len(dataset.measured_names)
    confusion = sum(
        confusion_matrix(np.where(split.test, split.labels, 0), labels, n_classes)
        for split, labels in zip(dataset.splits, maps, strict=True)
    )
    n_train = np.sum([split.n_train_per_class(n_classes) for split in dataset.splits], axis=0)
    return Accuracy.from_confusion(np.asarray(confusion)).as_dict(
        dataset.measured_names, n_train.tolist()
    )


def map_digest(labels: npt.NDArray[np.integer[Any]]) -> str:
    """First 16 hex digits of the SHA-256 of a label map (rows, cols): its shape and its labels."""
    content = hashlib.sha256(repr(tuple(map(int, labels.shape))).encode())
    content.update(labels.astype("<u2").tobytes())
    return content.hexdigest()[:16]


def interval_record(
    dataset: Dataset, maps: Sequence[npt.NDArray[np.integer[Any]]]
) -> dict[str, Any]:
    """95 % intervals of the accuracies, with the fields of all scenes as units.

    Returns
    -------
    dict
        ``oa``, ``aa``, ``kappa``, each (low, high) or None; ``per_class``, the same of ``recall``,
        ``precision``, ``f1`` and ``iou`` by name of the class.
    """
    truths, found, numbers = [], [], []
    n_fields = 0
    for split, labels in zip(dataset.splits, maps, strict=True):
        test = split.test
        of_scene = fields(
            split.labels
        )  # of all labels: a test pixel's field may hold training ones
        truths.append(split.labels[test])
        found.append(labels[test])
        numbers.append(of_scene[test].astype(np.int64) + n_fields)
        n_fields += int(of_scene.max(initial=0))
    names = dataset.measured_names
    intervals = intervals_over_fields(
        np.concatenate(truths), {"map": np.concatenate(found)}, np.concatenate(numbers), len(names)
    )["map"]
    return {**intervals, "per_class": dict(zip(names, intervals["per_class"], strict=True))}


def calibration_record(
    dataset: Dataset,
    mapped: Sequence[tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]],
    temperature: float,
) -> dict[str, Any]:
    """How far the probabilities can be relied on, at the test pixels of all scenes."""
    confidence = [sure[split.test] for (_, sure), split in zip(mapped, dataset.splits, strict=True)]
    correct = [
        (labels == split.labels)[split.test]
        for (labels, _), split in zip(mapped, dataset.splits, strict=True)
    ]
    sure, right = np.concatenate(confidence), np.concatenate(correct)
    return {
        "temperature": temperature,
        "expected_calibration_error": expected_calibration_error(sure, right),
        "coverage": coverage_curve(sure, right),
    }
