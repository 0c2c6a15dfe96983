"""Voxels that are no measurements though no header says so: fill values and broken voxels.

A scene is looked at when it is opened: in small windows, as a whole if it is small. A value counts
as a fill value where at least ``_LEAST`` voxels hold exactly it and

- all bands of pixels hold it, and it is below nearly all else or far above (``_APART``), or
- all of many bands of pixels hold it, up to the border of the scene, and hardly any other pixel
  is flat or holds it in some band (``_FLAT``), or
- it is one that programs fill with (``_USUAL``) and apart from all else (``_APART``), or
- it is very far from all else (``_FAR``).

How far is told in units of the range of values: from the least 1 % quantile of a band to the
greatest 99 % quantile of one. Voxels farther than ``_BROKEN`` such ranges out are never
measurements, be there one only. Bands that the file marks as bad, and flat ones, are not looked at.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import Window
from hsifcn.io.affine import AffineVoxels
from hsifcn.io.formats import FileScene, Voxels

_FEWEST = 16  # pixels that tell a range
_LEAST = 3
_APART = 0.25
_FAR = 3.0
_BROKEN = 10.0
_USUAL = (
    *(-9999, -999, -99999, -32768, -32767, 32767, 65535, 1e20, -1e20, 1e30, -1e30, -1.23e34),
    *(-3.4028234663852886e38, 3.4028234663852886e38, 9.969209968386869e36),  # float32, NetCDF
)
_VOXELS = 500_000  # of a scene that is looked at as a whole, else in windows
_ACROSS = 6  # windows, and as many down
_PIXELS = 2_000  # whose quantiles are taken
_MANY_BANDS = 8  # that do not hold the same value by chance; fewer do at the border of a scene
_FLAT = 0.01  # share of pixels: at least so many hold a fill, fewer others are flat spectra

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MeasuredVoxels:
    """Voxels in which all that is no measurement holds one value; see ``Voxels``.

    Attributes
    ----------
    voxels : Voxels
        As they are stored.
    fills : tuple of float
        Values that are no measurements.
    low, high : float
        Between them lies every measurement.
    nodata : float
        What takes the place of all else; NaN in floats.
    """

    voxels: Voxels
    nodata: float
    fills: tuple[float, ...] = ()
    low: float = -np.inf
    high: float = np.inf

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read all bands of a window."""
        block = self.voxels.read(window)
        if not block.size:
            return block
        with np.errstate(invalid="ignore", over="ignore"):
            # NaN makes the comparisons false, so that the voxels are looked at one by one.
            if not (block.min() >= self.low and block.max() <= self.high):
                block[(block < self.low) | (block > self.high)] = self.nodata
            for fill in self.fills:
                if self.low <= fill <= self.high:
                    block[block == fill] = self.nodata
        return block


def declare_nodata(
    scene: FileScene,
    value: float | None,
    *,
    fills: tuple[float, ...] = (),
    low: float = -np.inf,
    high: float = np.inf,
) -> FileScene:
    """The scene with what else is no measurement.

    Parameters
    ----------
    scene : FileScene
    value : float or None
        The scene's no-data value from here on, unless it has one already.
    fills : tuple of float
        Other values that are no measurements.
    low, high : float
        Between them lies every measurement.
    """
    if isinstance(scene.voxels, AffineVoxels):  # values are those that are stored
        stored = dataclasses.replace(scene, voxels=scene.voxels.voxels, dtype=scene.voxels.stored)
        stored = declare_nodata(stored, value, fills=fills, low=low, high=high)
        converted = dataclasses.replace(scene.voxels, voxels=stored.voxels, nodata=stored.nodata)
        return dataclasses.replace(scene, voxels=converted, nodata=stored.nodata)
    if value is not None and np.isnan(value):
        value = None
    others = {*fills, *(() if value is None else (value,))}
    nodata = scene.nodata
    if nodata is None and others:
        nodata = value if value is not None else max(others, key=abs)
    others -= {nodata}
    if scene.dtype.kind in "iu":
        limits = np.iinfo(scene.dtype)
        others = {other for other in others if limits.min <= other <= limits.max}
        if others and nodata is not None and not limits.min <= nodata <= limits.max:
            nodata = max(others, key=abs)  # the one declared can be no voxel
            others -= {nodata}
        if low <= limits.min and high >= limits.max and not others:
            return dataclasses.replace(scene, nodata=nodata)
        if nodata is None or not limits.min <= nodata <= limits.max:
            nodata = float(limits.max if limits.max > high else limits.min)
    elif not others and np.isinf(low) and np.isinf(high):
        return dataclasses.replace(scene, nodata=nodata)
    voxels = MeasuredVoxels(
        scene.voxels, np.nan if nodata is None else nodata, tuple(sorted(others)), low, high
    )
    return dataclasses.replace(scene, voxels=voxels, nodata=nodata)


