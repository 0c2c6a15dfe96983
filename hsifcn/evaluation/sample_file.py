"""An interpreted sample, read back: robust to what spreadsheets and GIS programs do to a table."""

from __future__ import annotations

import difflib
import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import LabelError, MismatchError, Notice, UnreadableFileError
from hsifcn.core.scene import LabelMap, default_class_name
from hsifcn.evaluation.sampling import COLUMNS
from hsifcn.io.alignment import pixels_at
from hsifcn.io.crs import reprojected
from hsifcn.io.point_table import PointTable, is_point_table, read_point_table

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_LISTED = 5
_ALIKE = 0.75  # of difflib: a name that is so like a class of the map is that class, misspelt
_BLANK = {"", "0", "none", "null", "nan", "na", "n/a", "?", "-", "unknown", "unclassified"}


@dataclass(frozen=True, eq=False)
class InterpretedSample:
    """The points of a sample that have a true class.

    Attributes
    ----------
    rows, cols : ndarray, (points,), int64
        On the pixels of the map.
    strata : ndarray, (points,), int64
        Number of the stratum, from 0.
    truth : ndarray, (points,), int64
        Number of the true class, from 1.
    stratum_names : tuple of str
    sizes, drawn : ndarray, (strata,), int64
        Pixels of each stratum, and points that were drawn in it.
    class_names : tuple of str
        Those of the map, then true classes that it has not.
    """

    rows: Numbers
    cols: Numbers
    strata: Numbers
    truth: Numbers
    stratum_names: tuple[str, ...]
    sizes: Numbers
    drawn: Numbers
    class_names: tuple[str, ...]


def is_sample(path: str) -> bool:
    """Whether a file has the columns of a sample; False for what cannot be read as a table."""
    if not is_point_table(path):
        return False
    try:
        columns = read_point_table(path).columns
    except (UnreadableFileError, LabelError):
        return False
    return set(COLUMNS) <= set(columns)


def read_sample(path: str, mapped: LabelMap) -> InterpretedSample:
    """Read the points of a sample that were interpreted.

    Rows that are no points of the sample, such as sums under a table, are left out; so are those
    without a true class. A class is given by name, in any case, or by code.

    Parameters
    ----------
    path : str
        Of ``Sample.write``, filled in.
    mapped : LabelMap
        The map that the sample is to measure: the one that it was drawn from, or another.

    Warns
    -----
    UserWarning
        Rows were left out, points were moved, true classes are none of the map's.

    Raises
    ------
    LabelError
        No point has a class, classes are misspelt, or the table contradicts itself.
    MismatchError
        The points lie outside of the map.
    """
    table = read_point_table(path)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise LabelError(f"{path} lacks the column {missing[0]}", "draw a sample: hsifcn sample")
    pixels, points = table.numbers("stratum_px"), table.numbers("stratum_n")
    placed = _placed(table, mapped)
    complete = (pixels > 0) & (points > 0) & (placed[0] >= 0)
    complete &= np.array([bool(text) for text in table.columns["stratum"]])
    _tell_of_other_rows(table, complete)
    truth, class_names = _true_classes(table, complete, mapped)
    kept = _once(table, complete & (truth > 0), placed, truth)
    if not kept.any():
        raise LabelError(
            f"{path} has no true class yet", "fill in its column 'reference', a class a point"
        )
    names = list(dict.fromkeys(table.columns["stratum"][i] for i in np.flatnonzero(complete)))
    number = {name: i for i, name in enumerate(names)}
    strata = np.array([number.get(name, -1) for name in table.columns["stratum"]])
    sizes, drawn = (_of_strata(table, complete, strata, names, v) for v in (pixels, points))
    found = np.bincount(strata[kept], minlength=len(names))
    added = [name for i, name in enumerate(names) if found[i] > drawn[i]]
    if added:
        raise LabelError(
            f"{path} has more points than were drawn in {', '.join(added)}: points that were added "
            "by hand are no random draw",
            "remove them",
        )
    rows, cols = placed
    return InterpretedSample(
        rows[kept], cols[kept], strata[kept], truth[kept], tuple(names), sizes, drawn, class_names
    )


