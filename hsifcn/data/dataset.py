"""A data set: scenes, their labels, and the splits of these."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hsifcn.core.errors import LabelError
from hsifcn.core.scene import LabelMap, Scene, default_class_names, default_colours
from hsifcn.data.bands import with_chosen_bands
from hsifcn.data.splits import Split, make_split, parse_split
from hsifcn.io import open_labels, open_scene


@dataclass(frozen=True)
class Labelling:
    """How label files are read; see ``open_labels``.

    Attributes
    ----------
    class_names : str or None
        Text file with the names of the classes.
    field : str or None
        Attribute or column that tells the class.
    all_touched : bool
        Polygons label every pixel that they touch.
    """

    class_names: str | None = None
    field: str | None = None
    all_touched: bool = False

    def open(self, path: str, like: Scene | LabelMap) -> LabelMap:
        """Read labels onto the pixels of a scene, or of other labels."""
        return open_labels(
            path,
            class_names=self.class_names,
            like=like,
            field=self.field,
            all_touched=self.all_touched,
        )


DEFAULT_LABELLING = Labelling()


@dataclass(frozen=True)
class Dataset:
    """Scenes with their labels and splits, one of each a scene.

    Attributes
    ----------
    scenes : tuple of Scene
        Of one sensor.
    labels : tuple of LabelMap
        Ground truth on the pixels of each scene.
    splits : tuple of Split
        Which labelled pixels train, validate and test.
    class_names : tuple of str
        Of classes 1, 2, ... over all scenes.
    colours : tuple of (red, green, blue), 0-255
        Of the same classes.
    """

    scenes: tuple[Scene, ...]
    labels: tuple[LabelMap, ...]
    splits: tuple[Split, ...]
    class_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]

    @property
    def n_classes(self) -> int:
        """Number of classes, unlabelled left out."""
        return len(self.class_names)


def open_dataset(
    scenes: Sequence[str],
    labels: Sequence[str],
    recipe: str,
    seed: int,
    *,
    wavelengths: str | None = None,
    labelling: Labelling = DEFAULT_LABELLING,
    bands: str | None = None,
    keep_bad_bands: bool = False,
) -> Dataset:
    """Open scenes and labels, and split the labels.

    Parameters
    ----------
    scenes, labels : sequences of str, the same length
        Paths.
    recipe : str
        Of ``splits.make_split``.
    seed : int
        Of the split.
    wavelengths : str, optional
        A text file.
    labelling : Labelling
    bands, keep_bad_bands
        Of ``bands.with_chosen_bands``.

    Raises
    ------
    MismatchError
        Labels cannot be put on the pixels of their scene.
    LabelError
        Two classes have the same name, or one has two.

    Warns
    -----
    UserWarning
        There is one class only.
    """
    opened = tuple(
        with_chosen_bands(open_scene(path, wavelengths=wavelengths), bands, keep_bad=keep_bad_bands)
        for path in scenes
    )
    maps = tuple(labelling.open(path, scene) for path, scene in zip(labels, opened, strict=True))
    splits = tuple(split_labels(label_map, recipe, seed, labelling) for label_map in maps)
    return make_dataset(opened, maps, splits, paths=labels, names_file=labelling.class_names)


def make_dataset(
    scenes: Sequence[Scene],
    labels: Sequence[LabelMap],
    splits: Sequence[Split],
    *,
    paths: Sequence[str] = (),
    names_file: str | None = None,
) -> Dataset:
    """Put scenes, labels and splits together, with the classes of all.

    Parameters
    ----------
    scenes, labels, splits : sequences of the same length
    paths : sequence of str, optional
        Of the labels, for messages; those of the scenes by default.
    names_file : str, optional
        Where the class names come from, for messages.

    Raises
    ------
    LabelError
        Two classes have the same name, or one has two.

    Warns
    -----
    UserWarning
        There is one class only.
    """
    paths = paths or [scene.path for scene in scenes]
    n_classes = max(int(split.labels.max()) for split in splits)
    if len(np.unique(np.concatenate([np.unique(split.labels) for split in splits]))) < 3:
        warnings.warn(
            f"{', '.join(paths)} labels one class only: every pixel will be of it", stacklevel=2
        )
    names = common_class_names(labels, paths, n_classes)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise LabelError(
            f"{names_file or ', '.join(paths)} has two classes called '{twice}'",
            "give every class a name of its own with --class-names",
        )
    colours = max(labels, key=lambda label_map: label_map.n_classes).colours
    colours += default_colours(len(names))[len(colours) :]
    return Dataset(tuple(scenes), tuple(labels), tuple(splits), names, colours)


def common_class_names(
    maps: Sequence[LabelMap], paths: Sequence[str], n_classes: int
) -> tuple[str, ...]:
    """Names of the classes of several label maps, at least ``n_classes``.

    Raises
    ------
    LabelError
        One class has different names in two maps.
    """
    n_classes = max(n_classes, *(label_map.n_classes for label_map in maps))
    names = list(default_class_names(n_classes))
    unnamed = tuple(names)
    for label_map, path in zip(maps, paths, strict=True):
        for i, name in enumerate(label_map.class_names):
            if unnamed[i] not in (names[i], name) and name != names[i]:
                raise LabelError(
                    f"class {i + 1} is '{name}' in {path} and '{names[i]}' in labels before it",
                    "number the classes alike, or name them with --class-names",
                )
            names[i] = name if name != unnamed[i] else names[i]
    return tuple(names)


def split_labels(
    labels: LabelMap, recipe: str, seed: int, labelling: Labelling = DEFAULT_LABELLING
) -> Split:
    """Make the split of one label map, reading the label files of a fixed one."""
    parsed = parse_split(recipe)
    fixed = None
    if parsed.kind == "fixed":
        like = replace(labelling, class_names=None)  # the classes are those of the labels
        train, test = (like.open(path, labels) for path in (parsed.train_path, parsed.test_path))
        fixed = (train.labels, test.labels)
    return make_split(labels.labels, recipe, seed=seed, fixed=fixed)
