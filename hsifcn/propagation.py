"""Labels carried over the scene: what its unlabelled pixels say about its classes.

Fields are seen in a scene without any label: their pixels resemble each other and differ from what
lies behind the edge. Random walks over the pixels (Grady 2006, doi:10.1109/TPAMI.2006.233), which
seldom cross an edge, carry the training labels through their fields; where no labelled pixel is
near, a walk ends at what a spectral classifier that cannot see position says of the pixel it stands
on (Kang et al. 2015, doi:10.1109/TGRS.2014.2319373). Networks are trained on the outcome as well
as on the labels, so that the map itself comes from the network alone and needs no labels.

The classifier is a linear discriminant (Fisher 1936, doi:10.1111/j.1469-1809.1936.tb02137.x) on
spectra averaged over 3x3 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

COMPONENTS = 5  # principal components that edges are seen in: more are noise
EDGE = 5.0  # how steeply the weight of a step falls with the spectral distance; 1 = mean distance
LEAK = 1e-3  # weight of the steepest edge, so that no pixel is cut off
PRIOR = 1e-3  # chance, against that of a step, that a walk ends at what the classifier says
SHRINKAGE = (
    0.01  # of the covariance towards a multiple of the identity, when few pixels are labelled
)
TOLERANCE = 1e-4  # of the probabilities
MOST_ITERATIONS = 2000
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (rows, cols) away; the other four are their mirror


@dataclass(frozen=True)
class PropagatedLabels:
    """What a network is to say of the pixels of a scene that have no label.

    Attributes
    ----------
    probabilities : Tensor, (classes, pixels), float32
        Of every pixel, in flat order.
    weights : Tensor, (pixels,), float32
        How much each counts; 0 for labelled pixels, 1 in all.
    """

    probabilities: Tensor
    weights: Tensor


def propagated_labels(
    cube: Tensor, valid: Tensor | None, pixels: Tensor, targets: Tensor, classes: int
) -> PropagatedLabels:
    """Carry labels over a scene; sure pixels count more, and those of rare classes.

    Parameters are those of ``propagate``. A pixel counts by the square of its greatest probability,
    and by one over the root of what its class has in all, as classes of labels do.
    """
    probabilities = propagate(cube, valid, pixels, targets, classes).flatten(1)
    sureness, best = probabilities.max(0)
    weights = sureness.square()
    weights[pixels] = 0
    mass = weights.new_zeros(classes).index_add_(0, best, weights)
    weights *= mass.clamp(min=1).rsqrt()[best]
    return PropagatedLabels(probabilities, weights / weights.sum().clamp(min=1e-12))


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
    weights = step_weights(cube, valid)
    prior = spectral_probabilities(cube, pixels, targets, classes)
    labelled = torch.zeros_like(prior[0], dtype=torch.bool)
    labelled.view(-1)[pixels] = True
    known = torch.zeros_like(prior)
    known.view(classes, -1)[targets, pixels] = 1
    free = (~labelled).float()
    if valid is not None:
        free = free * valid[0, 0]
    degree = around(torch.ones_like(free)[None], weights)[0] + PRIOR
    right = free * (around(known, weights) + PRIOR * prior)
    found = conjugate_gradients(right, free, degree, weights, prior * free)
    return ((found + known) * (free + labelled)).clamp(0, 1)


def step_weights(cube: Tensor, valid: Tensor | None) -> list[Tensor]:
    """Weights of the steps to four neighbours, each (rows, cols) less what the step leaves out."""
    bands, rows, cols = cube.shape[1:]
    spectra = cube[0].reshape(bands, -1)
    # NumPy's linear algebra is in memory already, PyTorch's would take 15 MB more.
    _, vectors = np.linalg.eigh((spectra @ spectra.t()).cpu().numpy())
    components = torch.from_numpy(vectors[:, -COMPONENTS:].T.copy()).to(spectra.device)
    image = (components @ spectra).reshape(-1, rows, cols)
    distances = [(image[:, a, b] - image[:, c, d]).square().sum(0) for a, b, c, d in steps(image)]
    mean = torch.cat([distance.flatten() for distance in distances]).mean().clamp(min=1e-12)
    weights = []
    for distance, (row, col), (a, b, c, d) in zip(distances, NEIGHBOURS, steps(image), strict=True):
        weight = torch.exp(-EDGE * distance / mean).add_(LEAK) / (row**2 + col**2) ** 0.5
        if valid is not None:
            weight = weight * (valid[0, 0, a, b] & valid[0, 0, c, d])
        weights.append(weight)
    return weights


def spectral_probabilities(cube: Tensor, pixels: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Probabilities (classes, rows, cols) by a linear discriminant on 3x3 means of the spectra."""
    means = F.avg_pool2d(cube, 3, 1, 1, count_include_pad=False)[0].flatten(1).t()
    directions, offsets = discriminant(
        means[pixels].double().cpu().numpy(), targets.cpu().numpy(), classes
    )
    scores = means @ torch.from_numpy(directions).to(means) + torch.from_numpy(offsets).to(means)
    return scores.softmax(1).t().reshape(classes, *cube.shape[2:])


