"""Virtual rasters (GDAL's VRT): a text that names the rasters that it is made of.

They are written only. What hsifcn reads may not name other files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from hsifcn.core.scene import Window
from hsifcn.io.files import atomic_write
from hsifcn.io.qgis_style import raster_style
from hsifcn.io.tiff_writer import GDAL_TYPES, add_classes, known_crs, virtual_raster
from hsifcn.io.writer import RasterSpec


def write_vrt(spec: RasterSpec, sources: Sequence[tuple[Path, Window]]) -> None:
    """Write a virtual raster of one band, with its classes and a style for QGIS.

    Parameters
    ----------
    spec : RasterSpec
        ``path`` ends in ``.vrt``. Where sources hold ``nodata``, those before them show.
    sources : sequence of (Path, Window)
        Rasters of one band and of ``spec.dtype``, and the pixels that each covers. The last one
        is on top. They are named by their path from the virtual raster.

    Raises
    ------
    ExistingOutputError, FailedError
        It exists, or cannot be written.
    """
    folder = spec.path.parent
    root = virtual_raster(spec, known_crs(spec.grid))
    band = ElementTree.SubElement(
        root, "VRTRasterBand", dataType=GDAL_TYPES[spec.dtype.name], band="1"
    )
    if spec.nodata is not None:
        ElementTree.SubElement(band, "NoDataValue").text = f"{spec.nodata:.17g}"
    if spec.class_names:
        add_classes(band, spec)
    for path, place in sources:
        source = ElementTree.SubElement(band, "ComplexSource")
        name = Path(os.path.relpath(path, folder)).as_posix()
        ElementTree.SubElement(source, "SourceFilename", relativeToVRT="1").text = name
        ElementTree.SubElement(source, "SourceBand").text = "1"
        size = {"xSize": str(place.cols), "ySize": str(place.rows)}
        ElementTree.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **size})
        offset = {"xOff": str(place.col), "yOff": str(place.row)}
        ElementTree.SubElement(source, "DstRect", {**offset, **size})
        if spec.nodata is not None:
            ElementTree.SubElement(source, "NODATA").text = f"{spec.nodata:.17g}"
    ElementTree.indent(root)
    for path, content in raster_style(spec):
        with atomic_write(path, overwrite=spec.overwrite) as temporary:
            temporary.write_bytes(content)
    with atomic_write(spec.path, overwrite=spec.overwrite) as temporary:
        temporary.write_bytes(ElementTree.tostring(root, encoding="utf-8"))
