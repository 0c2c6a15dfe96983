"""Styles that QGIS finds beside a raster: the colours of its classes, or a ramp of values.

QGIS applies ``map.qml`` to ``map.tif`` or ``map.img`` when it opens it. The elements are those of
its paletted and pseudocolor raster renderers (``QgsPalettedRasterRenderer::writeXml``,
``QgsSingleBandPseudoColorRenderer::writeXml``) and of its categorised vector renderer, as QGIS 3
saves them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from hsifcn.io.writer import RasterSpec

_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


# Viridis (van der Walt, Smith, Firing 2015) at equal steps: readable in grey and for all eyes.
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))


def raster_style(spec: RasterSpec) -> tuple[tuple[Path, bytes], ...]:
    """The style file of a raster and its content; nothing without classes and without a ramp."""
    if spec.class_names:
        return _style_file(spec, _class_renderer(spec))
    if spec.ramp is not None:
        return _style_file(spec, _ramp_renderer(spec, spec.ramp))
    return ()


def _class_renderer(spec: RasterSpec) -> ElementTree.Element:
    """Colours of classes. Label 0 has no entry, so QGIS leaves these pixels transparent."""
    renderer = _renderer("paletted", band=1)
    palette = ElementTree.SubElement(renderer, "colorPalette")
    classes = zip(spec.class_values, spec.class_names, spec.class_colours, strict=True)
    for label, name, colour in classes:
        ElementTree.SubElement(
            palette,
            "paletteEntry",
            {"value": str(label), "color": hex_colour(colour), "alpha": "255"}
            | {"label": xml_text(name)},
        )
    return renderer


def _ramp_renderer(spec: RasterSpec, ramp: tuple[float, float]) -> ElementTree.Element:
    """Values of the last band between two ends, in the colours of ``RAMP``."""
    low, high = ramp
    renderer = _renderer("singlebandpseudocolor", band=spec.bands)
    renderer.set("classificationMin", f"{low:g}")
    renderer.set("classificationMax", f"{high:g}")
    shader = ElementTree.SubElement(
        ElementTree.SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType="INTERPOLATED",
        classificationMode="1",
        clip="0",
        minimumValue=f"{low:g}",
        maximumValue=f"{high:g}",
    )
    for i, colour in enumerate(RAMP):
        value = f"{low + (high - low) * i / (len(RAMP) - 1):g}"
        ElementTree.SubElement(
            shader, "item", value=value, label=value, color=hex_colour(colour), alpha="255"
        )
    return renderer


def _renderer(kind: str, band: int) -> ElementTree.Element:
    renderer = ElementTree.Element(
        "rasterrenderer",
        {"type": kind, "band": str(band), "opacity": "1", "alphaBand": "-1", "nodataColor": ""},
    )
    ElementTree.SubElement(renderer, "rasterTransparency")
    return renderer


def _style_file(spec: RasterSpec, renderer: ElementTree.Element) -> tuple[tuple[Path, bytes], ...]:
    """The ``.qml`` beside a raster."""
    root = ElementTree.Element("qgis", version="3.22.0", styleCategories="Symbology")
    pipe = ElementTree.SubElement(root, "pipe")
    pipe.append(renderer)
    ElementTree.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    ElementTree.SubElement(pipe, "huesaturation", colorizeOn="0", grayscaleMode="0", saturation="0")
    ElementTree.SubElement(pipe, "rasterresampler", maxOversampling="2")
    ElementTree.SubElement(pipe, "resamplingStage").text = "resamplingFilter"
    ElementTree.SubElement(root, "blendMode").text = "0"
    ElementTree.indent(root)
    content = _DOCTYPE + ElementTree.tostring(root, encoding="unicode") + "\n"
    return ((spec.path.with_suffix(".qml"), content.encode()),)


def ramp_colours(values: npt.NDArray[Any], ramp: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Colours of values between two ends, (..., 3)."""
    place = np.clip((values - ramp[0]) / (ramp[1] - ramp[0]), 0, 1) * (len(RAMP) - 1)
    table = np.array(RAMP, float)
    channels = [np.interp(place, range(len(RAMP)), table[:, i]) for i in range(3)]
    colours: npt.NDArray[np.uint8] = np.rint(np.stack(channels, -1)).astype(np.uint8)
    return colours


def polygon_style(
    codes: Sequence[int], names: Sequence[str], colours: Sequence[tuple[int, int, int]]
) -> str:
    """The style of a layer of polygons with the field ``class``: a colour a class."""
    root = ElementTree.Element("qgis", version="3.22.0", styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr="class", enableorderby="0"
    )
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for number, (code, name, colour) in enumerate(zip(codes, names, colours, strict=True)):
        ElementTree.SubElement(
            categories,
            "category",
            {"value": str(code), "label": xml_text(name), "symbol": str(number)}
            | {"render": "true", "type": "long"},
        )
        symbol = ElementTree.SubElement(
            symbols, "symbol", type="fill", name=str(number), alpha="1", clip_to_extent="1"
        )
        layer = ElementTree.SubElement(
            symbol, "layer", {"class": "SimpleFill", "enabled": "1", "pass": "0", "locked": "0"}
        )
        options = ElementTree.SubElement(layer, "Option", type="Map")
        red, green, blue = colour
        for key, value in (
            ("color", f"{red},{green},{blue},255"),
            ("style", "solid"),
            ("outline_color", "60,60,60,255"),
            ("outline_style", "solid"),
            ("outline_width", "0.1"),
            ("outline_width_unit", "MM"),
        ):
            ElementTree.SubElement(options, "Option", name=key, value=value, type="QString")
    return _DOCTYPE + ElementTree.tostring(root, encoding="unicode")


def hex_colour(colour: tuple[int, int, int]) -> str:
    """A colour as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def xml_text(text: str) -> str:
    """A text without the control characters that XML cannot hold."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "", text)