def _placed(table: PointTable, mapped: LabelMap) -> tuple[Numbers, Numbers]:
    """Row and column of each point on the map; -1 where it has none.

    The pixel that was drawn counts, not where a point was moved to, as long as most points lie in
    their pixels; else the sample is of another grid, and coordinates count.
    """
    shape = mapped.labels.shape
    rows, cols = (
        table.numbers(name) if name in table.columns else np.full(len(table.lines), np.nan)
        for name in ("row", "col")
    )
    given = np.isfinite(rows) & np.isfinite(cols)
    by_place = _pixels_of_coordinates(table, mapped)
    inside = given & (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
    rows, cols = (np.where(inside, values, -1).astype(np.int64) for values in (rows, cols))
    if by_place is not None:
        known = by_place[0] != _NO_PLACE
        moved = inside & known & ((by_place[0] != rows) | (by_place[1] != cols))
        if 2 * np.count_nonzero(moved) > np.count_nonzero(inside & known) or not inside.any():
            rows, cols = by_place
            given, inside = known, known & _within(by_place, shape)
        elif moved.any():
            warnings.warn(
                f"{_listed(table, moved)} {table.path} were moved: the pixels in the columns row "
                "and col count, which were drawn",
                stacklevel=3,
            )
    if given.any() and not inside.any():
        raise MismatchError(
            f"no point of {table.path} lies on the map", "give the map that it was drawn from"
        )
    outside = given & ~inside
    if outside.any():
        raise MismatchError(
            f"{_listed(table, outside)} {table.path} lie outside of the map",
            "give a map of all of the sampled area",
        )
    return np.where(inside, rows, -1), np.where(inside, cols, -1)


_NO_PLACE = -(2**31)


def _within(pixels: tuple[Numbers, Numbers], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    rows, cols = pixels
    inside: npt.NDArray[np.bool_] = (
        (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
    )
    return inside


def _pixels_of_coordinates(table: PointTable, mapped: LabelMap) -> tuple[Numbers, Numbers] | None:
    """Pixels of the map that hold the points' coordinates; None where either has none."""
    xs, ys, crs = table.xs, table.ys, table.crs
    if xs is None and {"x", "y"} <= set(table.columns):
        xs, ys = table.numbers("x"), table.numbers("y")
    if xs is None or ys is None or mapped.grid is None or not np.isfinite(xs + ys).any():
        return None
    xs, ys = reprojected(xs, ys, crs, mapped.grid.crs, table.path)
    with np.errstate(invalid="ignore"):
        places = [np.floor(values) for values in pixels_at(mapped.grid, xs, ys)]
    known = np.isfinite(places[0]) & np.isfinite(places[1])
    rows, cols = (np.where(known, p, _NO_PLACE).clip(_NO_PLACE, -_NO_PLACE) for p in places)
    return rows.astype(np.int64), cols.astype(np.int64)


def _listed(table: PointTable, rows: npt.NDArray[np.bool_]) -> str:
    """``3 points (rows 4, 7, 9) of``; by their line or feature."""
    lines = [table.lines[i] for i in np.flatnonzero(rows)]
    shown = ", ".join(map(str, lines[:_LISTED])) + ", ..." * (len(lines) > _LISTED)
    return f"{len(lines)} point{'s' * (len(lines) > 1)} (row {shown}) of"


def _tell_of_other_rows(table: PointTable, complete: npt.NDArray[np.bool_]) -> None:
    others = ~complete
    if others.any():
        warnings.warn(
            f"{_listed(table, others)} {table.path} lack place, stratum, stratum_px or stratum_n: "
            "left out",
            stacklevel=3,
        )


def _true_classes(
    table: PointTable, complete: npt.NDArray[np.bool_], mapped: LabelMap
) -> tuple[Numbers, tuple[str, ...]]:
    """Number of the true class of each row, 0 where there is none, and the names of all classes."""
    known = {default_class_name(c): i for i, c in enumerate(mapped.codes, start=1)}
    known |= {str(code): i for i, code in enumerate(mapped.codes, start=1)}
    known |= {_plain(name): i for i, name in enumerate(mapped.class_names, start=1)}
    names = list(mapped.class_names)
    misspelt: Counter[tuple[str, str]] = Counter()
    new: Counter[str] = Counter()
    truth = np.zeros(len(table.lines), np.int64)
    for i, text in enumerate(table.columns["reference"]):
        key = _plain(text, table.decimal_commas)
        if not complete[i] or key in _BLANK - set(known):
            continue
        if key not in known:
            like = difflib.get_close_matches(key, list(known), 1, _ALIKE)
            if like and not key.isdigit():
                misspelt[text, names[known[like[0]] - 1]] += 1
                continue
            names.append(text)
            known[key] = len(names)
            new[text] += 1
        truth[i] = known[key]
    if misspelt:
        listed = ", ".join(f"'{text}' ({meant}?)" for text, meant in misspelt)
        raise LabelError(
            f"{table.path} spells classes as the map does not: {listed}", "correct them"
        )
    if new:
        warnings.warn(
            f"{table.path} has true classes that the map has not: {', '.join(new)}; they count as "
            f"classes of their own (the map has {', '.join(mapped.class_names)})",
            stacklevel=3,
        )
    return truth, tuple(names)


def _plain(text: str, decimal_commas: bool = False) -> str:
    """A name in one case, without blanks around; ``3.0`` and ``3,0`` become ``3``."""
    plain = " ".join(text.split()).casefold()
    whole, point, rest = (plain.replace(",", ".") if decimal_commas else plain).partition(".")
    return whole if point and whole.isdigit() and not rest.strip("0") else plain


def _once(
    table: PointTable,
    kept: npt.NDArray[np.bool_],
    placed: tuple[Numbers, Numbers],
    truth: Numbers,
) -> npt.NDArray[np.bool_]:
    """Each pixel once; one that two rows give different classes is refused."""
    first: dict[tuple[int, int], int] = {}
    once = kept.copy()
    for i in np.flatnonzero(kept).tolist():
        earlier = first.setdefault((int(placed[0][i]), int(placed[1][i])), i)
        if earlier == i:
            continue
        if truth[earlier] != truth[i]:
            raise LabelError(
                f"{table.path} gives one pixel different classes in rows {table.lines[earlier]} "
                f"and {table.lines[i]}",
                "leave one out",
            )
        once[i] = False
    twice = int((kept & ~once).sum())
    if twice:
        warnings.warn(
            f"{table.path} holds {twice} points twice: counted once", Notice, stacklevel=3
        )
    return once


def _of_strata(
    table: PointTable,
    complete: npt.NDArray[np.bool_],
    strata: Numbers,
    names: list[str],
    values: Floats,
) -> Numbers:
    """A number of each stratum, (strata,), which all its rows agree on."""
    found = np.zeros(len(names), np.int64)
    for stratum, name in enumerate(names):
        own = values[complete & (strata == stratum)]
        if np.ptp(own) or own[0] != np.floor(own[0]):
            raise LabelError(
                f"{table.path} has different stratum_px or stratum_n in stratum {name}",
                "restore these columns from the sample as it was drawn",
            )
        found[stratum] = int(own[0])
    return found
