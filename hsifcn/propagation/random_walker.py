"""Labels carried over the scene: what its unlabelled pixels say about its classes.

Fields are seen in a scene without any label: their pixels resemble each other and differ from what
lies behind the edge. Random walks over the pixels (Grady 2006, doi:10.1109/TPAMI.2006.233), which
seldom cross an edge, carry the training labels through their fields; where no labelled pixel is
near, a walk ends at what a spectral classifier that cannot see position says of the pixel it stands
on (Kang et al. 2015, doi:10.1109/TGRS.2014.2319373). Networks are trained on the class that most
walks end at as well as on the labels, so that the map itself comes from the network alone and needs
no labels.

Edges are seen in the components of least noise (minimum noise fractions, Green et al. 1988,
doi:10.1109/36.3001), noise being what neighbours differ by. The classifier
(``spectral_classifier.py``) is given more of these components, smoothed but across the same edges,
and how far the pixels of a field scatter round them. What it says is then an edge as well: where it
changes its mind between two neighbours, few walks pass.

Where many fields of each class are labelled, a label lies near every pixel, so walks may cross
more, most of all next to labelled pixels: that a pixel's neighbour is of a class tells more than
its own spectrum, which at the margin of a field is mixed. Where few fields are, walks had better
stay in theirs. How many are is the coverage of the labels (``label_layout.coverage``). And where
fields are narrower than labels lie apart, a neighbour is often of another field: there edges stay
as they are, and walks end at the classifier sooner. Which it is shows in the labels, in whether the
nearest two agree (``label_layout.agreement``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from hsifcn.propagation.grid_graph import (
    NEIGHBOURS,
    around,
    conjugate_gradients,
    degrees,
    distances,
    steps,
)
from hsifcn.propagation.label_coverage import agreement, coverage, labels_at
from hsifcn.propagation.mnf import (
    clean_components,
)
from hsifcn.propagation.spectral_prior import (
    MOST_KNOWN,
    KnownSpectra,
    Seen,
    errors_at_unseen_fields,
    known_spectra,
    some_of_each,
)

EDGE_COMPONENTS = 8  # that edges are seen in: more are noise
# Values where the labels cover one field of each class, and where they cover all.
WALK_EDGE = 4.0, 3.0  # how steeply the weight of a step falls with the spectral distance; 1 = mean
SMOOTHING_EDGE = 6.0, 3.0  # the same for smoothing
LABEL_EDGE = 1.0, 0.2  # height of walks' edges at a labelled pixel, against that far from any
PRIOR = 3e-4  # chance, against that of a step, that a walk ends at what the classifier says
NARROW_HASTE = 2.0  # times as likely to end there where fields are narrower than labels lie apart
CLASS_EDGE = 4.0  # steepness of the edges of what the classifier says; 1 = sure of two classes
LEAK = 3e-4  # weight of the steepest edge, so that no pixel is cut off
MOST_HASTE = 4.0  # times as likely walks are to end there if the classifier never errs
SMALL_ERROR = 0.02  # share of errors at fields unseen, from which on they are not more likely
SMOOTHING = 20.0  # pull of a pixel's neighbours, all alike, on its components; 1 = its own
SMOOTHING_ITERATIONS = 30
SCATTER_COMPONENTS = 3  # whose scatter the classifier is given
SCATTER_SMOOTHING = 500.0  # pull of a pixel's neighbours on it: variances ask for many pixels
SCATTER_ITERATIONS = 60
LEAST_SCATTER = 0.01  # noise being 1
SMOOTHED_AT_ONCE = 20  # components
# Values in an array. Larger ones are mapped anew each time (``measure.keep_memory_together``),
# which takes longer than what is computed with them.
HEAP_VALUES = 700_000
TOLERANCE = 1e-2  # of the probabilities, so that next to no pixel's class is another
MOST_ITERATIONS = 2000


@dataclass(frozen=True)
class PropagatedLabels:
    """What a network is to say of the pixels of a scene that have no label.

    Attributes
    ----------
    classes : Tensor, (pixels,), int64
        Class (from 0) of every pixel, in flat order.
    weights : Tensor, (pixels,), float32
        How much each counts; 0 for labelled pixels and where there is no measurement, 1 in all.
    sureness : float
        Greatest probability that walks give, the mean over pixels that count; 0 where none does.
    """

    classes: Tensor
    weights: Tensor
    sureness: float = 0.0


@dataclass(frozen=True)
class Pace:
    """How walks go.

    Attributes
    ----------
    edge : float
        How steeply the weight of a step falls with the spectral distance; 1 = mean distance.
    chance : float
        Against that of a step, that a walk ends at what the classifier says.
    label_edge : float
        Height of the edges at a labelled pixel, against that far from any.
    """

    edge: float
    chance: float
    label_edge: float


def propagated_labels(
    cube: Tensor, valid: Tensor | None, pixels: Tensor, targets: Tensor, classes: int
) -> PropagatedLabels:
    """Carry labels over a scene; sure pixels count more, and those of rare classes.

    Parameters are those of ``propagate``. A pixel counts by its greatest probability, and by one
    over the root of what its class has in all, as classes of labels do. The network is told
    classes: from probabilities it learnt to be unsure of whole fields, and erred there.
    """
    weights, best = propagate(cube, valid, pixels, targets, classes).flatten(1).max(0)
    weights[pixels] = 0
    sureness = float(weights.sum() / weights.count_nonzero().clamp(min=1))
    weights = counting_by_class(best, weights, classes)
    return PropagatedLabels(best, weights / weights.sum().clamp(min=1e-12), sureness)


def counting_by_class(best: Tensor, weights: Tensor, classes: int) -> Tensor:
    """Weights (pixels,) divided by the root of what their classes (pixels,) have in all."""
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
    covered, agreeing = coverage(labels), agreement(labels)
    edges, seen = seen_in(clean_components(cube, valid), valid, covered)
    known = known_spectra(seen, pixels, targets)
    known = known.taken(np.sort(some_of_each(known.targets, MOST_KNOWN)))
    prior = known.learn(classes).probabilities(seen)
    return walks(edges, prior, valid, pixels, targets, pace_of(known, agreeing))


def seen_in(components: Tensor, valid: Tensor | None, covered: float) -> tuple[list[Tensor], Seen]:
    """Edges between neighbours, and what a classifier sees inside these.

    ``covered`` is the coverage of the labels; how high edges are, see ``spectral_edges``.
    """
    edges = spectral_edges(components[:EDGE_COMPONENTS])
    weights = step_weights(steeper(edges, between(SMOOTHING_EDGE, covered)), valid)
    smooth = smoothed(components, weights, SMOOTHING, SMOOTHING_ITERATIONS)
    squares = (components[:SCATTER_COMPONENTS] - smooth[:SCATTER_COMPONENTS]).square()
    scatter = smoothed(squares, weights, SCATTER_SMOOTHING, SCATTER_ITERATIONS)
    return edges, Seen(smooth, (scatter.clamp(min=0) + LEAST_SCATTER).log())


def walks(
    edges: list[Tensor],
    prior: Tensor,
    valid: Tensor | None,
    pixels: Tensor,
    targets: Tensor,
    pace: Pace,
) -> Tensor:
    """What walks end at, (classes, rows, cols): labels, or what a classifier says.

    Parameters
    ----------
    edges : list of Tensor
        Of ``spectral_edges``.
    prior : Tensor, (classes, rows, cols)
        What the classifier says.
    valid, pixels, targets
        Of ``propagate``.
    pace : Pace
    """
    spectral = steeper(edges, pace.edge)
    both = [a + b for a, b in zip(spectral, class_edges(prior), strict=True)]
    labelled = torch.zeros_like(prior[0], dtype=torch.bool)
    labelled.view(-1)[pixels] = True
    weights = step_weights(lower_near(labelled, both, pace.label_edge), valid)
    known = torch.zeros_like(prior)
    known.view(len(prior), -1)[targets, pixels] = 1
    free = (~labelled).float()
    if valid is not None:
        free = free * valid[0, 0]
    degree = degrees(weights) + pace.chance

    def remaining(x: Tensor) -> Tensor:
        return degree * x - free * around(x, weights)

    at_once = max(1, HEAP_VALUES // free.numel())  # classes
    found = []
    for said, own in zip(torch.split(prior, at_once), torch.split(known, at_once), strict=True):
        right = free * (around(own, weights) + pace.chance * said)
        found.append(
            conjugate_gradients(
                remaining, right, degree, said * free, TOLERANCE * pace.chance, MOST_ITERATIONS
            )
        )
    return ((torch.cat(found) + known) * (free + labelled)).clamp(0, 1)


def spectral_edges(components: Tensor) -> list[Tensor]:
    """Heights of the edges that steps to four neighbours cross, by the components' distances.

    Their mean is 1.
    """
    found = distances(components)
    mean = torch.cat([distance.flatten() for distance in found]).mean().clamp(min=1e-12)
    return [distance / mean for distance in found]


def steeper(edges: list[Tensor], steepness: float) -> list[Tensor]:
    """Edges so many times as high."""
    return [steepness * edge for edge in edges]


def class_edges(probabilities: Tensor) -> list[Tensor]:
    """Heights of the edges where neighbours have other probabilities (classes, rows, cols)."""
    return [CLASS_EDGE / 2 * distance for distance in distances(probabilities)]


def lower_near(labelled: Tensor, edges: list[Tensor], least: float) -> list[Tensor]:
    """Edges lower near labelled pixels (rows, cols): at these ``least`` times as high.

    One pixel away they have regained two thirds of the rest, two away nearly all of it.
    """
    away = torch.from_numpy(distance_transform_edt(~labelled.cpu().numpy())).to(edges[0])
    heights = 1 - (1 - least) * torch.exp(-away.square())
    return [
        edge * torch.minimum(heights[a, b], heights[c, d])
        for edge, (a, b, c, d) in zip(edges, steps(heights), strict=True)
    ]


def step_weights(edges: list[Tensor], valid: Tensor | None) -> list[Tensor]:
    """Weights of the steps that cross edges of these heights; 0 where a pixel is not valid."""
    weights = []
    for edge, (row, col) in zip(edges, NEIGHBOURS, strict=True):
        weights.append(torch.exp(-edge).add_(LEAK) / (row**2 + col**2) ** 0.5)
    if valid is not None:
        for weight, (a, b, c, d) in zip(weights, steps(valid), strict=True):
            weight *= valid[0, 0, a, b] & valid[0, 0, c, d]
    return weights


def smoothed(image: Tensor, weights: list[Tensor], pull: float, iterations: int) -> Tensor:
    """Smooth (n, rows, cols) but across edges: a pixel is drawn to its own value and neighbours.

    ``pull`` is that of the neighbours, all alike, where its own is 1.
    """
    strain = 1 + pull * degrees(weights)

    def strained(x: Tensor) -> Tensor:
        return strain * x - pull * around(x, weights)

    at_once = max(1, min(SMOOTHED_AT_ONCE, HEAP_VALUES // strain.numel()))
    return torch.cat(
        [
            conjugate_gradients(strained, part, strain, part, 0.0, iterations)
            for part in torch.split(image, at_once)
        ]
    )


def pace_of(known: KnownSpectra, agreeing: float) -> Pace:
    """How walks go where this is known, and so large a share of the nearest labels agree."""
    covered = known.coverage()
    wide = max(0.0, 2 * agreeing - 1)  # fields: 0 where nearest labels agree no oftener than not
    narrow = 1 + (NARROW_HASTE - 1) * covered * (1 - wide) ** 3
    return Pace(
        between(WALK_EDGE, covered),
        narrow * haste_of(known) * PRIOR,
        between(LABEL_EDGE, covered * wide),
    )


def haste_of(known: KnownSpectra) -> float:
    """How much sooner walks end where the classifier hardly ever errs: 1 to ``MOST_HASTE``."""
    errors = errors_at_unseen_fields(known)
    if errors is None:
        return 1.0
    return min(MOST_HASTE, max(1.0, SMALL_ERROR / max(errors, 1e-12)))


def between(ends: tuple[float, float], covered: float) -> float:
    """The value at a coverage between 0 and 1, from those at both ends."""
    return ends[0] + (ends[1] - ends[0]) * covered
