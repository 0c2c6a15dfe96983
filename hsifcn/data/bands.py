"""Which bands of a scene are used: those chosen, less those that hold no signal.

A band is bad where

- the file marks it so (ENVI ``bbl``, EMIT ``good_wavelengths``, NEON's bad band windows);
- it is empty or flat: no measurement, or one value everywhere; or it has none in more than half of
  the pixels that other bands measure, since a pixel counts where all its bands are measured;
- it lies in a window where water vapour absorbs all light, *and* its mean is under 5 % of that of
  the median band outside the windows. By its wavelength alone no band is left out: many scenes were
  cleaned before, and what they still have there is signal (the bundled scene has ten such bands).

The windows round 1.38 and 1.88 µm are those of Gao and Goetz, "Column atmospheric water vapor and
vegetation liquid water retrievals from airborne imaging spectrometer data", Journal of Geophysical
Research 95 (D4), 1990.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import Notice, SettingError
from hsifcn.core.scene import Scene, Window
from hsifcn.data.standardise import strips

WATER_NM = ((1350.0, 1430.0), (1800.0, 1960.0), (2450.0, np.inf))
WATER_SHARE = 0.05  # of the mean of other bands, under which a band holds no signal
LEAST_SHARE = 0.5  # of the pixels that another band measures
ROWS_LOOKED_AT = 64  # evenly spaced, for what need not be exact

AnyScene = TypeVar("AnyScene", bound=Any)


def with_chosen_bands(
    scene: AnyScene, selection: str | None = None, *, keep_bad: bool = False
) -> AnyScene:
    """The scene with ``good_bands`` as they shall be used.

    Parameters
    ----------
    scene : Scene
        A dataclass, as ``open_scene`` gives it.
    selection : str, optional
        See ``parse_bands``; all bands by default.
    keep_bad : bool
        Keep bands that the file marks, or that water vapour hides. Flat and empty ones are left
        out all the same when a model is trained: nothing can be learnt from them.

    Raises
    ------
    SettingError
        The selection makes no sense, or leaves no band.

    Warns
    -----
    UserWarning
        Bands in the windows of water vapour are left out.
    """
    good = np.ones(scene.shape[2], np.bool_)
    if selection is not None:
        good &= parse_bands(selection, scene.shape[2], scene.wavelengths)
    if not keep_bad:
        dark = hidden_by_water(scene) & scene.good_bands & good
        if dark.any():
            warnings.warn(
                f"bands {format_bands(dark)} of {scene.path} hold no signal, in windows of water "
                "vapour: left out",
                Notice,
                stacklevel=2,
            )
        good &= scene.good_bands & ~dark
    if selection is not None and not good.any():
        raise SettingError(f"--bands {selection} leaves no band", "see hsifcn info")
    return dataclasses.replace(scene, good_bands=good)


def parse_bands(
    text: str, count: int, wavelengths: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.bool_]:
    """Parse a selection of bands.

    Parameters
    ----------
    text : str
        Numbers from 1, ranges of them, ranges of wavelengths, ends included:
        ``1-10,20,400nm-900nm``.
    count : int
        Bands of the scene.
    wavelengths : ndarray, (bands,), float64, or None
        In nm.

    Returns
    -------
    ndarray, (bands,), bool

    Raises
    ------
    SettingError
        It is no selection, names bands that are not there, or wavelengths that are unknown.
    """
    chosen = np.zeros(count, np.bool_)
    for item in text.split(","):
        numbers = re.fullmatch(r" *(\d{1,6})(?: *- *(\d{1,6}))? *", item)
        length = r"(\d{1,5}(?:\.\d*)?) *nm"
        lengths = re.fullmatch(rf" *{length} *- *{length} *", item, re.IGNORECASE)
        if numbers:
            first = int(numbers[1])
            last = int(numbers[2] or first)
            if not 1 <= first <= last <= count:
                raise SettingError(
                    f"--bands {item.strip()} is not among bands 1-{count}", "count them from 1"
                )
            chosen[first - 1 : last] = True
        elif lengths and wavelengths is None:
            raise SettingError(
                f"--bands {item.strip()} needs wavelengths, which the scene lacks",
                "give them with --wavelengths",
            )
        elif lengths and wavelengths is not None:
            inside = (wavelengths >= float(lengths[1])) & (wavelengths <= float(lengths[2]))
            if not inside.any():
                raise SettingError(f"--bands {item.strip()} holds no band of the scene")
            chosen |= inside
        else:
            raise SettingError(
                f"--bands {item.strip()!r} is no band", "write 1-10,20 or 400nm-900nm"
            )
    return chosen


def format_bands(chosen: npt.NDArray[np.bool_]) -> str:
    """Write a selection as ``parse_bands`` takes it: ``1-10, 20``."""
    numbers = (np.flatnonzero(chosen) + 1).tolist()
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def band_faults(scene: Scene) -> dict[str, npt.NDArray[np.bool_]]:
    """What is wrong with which bands, as far as evenly spaced rows tell.

    Returns
    -------
    dict of str to ndarray, (bands,), bool
        ``marked bad``, ``empty``, ``mostly empty``, ``flat``, ``hidden by water vapour``; without
        those that no band has.
    """
    low, high, _, measured = _looked_at(scene)
    faults = {
        "marked bad": ~scene.good_bands,
        "empty": low > high,
        "mostly empty": (low <= high) & _mostly_empty(measured),
        "flat": low == high,
        "hidden by water vapour": hidden_by_water(scene),
    }
    return {name: bands for name, bands in faults.items() if bands.any()}


def measured_bands(scene: Scene) -> npt.NDArray[np.bool_]:
    """Bands that are good and neither empty nor mostly empty, (bands,) bool, in evenly spaced rows.

    A pixel counts where all bands that are asked for are measured: an empty one leaves none.
    """
    low, high, _, measured = _looked_at(scene)
    return np.asarray(scene.good_bands & (low <= high) & ~_mostly_empty(measured))


def hidden_by_water(scene: Scene) -> npt.NDArray[np.bool_]:
    """Bands in a window of water vapour that hold no signal, (bands,) bool; none if unknown."""
    inside = np.zeros(scene.shape[2], np.bool_)
    if scene.wavelengths is None:
        return inside
    for first, last in WATER_NM:
        inside |= (scene.wavelengths >= first) & (scene.wavelengths <= last)
    if not inside.any() or inside.all():
        return np.zeros_like(inside)
    mean = _looked_at(scene)[2]
    others = np.abs(mean[~inside & np.isfinite(mean)])
    if not others.size:
        return np.zeros_like(inside)
    # A band without a measurement has no mean, and is empty rather than dark.
    return np.asarray(inside & (np.abs(mean) < WATER_SHARE * np.median(others)))


def varying_bands(scene: Scene) -> npt.NDArray[np.bool_]:
    """Bands that hold something to learn from, (bands,) bool; looks at every voxel.

    They have two different measured values or more, and are not mostly empty.
    """
    low, high, _, measured = _statistics(scene, list(strips(scene.shape)))
    return np.asarray((high > low) & ~_mostly_empty(measured))


def _mostly_empty(measured: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Bands that measure less than ``LEAST_SHARE`` of the pixels that some band measures."""
    return np.asarray(measured < LEAST_SHARE * measured.max(initial=0))


