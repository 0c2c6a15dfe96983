"""What a trained model keeps of its labels, to tell pixels that are unlike all of them."""

from __future__ import annotations

from dataclasses import dataclass

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

# Chosen on Indian Pines and four other scenes; see docs/ideas.md.
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
    told, folds = pixels.can_be_left_out(), pixels.folds()
    if not told.any():
        return None
    distances = np.zeros(len(spectra))
    for fold in np.unique(folds[told]):
        held = folds == fold
        # Fitted to the others alone: its own pixels scatter as little as they can in any space.
        others = PrototypeSpace.fit(spectra[~held], pixels.subset(~held))
        distances[held] = others.distances(spectra[held])
    limit = weighted_quantile(distances[told], pixels.weights()[told], INSIDE_SHARE)
    return PrototypeSpace.fit(spectra, pixels).in_units_of(limit) if limit > 0 else None


@dataclass(frozen=True)
class PrototypeSpace:
    """Principal components, whitened by the scatter within classes, and labelled pixels there.

    Attributes
    ----------
    centre : ndarray, (bands,)
    projection : ndarray, (bands, components)
    prototypes : ndarray, (n, components)
    """

    centre: Floats
    projection: Floats
    prototypes: Floats

    @classmethod
    def fit(cls, spectra: npt.NDArray[np.float32], pixels: LabelledPixels) -> PrototypeSpace:
        """Fit to labelled spectra (n, bands); prototypes are as many of each class, at random."""
        centre = spectra.mean(axis=0, dtype=np.float64)
        centred = spectra - centre
        _, axes = np.linalg.eigh(centred.T @ centred)
        components = axes[:, ::-1][:, :COMPONENTS]
        projection = components @ whitening(centred @ components, pixels)
        chosen = choose_prototypes(pixels.targets)
        return cls(centre, projection, centred[chosen] @ projection)

    def distances(self, spectra: npt.NDArray[np.float32]) -> Floats:
        """Distance of spectra (n, bands) from the nearest prototype, (n,)."""
        points = as_tensor((spectra - self.centre) @ self.projection)
        return nearest(points, as_tensor(self.prototypes)).numpy().astype(np.float64)

    def in_units_of(self, limit: float) -> Applicability:
        """The same for a model, with a distance as unit."""
        return Applicability(
            as_tensor(self.projection / limit),
            as_tensor(-self.centre @ self.projection / limit),
            as_tensor(self.prototypes / limit),
        )


def with_halves(targets: Integers, groups: Integers) -> Integers:
    """Groups (n,), those that are the only one of their class cut in two, row by row."""
    found = groups.copy()
    for label in np.unique(targets):
        own = np.flatnonzero(targets == label)
        if len(own) > 1 and len(np.unique(groups[own])) == 1:
            found[own[len(own) // 2 :]] = found.max() + 1
    return found


def whitening(features: Floats, pixels: LabelledPixels) -> Floats:
    """Matrix (features, features) behind which the scatter within classes is about 1 all round."""
    weights = pixels.weights()
    shares = weights / weights.sum()
    centred = features.copy()
    for label in np.unique(pixels.targets):
        own = pixels.targets == label
        centred[own] -= np.average(features[own], axis=0, weights=shares[own])
    centred *= np.sqrt(shares)[:, None]
    covariance = centred.T @ centred
    level = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(covariance))
    variances, axes = np.linalg.eigh(shrunk)
    matrix: Floats = axes / np.sqrt(variances)
    return matrix


def choose_prototypes(targets: Integers) -> Integers:
    """Indices of labelled pixels: as many of each class, drawn at random."""
    labels = np.unique(targets)
    most = max(1, min(MOST_OF_CLASS, MAX_PROTOTYPES // len(labels)))
    order = np.random.default_rng(0).permutation(len(targets))
    chosen = [order[targets[order] == label][:most] for label in labels]
    return np.sort(np.concatenate(chosen))


def weighted_quantile(values: Floats, weights: Floats, share: float) -> float:
    """The value up to which values hold a share of all weight."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(reached, share * reached[-1])]])


def as_tensor(values: Floats) -> torch.Tensor:
    """Numbers in float32, laid out row by row."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
