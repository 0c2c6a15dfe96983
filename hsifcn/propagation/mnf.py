"""Minimum noise fractions (Green et al. 1988, doi:10.1109/36.3001).

Noise is estimated from the differences of neighbouring pixels.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.propagation.grid_graph import steps

COMPONENTS = 100  # that the classifier is given, smoothed; all where there are fewer
NOISE_FLOOR = 1e-3  # of the mean noise, added to that of each band
NOISE_STRIP = 16  # rows whose differences are held at once


def clean_components(cube: Tensor, valid: Tensor | None) -> Tensor:
    """Minimum noise fractions, (components, rows, cols): noise 1 in each, the cleanest first."""
    noise, count = noise_sums(cube[0], valid)
    return projected(cube, clean_directions(noise / max(1, count), signal_sums(cube[0])))


def projected(cube: Tensor, directions: npt.NDArray[np.float32]) -> Tensor:
    """Components (components, rows, cols) of a cube (1, bands, rows, cols)."""
    rows, cols = cube.shape[2:]
    spectra = cube[0].reshape(cube.shape[1], -1)
    return (torch.from_numpy(directions).to(spectra) @ spectra).reshape(-1, rows, cols)


def clean_directions(
    noise: npt.NDArray[np.float64], signal: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Directions (components, bands) of the minimum noise fractions.

    Parameters
    ----------
    noise, signal : ndarray, (bands, bands)
        Covariance of the noise; sums of the products of bands, in any unit.
    """
    # NumPy's linear algebra is in memory already, PyTorch's would take 15 MB more.
    strengths, axes = np.linalg.eigh(noise)
    whitening = axes / np.sqrt(strengths + max(NOISE_FLOOR * strengths.mean(), 1e-12))
    _, vectors = np.linalg.eigh(whitening.T @ signal @ whitening)
    return np.ascontiguousarray((whitening @ vectors[:, : -COMPONENTS - 1 : -1]).T, np.float32)


def signal_sums(spectra: Tensor) -> npt.NDArray[np.float64]:
    """Products of bands (bands, bands), summed over the pixels of (bands, rows, cols)."""
    flat = spectra.reshape(len(spectra), -1)
    return (flat @ flat.t()).cpu().double().numpy()


def noise_sums(spectra: Tensor, valid: Tensor | None) -> tuple[npt.NDArray[np.float64], int]:
    """Covariance (bands, bands) of the noise of (bands, rows, cols), summed over so many steps.

    Noise is what neighbours differ by; the covariance is half that of the differences.
    """
    bands, rows, _ = spectra.shape
    total, count = np.zeros((bands, bands)), 0
    for row in range(0, rows, NOISE_STRIP):
        strip = slice(row, row + NOISE_STRIP + 1)  # one row more, for the steps down from the last
        image = spectra[:, strip]
        for a, b, c, d in itertools.islice(steps(image), 2):  # to the right and down
            difference = image[:, c, d] - image[:, a, b]
            if valid is not None:
                difference = difference * (valid[0, 0, strip][a, b] & valid[0, 0, strip][c, d])
            difference = difference.flatten(1)
            total += (difference @ difference.t()).cpu().numpy()
            count += difference.shape[1]
    return total / 2, count
