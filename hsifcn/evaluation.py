"""Accuracy of a map, with intervals, and the area of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.errors import MemoryCeilingError, MismatchError
from hsifcn.intervals import area_estimates, bootstrap_over_fields
from hsifcn.measure import rss_bytes
from hsifcn.metrics import Accuracy, confusion_matrix, parts
from hsifcn.scene import LabelMap
from hsifcn.splits import Split, fields, leakage_sentence

INTERVAL_NOTE = (
    "Intervals: 95 %, bootstrap over fields (8-connected areas of one label), since pixels of one "
    "field are not independent."
)
AREA_NOTE = (
    "Areas: stratified estimator of Olofsson et al. (2014), valid only where the counted pixels "
    "are a probability sample of the map; labelled fields seldom are."
)


BYTES_PER_PIXEL = 16  # numbers of fields, twice while they are found; masks; test labels apart


def evaluate(
    predicted: LabelMap,
    truth: LabelMap,
    split: Split | None = None,
    max_memory: int | None = None,
) -> dict[str, Any]:
    """Measure a label map.

    Parameters
    ----------
    predicted, truth : LabelMap
        Of the same size; 0 is unclassified in the map and left out of the truth.
    split : Split, optional
        Count its test pixels only.
    max_memory : int, optional
        Ceiling on the process's resident memory, bytes.

    Returns
    -------
    dict
        The keys of ``metrics.Accuracy.as_dict``, ``intervals`` (of OA, AA, kappa), ``areas`` (a
        class: share of the map, estimated share, interval), ``split``, ``notes``.

    Raises
    ------
    MismatchError
        The sizes differ, the split is of other labels, or two classes have the same name.
    MemoryCeilingError
        Fields, which may reach anywhere, cannot be told apart within ``max_memory``.
    """
    _require_memory(truth.labels.size, max_memory)
    labels = truth.labels
    if predicted.labels.shape != labels.shape:
        raise MismatchError(
            f"the map is {predicted.labels.shape} pixels and the labels are {labels.shape}",
            "evaluate a map of the labelled scene",
        )
    if split is not None:
        _require_labels_of_split(labels, split)
    n_classes = max(truth.n_classes, predicted.n_classes)
    names = (truth if truth.n_classes == n_classes else predicted).class_names
    counted = labels if split is None else np.where(split.test, labels, 0)
    confusion = confusion_matrix(counted, predicted.labels, n_classes)
    n_train = None if split is None else split.n_train_per_class(n_classes)
    intervals = bootstrap_over_fields(
        counted, {"map": predicted.labels}, fields(labels), n_classes
    )["map"]
    mapped = np.zeros(n_classes + 1, np.int64)
    for part in parts(predicted.labels.size):
        mapped += np.bincount(predicted.labels.reshape(-1)[part], minlength=n_classes + 1)
    notes = [INTERVAL_NOTE, AREA_NOTE]
    if split is not None:
        notes.insert(0, f"Leakage: {leakage_sentence(split.leakage())}.")
    return {
        **Accuracy.from_confusion(confusion).as_dict(names, n_train),
        "intervals": intervals,
        "areas": _areas(confusion, np.append(mapped[1:], mapped[0]), names),
        "split": None if split is None else _split_record(split),
        "notes": notes,
    }


def _require_memory(pixels: int, ceiling: int | None) -> None:
    needed = rss_bytes() + pixels * BYTES_PER_PIXEL
    if ceiling is not None and needed > ceiling:
        raise MemoryCeilingError(
            f"{pixels:,} labels cannot be evaluated within the memory given",
            f"it takes --max-memory {-(-needed // 10**6)}M",
        )


def _split_record(split: Split) -> dict[str, Any]:
    return {
        "recipe": split.recipe,
        "seed": split.seed,
        "digest": split.digest,
        "leakage": split.leakage(),
    }


def _require_labels_of_split(labels: npt.NDArray[np.integer[Any]], split: Split) -> None:
    if split.labels.shape != labels.shape:
        raise MismatchError(
            f"the split is {split.labels.shape} pixels and the labels are {labels.shape}",
            "give the labels that the split was made of",
        )
    other = int((labels != split.labels)[split.test].sum())
    if other:
        raise MismatchError(
            f"{other} of {split.n_test} test pixels of the split have another label",
            "give the labels that the split was made of",
        )


def _areas(confusion: Any, mapped: Any, names: tuple[str, ...]) -> dict[str, Any]:
    estimates = area_estimates(confusion, mapped)

    def known(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return {
        name: {
            "mapped": float(mapped[i] / mapped.sum()),
            "proportion": known(estimates.proportion[i]),
            "interval": None
            if np.isnan(estimates.interval[i]).any()
            else [float(bound) for bound in estimates.interval[i]],
        }
        for i, name in enumerate(names)
    }
