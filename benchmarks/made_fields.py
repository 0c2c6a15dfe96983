"""Scenes made of fields of one class each, to measure on what Indian Pines is not.

The spectra of a field vary about those of its class, as those of fields of one crop do; part of the
noise of the pixels is smooth in space and wavelength.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.spatial import cKDTree

NOISE = 1.5  # the spread of the classes' spectra being 1; half of it is smooth
FIELD_SPREAD = 0.6  # of the fields' spectra about that of their class
UNLABELLED = 0.3  # of the fields

Labels = npt.NDArray[np.uint16]


def made_scene(
    width: int, seed: int, *, side: int, bands: int, classes: int
) -> tuple[npt.NDArray[np.float64], Labels]:
    """A scene of fields so many pixels wide.

    Returns
    -------
    cube : (side, side, bands) float64
        Spectra, the spread between classes being 1.
    labels : (side, side) uint16
        Classes from 1 on; 0 in ``UNLABELLED`` of the fields.
    """
    rng = np.random.default_rng(seed)
    count = (side // width) ** 2
    of_fields = rng.permutation(np.arange(count) % classes)
    places = np.moveaxis(np.mgrid[:side, :side], 0, -1)
    _, field = cKDTree(rng.uniform(0, side, (count, 2))).query(places)
    spectra = smooth_spectra(rng, classes, bands)[of_fields]
    spectra = spectra + FIELD_SPREAD * smooth_spectra(rng, count, bands)
    rough = rng.normal(0, 1, (side, side, bands))
    smooth = gaussian_filter(rng.normal(0, 1, rough.shape), (1, 1, bands / 20))
    cube = spectra[field] + NOISE * (rough + 0.7 * smooth / smooth.std())
    labels = (of_fields + 1) * (rng.random(count) >= UNLABELLED)
    return cube, labels[field].astype(np.uint16)


def smooth_spectra(rng: np.random.Generator, count: int, bands: int) -> npt.NDArray[np.float64]:
    """So many spectra (count, bands), smooth in wavelength, whose spread is 1."""
    spectra = gaussian_filter1d(rng.normal(0, 1, (count, bands)), bands / 12, axis=1)
    return np.asarray(spectra / spectra.std())
