"""Labels: checks on what a file gives, and where the labels of a scene lie."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import LabelError
from hsifcn.core.scene import Grid, LabelMap, default_class_name, default_colours
from hsifcn.io.alignment import Target, align, moved_grid, sizes_differ, window_covering
from hsifcn.io.classes import LARGEST_COUNT, composed, require_class_codes
from hsifcn.io.formats import GivenLabels

_LARGE = 2**25  # pixels of a label raster, of which only those at the scene are read
_SCENE_ENDINGS = ("_corrected", "_cube")
_LABEL_ENDINGS = ("_gt", "_labels")
NO_SCENE_ENDINGS = (*_LABEL_ENDINGS, "_map", "_confidence", "_dissimilarity", "_probabilities")
# Largest of their types, and what programs write for "unlabelled" besides.
_FILL_VALUES = (127, 255, 32767, 65535, 2**31 - 1, 2**32 - 1, 99, 254, 999, 9999, 99999)
_NEGATIVE_FILLS = (
    -999,
    -9999,
    -99999,
    -128,
    -32768,
    -32767,
    np.finfo("f4").min,
    np.finfo("f8").min,
)


def label_map(
    path: str,
    given: GivenLabels,
    class_names: Mapping[int, str] | None = None,
    target: Target | None = None,
) -> LabelMap:
    """Check labels, put them on the pixels of a scene, number the classes without gaps.

    The classes are the codes that occur or have a name, in ascending order.

    Parameters
    ----------
    path : str
        The file, for messages.
    given : GivenLabels
        Its content.
    class_names : mapping of int to str, optional
        Names by code that go before those of the file.
    target : Target, optional
        Where the labels are wanted; as the file has them otherwise.

    Warns
    -----
    UserWarning
        A code looks like no-data that was not declared.

    Raises
    ------
    LabelError
        They are not labels: see ``open_labels``.
    MismatchError
        They do not fit the target: see ``alignment.align``.
    """
    found, grid = _read(path, given, target)
    array = _checked(path, found)
    if target is not None:
        array = align(path, array, grid, target)
        grid = target.grid or grid
    present = _codes_present(array)
    if len(present) > LARGEST_COUNT:
        raise LabelError(
            f"{path} holds {len(present)} different values", "a label map holds class codes"
        )
    told = {**given.class_names, **(class_names or {})}
    names = {code: composed(name) for code, name in told.items()}
    _warn_of_fill_value(path, present, names, array)
    codes = tuple(sorted({*present, *names}))
    default = default_colours(len(codes))
    return LabelMap(
        labels=_numbered(array, codes),
        class_names=tuple(names.get(code) or default_class_name(code) for code in codes),
        colours=tuple(given.colours.get(code, default[i]) for i, code in enumerate(codes)),
        grid=grid,
        codes=codes,
        features=given.features,
        codes_given=given.codes_given,
    )


def labels_beside(scene: str, suffixes: Sequence[str], label_suffixes: Sequence[str]) -> list[str]:
    """Find files named after a scene: its stem, or what comes before "_corrected", with "_gt".

    Parameters
    ----------
    scene : str
        The scene's file.
    suffixes, label_suffixes : sequence of str
        Of all rasters; of files that may be labels.
    """
    stem = _bare_name(Path(scene), suffixes)
    stems = [stem, *(stem[: -len(end)] for end in _SCENE_ENDINGS if stem.endswith(end))]
    wanted = {stem + ending for stem in stems for ending in _LABEL_ENDINGS}
    return [
        str(file)
        for file in sorted(Path(scene).parent.iterdir())
        if file.suffix.lower() in label_suffixes
        and _bare_name(file, suffixes) in wanted
        and file.is_file()
    ]


def _bare_name(path: Path, suffixes: Sequence[str]) -> str:
    """Name without suffixes, ``x.img.hdr`` being ``x``, in one case."""
    while path.suffix.lower() in suffixes:
        path = path.with_suffix("")
    return path.name.casefold()


def _read(
    path: str, given: GivenLabels, target: Target | None
) -> tuple[npt.NDArray[Any], Grid | None]:
    """The array and its grid; of a packed one that does not fit the scene no more than needed."""
    if isinstance(given.array, np.ndarray):
        return given.array, given.grid
    shape = given.array.shape
    if target is None or shape == target.shape:
        return given.array.read_all(), given.grid
    if given.grid is None or target.grid is None:
        raise sizes_differ(path, shape, target)
    if math.prod(shape) <= _LARGE:
        return given.array.read_all(), given.grid
    window = window_covering(path, given.grid, shape, target)
    return given.array.read(window), moved_grid(given.grid, window)


def _checked(path: str, labels: npt.NDArray[Any]) -> npt.NDArray[np.integer[Any]]:
    """Codes as unsigned integers of the smallest type; NaN is unlabelled."""
    if labels.ndim == 3 and labels.shape[2] == 1:
        labels = labels[:, :, 0]
    if labels.ndim != 2:
        raise LabelError(f"{path} has the shape {labels.shape}", "a label map is (rows, cols)")
    if labels.dtype.kind == "f":
        labels = np.where(np.isnan(labels), labels.dtype.type(0), labels)
    labels = _without_negative_fill(path, labels)
    require_class_codes(path, labels)
    if not labels.any():
        raise LabelError(f"{path} labels no pixel", "classes are counted from 1")
    return np.ascontiguousarray(labels, dtype=np.min_scalar_type(int(labels.max())))


def _without_negative_fill(path: str, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Labels whose only negative value, if it is a usual fill value, is unlabelled."""
    negative = labels < 0
    found = np.unique(labels[negative])
    if len(found) != 1 or found[0] not in _NEGATIVE_FILLS:
        return labels
    warnings.warn(
        f"{path} holds {found[0]:g} in {np.count_nonzero(negative):,} pixels: taken as unlabelled",
        stacklevel=2,
    )
    return np.where(negative, labels.dtype.type(0), labels)


def _codes_present(labels: npt.NDArray[np.integer[Any]]) -> list[int]:
    """Codes that occur, ascending, 0 left out."""
    if labels.dtype.itemsize > 2:
        found: npt.NDArray[Any] = np.unique(labels)
    else:
        found = np.flatnonzero(np.bincount(labels.ravel()))
    return [int(code) for code in found if code]


def _numbered(
    labels: npt.NDArray[np.integer[Any]], codes: tuple[int, ...]
) -> npt.NDArray[np.integer[Any]]:
    """Number the codes 1, 2, ... in their order."""
    dtype = np.uint8 if len(codes) < 256 else np.uint16
    values = np.array((0, *codes), np.int64)
    if labels.dtype.itemsize > 2:
        return np.searchsorted(values, labels).astype(dtype)
    table = np.zeros(int(labels.max()) + 1, dtype)
    used = values[values < len(table)]
    table[used] = np.arange(len(used))
    numbered: npt.NDArray[np.integer[Any]] = table[labels]
    return numbered


def _warn_of_fill_value(
    path: str, present: list[int], names: Mapping[int, str], labels: npt.NDArray[np.integer[Any]]
) -> None:
    """Tell of a largest code that programs fill with and that stands far from all others."""
    if len(present) < 3 or present[-1] not in _FILL_VALUES or present[-1] in names:
        return
    if present[-1] > 2 * present[-2]:
        n = int(np.count_nonzero(labels == present[-1]))
        warnings.warn(
            f"{path} holds {present[-1]} in {n:,} pixels, which is taken for a class; if it means "
            "unlabelled, declare it as no-data in the file or set it to 0",
            stacklevel=2,
        )
