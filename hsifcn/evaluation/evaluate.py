"""Accuracy of a map, with intervals, and the area of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import MemoryCeilingError, MismatchError
from hsifcn.core.process import rss_bytes
from hsifcn.core.scene import LabelMap, default_class_name, default_colours
from hsifcn.data.classes import keep_classes, unite_classes
from hsifcn.data.splits import Split, fields, leakage_sentence
from hsifcn.evaluation.areas import area_estimates
from hsifcn.evaluation.intervals import intervals_over_fields, paired_difference
from hsifcn.evaluation.metrics import Accuracy, confusion_matrix, parts
from hsifcn.io.crs import pixel_area

INTERVAL_NOTE = (
    "Intervals: 95 %, jackknife over fields (8-connected areas of one label), since pixels of one "
    "field are not independent."
)
USE = (
    "These figures hold for the labelled pixels. Areas and the accuracy of the whole map need a "
    "probability sample, which labelled fields seldom are: draw one with 'hsifcn sample'."
)
AREA_NOTE = (
    "Areas: stratified estimator of Olofsson et al. (2014), as if the counted pixels were a "
    "probability sample of the map."
)


BYTES_PER_PIXEL = 16  # numbers of fields, twice while they are found; masks; test labels apart


def evaluate(
    predicted: LabelMap,
    truth: LabelMap,
    split: Split | None = None,
    max_memory: int | None = None,
    other: LabelMap | None = None,
    *,
    names: tuple[str, ...] = ("the map", "the labels", "the split", "the second map"),
) -> dict[str, Any]:
    """Measure a label map.

    Parameters
    ----------
    predicted, truth : LabelMap
        Of the same size; 0 is unclassified in the map and left out of the truth. Classes are
        matched by name, or by code where one of both has no names.
    split : Split, optional
        Count its test pixels only.
    max_memory : int, optional
        Ceiling on the process's resident memory, bytes.
    other : LabelMap, optional
        A second map of the same pixels, to be compared at the same labels.
    names : tuple of str
        What messages call map, labels, split and second map.

    Returns
    -------
    dict
        The keys of ``metrics.Accuracy.as_dict``, of the classes that occur in map or truth;
        ``class_codes``; ``oa_area_weighted`` (OA as if each class had been sampled as large as it
        is on the map) with ``oa_area_weighted_interval``; ``intervals`` (of OA, AA and kappa, and
        by class, of recall, precision, F1 and IoU); ``areas`` (a class: ``mapped``, its share of
        the map; ``proportion``, its estimated share, with ``standard_error`` and ``interval``, None
        where it would have no width; and ``square_metres`` with ``square_metres_interval``, None
        without a projected CRS); ``difference`` (of ``intervals.paired_difference``); ``split``;
        ``use``, what the figures may be used for; ``notes``.

    Raises
    ------
    MismatchError
        The sizes differ, or the split is of other labels.
    LabelError
        Two classes have the same name.
    MemoryCeilingError
        Fields, which may reach anywhere, cannot be told apart within ``max_memory``.
    """
    _require_memory(truth.labels.size, max_memory)
    _require_same_size(predicted, truth, split, other)
    alike = _count_alike(predicted, truth, split, other, names)
    class_names = alike.truth.class_names
    confusion = confusion_matrix(alike.counted, alike.predicted.labels, alike.truth.n_classes)
    intervals, difference = _intervals(alike)
    areas = _areas(confusion, alike)
    notes = [INTERVAL_NOTE, AREA_NOTE, *areas.pop("notes"), *_notes_on_labels(alike)]
    if split is not None:
        notes.insert(0, f"Leakage: {leakage_sentence(split.leakage())}.")
    return {
        "use": USE,
        **Accuracy.from_confusion(confusion).as_dict(class_names, alike.n_train),
        "class_codes": list(alike.truth.codes),
        **areas,
        "intervals": intervals,
        "difference": difference,
        "split": None if split is None else _split_record(split),
        "notes": notes,
    }


def _require_same_size(
    predicted: LabelMap, truth: LabelMap, split: Split | None, other: LabelMap | None
) -> None:
    """Raise where split or maps are of other pixels than the labels."""
    shape = truth.labels.shape
    if split is not None and split.labels.shape != shape:
        raise MismatchError(
            f"the split is {split.labels.shape} pixels and the labels are {shape}",
            "give the labels that the split was made of",
        )
    if predicted.labels.shape != shape:
        raise MismatchError(
            f"the map is {predicted.labels.shape} pixels and the labels are {shape}",
            "evaluate a map of the labelled scene",
        )
    if other is not None and other.labels.shape != shape:
        raise MismatchError(
            f"the second map is {other.labels.shape} pixels and the labels are {shape}",
            "compare maps of the same pixels",
        )


@dataclass(frozen=True, eq=False)
class _Alike:
    """Maps and labels of the same pixels, counted by the same classes.

    Attributes
    ----------
    predicted, truth : LabelMap
    other : LabelMap or None
        The second map.
    counted : ndarray, (rows, cols), integer
        The labels that count; 0 elsewhere.
    n_train : list of int or None
        Training pixels a class, where there is a split.
    """

    predicted: LabelMap
    truth: LabelMap
    other: LabelMap | None
    counted: npt.NDArray[np.integer[Any]]
    n_train: list[int] | None


def _count_alike(
    predicted: LabelMap,
    truth: LabelMap,
    split: Split | None,
    other: LabelMap | None,
    names: tuple[str, ...],
) -> _Alike:
    """Count everything by the classes that occur in any; ``names`` are those of ``evaluate``."""
    maps, called = [predicted, truth], list(names[:2])
    if split is not None:
        maps.append(_as_label_map(split, truth))
        called.append(names[2])
    if other is not None:
        maps.append(other)
        called.append(names[3])
    predicted, truth, *others = _with_common_classes(maps, tuple(called))
    second = others[-1] if other is not None else None
    if split is None:
        return _Alike(predicted, truth, second, truth.labels, None)
    of_split = others[0].labels
    _require_labels_of_split(truth.labels, of_split, split)
    n_train = np.bincount(of_split[split.train], minlength=truth.n_classes + 1)[1:].tolist()
    counted = np.where(split.test, truth.labels, 0)
    return _Alike(predicted, truth, second, counted, n_train)


def _intervals(alike: _Alike) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Intervals over fields of the map, and of its difference to the second one."""
    numbers, n_classes = fields(alike.truth.labels), alike.truth.n_classes
    labels = alike.predicted.labels
    intervals = intervals_over_fields(alike.counted, {"map": labels}, numbers, n_classes)["map"]
    rows = zip(alike.truth.class_names, intervals["per_class"], strict=True)
    intervals["per_class"] = dict(rows)
    if alike.other is None:
        return intervals, None
    both = (labels, alike.other.labels)
    return intervals, paired_difference(alike.counted, *both, numbers, n_classes)


