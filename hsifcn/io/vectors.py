"""Polygons and points as labels, drawn on a scene's pixels.

Read are GeoPackage, GeoJSON, Shapefile, FlatGeobuf, KML and GML.
"""

from __future__ import annotations

import glob
import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import (
    AmbiguousInputError,
    LabelError,
    MismatchError,
    OutsideError,
    UnreadableFileError,
)
from hsifcn.core.scene import Window, default_class_name
from hsifcn.io.alignment import (
    OutsideWarning,
    Target,
    coordinates_of,
    how_to_place,
    outside,
    pixels_at,
)
from hsifcn.io.classes import class_codes, class_field
from hsifcn.io.crs import reprojected
from hsifcn.io.files import plain_path
from hsifcn.io.formats import GivenLabels, refuse_variable

if TYPE_CHECKING:
    from shapely import Geometry

_DRIVERS = {
    **{".gpkg": "GPKG", ".geojson": "GeoJSON", ".json": "GeoJSON", ".shp": "ESRI Shapefile"},
    **{".fgb": "FlatGeobuf", ".kml": "KML", ".gml": "GML"},
}
SUFFIXES = tuple(_DRIVERS)
BESIDE_SHAPEFILE = (".dbf", ".shx", ".prj", ".cpg")
# GDAL goes by content: a file named .geojson that is none may point at any file of the machine.
_STARTS = {
    **{"GPKG": b"SQLite format 3\0", "GeoJSON": b"{", "ESRI Shapefile": b"\x00\x00\x27\x0a"},
    **{"FlatGeobuf": b"fgb", "KML": b"<", "GML": b"<"},
}
_SAME_FORMAT = {"LIBKML": "KML"}  # drivers of GDAL for one format
# Else the GML driver writes a file beside the labels, and fetches schemas that they name.
OPTIONS = {"GML": {"WRITE_GFS": "NO", "DOWNLOAD_SCHEMA": "NO"}}
_POINT, _POLYGON = 0, 3  # of shapely.get_type_id
_LISTED = 3  # features that a warning names

Shapes = npt.NDArray[np.object_]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Table:
    """A layer as it is read: a value, a shape and an identifier a feature."""

    values: npt.NDArray[Any]
    shapes: Shapes
    ids: Numbers
    crs: str | None
    field: str


@dataclass(frozen=True)
class _Parts:
    """Single polygons and points: class code, number of the feature in its file, and names.

    Attributes
    ----------
    shapes : ndarray, (n,), shapely geometries
    codes, ids : ndarray, (n,), int64
    names : mapping of int to str
        Of the classes, by code.
    """

    shapes: Shapes
    codes: Numbers
    ids: Numbers
    names: Mapping[int, str]

    def name(self, code: int) -> str:
        """What a class is called."""
        return self.names.get(code) or default_class_name(code)

    def listed(self, indices: list[int]) -> str:
        """Name some of them by class and feature: "Oats: the only one, feature 12"."""
        texts = []
        for code in np.unique(self.codes[indices]).tolist():
            ids = [int(self.ids[i]) for i in indices if self.codes[i] == code]
            of_class = int(np.count_nonzero(self.codes == code))
            which = f"all {of_class}, " if len(ids) == of_class else ""
            which = "the only one, " if of_class == 1 else which
            texts.append(f"{self.name(code)}: {which}{_features(ids)}")
        return "; ".join(texts[:_LISTED]) + "; ..." * (len(texts) > _LISTED)


