"""The random walker: class probabilities of a whole window from labels at a few of its pixels.

Grady (2006), doi:10.1109/TPAMI.2006.233, solves a linear system on the graph of neighbouring
pixels. An edge of the graph has a small weight where two neighbours differ, so labels spread within
fields and stop at their borders. Each pixel is also tied, with a small weight, to the class
probabilities that spectral classifiers give it (Grady 2005 calls this a prior; Kang et al. 2015,
doi:10.1109/TGRS.2014.2319373, use it for hyperspectral scenes). The prior decides where no label is
near.

How strongly two neighbours differ is measured in the first minimum noise fractions and in the
probabilities of the prior. Where labels cover many fields (``label_coverage``), a label is near
every pixel, so borders may be weaker, most of all next to labelled pixels. Where fields are
narrower than labels lie apart (``nearest_label_agreement``), borders stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from hsifcn.propagation.grid_graph import (
    conjugate_gradients,
    edge_weights,
    neighbour_distances,
    neighbour_slices,
    neighbour_sum,
    node_degree,
)
from hsifcn.propagation.label_coverage import Labels, label_coverage, nearest_label_agreement

# Pairs: the value at a label coverage of 0, and that at 1. Chosen on Indian Pines. Where they do
# not suit a scene, ``selection.choose_prior_weight`` finds that labels hardly spread.
BETA = 4.0, 3.0  # Grady's beta: how steeply an edge's weight falls with the distance
LABEL_EDGE_SCALE = 1.0, 0.2  # factor on the distances of edges at a labelled pixel
CLASS_BETA = 4.0  # distance of two neighbours that the prior is sure are of two classes
TOLERANCE = 1e-2  # of the probabilities, so that next to no pixel's class changes
ABSORPTION_TOLERANCE = 1e-9  # times the pixels of a window, it stays far below a probability
MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class WalkerParams:
    """Parameters of the random walker.

    Attributes
    ----------
    beta : float
        How steeply the weight of an edge falls with the spectral distance of its pixels, the mean
        distance being 1. A larger beta keeps labels more strictly within fields.
    label_edge_scale : float
        Factor on the distances of edges at a labelled pixel; 1 leaves them as they are.
    """

    beta: float
    label_edge_scale: float

    @classmethod
    def choose(cls, labels: Sequence[Labels]) -> WalkerParams:
        """Parameters that suit how labels lie: label maps (rows, cols), 0 = unlabelled."""
        coverage = label_coverage(labels)
        # 0 where nearest labels agree no more often than they disagree.
        wide = max(0.0, 2 * nearest_label_agreement(labels) - 1)
        return cls(interpolate(BETA, coverage), interpolate(LABEL_EDGE_SCALE, coverage * wide))


def walker_weights(
    edges: list[Tensor],
    prior: Tensor,
    valid: Tensor | None,
    pixels: Tensor,
    params: WalkerParams,
) -> list[Tensor]:
    """Weights of the walker's edges, from differences in the spectrum and in the prior.

    Parameters
    ----------
    edges : list of Tensor
        Spectral distances of neighbours, see ``features.spectral_edges``.
    prior, valid, pixels
        Of ``solve_random_walker``.
    params : WalkerParams
    """
    classes = neighbour_distances(prior)
    both = [
        params.beta * edge + CLASS_BETA / 2 * distance
        for edge, distance in zip(edges, classes, strict=True)
    ]
    labelled = labelled_mask(prior, pixels)
    return edge_weights(weaken_edges_near_labels(labelled, both, params.label_edge_scale), valid)


def solve_random_walker(
    weights: list[Tensor],
    prior: Tensor,
    prior_weight: float,
    valid: Tensor | None,
    pixels: Tensor,
    targets: Tensor,
    *,
    start: Tensor | None = None,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """Class probabilities (classes, rows, cols) of the random walker with a prior.

    They solve ``(L + prior_weight) x = prior_weight * prior`` at pixels without a label, where L is
    the Laplacian of the graph and x is 1 or 0 at pixels with one.

    Parameters
    ----------
    weights : list of Tensor
        Of the edges between neighbours, one tensor a kind, see ``grid_graph``.
    prior : Tensor, (classes, rows, cols)
        Class probabilities of the spectral classifiers.
    prior_weight : float
        Against an edge of weight 1.
    valid : Tensor, (1, 1, rows, cols), bool, or None
        Pixels that hold a measurement; None for all.
    pixels, targets : Tensor, (n,), int64
        Flat indices and classes (from 0) of the labelled pixels.
    start : Tensor, (classes, rows, cols), optional
        A guess at the result; the prior by default.
    tolerance : float
        Greatest error of a probability.
    """
    labelled = labelled_mask(prior, pixels)
    known = torch.zeros_like(prior)
    known.view(len(prior), -1)[targets, pixels] = 1
    free = (~labelled).float()
    if valid is not None:
        free = free * valid[0, 0]
    diagonal = node_degree(weights) + prior_weight

    def system(x: Tensor) -> Tensor:
        return diagonal * x - free * neighbour_sum(x, weights)

    right = free * (neighbour_sum(known, weights) + prior_weight * prior)
    found = conjugate_gradients(
        system, right, diagonal, (prior if start is None else start) * free,
        tolerance * prior_weight, MAX_ITERATIONS,
    )  # fmt: skip
    return ((found + known) * (free + labelled)).clamp(0, 1)


def absorption(
    weights: list[Tensor],
    prior_weight: float,
    valid: Tensor | None,
    labelled: Tensor,
    start: tuple[int, int],
) -> Tensor:
    """Where the walk from one pixel ends: probability of each pixel, (rows, cols), float64.

    The probabilities of ``solve_random_walker`` are linear in the labels and in the prior: those of
    a pixel are the sum over labelled pixels of what is given here times their class, plus the sum
    over the others of what is given here times their prior. The system is symmetric, so one
    solution for the pixel, instead of one for every label, gives all of it (its adjoint).

    Parameters
    ----------
    weights, prior_weight, valid
        Of ``solve_random_walker``.
    labelled : Tensor, (rows, cols), bool
    start : tuple of int
        Row and column; a labelled pixel is its own end.
    """
    ends = torch.zeros(labelled.shape, dtype=torch.float64, device=labelled.device)
    ends[start] = 1
    if labelled[start]:
        return ends
    free = ~labelled if valid is None else ~labelled & valid[0, 0]
    edges = [weight.double() for weight in weights]
    diagonal = node_degree(edges) + prior_weight

    def system(x: Tensor) -> Tensor:
        return diagonal * x - free * neighbour_sum(x, edges)

    found = conjugate_gradients(
        system, ends[None], diagonal, torch.zeros_like(ends)[None], ABSORPTION_TOLERANCE,
        MAX_ITERATIONS,
    )  # fmt: skip
    return torch.where(labelled, neighbour_sum(found, edges)[0], prior_weight * found[0])


def labelled_mask(prior: Tensor, pixels: Tensor) -> Tensor:
    """Which pixels (rows, cols) of ``prior`` (classes, rows, cols) have a label."""
    labelled = torch.zeros_like(prior[0], dtype=torch.bool)
    labelled.view(-1)[pixels] = True
    return labelled


def weaken_edges_near_labels(labelled: Tensor, edges: list[Tensor], least: float) -> list[Tensor]:
    """Distances that are smaller near labelled pixels (rows, cols): at these, times ``least``.

    One pixel away from a label the factor has regained two thirds of the way to 1, two pixels away
    nearly all of it.
    """
    away = torch.from_numpy(distance_transform_edt(~labelled.cpu().numpy())).to(edges[0])
    factors = 1 - (1 - least) * torch.exp(-away.square())
    return [
        edge * torch.minimum(factors[a, b], factors[c, d])
        for edge, (a, b, c, d) in zip(edges, neighbour_slices(factors), strict=True)
    ]


def interpolate(ends: tuple[float, float], coverage: float) -> float:
    """The value at a label coverage from 0 to 1, given those at both ends."""
    return ends[0] + (ends[1] - ends[0]) * coverage
