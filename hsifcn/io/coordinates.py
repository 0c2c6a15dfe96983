"""What the coordinates of a dataset tell: which axis holds the bands, and where the pixels lie.

A coordinate is a one-dimensional dataset that is attached to an axis as its scale, as NetCDF-4
does it (HDF5 dimension scales). What it means is told by name, units and attributes as in the CF
conventions 1.11 (sections 4.1, 4.2 and 5.6); the CRS by the well-known text of the variable that
``grid_mapping`` names, in ``crs_wkt`` (CF) or ``spatial_ref`` (GDAL).
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import Grid
from hsifcn.io.crs import known_wkt
from hsifcn.io.listing import Cube, Listing, Numbers, Part
from hsifcn.io.wavelengths import NAMES, are_wavelengths, is_length_of_waves, to_nanometres

_MEANINGS = {
    "x": (
        {"projection_x_coordinate", "longitude"},
        {
            *("x", "lon", "longitude", "easting", "col", "cols", "column", "columns"),
            *("sample", "samples", "crosstrack", "pixels_per_line"),
        },
    ),
    "y": (
        {"projection_y_coordinate", "latitude"},
        {
            *("y", "lat", "latitude", "northing", "row", "rows", "line", "lines"),
            *("downtrack", "number_of_lines"),
        },
    ),
}
_EAST = {"degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"}
_NORTH = {"degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn"}
# As PACE calls those of its detectors and products; that one is meant which is as long as an axis.
_WAVELENGTHS = re.compile(r"(blue|red|swir)_wavelengths?|wavelengths?_3d", re.IGNORECASE)
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


def plain_cube(listing: Listing, name: str) -> Cube:
    """Any dataset as a scene, with what its coordinates and attributes tell."""
    described = listing.datasets[name]
    shape, attributes = described["shape"], described["attributes"]
    wavelengths, fwhm = _spectrum(listing, name)
    band_axis, told = _band_axis(listing, name, wavelengths)
    rows, cols = (axis for axis in range(3) if axis != band_axis)
    if wavelengths is not None and len(wavelengths) != shape[band_axis]:
        wavelengths = fwhm = None
    scale = listing.number(attributes, "scale_factor")
    offset = listing.number(attributes, "add_offset")
    packing = (1.0 if scale is None else scale, offset or 0.0)
    if scale is None and "scale_factor" in attributes:
        packing = (1.0, 0.0)  # it is no number
    fills = listing.fills(name)
    units = str(attributes.get("units", ""))
    if not units and "radiance" in name.rpartition("/")[2].casefold():
        units = "radiance"
    return Cube(
        parts=(Part(name, (rows, cols, band_axis)),),
        wavelengths=wavelengths,
        fwhm=fwhm if fwhm is not None and len(fwhm) == shape[band_axis] else None,
        good_bands=_good_bands(listing, name, shape[band_axis]),
        nodata=fills[0] if fills else None,
        grid=read_grid(listing, name, rows, cols),
        packing=packing,
        units=units,
        fills=fills[1:],
        # Of packed values the limits may be meant before or after unpacking: files disagree.
        limits=listing.limits(name) if packing == (1.0, 0.0) else (-np.inf, np.inf),
        axes_told=told,
    )


def _good_bands(listing: Listing, name: str, bands: int) -> npt.NDArray[np.bool_] | None:
    """Which bands an attribute or a dataset beside calls good."""
    group = name.rpartition("/")[0]
    for key in ("good_wavelengths", "good_bands", "bbl"):
        value = listing.datasets[name]["attributes"].get(key)
        for numbers in (listing.numbers(value), listing.values(f"{group}/{key}", bands)):
            if numbers is not None and len(numbers) == bands:
                return np.asarray(numbers > 0)
    return None


def _band_axis(listing: Listing, name: str, wavelengths: Numbers | None) -> tuple[int, bool]:
    """The axis with wavelengths as coordinates, or that is neither x nor y; whether that is told.

    Without coordinates it is the one that is as long as the wavelengths, else the last.
    """
    shape, meanings = listing.datasets[name]["shape"], axis_meanings(listing, name)
    if meanings.count("wavelength") == 1:
        return meanings.index("wavelength"), True
    if {"x", "y"} <= set(meanings) and meanings.count("") == 1:
        return meanings.index(""), True
    if wavelengths is not None and shape.count(len(wavelengths)) == 1:
        return int(shape.index(len(wavelengths))), True
    return 2, False


def _spectrum(listing: Listing, name: str) -> tuple[Numbers | None, Numbers | None]:
    """Wavelengths and widths that fit an axis: its coordinates, attributes, the nearest dataset."""
    shape, attributes = (listing.datasets[name][key] for key in ("shape", "attributes"))
    meanings = zip(scales_of(listing, name), axis_meanings(listing, name), strict=False)
    scales = [
        listing.datasets[scale]
        for scale, meaning in meanings
        if meaning == "wavelength" and scale in listing.datasets
    ]
    group = name.rpartition("/")[0]
    near = sorted(listing.datasets, key=lambda other: other.rpartition("/")[0] != group)
    found: dict[str, tuple[Numbers, str]] = {}
    misfits = []
    for kind, wanted in (("wavelengths", NAMES), ("fwhm", ("fwhm", "fwhm_nm"))):
        sources = [(key, value, attributes) for key, value in attributes.items()]
        if kind == "wavelengths":
            sources = [(NAMES[0], s.get("value"), s["attributes"]) for s in scales] + sources
        for other in near:
            described = listing.datasets[other]
            key = other.rpartition("/")[2]
            if kind == "wavelengths" and _WAVELENGTHS.fullmatch(key):
                key = NAMES[0]
            sources.append((key, described.get("value"), described["attributes"]))
        for key, value, about in sources:
            numbers = listing.numbers(value) if key.casefold() in wanted else None
            if numbers is None:
                continue
            if len(numbers) in shape and np.all(numbers > 0):
                units = str(about.get("units", about.get("wavelength_units", "")))
                found.setdefault(kind, (numbers, units))
            elif np.any(numbers != 0):  # zeros are an axis without coordinates
                misfits.append(kind)
    if "wavelengths" in misfits and "wavelengths" not in found:
        warnings.warn(
            f"the wavelengths in {listing.path} are not one a band: not used", stacklevel=2
        )
    if "wavelengths" not in found or not are_wavelengths(*found["wavelengths"]):
        return None, None
    numbers, units = found["wavelengths"]
    wavelengths = to_nanometres(numbers, units)
    fwhm = found["fwhm"][0] * (wavelengths[0] / numbers[0]) if "fwhm" in found else None
    return wavelengths, fwhm


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
    known = listing.datasets.get(scale, {}).get("steps")
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
