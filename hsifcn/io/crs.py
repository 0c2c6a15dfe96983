"""Coordinate reference systems as GDAL knows them; it is loaded when the first is asked for."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import MismatchError
from hsifcn.core.scene import Grid

Floats = npt.NDArray[np.float64]

_NO_SHIFT = 1e-7  # degrees, 1 cm: longitudes and latitudes that agree so well were not shifted
_OTHER_ELLIPSOID = 1.0  # metres between semi-major axes from which on a shift is due
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


METRES_PER_DEGREE = 111_320.0  # of latitude, about


def metres_per_pixel(grid: Grid | None, shape: tuple[int, ...]) -> float | None:
    """Width of a pixel on the ground in metres; None where the grid or its CRS do not tell.

    In degrees it is that in the middle of a raster of ``shape``, for a scale bar.
    """
    wkt = known_wkt(grid.crs) if grid and grid.crs else None
    if grid is None or wkt is None:
        return None
    a, _, _, d, e, f = grid.transform
    scale = metres_per_unit(wkt)
    if scale is not None:
        return float(np.hypot(a, d)) * scale
    if not parse_crs(wkt).is_geographic:
        return None
    latitude = np.deg2rad(f + d * shape[1] / 2 + e * shape[0] / 2)
    return float(np.hypot(a * np.cos(latitude), d)) * METRES_PER_DEGREE


def north_of(grid: Grid) -> tuple[float, float]:
    """Columns and rows, together of length 1, of a step towards the north of the grid."""
    a, b, _, d, e, _ = grid.transform
    across, down = np.linalg.solve(np.array([[a, b], [d, e]]), np.array([0.0, 1.0]))
    length = float(np.hypot(across, down))
    return float(across) / length, float(down) / length


def reprojected(
    xs: Floats, ys: Floats, crs: str | None, wanted: str | None, path: str
) -> tuple[Floats, Floats]:
    """Bring coordinates into another CRS; longitude and easting come first in all.

    Where one of the two CRS is None, the coordinates stay as they are.

    Returns
    -------
    xs, ys : ndarray, float64
        Infinite where a point has no place in the other CRS.

    Warns
    -----
    UserWarning
        The two CRS have different datums, and PROJ knows no shift between them.

    Raises
    ------
    MismatchError
        One of the two is no CRS that PROJ knows.
    """
    if crs == wanted or crs is None or wanted is None:
        return xs, ys
    from rasterio.errors import CRSError

    try:
        source, target = (_with_known_datum(parse_crs(text)) for text in (crs, wanted))
    except CRSError as error:
        # What PROJ says holds both systems in full; their names tell as much in one line.
        raise MismatchError(
            f"{path} and the scene lie in '{_name(crs)}' and '{_name(wanted)}', and no way leads "
            "from one to the other",
            "give both in one CRS",
        ) from error
    across, up = _transformed(source, target, xs.ravel(), ys.ravel())
    known = np.flatnonzero(np.isfinite(across + up))[:1]
    before, after = (xs.ravel()[known], ys.ravel()[known]), (across[known], up[known])
    if _lacks_datum_shift(source, target, before, after):
        warnings.warn(
            f"{path} lies in '{_name(crs)}', and no datum shift from there to '{_name(wanted)}' is "
            "known: it may lie 100 m off; bring it into the CRS of the scene with a GIS",
            stacklevel=2,
        )
    return across.reshape(xs.shape), up.reshape(xs.shape)


def _transformed(source: Any, target: Any, xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
    """Transform points; those that PROJ refuses, far outside of a projection, become infinite."""
    from rasterio._err import CPLE_BaseError
    from rasterio.warp import transform

    try:
        across, up = transform(source, target, xs, ys)[:2]
        return np.asarray(across, np.float64), np.asarray(up, np.float64)
    except CPLE_BaseError:  # of all points for the sake of one
        if len(xs) == 1:
            return np.array([np.inf]), np.array([np.inf])
    half = len(xs) // 2
    parts = [
        _transformed(source, target, xs[at], ys[at]) for at in (slice(half), slice(half, None))
    ]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _with_known_datum(crs: Any) -> Any:
    """The CRS with its geographic part as the EPSG defines it, where it tells the EPSG's code.

    PROJ finds datum shifts by name: under another name, as in ``GCS_OSGB 1936``, it finds none.
    """
    from rasterio.crs import CRS

    wkt = crs.to_wkt(version="WKT1_GDAL")
    part = _geographic_part(wkt)
    code = re.search(r'AUTHORITY\["EPSG","(\d+)"\]\]$', part or "")
    if part is None or code is None:
        return crs
    known = CRS.from_epsg(int(code[1])).to_wkt(version="WKT1_GDAL")
    if part == wkt:
        return CRS.from_epsg(int(code[1]))
    return CRS.from_wkt(wkt.replace(part, known)) if known != part else crs


def _geographic_part(wkt: str) -> str | None:
    """The ``GEOGCS[...]`` of a WKT."""
    start = wkt.find("GEOGCS[")
    depth = 0
    for i in range(max(start, 0), len(wkt)):
        depth += {"[": 1, "]": -1}.get(wkt[i], 0)
        if wkt[i] == "]" and depth == 0 and start >= 0:
            return wkt[start : i + 1]
    return None


def _lacks_datum_shift(
    source: Any, target: Any, before: tuple[Floats, Floats], after: tuple[Floats, Floats]
) -> bool:
    """Whether a point has one longitude and latitude in two CRS on different ellipsoids."""
    from rasterio.crs import CRS

    parts = [_geographic_part(crs.to_wkt(version="WKT1_GDAL")) for crs in (source, target)]
    axes = [re.search(r'SPHEROID\["[^"]*",([0-9.]+)', part or "") for part in parts]
    if not len(before[0]) or not all(axes):
        return False
    first, second = (float(axis[1]) for axis in axes if axis)
    if abs(first - second) < _OTHER_ELLIPSOID:
        return False
    place = _transformed(source, CRS.from_wkt(parts[0]), *before)
    same = _transformed(target, CRS.from_wkt(parts[1]), *after)
    return bool(np.allclose(place, same, rtol=0, atol=_NO_SHIFT))


def _name(crs: str) -> str:
    """Name of a CRS: in well-known text what stands in the first quotes."""
    found = re.search(r'"([^"]*)"', crs)
    return " ".join((found[1] if found else crs).split())[:60]
