"""Pseudo-labels: training labels propagated over a scene by a random walker.

The random walker (Grady 2006, doi:10.1109/TPAMI.2006.233) solves a linear system on the graph of
neighbouring pixels. An edge of the graph has a small weight where two neighbours differ, so labels
spread within fields and stop at their borders. Each pixel is also tied, with a small weight, to the
class probabilities that a spectral classifier gives it (``spectral_prior.py``; Grady 2005 calls
this a prior, Kang et al. 2015, doi:10.1109/TGRS.2014.2319373 use it for hyperspectral scenes). The
prior decides where no label is near. A network learns from the labels and from the likeliest class
of every other pixel. The network alone makes the map, so it needs no labels to map a scene.

How strongly two neighbours differ is measured in the first minimum noise fractions (``mnf.py``) and
in the probabilities of the prior. The classifier gets more fractions, which are smoothed within the
same borders, and their local variance.

Two measures of the labels set the parameters (``choose_params``). Where labels cover many fields
(``label_coverage``), a label is near every pixel, so borders may be weaker, most of all next to
labelled pixels. Where fields are narrower than labels lie apart (``nearest_label_agreement``), the
nearest label often belongs to another field: borders stay as they are and the prior weighs more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from hsifcn.propagation.grid_graph import (
    NEIGHBOURS,
    conjugate_gradients,
    neighbour_distances,
    neighbour_slices,
    neighbour_sum,
    node_degree,
)
from hsifcn.propagation.label_coverage import label_coverage, labels_at, nearest_label_agreement
from hsifcn.propagation.mnf import mnf_transform
from hsifcn.propagation.spectral_prior import (
    MAX_LABELLED,
    LabelledSpectra,
    PixelFeatures,
    error_on_unseen_fields,
    labelled_spectra,
    stratified_sample,
)

EDGE_COMPONENTS = 8  # minimum noise fractions that edges are measured in: more are noise
# Pairs: the value at a label coverage of 0, and that at 1.
WALKER_BETA = 4.0, 3.0  # Grady's beta: how steeply an edge's weight falls with the distance
SMOOTHING_BETA = 6.0, 3.0  # the same for smoothing
LABEL_EDGE_SCALE = 1.0, 0.2  # factor on the distances of edges at a labelled pixel
PRIOR_WEIGHT = 3e-4  # of the prior, against an edge of weight 1
NARROW_FIELD_FACTOR = 2.0  # on it, where fields are narrower than labels lie apart
MAX_PRIOR_WEIGHT_FACTOR = 4.0  # on it, where the classifier makes no errors
LOW_ERROR = 0.02  # error of the classifier on unseen fields below which the factor exceeds 1
CLASS_BETA = 4.0  # distance of two neighbours that the prior is sure are of two classes
MIN_EDGE_WEIGHT = 3e-4  # so that no pixel is cut off
SMOOTHING = 20.0  # weight of a pixel's neighbours in smoothing; its own value has weight 1
SMOOTHING_ITERATIONS = 30
VARIANCE_COMPONENTS = 3  # fractions whose local variance the classifier gets
VARIANCE_SMOOTHING = 500.0  # as SMOOTHING: a variance needs many pixels
VARIANCE_ITERATIONS = 60
MIN_VARIANCE = 0.01  # that of noise being 1
SMOOTHED_AT_ONCE = 20  # fractions, which bounds the memory taken
TOLERANCE = 1e-2  # of the probabilities, so that next to no pixel's class changes
MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class PseudoLabels:
    """Classes of the unlabelled pixels of a scene, and how much each pixel counts in the loss.

    Attributes
    ----------
    classes : Tensor, (pixels,), int64
        Class (from 0) of every pixel, in flat order.
    weights : Tensor, (pixels,), float32
        0 for labelled pixels and where there is no measurement; they sum to 1.
    mean_confidence : float
        Mean over the counted pixels of the greatest probability; 0 where none counts.
    """

    classes: Tensor
    weights: Tensor
    mean_confidence: float = 0.0


@dataclass(frozen=True)
class WalkerParams:
    """Parameters of the random walker.

    Attributes
    ----------
    beta : float
        How steeply the weight of an edge falls with the spectral distance of its pixels, the mean
        distance being 1. A larger beta keeps labels more strictly within fields.
    prior_weight : float
        Weight of the spectral classifier, against an edge of weight 1.
    label_edge_scale : float
        Factor on the distances of edges at a labelled pixel; 1 leaves them as they are.
    """

    beta: float
    prior_weight: float
    label_edge_scale: float


def make_pseudo_labels(
    cube: Tensor, valid: Tensor | None, pixels: Tensor, targets: Tensor, classes: int
) -> PseudoLabels:
    """Propagate labels over a scene and take the likeliest class of each pixel.

    A pixel counts by its greatest probability, divided by the square root of the sum that its class
    has over the scene: rare classes count more, as they do among labels. The network learns classes
    instead of probabilities because with these it stayed unsure of whole fields. Parameters are
    those of ``propagate``.
    """
    weights, best = propagate(cube, valid, pixels, targets, classes).flatten(1).max(0)
    weights[pixels] = 0
    mean_confidence = float(weights.sum() / weights.count_nonzero().clamp(min=1))
    weights = balance_classes(best, weights, classes)
    return PseudoLabels(best, weights / weights.sum().clamp(min=1e-12), mean_confidence)


def balance_classes(best: Tensor, weights: Tensor, classes: int) -> Tensor:
    """Weights (pixels,) divided by the square root of what their classes (pixels,) sum to."""
    mass = weights.new_zeros(classes).index_add_(0, best, weights)
    return weights * mass.clamp(min=1).rsqrt()[best]


def propagate(
    cube: Tensor, valid: Tensor | None, pixels: Tensor, targets: Tensor, classes: int
) -> Tensor:
    """Probability of each class at each pixel, from labels at a few of them.

    Parameters
    ----------
    cube : Tensor, (1, bands, rows, cols), float32
        Standardised spectra.
    valid : Tensor, (1, 1, rows, cols), bool, or None
        Pixels that hold a measurement; None for all.
    pixels, targets : Tensor, (n,), int64
        Flat indices (``row * cols + col``) and classes (from 0) of the labelled pixels.
    classes : int

    Returns
    -------
    Tensor, (classes, rows, cols), float32
        One where labelled, and summing to one everywhere; 0 for classes without a label, and at
        pixels without a measurement.
    """
    labels = [labels_at(pixels, targets, cube.shape[2:])]
    edges, features = edges_and_features(mnf_transform(cube, valid), valid, label_coverage(labels))
    labelled = labelled_spectra(features, pixels, targets)
    labelled = labelled.subset(np.sort(stratified_sample(labelled.targets, MAX_LABELLED)))
    prior = labelled.fit_classifier(classes).probabilities(features)
    params = choose_params(labelled, nearest_label_agreement(labels))
    weights = walker_weights(edges, prior, valid, pixels, params)
    return solve_random_walker(weights, prior, params.prior_weight, valid, pixels, targets)


def edges_and_features(
    components: Tensor, valid: Tensor | None, coverage: float
) -> tuple[list[Tensor], PixelFeatures]:
    """Spectral distances of neighbours, and the features that the classifier gets.

    Parameters
    ----------
    components : Tensor, (components, rows, cols)
        Minimum noise fractions.
    valid
        Of ``propagate``.
    coverage : float
        Label coverage.
    """
    edges = spectral_edges(components[:EDGE_COMPONENTS])
    weights = edge_weights(scale_edges(edges, interpolate(SMOOTHING_BETA, coverage)), valid)
    smooth = smoothed(components, weights, SMOOTHING, SMOOTHING_ITERATIONS)
    squares = (components[:VARIANCE_COMPONENTS] - smooth[:VARIANCE_COMPONENTS]).square()
    variance = smoothed(squares, weights, VARIANCE_SMOOTHING, VARIANCE_ITERATIONS)
    return edges, PixelFeatures(smooth, (variance.clamp(min=0) + MIN_VARIANCE).log())


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
        Spectral distances of neighbours, see ``spectral_edges``.
    prior, valid, pixels
        Of ``solve_random_walker``.
    params : WalkerParams
    """
    spectral = scale_edges(edges, params.beta)
    both = [a + b for a, b in zip(spectral, class_edges(prior), strict=True)]
    near_labels = weaken_edges_near_labels(
        labelled_mask(prior, pixels), both, params.label_edge_scale
    )
    return edge_weights(near_labels, valid)


