"""What the spectra of the training scenes are like, in a few numbers that a model carries.

Robust location and spread of every band, and a factor model of how bands vary together: a few
principal components and the variance that they leave in each band (Tipping, Bishop (1999),
*Probabilistic Principal Component Analysis*, JRSS B 61(3), with a variance a band). With them
another scene is compared with the training scenes without having these at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import Scene, Window
from hsifcn.data.standardise import read_bands, valid_pixels

COMPONENTS = 10
LEARNT_SHARE = 0.99  # of the training spectra whose distance counts as learnt
_WINDOWS, _SIDE = 5, 32  # windows a side of a scene that are sampled, and their rows and columns
_LEAST_VARIANCE = 1e-6  # of a band beside its components, in squared spreads
_DIGITS = 6  # significant ones that are stored

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SpectralSummary:
    """Statistics of the training spectra over the bands used.

    Attributes
    ----------
    location, spread : ndarray, (bands,), float64
        Median, and half of what lies between the 16th and the 84th percentile, in the scene's
        units. Both are those of mean and standard deviation where values are normal.
    components : ndarray, (components, bands), float64
        Principal directions of ``(spectrum - location) / spread``, of unit length.
    variances : ndarray, (components,), float64
        Along them.
    residual_variances : ndarray, (bands,), float64
        What the components leave in each band.
    limit : float
        Distance that ``LEARNT_SHARE`` of the training spectra do not exceed.
    """

    location: Array
    spread: Array
    components: Array
    variances: Array
    residual_variances: Array
    limit: float

    def standardise(self, spectra: npt.NDArray[Any]) -> Array:
        """``(spectrum - location) / spread`` of (pixels, bands)."""
        standardised: Array = (spectra - self.location) / self.spread
        return standardised

    def distances(self, spectra: npt.NDArray[Any]) -> Array:
        """How far spectra, (pixels, bands) in the scene's units, lie from those learnt.

        Returns
        -------
        ndarray, (pixels,), float64
            Mean square over components and bands, each in its own standard deviation.
        """
        standardised = self.standardise(spectra)
        scores = standardised @ self.components.T
        standardised -= scores @ self.components
        squares = np.square(scores) @ (1 / self.variances)
        squares += np.square(standardised) @ (1 / self.residual_variances)
        distances: Array = squares / (len(self.variances) + len(self.location))
        return distances

    @property
    def factors(self) -> Array:
        """Components times their standard deviations, (components, bands)."""
        scaled: Array = self.components * np.sqrt(self.variances)[:, None]
        return scaled

    def to_header(self) -> dict[str, Any]:
        """Plain lists, rounded, for the header of a model."""

        def rounded(value: Any) -> Any:
            if isinstance(value, list):
                return [rounded(element) for element in value]
            return float(f"{value:.{_DIGITS}g}")

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: rounded(np.asarray(value).tolist()) for name, value in values.items()}

    @classmethod
    def from_header(cls, values: Mapping[str, Any] | None, bands: int) -> Self | None:
        """Read what ``to_header`` wrote; nonsense is a ValueError."""
        if values is None:
            return None
        read: dict[str, Any] = {
            field.name: np.array(values[field.name], np.float64) for field in fields(cls)
        }
        summary = cls(**read | {"limit": float(values["limit"])})
        summary._check(bands)
        return summary

    def _check(self, bands: int) -> None:
        """Raise ValueError where shapes contradict each other or a number is impossible."""
        count = len(self.variances)
        shapes = {
            "location": (bands,),
            "spread": (bands,),
            "components": (count, bands),
            "variances": (count,),
            "residual_variances": (bands,),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"the {name} of the training spectra are damaged")
        for array in (self.spread, self.variances, self.residual_variances, self.limit):
            if not (np.asarray(array) > 0).all():
                raise ValueError("a variance of the training spectra is not positive")
        if not np.isfinite(self.limit):
            raise ValueError("the limit of the training spectra is not finite")


def summarise_scenes(
    scenes: Sequence[Scene], bands: npt.NDArray[np.bool_]
) -> SpectralSummary | None:
    """Summarise the training scenes, each by a sample of its pixels.

    Parameters
    ----------
    scenes : sequence of Scene
    bands : ndarray, (bands of the scenes,), bool
        Those used.

    Returns
    -------
    SpectralSummary or None
        None where hardly any pixel holds a measurement.
    """
    spectra = np.concatenate([sample_spectra(scene, bands) for scene in scenes])
    return summarise(spectra) if len(spectra) > 1 else None


def summarise(spectra: npt.NDArray[np.float32]) -> SpectralSummary:
    """Summarise spectra, (pixels, bands)."""
    location, spread = robust_moments(spectra)
    standardised = (spectra - location) / spread
    # Single wild pixels would turn the components towards themselves.
    np.clip(standardised, -10, 10, out=standardised)
    values, vectors = np.linalg.eigh(standardised.T @ standardised / len(spectra))
    count = min(COMPONENTS, max(1, len(location) - 1))
    variances = np.maximum(values[::-1][:count], _LEAST_VARIANCE)
    components = vectors.T[::-1][:count]
    residuals = standardised - (standardised @ components.T) @ components
    residual_variances = np.maximum(np.square(residuals).mean(axis=0), _LEAST_VARIANCE)
    summary = SpectralSummary(location, spread, components, variances, residual_variances, 1.0)
    limit = float(np.quantile(summary.distances(spectra), LEARNT_SHARE))
    return SpectralSummary(
        location, spread, components, variances, residual_variances, max(limit, _LEAST_VARIANCE)
    )


def robust_moments(spectra: npt.NDArray[np.float32]) -> tuple[Array, Array]:
    """Median and half the range of the middle 68 % of every band; 1 for bands without a range."""
    ordered = np.sort(np.ascontiguousarray(spectra.T), axis=1)  # faster than np.quantile
    low, middle, high = (
        ordered[:, round(share * (len(spectra) - 1))].astype(np.float64)
        for share in (0.16, 0.5, 0.84)
    )
    spread = (high - low) / 2
    tiny = spread <= np.finfo(np.float32).eps * np.abs(middle)
    spread[tiny] = spectra.std(axis=0, dtype=np.float64)[tiny]
    spread[spread <= np.finfo(np.float32).eps * np.abs(middle)] = 1
    return middle, spread


def sample_spectra(scene: Scene, bands: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Valid spectra, (pixels, bands used), in small windows spread evenly over a scene."""
    parts = []
    for window in sample_windows(scene, _WINDOWS):
        block = read_bands(scene, window, bands)
        parts.append(block[valid_pixels(block, scene.nodata)].astype(np.float32))
    return np.concatenate(parts)


def sample_windows(scene: Scene, count: int) -> list[Window]:
    """Small windows spread evenly over a scene, at most ``count`` a side, none on another."""
    rows, cols = scene.shape[:2]
    height, width = min(_SIDE, rows), min(_SIDE, cols)
    down, across = (min(count, max(1, side // _SIDE)) for side in (rows, cols))
    return [
        Window(int(row), int(col), height, width)
        for row in np.linspace(0, rows - height, down).astype(int)
        for col in np.linspace(0, cols - width, across).astype(int)
    ]
