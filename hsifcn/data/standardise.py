"""Standardisation of bands: mean and standard deviation from the training scenes, kept for good."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import Scene, Window


@dataclass(frozen=True)
class Scaling:
    """What is subtracted from and divided by, band by band.

    Attributes
    ----------
    mean, std : ndarray, (bands,), float64
        In the units of the scene, or of spectra of length 1. A band that varies by less than
        float32 can tell has ``std`` 1.
    unit_length : bool
        Spectra are divided by their Euclidean length first, so that a scene may be brighter or
        darker by any factor.
    gain, offset : ndarray, (bands,), float64, or None
        Of the light of another scene, which are undone before all else:
        ``measured = gain x expected + offset``.
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    unit_length: bool = False
    gain: npt.NDArray[np.float64] | None = None
    offset: npt.NDArray[np.float64] | None = None

    def apply(
        self, block: npt.NDArray[Any], valid: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        """Standardise a (rows, cols, bands) block; pixels that are not ``valid`` become the mean.

        Returns
        -------
        ndarray, (rows, cols, bands), float32
        """
        scaled = divided_by_length(block) if self.unit_length else block.astype(np.float32)
        scaled -= self.mean.astype(np.float32)
        scaled *= (1 / self.std).astype(np.float32)
        scaled[~valid] = 0
        return scaled


def divided_by_length(spectra: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Spectra (..., bands) divided by their Euclidean lengths; those of length 0 stay so."""
    values = spectra.astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # spectra that are no measurements
        lengths = np.sqrt(np.einsum("...b,...b->...", values, values))
        values /= np.maximum(lengths, np.float32(1e-30))[..., None]
    return values


def valid_pixels(block: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.bool_]:
    """Which pixels of a (rows, cols, bands) block hold a measurement in every band.

    A pixel is invalid where a band is NaN or infinite, or ``nodata``. 0 is a value that a dark band
    may happen to have, so where it is ``nodata`` at least half of the bands must hold it.
    """
    valid: npt.NDArray[np.bool_] = np.ones(block.shape[:2], bool)
    if block.dtype.kind == "f":
        valid &= np.isfinite(block).all(axis=2)
    if nodata is not None and not np.isnan(nodata):
        with np.errstate(over="ignore"):  # no float32 is a number beyond its range
            unmeasured = block == nodata
        if unmeasured.any():
            least = max(1, block.shape[2] / 2) if nodata == 0 else 1
            valid &= np.count_nonzero(unmeasured, axis=2) < least
    return valid


def read_bands(scene: Scene, window: Window, bands: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Read the chosen bands of a window, (rows, cols, chosen)."""
    block = scene.read(window)
    return block if bands.all() else np.ascontiguousarray(block[..., bands])


def strips(shape: tuple[int, int, int], voxels: int = 1_000_000) -> Iterable[Window]:
    """Full-width windows of about that many voxels, from top to bottom."""
    rows, cols, bands = shape
    height = max(1, voxels // (cols * bands))
    for row in range(0, rows, height):
        yield Window(row, 0, min(height, rows - row), cols)


def fit_scaling(blocks: Iterable[npt.NDArray[Any]]) -> Scaling:
    """Mean and standard deviation of the spectra in ``blocks``.

    Parameters
    ----------
    blocks : iterable of ndarray, (pixels, bands)
        Valid spectra; joined pairwise as in Chan, Golub, LeVeque (1983), which is exact and stable.

    Returns
    -------
    Scaling
        Of no bands where there are no spectra.
    """
    count, mean, squares = 0, np.zeros(0), np.zeros(0)
    for block in blocks:
        if not len(block):
            continue
        block_mean = block.mean(axis=0, dtype=np.float64)
        block_squares = block.var(axis=0, dtype=np.float64) * len(block)
        if not count:
            count, mean, squares = len(block), block_mean, block_squares
            continue
        total = count + len(block)
        delta = block_mean - mean
        mean = mean + delta * len(block) / total
        squares = squares + block_squares + delta**2 * count * len(block) / total
        count = total
    std = np.sqrt(squares / max(count, 1))
    varies = std > np.finfo(np.float32).eps * np.abs(mean)
    return Scaling(mean, np.where(varies, std, 1.0))