def read_labels(
    path: str, layer: str | None, target: Target, field: str | None, all_touched: bool
) -> GivenLabels:
    """Draw the polygons and points of a layer on the pixels of a scene.

    Vertices are reprojected to the CRS of the scene, edges stay straight, as GIS programs show
    them. A polygon labels the pixels whose centres it holds, a point the pixel that it lies in.
    Pixels that several classes claim stay unlabelled.

    Parameters
    ----------
    path : str
    layer : str or None
        Needed where the file has several layers.
    target : Target
        With a georeference.
    field : str or None
        The attribute that tells the class; see ``classes.class_field`` for what None means.
    all_touched : bool
        Polygons label every pixel that they touch.

    Warns
    -----
    UserWarning
        Shapes or pixels were left without a label, or the CRS is not known.

    Raises
    ------
    UnreadableFileError
        The file is damaged or of another kind.
    AmbiguousInputError
        Several layers or fields may be meant.
    LabelError
        It has no such layer or field, or labels no pixel of the scene.
    MismatchError
        Scene or layer cannot be placed on the other.
    """
    if target.grid is None:
        raise MismatchError(
            f"{path} holds map coordinates, and {target.name} has no georeference",
            f"give a label raster, or rows and columns as .csv{how_to_place(target)}",
        )
    is_gml = _DRIVERS[Path(path).suffix.lower()] == "GML"
    with reading(path), plain_path(path, always=is_gml) as file:
        table = _read(path, file, choose_layer(path, file, layer), field)
    classes = class_codes(
        f"{path}, field '{table.field}'",
        table.values,
        target.class_names,
        complete=target.names_are_complete,
    )
    parts = _usable(path, table, classes.codes, {**classes.names, **target.class_names})
    placed = _placed(path, parts.shapes, table.crs, target)
    codes, features = _drawn(path, parts, placed, target, all_touched)
    return GivenLabels(
        codes, classes.names, grid=target.grid, features=features, codes_given=classes.given
    )


def choose_layer(path: str, file: Path, wanted: str | None) -> str:
    """Choose a layer with shapes in it; GDAL is given ``file``, messages name ``path``."""
    import pyogrio

    driver = require_kind(path)
    layers = [str(name) for name, kind in pyogrio.list_layers(file) if kind is not None]
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


def require_kind(path: str) -> str:
    """Tell the driver by the suffix, and check that the file starts, and ends, like that."""
    driver = _DRIVERS[Path(path).suffix.lower()]
    with open(path, "rb") as file:
        start = file.read(64)
    if not start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_STARTS[driver]):
        raise UnreadableFileError(f"{path} is no {driver}", "export it again, to .gpkg say")
    if driver == "ESRI Shapefile":  # whose missing shapes GDAL takes for empty ones
        needed = 2 * int.from_bytes(start[24:28], "big")
        if os.path.getsize(path) < needed:
            raise UnreadableFileError(
                f"{path} is truncated: {os.path.getsize(path)} bytes where it tells of {needed}",
                "copy it again",
            )
    return driver


def require_driver(path: str, found: str) -> None:
    """Raise where GDAL reads a file by another driver than its suffix tells."""
    driver = _DRIVERS[Path(path).suffix.lower()]
    if _SAME_FORMAT.get(found, found) != driver:
        raise UnreadableFileError(f"{path} is no {driver}", "export it again, to .gpkg say")


def _read(path: str, file: Path, layer: str, wanted: str | None) -> _Table:
    """Read the values of the class field, the shapes, their identifiers and the CRS."""
    import pyogrio
    import shapely

    driver = _DRIVERS[Path(path).suffix.lower()]
    options: dict[str, Any] = dict(OPTIONS.get(driver, {}))
    if driver == "GPKG":
        refuse_view(path, file, layer)
    if driver == "ESRI Shapefile":
        options["encoding"] = _dbf_encoding(path)
    info = pyogrio.read_info(file, layer=layer, **options)
    require_driver(path, info["driver"])
    kinds = {str(n): str(k) for n, k in zip(info["fields"], info["dtypes"], strict=True)}
    fields = [n for n, kind in kinds.items() if kind.startswith(("object", "int", "float", "bool"))]
    integers = [name for name in fields if kinds[name].startswith("int")]
    field = class_field(path, fields, integers, wanted)
    meta, ids, wkb, columns = pyogrio.raw.read(
        file, layer=layer, columns=[field], force_2d=True, return_fids=True, **options
    )
    if wkb is None:
        raise LabelError(f"{path} holds no shapes", "labels are polygons or points")
    shapes = shapely.from_wkb(wkb, on_invalid="ignore")
    return _Table(columns[0], shapes, np.asarray(ids, np.int64), meta["crs"], field)


