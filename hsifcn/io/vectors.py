"""Polygons and points as labels: GeoPackage, GeoJSON and Shapefile, drawn on a scene's pixels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import AmbiguousInputError, LabelError, MismatchError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io.alignment import (
    Target,
    coordinates_of,
    how_to_place,
    outside,
    pixels_at,
    reprojected,
)
from hsifcn.io.classes import class_field, class_numbers
from hsifcn.io.formats import GivenLabels, refuse_variable

if TYPE_CHECKING:
    from shapely import Geometry

_DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".json": "GeoJSON", ".shp": "ESRI Shapefile"}
SUFFIXES = tuple(_DRIVERS)
# GDAL goes by content: a file named .geojson that is none may point at any file of the machine.
_STARTS = {"GPKG": b"SQLite format 3\0", "GeoJSON": b"{", "ESRI Shapefile": b"\x00\x00\x27\x0a"}
_POINT, _POLYGON = 0, 3  # of shapely.get_type_id

Shapes = npt.NDArray[np.object_]
Numbers = npt.NDArray[np.int64]


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
    with _reading(path):
        name = _layer(path, layer)
        values, shapes, crs, name_of_field = _read(path, name, field)
    numbers, class_names = class_numbers(
        f"{path}, field '{name_of_field}'", values, target.class_names
    )
    shapes, numbers = _usable(path, shapes, numbers)
    placed = _placed(path, shapes, crs, target)
    labels = _drawn(path, placed, numbers, target, all_touched)
    return GivenLabels(labels, class_names, grid=target.grid)


def _layer(path: str, wanted: str | None) -> str:
    """Choose a layer with shapes in it."""
    import pyogrio

    driver = _require_kind(path)
    layers = [str(name) for name, kind in pyogrio.list_layers(Path(path)) if kind is not None]
    if driver != "GPKG":
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


def _require_kind(path: str) -> str:
    """Tell the driver by the suffix, and check that the file starts, and ends, like that."""
    driver = _DRIVERS[Path(path).suffix.lower()]
    with open(path, "rb") as file:
        start = file.read(64)
    if not start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_STARTS[driver]):
        raise UnreadableFileError(f"{path} is no {driver}", "export it again")
    if driver == "ESRI Shapefile":  # whose missing shapes GDAL takes for empty ones
        needed = 2 * int.from_bytes(start[24:28], "big")
        if os.path.getsize(path) < needed:
            raise UnreadableFileError(
                f"{path} is truncated: {os.path.getsize(path)} bytes where it tells of {needed}",
                "copy it again",
            )
    return driver


def _read(
    path: str, layer: str, wanted: str | None
) -> tuple[npt.NDArray[Any], Shapes, str | None, str]:
    """Read the values of the class field, the shapes, the CRS, and the name of the field."""
    import pyogrio
    import shapely

    info = pyogrio.read_info(Path(path), layer=layer)
    if info["driver"] not in _STARTS:
        raise UnreadableFileError(f"{path} is no {_DRIVERS[Path(path).suffix.lower()]}")
    kinds = {str(n): str(k) for n, k in zip(info["fields"], info["dtypes"], strict=True)}
    fields = [name for name, kind in kinds.items() if kind.startswith(("object", "int", "float"))]
    integers = [name for name in fields if kinds[name].startswith("int")]
    field = class_field(path, fields, integers, wanted)
    meta, _, wkb, columns = pyogrio.raw.read(
        Path(path), layer=layer, columns=[field], force_2d=True
    )
    if wkb is None:
        raise LabelError(f"{path} holds no shapes", "labels are polygons or points")
    return columns[0], shapely.from_wkb(wkb, on_invalid="ignore"), meta["crs"], field


def _usable(path: str, shapes: Shapes, numbers: Numbers) -> tuple[Shapes, Numbers]:
    """Single points and polygons with a class; what else there was is told."""
    import shapely

    filled = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    for count, fault in (
        (np.count_nonzero(~filled), "have no shape"),
        (np.count_nonzero(filled & (numbers == 0)), "have no class, or class 0"),
    ):
        if count:
            warnings.warn(f"{count} features of {path} {fault}: left out", stacklevel=2)
    kept = filled & (numbers > 0)
    parts, feature = shapely.get_parts(shapes[kept], return_index=True)
    nested = shapely.get_parts(parts, return_index=True)  # of collections of multipolygons
    parts, feature = nested[0], feature[nested[1]]
    areas_or_points = np.isin(shapely.get_type_id(parts), (_POINT, _POLYGON))
    other = np.count_nonzero(~areas_or_points)
    if other:
        warnings.warn(
            f"{other} shapes of {path} are neither polygons nor points: left out", stacklevel=2
        )
    if not areas_or_points.any():
        raise LabelError(
            f"{path} holds no polygon and no point with a class", "classes are counted from 1"
        )
    return parts[areas_or_points], numbers[kept][feature][areas_or_points]


def _placed(path: str, shapes: Shapes, crs: str | None, target: Target) -> Shapes:
    """Shapes in pixels of the scene: x in columns, y in rows."""
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

    def to_pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        rows, cols = pixels_at(grid, *reprojected(points[:, 0], points[:, 1], crs, grid.crs, path))
        return np.column_stack((cols, rows))

    return shapely.transform(shapes, to_pixels)  # type: ignore[no-any-return]


def _drawn(
    path: str, shapes: Shapes, numbers: Numbers, target: Target, all_touched: bool
) -> npt.NDArray[np.uint16]:
    """Labels of the pixels that shapes cover; each is drawn in a window of its own."""
    labels = np.zeros(target.shape, np.uint16)
    claimed = np.zeros(target.shape, np.bool_)  # by several classes
    beside = empty = 0
    for shape, number in zip(shapes, numbers, strict=True):
        window = _window(shape, target.shape)
        if window is None:
            beside += 1
            continue
        mask = _mask(shape, window, all_touched)
        empty += not mask.any()
        part = labels[window.slices]
        claimed[window.slices] |= mask & (part > 0) & (part != number)
        part[mask] = number
    if beside == len(shapes):
        raise _all_outside(path, shapes, target)
    for count, fault in (
        (beside, f"lie outside of {target.name}"),
        (empty, "hold no pixel centre and label nothing; --all-touched labels what they touch"),
    ):
        if count:
            warnings.warn(f"{count} of {len(shapes)} shapes of {path} {fault}", stacklevel=2)
    if claimed.any():
        warnings.warn(
            f"{np.count_nonzero(claimed)} pixels lie in shapes of different classes of {path}: "
            "left unlabelled",
            stacklevel=2,
        )
    labels[claimed] = 0
    return labels


def _window(shape: Geometry, size: tuple[int, int]) -> Window | None:
    """The pixels of the scene that a shape may touch; None where there are none."""
    import shapely

    left, top, right, bottom = shapely.bounds(shape)
    if not np.isfinite([left, top, right, bottom]).all():
        return None
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


def _all_outside(path: str, shapes: Shapes, target: Target) -> LabelError:
    import shapely

    assert target.grid is not None
    points = shapely.get_coordinates(shapes)
    return outside(path, coordinates_of(target.grid, points[:, 1], points[:, 0]), target)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Name the file in what GDAL says of it."""
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError

    try:
        yield
    except (DataSourceError, DataLayerError, FeatureError, FieldError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split(";")[0].replace(os.path.abspath(path), "it").split())
        raise UnreadableFileError(f"{path} cannot be read: {reason[:200]}") from error