def _looked_at(scene: Scene) -> tuple[npt.NDArray[np.float64], ...]:
    rows, cols, _ = scene.shape
    step = max(1, rows // ROWS_LOOKED_AT)
    return _statistics(scene, [Window(row, 0, 1, cols) for row in range(0, rows, step)])


def _statistics(scene: Scene, windows: list[Window]) -> tuple[npt.NDArray[np.float64], ...]:
    """Least, greatest, mean and number of measured values of each band.

    The first three are inf, -inf and NaN in a band without one.
    """
    bands = scene.shape[2]
    low, high = np.full(bands, np.inf), np.full(bands, -np.inf)
    total, count = np.zeros(bands), np.zeros(bands)
    for window in windows:
        block = scene.read(window).reshape(-1, bands).astype(np.float32, copy=False)
        measured = np.isfinite(block)
        if scene.nodata is not None:
            measured &= block != np.float32(scene.nodata)
        low = np.minimum(low, np.min(block, axis=0, where=measured, initial=np.inf))
        high = np.maximum(high, np.max(block, axis=0, where=measured, initial=-np.inf))
        total += np.sum(block, axis=0, where=measured, dtype=np.float64)
        count += measured.sum(axis=0)
    mean = np.divide(total, count, out=np.full(bands, np.nan), where=count > 0)
    return low, high, mean, count