def refuse_view(path: str, file: Path, layer: str) -> None:
    """Refuse a layer that is a query and no table: it may run for ever."""
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)
        ) as database:
            query = "SELECT type FROM sqlite_master WHERE lower(name) = lower(?)"
            kinds = [kind for (kind,) in database.execute(query, (layer,))]
    except sqlite3.Error as error:
        raise UnreadableFileError(f"{path} cannot be read: {error}", "export it again") from error
    if "table" not in kinds:
        raise UnreadableFileError(f"layer '{layer}' of {path} is no table", "export it as one")


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


def _usable(path: str, table: _Table, codes: Numbers, names: Mapping[int, str]) -> _Parts:
    """Single points and polygons with a class; what else there was is told."""
    import shapely

    shapes = table.shapes
    filled = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    for left_out, fault in (
        (~filled, "have no shape"),
        (filled & (codes == 0), "have no class, or class 0"),
    ):
        if left_out.any():
            which = _features(table.ids[left_out].tolist())
            warnings.warn(
                f"{np.count_nonzero(left_out)} features of {path} {fault}: left out ({which})",
                stacklevel=2,
            )
    kept = filled & (codes > 0)
    parts, feature = shapely.get_parts(shapes[kept], return_index=True)
    nested = shapely.get_parts(parts, return_index=True)  # of collections of multipolygons
    parts, feature = nested[0], feature[nested[1]]
    areas_or_points = np.isin(shapely.get_type_id(parts), (_POINT, _POLYGON))
    other = ~areas_or_points
    if other.any():
        which = _features(table.ids[kept][feature][other].tolist())
        warnings.warn(
            f"{np.count_nonzero(other)} shapes of {path} are neither polygons nor points: left "
            f"out ({which})",
            stacklevel=2,
        )
    if not areas_or_points.any():
        raise LabelError(
            f"{path} holds no polygon and no point with a class", "classes are counted from 1"
        )
    feature = feature[areas_or_points]
    return _Parts(parts[areas_or_points], codes[kept][feature], table.ids[kept][feature], names)


def _features(ids: list[int]) -> str:
    """Name features by their number in the file."""
    different = list(dict.fromkeys(ids))
    shown = ", ".join(map(str, different[:_LISTED])) + ", ..." * (len(different) > _LISTED)
    return f"feature{'s' * (len(different) > 1)} {shown}"


def _placed(path: str, shapes: Shapes, crs: str | None, target: Target) -> Shapes:
    """Shapes in pixels of the scene: x in columns, y in rows.

    None where a vertex has no place in the CRS of the scene.
    """
    import shapely

    grid = target.grid
    assert grid is not None
    if crs is None:
        warnings.warn(f"{path} has no CRS: that of {target.name} is assumed", stacklevel=2)
    elif grid.crs is None:
        raise MismatchError(
            f"{path} is in a CRS, and the georeference of {target.name} names none",
            "add the CRS to the scene",
        )

    points, owner = shapely.get_coordinates(shapes, return_index=True)
    xs, ys = reprojected(points[:, 0], points[:, 1], crs, grid.crs, path)
    placeless = np.unique(owner[~np.isfinite(xs + ys)])
    with np.errstate(invalid="ignore"):
        rows, cols = pixels_at(grid, xs, ys)
    kept = ~np.isin(owner, placeless)
    placed = shapes.copy()
    placed[placeless] = None
    shapely.set_coordinates(placed, np.column_stack((cols, rows))[kept])
    return placed


