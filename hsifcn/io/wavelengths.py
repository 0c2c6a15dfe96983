"""Wavelengths: units, and text files of them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import UnreadableFileError
from hsifcn.io.files import read_text

_NANOMETRES = {"nanometers", "nanometres", "nanometer", "nanometre", "nm"}
_MICROMETRES = {
    *("micrometers", "micrometres", "micrometer", "micrometre"),
    *("microns", "micron", "um", "µm", "μm"),
}
NAMES = ("wavelength", "wavelengths", "wavelength_nm", "wavelengths_nm", "wl")  # of lists of them
_IN_NAMES = re.compile(
    r"(\d+(?:\.\d+)?) *(nm|nanomet(?:er|re)s?|[uµμ]m|micromet(?:er|re)s?|microns?)\b", re.IGNORECASE
)
_NO_WAVELENGTHS = {"index", "wavenumber", "ghz", "mhz"}


def to_nanometres(values: npt.NDArray[np.float64], units: str = "") -> npt.NDArray[np.float64]:
    """Convert wavelengths to nm.

    Parameters
    ----------
    values : ndarray, (bands,), float64
        Wavelengths, or widths together with ``units``.
    units : str
        As a file names them. Under any other name than those of nm and µm, values that are all
        under 100 are taken as µm: no imaging spectrometer measures below 100 nm.
    """
    units = units.strip().lower()
    micrometres = units in _MICROMETRES
    if units not in _MICROMETRES | _NANOMETRES:
        micrometres = bool(np.all(values < 100))
    return values * 1000.0 if micrometres else values


def is_length_of_waves(units: str) -> bool:
    """Tell whether units, as a file names them, are nm or µm."""
    return units.strip().lower() in _MICROMETRES | _NANOMETRES


def are_wavelengths(values: npt.NDArray[np.float64], units: str) -> bool:
    """Tell wavelengths from the band numbers and frequencies that files list in their place."""
    count = len(values)
    numbers = count > 1 and any(
        np.array_equal(values, np.arange(first, first + count)) for first in (0, 1)
    )
    return not numbers and units.strip().lower() not in _NO_WAVELENGTHS


def named_wavelengths(names: Sequence[str | None]) -> npt.NDArray[np.float64] | None:
    """Wavelengths in nm out of names of bands: ``Band 7 (455.2 nm)``, ``455.2 Nanometers``.

    None where a name holds none, or 0.
    """
    found = [_IN_NAMES.search(name or "") for name in names]
    values = [
        float(match[1]) * (1 if match[2].lower().startswith("n") else 1000)
        for match in found
        if match is not None
    ]
    complete = len(values) == len(names) > 0 and min(values) > 0
    return np.array(values, np.float64) if complete else None


def listed_wavelengths(
    path: str, values: Any, bands: int, units: str = ""
) -> npt.NDArray[np.float64] | None:
    """Take a list that a file calls wavelengths; in nm.

    Parameters
    ----------
    path : str
        The file, for messages.
    values : array_like
        As the file gives it.
    bands : int
        How many there must be.
    units : str
        Of ``to_nanometres``.

    Warns
    -----
    UserWarning
        They are not one positive number a band, and so not used.
    """
    try:
        numbers = np.asarray(values, np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if len(numbers) != bands or not np.all(np.isfinite(numbers) & (numbers > 0)):
        warnings.warn(f"the wavelengths in {path} are not one a band: not used", stacklevel=2)
        return None
    return to_nanometres(numbers, units) if are_wavelengths(numbers, units) else None


def read_wavelengths(path: str | os.PathLike[str], bands: int) -> npt.NDArray[np.float64]:
    """Read a text file with the centre wavelength of one band a line.

    Parameters
    ----------
    path : path
        The text file. Values that are all under 100 are µm, else nm.
    bands : int
        How many it must hold.

    Returns
    -------
    ndarray, (bands,), float64
        Wavelengths in nm.

    Raises
    ------
    UnreadableFileError
        The file is missing, a line is no positive number, or there are not ``bands`` of them.

    Warns
    -----
    UserWarning
        The wavelengths do not increase.
    """
    name = os.fspath(path)
    values = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = float(line)
        except ValueError:
            value = np.nan
        if not 0 < value < np.inf:
            raise UnreadableFileError(
                f"{name}, line {number}, is no wavelength: {line.strip()[:40]!r}",
                "write one number a line",
            )
        values.append(value)
    if len(values) != bands:
        raise UnreadableFileError(
            f"{name} holds {len(values)} wavelengths but the scene has {bands} bands",
            "give one a band",
        )
    if not are_wavelengths(np.array(values), ""):
        raise UnreadableFileError(f"{name} holds band numbers", "give wavelengths in nm or um")
    wavelengths = to_nanometres(np.array(values, dtype=np.float64))
    if np.any(np.diff(wavelengths) <= 0):
        warnings.warn(f"the wavelengths in {name} do not increase", stacklevel=2)
    return wavelengths
