"""Styles that QGIS finds beside a raster: the names and colours of its classes.

QGIS applies ``map.qml`` to ``map.tif`` or ``map.img`` when it opens it. The elements are those of
its paletted raster renderer (``QgsPalettedRasterRenderer::writeXml``), as QGIS 3 saves them.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from hsifcn.io.writer import RasterSpec

_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def class_style(spec: RasterSpec) -> tuple[tuple[Path, bytes], ...]:
    """The style file of a raster and its content; nothing where the raster has no classes.

    Label 0 has no entry, so QGIS leaves these pixels transparent.
    """
    if not spec.class_names:
        return ()
    root = ElementTree.Element("qgis", version="3.22.0", styleCategories="Symbology")
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe,
        "rasterrenderer",
        {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": ""},
    )
    ElementTree.SubElement(renderer, "rasterTransparency")
    palette = ElementTree.SubElement(renderer, "colorPalette")
    classes = zip(spec.class_values, spec.class_names, spec.class_colours, strict=True)
    for label, name, colour in classes:
        ElementTree.SubElement(
            palette,
            "paletteEntry",
            {"value": str(label), "color": hex_colour(colour), "alpha": "255"}
            | {"label": xml_text(name)},
        )
    ElementTree.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    ElementTree.SubElement(pipe, "huesaturation", colorizeOn="0", grayscaleMode="0", saturation="0")
    ElementTree.SubElement(pipe, "rasterresampler", maxOversampling="2")
    ElementTree.SubElement(pipe, "resamplingStage").text = "resamplingFilter"
    ElementTree.SubElement(root, "blendMode").text = "0"
    ElementTree.indent(root)
    content = _DOCTYPE + ElementTree.tostring(root, encoding="unicode") + "\n"
    return ((spec.path.with_suffix(".qml"), content.encode()),)


def hex_colour(colour: tuple[int, int, int]) -> str:
    """A colour as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def xml_text(text: str) -> str:
    """A text without the control characters that XML cannot hold."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "", text)
