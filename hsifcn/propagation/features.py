"""What spectral classifiers and the random walker see of each pixel.

Minimum noise fractions, in which noise has variance 1 in every component; principal components, in
which strong bands stay strong; and principal components of spectra divided by their length, which
do not see how bright a pixel is. All are smoothed within fields, at several strengths: where fields
are wide, smoothing removes noise; where objects are small, it mixes them, so no strength suits
every scene (``selection.py`` chooses).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.data.standardise import Scaling
from hsifcn.propagation.grid_graph import (
    conjugate_gradients,
    edge_weights,
    neighbour_distances,
    neighbour_sum,
    node_degree,
)
from hsifcn.propagation.mnf import mnf_fit, project

EDGE_COMPONENTS = 8  # minimum noise fractions that edges are measured in: more are noise
PRINCIPAL = 30  # principal components kept, of spectra and of their shapes
SMOOTHING = (0.0, 1.0, 5.0, 20.0)  # weights of a pixel's neighbours; its own value has weight 1
SMOOTHING_BETA = 4.0  # how steeply an edge's weight falls with the spectral distance
SMOOTHING_TOLERANCE = 0.02  # of a residual, which a pixel and its neighbours weigh down
SMOOTHING_ITERATIONS = 30
SMOOTHED_AT_ONCE = 20  # components, which bounds the memory taken


@dataclass(frozen=True)
class Projection:
    """From standardised bands to components, fitted once for all scenes.

    Attributes
    ----------
    noise_fractions : ndarray, (components, bands), float32
        Directions of the minimum noise fractions.
    principal : ndarray, (principal components, bands), float32
        Directions of the principal components.
    shape : ndarray, (principal components, bands), float32
        Directions of the principal components of ``shapes``, each band in its standard deviation.
    scaling : Scaling or None
        See ``shapes``.
    """

    noise_fractions: npt.NDArray[np.float32]
    principal: npt.NDArray[np.float32]
    shape: npt.NDArray[np.float32]
    scaling: Scaling | None = None

    @classmethod
    def fit(
        cls,
        noise: npt.NDArray[np.float64],
        signal: npt.NDArray[np.float64],
        shape: npt.NDArray[np.float64],
        scaling: Scaling | None = None,
    ) -> Projection:
        """Fit to a noise covariance, sums of products of bands, and the covariance of ``shapes``.

        All (bands, bands).
        """
        spread: npt.NDArray[np.float64] = np.sqrt(np.maximum(np.diag(shape), 1e-20))
        correlation = shape / spread / spread[:, None]
        directions = principal_directions(correlation)
        directions /= spread.astype(np.float32)
        return cls(mnf_fit(noise, signal), principal_directions(signal), directions, scaling)


def principal_directions(products: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The first ``PRINCIPAL`` eigenvectors, (components, bands)."""
    _, vectors = np.linalg.eigh(products)
    return np.ascontiguousarray(vectors[:, : -PRINCIPAL - 1 : -1].T, np.float32)


def shapes(cube: Tensor, scaling: Scaling | None) -> Tensor:
    """Spectra divided by their Euclidean length, less that of the mean spectrum.

    Parameters
    ----------
    cube : Tensor, (..., bands, rows, cols), float32
    scaling : Scaling or None
        What the cube was standardised by; None where it is in the scene's own units.

    Returns
    -------
    Tensor of that shape
    """
    if scaling is None:
        divided: Tensor = cube / cube.norm(dim=-3, keepdim=True).clamp(min=1e-30)
        return divided
    mean, std = (
        torch.from_numpy(values.astype(np.float32)).to(cube)[:, None, None]
        for values in (scaling.mean, scaling.std)
    )
    spectra: Tensor = cube * std + mean
    spectra /= spectra.norm(dim=-3, keepdim=True).clamp_(min=1e-30)
    # Without what all have in common, sums of products keep their digits.
    spectra -= mean / mean.norm().clamp(min=1e-30)
    return spectra


@dataclass(frozen=True)
class PixelFeatures:
    """Components of the pixels of a window, smoothed, and the distances of neighbours.

    Attributes
    ----------
    edges : list of Tensor
        Squared spectral distances of neighbours, their mean being 1; see ``grid_graph``.
    smoothed : dict of (str, float) to Tensor, (components, rows, cols), float32
        Components by space and strength of smoothing. The space is ``noise`` for minimum noise
        fractions, ``principal`` or ``shape``.
    """

    edges: list[Tensor]
    smoothed: dict[tuple[str, float], Tensor]

    @classmethod
    def of(cls, cube: Tensor, valid: Tensor | None, projection: Projection) -> PixelFeatures:
        """Features of a standardised cube (1, bands, rows, cols) and its valid pixels or None."""
        components = {
            "noise": project(cube, projection.noise_fractions),
            "principal": project(cube, projection.principal),
            "shape": project(shapes(cube, projection.scaling), projection.shape),
        }
        edges = spectral_edges(components["noise"][:EDGE_COMPONENTS])
        weights = edge_weights([SMOOTHING_BETA * edge for edge in edges], valid)
        smoothed = {
            (space, strength): smooth(image, weights, strength)
            for space, image in components.items()
            for strength in SMOOTHING
        }
        return cls(edges, smoothed)

    def pixels(self, space: str, strength: float, which: Tensor | slice) -> Tensor:
        """Features (n, components) of pixels, by flat index."""
        return self.smoothed[space, strength].flatten(1)[:, which].t()


def spectral_edges(components: Tensor) -> list[Tensor]:
    """Squared distances of neighbours in these components, divided by their mean."""
    found = neighbour_distances(components)
    mean = torch.cat([distance.flatten() for distance in found]).mean().clamp(min=1e-12)
    return [distance / mean for distance in found]


def smooth(image: Tensor, weights: list[Tensor], strength: float) -> Tensor:
    """Smooth an image (n, rows, cols) within fields.

    The result minimises the squared difference from the image, plus ``strength`` times the weighted
    squared differences of neighbours.
    """
    if strength == 0:
        return image
    diagonal = 1 + strength * node_degree(weights)

    def system(x: Tensor) -> Tensor:
        return diagonal * x - strength * neighbour_sum(x, weights)

    return torch.cat(
        [
            conjugate_gradients(
                system, part, diagonal, part, SMOOTHING_TOLERANCE, SMOOTHING_ITERATIONS
            )
            for part in torch.split(image, SMOOTHED_AT_ONCE)
        ]
    )
