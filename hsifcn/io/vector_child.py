"""Parses one vector file with GDAL, in a process that may crash or be killed.

``hsifcn.io.parser`` calls ``main``. The task ``labels`` gives shapes and the values of the class
field, ``points`` the coordinates of points and all attributes as text, ``layers`` what each layer
holds.
"""

from __future__ import annotations

import base64
import glob
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import AmbiguousInputError, LabelError, UnreadableFileError
from hsifcn.io.classes import class_field
from hsifcn.io.formats import refuse_variable
from hsifcn.io.vectors import DRIVERS

# GDAL goes by content: a file named .geojson that is none may point at any file of the machine.
_STARTS = {
    **{"GPKG": b"SQLite format 3\0", "GeoJSON": b"{", "ESRI Shapefile": b"\x00\x00\x27\x0a"},
    **{"FlatGeobuf": b"fgb", "KML": b"<", "GML": b"<"},
}
_SAME_FORMAT = {"LIBKML": "KML"}  # drivers of GDAL for one format
# Else the GML driver writes a file beside the labels, and fetches schemas that they name.
_OPTIONS = {"GML": {"WRITE_GFS": "NO", "DOWNLOAD_SCHEMA": "NO"}}
_POINT = 0  # of shapely.get_type_id


def main(task: str, path: str, layer: str | None, field: str | None) -> dict[str, Any]:
    """Do one task; see the module."""
    with _reading(path):
        if task == "layers":
            return {"layers": _layers(path)}
        chosen = _choose_layer(path, layer)
        return _labels(path, chosen, field) if task == "labels" else _points(path, chosen)


def _choose_layer(path: str, wanted: str | None) -> str:
    """Choose a layer with shapes in it."""
    import pyogrio

    driver = _require_kind(path)
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if driver not in ("GPKG", "KML", "GML"):
        refuse_variable(path, wanted)
    elif wanted is not None:
        if wanted not in layers:
            raise LabelError(
                f"{path} has no layer '{wanted}'", f"its layers are {', '.join(layers)}"
            )
        return wanted
    if not layers:
        raise LabelError(f"{path} holds no shapes", "labels are polygons or points")
    if len(layers) > 1:
        raise AmbiguousInputError(
            f"{path} has several layers", f"name one: {', '.join(f'{path}:{n}' for n in layers)}"
        )
    return layers[0]


def _layers(path: str) -> list[dict[str, Any]]:
    """What the layers with shapes hold, as ``layers.Layer`` tells it."""
    import pyogrio

    driver = _require_kind(path)
    named = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if not named:
        raise LabelError(f"{path} holds no shapes", "labels are polygons or points")
    found = []
    for name in named:
        if driver == "GPKG":
            _refuse_view(path, name)
        options: dict[str, Any] = dict(_OPTIONS.get(driver, {}))
        info = pyogrio.read_info(path, layer=name, force_feature_count=True, **options)
        _require_driver(path, info["driver"])
        found.append(
            {
                "name": name,
                "features": int(info["features"]),
                "geometry": str(info["geometry_type"]),
                "fields": [str(field) for field in info["fields"]],
                "crs": str(info["crs"]) if info["crs"] else None,
            }
        )
    return found


def _require_driver(path: str, found: str) -> None:
    """Raise where GDAL reads a file by another driver than its suffix tells."""
    driver = DRIVERS[Path(path).suffix.lower()]
    if _SAME_FORMAT.get(found, found) != driver:
        raise UnreadableFileError(f"{path} is no {driver}", "export it again, to .gpkg say")


def _require_kind(path: str) -> str:
    """Tell the driver by the suffix, and check that the file starts, and ends, like that."""
    driver = DRIVERS[Path(path).suffix.lower()]
    with open(path, "rb") as opened:
        start = opened.read(64)
    if not start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_STARTS[driver]):
        raise UnreadableFileError(f"{path} is no {driver}", "export it again, to .gpkg say")
    if driver == "ESRI Shapefile":  # whose missing shapes GDAL takes for empty ones
        needed, size = 2 * int.from_bytes(start[24:28], "big"), os.path.getsize(path)
        if size < needed:
            raise UnreadableFileError(
                f"{path} is truncated: {size} bytes where it tells of {needed}", "copy it again"
            )
    if driver == "GPKG":
        query = "SELECT name FROM sqlite_master WHERE name LIKE 'gpkg\\_%' ESCAPE '\\'"
        for name in _names_in(path, f"{query} AND type = 'view'"):
            raise UnreadableFileError(f"'{name}' in {path} is no table", "export it again")
    return driver


