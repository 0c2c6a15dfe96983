"""The prior of the random walker: a classifier of single pixels that cannot see position.

Two linear discriminants (Fisher 1936, doi:10.1111/j.1469-1809.1936.tb02137.x) are averaged. The
first gets the smoothed components of the spectrum. The second gets, in addition, their local
variance and kernel features (a kernel discriminant, Mika et al. 1999, doi:10.1109/NNSP.1999.788121,
by the Nyström method, Williams, Seeger 2000), so it separates classes that no plane separates. But
where few fields of a class are labelled, it learns these fields instead of the class. So its weight
is the label coverage: it grows with the number of labelled fields a class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.data.split_recipes import fields
from hsifcn.propagation.label_coverage import coverage_from_counts, labels_at

SHRINKAGE = 0.01  # of the covariance towards a multiple of the identity: few pixels are labelled
KERNEL_COMPONENTS = 15  # the first, which the kernel compares
KERNEL_SCALE = 10.0  # so large that shrinkage leaves most of the kernel features
VARIANCE_SCALE = 6.0  # the same for the local variance
MAX_LABELLED = 2**14  # labelled pixels that the classifier learns from
MAX_KERNEL_CENTRES = 400  # labelled pixels that the kernel compares others with
MAX_KERNEL_TRAINING = 4096  # labelled pixels that the kernel discriminant learns from
MIN_EIGENVALUE = 1e-4  # of the kernel matrix, against the greatest
MIN_LOG_PROBABILITY = -46.0  # so that no single discriminant can rule a class out
FOLDS = 5  # of labelled fields, for the error on unseen fields
BATCH = 1024  # pixels classified at once: their features take 2 MB

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PixelFeatures:
    """What the classifier gets of every pixel of a scene.

    Attributes
    ----------
    smooth : Tensor, (components, rows, cols), float32
        Smoothed components of the spectrum, least noise first.
    variance : Tensor, (k, rows, cols), float32
        Logarithm of the local variance of the first k components.
    """

    smooth: Tensor
    variance: Tensor

    def crop(self, rows: slice, cols: slice) -> PixelFeatures:
        """A part of the scene."""
        return PixelFeatures(self.smooth[:, rows, cols], self.variance[:, rows, cols])


@dataclass(frozen=True)
class LabelledSpectra:
    """Features and classes of labelled pixels.

    Attributes
    ----------
    smooth : ndarray, (n, components), float64
    variance : ndarray, (n, k), float64
    targets : ndarray, (n,), int64
        Classes from 0.
    fields : ndarray, (n,), int64
        Number of the field that each pixel lies in.
    """

    smooth: Floats
    variance: Floats
    targets: npt.NDArray[np.int64]
    fields: npt.NDArray[np.int64]

    def subset(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> LabelledSpectra:
        """Some of the pixels, by a mask or by indices."""
        return LabelledSpectra(
            self.smooth[which], self.variance[which], self.targets[which], self.fields[which]
        )

    def sample(self, count: int) -> LabelledSpectra:
        """So many of the pixels, at least one of every class; all where there are fewer."""
        return self.subset(stratified_sample(self.targets, count))

    def weights(self) -> Floats:
        """Weights (n,): 1 over the square root of the size of a pixel's field.

        Pixels of one field are alike, so each of them tells less.
        """
        return 1 / np.sqrt(np.bincount(self.fields)[self.fields])

    def coverage(self) -> float:
        """Label coverage of these pixels, see ``label_coverage.label_coverage``."""
        return coverage_from_counts(len(np.unique(self.fields)), len(np.unique(self.targets)))

    def fit_classifier(self, classes: int) -> SpectralClassifier:
        """Fit both discriminants."""
        few = self.sample(MAX_KERNEL_TRAINING)
        kernel = NystroemKernel.fit(self.smooth, self.sample(MAX_KERNEL_CENTRES).smooth)
        parts = batches(torch.from_numpy(few.smooth), torch.from_numpy(few.variance))
        features = torch.cat([kernel_features(*part, kernel) for part in parts]).numpy()
        return SpectralClassifier(
            LinearDiscriminant.fit(self.smooth, self.targets, self.weights(), classes),
            LinearDiscriminant.fit(features, few.targets, few.weights(), classes),
            kernel,
            self.coverage(),
        )


@dataclass(frozen=True)
class SpectralClassifier:
    """Two discriminants; ``kernel_weight``, from 0 to 1, is that of the second."""

    linear_discriminant: LinearDiscriminant
    kernel_discriminant: LinearDiscriminant
    kernel: NystroemKernel
    kernel_weight: float

    def probabilities(self, features: PixelFeatures) -> Tensor:
        """Probability of each class at each pixel, (classes, rows, cols), float32."""
        smooth, variance = features.smooth.flatten(1).t(), features.variance.flatten(1).t()
        found = torch.cat([self.scores(*part).softmax(1) for part in batches(smooth, variance)])
        return found.t().reshape(-1, *features.smooth.shape[1:])

    def scores(self, smooth: Tensor, variance: Tensor) -> Tensor:
        """Scores (n, classes) of n pixels: logarithms of probabilities, up to a constant each."""
        linear = self.linear_discriminant.log_probabilities(smooth)
        if self.kernel_weight == 0:
            return linear
        features = kernel_features(smooth, variance, self.kernel)
        nonlinear = self.kernel_discriminant.log_probabilities(features)
        return (1 - self.kernel_weight) * linear + self.kernel_weight * nonlinear


def stratified_sample(targets: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Indices of ``count`` of n pixels, drawn so that every class has at least one.

    All indices, in order, where there are no more than ``count``.
    """
    if len(targets) <= count:
        return np.arange(len(targets))
    order = np.random.default_rng(0).permutation(len(targets))
    _, firsts = np.unique(targets[order], return_index=True)
    return np.concatenate([order[firsts], np.delete(order, firsts)])[:count]


