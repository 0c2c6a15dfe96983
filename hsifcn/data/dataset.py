"""A data set: scenes, their labels, and the splits of these."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from hsifcn.core.errors import HsifcnError, OutsideError, SettingError
from hsifcn.core.scene import LabelMap, Scene
from hsifcn.data.bands import with_chosen_bands
from hsifcn.data.classes import join_labels, keep_classes, unite_classes
from hsifcn.data.split_specs import DEFAULT_FOR_FEATURES, DEFAULT_RECIPE, SplitRecipe
from hsifcn.data.splits import Split, make_splits, parse_split
from hsifcn.io import find_labels, open_labels, open_scene
from hsifcn.io.alignment import OutsideWarning


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
    further : tuple of str
        More label files: of the one scene, or of polygons and points for all.
    """

    class_names: str | None = None
    field: str | None = None
    all_touched: bool = False
    further: tuple[str, ...] = ()

    def open_all(self, path: str, like: Scene, *, outside: bool = False) -> LabelMap:
        """Read the labels of a scene together with the further ones; see ``join_labels``.

        With ``outside`` a further file may lie outside of the scene, which is told.
        """
        maps, paths = [self.open(path, like)], [path]
        for more in self.further:
            try:
                maps.append(self.open(more, maps[0]))  # whose classes have codes already
            except OutsideError as error:
                if not outside:
                    raise
                warnings.warn(f"{like.path}: {error.message}", OutsideWarning, stacklevel=2)
            else:
                paths.append(more)
        return join_labels(maps, paths) if len(maps) > 1 else maps[0]

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
        Ground truth on the pixels of each scene, with the classes of all.
    splits : tuple of Split
        Which labelled pixels train, validate and test.
    class_names : tuple of str
        Of classes 1, 2, ... over all scenes: those that have training pixels.
    colours : tuple of (red, green, blue), 0-255
        Of the same classes.
    class_codes : tuple of int
        Their values in label files and maps.
    untrained_names, untrained_colours : tuples
        Of the classes behind them, which have test pixels alone.
    """

    scenes: tuple[Scene, ...]
    labels: tuple[LabelMap, ...]
    splits: tuple[Split, ...]
    class_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    class_codes: tuple[int, ...] = ()
    untrained_names: tuple[str, ...] = ()
    untrained_colours: tuple[tuple[int, int, int], ...] = ()

    @property
    def measured_names(self) -> tuple[str, ...]:
        """Names of all classes that accuracy is told of; the untrained ones come last."""
        return self.class_names + self.untrained_names

    @property
    def label_colours(self) -> tuple[tuple[int, int, int], ...]:
        """Colours of the same classes."""
        return self.colours + self.untrained_colours

    @property
    def n_classes(self) -> int:
        """Number of classes, unlabelled left out."""
        return len(self.class_names)

    def training_scenes(self) -> Dataset:
        """The scenes that have training pixels."""
        kept = [i for i, split in enumerate(self.splits) if split.n_train + split.n_validation]
        return replace(
            self,
            scenes=tuple(self.scenes[i] for i in kept),
            labels=tuple(self.labels[i] for i in kept),
            splits=tuple(self.splits[i] for i in kept),
        )


def open_dataset(
    scenes: Sequence[str],
    labels: Sequence[str | None],
    recipe: str | None,
    seed: int,
    *,
    wavelengths: str | None = None,
    nodata: float | None = None,
    labelling: Labelling = DEFAULT_LABELLING,
    bands: str | None = None,
    keep_bad_bands: bool = False,
) -> Dataset:
    """Open scenes and labels, and split the labels.

    Parameters
    ----------
    scenes : sequence of str
        Paths.
    labels : sequence of str or None, the same length
        Paths. None only for a ``fixed`` split, which brings labels of its own.
    recipe : str or None
        Of ``splits.make_split``; None for the default, which depends on the labels.
    seed : int
        Of the split.
    wavelengths : str, optional
        A text file.
    nodata : float, optional
        Of ``open_scene``.
    labelling : Labelling
    bands, keep_bad_bands
        Of ``bands.with_chosen_bands``.

    Raises
    ------
    MismatchError
        Labels cannot be put on the pixels of their scene.
    LabelError
        Two classes have the same name, or one has two.
    SplitError
        The labels cannot be split so.

    Warns
    -----
    UserWarning
        There is one class only.
    """
    opened = tuple(
        with_chosen_bands(
            open_scene(path, wavelengths=wavelengths, nodata=nodata),
            bands,
            keep_bad=keep_bad_bands,
        )
        for path in scenes
    )
    maps, splits = split_scenes(opened, labels, recipe, seed, labelling)
    named = ", ".join(dict.fromkeys(path for path in labels if path))
    return make_dataset(opened, maps, splits, source=named or splits[0].recipe)


def make_dataset(
    scenes: Sequence[Scene],
    labels: Sequence[LabelMap],
    splits: Sequence[Split],
    *,
    source: str = "",
) -> Dataset:
    """Put scenes, labels and splits together, with the classes of all.

    The classes that train come first, then those that only test; all others are dropped.

    Parameters
    ----------
    scenes, labels, splits : sequences of the same length
        Labels and splits count the same classes; see ``classes.unite_classes``.
    source : str, optional
        Where the labels come from, for messages; the scenes by default.

    Warns
    -----
    UserWarning
        There is one class only.
    """
    n_classes = max(label_map.n_classes for label_map in labels)
    counts = np.zeros((2, n_classes + 1), np.int64)
    for split in splits:
        for i, mask in enumerate((split.train | split.validation, split.test)):
            counts[i] += np.bincount(split.labels[mask], minlength=n_classes + 1)
    trained = (np.flatnonzero(counts[0, 1:]) + 1).tolist()
    untrained = (np.flatnonzero((counts[0, 1:] == 0) & (counts[1, 1:] > 0)) + 1).tolist()
    kept = [*trained, *untrained]
    if kept != list(range(1, n_classes + 1)):
        labels = [keep_classes(label_map, kept) for label_map in labels]
        splits = [_keep_classes_of_split(split, kept) for split in splits]
    first, n = labels[0], len(trained)
    if n < 2:
        source = source or ", ".join(scene.path for scene in scenes)
        warnings.warn(
            f"{source} labels one class only: every pixel will be of it (0 counts as unlabelled)",
            stacklevel=2,
        )
    return Dataset(
        scenes=tuple(scenes),
        labels=tuple(labels),
        splits=tuple(splits),
        class_names=first.class_names[:n],
        colours=first.colours[:n],
        class_codes=first.codes[:n],
        untrained_names=first.class_names[n:],
        untrained_colours=first.colours[n:],
    )


def _keep_classes_of_split(split: Split, kept: Sequence[int]) -> Split:
    """The same masks, with classes counted in another order."""
    table = np.zeros(int(max(split.labels.max(), *kept)) + 1, np.uint16)
    table[list(kept)] = np.arange(1, len(kept) + 1)
    return replace(
        split,
        labels=table[split.labels],
        class_names=tuple(split.class_names[old - 1] for old in kept if split.class_names),
        class_codes=tuple(split.class_codes[old - 1] for old in kept if split.class_codes),
    )


def split_scenes(
    scenes: Sequence[Scene],
    labels: Sequence[str | None],
    recipe: str | None,
    seed: int,
    labelling: Labelling = DEFAULT_LABELLING,
) -> tuple[tuple[LabelMap, ...], tuple[Split, ...]]:
    """Read the labels of scenes, bring them under one numbering and split them.

    Parameters
    ----------
    scenes, labels, recipe, seed, labelling
        Of ``open_dataset``; the scenes are open.
    """
    parsed = parse_split(recipe) if recipe else None
    if parsed is not None and parsed.kind == "fixed":
        return _fixed_splits(scenes, labels, parsed, seed, labelling)
    paths = [path for path in labels if path is not None]
    if len(paths) < len(scenes):
        raise SettingError("a scene has no labels", "name them with -l")
    maps = unite_classes(_open_labels(scenes, paths, labelling), paths)
    fixed = None
    if parsed is not None and parsed.kind == "dase":
        published = [labelling.open(parsed.train_path, scene).labels for scene in scenes]
        fixed = [(labels, labels) for labels in published]
    wanted = parsed or default_recipe(maps)
    return maps, make_splits(maps, wanted, seed=seed, sources=paths, fixed=fixed)


def default_recipe(labels: Sequence[LabelMap]) -> str:
    """The split of labels where none is asked for: of whole features where there are some."""
    vectors = all(label_map.features is not None for label_map in labels)
    return DEFAULT_FOR_FEATURES if vectors else DEFAULT_RECIPE


def _open_labels(
    scenes: Sequence[Scene], paths: Sequence[str], labelling: Labelling
) -> list[LabelMap]:
    """Read the labels of each scene.

    Of a file for several scenes some shapes lie outside of each, and a scene may have none: that
    is no error unless all have none. Other warnings of it are told once.
    """
    shared = {path for path in paths if paths.count(path) > 1}
    maps: list[LabelMap] = []
    empty: list[str] = []
    told: set[str] = set()
    for scene, path in zip(scenes, paths, strict=True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                maps.append(labelling.open_all(path, scene, outside=len(scenes) > 1))
            except OutsideError as error:
                if path not in shared or len(empty) == len(scenes) - 1:
                    raise
                empty.append(error.message)
                blank = np.zeros(scene.shape[:2], np.uint8)
                maps.append(LabelMap(blank, (), (), scene.grid, features=blank.astype(np.int32)))
        for warning in caught:
            text = str(warning.message)
            outside = path in shared and issubclass(warning.category, OutsideWarning)
            if text not in told and not outside:
                told.add(text)
                warnings.warn(text, warning.category, stacklevel=3)
    for message in empty:
        warnings.warn(f"{message}: it trains and tests nothing", stacklevel=3)
    return maps


def _fixed_splits(
    scenes: Sequence[Scene],
    labels: Sequence[str | None],
    recipe: SplitRecipe,
    seed: int,
    labelling: Labelling,
) -> tuple[tuple[LabelMap, ...], tuple[Split, ...]]:
    """Splits by two label files; other labels of the scene only tell where fields end."""
    sides = (recipe.train_path, recipe.test_path)
    groups = []  # of each scene: training labels, test labels, and all labels where there are some
    for path, scene in zip(labels, scenes, strict=True):
        group = [(side, labelling.open(side, scene)) for side in sides]
        if path is not None:
            group.append((path, labelling.open_all(path, scene)))
        else:
            with suppress(HsifcnError):  # they are not needed
                found = find_labels(scene.path)
                group.append((found, labelling.open(found, scene)))
        groups.append(group)
    together = [pair for group in groups for pair in group]
    maps = unite_classes([label_map for _, label_map in together], [path for path, _ in together])
    united = iter(maps)
    wholes, pairs = [], []
    for group in groups:
        train, test, *whole = itertools.islice(united, len(group))
        pairs.append((train.labels, test.labels))
        wholes.append(whole[0] if whole else replace(train, labels=np.zeros_like(train.labels)))
    return tuple(wholes), make_splits(wholes, recipe, seed=seed, fixed=pairs)