def _labels(path: str, layer: str, wanted: str | None) -> dict[str, Any]:
    """Values of the class field, shapes, their identifiers and the CRS."""
    import pyogrio

    driver = DRIVERS[Path(path).suffix.lower()]
    options: dict[str, Any] = dict(_OPTIONS.get(driver, {}))
    if driver == "GPKG":
        _refuse_view(path, layer)
    if driver == "ESRI Shapefile":
        options["encoding"] = _dbf_encoding(path)
    info = pyogrio.read_info(path, layer=layer, **options)
    _require_driver(path, info["driver"])
    kinds = {str(n): str(k) for n, k in zip(info["fields"], info["dtypes"], strict=True)}
    fields = [n for n, kind in kinds.items() if kind.startswith(("object", "int", "float", "bool"))]
    integers = [name for name in fields if kinds[name].startswith("int")]
    field = class_field(path, fields, integers, wanted)
    meta, ids, wkb, columns = pyogrio.raw.read(
        path, layer=layer, columns=[field], force_2d=True, return_fids=True, **options
    )
    if wkb is None:
        raise LabelError(f"{path} holds no shapes", "labels are polygons or points")
    return {
        "values": columns[0].tolist(),
        "dtype": columns[0].dtype.str,
        "ids": np.asarray(ids, np.int64).tolist(),
        "crs": meta["crs"],
        "field": field,
        **_packed(wkb),
    }


def _packed(wkb: npt.NDArray[np.object_]) -> dict[str, Any]:
    """Shapes as one text and the bytes of each, 0 where there is none."""
    shapes = [shape or b"" for shape in wkb.tolist()]
    return {
        "wkb": base64.b64encode(b"".join(shapes)).decode("ascii"),
        "lengths": [len(shape) for shape in shapes],
    }


def _points(path: str, layer: str) -> dict[str, Any]:
    """Coordinates of points, NaN for other shapes, and all attributes as text."""
    import pyogrio
    import shapely

    if Path(path).suffix.lower() == ".gpkg":
        _refuse_view(path, layer)
    meta, ids, wkb, values = pyogrio.raw.read(
        path, layer=layer, force_2d=True, return_fids=True, datetime_as_string=True
    )
    if not len(ids):
        raise UnreadableFileError(f"{path} holds no rows", "it needs a feature a point")
    columns = {
        str(name).lower(): [_text(value) for value in column.tolist()]
        for name, column in zip(meta["fields"], values, strict=True)
    }
    xs, ys = np.full((2, len(ids)), np.nan)
    if wkb is not None:
        shapes = shapely.from_wkb(wkb, on_invalid="ignore")
        is_point = shapely.get_type_id(shapes) == _POINT
        xs[is_point] = shapely.get_x(shapes[is_point])
        ys[is_point] = shapely.get_y(shapes[is_point])
    return {
        "columns": columns,
        "ids": np.asarray(ids).tolist(),
        "xs": xs.tolist(),
        "ys": ys.tolist(),
        "crs": meta["crs"],
    }


def _text(value: object) -> str:
    """A value of an attribute as text; whole numbers without a point, nothing for null."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _refuse_view(path: str, layer: str) -> None:
    """Refuse a layer that is a query and no table: it may run for ever."""
    query = "SELECT type FROM sqlite_master WHERE lower(name) = lower(?)"
    if "table" not in _names_in(path, query, layer):
        raise UnreadableFileError(f"layer '{layer}' of {path} is no table", "export it as one")


def _names_in(path: str, query: str, *arguments: str) -> list[str]:
    """The first column that a query of a GeoPackage's own tables gives."""
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as database:
            return [row[0] for row in database.execute(query, arguments)]
    except sqlite3.Error as error:
        raise UnreadableFileError(f"{path} cannot be read: {error}", "export it again") from error


def _dbf_encoding(path: str) -> str | None:
    """UTF-8 where the attributes of a shapefile are that and no file says so; None as told."""
    base = Path(path)
    beside = {file.suffix.lower(): file for file in base.parent.glob(f"{glob.escape(base.stem)}.*")}
    if ".cpg" in beside or ".dbf" not in beside:
        return None
    content = beside[".dbf"].read_bytes()
    records = content[int.from_bytes(content[8:10], "little") :]
    try:
        records.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if records.isascii() else "UTF-8"


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Name the file in what GDAL says of it."""
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError

    try:
        yield
    except (DataSourceError, DataLayerError, FeatureError, FieldError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split(";")[0].replace(path, "it").split())
        raise UnreadableFileError(f"{path} cannot be read: {reason[:200]}") from error