def _as_label_map(split: Split, truth: LabelMap) -> LabelMap:
    """The labels that a split was made of, with classes called as in the truth where unnamed."""
    known = dict(zip(truth.codes, truth.class_names, strict=True))
    codes = split.class_codes or tuple(range(1, int(split.labels.max()) + 1))
    names = split.class_names or tuple(known.get(c) or default_class_name(c) for c in codes)
    return LabelMap(split.labels, names, default_colours(len(codes)), codes=codes)


def _with_common_classes(maps: list[LabelMap], names: tuple[str, ...]) -> list[LabelMap]:
    """Map, truth and labels of the split, counted alike by the classes that occur in any."""
    united = unite_classes(maps, names[: len(maps)], same_code_is_same=True)
    n_classes = united[0].n_classes
    counts = sum(np.bincount(one.labels.ravel(), minlength=n_classes + 1) for one in united)
    present = (np.flatnonzero(np.asarray(counts)[1:]) + 1).tolist()
    return [keep_classes(one, present) for one in united]


def _notes_on_labels(alike: _Alike) -> list[str]:
    """Say that 0 does not count where the labels have one class only."""
    classes = np.unique(alike.counted[alike.counted > 0])
    if len(classes) != 1:
        return []
    name = alike.predicted.class_names[int(classes[0]) - 1]
    return [
        f"The labels hold one class only, {name}: 0 is unlabelled and counts nowhere, so nothing "
        "is said of pixels that are wrongly mapped as it. If 0 is a class, number it from 1."
    ]


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


def _require_labels_of_split(
    labels: npt.NDArray[np.integer[Any]], of_split: npt.NDArray[np.integer[Any]], split: Split
) -> None:
    """Raise where test pixels of a split have other labels."""
    other = int((labels != of_split)[split.test].sum())
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


def _areas(confusion: npt.NDArray[np.int64], alike: _Alike) -> dict[str, Any]:
    """Area of each class, accuracy weighted by area, and notes on how they were found.

    Unclassified pixels are mostly those without a measurement. Unless pixels that count lie among
    them they are not of the area that is shared out.
    """
    names = alike.truth.class_names
    mapped = _mapped_pixels(alike.predicted.labels, alike.truth.n_classes)
    notes = []
    if mapped[-1] and not confusion[:, -1].any() and mapped[:-1].any():
        notes.append(
            f"Areas: without the {mapped[-1]:,} unclassified pixels of the map: no counted pixel "
            "is among them."
        )
        mapped = np.append(mapped[:-1], 0)
    found = area_estimates(confusion, mapped, pixel_area(alike.predicted.grid))
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
    return {
        "oa_area_weighted": _known(found.accuracy),
        "oa_area_weighted_interval": _known_interval(found.accuracy_interval),
        "areas": areas,
        "notes": notes,
    }


def _known(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _known_interval(bounds: npt.NDArray[np.float64]) -> list[float] | None:
    return None if np.isnan(bounds).any() else [float(bound) for bound in bounds]