def find_nodata(scene: FileScene) -> FileScene:
    """The scene without fill values and broken voxels that its file does not tell of.

    Warns
    -----
    UserWarning
        Which were found.
    """
    if isinstance(scene.voxels, AffineVoxels):
        stored = dataclasses.replace(scene, voxels=scene.voxels.voxels, dtype=scene.voxels.stored)
    else:
        stored = scene
    spectra, at_border = _sample(stored)
    if len(spectra) < _FEWEST or spectra.size < 2:
        return scene
    fills, shares = [], []
    for _ in range(len(_USUAL)):
        fill = _fill_of_pixels(spectra, at_border)
        fill = _fill_of_voxels(spectra) if fill is None else fill
        if fill is None:
            break
        fills.append(fill)
        shares.append(float((spectra == fill).mean()))
        spectra[spectra == fill] = np.nan
    low, high, span = _range(spectra)
    amid = {fill for fill in fills if low < fill < high}
    low, high = low - _BROKEN * span, high + _BROKEN * span
    broken = spectra[(spectra < low) | (spectra > high)]
    for fill, share in zip(fills, shares, strict=True):
        where = "which fills pixels up to the border" if fill in amid else "far from all others"
        warnings.warn(
            f"{share:.2%} of the voxels of {scene.path} that were looked at are {fill:g}, {where}: "
            "taken as no-data (--nodata declares such a value)",
            stacklevel=2,
        )
    if broken.size:
        warnings.warn(
            f"{scene.path} holds values as extreme as {broken[np.abs(broken).argmax()]:g}: those "
            f"beyond {low:g} to {high:g} are taken as no-data",
            stacklevel=2,
        )
    if not span > 0 or (stored.dtype.kind in "iu" and not broken.size):
        low, high = -np.inf, np.inf
    first = fills[0] if fills else None
    return declare_nodata(scene, first, fills=tuple(fills[1:]), low=low, high=high)


