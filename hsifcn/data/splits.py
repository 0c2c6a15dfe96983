"""Which labelled pixels train, which validate and which test, and how much leaks between them.

Neighbouring pixels are nearly copies of each other. A random split puts such copies on both sides
and rewards memorising; splits by blocks or fields with a gap do not. Every `Split` can therefore
tell its leakage: how near its test pixels lie to pixels that were trained on.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import (
    LabelError,
    SplitError,
    UnreadableFileError,
)
from hsifcn.data.split_recipes import (
    DEFAULT_VALIDATION,
    SplitRecipe,
    distance_to,
    divide,
    fields,
    parse_split,
    take_validation,
)
from hsifcn.io.files import atomic_write

__all__ = [
    "DEFAULT_VALIDATION",
    "Split",
    "SplitRecipe",
    "fields",
    "leakage_sentence",
    "make_split",
    "parse_split",
]

LEAKAGE_DISTANCES = (1, 2, 4, 7, 16)  # px

AnyLabels = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of labelled pixels.

    Attributes
    ----------
    labels : ndarray, (rows, cols), uint16
        The labels that the split was made of, 0 = unlabelled.
    train, validation, test : ndarray, (rows, cols), bool
        Pixels that train, that choose the model, and that measure it.
    recipe : str
        Canonical text of the specification.
    seed : int
        Seed that it was drawn with.
    warnings : tuple of str
        Classes without training or without test pixels.

    Raises
    ------
    SplitError
        Masks that overlap, lie on unlabelled pixels or have other sizes than the labels; no
        training or no test pixels.
    """

    labels: npt.NDArray[np.uint16]
    train: Mask
    validation: Mask
    test: Mask
    recipe: str
    seed: int
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        masks = (self.train, self.validation, self.test)
        if any(mask.shape != self.labels.shape for mask in masks):
            raise SplitError(f"the masks of split {self.recipe} have another size than its labels")
        memberships = np.sum(masks, axis=0)
        if memberships.max(initial=0) > 1 or (memberships > (self.labels > 0)).any():
            raise SplitError(f"split {self.recipe} uses a pixel twice, or one without a label")
        for name, mask in (("training", self.train), ("test", self.test)):
            if not mask.any():
                raise SplitError(
                    f"split {self.recipe} leaves no {name} pixels",
                    "take another share of training pixels, smaller blocks or a smaller gap",
                )

    @property
    def n_train(self) -> int:
        """Number of training pixels, without validation."""
        return int(self.train.sum())

    @property
    def n_validation(self) -> int:
        """Number of validation pixels."""
        return int(self.validation.sum())

    @property
    def n_test(self) -> int:
        """Number of test pixels."""
        return int(self.test.sum())

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of shape, labels and masks; recipe and seed do not."""
        roles = self.train + 2 * self.validation.astype(np.uint8) + 3 * self.test.astype(np.uint8)
        content = hashlib.sha256(repr(tuple(map(int, self.labels.shape))).encode())
        content.update(self.labels.astype("<u2").tobytes())
        content.update(roles.astype(np.uint8).tobytes())
        return content.hexdigest()[:16]

    def n_train_per_class(self, n_classes: int) -> list[int]:
        """Count training pixels, without validation, of classes 1 to ``n_classes``."""
        counts = np.bincount(self.labels[self.train], minlength=n_classes + 1)
        return [int(count) for count in counts[1 : n_classes + 1]]

    def leakage(self, receptive_field: int | None = None) -> dict[str, Any]:
        """How near the test pixels lie to training and validation pixels.

        Parameters
        ----------
        receptive_field : int, optional
            Receptive field of a model in pixels; None where there is no model, or where it sees
            the whole scene.

        Returns
        -------
        dict
            ``test_touching``: share of the test pixels that have a training or validation pixel
            among their 8 neighbours. ``test_within``: shares with one within so many pixels,
            Chebyshev distance, by distance as text; with ``receptive_field`` also under that key,
            within what the model sees round a pixel. ``test_in_shared_fields``: share that lies in
            a field with training or validation pixels. ``receptive_field_px``: as given.
        """
        seen = self.train | self.validation
        distances = distance_to(seen)[self.test]
        within = {str(reach): float((distances <= reach).mean()) for reach in LEAKAGE_DISTANCES}
        if receptive_field is not None:
            reach = (receptive_field - 1) // 2
            within["receptive_field"] = float((distances <= reach).mean())
        numbers = fields(self.labels)
        shared = np.isin(numbers[self.test], np.unique(numbers[seen]))
        return {
            "test_touching": within["1"],
            "test_within": within,
            "test_in_shared_fields": float(shared.mean()),
            "receptive_field_px": receptive_field,
        }


def leakage_sentence(leakage: dict[str, Any]) -> str:
    """Say what `Split.leakage` found, for a footnote; without a full stop."""
    return (
        f"{100 * leakage['test_touching']:.1f} % of the test pixels touch a training pixel, "
        f"{100 * leakage['test_within']['4']:.1f} % lie within 4 px of one, "
        f"{100 * leakage['test_in_shared_fields']:.1f} % lie in a field with training pixels"
    )


def make_split(
    labels: AnyLabels,
    spec: str | SplitRecipe = "random:0.1",
    *,
    seed: int = 0,
    fixed: tuple[AnyLabels, AnyLabels] | None = None,
) -> Split:
    """Divide labelled pixels into training, validation and test pixels.

    What each recipe does is told at the head of `hsifcn.split_recipes`.

    Parameters
    ----------
    labels : ndarray, (rows, cols), integer
        0 = unlabelled.
    spec : str or SplitRecipe
        As of `parse_split`.
    seed : int
        Seed of everything that is drawn, 0 or more.
    fixed : pair of ndarray, (rows, cols), integer
        Training and test labels of a ``fixed`` split; they take the place of ``labels``.

    Raises
    ------
    SplitError
        A specification that cannot be understood, or no training or no test pixels.
    LabelError
        Labels that are not two-dimensional integers from 0 to 65535.
    """
    recipe = parse_split(spec) if isinstance(spec, str) else spec
    if seed < 0:
        raise SplitError(f"seed {seed} is negative", "give 0 or more")
    used = _checked(labels)
    if recipe.kind == "fixed":
        used, training, test = _fixed(used.shape, recipe, fixed)
    elif not used.any():
        raise SplitError("there are no labelled pixels to split", "give labels other than 0")
    else:
        training, test = divide(used, recipe, seed)
    validation = take_validation(used, training, recipe, seed)
    return Split(
        labels=used,
        train=training & ~validation,
        validation=validation,
        test=test,
        recipe=str(recipe),
        seed=seed,
        warnings=_warnings(used, training, test),
    )


def _fixed(
    shape: tuple[int, ...], recipe: SplitRecipe, fixed: tuple[AnyLabels, AnyLabels] | None
) -> tuple[npt.NDArray[np.uint16], Mask, Mask]:
    if fixed is None:
        raise SplitError(f"split {recipe} needs its two label rasters", "read and pass them")
    train_labels, test_labels = _checked(fixed[0]), _checked(fixed[1])
    paths = (recipe.train_path, recipe.test_path)
    for path, given in zip(paths, (train_labels, test_labels), strict=True):
        if given.shape != shape:
            raise SplitError(
                f"{path} has {given.shape} pixels, the scene {shape}", "give labels of its size"
            )
    both = (train_labels > 0) & (test_labels > 0)
    if both.any():
        raise SplitError(
            f"{recipe.train_path} and {recipe.test_path} share {int(both.sum())} labelled pixels",
            "label every pixel in one of the two at most",
        )
    return train_labels + test_labels, train_labels > 0, test_labels > 0


def _warnings(labels: npt.NDArray[np.uint16], training: Mask, test: Mask) -> tuple[str, ...]:
    """Say which classes cannot be learnt or cannot be measured."""
    n, n_train, n_test = (
        np.bincount(labels[mask], minlength=int(labels.max()) + 1)
        for mask in (labels > 0, training, test)
    )
    found = []
    for label in np.flatnonzero(n).tolist():
        if n_train[label] == 0:
            errors = (
                f", and its {n_test[label]} test pixels count as errors" if n_test[label] else ""
            )
            found.append(
                f"class {label} has no training pixels ({n[label]} labelled): it is not mapped"
                + errors
            )
        if n_test[label] == 0:
            found.append(f"class {label} has no test pixels ({n[label]} labelled)")
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


def write_split(path: Path, split: Split, *, overwrite: bool) -> None:
    """Write the masks, labels and recipe of a split as ``.npz``."""
    with atomic_write(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            train=split.train,
            validation=split.validation,
            test=split.test,
            labels=split.labels,
            recipe=np.array(split.recipe),
            seed=np.array(split.seed),
        )


def read_split(path: Path) -> Split:
    """Read a split that ``write_split`` wrote.

    Raises
    ------
    UnreadableFileError
        It is missing, damaged or no split.
    SplitError
        Its masks contradict each other.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Split(
                labels=arrays["labels"].astype(np.uint16),
                train=arrays["train"].astype(bool),
                validation=arrays["validation"].astype(bool),
                test=arrays["test"].astype(bool),
                recipe=str(arrays["recipe"]),
                seed=int(arrays["seed"]),
            )
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path} does not exist", "check the path") from error
    except (
        *(OSError, ValueError, TypeError, KeyError, EOFError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise UnreadableFileError(f"{path} is no split", "make one: hsifcn split") from error
