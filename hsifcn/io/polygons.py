"""Label maps as polygons in a GeoPackage."""

from __future__ import annotations

import math
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import Grid, LabelMap
from hsifcn.io.crs import known_wkt, metres_per_unit, parse_crs
from hsifcn.io.files import atomic_write
from hsifcn.io.qgis_style import hex_colour, polygon_style

NO_CONFIDENCE = 255  # in a raster of confidence
_Traced = tuple[dict[str, Any], int, float]
_STYLES = """CREATE TABLE layer_styles (
id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT,
styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))"""  # as QGIS makes it
_BATCH = 20_000  # polygons written at once
_EQUAL_AREA = "EPSG:6933"  # WGS 84 / NSIDC EASE-Grid 2.0, a cylindrical equal-area projection


def write_polygons(
    path: str | os.PathLike[str],
    labels: LabelMap,
    *,
    min_size: int = 1,
    confidence: npt.NDArray[np.uint8] | None = None,
    overwrite: bool = False,
) -> int:
    """Write the connected areas of a label map as polygons.

    An area is what hangs together by the sides of pixels. The layer is called after the file and
    has the fields ``class`` (code), ``name``, ``colour`` (``#rrggbb``), ``pixels`` and ``area``:
    square metres where there is a CRS, else square units of the grid. With ``confidence`` also
    ``confidence``, its mean over the area. QGIS opens the layer in the colours of the classes.

    Parameters
    ----------
    path : path
        A ``.gpkg`` file.
    labels : LabelMap
        Label 0, unclassified, gets no polygon.
    min_size : int
        Pixels of the smallest area. Smaller ones become part of their largest neighbour; those
        that have none, because all around is unclassified, are left out.
    confidence : ndarray, (rows, cols), uint8, optional
        Per cent, 255 where it is not known.
    overwrite : bool

    Returns
    -------
    int
        Polygons written.

    Raises
    ------
    ExistingOutputError
        The file exists.
    FailedError
        It cannot be written.
    """
    from pyogrio import raw
    from pyogrio.errors import DataSourceError, FeatureError

    wkt = _wkt(labels.grid)
    polygons = _trace(labels, min_size, confidence)
    count = 0
    with atomic_write(path, overwrite=overwrite) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        options = {"layer": Path(path).stem, "driver": "GPKG", "crs": wkt}
        while True:
            batch = list(islice(polygons, _BATCH))
            if not batch and count:
                break
            geometry, fields = _table(batch, labels, wkt)
            if confidence is not None:
                fields["confidence"] = np.array([mean for *_, mean in batch], np.float64)
            try:
                raw.write(
                    temporary, geometry, list(fields.values()), list(fields),
                    geometry_type="Polygon", append=count > 0, **options,
                )  # fmt: skip
            except (DataSourceError, FeatureError) as error:
                raise OSError(" ".join(str(error).split())) from error
            count += len(batch)
            if not batch:
                break
        _require_complete(temporary, count)
        _add_style(temporary, Path(path).stem, labels)
    return count


def _add_style(path: Path, layer: str, labels: LabelMap) -> None:
    """Add the table in which QGIS keeps the styles of a GeoPackage's layers.

    Raises
    ------
    OSError
        It cannot be written.
    """
    style = polygon_style(labels.codes, labels.class_names, labels.colours)
    try:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(_STYLES)
            database.execute(
                "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
                "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, "
                "owner) VALUES ('', '', ?, 'geom', 'classes', ?, '', 1, '', '')",
                (layer, style),
            )
            database.execute(
                "INSERT INTO gpkg_contents (table_name, data_type, identifier) "
                "VALUES ('layer_styles', 'attributes', 'layer_styles')"
            )
    except sqlite3.Error as error:
        raise OSError(" ".join(str(error).split())) from error


