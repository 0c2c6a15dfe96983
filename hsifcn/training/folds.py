"""Cross-validation: every label is tested once, by a network that did not learn from it.

Units are held out whole: polygons and points of vector labels, else fields (8-connected areas of
one label). A class of fewer units than folds has its largest units cut across their longest axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import LabelMap
from hsifcn.data.dataset import Dataset, make_dataset
from hsifcn.data.split_recipes import distance_to, fields, take_validation
from hsifcn.data.splits import Split, SplitRecipe
from hsifcn.evaluation.record import (
    accuracy_record,
    calibration_record,
    interval_record,
    pooled_leakage,
)
from hsifcn.inference.predictor import Predictor
from hsifcn.models import default_spec, geometry
from hsifcn.training.settings import TrainOptions
from hsifcn.training.train import Trained, train

Labels = npt.NDArray[np.integer[Any]]
Numbers = npt.NDArray[np.int64]

GAP = 2  # training pixels lie farther than this from the test pixels of their fold, in pixels

Told = Callable[[int, int, float], None]
"""Called after each fold with its number, the number of folds, and its OA."""


def nobody(number: int, n_folds: int, oa: float) -> None:
    """Tell nobody."""


def fold_splits(
    labels: Sequence[LabelMap], n_folds: int, seed: int = 0, sources: Sequence[str] = ()
) -> list[tuple[Split, ...]]:
    """Divide labels into folds; each labelled pixel tests in one of them and trains in the others.

    Training pixels within `GAP` of a test pixel are left out of that fold, unless their class would
    be left without any.

    Parameters
    ----------
    labels : sequence of LabelMap
        One a scene, with the same classes.
    n_folds : int
        2 or more. Folds without a test pixel are left out.
    seed : int
    sources : sequence of str, optional
        Label file of each scene: features of one file are one unit in all its scenes.

    Returns
    -------
    list of tuple of Split
        A split a scene, for each fold.
    """
    folds = _fold_of_pixels(labels, n_folds, seed, sources)
    recipe = SplitRecipe("all")
    splits = []
    for number in range(n_folds):
        tests = [fold == number for fold in folds]
        if not any(test.any() for test in tests):
            continue
        of_fold = []
        for training, test, one in zip(_training(labels, tests), tests, labels, strict=True):
            validation = take_validation(one.labels.astype(np.uint16), training, recipe, seed)
            of_fold.append(
                Split(
                    one.labels.astype(np.uint16), training & ~validation, validation, test,
                    f"fold {number + 1} of {n_folds}", seed, (), one.class_names, one.codes,
                )
            )  # fmt: skip
        splits.append(tuple(of_fold))
    return splits


def _training(
    labels: Sequence[LabelMap], tests: Sequence[npt.NDArray[np.bool_]]
) -> list[npt.NDArray[np.bool_]]:
    """Labelled pixels that train where some test: all others beyond the gap."""
    rest = [(one.labels > 0) & ~test for one, test in zip(labels, tests, strict=True)]
    clear = [
        mask & (distance_to(test) > GAP) if test.any() else mask
        for mask, test in zip(rest, tests, strict=True)
    ]
    n_classes = labels[0].n_classes
    left = sum(
        np.bincount(one.labels[mask], minlength=n_classes + 1)
        for one, mask in zip(labels, clear, strict=True)
    )
    lost = np.flatnonzero(np.asarray(left) == 0)
    return [
        mask | (all_others & np.isin(one.labels, lost))
        for one, mask, all_others in zip(labels, clear, rest, strict=True)
    ]


def _fold_of_pixels(
    labels: Sequence[LabelMap], n_folds: int, seed: int, sources: Sequence[str]
) -> list[Numbers]:
    """Fold of each labelled pixel, from 0; -1 elsewhere."""
    places = [np.flatnonzero(one.labels) for one in labels]
    scene = np.concatenate([np.full(len(at), i) for i, at in enumerate(places)])
    flat = np.concatenate(places)
    classes = np.concatenate(
        [one.labels.ravel()[at] for one, at in zip(labels, places, strict=True)]
    ).astype(np.int64)
    units = np.concatenate(
        [unit.ravel()[at] for unit, at in zip(_units(labels, sources), places, strict=True)]
    )
    widths = np.array([one.labels.shape[1] for one in labels])[scene]
    rows, cols = flat // widths, flat % widths
    fold = np.full(len(flat), -1, np.int64)
    for label in np.unique(classes).tolist():
        own = np.flatnonzero(classes == label)
        parts = [own[units[own] == unit] for unit in np.unique(units[own])]
        while len(parts) < n_folds and max(map(len, parts)) > 1:
            largest = parts.pop(int(np.argmax([len(part) for part in parts])))
            parts += _cut(largest, scene, rows, cols)
        rng = np.random.default_rng([seed, label])
        parts = [parts[i] for i in rng.permutation(len(parts))]
        filled = np.zeros(n_folds, np.int64)
        order = rng.permutation(n_folds)  # else small classes would all test in the first folds
        for part in sorted(parts, key=len, reverse=True):
            emptiest = order[np.argmin(filled[order])]
            fold[part] = emptiest
            filled[emptiest] += len(part)
    found = []
    for i, (one, at) in enumerate(zip(labels, places, strict=True)):
        of_scene = np.full(one.labels.size, -1, np.int64)
        of_scene[at] = fold[scene == i]
        found.append(of_scene.reshape(one.labels.shape))
    return found


def _units(labels: Sequence[LabelMap], sources: Sequence[str]) -> list[Numbers]:
    """Number of the feature or field of each pixel, different in different files."""
    files = list(dict.fromkeys(sources))
    units = []
    for i, one in enumerate(labels):
        if one.features is not None:
            file = files.index(sources[i]) if files else i
            units.append(one.features.astype(np.int64) + (file << 32))
        else:
            units.append(fields(one.labels).astype(np.int64) + (i << 32))
    return units


def _cut(part: Numbers, scene: Numbers, rows: Numbers, cols: Numbers) -> list[Numbers]:
    """Cut a unit in two halves, across its longest axis; scene from scene where it has several."""
    points = np.stack([rows[part], cols[part]], axis=1).astype(np.float64)
    points -= points.mean(axis=0)
    _, axes = np.linalg.eigh(points.T @ points)
    along = points @ axes[:, -1]
    # Which of the two opposite directions is returned differs between machines.
    along *= np.sign(axes[np.abs(axes[:, -1]).argmax(), -1])
    order = part[np.lexsort((part, np.round(along, 6), scene[part]))]
    return [order[: len(order) // 2], order[len(order) // 2 :]]


def cross_validate(
    dataset: Dataset,
    n_folds: int,
    options: TrainOptions,
    *,
    sources: Sequence[str] = (),
    tell: Told = nobody,
) -> dict[str, Any]:
    """Train a network a fold and pool what they predict at the pixels that they did not learn.

    Parameters
    ----------
    dataset : Dataset
        All labels; its splits are not used.
    n_folds : int
    options : TrainOptions
    sources : sequence of str, optional
        Of `fold_splits`.
    tell : callable
        Called after each fold.

    Returns
    -------
    dict
        Keys of ``metrics.json`` that tell accuracy (``oa`` to ``calibration``), of all labelled
        pixels; ``leakage``; and ``folds``: ``n``, ``units``, ``gap_px`` and ``oa`` of each fold.
    """
    splits = fold_splits(dataset.labels, n_folds, options.seed, sources)
    pooled = [
        (np.zeros(scene.shape[:2], np.uint16), np.zeros(scene.shape[:2], np.float32))
        for scene in dataset.scenes
    ]
    oa = []
    temperature = 0.0
    for number, of_fold in enumerate(splits, start=1):
        part = make_dataset(dataset.scenes, dataset.labels, of_fold)
        trained = train(part.training_scenes(), options)
        temperature += trained.bundle.temperature / len(splits)
        test = partial(_test_fold, dataset, of_fold, trained, options, pooled)
        oa.append(options.ranks.once(test))
        tell(number, len(splits), oa[-1])
    measured = replace(dataset, splits=tuple(_all_test(split) for split in splits[0]))
    maps = [labels for labels, _ in pooled]
    spec = default_spec(options.model, len(trained.bundle.good_bands), dataset.n_classes)
    every = [split for of_fold in splits for split in of_fold]
    return {
        **accuracy_record(measured, maps),
        "intervals": interval_record(measured, maps),
        "calibration": calibration_record(measured, pooled, temperature),
        "leakage": pooled_leakage(every, geometry(spec).receptive_field),
        "folds": {
            "n": len(splits),
            "units": "features" if dataset.labels[0].features is not None else "fields",
            "gap_px": GAP,
            "oa": oa,
        },
    }


def _test_fold(
    dataset: Dataset,
    splits: Sequence[Split],
    trained: Trained,
    options: TrainOptions,
    pooled: Sequence[tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]],
) -> float:
    """Put what the network of a fold predicts at its test pixels into the pooled maps; gives OA."""
    # A network knows the classes that it was trained on, numbered without gaps.
    number = {name: i for i, name in enumerate(dataset.class_names, start=1)}
    table = np.array([0, *(number[name] for name in trained.bundle.class_names)], np.uint16)
    predictor = Predictor(trained.bundle, options.device)
    right = tested = 0
    for scene, split, (labels, confidence) in zip(dataset.scenes, splits, pooled, strict=True):
        if not split.test.any():
            continue
        found, sure = predictor.labels_and_confidence(scene, options.max_memory)
        labels[split.test] = table[found[split.test]]
        confidence[split.test] = sure[split.test]
        right += int((labels == split.labels)[split.test].sum())
        tested += split.n_test
    return right / tested


def _all_test(split: Split) -> Split:
    """All labels test."""
    nothing = np.zeros(split.labels.shape, bool)
    return replace(split, train=nothing, validation=nothing, test=split.labels > 0)
