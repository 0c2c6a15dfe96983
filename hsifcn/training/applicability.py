"""What a trained model keeps of its labels, to tell pixels that are unlike all of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from hsifcn.inference.applicability import (
    COMPONENTS,
    INSIDE_SHARE,
    MAX_PROTOTYPES,
    Applicability,
    nearest,
)
from hsifcn.propagation.selection import LabelledPixels

# Chosen on parts of Indian Pines and of four other scenes; see docs/ideas.md.
SHRINKAGE = 0.3  # share of the scatter within classes that is replaced by the identity's multiple
MOST_OF_CLASS = 64  # prototypes

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def fit_applicability(
    spectra: npt.NDArray[np.float32], pixels: LabelledPixels
) -> Applicability | None:
    """Choose prototypes, and the unit of distance: what 95 % of left-out labels keep.

    Parameters
    ----------
    spectra : ndarray, (n, bands)
    pixels : LabelledPixels
        Their classes and fields, both of ``labelled_spectra``. Fields are left out whole; the only
        one of a class is cut in two.

    Returns
    -------
    Applicability or None
        None where every class has one labelled pixel, so that none can be left out.
    """
    pixels = LabelledPixels({}, pixels.targets, with_halves(pixels.targets, pixels.groups))
    centre = spectra.mean(axis=0, dtype=np.float64)
    centred = spectra - centre
    components = principal_directions(centred)
    projection = components @ whitening(centred @ components, pixels)
    points = centred @ projection
    told, folds = pixels.can_be_left_out(), pixels.folds()
    if not told.any():
        return None
    distances = np.zeros(len(points))
    for fold in np.unique(folds[told]):
        held = folds == fold
        others = np.flatnonzero(~held)
        learnt = points[others[choose_prototypes(pixels.targets[others])]]
        distances[held] = distances_from(points[held], learnt)
    limit = weighted_quantile(distances[told], pixels.weights()[told], INSIDE_SHARE)
    if limit <= 0:
        return None
    prototypes = points[choose_prototypes(pixels.targets)]
    return Applicability(
        as_tensor(projection / limit),
        as_tensor(-centre @ projection / limit),
        as_tensor(prototypes / limit),
    )


def with_halves(targets: Integers, groups: Integers) -> Integers:
    """Groups (n,), those that are the only one of their class cut in two, row by row."""
    found = groups.copy()
    for label in np.unique(targets):
        own = np.flatnonzero(targets == label)
        if len(own) > 1 and len(np.unique(groups[own])) == 1:
            found[own[len(own) // 2 :]] = found.max() + 1
    return found


def principal_directions(centred: Floats) -> Floats:
    """Directions (bands, components) in which centred spectra (n, bands) vary most."""
    _, axes = np.linalg.eigh(centred.T @ centred)
    return axes[:, ::-1][:, :COMPONENTS]


def whitening(features: Floats, pixels: LabelledPixels) -> Floats:
    """Matrix (features, features) behind which the scatter within classes is about 1 all round."""
    members = np.eye(pixels.targets.max() + 1)[pixels.targets] * pixels.weights()[:, None]
    members = members[:, members.any(axis=0)]
    shares = members / members.sum()
    means = (shares.T @ features) / shares.sum(axis=0)[:, None]
    scatter = (features - means[shares.argmax(axis=1)]) * np.sqrt(shares.sum(axis=1))[:, None]
    covariance = scatter.T @ scatter
    level = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(covariance))
    variances, axes = np.linalg.eigh(shrunk)
    matrix: Floats = axes / np.sqrt(variances)
    return matrix


def choose_prototypes(targets: Integers) -> Integers:
    """Indices of the labelled pixels that are kept: as many of each class, drawn at random."""
    labels = np.unique(targets)
    most = max(1, min(MOST_OF_CLASS, MAX_PROTOTYPES // len(labels)))
    order = np.random.default_rng(0).permutation(len(targets))
    chosen = [order[targets[order] == label][:most] for label in labels]
    return np.sort(np.concatenate(chosen))


def distances_from(points: Floats, prototypes: Floats) -> Floats:
    """Distance of points (n, components) from the nearest prototype, (n,)."""
    learnt = as_tensor(prototypes)
    parts = torch.split(as_tensor(points), 4096)
    return torch.cat([nearest(part, learnt) for part in parts]).numpy().astype(np.float64)


def weighted_quantile(values: Floats, weights: Floats, share: float) -> float:
    """The value up to which values hold a share of all weight."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(reached, share * reached[-1])]])


def as_tensor(values: Floats) -> torch.Tensor:
    """Numbers in float32, laid out row by row."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
