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

_UNITS = {  # nm
    **dict.fromkeys(("nanometers", "nanometres", "nanometer", "nanometre", "nm"), 1.0),
    **dict.fromkeys(("micrometers", "micrometres", "micrometer", "micrometre"), 1e3),
    **dict.fromkeys(("microns", "micron", "um", "µm", "μm"), 1e3),
    **dict.fromkeys(("angstroms", "angstrom", "ångström", "ångströms", "å"), 0.1),
    **dict.fromkeys(("millimeters", "millimetres", "millimeter", "millimetre", "mm"), 1e6),
    **dict.fromkeys(("meters", "metres", "meter", "metre", "m"), 1e9),
}
_SHORTEST, _LONGEST = 100.0, 1e5  # nm; no imaging spectrometer measures beyond,
_USUAL_NM = 200.0, 20_000.0  # and hardly one beyond these
NAMES = (  # of lists of them
    *("wavelength", "wavelengths", "wavelength_nm", "wavelengths_nm", "wl", "wvl", "lambda"),
    *("wave", "waves", "wavelength_um", "center_wavelength", "center_wavelengths"),
    *("central_wavelength", "central_wavelengths", "centre_wavelengths"),
)
_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_IN_NAMES = re.compile(
    rf"(?:({_NUMBER}) *[-\N{{EN DASH}}] *)?({_NUMBER})[ ._]*"
    r"(nm|nanomet(?:er|re)s?|[uµμ]m|micromet(?:er|re)s?|microns?)\b",
    re.IGNORECASE,
)
_BARE_NUMBER = re.compile(rf"(?:.*\()?({_NUMBER})\)?", re.IGNORECASE)  # also in brackets at the end
_WIDEST = 0.3  # of a wavelength, the width of a band that is given by both of its ends
_NO_WAVELENGTHS = {"index", "wavenumber", "ghz", "mhz"}


def to_nanometres(values: npt.NDArray[np.float64], units: str = "") -> npt.NDArray[np.float64]:
    """Convert wavelengths to nm.

    Parameters
    ----------
    values : ndarray, (bands,), float64
        Wavelengths.
    units : str
        As a file names them. In units that are not known values that are all under 100 are taken
        as µm, others as nm: no imaging spectrometer measures below 100 nm.

    Warns
    -----
    UserWarning
        In the units that are named they would be no wavelengths of light: they are taken as µm or
        nm by their size.
    """
    by_size = 1000.0 if np.all(values < _SHORTEST) else 1.0
    factor = _UNITS.get(units.strip().lower(), by_size)
    if values.size and factor != by_size:
        low, high = float(values.min()), float(values.max())
        none = high * factor < _SHORTEST or low * factor > _LONGEST
        if none and _USUAL_NM[0] <= low * by_size and high * by_size <= _USUAL_NM[1]:
            warnings.warn(
                f"{low:g} to {high:g} {units.strip()[:40]} are no wavelengths of light: taken as "
                f"{'µm' if by_size > 1 else 'nm'}",
                stacklevel=2,
            )
            factor = by_size
    return values * factor


def is_length_of_waves(units: str) -> bool:
    """Tell whether units, as a file names them, are nm, µm or Å."""
    return 0 < _UNITS.get(units.strip().lower(), 0) <= 1000


def are_wavelengths(values: npt.NDArray[np.float64], units: str) -> bool:
    """Tell wavelengths from the band numbers and frequencies that files list in their place."""
    count = len(values)
    numbers = count > 1 and any(
        np.array_equal(values, np.arange(first, first + count)) for first in (0, 1)
    )
    return not numbers and units.strip().lower() not in _NO_WAVELENGTHS


def named_wavelengths(names: Sequence[str | None]) -> npt.NDArray[np.float64] | None:
    """Wavelengths in nm out of names of bands: ``Band 7 (455.2 nm)``, ``455.2 Nanometers``.

    Of ``450-460 nm`` it is the middle. Names that are nothing but increasing numbers, or have one
    in brackets at the end, are wavelengths if light has such. None where a name holds none, or 0.
    """
    found = [_IN_NAMES.search(name or "") for name in names]
    values = [_centre(match) for match in found if match is not None]
    if len(values) == len(names) > 0 and min(values) > 0:
        return np.array(values, np.float64)
    bare = [_BARE_NUMBER.fullmatch((name or "").strip()) for name in names]
    numbers = np.array([float(match[1]) for match in bare if match is not None])
    if len(numbers) != len(names) or len(numbers) < 2 or not np.all(np.diff(numbers) > 0):
        return None
    nanometres = numbers * (1000.0 if numbers[-1] < _SHORTEST else 1.0)
    fractions = numbers[-1] >= _SHORTEST or bool(np.any(numbers % 1))
    light = nanometres[0] >= 300 and nanometres[-1] <= 15_000
    return nanometres if light and fractions else None


def _centre(match: re.Match[str]) -> float:
    """Wavelength in nm that a name of a band tells; of both ends of a band their middle."""
    low, high = float(match[1] or match[2]), float(match[2])
    is_range = 0 < high - low < _WIDEST * high
    value = (low + high) / 2 if is_range else high
    return value * (1.0 if match[3].lower().startswith("n") else 1000.0)


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