def _trace(
    labels: LabelMap, min_size: int, confidence: npt.NDArray[np.uint8] | None
) -> Iterator[_Traced]:
    """Polygons in pixel coordinates, their labels and their mean confidence."""
    from rasterio.features import shapes, sieve

    array = labels.labels
    if min_size > 1:
        array = sieve(array, size=min_size, mask=array > 0, connectivity=4)
    if confidence is None:
        found = ((p, int(label), math.nan) for p, label in shapes(array, array > 0, 4))
    else:
        areas, classes, means = _areas_with_means(array, confidence)
        found = (
            (p, int(classes[int(area)]), float(means[int(area)]))
            for p, area in shapes(areas, areas > 0, 4)
        )
    yield from (one for one in found if min_size == 1 or _pixels(one[0]) >= min_size)


def _areas_with_means(
    labels: npt.NDArray[np.integer[Any]], confidence: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Number the areas of a map from 1; give the label and the mean confidence of each."""
    from scipy.ndimage import label as number_areas

    areas = np.zeros(labels.shape, np.int32)
    classes = [0]
    for label in np.unique(labels[labels > 0]).tolist():
        numbered, count = number_areas(labels == label)
        areas[numbered > 0] = numbered[numbered > 0] + len(classes) - 1
        classes += [label] * count
    known = confidence != NO_CONFIDENCE
    size = len(classes)
    total = np.bincount(areas[known], confidence[known].astype(float), size)
    with np.errstate(invalid="ignore"):
        means = total / np.bincount(areas[known], minlength=size)
    return areas, np.array(classes, np.int32), means


def _pixels(polygon: dict[str, Any]) -> float:
    """Area of a polygon in pixel coordinates."""
    from shapely.geometry import shape

    return float(shape(polygon).area)


def _table(
    batch: list[_Traced], labels: LabelMap, wkt: str | None
) -> tuple[npt.NDArray[np.object_], dict[str, npt.NDArray[Any]]]:
    """Geometries as WKB, and the fields."""
    import shapely
    from shapely.geometry import shape

    traced = np.array([shape(polygon) for polygon, *_ in batch], dtype=object)
    classes = np.array([label for _, label, _ in batch], np.int32)
    pixels = np.rint(shapely.area(traced)).astype(np.int64)
    # Without a place rows still run downwards.
    a, b, c, d, e, f = labels.grid.transform if labels.grid else (1, 0, 0, 0, -1, 0)
    forward = np.array([(a, d), (b, e)])
    placed = shapely.transform(traced, lambda points: points @ forward + (c, f))
    names = np.array(["", *labels.class_names], dtype=object)
    colours = np.array(["", *map(hex_colour, labels.colours)], dtype=object)
    fields = {
        "class": np.array((0, *labels.codes), np.int64)[classes],
        "name": names[classes],
        "colour": colours[classes],
        "pixels": pixels,
        "area": _areas(placed, wkt),
    }
    return shapely.to_wkb(placed), fields


def _areas(polygons: npt.NDArray[np.object_], wkt: str | None) -> npt.NDArray[np.float64]:
    """Areas in square metres, or square units of the grid where the CRS is unknown."""
    import shapely
    from rasterio.warp import transform

    crs = parse_crs(wkt) if wkt else None
    if wkt is None or crs is None or not crs.is_geographic:
        scale = (metres_per_unit(wkt) if wkt else None) or 1.0
        return np.asarray(shapely.area(polygons) * scale**2)

    def on_plane(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.stack(transform(crs, _EQUAL_AREA, points[:, 0], points[:, 1]), 1)

    return np.asarray(shapely.area(shapely.transform(polygons, on_plane)))


def _wkt(grid: Grid | None) -> str | None:
    """The CRS, where GDAL knows it."""
    return None if grid is None or grid.crs is None else known_wkt(grid.crs)


def _require_complete(path: Path, count: int) -> None:
    """Raise OSError where not all polygons arrived in the file."""
    from pyogrio import read_info

    found = read_info(path, force_feature_count=True)["features"]
    if found != count:
        raise OSError(f"the file came out incomplete, {found} of {count} polygons")
