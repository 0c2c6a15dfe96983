"""Names and colours of classes in GDAL's file ``.aux.xml`` beside a label raster.

They are a list of category names, or a raster attribute table (GDAL raster data model). The file
is read here because rasterio gives neither.
"""

from __future__ import annotations

import os
from xml.etree import ElementTree

from hsifcn.io.xml_file import parse_xml

Names = dict[int, str]
Colours = dict[int, tuple[int, int, int]]

_NAME, _VALUES, _RGB = 2, (3, 4, 5), (6, 7, 8)  # GDALRATFieldUsage
_TEXT = 2  # GDALRATFieldType
_NAME_FIELDS = ("classname", "classnames", "class", "name", "label", "category", "landcover")
_VALUE_FIELDS = ("value", "code", "classvalue", "id", "dn", "gridcode")


def read_classes(path: str) -> tuple[Names, Colours]:
    """Read names and colours of classes by code; both may be empty.

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
                return {}, {}
            table = band.find("GDALRasterAttributeTable")
            if table is not None:
                return _attribute_table(table)
            listed = enumerate(band.findall("CategoryNames/Category"))
            names = {code: (name.text or "").strip() for code, name in listed}
            return {code: name for code, name in names.items() if code and name}, {}
    return {}, {}


def _attribute_table(table: ElementTree.Element) -> tuple[Names, Colours]:
    """Names and colours of a raster attribute table."""
    fields = table.findall("FieldDefn")
    value_at, name_at, rgb_at = _columns(fields)
    names: Names = {}
    colours: Colours = {}
    for number, row in enumerate(table.findall("Row")):
        cells = [cell.text or "" for cell in row.findall("F")]
        try:
            code = number if value_at is None else int(float(cells[value_at]))
            rgb = [int(float(cells[at])) for at in rgb_at if at is not None]
        except (ValueError, OverflowError, IndexError):
            continue
        if code < 1:
            continue
        if name_at is not None and name_at < len(cells) and cells[name_at].strip():
            names[code] = cells[name_at].strip()
        if len(rgb) == len(_RGB) and all(0 <= channel <= 255 for channel in rgb):
            colours[code] = (rgb[0], rgb[1], rgb[2])
    return names, colours


def _columns(
    fields: list[ElementTree.Element],
) -> tuple[int | None, int | None, list[int | None]]:
    """Which columns hold value, name, and red, green and blue.

    The usage tells. Many programs leave it at 0, general: then a column's name tells, and a name
    is in the only column of text.
    """
    usages = [int(field.findtext("Usage") or 0) for field in fields]
    titles = [
        "".join(c for c in (field.findtext("Name") or "").casefold() if c.isalnum())
        for field in fields
    ]
    texts = [i for i, field in enumerate(fields) if (field.findtext("Type") or "") == str(_TEXT)]

    def first(wanted: tuple[int, ...], known: tuple[str, ...], among: list[int]) -> int | None:
        by_usage = [i for usage in wanted for i, found in enumerate(usages) if found == usage]
        by_title = [i for title in known for i in among if titles[i] == title]
        return next(iter(by_usage + by_title), None)

    numbers = [i for i in range(len(fields)) if i not in texts]
    name_at = first((_NAME,), _NAME_FIELDS, texts)
    if name_at is None and len(texts) == 1:
        name_at = texts[0]
    value_at = first((_VALUES[2], *_VALUES[:2]), _VALUE_FIELDS, numbers)
    channels = zip(_RGB, (("red", "r"), ("green", "g"), ("blue", "b")), strict=True)
    return value_at, name_at, [first((usage,), title, numbers) for usage, title in channels]