def _drawn(
    path: str, parts: _Parts, placed: Shapes, target: Target, all_touched: bool
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32]]:
    """Codes and part numbers of the pixels that shapes cover; each is drawn in its own window."""
    labels = np.zeros(target.shape, np.uint32)
    features = np.zeros(target.shape, np.int32)
    claimed = np.zeros(target.shape, np.bool_)  # by several classes
    beside, empty = [], []
    placeless = [index for index, shape in enumerate(placed) if shape is None]
    rivals: set[int] = set()
    for index, (shape, code) in enumerate(zip(placed, parts.codes.tolist(), strict=True)):
        if shape is None:
            continue
        window = _window(shape, target.shape)
        if window is None:
            beside.append(index)
            continue
        mask = _mask(shape, window, all_touched)
        if not mask.any():
            empty.append(index)
        part = labels[window.slices]
        contested = mask & (part > 0) & (part != code)
        if contested.any():
            claimed[window.slices] |= contested
            rivals.update([code, *np.unique(part[contested]).tolist()])
        part[mask] = code
        features[window.slices][mask] = index + 1
    if len(beside) + len(placeless) == len(placed):
        raise _all_outside(path, placed, target)
    _tell_of_unused(path, parts, (beside, placeless, empty), target)
    if claimed.any():
        named = ", ".join(parts.name(code) for code in sorted(rivals)[:_LISTED])
        warnings.warn(
            f"{np.count_nonzero(claimed)} pixels lie in shapes of different classes of {path} "
            f"({named}{', ...' * (len(rivals) > _LISTED)}): left unlabelled",
            stacklevel=2,
        )
    labels[claimed], features[claimed] = 0, 0
    return labels, features


def _tell_of_unused(
    path: str, parts: _Parts, unused: tuple[list[int], list[int], list[int]], target: Target
) -> None:
    """Name the shapes that label nothing."""
    faults = (
        (f"lie outside of {target.name}", ""),
        (f"have a vertex without a place in the CRS of {target.name}: left out", ""),
        ("hold no pixel centre and label nothing", "; --all-touched labels what they touch"),
    )
    kinds = (OutsideWarning, UserWarning, UserWarning)
    for indices, (fault, remedy), kind in zip(unused, faults, kinds, strict=True):
        if indices:
            warnings.warn(
                f"{len(indices)} of {len(parts.codes)} shapes of {path} {fault} "
                f"({parts.listed(indices)}){remedy}",
                kind,
                stacklevel=2,
            )


def _window(shape: Geometry, size: tuple[int, int]) -> Window | None:
    """The pixels of the scene that a shape may touch; None where there are none."""
    import shapely

    left, top, right, bottom = shapely.bounds(shape)
    row, col = max(0, int(np.floor(top))), max(0, int(np.floor(left)))
    rows = min(size[0], int(np.floor(bottom)) + 1) - row
    cols = min(size[1], int(np.floor(right)) + 1) - col
    return Window(row, col, rows, cols) if rows > 0 and cols > 0 else None


def _mask(shape: Geometry, window: Window, all_touched: bool) -> npt.NDArray[np.bool_]:
    """The pixels of a window that a shape labels."""
    import shapely
    from rasterio.features import rasterize
    from rasterio.transform import Affine

    if shapely.get_type_id(shape) == _POINT:
        return np.ones((1, 1), np.bool_)
    drawn: npt.NDArray[np.uint8] = rasterize(
        [(shape, 1)],
        out_shape=(window.rows, window.cols),
        transform=Affine.translation(window.col, window.row),
        all_touched=all_touched,
        dtype=np.uint8,
    )
    return drawn > 0


def _all_outside(path: str, shapes: Shapes, target: Target) -> OutsideError:
    import shapely

    assert target.grid is not None
    points = shapely.get_coordinates(shapes)
    return outside(path, coordinates_of(target.grid, points[:, 1], points[:, 0]), target)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Name the file in what GDAL says of it."""
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError

    try:
        yield
    except (DataSourceError, DataLayerError, FeatureError, FieldError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split(";")[0].replace(os.path.abspath(path), "it").split())
        raise UnreadableFileError(f"{path} cannot be read: {reason[:200]}") from error
