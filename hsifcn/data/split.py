"""One split of labelled pixels: its masks, its leakage and its file.

Neighbouring pixels are nearly copies of each other. A random split puts such copies on both sides
and rewards memorising; splits by blocks or fields with a gap do not. Every `Split` can therefore
tell its leakage: how near its test pixels lie to pixels that were trained on.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import SplitError, UnreadableFileError
from hsifcn.core.scene import codes_table, labels_of_codes
from hsifcn.data.split_recipes import distance_to, fields
from hsifcn.io.files import atomic_write

LEAKAGE_DISTANCES = (1, 2, 4, 7, 16)  # px

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
        Classes without training or without test pixels, and labels that contradict those of the
        scene; told with the first of several scenes.
    class_names : tuple of str
        Names of classes 1, 2, ...; empty where they are not known.
    class_codes : tuple of int
        Values of classes 1, 2, ... in the label file; empty where they are 1, 2, ...

    Raises
    ------
    SplitError
        Masks that overlap, lie on unlabelled pixels or have other sizes than the labels.
    """

    labels: npt.NDArray[np.uint16]
    train: Mask
    validation: Mask
    test: Mask
    recipe: str
    seed: int
    warnings: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    class_codes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        masks = (self.train, self.validation, self.test)
        if any(mask.shape != self.labels.shape for mask in masks):
            raise SplitError(f"the masks of split {self.recipe} have another size than its labels")
        memberships = np.sum(masks, axis=0)
        if memberships.max(initial=0) > 1 or (memberships > (self.labels > 0)).any():
            raise SplitError(f"split {self.recipe} uses a pixel twice, or one without a label")

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
            a field with training or validation pixels. ``receptive_field_px``: as given. The
            shares are None where no pixel tests.
        """
        reaches = {str(reach): reach for reach in LEAKAGE_DISTANCES}
        if receptive_field is not None:
            reaches["receptive_field"] = (receptive_field - 1) // 2
        if not self.test.any():
            return {
                "test_touching": None,
                "test_within": dict.fromkeys(reaches),
                "test_in_shared_fields": None,
                "receptive_field_px": receptive_field,
            }
        seen = self.train | self.validation
        distances = distance_to(seen)[self.test] if seen.any() else np.full(self.n_test, np.inf)
        within = {name: float((distances <= reach).mean()) for name, reach in reaches.items()}
        numbers = fields(self.labels)
        shared = np.isin(numbers[self.test], np.unique(numbers[seen]))
        return {
            "test_touching": within["1"],
            "test_within": within,
            "test_in_shared_fields": float(shared.mean()),
            "receptive_field_px": receptive_field,
        }


def thin_split(split: Split, share: float, seed: int) -> Split:
    """Keep a share of the training and validation pixels of each class; at least one trains.

    A greater share, with the same seed, holds the pixels of a smaller one. Test pixels stay.
    """
    masks = []
    for purpose, mask in enumerate((split.train, split.validation)):
        kept = np.zeros(mask.shape, bool)
        for label in np.unique(split.labels[mask]).tolist():
            pixels = np.flatnonzero(mask & (split.labels == label))
            n = max(round(share * len(pixels)), 1 - purpose)
            order = np.random.default_rng([seed, label, purpose]).permutation(pixels)
            kept.flat[order[:n]] = True
        masks.append(kept)
    recipe = split.recipe if share == 1 else f"{split.recipe}, {share:g} of its training pixels"
    return replace(split, train=masks[0], validation=masks[1], recipe=recipe)


def leakage_sentence(leakage: dict[str, Any]) -> str:
    """Say what `Split.leakage` found, for a footnote; without a full stop."""
    if leakage["test_touching"] is None:
        return "no pixel tests, so there is none"
    return (
        f"{100 * leakage['test_touching']:.1f} % of the test pixels touch a training pixel, "
        f"{100 * leakage['test_within']['4']:.1f} % lie within 4 px of one, "
        f"{100 * leakage['test_in_shared_fields']:.1f} % lie in a field with training pixels"
    )


def split_path(first: Path, number: int) -> Path:
    """Where the split of the 1st, 2nd, ... scene is kept: ``split.npz``, ``split-2.npz``, ..."""
    return first if number == 1 else first.with_name(f"{first.stem}-{number}{first.suffix}")


def write_split(path: Path, split: Split, *, overwrite: bool) -> None:
    """Write masks, labels (as codes), classes and recipe of a split as ``.npz``."""
    codes = split.class_codes or tuple(range(1, int(split.labels.max()) + 1))
    with atomic_write(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            train=split.train,
            validation=split.validation,
            test=split.test,
            labels=codes_table(codes)[split.labels],
            class_codes=np.array(codes, np.int64),
            class_names=np.array(split.class_names, np.str_),
            recipe=np.array(split.recipe),
            seed=np.array(split.seed),
        )


def is_split(path: Path) -> bool:
    """Whether an ``.npz`` holds the masks of a split; False for what is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"train.npy", "validation.npy", "test.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return False


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
            labels = arrays["labels"]
            if "class_codes" in arrays:
                codes = tuple(arrays["class_codes"].tolist())
            else:  # older files
                codes = tuple(range(1, int(labels.astype(np.uint16).max()) + 1))
            names = tuple(arrays["class_names"].tolist()) if "class_names" in arrays else ()
            return Split(
                labels=labels_of_codes(labels, codes),
                train=arrays["train"].astype(bool),
                validation=arrays["validation"].astype(bool),
                test=arrays["test"].astype(bool),
                recipe=str(arrays["recipe"]),
                seed=int(arrays["seed"]),
                class_names=names,
                class_codes=codes,
            )
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path} does not exist", "check the path") from error
    except (
        *(OSError, ValueError, TypeError, LookupError, ArithmeticError, EOFError),
        *(zipfile.BadZipFile, zlib.error, RuntimeError),  # of methods and versions not known, too
    ) as error:
        raise UnreadableFileError(f"{path} is no split", "make one: hsifcn split") from error
