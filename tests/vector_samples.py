"""Polygons and points as files, written with GDAL through pyogrio."""

from __future__ import annotations

import numpy as np
import pyogrio.raw
import shapely
from rasterio.crs import CRS
from rasterio.warp import transform

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".json": "GeoJSON", ".shp": "ESRI Shapefile"}
EAST, NORTH, PIXEL = 500000.0, 5300000.0, 20.0  # upper left corner of the scenes, UTM zone 32
MAP_INFO = f"{{UTM, 1, 1, {EAST}, {NORTH}, {PIXEL}, {PIXEL}, 32, North, WGS-84}}"
UTM, DEGREES = "EPSG:32632", "EPSG:4326"


def block(row, col, rows, cols, inset=0.0):
    """Give the outline of pixels of the scene, in UTM, drawn in by part of a pixel."""
    left, top = EAST + PIXEL * (col + inset), NORTH - PIXEL * (row + inset)
    right, bottom = EAST + PIXEL * (col + cols - inset), NORTH - PIXEL * (row + rows - inset)
    return shapely.box(left, bottom, right, top)


def centre(row, col):
    """Give the centre of a pixel, in UTM."""
    return shapely.Point(EAST + PIXEL * (col + 0.5), NORTH - PIXEL * (row + 0.5))


def in_crs(shapes, crs):
    """Shapes in UTM brought into another CRS."""

    def move(points):
        moved = transform(CRS.from_string(UTM), CRS.from_string(crs), *points.T)
        return np.column_stack(moved)

    return shapely.transform(np.array(shapes, dtype=object), move)


def write_shapes(path, shapes, crs=DEGREES, layer=None, append=False, **fields):
    """Write shapes given in UTM, and what is known of each; give the path."""
    placed = np.array(shapes, dtype=object) if crs in (UTM, None) else in_crs(shapes, crs)
    shapes_only = [shape for shape in placed if shape is not None]
    kinds = {shapely.get_type_id(shape) for shape in shapes_only}
    names = {0: "Point", 3: "Polygon"}
    pyogrio.raw.write(
        path,
        shapely.to_wkb(placed),
        [np.array(values, dtype=object if isinstance(values[0], str) else None)
         for values in fields.values()],
        list(fields),
        geometry_type=names.get(kinds.pop(), "Unknown") if len(kinds) == 1 else "Unknown",
        crs=crs,
        driver=DRIVERS[path.suffix],
        layer=layer,
        append=append,
    )  # fmt: skip
    return path
