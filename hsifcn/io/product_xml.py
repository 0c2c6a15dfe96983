"""Metadata of EnMAP and DESIS scenes: an XML file beside the GeoTIFF of the spectral image.

``NAME-SPECTRAL_IMAGE.TIF`` belongs to ``NAME-METADATA.XML``, also with ``_COG`` as the archives
deliver it, or with ``_VNIR`` or ``_SWIR`` of level 1B, where each detector has a file of its own.
These elements are relied on:

- EnMAP L1B to L2A ("EnMAP HSI Level 1B, 1C, 2A Product Specification", EN-PCV-ICD-2009):
  ``specific/bandCharacterisation/bandID`` with the attribute ``number`` and the children
  ``wavelengthCenterOfBand`` (nm), ``FWHMOfBand`` (nm), ``GainOfBand`` and ``OffsetOfBand``;
  ``backgroundValue``.
- DESIS L1B to L2A ("DESIS Products Definition Document"): ``band`` with the children
  ``bandNumber``, ``wavelengthCenterOfBand``, ``wavelengthWidthOfBand``, ``gainOfBand`` and
  ``offsetOfBand``; ``backgroundValue``.

A voxel times gain, plus offset, is the reflectance; of levels 1A to 1C it is the radiance.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import UnreadableFileError
from hsifcn.io.xml_file import parse_xml

_NAME = re.compile(
    r"(.+)-SPECTRAL_IMAGE(?:[-_]COG)?(?:[-_](VNIR|SWIR))?(?:[-_]COG)?\.TIFF?", re.IGNORECASE
)
_RADIANCE = re.compile(r"L?1[ABC]", re.IGNORECASE)
_ENMAP = ("wavelengthCenterOfBand", "FWHMOfBand", "GainOfBand", "OffsetOfBand")
_DESIS = ("wavelengthCenterOfBand", "wavelengthWidthOfBand", "gainOfBand", "offsetOfBand")


@dataclass(frozen=True, eq=False)
class Product:
    """What the metadata tell.

    Attributes
    ----------
    wavelengths, fwhm : ndarray, (bands,), float64, nm
    gains, offsets : ndarray, (bands,), float64
    nodata : float or None
    units : str
        Of what gains and offsets make of voxels; empty for reflectances.
    """

    wavelengths: npt.NDArray[np.float64]
    fwhm: npt.NDArray[np.float64]
    gains: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]
    nodata: float | None
    units: str = ""


def metadata_name(name: str) -> str | None:
    """What the file of the metadata of a spectral image is called; None where it has none."""
    match = _NAME.fullmatch(name)
    return None if match is None else f"{match[1]}-METADATA.XML"


def read_product(path: str, bands: int) -> Product | None:
    """Read the metadata beside a spectral image; None where the file is no part of a product.

    Raises
    ------
    UnreadableFileError
        The metadata are no XML, or a band has no wavelength.

    Warns
    -----
    UserWarning
        They are missing, or of another number of bands; they are not used then.
    """
    match = _NAME.fullmatch(Path(path).name)
    wanted = metadata_name(Path(path).name)
    if match is None or wanted is None:
        return None
    beside = sorted(Path(path).parent.iterdir())
    found = [file for file in beside if file.name.casefold() == wanted.casefold()]
    if not found:
        warnings.warn(f"{path} has no {wanted} beside it", stacklevel=2)
        return None
    root = parse_xml(str(found[0]))
    table = _bands(root, str(found[0]))
    if match[2] and len(table) > bands:  # VNIR comes first in the list, SWIR last
        table = table[:bands] if match[2].upper() == "VNIR" else table[-bands:]
    if len(table) != bands:
        warnings.warn(
            f"{found[0]} describes {len(table)} bands where {path} has {bands}: not used",
            stacklevel=2,
        )
        return None
    wavelengths, fwhm, gains, offsets = table.T
    return Product(
        wavelengths=wavelengths,
        fwhm=fwhm,
        gains=gains,
        offsets=offsets,
        nodata=_number(next(root.iter("backgroundValue"), None)),
        units="radiance" if _is_radiance(root, match[1]) else "",
    )


def _is_radiance(root: ElementTree.Element, name: str) -> bool:
    """Whether a product is of level 1, by its metadata or else by its name."""
    level = next((element.text for element in root.iter("level") if element.text), None)
    if level:
        return _RADIANCE.fullmatch(level.strip()) is not None
    return re.search(r"[-_]L1[ABC][-_]", name) is not None


def _bands(root: ElementTree.Element, path: str) -> npt.NDArray[np.float64]:
    """Wavelength, width, gain and offset of each band, by number: (bands, 4)."""
    rows: dict[int, list[float]] = {}
    for element in (*root.iter("bandID"), *root.iter("band")):
        names = _ENMAP if element.tag == "bandID" else _DESIS
        if element.find(names[0]) is None:
            continue  # lists of dead pixels have elements of that name too
        number = element.get("number") or element.findtext("bandNumber")
        values = [_number(element.find(name)) for name in names]
        values[2] = 1.0 if values[2] is None else values[2]
        values[3] = 0.0 if values[3] is None else values[3]
        if not number or not number.strip().isdecimal() or None in values or not values[0]:
            raise UnreadableFileError(
                f"{path} does not tell number, wavelength and width of band {len(rows) + 1}",
                "copy it again",
            )
        rows[int(number)] = [value for value in values if value is not None]
    return np.array([rows[number] for number in sorted(rows)], np.float64).reshape(-1, 4)


def _number(element: ElementTree.Element | None) -> float | None:
    try:
        value = float(element.text or "") if element is not None else np.nan
    except ValueError:
        return None
    return value if np.isfinite(value) else None
