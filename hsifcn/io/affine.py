"""Voxels in other units than they are stored in: a gain and an offset a band."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import Window
from hsifcn.io.formats import FileScene, Voxels

_NO_UNITS = {"", "1", "-", "none", "unitless", "dimensionless", "reflectance", "ratio", "nan"}
_PERCENT = {"%", "percent"}
_PIECE_VOXELS = 1_000_000  # converted at once; bounds the memory that it adds


def converted(
    block: npt.NDArray[Any],
    gains: npt.NDArray[np.float64] | float,
    offsets: npt.NDArray[np.float64] | float,
    nodata: float | None,
) -> npt.NDArray[np.float32]:
    """Multiply by gains and add offsets; voxels that are ``nodata`` stay so.

    Parameters
    ----------
    block : ndarray, (rows, cols, bands)
    gains, offsets : ndarray, (bands,), float64, or float
    nodata : float or None

    Returns
    -------
    ndarray, (rows, cols, bands), float32
    """
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which is no measurement either
        result = block.astype(np.float32)
        result *= np.float32(gains)
        result += np.float32(offsets)
        if nodata is not None:
            result[block == nodata] = nodata
    return result


@dataclass(frozen=True, eq=False)
class AffineVoxels:
    """Voxels times a gain plus an offset, one of each a band; see ``Voxels``.

    Attributes
    ----------
    voxels : Voxels
        As they are stored.
    gains, offsets : ndarray, (bands,), float64
    nodata : float or None
        The stored value that is no measurement; it is not converted.
    stored : dtype
        Type in which they are stored.
    """

    voxels: Voxels
    gains: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]
    nodata: float | None
    stored: np.dtype[Any]

    def read(self, window: Window) -> npt.NDArray[np.float32]:
        """Read all bands of a window, a few rows of the stored voxels at a time."""
        result = np.empty((window.rows, window.cols, len(self.gains)), np.float32)
        step = max(1, _PIECE_VOXELS // max(1, window.cols * len(self.gains)))
        for row in range(0, window.rows, step):
            rows = min(step, window.rows - row)
            block = self.voxels.read(Window(window.row + row, window.col, rows, window.cols))
            result[row : row + rows] = converted(block, self.gains, self.offsets, self.nodata)
        return result


def calibrated(
    scene: FileScene, gains: npt.ArrayLike, offsets: npt.ArrayLike, *, scale_factor: float | None
) -> FileScene:
    """The scene with a gain and an offset applied to each band.

    Parameters
    ----------
    scene : FileScene
    gains, offsets : array_like, (bands,) or one number
    scale_factor : float or None
        Of the voxels that come out.
    """
    bands = scene.shape[2]
    voxels = AffineVoxels(
        scene.voxels,
        np.broadcast_to(np.asarray(gains, np.float64), bands),
        np.broadcast_to(np.asarray(offsets, np.float64), bands),
        scene.nodata,
        scene.dtype,
    )
    return replace(scene, voxels=voxels, dtype=np.dtype(np.float32), scale_factor=scale_factor)


def as_reflectances(scene: FileScene, gains: npt.ArrayLike, offsets: npt.ArrayLike) -> FileScene:
    """The scene whose reflectances are gain * voxel + offset, band by band.

    One gain for all bands, and no offset, is kept as a scale factor; all else is applied. Gains
    that are 0 or no number tell nothing.
    """
    gains, offsets = np.atleast_1d(gains), np.atleast_1d(offsets)
    if not (np.isfinite(gains) & (gains != 0)).all() or not np.isfinite(offsets).all():
        return scene
    if offsets.any() or np.any(gains != gains[0]) or gains[0] < 0:
        return calibrated(scene, gains, offsets, scale_factor=1.0)
    return replace(scene, scale_factor=None if gains[0] == 1 else float(1 / gains[0]))


def unpacked(
    scene: FileScene, gains: npt.ArrayLike, offsets: npt.ArrayLike, units: str
) -> FileScene:
    """The scene whose values are gain * voxel + offset in some units: reflectances, if in none.

    Radiances and the like have no scale factor. Their gains are applied, since they differ between
    scenes of one sensor.
    """
    gains, offsets = np.atleast_1d(gains), np.atleast_1d(offsets)
    kind = units.strip().casefold()
    if kind in _PERCENT:
        return as_reflectances(scene, gains / 100, offsets / 100)
    if kind in _NO_UNITS:
        return as_reflectances(scene, gains, offsets)
    told = np.isfinite(gains).all() and gains.all() and np.isfinite(offsets).all()
    if not told or (np.all(gains == 1) and not offsets.any()):
        return replace(scene, scale_factor=None)
    return calibrated(scene, gains, offsets, scale_factor=None)
