"""A classifier of single pixels that cannot see where they lie.

Two linear discriminants (Fisher 1936, doi:10.1111/j.1469-1809.1936.tb02137.x) vote. The plain one
sees components of the spectrum; the rich one sees, too, how far the pixels round about scatter, and
how alike a pixel is to known ones (a kernel discriminant, Mika et al. 1999,
doi:10.1109/NNSP.1999.788121, by the Nyström method, Williams, Seeger 2000). Classes that no plane
parts ask for the rich one. But where few fields of a class are known it takes these fields for the
class, so its vote counts the more, the more fields are known than there are classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.data.split_recipes import fields
from hsifcn.propagation.label_coverage import coverage_of, labels_at

SHRINKAGE = 0.01  # of the covariance towards a multiple of the identity: few pixels are labelled
LIKENESS_COMPONENTS = 15  # that a pixel is likened in, the first
LIKENESS_UNIT = 10.0  # so large that shrinkage leaves most of it
SCATTER_UNIT = 6.0  # the same
MOST_KNOWN = 2**14  # known pixels that the classifier learns from
MOST_LIKENED = 400  # known pixels that others are likened to
MOST_TAUGHT = 4096  # known pixels that the rich discriminant learns from
LEAST_STRENGTH = 1e-4  # of a direction of likeness, against the strongest
LEAST_LOG = -46.0  # of a probability, so that no discriminant has a veto
FOLDS = 5  # of the fields, of which the classifier is taught all but one
AT_ONCE = 1024  # pixels: their features take 2 MB, see ``propagation.HEAP_VALUES``

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What the classifier sees of every pixel.

    Attributes
    ----------
    smooth : Tensor, (components, rows, cols), float32
        Components of the spectrum, smoothed, the cleanest first.
    scatter : Tensor, (k, rows, cols), float32
        Logarithm of how far pixels round about lie from the first of these, squared.
    """

    smooth: Tensor
    scatter: Tensor

    def crop(self, rows: slice, cols: slice) -> Seen:
        """A part of the scene."""
        return Seen(self.smooth[:, rows, cols], self.scatter[:, rows, cols])


