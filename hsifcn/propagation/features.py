"""What spectral classifiers and the random walker see of each pixel.

Minimum noise fractions, in which noise has variance 1 in every component, and principal components,
in which strong bands stay strong. Both are smoothed within fields, at several strengths: where
fields are wide, smoothing removes noise; where objects are small, it mixes them, so no strength
suits every scene (``selection.py`` chooses).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.propagation.grid_graph import (
    conjugate_gradients,
    edge_weights,
    neighbour_distances,
    neighbour_sum,
    node_degree,
)
from hsifcn.propagation.mnf import mnf_fit, project

EDGE_COMPONENTS = 8  # minimum noise fractions that edges are measured in: more are noise
PRINCIPAL = 30  # principal components kept
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
    """

    noise_fractions: npt.NDArray[np.float32]
    principal: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, noise: npt.NDArray[np.float64], signal: npt.NDArray[np.float64]) -> Projection:
        """Fit to a noise covariance and to sums of products of bands, both (bands, bands)."""
        _, vectors = np.linalg.eigh(signal)
        principal = np.ascontiguousarray(vectors[:, : -PRINCIPAL - 1 : -1].T, np.float32)
        return cls(mnf_fit(noise, signal), principal)


@dataclass(frozen=True)
class PixelFeatures:
    """Components of the pixels of a window, smoothed, and the distances of neighbours.

    Attributes
    ----------
    edges : list of Tensor
        Squared spectral distances of neighbours, their mean being 1; see ``grid_graph``.
    smoothed : dict of (str, float) to Tensor, (components, rows, cols), float32
        Components by space and strength of smoothing. The space is ``noise`` for minimum noise
        fractions or ``principal``.
    """

    edges: list[Tensor]
    smoothed: dict[tuple[str, float], Tensor]

    @classmethod
    def of(cls, cube: Tensor, valid: Tensor | None, projection: Projection) -> PixelFeatures:
        """Features of a standardised cube (1, bands, rows, cols) and its valid pixels or None."""
        components = {
            "noise": project(cube, projection.noise_fractions),
            "principal": project(cube, projection.principal),
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
