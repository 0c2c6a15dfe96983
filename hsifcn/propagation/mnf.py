"""Minimum noise fractions (Green et al. 1988, doi:10.1109/36.3001).

The noise covariance is estimated from the differences of neighbouring pixels.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.propagation.grid_graph import neighbour_slices

COMPONENTS = 100  # of least noise, which are kept; all where there are fewer
NOISE_FLOOR = 1e-3  # of the mean noise variance, added to that of each noise component
NOISE_STRIP = 16  # rows whose differences are held at once


def project(cube: Tensor, directions: npt.NDArray[np.float32]) -> Tensor:
    """Components (components, rows, cols) of a cube (1, bands, rows, cols)."""
    rows, cols = cube.shape[2:]
    spectra = cube[0].reshape(cube.shape[1], -1)
    return (torch.from_numpy(directions).to(spectra) @ spectra).reshape(-1, rows, cols)


def mnf_fit(
    noise: npt.NDArray[np.float64], signal: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Directions (components, bands) of the minimum noise fractions.

    Parameters
    ----------
    noise : ndarray, (bands, bands)
        Covariance of the noise.
    signal : ndarray, (bands, bands)
        Sums of the products of bands, in any unit.
    """
    # NumPy's linear algebra is in memory already; PyTorch's would take 15 MB more.
    variances, axes = np.linalg.eigh(noise)
    whitening = axes / np.sqrt(variances + max(NOISE_FLOOR * variances.mean(), 1e-12))
    _, vectors = np.linalg.eigh(whitening.T @ signal @ whitening)
    return np.ascontiguousarray((whitening @ vectors[:, : -COMPONENTS - 1 : -1]).T, np.float32)


def band_product_sums(spectra: Tensor) -> npt.NDArray[np.float64]:
    """Products of bands (bands, bands), summed over the pixels of (bands, rows, cols)."""
    flat = spectra.reshape(len(spectra), -1)
    return (flat @ flat.t()).cpu().double().numpy()


def noise_sums(spectra: Tensor, valid: Tensor | None) -> tuple[npt.NDArray[np.float64], int]:
    """Noise covariance of (bands, rows, cols), times the number of differences; and that number.

    The covariance of the noise is half that of the differences of neighbours.
    """
    bands, rows, _ = spectra.shape
    total, count = np.zeros((bands, bands)), 0
    for row in range(0, rows, NOISE_STRIP):
        strip = slice(row, row + NOISE_STRIP + 1)  # one row more, for the edges down from the last
        image = spectra[:, strip]
        for a, b, c, d in itertools.islice(neighbour_slices(image), 2):  # to the right and down
            difference = image[:, c, d] - image[:, a, b]
            if valid is not None:
                difference = difference * (valid[0, 0, strip][a, b] & valid[0, 0, strip][c, d])
            difference = difference.flatten(1)
            total += (difference @ difference.t()).cpu().numpy()
            count += difference.shape[1]
    return total / 2, count
