"""Names and colours of classes in GDAL's file ``.aux.xml`` beside a label raster.

They are a list of category names, or a raster attribute table (GDAL raster data model). The file
is read here because rasterio gives neither.
"""

from __future__ import annotations

import os
from xml.etree import ElementTree

from hsifcn.io.xml_file import parse_xml

Colours = tuple[tuple[int, int, int], ...]

_NAME, _VALUES, _RGB = 2, (3, 4, 5), (6, 7, 8)  # GDALRATFieldUsage
_LARGEST = 1000  # class


def read_classes(path: str) -> tuple[tuple[str, ...], Colours]:
    """Read names and colours of classes 1, 2, ...; both may be empty.

    Parameters
    ----------
    path : str
        The raster.

    Raises
    ------
    UnreadableFileError
        The file beside it is no XML.
    """
    for beside in (f"{path}.aux.xml", f"{os.path.splitext(path)[0]}.aux.xml"):
        if os.path.isfile(beside):
            band = parse_xml(beside).find("PAMRasterBand")
            if band is None:
                return (), ()
            names = [name.text or "" for name in band.findall("CategoryNames/Category")]
            table = band.find("GDALRasterAttributeTable")
            if names or table is None:
                return _until_blank(names[1 : _LARGEST + 1]), ()
            return _attribute_table(table)
    return (), ()


def _attribute_table(table: ElementTree.Element) -> tuple[tuple[str, ...], Colours]:
    usages = [int(field.findtext("Usage") or 0) for field in table.findall("FieldDefn")]
    names, colours = [""] * (_LARGEST + 1), [(-1, -1, -1)] * (_LARGEST + 1)
    for number, row in enumerate(table.findall("Row")):
        cells = dict(zip(usages, [cell.text or "" for cell in row.findall("F")], strict=False))
        try:
            value = next((int(float(cells[usage])) for usage in _VALUES if usage in cells), number)
            colour = tuple(int(float(cells.get(usage, -1))) for usage in _RGB)
        except (ValueError, OverflowError):
            continue
        if 0 < value <= _LARGEST:
            names[value], colours[value] = cells.get(_NAME, ""), (colour[0], colour[1], colour[2])
    known = next((i for i, colour in enumerate(colours[1:]) if min(colour) < 0), _LARGEST)
    return _until_blank(names[1:]), tuple(colours[1 : known + 1])


def _until_blank(names: list[str]) -> tuple[str, ...]:
    """Names of classes, those behind the last named one left out, blank ones by their number."""
    last = max((i + 1 for i, name in enumerate(names) if name.strip()), default=0)
    return tuple(name.strip() or f"class {i}" for i, name in enumerate(names[:last], start=1))