def labelled_spectra(features: PixelFeatures, pixels: Tensor, targets: Tensor) -> LabelledSpectra:
    """Features of labelled pixels: flat indices (n,) and classes (n,) from 0."""
    labels = labels_at(pixels, targets, features.smooth.shape[1:])
    places = pixels.cpu().numpy()
    smooth, variance = (
        image.flatten(1).t()[pixels].double().cpu().numpy()
        for image in (features.smooth, features.variance)
    )
    return LabelledSpectra(
        smooth, variance, targets.cpu().numpy(), fields(labels).flat[places].astype(np.int64)
    )


def error_on_unseen_fields(labelled: LabelledSpectra) -> float | None:
    """Share of the labelled pixels that a classifier trained on other fields gets wrong.

    Cross-validation over fields. Classes with one field only are left out; None where no class has
    more.
    """
    classes = int(labelled.targets.max(initial=0)) + 1
    tested = wrong = 0
    for fold in range(FOLDS):
        held_out = labelled.fields % FOLDS == fold
        training = labelled.subset(~held_out)
        held_out &= np.isin(labelled.targets, training.targets)
        if held_out.any():
            classifier, test = training.fit_classifier(classes), labelled.subset(held_out)
            parts = batches(torch.from_numpy(test.smooth), torch.from_numpy(test.variance))
            predicted = torch.cat([classifier.scores(*part).argmax(1) for part in parts])
            tested += len(predicted)
            wrong += int((predicted.numpy() != test.targets).sum())
    return wrong / tested if tested else None


