"""What the coordinates of a dataset tell: which axis holds the bands, and where the pixels lie.

A coordinate is a one-dimensional dataset that is attached to an axis as its scale, as NetCDF-4
does it (HDF5 dimension scales). What it means is told by name, units and attributes as in the CF
conventions 1.11 (sections 4.1, 4.2 and 5.6); the CRS by the well-known text of the variable that
``grid_mapping`` names, in ``crs_wkt`` (CF) or ``spatial_ref`` (GDAL).
"""

from __future__ import annotations

import warnings
from typing import Any

from hsifcn.core.scene import Grid
from hsifcn.io.crs import known_wkt
from hsifcn.io.hdf5_products import Listing
from hsifcn.io.wavelengths import NAMES, is_length_of_waves

_MEANINGS = {
    "x": ({"projection_x_coordinate", "longitude"}, {"x", "lon", "longitude", "easting"}),
    "y": ({"projection_y_coordinate", "latitude"}, {"y", "lat", "latitude", "northing"}),
}
_EAST = {"degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"}
_NORTH = {"degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn"}
_METRES = {"", "m", "metre", "metres", "meter", "meters"}
_KILOMETRES = {"km", "kilometre", "kilometres", "kilometer", "kilometers"}
_UNEVEN = 0.1  # of a pixel; what rounding to float32 makes of large coordinates is less


def axis_meanings(listing: Listing, name: str) -> tuple[str, ...]:
    """What each axis of a dataset runs along: ``x``, ``y``, ``wavelength`` or, unknown, ``""``."""
    shape = listing.datasets[name]["shape"]
    return tuple(_meaning(listing, scale) for scale in scales_of(listing, name)) or ("",) * len(
        shape
    )


def scales_of(listing: Listing, name: str) -> list[str]:
    """Paths of the coordinates of each axis, empty for those that have none."""
    return [str(scale) for scale in listing.datasets[name].get("scales", ())]


def read_grid(listing: Listing, name: str, rows: int, cols: int) -> Grid | None:
    """Where the pixels of a dataset lie, by the coordinates of two of its axes.

    Parameters
    ----------
    listing : Listing
    name : str
        Path of the dataset.
    rows, cols : int
        Which of its axes they are.

    Returns
    -------
    Grid or None
        None where the axes do not run along x and y. Rows may run along x.

    Warns
    -----
    UserWarning
        They do, but not in even steps, or in units that are none of length.
    """
    meanings = axis_meanings(listing, name)
    if {meanings[rows], meanings[cols]} != {"x", "y"}:
        return None
    scales = scales_of(listing, name)
    x_axis, y_axis = (cols, rows) if meanings[cols] == "x" else (rows, cols)
    geographic = all(_is_geographic(listing, scales[axis]) for axis in (x_axis, y_axis))
    crs = _crs(listing, name, geographic)
    if crs is None and not all(_is_projected(listing, scales[axis]) for axis in (x_axis, y_axis)):
        return None  # numbers of pixels, as a rule
    lines = [_line(listing, scales[axis]) for axis in (x_axis, y_axis)]
    if None in lines:
        warnings.warn(
            f"the coordinates of {listing.path}:{name} are not in even steps of a known unit: no "
            "georeference",
            stacklevel=2,
        )
        return None
    (left, dx), (top, dy) = (line for line in lines if line is not None)
    if geographic and left >= 180:
        left -= 360
    if x_axis == cols:
        return Grid(crs, (dx, 0.0, left, 0.0, dy, top))
    return Grid(crs, (0.0, dx, left, dy, 0.0, top))


def _meaning(listing: Listing, scale: str) -> str:
    if not scale:
        return ""
    about = _attributes(listing, scale)
    name, units = scale.rpartition("/")[2].casefold(), _units(about)
    standard = str(about.get("standard_name", ""))
    if standard.endswith("radiation_wavelength") or name in NAMES or is_length_of_waves(units):
        return "wavelength"
    for meaning, degrees in (("x", _EAST), ("y", _NORTH)):
        standards, names = _MEANINGS[meaning]
        named = standard in standards or (not standard and name in names)
        if named or units in degrees or str(about.get("axis", "")).casefold() == meaning:
            return meaning
    return ""


def _is_geographic(listing: Listing, scale: str) -> bool:
    about = _attributes(listing, scale)
    standard = str(about.get("standard_name", "")) in {"longitude", "latitude"}
    return standard or _units(about) in _EAST | _NORTH


def _is_projected(listing: Listing, scale: str) -> bool:
    about = _attributes(listing, scale)
    standard = str(about.get("standard_name", "")).startswith("projection_")
    return standard or (_units(about) in _METRES | _KILOMETRES and "units" in about)


def _crs(listing: Listing, name: str, geographic: bool) -> str | None:
    """WKT of a dataset's CRS; of latitudes and longitudes without one, of WGS 84."""
    words = str(_attributes(listing, name).get("grid_mapping", "")).split()
    group = name.rpartition("/")[0]
    while words:
        about = _attributes(listing, f"{group}/{words[0].rstrip(':')}")
        for key in ("crs_wkt", "spatial_ref"):
            if about.get(key):
                return str(about[key])
        if not group:
            break
        group = group.rpartition("/")[0]
    return known_wkt("EPSG:4326") if geographic else None


def _line(listing: Listing, scale: str) -> tuple[float, float] | None:
    """Where the first pixel of an axis begins, and its step; None where steps are uneven."""
    about = _attributes(listing, scale)
    known = listing.datasets[scale].get("steps")
    units = _units(about)
    if known is None or not (units in _METRES | _KILOMETRES or units.startswith("degree")):
        return None
    first, step, deviation = (float(value) for value in known)
    if not abs(step) > 0 or not deviation <= _UNEVEN * abs(step):  # NaN is not even either
        return None
    factor = 1000.0 if units in _KILOMETRES else 1.0
    return factor * (first - step / 2), factor * step


def _attributes(listing: Listing, name: str) -> dict[str, Any]:
    found: dict[str, Any] = listing.datasets.get(name, {}).get("attributes", {})
    return found


def _units(attributes: dict[str, Any]) -> str:
    return str(attributes.get("units", "")).strip().casefold()
