"""Polygons and points as labels, drawn on a scene's pixels.

Read are GeoPackage, GeoJSON, Shapefile, FlatGeobuf, KML and GML; ``vector_child`` parses them.
"""

from __future__ import annotations

import base64
import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import LabelError, MismatchError, OutsideError
from hsifcn.core.scene import Window, default_class_name
from hsifcn.io.alignment import (
    OutsideWarning,
    Target,
    coordinates_of,
    how_to_place,
    outside,
    pixels_at,
)
from hsifcn.io.cache import state_of
from hsifcn.io.child import run_child
from hsifcn.io.classes import class_codes
from hsifcn.io.crs import reprojected
from hsifcn.io.files import plain_path
from hsifcn.io.formats import GivenLabels

if TYPE_CHECKING:
    from shapely import Geometry

DRIVERS = {  # of GDAL, by suffix
    **{".gpkg": "GPKG", ".geojson": "GeoJSON", ".json": "GeoJSON", ".shp": "ESRI Shapefile"},
    **{".fgb": "FlatGeobuf", ".kml": "KML", ".gml": "GML"},
}
SUFFIXES = tuple(DRIVERS)
BESIDE_SHAPEFILE = (".dbf", ".shx", ".prj", ".cpg")
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
    table = _read(path, layer, field)
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


def parsed(task: str, path: str, layer: str | None, field: str | None = None) -> dict[str, Any]:
    """What ``vector_child`` makes of a file; GDAL is given a name that it understands."""
    is_gml = DRIVERS[Path(path).suffix.lower()] == "GML"
    with plain_path(path, always=is_gml) as file:
        return run_child("vector", task, state_of(str(file)), layer, field, name=path)


def _read(path: str, layer: str | None, field: str | None) -> _Table:
    """Read the values of the class field, the shapes, their identifiers and the CRS."""
    import shapely

    found = parsed("labels", path, layer, field)
    content, ends = base64.b64decode(found["wkb"]), np.cumsum([0, *found["lengths"]]).tolist()
    wkb = [content[start:end] or None for start, end in itertools.pairwise(ends)]
    shapes = shapely.from_wkb(np.array(wkb, object), on_invalid="ignore")
    values = np.array(found["values"], np.dtype(found["dtype"]))
    ids = np.array(found["ids"], np.int64)
    return _Table(values, shapes, ids, found["crs"], found["field"])


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