@dataclass(frozen=True)
class KnownSpectra:
    """What the classifier learns from.

    Attributes
    ----------
    smooth : ndarray, (n, components), float64
    scatter : ndarray, (n, k), float64
    targets : ndarray, (n,), int64
        Classes from 0.
    fields : ndarray, (n,), int64
        Number of the field that each pixel lies in.
    """

    smooth: Floats
    scatter: Floats
    targets: npt.NDArray[np.int64]
    fields: npt.NDArray[np.int64]

    def taken(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> KnownSpectra:
        """Some of the pixels."""
        return KnownSpectra(
            self.smooth[which], self.scatter[which], self.targets[which], self.fields[which]
        )

    def at_most(self, count: int) -> KnownSpectra:
        """So many of the pixels, of every class one at least; all where there are fewer."""
        return self.taken(some_of_each(self.targets, count))

    def weights(self) -> Floats:
        """How much each pixel counts, (n,): those of a field are alike, so each counts less."""
        return 1 / np.sqrt(np.bincount(self.fields)[self.fields])

    def coverage(self) -> float:
        """Coverage by these pixels, see ``label_layout.coverage``."""
        return coverage_of(len(np.unique(self.fields)), len(np.unique(self.targets)))

    def learn(self, classes: int) -> SpectralClassifier:
        """Learn both discriminants."""
        few = self.at_most(MOST_TAUGHT)
        likeness = Likeness.to(self.smooth, self.at_most(MOST_LIKENED).smooth)
        parts = in_parts(torch.from_numpy(few.smooth), torch.from_numpy(few.scatter))
        rich = torch.cat([rich_features(*part, likeness) for part in parts]).numpy()
        return SpectralClassifier(
            Discriminant.of(self.smooth, self.targets, self.weights(), classes),
            Discriminant.of(rich, few.targets, few.weights(), classes),
            likeness,
            self.coverage(),
        )


@dataclass(frozen=True)
class SpectralClassifier:
    """Two discriminants, and how much the rich one counts: as much as labels cover fields."""

    plain: Discriminant
    rich: Discriminant
    likeness: Likeness
    trust: float

    def probabilities(self, seen: Seen) -> Tensor:
        """Probability of each class at each pixel, (classes, rows, cols), float32."""
        smooth, scatter = seen.smooth.flatten(1).t(), seen.scatter.flatten(1).t()
        found = torch.cat([self.scores(*part).softmax(1) for part in in_parts(smooth, scatter)])
        return found.t().reshape(-1, *seen.smooth.shape[1:])

    def scores(self, smooth: Tensor, scatter: Tensor) -> Tensor:
        """Logarithms of what is said of n pixels, (n, classes), but for a constant of each."""
        plain = self.plain.log_probabilities(smooth)
        if self.trust == 0:
            return plain
        rich = self.rich.log_probabilities(rich_features(smooth, scatter, self.likeness))
        return (1 - self.trust) * plain + self.trust * rich


def some_of_each(targets: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Which of n pixels of some classes to take: so many, drawn, of every class one at least.

    All, as they come, where there are no more.
    """
    if len(targets) <= count:
        return np.arange(len(targets))
    order = np.random.default_rng(0).permutation(len(targets))
    _, firsts = np.unique(targets[order], return_index=True)
    return np.concatenate([order[firsts], np.delete(order, firsts)])[:count]


def known_spectra(seen: Seen, pixels: Tensor, targets: Tensor) -> KnownSpectra:
    """What is seen of labelled pixels: flat indices (n,) and classes (n,) from 0."""
    labels = labels_at(pixels, targets, seen.smooth.shape[1:])
    places = pixels.cpu().numpy()
    smooth, scatter = (
        image.flatten(1).t()[pixels].double().cpu().numpy() for image in (seen.smooth, seen.scatter)
    )
    return KnownSpectra(
        smooth, scatter, targets.cpu().numpy(), fields(labels).flat[places].astype(np.int64)
    )


def errors_at_unseen_fields(known: KnownSpectra) -> float | None:
    """Share of the pixels that are told wrong when their fields are not taught.

    Fields of classes that no other field is known of are left out; None where none is left.
    """
    classes = int(known.targets.max(initial=0)) + 1
    asked = wrong = 0
    for fold in range(FOLDS):
        held = known.fields % FOLDS == fold
        taught = known.taken(~held)
        held &= np.isin(known.targets, taught.targets)
        if held.any():
            classifier, test = taught.learn(classes), known.taken(held)
            parts = in_parts(torch.from_numpy(test.smooth), torch.from_numpy(test.scatter))
            said = torch.cat([classifier.scores(*part).argmax(1) for part in parts])
            asked += len(said)
            wrong += int((said.numpy() != test.targets).sum())
    return wrong / asked if asked else None


@dataclass(frozen=True)
class Likeness:
    """How alike pixels are to some known ones: a Gaussian of the distance of their components.

    Attributes
    ----------
    centre, spread : ndarray, (k,)
        Of the components of all known pixels; pixels as far from each other as these are, on
        average, are alike by 1 / e.
    known : ndarray, (m, k)
        Those that others are likened to, in these units.
    axes : ndarray, (m, r)
        What turns likenesses to the known pixels into features, in which the products of the known
        pixels are their likenesses to each other.
    """

    centre: Floats
    spread: Floats
    known: Floats
    axes: Floats

    @classmethod
    def to(cls, everything: Floats, some: Floats) -> Likeness:
        """Likeness to some known pixels, (m, components), of all, (n, components)."""
        everything = everything[:, :LIKENESS_COMPONENTS]
        centre, spread = everything.mean(0), np.maximum(everything.std(0), 1e-6)
        known = (some[:, :LIKENESS_COMPONENTS] - centre) / spread
        squares = (known**2).sum(1)
        strengths, vectors = np.linalg.eigh(
            np.exp((known @ known.T - squares[:, None] / 2 - squares / 2) / known.shape[1])
        )
        strong = strengths > LEAST_STRENGTH * strengths.max()
        return cls(centre, spread, known, vectors[:, strong] / np.sqrt(strengths[strong]))

    def of(self, smooth: Tensor) -> Tensor:
        """Features (n, r) of the pixels' components (n, components)."""
        centre, spread, known, axes = (
            torch.from_numpy(array).to(smooth)
            for array in (self.centre, self.spread, self.known, self.axes)
        )
        pixels = (smooth[:, : len(centre)] - centre) / spread
        squares = pixels.square().sum(1, keepdim=True) / 2
        products = pixels @ known.t() - squares - known.square().sum(1) / 2
        return (products / len(centre)).exp() @ axes


def in_parts(smooth: Tensor, scatter: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """A few pixels at a time, of (n, components) and (n, k): their features are many."""
    return zip(torch.split(smooth, AT_ONCE), torch.split(scatter, AT_ONCE), strict=True)


def rich_features(smooth: Tensor, scatter: Tensor, likeness: Likeness) -> Tensor:
    """What the rich discriminant sees of n pixels: (n, components + k + r)."""
    return torch.cat([smooth, SCATTER_UNIT * scatter, LIKENESS_UNIT * likeness.of(smooth)], dim=1)


@dataclass(frozen=True)
class Discriminant:
    """Linear discriminants of some features.

    Attributes
    ----------
    directions : ndarray, (features, classes)
    offsets : ndarray, (classes,)
        Minus infinity for a class that no pixel was known of.
    """

    directions: Floats
    offsets: Floats

    @classmethod
    def of(
        cls, features: Floats, targets: npt.NDArray[np.int64], weights: Floats, classes: int
    ) -> Discriminant:
        """Learn from features (n, features) of pixels of classes (n,).

        Weights (n,) tell how much each counts in the mean of its class and in the covariance.
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
        with np.errstate(divide="ignore"):  # a class without a pixel has no chance
            offsets = np.log(counts / counts.sum()) - 0.5 * (centres.T * directions).sum(axis=0)
        return cls(directions, offsets)

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Of n pixels, (n, classes), in the features' type; minus infinity for unknown classes."""
        scores = features @ torch.from_numpy(self.directions).to(features)
        scores += torch.from_numpy(self.offsets).to(features)
        found = scores.log_softmax(1).clamp(min=LEAST_LOG)
        return found.masked_fill(scores.isneginf(), -torch.inf)
