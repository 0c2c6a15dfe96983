"""ENVI's ``map info``: where the pixels lie, to and from a ``Grid``."""

from __future__ import annotations

import math
import re
import warnings

from hsifcn.core.scene import Grid
from hsifcn.io.envi_header import EnviHeader

_WGS84 = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]'
)


def read_grid(header: EnviHeader) -> Grid | None:
    """Read where a raster lies; None where its header does not tell.

    ``map info`` names a projection, a pixel (counted from 1, its upper left corner being
    (1, 1)), the map coordinates of that pixel, the size of pixels, and maybe a rotation in
    degrees. The CRS is the ``coordinate system string``; without one it is derived from map info
    for WGS-84 in UTM or degrees, and None for all others.

    Raises
    ------
    UnreadableFileError
        ``map info`` is incomplete or its numbers are none.
    """
    words = header.words("map info")
    if not words:
        return None
    if len(words) < 7:
        raise header.fault("has an incomplete 'map info'")
    col, row, x, y, width, height = (_finite(header, word) for word in words[1:7])
    angle = 0.0
    for word in words[7:]:
        name, _, value = word.partition("=")
        if name.strip().lower() == "rotation":
            angle = math.radians(_finite(header, value))
    a, b = width * math.cos(angle), width * math.sin(angle)
    d, e = height * math.sin(angle), -height * math.cos(angle)
    c = x - (col - 1) * a - (row - 1) * b
    f = y - (col - 1) * d - (row - 1) * e
    crs = header.text("coordinate system string") or _crs(words)
    return Grid(crs, (a, b, c, d, e, f))


def map_fields(grid: Grid | None) -> dict[str, str]:
    """Header fields that place a raster.

    Warns
    -----
    UserWarning
        The grid is sheared, which ENVI cannot tell; the fields are left out.
    """
    if grid is None:
        return {}
    a, b, c, d, e, f = grid.transform
    width, height = math.hypot(a, b), math.hypot(d, e)
    angle = math.atan2(b, a)
    shear = abs(d - height * math.sin(angle)) + abs(e + height * math.cos(angle))
    if width == 0 or shear > 1e-6 * height or height == 0:
        warnings.warn(
            "ENVI cannot hold a sheared or mirrored grid: it is left out; GeoTIFF can (.tif)",
            stacklevel=2,
        )
        return {}
    words = [_projection(grid.crs), "1", "1", *(repr(v) for v in (c, f, width, height))]
    words += _datum(grid.crs)
    if abs(angle) > 1e-12:
        words.append(f"rotation={math.degrees(angle)!r}")
    fields = {"map info": f"{{{', '.join(words)}}}"}
    if grid.crs:
        crs = " ".join(grid.crs.split()).replace("{", "(").replace("}", ")")
        fields["coordinate system string"] = f"{{{crs}}}"
    return fields


def _finite(header: EnviHeader, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise header.fault(f"has something else than a number in 'map info': {text[:40]!r}")
    return value


def _crs(words: tuple[str, ...]) -> str | None:
    """WKT of WGS-84, plain or in a UTM zone, from the words of map info."""
    rest = [word.lower() for word in words[7:]]
    if "wgs-84" not in rest:
        return None
    projection = words[0].lower()
    if projection == "geographic lat/lon":
        return _WGS84
    zone = int(rest[0]) if re.fullmatch(r"[0-9]{1,2}", rest[0]) else 0
    if projection != "utm" or not 1 <= zone <= 60 or rest[1] not in {"north", "south"}:
        return None
    south = rest[1] == "south"
    return (
        f'PROJCS["WGS 84 / UTM zone {zone}{"S" if south else "N"}",{_WGS84},'
        'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
        f'PARAMETER["central_meridian",{6 * zone - 183}],PARAMETER["scale_factor",0.9996],'
        f'PARAMETER["false_easting",500000],PARAMETER["false_northing",{10**7 if south else 0}],'
        'UNIT["metre",1]]'
    )


def _utm_zone(crs: str) -> re.Match[str] | None:
    return re.match(r'PROJ(?:CS|CRS)\["[^"]*UTM[ _]zone[ _](\d+)([NS])', crs, re.IGNORECASE)


def _projection(crs: str | None) -> str:
    if crs is None:
        return "Arbitrary"
    if crs.startswith("GEOG"):
        return "Geographic Lat/Lon"
    return "UTM" if _utm_zone(crs) else "Projected"


def _datum(crs: str | None) -> list[str]:
    """Words of map info after the pixel size: zone, hemisphere, datum."""
    if crs is None:
        return ["0", "North"]
    datum = ["WGS-84"] if re.search(r"WGS[ _]?(19)?84", crs) else []
    zone = _utm_zone(crs)
    if zone is None:
        return datum
    return [zone[1], "South" if zone[2].upper() == "S" else "North", *datum]