@dataclass(frozen=True)
class NystroemKernel:
    """A Gaussian kernel, approximated by its values at some labelled pixels (Nyström's method).

    Attributes
    ----------
    centre, spread : ndarray, (k,)
        Mean and standard deviation of the components of all labelled pixels. In these units two
        pixels at the average distance have the kernel value 1 / e.
    known : ndarray, (m, k)
        The pixels that others are compared with, in these units.
    axes : ndarray, (m, r)
        Turns kernel values into features whose products are the kernel values of ``known``.
    """

    centre: Floats
    spread: Floats
    known: Floats
    axes: Floats

    @classmethod
    def fit(cls, everything: Floats, some: Floats) -> NystroemKernel:
        """Kernel with the units of all pixels (n, components), at some of them (m, components)."""
        everything = everything[:, :KERNEL_COMPONENTS]
        centre, spread = everything.mean(0), np.maximum(everything.std(0), 1e-6)
        known = (some[:, :KERNEL_COMPONENTS] - centre) / spread
        squares = (known**2).sum(1)
        values, vectors = np.linalg.eigh(
            np.exp((known @ known.T - squares[:, None] / 2 - squares / 2) / known.shape[1])
        )
        kept = values > MIN_EIGENVALUE * values.max()
        return cls(centre, spread, known, vectors[:, kept] / np.sqrt(values[kept]))

    def transform(self, smooth: Tensor) -> Tensor:
        """Features (n, r) of the pixels' components (n, components)."""
        centre, spread, known, axes = (
            torch.from_numpy(array).to(smooth)
            for array in (self.centre, self.spread, self.known, self.axes)
        )
        pixels = (smooth[:, : len(centre)] - centre) / spread
        squares = pixels.square().sum(1, keepdim=True) / 2
        products = pixels @ known.t() - squares - known.square().sum(1) / 2
        return (products / len(centre)).exp() @ axes


def batches(smooth: Tensor, variance: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """A few pixels at a time, of (n, components) and (n, k), because their features are many."""
    return zip(torch.split(smooth, BATCH), torch.split(variance, BATCH), strict=True)


def kernel_features(smooth: Tensor, variance: Tensor, kernel: NystroemKernel) -> Tensor:
    """Features of n pixels for the kernel discriminant: (n, components + k + r)."""
    return torch.cat(
        [smooth, VARIANCE_SCALE * variance, KERNEL_SCALE * kernel.transform(smooth)], dim=1
    )


@dataclass(frozen=True)
class LinearDiscriminant:
    """Linear discriminant functions of some features.

    Attributes
    ----------
    directions : ndarray, (features, classes)
    offsets : ndarray, (classes,)
        Minus infinity for a class without a training pixel.
    """

    directions: Floats
    offsets: Floats

    @classmethod
    def fit(
        cls, features: Floats, targets: npt.NDArray[np.int64], weights: Floats, classes: int
    ) -> LinearDiscriminant:
        """Fit to features (n, features) of pixels of classes (n,).

        Weights (n,) tell how much each pixel counts in the mean of its class and in the covariance.
        """
        members = np.zeros((len(targets), classes))
        members[np.arange(len(targets)), targets] = weights / weights.sum()
        shares = members.sum(axis=0)
        centres = members.T @ features / np.where(shares > 0, shares, 1)[:, None]
        spread = centres[targets]  # all in one array: it is as large as the features
        np.subtract(features, spread, out=spread)
        spread *= np.sqrt(weights / weights.sum())[:, None]
        covariance = (1 - SHRINKAGE) * (spread.T @ spread)
        level = max(np.trace(covariance) / len(covariance), 1e-6)
        directions = np.linalg.solve(
            covariance + SHRINKAGE * level * np.eye(len(covariance)), centres.T
        )
        counts = np.bincount(targets, minlength=classes)
        with np.errstate(divide="ignore"):  # the probability of a class without a pixel is 0
            offsets = np.log(counts / counts.sum()) - 0.5 * (centres.T * directions).sum(axis=0)
        return cls(directions, offsets)

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Of n pixels, (n, classes), in the features' type; minus infinity for unknown classes."""
        scores = features @ torch.from_numpy(self.directions).to(features)
        scores += torch.from_numpy(self.offsets).to(features)
        found = scores.log_softmax(1).clamp(min=MIN_LOG_PROBABILITY)
        return found.masked_fill(scores.isneginf(), -torch.inf)