def _sample(scene: FileScene) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Spectra (pixels, bands looked at), NaN where nothing was measured; which lie at a border."""
    rows, cols, _ = scene.shape
    blocks, border = [], []
    for window in _windows(scene.shape):
        stored = scene.read(window)[:, :, scene.good_bands]
        block = stored.astype(np.float64)
        with np.errstate(over="ignore"):
            unmeasured = ~np.isfinite(block)
            if scene.nodata is not None:
                unmeasured |= stored == scene.nodata
        block[unmeasured] = np.nan
        blocks.append(block.reshape(window.rows * window.cols, block.shape[2]))
        row, col = np.indices(block.shape[:2]) + np.array([[[window.row]], [[window.col]]])
        border.append(np.isin(row, (0, rows - 1)) | np.isin(col, (0, cols - 1)))
    spectra = np.concatenate(blocks)
    measured = ~np.isnan(spectra)
    low = np.min(spectra, axis=0, where=measured, initial=np.inf)
    high = np.max(spectra, axis=0, where=measured, initial=-np.inf)
    return spectra[:, low < high], np.concatenate([part.ravel() for part in border])


def _windows(shape: tuple[int, int, int]) -> list[Window]:
    """The whole of a small scene; of a larger one small windows spread over it, up to its edges."""
    rows, cols, bands = shape
    if rows * cols * bands <= _VOXELS:
        return [Window(0, 0, rows, cols)]
    side = max(1, math.isqrt(_VOXELS // (_ACROSS**2 * bands)))
    height, width = min(side, rows), min(side, cols)
    return [
        Window(int(row), int(col), height, width)
        for row in np.unique(np.linspace(0, rows - height, _ACROSS).astype(int))
        for col in np.unique(np.linspace(0, cols - width, _ACROSS).astype(int))
    ]


def _fill_of_pixels(spectra: Values, at_border: npt.NDArray[np.bool_]) -> float | None:
    """A value that all bands of several pixels hold, below nearly all others or far above them."""
    first = spectra[:, 0]
    alike = (spectra == first[:, None]).all(axis=1)
    values, counts = np.unique(first[alike], return_counts=True)
    for value in values[np.argsort(-counts)][: len(_USUAL)].tolist():
        pixels = alike & (first == value)
        few_bands = spectra.shape[1] < _MANY_BANDS and not (pixels & at_border).any()
        if spectra.shape[1] < 2 or pixels.sum() < _LEAST or few_bands:
            continue
        others = spectra[~pixels]
        others = others[~np.isnan(others)]
        span = _range(spectra[~pixels])[2]
        below = others.size and (others <= value).mean() < 0.01
        if below or (value - np.max(others, initial=-np.inf) > _APART * span > 0):
            return float(value)
        if spectra.shape[1] >= _MANY_BANDS and _fills_a_border(spectra, pixels, alike, at_border):
            return float(value)
    return None


def _fills_a_border(
    spectra: Values,
    pixels: npt.NDArray[np.bool_],
    alike: npt.NDArray[np.bool_],
    at_border: npt.NDArray[np.bool_],
) -> bool:
    """Whether one value of all bands is no spectrum though it lies amid those of others.

    There are many such pixels, up to the border, hardly any others are flat, and hardly any hold
    the value in some band: those would be lost. Zeros in some bands lose no pixel.
    """
    value, others = spectra[pixels][0, 0], spectra[~pixels]
    share = 1 / max(1, len(others))
    held = 0.0 if value == 0 else (others == value).any(axis=1).sum() * share
    flat = (alike & ~pixels).sum() * share
    at_edge = (pixels & at_border).sum() >= _LEAST
    return bool(at_edge and pixels.mean() > _FLAT and flat < _FLAT and held < _FLAT)


def _fill_of_voxels(spectra: Values) -> float | None:
    """The least or greatest value, where several voxels hold it and it is apart from all others."""
    if np.isnan(spectra).all():
        return None
    for value in (np.nanmin(spectra), np.nanmax(spectra)):
        found = spectra == value
        if found.sum() < _LEAST:
            continue
        others = np.where(found, np.nan, spectra)
        span = _range(others)[2]
        if not span > 0:
            continue
        gap = np.nanmin(np.abs(others - value))
        usual = any(value == np.float32(known) or value == known for known in _USUAL)
        if gap > _FAR * span or (usual and gap > _APART * span):
            return float(value)
    return None


def _range(spectra: Values) -> tuple[float, float, float]:
    """The least 1 % quantile of a band, the greatest 99 % quantile of one, their difference."""
    some = spectra[:: max(1, len(spectra) // _PIXELS)]
    some = some[:, ~np.isnan(some).all(axis=0)]
    if not some.size:
        return np.nan, np.nan, np.nan
    quantile = np.nanquantile if np.isnan(some).any() else np.quantile
    # Values that occur, the greatest and the least left out: one broken voxel must not count.
    low = float(quantile(some, 0.01, axis=0, method="higher").min())
    high = float(quantile(some, 0.99, axis=0, method="lower").max())
    return low, high, high - low
