"""Cloud Optimized GeoTIFF: tiled, compressed, with overviews; class names in ``.aux.xml``.

The voxels are first written raw, and ``rasterio.shutil.copy`` with GDAL's driver COG, which copies
whole rasters only, makes the final file of them. A virtual raster (VRT) describes the raw voxels to
GDAL, with category names and attribute table, for which rasterio has no function; so no second copy
is written. GDAL may lose the end of a file on a full disk without an error, so the result is read
back and compared.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import Grid
from hsifcn.io.crs import known_wkt
from hsifcn.io.files import printable
from hsifcn.io.qgis_style import raster_style, xml_text
from hsifcn.io.writer import RasterSpec, RasterWriter

GDAL_TYPES = {
    **{"uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16"},
    **{"uint32": "UInt32", "int32": "Int32", "uint64": "UInt64", "int64": "Int64"},
    **{"float32": "Float32", "float64": "Float64"},
}
_BLOCK = 512  # rows and columns of a tile
_LARGEST_LISTED = 1000  # code; up to it palette and category names are written
_CACHE = 64 * 2**20  # bytes of blocks that GDAL may keep


def create(spec: RasterSpec) -> RasterWriter:
    """Write a raster as GeoTIFF, with a style for QGIS if it is a classified map."""
    if spec.dtype.name not in GDAL_TYPES:
        raise SettingError(f"a GeoTIFF cannot hold {spec.dtype}", "write .npy instead")
    if printable(str(spec.path.absolute())) != str(spec.path.absolute()):
        raise SettingError(
            f"{spec.path} cannot be written as GeoTIFF: its path is not UTF-8", "write .img instead"
        )
    wkt = known_crs(spec.grid)

    def convert(raw: Path, target: Path) -> None:
        _convert(_describe(spec, wkt, raw), target, is_map=bool(spec.class_names))

    beside = (f"{spec.path.name}{suffix}" for suffix in (".aux.xml", ".ovr", ".msk"))
    return RasterWriter(
        spec,
        companions=raster_style(spec),
        stale=[spec.path.with_name(name) for name in beside],
        convert=convert,
    )


def known_crs(grid: Grid | None) -> str | None:
    """The CRS in GDAL's words; None, with a warning, where GDAL does not understand it."""
    if grid is None or grid.crs is None:
        return None
    known = known_wkt(grid.crs)
    if known is None:
        warnings.warn(
            f"GeoTIFF cannot tell the coordinate system {grid.crs[:60]!r}: it is left out",
            stacklevel=2,
        )
    return known


def virtual_raster(spec: RasterSpec, wkt: str | None) -> ElementTree.Element:
    """A virtual raster (GDAL's VRT) of the size and at the place of a raster, without bands."""
    rows, cols = spec.shape[:2]
    root = ElementTree.Element("VRTDataset", rasterXSize=str(cols), rasterYSize=str(rows))
    if wkt is not None:
        ElementTree.SubElement(root, "SRS").text = wkt
    if spec.grid is not None:
        a, b, c, d, e, f = spec.grid.transform
        text = ", ".join(repr(float(value)) for value in (c, a, b, f, d, e))
        ElementTree.SubElement(root, "GeoTransform").text = text
    return root


def _describe(spec: RasterSpec, wkt: str | None, raw: Path) -> str:
    """A virtual raster (GDAL's VRT) over the raw voxels, with all that the final file will tell."""
    cols = spec.shape[1]
    root = virtual_raster(spec, wkt)
    names = spec.band_names or (("class",) if spec.class_names else ())
    size = spec.dtype.itemsize
    for i in range(spec.bands):
        band = ElementTree.SubElement(
            root,
            "VRTRasterBand",
            dataType=GDAL_TYPES[spec.dtype.name],
            band=str(i + 1),
            subClass="VRTRawRasterBand",
        )
        if i < len(names):
            ElementTree.SubElement(band, "Description").text = xml_text(names[i])
        if spec.nodata is not None:
            ElementTree.SubElement(band, "NoDataValue").text = f"{spec.nodata:.17g}"
        if spec.class_names:
            add_classes(band, spec)
        ElementTree.SubElement(band, "SourceFilename", relativetoVRT="0").text = str(raw.absolute())
        ElementTree.SubElement(band, "ImageOffset").text = str(i * size)
        ElementTree.SubElement(band, "PixelOffset").text = str(spec.bands * size)
        ElementTree.SubElement(band, "LineOffset").text = str(cols * spec.bands * size)
    return ElementTree.tostring(root, encoding="unicode")


