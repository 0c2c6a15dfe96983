"""What the tags of a GeoTIFF tell about its bands: wavelengths, widths, bad ones.

There is no one convention. These are looked for, the first that covers every band wins:

1. ``CENTRAL_WAVELENGTH_UM`` and ``FWHM_UM`` of a band in GDAL's ``IMAGERY`` domain, in µm
   (GDAL raster data model, "IMAGERY Domain").
2. ``wavelength``, ``wavelength_units``, ``fwhm`` and ``bbl`` of a band, plain or in the domain
   ``ENVI``: what GDAL makes of an ENVI header.
3. The same for the whole file, as lists: ``{400, 410, ...}``.
4. Band descriptions that are wavelengths with a unit: ``band 7 (455.2 nm)``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.io.wavelengths import are_wavelengths, named_wavelengths, to_nanometres

_WAVELENGTHS = ("wavelength", "center_wavelength", "central_wavelength", "wavelength_nm")


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What is known of the bands.

    Attributes
    ----------
    good_bands : ndarray, (bands,), bool
    wavelengths, fwhm : ndarray, (bands,), float64, nm, or None
    """

    good_bands: npt.NDArray[np.bool_]
    wavelengths: npt.NDArray[np.float64] | None = None
    fwhm: npt.NDArray[np.float64] | None = None


def read_spectrum(dataset: Any, bands: Sequence[int], path: str) -> Spectrum:
    """Read what an open rasterio dataset tells of its bands.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
    bands : sequence of int
        Numbers of its bands that are meant, from 1.
    path : str
        Its file, for messages.

    Warns
    -----
    UserWarning
        Wavelengths are given for some bands only, or are no positive numbers: they are not used.
    """
    count = len(bands)
    imagery = [_lower(dataset.tags(band, ns="IMAGERY")) for band in bands]
    plain = [_lower(dataset.tags(band, ns="ENVI")) | _lower(dataset.tags(band)) for band in bands]
    whole = _lower(dataset.tags(ns="ENVI")) | _lower(dataset.tags())
    bbl = _numbers([tags.get("bbl") for tags in plain])
    if bbl is None:
        bbl = _numbers(_items(whole.get("bbl", ""), count))
    good = np.ones(count, np.bool_) if bbl is None else bbl > 0
    for given, widths, units in (
        (_each(imagery, "central_wavelength_um"), _each(imagery, "fwhm_um"), "um"),
        (_each(plain, *_WAVELENGTHS), _each(plain, "fwhm"), _units(plain[0])),
        (
            _items(whole.get("wavelength", whole.get("wavelengths", "")), count),
            _items(whole.get("fwhm", ""), count),
            _units(whole),
        ),
        (_described([dataset.descriptions[band - 1] for band in bands]), [None] * count, "nm"),
    ):
        wavelengths = _numbers(given)
        if (
            wavelengths is not None
            and are_wavelengths(wavelengths, units)
            and np.all(wavelengths > 0)
        ):
            in_nanometres = to_nanometres(wavelengths, units)
            fwhm = _numbers(widths)
            if fwhm is not None:
                # Widths have the units of the wavelengths; by their size they could not be told.
                fwhm = fwhm * (in_nanometres[0] / wavelengths[0])
            return Spectrum(good, in_nanometres, fwhm)
        if any(item is not None for item in given):
            warnings.warn(f"the wavelengths in {path} are not one a band: not used", stacklevel=2)
    return Spectrum(good)


def _lower(tags: Mapping[str, str]) -> dict[str, str]:
    return {key.lower().replace(" ", "_"): value for key, value in tags.items()}


def _each(bands: Sequence[Mapping[str, str]], *keys: str) -> list[str | None]:
    return [next((tags[key] for key in keys if key in tags), None) for tags in bands]


def _units(tags: Mapping[str, str]) -> str:
    return tags.get("wavelength_units", tags.get("wavelength_unit", ""))


def _items(text: str, count: int) -> list[str | None]:
    """The items of a list; all None where there is no list, and one where it is of another size."""
    items = [item for item in re.split(r"[,;\s]+", text.strip().strip("{}[]").strip()) if item]
    if len(items) == count:
        return list(items)
    return [text if items else None, *[None] * (count - 1)]


def _described(descriptions: Sequence[str | None]) -> list[str | None]:
    """Wavelengths in nm that stand in the descriptions of all bands, else None each."""
    wavelengths = named_wavelengths(descriptions)
    return (
        [None] * len(descriptions)
        if wavelengths is None
        else [repr(float(nm)) for nm in wavelengths]
    )


def _numbers(values: Sequence[str | None]) -> npt.NDArray[np.float64] | None:
    """One finite number a band, or None."""
    try:
        numbers = np.array([float(value) for value in values if value is not None], np.float64)
    except ValueError:
        return None
    return numbers if len(numbers) == len(values) and np.isfinite(numbers).all() else None
