"""What is known of HDF5 files that need more than their only cube: EMIT, PRISMA, NEON, Tanager.

Each is told by the paths of its datasets. Relied on are:

- EMIT L2A reflectance and L1B radiance (NASA LP DAAC, "EMIT L2A Product User Guide"):
  ``/reflectance`` or ``/radiance`` (downtrack, crosstrack, bands),
  ``/sensor_band_parameters/wavelengths``, ``fwhm`` and ``good_wavelengths``, ``/location/glt_x``
  and ``glt_y``, the attributes ``geotransform`` and ``spatial_ref``.
- PRISMA L2 (ASI, "PRISMA Products Specification Document"): ``VNIR_Cube`` and ``SWIR_Cube`` (rows,
  bands, cols), the attributes ``List_Cw_Vnir``, ``List_Fwhm_Vnir``, ``L2ScaleVnirMin``,
  ``L2ScaleVnirMax`` and the same with ``Swir``, ``Epsg_Code``, ``Product_ULcorner_easting`` etc.
- NEON AOP (NEON DP1.30006, DP3.30006): ``/SITE/Reflectance/Reflectance_Data``, its attributes
  ``Data_Ignore_Value`` and ``Scale_Factor``, ``Metadata/Spectral_Data`` and
  ``Metadata/Coordinate_System``, the attributes ``Band_Window_1_Nanometers`` and ``..._2_...``.
- Tanager (Planet, "Tanager Product Specification"): ``surface_reflectance`` or ``toa_radiance``
  (bands, rows, cols) in ``/HDFEOS/SWATHS/HYP/Data Fields`` or ``/HDFEOS/GRIDS/...``, its attributes
  ``wavelengths``, ``fwhm`` and ``good_wavelengths``; of a grid the corners in ``StructMetadata.0``
  and the attribute ``epsg_code``.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from hsifcn.core.scene import Grid
from hsifcn.io.coordinates import plain_cube
from hsifcn.io.crs import known_wkt
from hsifcn.io.envi_header import EnviHeader
from hsifcn.io.envi_map import read_grid
from hsifcn.io.listing import Cube, Listing, Part
from hsifcn.io.wavelengths import to_nanometres


def find_product(listing: Listing) -> Cube | None:
    """The scene of a product that is known, or None."""
    for find in (_emit, _prisma, _neon, _tanager):
        cube = find(listing)
        if cube is not None:
            return cube
    return None


def with_lookup_table(listing: Listing, cube: Cube) -> Cube:
    """The cube with the lookup table by which EMIT places every dataset of a swath on the map."""
    root, place = listing.groups["/"], "/location"
    transform = listing.numbers(root.get("geotransform"))
    glt = (f"{place}/glt_y", f"{place}/glt_x")
    if transform is None or len(transform) != 6 or not set(glt) <= set(listing.datasets):
        return cube
    c, a, b, f, d, e = transform.tolist()  # in GDAL's order
    grid = Grid(str(root.get("spatial_ref", "")) or None, (a, b, c, d, e, f))
    return dataclasses.replace(cube, glt=glt, glt_grid=grid)


def _emit(listing: Listing) -> Cube | None:
    name = next((name for name in ("/reflectance", "/radiance") if name in listing.datasets), "")
    data = listing.datasets.get(name, {})
    bands = (data.get("shape") or [0])[-1]
    sensor = "/sensor_band_parameters"
    wavelengths = listing.values(f"{sensor}/wavelengths", bands)
    if len(data.get("shape", ())) != 3 or wavelengths is None:
        return None
    good = listing.values(f"{sensor}/good_wavelengths", bands)
    fills = listing.fills(name)
    cube = Cube(
        parts=(Part(name, (0, 1, 2)),),
        wavelengths=to_nanometres(wavelengths, "nm"),
        fwhm=listing.values(f"{sensor}/fwhm", bands),
        good_bands=None if good is None else good > 0,
        nodata=fills[0] if fills else None,
        fills=fills[1:],
    )
    return with_lookup_table(listing, cube)


def _tanager(listing: Listing) -> Cube | None:
    """Bands come first; wavelengths, widths and good bands are attributes of the cube."""
    pattern = r"/HDFEOS/(SWATHS|GRIDS)/HYP/Data[ _]Fields/(surface_reflectance|toa_radiance)"
    name = next((name for name in listing.datasets if re.fullmatch(pattern, name)), None)
    if name is None or len(listing.datasets[name]["shape"]) != 3:
        return None
    bands, rows, cols = listing.datasets[name]["shape"]
    wavelengths = listing.numbers(listing.datasets[name]["attributes"].get("wavelengths"))
    if wavelengths is None or len(wavelengths) != bands:
        return None
    cube = plain_cube(listing, name)
    return dataclasses.replace(
        cube,
        parts=(Part(name, (1, 2, 0)),),
        wavelengths=to_nanometres(wavelengths, "nm"),
        grid=_eos_grid(listing, rows, cols),
        axes_told=True,
    )


def _eos_grid(listing: Listing, rows: int, cols: int) -> Grid | None:
    """Corners of an HDF-EOS grid in metres, and the code of its CRS beside it."""
    text = listing.text("/HDFEOS INFORMATION/StructMetadata.0")
    epsg = listing.number(listing.groups.get("/HDFEOS/GRIDS/HYP", {}), "epsg_code")
    number = r"\(([-+.\deE]+),([-+.\deE]+)\)"
    corners = [
        re.search(rf"{name}={number}", text) for name in ("UpperLeftPointMtrs", "LowerRightMtrs")
    ]
    if epsg is None or None in corners:
        return None
    (left, top), (right, bottom) = (map(float, corner.groups()) for corner in corners if corner)
    transform = ((right - left) / cols, 0.0, left, 0.0, (bottom - top) / rows, top)
    return Grid(known_wkt(f"EPSG:{int(epsg)}"), transform)


def _prisma(listing: Listing) -> Cube | None:
    """Join both cubes by wavelength; bands of wavelength 0 were not measured."""
    pattern = r"/HDFEOS/SWATHS/PRS_L2[BCD]_HCO/Data[ _]Fields/VNIR_Cube"
    vnir = next((name for name in listing.datasets if re.fullmatch(pattern, name)), None)
    swir = (vnir or "").replace("VNIR", "SWIR")
    if vnir is None or swir not in listing.datasets:
        return None
    root = listing.groups["/"]
    centres, widths, origins = [], [], []
    for number, (name, detector) in enumerate(((vnir, "Vnir"), (swir, "Swir"))):
        shape = listing.datasets[name]["shape"]
        nm = listing.numbers(root.get(f"List_Cw_{detector}"))
        fwhm = listing.numbers(root.get(f"List_Fwhm_{detector}"))
        if nm is None or len(shape) != 3 or len(nm) != shape[1]:
            return None
        centres.append(nm)
        widths.append(fwhm if fwhm is not None and len(fwhm) == len(nm) else np.zeros(len(nm)))
        origins += [(number, band) for band in range(len(nm))]
    wavelengths, fwhm = np.concatenate(centres), np.concatenate(widths)
    order = [i for i in np.argsort(wavelengths, kind="stable") if wavelengths[i] > 0]
    rows, _, cols = listing.datasets[vnir]["shape"]
    return Cube(
        parts=_runs([origins[i] for i in order], (vnir, swir)),
        wavelengths=wavelengths[order],
        fwhm=fwhm[order] if fwhm[order].all() else None,
        nodata=0.0,
        scale_factor=_prisma_scale(listing, root),
        grid=_prisma_grid(listing, root, rows, cols),
    )


def _runs(bands: list[tuple[int, int]], names: tuple[str, str]) -> tuple[Part, ...]:
    """Parts for (dataset, band) in order: the next band of a dataset joins the part before."""
    parts: list[Part] = []
    for number, band in bands:
        if parts and parts[-1].dataset == names[number]:
            last = parts.pop()
            parts.append(Part(last.dataset, last.axes, (*(last.bands or ()), band)))
        else:
            parts.append(Part(names[number], (0, 2, 1), (band,)))
    return tuple(parts)


def _prisma_scale(listing: Listing, root: dict[str, Any]) -> float | None:
    """Counts divided by it are reflectances, where both detectors have one scale from 0."""
    low = {listing.number(root, f"L2Scale{detector}Min") for detector in ("Vnir", "Swir")}
    high = {listing.number(root, f"L2Scale{detector}Max") for detector in ("Vnir", "Swir")}
    top = next(iter(high))
    if low != {0.0} or len(high) > 1 or not top:
        return None
    return 65535 / top


def _prisma_grid(listing: Listing, root: dict[str, Any], rows: int, cols: int) -> Grid | None:
    """The corners are the centres of the corner pixels, which are 30 m wide."""
    sides = [
        listing.number(root, f"Product_{corner}corner_{axis}")
        for corner, axis in (("UL", "easting"), ("UL", "northing"))
    ]
    sides += [listing.number(root, f"Product_LRcorner_{axis}") for axis in ("easting", "northing")]
    epsg = listing.number(root, "Epsg_Code")
    if None in sides or epsg is None or rows < 2 or cols < 2:
        return None
    left, top, right, bottom = (float(side) for side in sides if side is not None)
    width, height = (right - left) / (cols - 1), (top - bottom) / (rows - 1)
    if width <= 0 or height <= 0:
        return None
    transform = (width, 0.0, left - width / 2, 0.0, -height, top + height / 2)
    return Grid(known_wkt(f"EPSG:{int(epsg)}"), transform)


def _neon(listing: Listing) -> Cube | None:
    found = [name for name in listing.datasets if name.endswith("/Reflectance/Reflectance_Data")]
    if len(found) != 1:
        return None
    data, group = listing.datasets[found[0]], found[0].rpartition("/")[0]
    if len(data["shape"]) != 3:
        return None
    bands = data["shape"][2]
    spectral, place = f"{group}/Metadata/Spectral_Data", f"{group}/Metadata/Coordinate_System"
    wavelengths = listing.values(f"{spectral}/Wavelength", bands)
    if wavelengths is None:
        return None
    good = np.ones(bands, np.bool_)
    for attributes in (listing.groups.get(group, {}), data["attributes"]):
        for window in (1, 2):
            ends = listing.numbers(attributes.get(f"Band_Window_{window}_Nanometers"))
            if ends is not None and len(ends) == 2:
                good &= (wavelengths < ends[0]) | (wavelengths > ends[1])
    fields = {"map info": listing.text(f"{place}/Map_Info")}
    fields["coordinate system string"] = listing.text(f"{place}/Coordinate_System_String")
    return Cube(
        parts=(Part(found[0], (0, 1, 2)),),
        wavelengths=wavelengths,
        fwhm=listing.values(f"{spectral}/FWHM", bands),
        good_bands=good,
        nodata=listing.number(data["attributes"], "Data_Ignore_Value"),
        scale_factor=listing.number(data["attributes"], "Scale_Factor"),
        grid=read_grid(EnviHeader(listing.path, fields)),
    )
