"""Label maps as polygons in a GeoPackage."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import Grid, LabelMap
from hsifcn.io.crs import known_wkt, metres_per_unit, parse_crs
from hsifcn.io.files import atomic_write
from hsifcn.io.qgis_style import hex_colour

_BATCH = 20_000  # polygons written at once
_EQUAL_AREA = "EPSG:6933"  # WGS 84 / NSIDC EASE-Grid 2.0, a cylindrical equal-area projection


def write_polygons(
    path: str | os.PathLike[str],
    labels: LabelMap,
    *,
    min_size: int = 1,
    overwrite: bool = False,
) -> int:
    """Write the connected areas of a label map as polygons.

    An area is what hangs together by the sides of pixels. The layer is called after the file and
    has the fields ``class`` (code), ``name``, ``colour`` (``#rrggbb``), ``pixels`` and ``area``:
    square metres where there is a CRS, else square units of the grid.

    Parameters
    ----------
    path : path
        A ``.gpkg`` file.
    labels : LabelMap
        Label 0, unclassified, gets no polygon.
    min_size : int
        Pixels of the smallest area. Smaller ones become part of their largest neighbour; those
        that have none, because all around is unclassified, are left out.
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
    polygons = _trace(labels, min_size)
    count = 0
    with atomic_write(path, overwrite=overwrite) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        options = {"layer": Path(path).stem, "driver": "GPKG", "crs": wkt}
        while True:
            batch = list(islice(polygons, _BATCH))
            if not batch and count:
                break
            geometry, fields = _table(batch, labels, wkt)
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
    return count


def _trace(labels: LabelMap, min_size: int) -> Iterator[tuple[dict[str, Any], float]]:
    """Polygons in pixel coordinates, and their labels."""
    from rasterio.features import shapes, sieve

    array = labels.labels
    if min_size > 1:
        array = sieve(array, size=min_size, mask=array > 0, connectivity=4)
    yield from (
        (polygon, label)
        for polygon, label in shapes(array, mask=array > 0, connectivity=4)
        if min_size == 1 or _pixels(polygon) >= min_size
    )


def _pixels(polygon: dict[str, Any]) -> float:
    """Area of a polygon in pixel coordinates."""
    from shapely.geometry import shape

    return float(shape(polygon).area)


def _table(
    batch: list[tuple[dict[str, Any], float]], labels: LabelMap, wkt: str | None
) -> tuple[npt.NDArray[np.object_], dict[str, npt.NDArray[Any]]]:
    """Geometries as WKB, and the fields."""
    import shapely
    from shapely.geometry import shape

    traced = np.array([shape(polygon) for polygon, _ in batch], dtype=object)
    classes = np.array([int(label) for _, label in batch], np.int32)
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