def add_classes(band: ElementTree.Element, spec: RasterSpec) -> None:
    """Palette, category names, and the same again as the attribute table that ArcGIS reads.

    The first two count from 0 without gaps: rasters of codes that are larger have the table alone.
    """
    shown = zip(spec.class_names, spec.class_colours, strict=True)
    by_code = dict(zip(spec.class_values, shown, strict=True))
    by_code = {0: ("Unclassified", (0, 0, 0)), **by_code}
    if max(by_code) <= _LARGEST_LISTED and spec.dtype.itemsize <= 2:
        ElementTree.SubElement(band, "ColorInterp").text = "Palette"
        names = ElementTree.SubElement(band, "CategoryNames")
        palette = ElementTree.SubElement(band, "ColorTable")
        for code in range(max(by_code) + 1):
            name, (red, green, blue) = by_code.get(code, ("", (0, 0, 0)))
            opaque = str(255 * (code in by_code and code > 0))
            ElementTree.SubElement(names, "Category").text = xml_text(name)
            ElementTree.SubElement(
                palette, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4=opaque
            )
    table = ElementTree.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    # Types and usages are the numbers of GDAL's GDALRATFieldType and GDALRATFieldUsage.
    value_type = 0 if max(by_code) < 2**31 else 1  # integer, or real where that is too small
    fields = (
        ("Value", value_type, 5),
        ("Class", 2, 2),
        ("Red", 0, 6),
        ("Green", 0, 7),
        ("Blue", 0, 8),
    )
    for i, (name, kind, usage) in enumerate(fields):
        field = ElementTree.SubElement(table, "FieldDefn", index=str(i))
        for tag, text in (("Name", name), ("Type", str(kind)), ("Usage", str(usage))):
            ElementTree.SubElement(field, tag).text = text
    for i, (code, (name, (red, green, blue))) in enumerate(by_code.items()):
        row = ElementTree.SubElement(table, "Row", index=str(i))
        for value in (code, xml_text(name), red, green, blue):
            ElementTree.SubElement(row, "F").text = str(value)


def _convert(description: str, target: Path, *, is_map: bool) -> None:
    """Make the final file and compare it with the raw voxels.

    Raises
    ------
    OSError
        It cannot be written, or not all of it was.
    """
    import rasterio
    import rasterio.shutil
    from rasterio._err import CPLE_BaseError  # what GDAL says; rasterio has no public name for it

    options = {
        "BLOCKSIZE": str(_BLOCK),
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "NO" if is_map else "YES",
        "BIGTIFF": "IF_SAFER",
        "OVERVIEW_RESAMPLING": "MODE" if is_map else "AVERAGE",
    }
    # Newer GDALs let a virtual raster read raw files only where they are told to.
    settings = {"GDAL_CACHEMAX": _CACHE, "GDAL_VRT_RAWRASTERBAND_ALLOWED_SOURCE": "ALL"}
    try:
        with rasterio.Env(**settings), _without_libtiff(), warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(description, driver="VRT") as source:
                rasterio.shutil.copy(source, target, driver="COG", **options)
                with rasterio.open(target, driver="GTiff") as result:
                    complete = _are_equal(source, result)
    except CPLE_BaseError as error:
        raise OSError(" ".join(str(error).split())) from error
    if not complete:
        raise OSError("the file came out incomplete")


def _are_equal(source: Any, result: Any) -> bool:
    """Compare all voxels of two datasets, block by block."""
    for _, window in result.block_windows(1):
        wanted, found = source.read(window=window), result.read(window=window)
        if not np.array_equal(wanted, found, equal_nan=wanted.dtype.kind == "f"):
            return False
    return True


@contextmanager
def _without_libtiff() -> Iterator[None]:
    """Keep what libtiff says of its own off the standard error; GDAL's error follows anyway."""
    try:
        kept = os.dup(2)
    except OSError:  # the process has none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