def solve_random_walker(
    weights: list[Tensor],
    prior: Tensor,
    prior_weight: float,
    valid: Tensor | None,
    pixels: Tensor,
    targets: Tensor,
) -> Tensor:
    """Class probabilities (classes, rows, cols) of the random walker with a prior.

    They solve ``(L + prior_weight) x = prior_weight * prior`` at pixels without a label, where L is
    the Laplacian of the graph and x is 1 or 0 at pixels with one.

    Parameters
    ----------
    weights : list of Tensor
        Of the edges between neighbours, one tensor a kind, see ``grid_graph``.
    prior : Tensor, (classes, rows, cols)
        Class probabilities of the spectral classifier.
    prior_weight : float
    valid : Tensor, (1, 1, rows, cols), bool, or None
        Pixels that hold a measurement; None for all.
    pixels, targets : Tensor, (n,), int64
        Flat indices and classes (from 0) of the labelled pixels.
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
    tolerance = TOLERANCE * prior_weight
    found = conjugate_gradients(system, right, diagonal, prior * free, tolerance, MAX_ITERATIONS)
    return ((found + known) * (free + labelled)).clamp(0, 1)


def labelled_mask(prior: Tensor, pixels: Tensor) -> Tensor:
    """Which pixels (rows, cols) of ``prior`` (classes, rows, cols) have a label."""
    labelled = torch.zeros_like(prior[0], dtype=torch.bool)
    labelled.view(-1)[pixels] = True
    return labelled


def spectral_edges(components: Tensor) -> list[Tensor]:
    """Squared distances of neighbours in these components, divided by their mean."""
    found = neighbour_distances(components)
    mean = torch.cat([distance.flatten() for distance in found]).mean().clamp(min=1e-12)
    return [distance / mean for distance in found]


def scale_edges(edges: list[Tensor], factor: float) -> list[Tensor]:
    """All distances times a factor."""
    return [factor * edge for edge in edges]


def class_edges(probabilities: Tensor) -> list[Tensor]:
    """Distances of neighbours in class probabilities (classes, rows, cols)."""
    return [CLASS_BETA / 2 * distance for distance in neighbour_distances(probabilities)]


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


def edge_weights(edges: list[Tensor], valid: Tensor | None) -> list[Tensor]:
    """Weights of edges of these distances; 0 where one of the two pixels is not valid."""
    weights = []
    for edge, (row, col) in zip(edges, NEIGHBOURS, strict=True):
        weights.append(torch.exp(-edge).add_(MIN_EDGE_WEIGHT) / (row**2 + col**2) ** 0.5)
    if valid is not None:
        for weight, (a, b, c, d) in zip(weights, neighbour_slices(valid), strict=True):
            weight *= valid[0, 0, a, b] & valid[0, 0, c, d]
    return weights


def smoothed(image: Tensor, weights: list[Tensor], strength: float, iterations: int) -> Tensor:
    """Smooth an image (n, rows, cols) within borders.

    The result minimises the squared difference from the image, plus ``strength`` times the weighted
    squared differences of neighbours.
    """
    diagonal = 1 + strength * node_degree(weights)

    def system(x: Tensor) -> Tensor:
        return diagonal * x - strength * neighbour_sum(x, weights)

    return torch.cat(
        [
            conjugate_gradients(system, part, diagonal, part, 0.0, iterations)
            for part in torch.split(image, SMOOTHED_AT_ONCE)
        ]
    )


def choose_params(labelled: LabelledSpectra, agreement: float) -> WalkerParams:
    """Parameters of the random walker, from the labels.

    Parameters
    ----------
    labelled : LabelledSpectra
    agreement : float
        Of ``nearest_label_agreement``.
    """
    coverage = labelled.coverage()
    wide = max(0.0, 2 * agreement - 1)  # 0: nearest labels agree no more often than they disagree
    narrow_factor = 1 + (NARROW_FIELD_FACTOR - 1) * coverage * (1 - wide) ** 3
    return WalkerParams(
        beta=interpolate(WALKER_BETA, coverage),
        prior_weight=narrow_factor * prior_weight_factor(labelled) * PRIOR_WEIGHT,
        label_edge_scale=interpolate(LABEL_EDGE_SCALE, coverage * wide),
    )


def prior_weight_factor(labelled: LabelledSpectra) -> float:
    """Factor on the prior's weight: above 1 where the classifier errs little on unseen fields."""
    error = error_on_unseen_fields(labelled)
    if error is None:
        return 1.0
    return min(MAX_PRIOR_WEIGHT_FACTOR, max(1.0, LOW_ERROR / max(error, 1e-12)))


def interpolate(ends: tuple[float, float], coverage: float) -> float:
    """The value at a label coverage from 0 to 1, given those at both ends."""
    return ends[0] + (ends[1] - ends[0]) * coverage
