"""Coordinate reference systems as GDAL knows them; it is loaded when the first is asked for."""

from __future__ import annotations

import re
from typing import Any

from hsifcn.core.scene import Grid

_CODE = re.compile(r"[A-Za-z]+:\w+")  # of an authority: EPSG:4326, OGC:CRS84


def parse_crs(text: str) -> Any:
    """Make rasterio's CRS of WKT or of the code of an authority, and of nothing else.

    GDAL alone would also take the name of a file that holds it, which a header must not choose.

    Raises
    ------
    rasterio.errors.CRSError
        GDAL does not understand it.
    """
    import rasterio
    from rasterio.crs import CRS

    with rasterio.Env():  # else GDAL writes to stderr what it does not understand
        return CRS.from_string(text) if _CODE.fullmatch(text) else CRS.from_wkt(text)


def known_wkt(text: str) -> str | None:
    """The WKT of a CRS in GDAL's words; None where GDAL does not understand it."""
    from rasterio.errors import CRSError

    try:
        return str(parse_crs(text).to_wkt())
    except CRSError:
        return None


def metres_per_unit(wkt: str) -> float | None:
    """Length of a unit of the coordinates, of a CRS that GDAL understands; None for degrees."""
    crs = parse_crs(wkt)
    return float(crs.linear_units_factor[1]) if crs.is_projected else None


def pixel_area(grid: Grid | None) -> float | None:
    """Square metres of a pixel; None where the grid or its CRS do not tell, as in degrees."""
    wkt = known_wkt(grid.crs) if grid and grid.crs else None
    scale = metres_per_unit(wkt) if wkt else None
    if grid is None or scale is None:
        return None
    a, b, _, d, e, _ = grid.transform
    return abs(a * e - b * d) * scale**2
