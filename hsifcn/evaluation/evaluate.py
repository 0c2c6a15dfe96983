"""Accuracy of a map, with intervals, and the area of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import MemoryCeilingError, MismatchError
from hsifcn.core.process import rss_bytes
from hsifcn.core.scene import LabelMap
from hsifcn.data.splits import Split, fields, leakage_sentence
from hsifcn.evaluation.areas import area_estimates
from hsifcn.evaluation.intervals import intervals_over_fields
from hsifcn.evaluation.metrics import Accuracy, confusion_matrix, parts
from hsifcn.io.crs import pixel_area

INTERVAL_NOTE = (
    "Intervals: 95 %, jackknife over fields (8-connected areas of one label), since pixels of one "
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
        The keys of ``metrics.Accuracy.as_dict``; ``intervals`` (of OA, AA and kappa, and by class,
        of recall, precision, F1 and IoU); ``areas`` (a class: ``mapped``, its share of the map;
        ``proportion``, its estimated share, with ``standard_error`` and ``interval``; and
        ``square_metres`` with ``square_metres_interval``, None without a projected CRS); ``split``;
        ``notes``.

    Raises
    ------
    MismatchError
        The sizes differ, the split is of other labels, two classes have the same name, or one has
        another number in the map than in the truth.
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
    _require_same_numbers(predicted.class_names, truth.class_names)
    if split is not None:
        _require_labels_of_split(labels, split)
    n_classes = max(truth.n_classes, predicted.n_classes)
    names = (truth if truth.n_classes == n_classes else predicted).class_names
    counted = labels if split is None else np.where(split.test, labels, 0)
    confusion = confusion_matrix(counted, predicted.labels, n_classes)
    n_train = None if split is None else split.n_train_per_class(n_classes)
    intervals = intervals_over_fields(
        counted, {"map": predicted.labels}, fields(labels), n_classes
    )["map"]
    intervals["per_class"] = dict(zip(names, intervals["per_class"], strict=True))
    areas, area_notes = _areas(
        confusion, _mapped_pixels(predicted.labels, n_classes), names, pixel_area(predicted.grid)
    )
    notes = [INTERVAL_NOTE, AREA_NOTE, *area_notes]
    if split is not None:
        notes.insert(0, f"Leakage: {leakage_sentence(split.leakage())}.")
    return {
        **Accuracy.from_confusion(confusion).as_dict(names, n_train),
        "intervals": intervals,
        "areas": areas,
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


def _require_same_numbers(mapped: tuple[str, ...], true: tuple[str, ...]) -> None:
    """Raise where a class of one name has two numbers; names that one of both lacks are no sign."""
    for name in mapped:
        if name in true and mapped.index(name) != true.index(name):
            raise MismatchError(
                f"class '{name}' is {mapped.index(name) + 1} in the map and "
                f"{true.index(name) + 1} in the labels",
                "number the classes alike, or name them with --class-names",
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


def _mapped_pixels(labels: npt.NDArray[np.integer[Any]], n_classes: int) -> npt.NDArray[np.int64]:
    """Pixels of the map (n_classes + 1,) of classes 1 to n, and last unclassified."""
    counts = np.zeros(n_classes + 1, np.int64)
    for part in parts(labels.size):
        counts += np.bincount(labels.reshape(-1)[part], minlength=n_classes + 1)
    return np.append(counts[1:], counts[0])


def _areas(
    confusion: npt.NDArray[np.int64],
    mapped: npt.NDArray[np.int64],
    names: tuple[str, ...],
    square_metres: float | None,
) -> tuple[dict[str, Any], list[str]]:
    """Area of each class, and what is to be said of how it was found.

    Unclassified pixels are mostly those without a measurement. Unless pixels that count lie among
    them they are not of the area that is shared out.
    """
    notes = []
    if mapped[-1] and not confusion[:, -1].any() and mapped[:-1].any():
        notes.append(
            f"Areas: without the {mapped[-1]:,} unclassified pixels of the map: no counted pixel "
            "is among them."
        )
        mapped = np.append(mapped[:-1], 0)
    found = area_estimates(confusion, mapped, square_metres)
    if found.joined:
        strata = [*names, "unclassified"]
        notes.append(
            f"Areas: {', '.join(strata[i] for i in found.joined)}, as mapped, are one stratum: "
            "one alone has fewer than two counted pixels. It supposes that all were sampled alike."
        )
    if np.isnan(found.proportion).any():
        notes.append("Areas: unknown from fewer than two counted pixels.")
    areas = {
        name: {
            "mapped": float(mapped[i] / mapped.sum()),
            "proportion": _known(found.proportion[i]),
            "standard_error": _known(found.standard_error[i]),
            "interval": _known_interval(found.interval[i]),
            "square_metres": None if found.area is None else _known(found.area[i]),
            "square_metres_interval": None
            if found.area_interval is None
            else _known_interval(found.area_interval[i]),
        }
        for i, name in enumerate(names)
    }
    return areas, notes


def _known(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _known_interval(bounds: npt.NDArray[np.float64]) -> list[float] | None:
    return None if np.isnan(bounds).any() else [float(bound) for bound in bounds]
