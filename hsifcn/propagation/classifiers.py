"""Classifiers of single pixels by their spectra, which cannot see where a pixel lies.

Both give log probabilities, so that several can be averaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

MIN_LOG = -46.0  # of a probability, so that no classifier has a veto
BATCH = 1024  # pixels whose kernel values are held at once
WIDTHS = (0.3, 1.0, 3.0, 10.0)  # of the kernel, against the median squared distance of labels
RIDGES = (1e-2, 1e-1, 1.0)
SHARPNESS = (2.0, 4.0, 8.0, 16.0)  # of the probabilities made from kernel scores

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LinearDiscriminant:
    """Linear discriminants (Fisher 1936, doi:10.1111/j.1469-1809.1936.tb02137.x), regularised.

    Attributes
    ----------
    directions : ndarray, (features, classes)
    offsets : ndarray, (classes,)
        Minus infinity for a class without a pixel.
    sharpness : float
        Factor on the scores; under 1 where discriminants are surer than they are right.
    """

    directions: Floats
    offsets: Floats
    sharpness: float = 1.0

    @classmethod
    def fit(
        cls,
        features: Floats,
        targets: Integers,
        weights: Floats,
        classes: int,
        shrinkage: float,
        sharpness: float = 1.0,
    ) -> LinearDiscriminant:
        """Fit to features (n, features) of pixels of classes (n,) from 0.

        Parameters
        ----------
        weights : ndarray, (n,)
            How much each pixel counts in the mean of its class and in the covariance.
        shrinkage : float
            Share of the covariance that is replaced by a multiple of the identity (Friedman 1989,
            doi:10.1080/01621459.1989.10478752).
        sharpness : float
        """
        shares = weights / weights.sum()
        members = np.zeros((len(targets), classes))
        members[np.arange(len(targets)), targets] = shares
        totals = members.sum(axis=0)
        means = members.T @ features / np.where(totals > 0, totals, 1)[:, None]
        scatter = (features - means[targets]) * np.sqrt(shares)[:, None]
        covariance = scatter.T @ scatter
        level = max(np.trace(covariance) / len(covariance), 1e-6)
        shrunk = (1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance))
        directions = np.linalg.solve(shrunk, means.T)
        counts = np.bincount(targets, minlength=classes)
        with np.errstate(divide="ignore"):
            offsets = np.log(counts / counts.sum()) - 0.5 * (means.T * directions).sum(axis=0)
        return cls(directions, offsets, sharpness)

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Of n pixels, (n, classes), in the features' type."""
        scores = features @ torch.from_numpy(self.directions).to(features)
        scores = scores + torch.from_numpy(self.offsets).to(features)
        return (self.sharpness * scores).log_softmax(1).clamp(min=MIN_LOG)


@dataclass(frozen=True)
class KernelSettings:
    """What a kernel classifier is tuned in; see ``tune_kernel``."""

    width: float
    ridge: float
    sharpness: float


@dataclass(frozen=True)
class KernelRidge:
    """Ridge regression of class membership with a Gaussian kernel.

    Regularised least squares classification (Rifkin, Yeo, Poggio 2003): one linear system, and
    predictions for left-out pixels in closed form.

    Attributes
    ----------
    centre : ndarray, (features,)
    labelled : ndarray, (n, features)
        Features of the labelled pixels, less ``centre``.
    scale : float
        What squared distances are divided by.
    coefficients : ndarray, (n, classes)
    shares : ndarray, (classes,)
        Of the labelled pixels.
    sharpness : float
    """

    centre: Floats
    labelled: Floats
    scale: float
    coefficients: Floats
    shares: Floats
    sharpness: float

    @classmethod
    def fit(
        cls, features: Floats, targets: Integers, classes: int, settings: KernelSettings
    ) -> KernelRidge:
        """Fit to features (n, features) of pixels of classes (n,) from 0."""
        centre = features.mean(axis=0)
        labelled = features - centre
        kernel = squared_distances(labelled)
        scale = settings.width * median_distance(kernel)
        kernel /= -scale  # in place: with many pixels, copies of it are the most that is held
        np.exp(kernel, out=kernel)
        kernel.flat[:: len(targets) + 1] += settings.ridge
        membership = np.eye(classes)[targets]
        shares = membership.mean(axis=0)
        coefficients = np.linalg.solve(kernel, membership - shares)
        return cls(centre, labelled, scale, coefficients, shares, settings.sharpness)

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Of n pixels, (n, classes), in the features' type."""
        return torch.cat([self._log_probabilities(part) for part in torch.split(features, BATCH)])

    def _log_probabilities(self, features: Tensor) -> Tensor:
        centre, labelled, coefficients, shares = (
            torch.from_numpy(array).to(features)
            for array in (self.centre, self.labelled, self.coefficients, self.shares)
        )
        pixels = features - centre
        products = 2 * pixels @ labelled.t() - labelled.square().sum(1)
        distances = (pixels.square().sum(1, keepdim=True) - products).clamp(min=0)
        scores = (-distances / self.scale).exp() @ coefficients + shares
        scores = scores.masked_fill(shares == 0, -torch.inf)
        return (self.sharpness * scores).log_softmax(1).clamp(min=MIN_LOG)


