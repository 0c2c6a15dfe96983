"""Which labelled pixels train, which validate and which test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import LabelError, SplitError
from hsifcn.core.scene import LabelMap, codes_table, default_class_name
from hsifcn.data.split import (
    Split,
    leakage_sentence,
    read_split,
    split_path,
    thin_split,
    write_split,
)
from hsifcn.data.split_presets import divide_dase
from hsifcn.data.split_recipes import (
    Units,
    divide,
    divide_features,
    divide_scenes,
    fields,
    take_validation,
)
from hsifcn.data.split_specs import DEFAULT_VALIDATION, SplitRecipe, parse_split

__all__ = [
    "DEFAULT_VALIDATION",
    "Split",
    "SplitRecipe",
    "fields",
    "leakage_sentence",
    "make_split",
    "make_splits",
    "parse_split",
    "read_split",
    "split_path",
    "thin_split",
    "write_split",
]

AnyLabels = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]


def make_split(
    labels: AnyLabels | LabelMap,
    spec: str | SplitRecipe = "random:0.1",
    *,
    seed: int = 0,
    fixed: tuple[AnyLabels, AnyLabels] | None = None,
) -> Split:
    """Divide the labelled pixels of one scene into training, validation and test pixels.

    What each recipe does is told at the head of `hsifcn.data.split_recipes`.

    Parameters
    ----------
    labels : ndarray, (rows, cols), integer, or LabelMap
        0 = unlabelled. ``features`` needs a LabelMap of polygons or points.
    spec : str or SplitRecipe
        As of `parse_split`.
    seed : int
        Seed of everything that is drawn, 0 or more.
    fixed : pair of ndarray, (rows, cols), integer
        Training and test labels of a ``fixed`` split; of ``dase`` the first is used. Pixels of
        ``labels`` that neither of them labels take no part, but belong to the fields that the
        leakage is told of.

    Raises
    ------
    SplitError
        A specification that cannot be understood, or no training or no test pixels.
    LabelError
        Labels that are not two-dimensional integers from 0 to 65535.
    """
    pairs = None if fixed is None else [fixed]
    return make_splits([labels], spec, seed=seed, fixed=pairs)[0]


def make_splits(
    labels: Sequence[AnyLabels | LabelMap],
    spec: str | SplitRecipe,
    *,
    seed: int = 0,
    fixed: Sequence[tuple[AnyLabels, AnyLabels]] | None = None,
    sources: Sequence[str] = (),
) -> tuple[Split, ...]:
    """Divide the labelled pixels of several scenes, whose classes are numbered alike.

    Parameters
    ----------
    labels : sequence of ndarray or LabelMap
        One a scene.
    spec, seed, fixed
        As of `make_split`; ``fixed`` has a pair a scene.
    sources : sequence of str, optional
        Label file of each scene. A feature of one file is drawn once for all its scenes.

    Raises
    ------
    SplitError, LabelError
        As `make_split`; or labels that are not those of the split's file.
    """
    recipe = parse_split(spec) if isinstance(spec, str) else spec
    if seed < 0:
        raise SplitError(f"seed {seed} is negative", "give 0 or more")
    arrays = [_checked(part.labels if isinstance(part, LabelMap) else part) for part in labels]
    first = labels[0]
    names, codes = (first.class_names, first.codes) if isinstance(first, LabelMap) else ((), ())
    if recipe.kind == "file":
        return _from_files(arrays, recipe, names, codes, seed)
    units = _units(labels, sources, recipe) if recipe.kind == "features" else []
    splits = []
    for part, training, test in _training_and_test(arrays, recipe, seed, fixed, units):
        validation = take_validation(part, training, recipe, seed)
        train = training & ~validation
        splits.append(
            Split(part, train, validation, test, str(recipe), seed, (), tuple(names), tuple(codes))
        )
    _require_pixels(splits, recipe)
    told = _warnings(splits, recipe)
    if fixed is not None:
        for part, pair in zip(arrays, fixed, strict=True):
            told += _contradictions(part, recipe, pair)
    if units:
        told += _cut_features(splits, units)
    splits[0] = replace(splits[0], warnings=told)
    return tuple(splits)


def _training_and_test(
    arrays: Sequence[npt.NDArray[np.uint16]],
    recipe: SplitRecipe,
    seed: int,
    fixed: Sequence[tuple[AnyLabels, AnyLabels]] | None,
    units: Sequence[Units],
) -> list[tuple[npt.NDArray[np.uint16], Mask, Mask]]:
    """Labels, pixels that training may use (validation too), and test pixels of each scene.

    A pixel is never both. ``units`` are the features of the scenes, where features are drawn.
    """
    if recipe.kind == "fixed":
        if fixed is None:
            raise SplitError(f"split {recipe} needs its two label rasters", "read and pass them")
        return [_fixed(part, recipe, pair) for part, pair in zip(arrays, fixed, strict=True)]
    if recipe.kind == "dase":
        if fixed is None:
            raise SplitError(f"split {recipe} needs its training labels", "read and pass them")
        return [
            (part, *divide_dase(part, published))
            for part, (published, _) in zip(arrays, fixed, strict=True)
        ]
    if not any(part.any() for part in arrays):
        raise SplitError("there are no labelled pixels to split", "give labels other than 0")
    if recipe.kind == "scenes":
        tests = divide_scenes(arrays, recipe, seed)
        return [
            (part, (part > 0) & (not is_test), (part > 0) & is_test)
            for part, is_test in zip(arrays, tests, strict=True)
        ]
    if recipe.kind == "features":
        masks = divide_features(arrays, units, recipe, seed)
        return [(part, *both) for part, both in zip(arrays, masks, strict=True)]
    return [(part, *divide(part, recipe, seed)) for part in arrays]


def _require_pixels(splits: Sequence[Split], recipe: SplitRecipe) -> None:
    """Raise where nothing trains, or nothing tests though the recipe wants it to."""
    wanted = [("training", sum(split.n_train for split in splits))]
    if recipe.kind != "all":
        wanted.append(("test", sum(split.n_test for split in splits)))
    for name, count in wanted:
        if not count:
            raise SplitError(
                f"split {recipe} leaves no {name} pixels",
                "take another share, smaller blocks or a smaller gap, or all to train on all",
            )


def _units(
    labels: Sequence[AnyLabels | LabelMap], sources: Sequence[str], recipe: SplitRecipe
) -> list[Units]:
    """Number of the feature of each pixel, different in different files."""
    files = list(dict.fromkeys(sources)) if sources else []
    units = []
    for i, part in enumerate(labels):
        if not isinstance(part, LabelMap) or part.features is None:
            raise SplitError(
                f"split {recipe} needs labels that are polygons or points",
                "take fields:0.2:gap=2 for a label raster",
            )
        file = files.index(sources[i]) if files else i
        units.append(part.features.astype(np.int64) + (file << 32))
    return units


def _cut_features(splits: Sequence[Split], units: Sequence[Units]) -> tuple[str, ...]:
    """Say which features both train and test."""
    found = []
    for label in range(1, max(int(split.labels.max()) for split in splits) + 1):
        sides = [
            np.concatenate(
                [
                    own[mask & (split.labels == label)]
                    for split, own in zip(splits, units, strict=True)
                    for mask in ([split.test] if test else [split.train, split.validation])
                ]
            )
            for test in (False, True)
        ]
        if np.isin(sides[0], sides[1]).any():
            found.append(
                f"{_name(splits, label)} has one feature only: it is cut, one part trains and the "
                "other tests"
            )
    return tuple(found)


def _fixed(
    whole: npt.NDArray[np.uint16],
    recipe: SplitRecipe,
    fixed: tuple[AnyLabels, AnyLabels],
) -> tuple[npt.NDArray[np.uint16], Mask, Mask]:
    """Labels, training and test pixels of two label rasters."""
    train_labels, test_labels = _checked(fixed[0]), _checked(fixed[1])
    paths = (recipe.train_path, recipe.test_path)
    for path, given in zip(paths, (train_labels, test_labels), strict=True):
        if given.shape != whole.shape:
            raise SplitError(
                f"{path} has {given.shape} pixels, the scene {whole.shape}",
                "give labels of its size",
            )
    both = (train_labels > 0) & (test_labels > 0)
    if both.any():
        unlike = int((train_labels != test_labels)[both].sum())
        raise SplitError(
            f"{recipe.train_path} and {recipe.test_path} share {int(both.sum())} labelled pixels, "
            f"{unlike} of them with different labels",
            "label every pixel in one of the two at most",
        )
    given = train_labels + test_labels
    return np.where(given > 0, given, whole), train_labels > 0, test_labels > 0


def _contradictions(
    whole: npt.NDArray[np.uint16], recipe: SplitRecipe, fixed: tuple[AnyLabels, AnyLabels]
) -> tuple[str, ...]:
    """Say how the files of a split contradict the labels of the scene, if it has some.

    Those of ``dase`` number the classes otherwise.
    """
    found = []
    paths = [path for path in (recipe.train_path, recipe.test_path) if path]
    for path, labels in zip(paths, fixed, strict=False):
        n = int((labels > 0).sum())
        other = int(((labels > 0) & (whole > 0) & (labels != whole)).sum())
        alone = int(((labels > 0) & (whole == 0)).sum())
        if other and recipe.kind == "fixed":
            found.append(
                f"{path} labels {other:,} of its {n:,} pixels otherwise than the labels of the "
                "scene"
            )
        if alone and whole.any():
            found.append(
                f"{path} labels {alone:,} of its {n:,} pixels that are unlabelled in the labels of "
                "the scene"
            )
    return tuple(found)


def _from_files(
    labels: Sequence[npt.NDArray[np.uint16]],
    recipe: SplitRecipe,
    names: Sequence[str],
    codes: Sequence[int],
    seed: int,
) -> tuple[Split, ...]:
    """The splits of a file, and of those beside it where there are several scenes.

    Pixels that had no label when the split was made, and have one now, train.
    """
    splits = []
    n_new = 0
    for number, part in enumerate(labels, start=1):
        path = split_path(Path(recipe.path), number)
        found = read_split(path)
        used = found.train | found.validation | found.test
        if used.shape != part.shape:
            raise SplitError(
                f"{path} is of {used.shape} pixels, the labels are {part.shape}",
                "give the labels that the split was made of",
            )
        table = codes_table(tuple(codes) or tuple(range(1, int(part.max()) + 1)))
        theirs = codes_table(found.class_codes or tuple(range(1, int(found.labels.max()) + 1)))
        other = int((table[part] != theirs[found.labels])[used].sum())
        if other:
            raise SplitError(
                f"{other} of {int(used.sum())} pixels of {path} have another label",
                "give the labels that the split was made of",
            )
        new = (part > 0) & (found.labels == 0)
        n_new += int(new.sum())
        found = replace(found, labels=part, class_names=tuple(names), class_codes=tuple(codes))
        splits.append(replace(found, train=found.train | new))
    if recipe.val != DEFAULT_VALIDATION:
        splits = [_with_validation(split, recipe, seed) for split in splits]
    told = _warnings(splits, recipe)
    if n_new:
        told += (f"{n_new:,} labelled pixels are new since {recipe.path} was made: they train",)
    splits[0] = replace(splits[0], warnings=told)
    return tuple(splits)


def _with_validation(split: Split, recipe: SplitRecipe, seed: int) -> Split:
    """The same split with another share of its training pixels kept for validation."""
    training = split.train | split.validation
    validation = take_validation(split.labels, training, recipe, seed)
    name = f"{split.recipe.partition(':val=')[0]}:val={recipe.val}"
    return replace(split, train=training & ~validation, validation=validation, recipe=name)


def _name(splits: Sequence[Split], label: int) -> str:
    names = splits[0].class_names
    return names[label - 1] if label <= len(names) else default_class_name(label)


def _warnings(splits: Sequence[Split], recipe: SplitRecipe) -> tuple[str, ...]:
    """Say which classes cannot be learnt or cannot be measured."""
    n_labels = max(int(split.labels.max()) for split in splits) + 1

    def count(masks: Sequence[Mask]) -> npt.NDArray[np.int64]:
        pairs = zip(splits, masks, strict=True)
        counts = [np.bincount(split.labels[mask], minlength=n_labels) for split, mask in pairs]
        return np.asarray(np.sum(counts, axis=0), np.int64)

    n_train = count([split.train | split.validation for split in splits])
    n_test = count([split.test for split in splits])
    n = count([split.labels > 0 for split in splits])
    found = []
    for label in np.flatnonzero(n_train + n_test).tolist():
        if n_train[label] == 0:
            found.append(
                f"{_name(splits, label)} has no training pixels ({n[label]} labelled): it is not "
                f"mapped, and its {n_test[label]} test pixels count as errors"
            )
        if n_test[label] == 0 and recipe.kind != "all":
            found.append(f"{_name(splits, label)} has no test pixels ({n[label]} labelled)")
    lost = [label for label in np.flatnonzero(n).tolist() if n_train[label] + n_test[label] == 0]
    if recipe.kind != "fixed":
        found += [
            f"{_name(splits, label)} has neither training nor test pixels ({n[label]} labelled)"
            for label in lost
        ]
    return tuple(found)


def _checked(labels: AnyLabels) -> npt.NDArray[np.uint16]:
    """Labels as uint16, refused where they are no label map."""
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise LabelError(
            f"labels of shape {labels.shape} and type {labels.dtype} are no label map",
            "give a two-dimensional raster of integers",
        )
    if labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.uint16).max):
        raise LabelError(
            f"labels run from {labels.min()} to {labels.max()}", "number classes from 1 to 65535"
        )
    return labels.astype(np.uint16)
