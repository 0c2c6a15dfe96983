"""A linear classifier of single spectra that travels with a network.

A network learns where things lie in its training scenes, so it errs in a scene of other ground. A
linear discriminant learns from single spectra alone and errs less there. So its scores are averaged
with the network's in scenes that the network does not know; see ``rotation.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

_DIGITS = 8  # significant ones that are stored: scores are small differences of large products


@dataclass(frozen=True, eq=False)
class SpectralClassifier:
    """Scores of every class that are linear in a spectrum: a convolution of one pixel.

    Attributes
    ----------
    directions : ndarray, (bands, classes), float64
        Of spectra as the network gets them before they are standardised: of length 1 where
        ``Scaling.unit_length`` is set.
    offsets : ndarray, (classes,), float64
    expected_oa : float or None
        Accuracy at pixels of labelled fields that it did not learn from: what to expect of it in
        another scene. None where no class has two fields.
    """

    directions: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]
    expected_oa: float | None = None

    def to_header(self) -> dict[str, Any]:
        """Plain lists, rounded, for the header of a model."""
        return {
            "directions": [[float(f"{v:.{_DIGITS}g}") for v in row] for row in self.directions],
            "offsets": [float(f"{value:.{_DIGITS}g}") for value in self.offsets],
            "expected_oa": self.expected_oa,
        }

    @classmethod
    def from_header(cls, values: Mapping[str, Any] | None, bands: int, classes: int) -> Self | None:
        """Read what ``to_header`` wrote; nonsense is a ValueError."""
        if values is None:
            return None
        directions = np.array(values["directions"], np.float64)
        offsets = np.array(values["offsets"], np.float64)
        expected = values["expected_oa"]
        finite = np.isfinite(directions).all() and np.isfinite(offsets).all()
        if directions.shape != (bands, classes) or offsets.shape != (classes,) or not finite:
            raise ValueError("the spectral classifier is damaged")
        if expected is not None and not 0 <= expected <= 1:
            raise ValueError("the accuracy expected of the spectral classifier is out of 0-1")
        return cls(directions, offsets, expected)


@dataclass(frozen=True)
class SpectralShare:
    """How much the spectral classifier counts beside the network.

    Attributes
    ----------
    weight : float
        Of its scores; that of the network's is 1.
    temperature : float
        What the weighted mean of both scores is divided by.
    """

    weight: float
    temperature: float = 1.0
