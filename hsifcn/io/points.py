"""Labelled pixels as text: a table of rows and columns, or coordinates, and classes."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import LabelError, MismatchError, UnreadableFileError
from hsifcn.io.alignment import OutsideWarning, Target, how_to_place, outside, pixels_at
from hsifcn.io.classes import class_codes, class_field
from hsifcn.io.crs import reprojected
from hsifcn.io.files import read_text
from hsifcn.io.formats import GivenLabels

SUFFIXES = (".csv",)
PLACES = (
    *(("row", "col"), ("row", "column"), ("x", "y"), ("easting", "northing")),
    *(("lon", "lat"), ("longitude", "latitude"), ("lng", "lat")),
)
_ROWS = PLACES[:2]
_DEGREES = PLACES[4:]
_LONGITUDE_LATITUDE = "EPSG:4326"

Places = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def read_labels(path: str, target: Target, field: str | None) -> GivenLabels:
    """Read the pixels of a scene that a table labels.

    The first line names the columns: ``row,col``, counted from 0, or ``x,y`` in the CRS of the
    scene, or ``lon,lat`` in degrees on WGS 84; and one that tells the class by number or name.
    They are parted by commas, semicolons or tabs.

    Parameters
    ----------
    path : str
    target : Target
    field : str or None
        The column that tells the class; see ``classes.class_field`` for what None means.

    Warns
    -----
    UserWarning
        Coordinates lie outside of the scene.

    Raises
    ------
    UnreadableFileError
        It is no such table; the message names the line.
    LabelError
        A row or column that the scene has not, one pixel with two classes, or nothing labelled.
    MismatchError
        Coordinates, and a scene without georeference.
    """
    lines, names, table = _read(path)
    kinds = next((pair for pair in PLACES if set(pair) <= set(names)), None)
    if kinds is None:
        raise UnreadableFileError(
            f"{path} has the columns {', '.join(names)}",
            "name two of them row and col, x and y, or lon and lat",
        )
    others = [name for name in names if name not in kinds]
    chosen = class_field(path, others, (), field and field.lower())
    texts = np.array([line[names.index(chosen)] for line in table], dtype=object)
    first, second = (_numbers(path, lines, names, table, name) for name in kinds)
    classes = class_codes(
        f"{path}, column '{chosen}'",
        texts,
        target.class_names,
        complete=target.names_are_complete,
    )
    if kinds in _ROWS:
        rows, cols = _indices(path, lines, first, second, target.shape)
    else:
        crs = _LONGITUDE_LATITUDE if kinds in _DEGREES else None
        rows, cols = _pixels(path, first, second, crs, target)
    inside = rows >= 0
    kept = [line for line, used in zip(lines, inside, strict=True) if used]
    at = rows[inside], cols[inside]
    labels = _labelled(path, kept, *at, classes.codes[inside], target.shape)
    features = None
    if kinds not in _ROWS:  # points of a map, and not pixels of the scene
        features = np.zeros(target.shape, np.int32)
        features[at] = np.flatnonzero(inside) + 1
        features[labels == 0] = 0
    return GivenLabels(
        labels, classes.names, grid=target.grid, features=features, codes_given=classes.given
    )


def _read(path: str) -> tuple[list[int], list[str], list[list[str]]]:
    """Read the number of each line, names of the columns in lower case, and cells by line."""
    text = read_text(path)
    head = text.lstrip().partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter=max(",;\t", key=head.count))
    lines, table = [], []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                lines.append(reader.line_num)
                table.append([cell.strip() for cell in cells])
    except csv.Error as error:
        raise UnreadableFileError(f"{path}, line {reader.line_num}: {error}") from error
    if len(table) < 2:
        raise LabelError(f"{path} labels no pixel", "a line of names, then a line a pixel")
    for number, cells in zip(lines, table, strict=True):
        if len(cells) != len(table[0]):
            raise UnreadableFileError(
                f"{path}, line {number}, has {len(cells)} columns instead of {len(table[0])}"
            )
    return lines[1:], [name.lower() for name in table[0]], table[1:]


def _numbers(
    path: str, lines: Sequence[int], names: list[str], table: list[list[str]], column: str
) -> Floats:
    place = names.index(column)
    values = np.empty(len(table))
    for i, cells in enumerate(table):
        try:
            values[i] = float(cells[place])
        except ValueError:
            values[i] = np.nan
        if not np.isfinite(values[i]):
            raise UnreadableFileError(
                f"{path}, line {lines[i]}, has no number in '{column}': {cells[place][:40]!r}"
            )
    return values


def _indices(
    path: str, lines: Sequence[int], rows: Floats, cols: Floats, shape: tuple[int, int]
) -> tuple[Places, Places]:
    """Rows and columns that the scene has."""
    for values, size, name in ((rows, shape[0], "row"), (cols, shape[1], "col")):
        wrong = np.flatnonzero((values < 0) | (values >= size) | (values != np.floor(values)))
        if len(wrong):
            more = f", and {len(wrong) - 1} lines more," if len(wrong) > 1 else ""
            raise LabelError(
                f"{path}, line {lines[wrong[0]]}{more} has {name} {values[wrong[0]]:g} where the "
                f"scene has {size}",
                "they are counted from 0",
            )
    return rows.astype(np.int64), cols.astype(np.int64)


def _pixels(
    path: str, xs: Floats, ys: Floats, crs: str | None, target: Target
) -> tuple[Places, Places]:
    """Rows and columns of the pixels that hold coordinates; -1 outside of the scene."""
    grid = target.grid
    if grid is None or (crs is not None and grid.crs is None):
        raise MismatchError(
            f"{path} holds map coordinates, and {target.name} has no "
            f"{'georeference' if grid is None else 'CRS'}",
            f"give the columns row and col{how_to_place(target)}",
        )
    xs, ys = reprojected(xs, ys, crs, grid.crs, path)
    rows, cols = (np.floor(values) for values in pixels_at(grid, xs, ys))
    inside = (rows >= 0) & (rows < target.shape[0]) & (cols >= 0) & (cols < target.shape[1])
    if not inside.any():
        raise outside(path, (xs, ys), target)
    if not inside.all():
        warnings.warn(
            f"{np.count_nonzero(~inside)} of {len(inside)} points of {path} lie outside of "
            f"{target.name}",
            OutsideWarning,
            stacklevel=2,
        )
    rows, cols = np.where(inside, rows, -1), np.where(inside, cols, -1)
    return rows.astype(np.int64), cols.astype(np.int64)


def _labelled(
    path: str,
    lines: Sequence[int],
    rows: Places,
    cols: Places,
    codes: Places,
    shape: tuple[int, int],
) -> npt.NDArray[np.uint32]:
    """Labels of the pixels that are named; none may be named with two classes."""
    labels = np.zeros(shape, np.uint32)
    labels[rows, cols] = codes
    other = np.flatnonzero(labels[rows, cols] != codes)
    if len(other):
        i = other[0]
        last = np.flatnonzero((rows == rows[i]) & (cols == cols[i]))[-1]
        raise LabelError(
            f"{path} gives the pixel in row {rows[i]}, column {cols[i]}, different classes in "
            f"lines {lines[i]} and {lines[last]}",
            "leave one out",
        )
    return labels
