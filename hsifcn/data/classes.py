"""The classes of several label maps, brought under one numbering."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import LabelError
from hsifcn.core.scene import LabelMap, default_class_name, default_colours

Labels = npt.NDArray[np.integer[Any]]


@dataclass
class _Class:
    """A class of one or several label maps.

    Attributes
    ----------
    code : int
        Of the first map that has it.
    name : str or None
        None where no map names it.
    colour : (red, green, blue)
    source : str
        File that the code comes from.
    code_given : bool
        False where that file names its classes and hsifcn has numbered them.
    """

    code: int
    name: str | None
    colour: tuple[int, int, int]
    source: str
    code_given: bool


def unite_classes(
    maps: Sequence[LabelMap], paths: Sequence[str], *, same_code_is_same: bool = False
) -> tuple[LabelMap, ...]:
    """Give label maps the same classes: the union, by name, or by code where a name is missing.

    Parameters
    ----------
    maps : sequence of LabelMap
    paths : sequence of str
        Their files, for messages.
    same_code_is_same : bool
        Classes of one code with different names are one class, as where a map and its labels
        spell names differently. Otherwise they are two, and the later one gets a new code.

    Returns
    -------
    tuple of LabelMap
        The same labels, counted by the common classes in ascending order of their codes.

    Warns
    -----
    UserWarning
        One code has two names, or one name two codes.

    Raises
    ------
    LabelError
        Two classes of one map have the same name, or would be one class of another map.
    """
    classes: list[_Class] = []
    places = [
        _places_of(classes, label_map, path, same_code_is_same)
        for label_map, path in zip(maps, paths, strict=True)
    ]
    _give_new_codes(classes)
    _give_new_colours(classes)
    order = sorted(range(len(classes)), key=lambda place: classes[place].code)
    number_of = {place: number for number, place in enumerate(order, start=1)}
    common = [classes[place] for place in order]
    return tuple(
        replace(
            label_map,
            labels=_renumbered(label_map, [number_of[place] for place in mine], len(common)),
            class_names=tuple(c.name or default_class_name(c.code) for c in common),
            colours=tuple(c.colour for c in common),
            codes=tuple(c.code for c in common),
        )
        for label_map, mine in zip(maps, places, strict=True)
    )


def _places_of(
    classes: list[_Class], label_map: LabelMap, path: str, same_code_is_same: bool
) -> list[int]:
    """Places in ``classes`` of the classes of a map; those that are new are added."""
    _require_different_names(label_map, path)
    names = [
        None if name == default_class_name(code) else name
        for code, name in zip(label_map.codes, label_map.class_names, strict=True)
    ]
    earlier = tuple(classes)
    places: list[int] = []
    for code, name, colour in zip(label_map.codes, names, label_map.colours, strict=True):
        by_code = same_code_is_same and label_map.codes_given
        found = _find(earlier, code, name, names, by_code)
        if found is None:
            classes.append(_Class(code, name, colour, path, label_map.codes_given))
            found = len(classes) - 1
        elif found in places:
            raise LabelError(
                f"classes {label_map.codes[places.index(found)]} and {code} of {path} are one "
                f"class of {classes[found].source}",
                "number the classes alike, or name them with --class-names",
            )
        _tell_of_difference(classes[found], code, name, label_map.codes_given, path)
        classes[found].name = classes[found].name or name
        places.append(found)
    return places


def _find(
    classes: Sequence[_Class],
    code: int,
    name: str | None,
    names: Sequence[str | None],
    by_code: bool,
) -> int | None:
    """The class of the earlier maps that has this name, else this code.

    A code alone is enough where one of both has no name, or where ``by_code``; but not for a class
    whose name stands elsewhere in this map.
    """
    for place, known in enumerate(classes):
        if name is not None and known.name == name:
            return place
    for place, known in enumerate(classes):
        alike = None in (known.name, name) or (by_code and known.code_given)
        elsewhere = known.name is not None and known.name in names
        if known.code == code and alike and not elsewhere:
            return place
    return None


def _tell_of_difference(
    known: _Class, code: int, name: str | None, code_given: bool, path: str
) -> None:
    """Warn where a class is matched by name though its code differs, or by code though its name."""
    if name is None or known.name is None:
        return
    if known.name != name:
        warnings.warn(
            f"class {code} is '{name}' in {path} and '{known.name}' in {known.source}: taken for "
            "one class, as their numbers are equal",
            stacklevel=2,
        )
    elif known.code != code and known.code_given and code_given:
        warnings.warn(
            f"class '{name}' is {code} in {path} and {known.code} in {known.source}: taken for one "
            "class, as their names are equal",
            stacklevel=2,
        )


def _require_different_names(label_map: LabelMap, path: str) -> None:
    """Raise where two classes that occur have the same name."""
    counts = np.bincount(label_map.labels.ravel(), minlength=label_map.n_classes + 1)[1:]
    seen: set[str] = set()
    for name, count in zip(label_map.class_names, counts, strict=True):
        if count and name in seen:
            raise LabelError(
                f"{path} has two classes called '{name}'",
                "give every class a name of its own with --class-names",
            )
        if count:
            seen.add(name)


def _give_new_codes(classes: Sequence[_Class]) -> None:
    """Change the codes that an earlier class has already."""
    used: dict[int, _Class] = {}
    for known in classes:
        other = used.get(known.code)
        if other is not None:
            new = max(c.code for c in classes) + 1
            if other.code_given and known.code_given:
                warnings.warn(
                    f"code {known.code} is '{known.name}' in {known.source} and '{other.name}' in "
                    f"{other.source}: '{known.name}' gets the code {new}",
                    stacklevel=2,
                )
            known.code = new
        used[known.code] = known


def _give_new_colours(classes: Sequence[_Class]) -> None:
    """Change the colours that an earlier class has already."""
    free = iter(default_colours(2 * len(classes)))
    used = {known.colour for known in classes}
    seen: set[tuple[int, int, int]] = set()
    for known in classes:
        if known.colour in seen:
            known.colour = next((colour for colour in free if colour not in used), known.colour)
            used.add(known.colour)
        seen.add(known.colour)


def _renumbered(label_map: LabelMap, numbers: Sequence[int], n_classes: int) -> Labels:
    """The labels of a map counted by other numbers."""
    table = np.array((0, *numbers), np.uint8 if n_classes < 256 else np.uint16)
    renumbered: Labels = table[label_map.labels]
    return renumbered


def join_labels(maps: Sequence[LabelMap], paths: Sequence[str]) -> LabelMap:
    """Put several label maps of one scene together.

    A pixel that two of them give different classes is labelled by none. Polygons and points of
    different files stay different features; where one of the maps is a raster there are none.

    Parameters
    ----------
    maps : sequence of LabelMap
        On the same pixels.
    paths : sequence of str
        Their files, for messages.

    Warns
    -----
    UserWarning
        Pixels were left without a label; and as of `unite_classes`.
    """
    first, *others = unite_classes(maps, paths)
    labels, features = first.labels.copy(), first.features
    claimed = np.zeros(labels.shape, bool)
    for one, path in zip(others, paths[1:], strict=True):
        twice = (labels > 0) & (one.labels > 0) & (labels != one.labels)
        if twice.any():
            warnings.warn(
                f"{int(twice.sum()):,} pixels of {path} have another class in "
                f"{' and '.join(paths[: paths.index(path)])}: nothing labels them",
                stacklevel=2,
            )
        new = (labels == 0) & (one.labels > 0)
        labels = np.where(new, one.labels, labels)
        claimed |= twice
        if features is not None and one.features is not None:
            features = np.where(new, one.features + int(features.max()), features)
        else:
            features = None
    labels = np.where(claimed, 0, labels)
    if features is not None:
        features = np.where(labels > 0, features, 0)
    return replace(first, labels=labels, features=features)


def keep_classes(label_map: LabelMap, kept: Sequence[int]) -> LabelMap:
    """Keep some classes of a map, in another order; the labels of the others become 0.

    Parameters
    ----------
    label_map : LabelMap
    kept : sequence of int
        Numbers of the classes that become 1, 2, ...
    """
    numbers = [0] * label_map.n_classes
    for new, old in enumerate(kept, start=1):
        numbers[old - 1] = new
    return replace(
        label_map,
        labels=_renumbered(label_map, numbers, label_map.n_classes),
        class_names=tuple(label_map.class_names[old - 1] for old in kept),
        colours=tuple(label_map.colours[old - 1] for old in kept),
        codes=tuple(label_map.codes[old - 1] for old in kept),
    )