def discriminant(
    seen: npt.NDArray[np.float64], targets: npt.NDArray[np.int64], classes: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Linear discriminants: directions (bands, classes) and offsets (classes,) of the scores."""
    counts = np.bincount(targets, minlength=classes)
    centres = np.zeros((classes, seen.shape[1]))
    np.add.at(centres, targets, seen)
    centres /= np.maximum(counts, 1)[:, None]
    spread = seen - centres[targets]
    covariance = (1 - SHRINKAGE) * spread.T @ spread / len(seen)
    level = max(np.trace(covariance) / len(covariance), 1e-6)
    directions = np.linalg.solve(
        covariance + SHRINKAGE * level * np.eye(len(covariance)), centres.T
    )
    with np.errstate(divide="ignore"):  # a class without a pixel has no chance
        offsets = np.log(counts / counts.sum()) - 0.5 * (centres.T * directions).sum(axis=0)
    return directions, offsets


def steps(image: Tensor) -> Iterator[tuple[slice, slice, slice, slice]]:
    """Rows and columns of the pixels that each kind of step leads from, then to."""
    rows, cols = image.shape[-2:]
    for row, col in NEIGHBOURS:
        left, right = (
            slice(max(0, -col), cols - max(0, col)),
            slice(max(0, col), cols + min(0, col)),
        )
        yield slice(0, rows - row), left, slice(row, rows), right


def around(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Weighted sum of the eight neighbours, (n, rows, cols)."""
    total = torch.zeros_like(x)
    for weight, (a, b, c, d) in zip(weights, steps(x), strict=True):
        total[:, a, b] += weight * x[:, c, d]
        total[:, c, d] += weight * x[:, a, b]
    return total


def conjugate_gradients(
    right: Tensor, free: Tensor, degree: Tensor, weights: list[Tensor], start: Tensor
) -> Tensor:
    """Solve ``degree x - around(x) = right`` at the free pixels, for all classes together.

    Hestenes, Stiefel (1952), doi:10.6028/jres.049.044, preconditioned by the diagonal.
    """

    def apply(x: Tensor) -> Tensor:
        return degree * x - free * around(x, weights)

    def dots(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2), keepdim=True)

    x = start
    residual = right - apply(x)
    scaled = residual / degree
    direction = scaled
    product = dots(residual, scaled)
    for _ in range(MOST_ITERATIONS):
        if scaled.abs().max() < TOLERANCE * PRIOR:
            break
        applied = apply(direction)
        length = product / dots(direction, applied).clamp(min=1e-30)
        x = x + length * direction
        residual = residual - length * applied
        scaled = residual / degree
        before, product = product, dots(residual, scaled)
        direction = scaled + product / before.clamp(min=1e-30) * direction
    return x
