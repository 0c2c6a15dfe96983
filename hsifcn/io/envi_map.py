"""ENVI's ``map info``: where the pixels lie, to and from a ``Grid``."""

from __future__ import annotations

import math
import re
import secrets
import warnings

from hsifcn.core.scene import Grid
from hsifcn.io.envi_header import EnviHeader, format_header

_CRS_TEXT = re.compile(r"\s*(?:[A-Z_]+\s*\[|[A-Za-z]+:\w+\s*$)")  # WKT, or a code of an authority
_NORTHWARD = 180.0  # degrees of rotation, by which GDAL tells that rows run northward

# Datums as other programs write them, in GDAL's words; it takes unknown ones for WGS 84.
_DATUMS = {
    **dict.fromkeys(
        ("wgs84", "wgs 84", "wgs_84", "wgs1984", "wgs 1984", "wgs_1984", "wgs-1984", "d_wgs_1984"),
        "WGS-84",
    ),
    **dict.fromkeys(("wgs72", "wgs 72", "wgs_72", "wgs_1972", "wgs 1972"), "WGS-72"),
    **dict.fromkeys(
        ("nad83", "nad 83", "nad-83", "nad_83", "nad_1983", "north american datum 1983"),
        "North America 1983",
    ),
    **dict.fromkeys(
        ("nad27", "nad 27", "nad-27", "nad_27", "nad_1927", "north american datum 1927"),
        "North America 1927",
    ),
    **dict.fromkeys(("ed50", "ed 50", "european datum 1950"), "European 1950"),
}
_KNOWN_DATUMS = {
    *(word.casefold() for word in _DATUMS.values()),
    *("ordnance survey of great britain '36", "sad-69/brazil", "australian geodetic 1984"),
    *("geocentric datum of australia 1994", "nouvelle triangulation francaise ign"),
}


def read_grid(header: EnviHeader) -> Grid | None:
    """Read where a raster lies; None where its header does not tell.

    ``map info`` names a projection, a pixel (counted from 1, its upper left corner being
    (1, 1)), the map coordinates of that pixel, the size of pixels, and maybe a rotation in
    degrees; one of 180 means, as GDAL writes it, rows that run northward. The CRS is the
    ``coordinate system string``, else what GDAL makes of ``map info`` and ``projection info``.

    Raises
    ------
    UnreadableFileError
        ``map info`` is incomplete or its numbers are none.

    Warns
    -----
    UserWarning
        ``map info`` names no datum, or one that is not known.
    """
    words = header.words("map info")
    if not words:
        for key in ("geo points", "rpc info"):
            if key in header.fields:
                warnings.warn(
                    f"{header.path} has '{key}' only: no georeference; gdalwarp gives it one",
                    stacklevel=2,
                )
        return None
    if len(words) < 7:
        raise header.fault("has an incomplete 'map info'")
    col, row, x, y, width, height = (_finite(header, word) for word in words[1:7])
    if not width or not height:
        raise header.fault("has pixels of size 0 in 'map info'")
    degrees = 0.0
    for word in words[7:]:
        name, _, value = word.partition("=")
        if name.strip().lower() == "rotation":
            degrees = _finite(header, value)
    angle = 0.0 if degrees == _NORTHWARD else math.radians(degrees)
    a, b = width * math.cos(angle), width * math.sin(angle)
    d, e = height * math.sin(angle), -height * math.cos(angle)
    if degrees == _NORTHWARD:
        e = -e
    c = x - (col - 1) * a - (row - 1) * b
    f = y - (col - 1) * d - (row - 1) * e
    crs = header.text("coordinate system string")
    if crs and not _CRS_TEXT.match(crs):
        warnings.warn(
            f"the 'coordinate system string' of {header.path} is none: 'map info' is used instead",
            stacklevel=2,
        )
        crs = ""
    crs = crs or _crs(header, words) or ""
    return Grid(crs or None, (a, b, c, d, e, f))


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
    northward = a > 0 and e > 0 and b == d == 0
    if northward:
        e = -e
    width, height = math.hypot(a, b), math.hypot(d, e)
    angle = math.atan2(b, a)
    shear = abs(d - height * math.sin(angle)) + abs(e + height * math.cos(angle))
    turned = abs(math.degrees(angle)) == _NORTHWARD  # which would be read as northward
    if width == 0 or shear > 1e-6 * height or height == 0 or turned:
        warnings.warn(
            "ENVI cannot hold a sheared or mirrored grid: it is left out; GeoTIFF can (.tif)",
            stacklevel=2,
        )
        return {}
    words = [_projection(grid.crs), "1", "1", *(repr(v) for v in (c, f, width, height))]
    words += _datum(grid.crs)
    if northward:
        words.append(f"rotation={_NORTHWARD:g}")
    elif abs(angle) > 1e-12:
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


def _crs(header: EnviHeader, words: tuple[str, ...]) -> str | None:
    """What GDAL makes of the words of map info, as WKT; None where they name no CRS."""
    import rasterio
    from rasterio.crs import CRS
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile

    projection, *_ = words[0].casefold().split() or [""]
    if projection in {"arbitrary", "unknown"}:
        return None
    words = tuple(_DATUMS.get(word.casefold(), word) for word in words)
    place = {"geographic": 7, "utm": 9}.get(projection)
    if place is not None and len(words) >= place:
        words = _with_datum(header, words, place)
    fields: dict[str, str | int] = dict.fromkeys(("samples", "lines", "bands", "data type"), 1)
    fields["interleave"] = "bsq"
    fields["map info"] = f"{{{', '.join(words)}}}"
    if "projection info" in header.fields:
        fields["projection info"] = f"{{{header.text('projection info')}}}"
    folder = f"envi-{secrets.token_hex(8)}"
    with (
        MemoryFile(bytes(64), dirname=folder, filename="map.img") as raster,
        MemoryFile(format_header(fields), dirname=folder, filename="map.hdr"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            with raster.open(driver="ENVI") as dataset:
                crs = dataset.crs
            if not crs or crs.wkt.startswith(("LOCAL_CS", "ENGCRS")):
                return None
            if crs.is_geographic and projection != "geographic":  # of UTM zone 99, say
                return None
            code = crs.to_epsg()  # GDAL leaves out the name where map info tells the unit
            known = CRS.from_epsg(code) if code else crs
        except RasterioError:
            return None
    return str((known if known == crs else crs).to_wkt())


def _with_datum(header: EnviHeader, words: tuple[str, ...], place: int) -> tuple[str, ...]:
    """Words of map info with a datum at its place, after a warning where GDAL has to guess it."""
    given = words[place] if len(words) > place and "=" not in words[place] else ""
    if given.casefold() in _KNOWN_DATUMS:
        return words
    warnings.warn(
        f"the 'map info' of {header.path} names "
        + (f"the datum {given[:40]!r}, which is not known" if given else "no datum")
        + ": taken as WGS 84; a 'coordinate system string' tells it",
        stacklevel=2,
    )
    return (*words[:place], "WGS-84", *words[place + bool(given) :])


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
