"""Points with attributes: written as GeoPackage or ``.csv``, read from those and other vectors."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import SettingError, UnreadableFileError
from hsifcn.core.scene import Grid
from hsifcn.io import points, vectors
from hsifcn.io.alignment import coordinates_of
from hsifcn.io.crs import known_wkt
from hsifcn.io.files import atomic_write, mark_input, read_text
from hsifcn.io.formats import split_variable

Floats = npt.NDArray[np.float64]

WRITTEN = (".gpkg", ".csv")


@dataclass(frozen=True, eq=False)
class PointTable:
    """The rows of a table, as text.

    Attributes
    ----------
    path : str
        For messages.
    columns : dict of str to list of str
        Cells by name of the column, in lower case; empty where there is no value.
    lines : list of int
        What a row is called in messages: its line in a ``.csv``, else its feature number.
    decimal_commas : bool
        Numbers may be written as ``0,5``, since something else parts the columns.
    xs, ys : ndarray, (rows,), float64, or None
        Coordinates of point geometries; NaN where a row has none.
    crs : str or None
        Of these.
    """

    path: str
    columns: dict[str, list[str]]
    lines: list[int]
    decimal_commas: bool = False
    xs: Floats | None = None
    ys: Floats | None = None
    crs: str | None = None

    def numbers(self, column: str) -> Floats:
        """A column as numbers, (rows,); NaN where there is none."""
        values = np.full(len(self.lines), np.nan)
        for i, text in enumerate(self.columns[column]):
            try:
                values[i] = float(text.replace(",", ".") if self.decimal_commas else text)
            except ValueError:
                continue
        return values


def is_point_table(path: str) -> bool:
    """Whether a file, by its suffix, can hold points with attributes."""
    suffix = Path(split_variable(path)[0]).suffix.lower()
    return suffix in (*vectors.SUFFIXES, *points.SUFFIXES)


def read_point_table(path: str) -> PointTable:
    """Read all rows and columns of a ``.csv`` or of a layer of points.

    A ``.csv`` may have been through a spreadsheet: columns parted by semicolons or tabs, rows of
    blanks, cells missing at the end of a row.

    Raises
    ------
    UnreadableFileError
        It is missing, damaged or has no rows.
    AmbiguousInputError
        It has several layers.
    """
    file, layer = split_variable(path)
    mark_input(file)
    if Path(file).suffix.lower() in points.SUFFIXES:
        return _read_csv(file)
    if not os.path.exists(file):
        raise UnreadableFileError(f"{file} does not exist", "check the path")
    return _read_layer(file, layer)


def _read_csv(path: str) -> PointTable:
    text = read_text(path)
    head = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    rows, lines = [], []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append([cell.strip() for cell in cells])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise UnreadableFileError(f"{path}, line {reader.line_num}: {error}") from error
    if len(rows) < 2:
        raise UnreadableFileError(f"{path} holds no rows", "a line of names, then a line a point")
    names = [name.lower() for name in rows[0]]
    columns: dict[str, list[str]] = {}
    for place, name in enumerate(names):
        if name and name not in columns:
            columns[name] = [cells[place] if place < len(cells) else "" for cells in rows[1:]]
    return PointTable(path, columns, lines[1:], decimal_commas=delimiter != ",")


def _read_layer(path: str, layer: str | None) -> PointTable:
    found = vectors.parsed("points", path, layer)
    xs, ys = np.array(found["xs"], np.float64), np.array(found["ys"], np.float64)
    return PointTable(path, found["columns"], found["ids"], False, xs, ys, found["crs"])


def require_point_file(path: Path) -> None:
    """Raise SettingError where points cannot be written under such a name."""
    if path.suffix.lower() not in WRITTEN:
        raise SettingError(f"{path} is no file for points", "name it .gpkg or .csv")


def write_points(
    path: Path,
    rows: npt.NDArray[np.int64],
    cols: npt.NDArray[np.int64],
    columns: Mapping[str, Sequence[Any]],
    grid: Grid | None,
    *,
    overwrite: bool = False,
) -> None:
    """Write pixels as points at their centres, with attributes.

    Parameters
    ----------
    path : Path
        ``.gpkg`` or ``.csv``. A table has the columns ``x`` and ``y`` too where there is a grid.
    rows, cols : ndarray, (points,), int64
        Pixels, counted from 0; they become columns of the same names.
    columns : mapping of str to sequence
        Further columns, a value a point; None for an empty cell.
    grid : Grid or None
        Georeference. Without one a GeoPackage has the points at (col + 0.5, -row - 0.5).
    overwrite : bool

    Raises
    ------
    SettingError
        Another suffix.
    ExistingOutputError, FailedError
        As of ``atomic_write``.
    """
    require_point_file(path)
    first = next(iter(columns))  # the number of the point, say
    table: dict[str, Sequence[Any]] = {first: columns[first], "row": rows.tolist()}
    table["col"] = cols.tolist()
    place = grid or Grid(None, (1, 0, 0, 0, -1, 0))
    xs, ys = coordinates_of(place, rows.astype(np.float64) + 0.5, cols.astype(np.float64) + 0.5)
    if path.suffix.lower() == ".csv" and grid is not None:
        table |= {"x": xs.tolist(), "y": ys.tolist()}
    table |= {name: values for name, values in columns.items() if name != first}
    with atomic_write(path, overwrite=overwrite) as temporary:
        if path.suffix.lower() == ".csv":
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(table)
                writer.writerows(zip(*table.values(), strict=True))
        else:
            wkt = known_wkt(grid.crs) if grid and grid.crs else None
            _write_layer(temporary, path.stem, xs, ys, table, wkt)


def _write_layer(
    path: Path, layer: str, xs: Floats, ys: Floats, table: Mapping[str, Sequence[Any]],
    wkt: str | None,
) -> None:  # fmt: skip
    import shapely
    from pyogrio import raw
    from pyogrio.errors import DataSourceError, FeatureError

    # Texts are objects to GDAL's wrapper; a column of nothing but nulls is one of empty texts.
    values = [
        np.array([value or "" for value in column], object)
        if isinstance(column[0], str | None)
        else np.array(column)
        for column in table.values()
    ]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            raw.write(
                path, shapely.to_wkb(shapely.points(xs, ys)), values, list(table),
                geometry_type="Point", layer=layer, driver="GPKG", crs=wkt,
            )  # fmt: skip
    except (DataSourceError, FeatureError) as error:
        raise OSError(" ".join(str(error).split())) from error