def squared_distances(points: Floats) -> Floats:
    """Squared distances (n, n) of points (n, features)."""
    squares = (points**2).sum(axis=1)
    distances: Floats = squares[:, None] + squares
    distances -= 2 * points @ points.T
    return np.maximum(distances, 0, out=distances)


def median_distance(distances: Floats) -> float:
    """Median of the distances that are not 0; 1 where all are."""
    apart = distances[distances > 1e-12]
    return float(np.median(apart, overwrite_input=True)) if len(apart) else 1.0


def tune_kernel(
    features: Floats, targets: Integers, weights: Floats, groups: Integers, classes: int
) -> tuple[KernelSettings, Floats]:
    """The settings that predict left-out groups of pixels best, and these predictions.

    Parameters
    ----------
    features : ndarray, (n, features)
    targets : ndarray, (n,), int64
        Classes from 0.
    weights : ndarray, (n,)
        How much each pixel counts in the mean log likelihood.
    groups : ndarray, (n,), int64
        Pixels that are left out together.
    classes : int

    Returns
    -------
    settings : KernelSettings
    log_probabilities : ndarray, (n, classes)
        Of each pixel, by a classifier that was not given its group. In closed form: with
        ``G = (K + ridge)^-1`` the residuals of a group are ``G[group, group]^-1 (G Y)[group]``.
    """
    distances = squared_distances(features - features.mean(axis=0))
    median = median_distance(distances)
    membership = np.eye(classes)[targets]
    shares = membership.mean(axis=0)
    known = np.arange(len(targets)), targets
    best = -np.inf
    for width in WIDTHS:
        values, vectors = np.linalg.eigh(np.exp(-distances / (width * median)))
        for ridge in RIDGES:
            inverse = (vectors / (values + ridge)) @ vectors.T
            scores = membership - left_out_residuals(inverse, membership - shares, groups)
            scores[:, shares == 0] = -np.inf
            for sharpness in SHARPNESS:
                found = log_softmax(sharpness * scores)
                likelihood = float((weights * found[known]).sum())
                if likelihood > best:
                    best = likelihood
                    chosen = KernelSettings(width, ridge, sharpness), found
    return chosen


def left_out_residuals(inverse: Floats, values: Floats, groups: Integers) -> Floats:
    """Residuals (n, classes) of ``values`` at groups of pixels that are left out, see above."""
    coefficients = inverse @ values
    residuals: Floats = coefficients / np.diag(inverse)[:, None]
    for group in groups_of_several(groups):
        if len(group) < len(groups):
            block = inverse[np.ix_(group, group)]
            residuals[group] = np.linalg.solve(block, coefficients[group])
    return residuals


def groups_of_several(groups: Integers) -> Iterator[Integers]:
    """Indices of the members of each group that has more than one."""
    order = np.argsort(groups, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        if len(members) > 1:
            yield members


def log_softmax(scores: Floats) -> Floats:
    """Log probabilities (n, classes) of scores (n, classes)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.maximum(found, MIN_LOG)
