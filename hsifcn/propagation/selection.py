"""Which spectral classifiers and which random walker suit a scene: chosen from its labels.

Constants that suit one landscape fail on another. So several classifiers, on features smoothed to
several degrees, predict labelled pixels that were left out, in whole groups: connected pixels of
one class are left out together. Each mixture of classifiers then counts by its score. Scores
within their sampling error of the best count nearly alike, so that few groups of labels, which
decide little, leave a mean of many classifiers. The weight of the prior in the random walker is
chosen in the same way, on folds of the groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.propagation.classifiers import (
    MIN_LOG,
    KernelRidge,
    KernelSettings,
    LinearDiscriminant,
    log_softmax,
    tune_kernel,
)
from hsifcn.propagation.features import PixelFeatures

# By space; see ``features.py``.
SHRINKAGES = {"noise": (0.05, 0.2, 0.5), "shape": (0.05, 0.5)}
SHARPNESS = (1.0, 0.5, 0.25, 0.125)  # of discriminants, the first of equally likely ones
KERNEL_COMPONENTS = {"noise": 15, "principal": 30, "shape": 30}
MAX_TUNED = 320  # labelled pixels that kernels are tuned on
MAX_KERNEL = 1536  # labelled pixels that kernels are fitted to
MAX_LABELLED = 4096  # labelled pixels that discriminants are fitted to
FOLDS = 5
TEMPERATURE = 0.3  # of the weights of scores, against one over the square root of the groups
LIKELIHOOD_SHARE = 0.1  # of the mean log likelihood in a score
LIKELIHOOD_FLOOR = -4.0
FIELD_PULL = 0.001  # weight of the prior, summed over a field of labels, that is expected
PRIOR_SPREAD = np.log(10)  # standard deviation of the logarithm of what is expected
MIN_WEIGHT = 0.02  # a classifier of less weight is left out

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Classifier: TypeAlias = LinearDiscriminant | KernelRidge
Key = TypeVar("Key")


@dataclass(frozen=True)
class Candidate:
    """A spectral classifier before it is fitted.

    Attributes
    ----------
    kind : str
        ``discriminant`` or ``kernel``.
    space : str
        ``noise``, ``principal`` or ``shape``, see ``PixelFeatures``.
    smoothing : float
    shrinkage, sharpness : float
        Of a discriminant.
    settings : KernelSettings or None
        Of a kernel classifier, once it is tuned.
    """

    kind: str
    space: str
    smoothing: float
    shrinkage: float = 0.0
    sharpness: float = 1.0
    settings: KernelSettings | None = None

    def fit(self, labelled: LabelledPixels, classes: int) -> Classifier:
        """Fit to labelled pixels."""
        if self.settings is None:
            return LinearDiscriminant.fit(
                labelled.features[self.space, self.smoothing], labelled.targets,
                labelled.weights(), classes, self.shrinkage, self.sharpness,
            )  # fmt: skip
        few = labelled.subset(stratified_sample(labelled.targets, MAX_KERNEL))
        features = few.features[self.space, self.smoothing][:, : KERNEL_COMPONENTS[self.space]]
        return KernelRidge.fit(features, few.targets, classes, self.settings)

    def log_probabilities(
        self, classifier: Classifier, features: PixelFeatures, which: Tensor | slice
    ) -> Tensor:
        """Of the pixels of a window by flat index, (n, classes)."""
        spectra = features.pixels(self.space, self.smoothing, which)
        if self.kind == "kernel":
            spectra = spectra[:, : KERNEL_COMPONENTS[self.space]]
        return classifier.log_probabilities(spectra)

    def __str__(self) -> str:
        shrinkage = f", shrinkage {self.shrinkage:g}" if self.kind == "discriminant" else ""
        return f"{self.kind}, {self.space}{shrinkage}, smoothing {self.smoothing:g}"


@dataclass(frozen=True)
class LabelledPixels:
    """Features of labelled pixels of all scenes.

    Attributes
    ----------
    features : dict of (space, smoothing) to ndarray, (n, features), float64
    targets : ndarray, (n,), int64
        Classes from 0.
    groups : ndarray, (n,), int64
        Number of the connected area of one label that each pixel lies in.
    """

    features: dict[tuple[str, float], Floats]
    targets: Integers
    groups: Integers

    def subset(self, which: npt.NDArray[np.bool_] | Integers) -> LabelledPixels:
        """Some of the pixels."""
        features = {key: values[which] for key, values in self.features.items()}
        return LabelledPixels(features, self.targets[which], self.groups[which])

    def weights(self) -> Floats:
        """How much each pixel counts, (n,): those of a group are alike, so each counts less."""
        _, number, sizes = np.unique(self.groups, return_inverse=True, return_counts=True)
        weights: Floats = 1 / np.sqrt(sizes[number])
        return weights

    def folds(self) -> Integers:
        """Fold of each pixel, (n,): those of one group share it, the groups of a class do not."""
        groups, firsts, number = np.unique(self.groups, return_index=True, return_inverse=True)
        order = np.random.default_rng(0).permutation(len(groups))
        by_class = order[np.argsort(self.targets[firsts[order]], kind="stable")]
        folds = np.empty(len(groups), np.int64)
        folds[by_class] = np.arange(len(groups)) % FOLDS
        return folds[number]

    def can_be_left_out(self) -> npt.NDArray[np.bool_]:
        """Pixels of classes with more than one group, (n,): others leave no pixel to learn from."""
        _, firsts = np.unique(self.groups, return_index=True)
        several = np.bincount(self.targets[firsts], minlength=self.targets.max() + 1) > 1
        found: npt.NDArray[np.bool_] = several[self.targets]
        return found

    def log_prior(self, prior_weights: Sequence[float]) -> Floats:
        """What is expected of weights of the random walker's prior before any is tried, in logs.

        Large areas of labels show that fields are large, where labels may spread far: the weight is
        expected to fall with their size. Single labelled pixels do not show it.
        """
        size = float(np.median(np.unique(self.groups, return_counts=True)[1]))
        if size < 2:
            return np.zeros(len(prior_weights))
        away = np.log(np.array(prior_weights) * size / FIELD_PULL) / PRIOR_SPREAD
        found: Floats = -0.5 * away**2
        return found


@dataclass(frozen=True)
class SpectralPosterior:
    """A weighted mean of the log probabilities of several classifiers."""

    parts: tuple[tuple[Candidate, float, Classifier], ...]

    @classmethod
    def fit(
        cls, weights: dict[Candidate, float], labelled: LabelledPixels, classes: int
    ) -> SpectralPosterior:
        """Fit each classifier to labelled pixels."""
        return cls(tuple((one, w, one.fit(labelled, classes)) for one, w in weights.items()))

    def probabilities(
        self, features: PixelFeatures, which: Tensor | slice, power: float = 1.0
    ) -> Tensor:
        """Of the pixels of a window by flat index, (n, classes); 0 for classes without a label.

        Raised to ``power`` and brought to a sum of 1 again.
        """
        total = sum(
            weight * candidate.log_probabilities(classifier, features, which)
            for candidate, weight, classifier in self.parts
        )
        assert isinstance(total, Tensor)
        return (power * total).softmax(1)


@dataclass(frozen=True)
class Evidence:
    """What was chosen and why.

    Attributes
    ----------
    groups : int
        Groups of labelled pixels that could be left out.
    classifiers : dict of Candidate to float
        Weights of the classifiers, summing to 1.
    accuracy : float
        Mean of OA and AA at the left-out pixels, of the best mixture of classifiers.
    prior_weight : float
        Of the random walker.
    prior_weight_accuracy : dict of float to float
        Mean of OA and AA at left-out pixels by the weight of the prior; NaN where nothing could be
        left out.
    expected_oa : float
        OA that the left-out pixels let expect of the pseudo-labels; NaN where there were none.
    """

    groups: int
    classifiers: dict[Candidate, float]
    accuracy: float
    prior_weight: float
    prior_weight_accuracy: dict[float, float]
    expected_oa: float

    def record(self) -> dict[str, object]:
        """For ``metrics.json``, which has no NaN: None stands for it."""

        def told(value: float) -> float | None:
            return None if np.isnan(value) else value

        return {
            "groups": self.groups,
            "classifiers": {str(one): round(w, 4) for one, w in self.classifiers.items()},
            "left_out_accuracy": told(self.accuracy),
            "prior_weight": self.prior_weight,
            "prior_weight_accuracy": {
                f"{one:g}": told(accuracy) for one, accuracy in self.prior_weight_accuracy.items()
            },
            "expected_oa": told(self.expected_oa),
        }


@dataclass(frozen=True)
class ClassifierChoice:
    """Which spectral classifiers count, and how right they are at pixels that are left out.

    Attributes
    ----------
    weights : dict of Candidate to float
        Summing to 1.
    accuracy : float
        Mean of OA and AA of the best mixture; NaN where nothing can be left out.
    group_accuracy : float
        Accuracy of the weighted mean of all, each pixel counting as ``LabelledPixels.weights``
        says; NaN where nothing can be left out.
    """

    weights: dict[Candidate, float]
    accuracy: float
    group_accuracy: float


def choose_classifiers(labelled: LabelledPixels, classes: int) -> ClassifierChoice:
    """Weigh classifiers by how well they predict groups of pixels that are left out.

    They are tried on the features that there are.
    """
    spaces = {space for space, _ in labelled.features}
    strengths = sorted({strength for _, strength in labelled.features})
    linear = [(key, one) for key in SHRINKAGES if key in spaces for one in SHRINKAGES[key]]
    kernels = {key: count for key, count in KERNEL_COMPONENTS.items() if key in spaces}
    tuned = stratified_sample(labelled.targets, MAX_TUNED)
    few = labelled.subset(tuned)
    predictions: dict[Candidate, Floats] = {}
    for smoothing in strengths:
        for space, shrinkage in linear:
            candidate = Candidate("discriminant", space, smoothing, shrinkage)
            found = left_out_predictions(candidate, labelled, classes)[tuned]
            sharpness = best_sharpness(found, few)
            predictions[replace(candidate, sharpness=sharpness)] = log_softmax(sharpness * found)
        for space, components in kernels.items():
            features = few.features[space, smoothing][:, :components]
            settings, found = tune_kernel(features, few.targets, few.weights(), few.groups, classes)
            predictions[Candidate("kernel", space, smoothing, settings=settings)] = found
    mixtures = [mixture for s in strengths for mixture in mixtures_of(list(predictions), s)]
    means = [np.mean([predictions[one] for one in mixture], axis=0) for mixture in mixtures]
    told = few.can_be_left_out()
    truth = few.targets[told]
    if not told.any():
        even = 1 / len(predictions)
        return ClassifierChoice(dict.fromkeys(predictions, even), float("nan"), float("nan"))
    scores = np.array([score(log_softmax(mean[told]), truth) for mean in means])
    groups = len(np.unique(labelled.groups[labelled.can_be_left_out()]))
    weights: dict[Candidate, float] = {}
    for mixture, weight in zip(mixtures, softmax_weights(scores, groups), strict=True):
        for one in mixture:
            weights[one] = weights.get(one, 0.0) + float(weight) / len(mixture)
    kept = without_small(weights)
    best = means[int(scores.argmax())][told].argmax(1)
    together = np.sum([weight * predictions[one] for one, weight in kept.items()], axis=0)
    return ClassifierChoice(
        kept,
        mean_accuracy(best == truth, truth),
        float(np.average(together[told].argmax(1) == truth, weights=few.weights()[told])),
    )


def best_sharpness(log_probabilities: Floats, labelled: LabelledPixels) -> float:
    """Factor on log probabilities (n, classes) of left-out pixels that makes them most likely."""
    told = labelled.can_be_left_out()
    if not told.any():
        return 1.0
    targets, weights = labelled.targets[told], labelled.weights()[told]
    likelihood = [
        (
            weights * log_softmax(one * log_probabilities[told])[np.arange(len(targets)), targets]
        ).sum()
        for one in SHARPNESS
    ]
    return SHARPNESS[int(np.argmax(likelihood))]


def mixtures_of(candidates: Sequence[Candidate], smoothing: float) -> list[tuple[Candidate, ...]]:
    """Classifiers of one smoothing alone, in pairs, and a discriminant with all kernels."""
    own = [one for one in candidates if one.smoothing == smoothing]
    linear = [one for one in own if one.kind == "discriminant"]
    kernels = tuple(one for one in own if one.kind == "kernel")
    pairs = [(a, b) for a in linear for b in kernels]
    return [*((one,) for one in own), *pairs, kernels, *((one, *kernels) for one in linear)]


def left_out_predictions(candidate: Candidate, labelled: LabelledPixels, classes: int) -> Floats:
    """Log probabilities (n, classes) of pixels whose fold a discriminant is not fitted to."""
    features = torch.from_numpy(labelled.features[candidate.space, candidate.smoothing])
    found = np.full((len(labelled.targets), classes), MIN_LOG)
    folds = labelled.folds()
    for fold in np.unique(folds):
        held = folds == fold
        if not held.all():
            classifier = candidate.fit(labelled.subset(~held), classes)
            found[held] = classifier.log_probabilities(features[held]).numpy()
    return found


def choose_prior_weight(
    candidates: Sequence[float],
    labelled: LabelledPixels,
    predict: Callable[[npt.NDArray[np.bool_]], dict[float, Floats]],
    folds: int,
) -> tuple[float, dict[float, float], float]:
    """Weight of the prior by how well random walkers predict groups of pixels that are left out.

    Parameters
    ----------
    candidates : sequence of float
        Weights of the prior.
    labelled : LabelledPixels
    predict : callable
        Given which pixels (n,) are left out: their log probabilities (n, classes), by the weight
        of the prior.
    folds : int
        Of the ``FOLDS`` that are left out in turn.

    Returns
    -------
    prior_weight : float
        The candidate with the best score, together with what is expected.
    accuracy : dict of float to float
        Mean of OA and AA by candidate.
    expected_oa : float
        OA of that candidate, less certain with few groups.
    """
    expected = labelled.log_prior(candidates)
    predictions: dict[float, list[Floats]] = {one: [] for one in candidates}
    targets, groups = [], 0
    assigned, possible = labelled.folds(), labelled.can_be_left_out()
    for fold in range(folds):
        held = (assigned == fold) & possible
        if held.any():
            targets.append(labelled.targets[held])
            groups += len(np.unique(labelled.groups[held]))
            for one, found in predict(held).items():
                predictions[one].append(found)
    if not targets:
        nothing = float("nan")
        best = candidates[int(np.argmax(expected))]
        return best, dict.fromkeys(candidates, nothing), nothing
    truth = np.concatenate(targets)
    together = [np.concatenate(predictions[one]) for one in candidates]
    scores = np.array([score(found, truth) for found in together])
    chosen = int(np.argmax(log_weights(scores, groups) + expected))
    right = [found.argmax(axis=1) == truth for found in together]
    accuracy = [mean_accuracy(one, truth) for one in right]
    return (
        candidates[chosen],
        dict(zip(candidates, accuracy, strict=True)),
        expected_share(float(right[chosen].mean()), groups),
    )


def expected_share(share: float, groups: int) -> float:
    """Share of pixels to expect right where so many groups gave ``share``: Laplace's rule."""
    return (share * groups + 1) / (groups + 2)


def score(log_probabilities: Floats, targets: Integers) -> float:
    """Mean of OA and AA, plus a share of the mean log likelihood, which parts equal ones.

    As the arc sine of its square root, an accuracy has the same sampling error whatever it is
    (Anscombe 1948, doi:10.1093/biomet/35.3-4.246): 1 against 0.9 says more than 0.6 against 0.5.
    """
    right = log_probabilities.argmax(axis=1) == targets
    likelihood = log_probabilities[np.arange(len(targets)), targets].clip(LIKELIHOOD_FLOOR)
    accuracy = float(np.arcsin(np.sqrt(mean_accuracy(right, targets))))
    return accuracy + LIKELIHOOD_SHARE * mean_accuracy(likelihood, targets)


def mean_accuracy(values: npt.NDArray[np.bool_] | Floats, targets: Integers) -> float:
    """Mean of values over pixels and over classes: of OA and AA, where values are correctness."""
    by_class = [values[targets == label].mean() for label in np.unique(targets)]
    return float(values.mean() + np.mean(by_class)) / 2


def log_weights(scores: Floats, groups: int) -> Floats:
    """Logarithms of the weights of scores that were measured on so many groups."""
    return scores * float(np.sqrt(max(groups, 1))) / TEMPERATURE


def softmax_weights(scores: Floats, groups: int) -> Floats:
    """Weights of scores that were measured on so many groups; summing to 1."""
    logs = log_weights(scores, groups)
    shares = np.exp(logs - logs.max())
    weights: Floats = shares / shares.sum()
    return weights


def without_small(weights: dict[Key, float]) -> dict[Key, float]:
    """The larger weights, summing to 1."""
    kept = {one: weight for one, weight in weights.items() if weight >= MIN_WEIGHT}
    total = sum(kept.values())
    return {one: weight / total for one, weight in kept.items()}


def stratified_sample(targets: Integers, count: int) -> Integers:
    """Indices of so many of n pixels, at least one a class; of all where there are no more."""
    if len(targets) <= count:
        return np.arange(len(targets))
    order = np.random.default_rng(0).permutation(len(targets))
    _, firsts = np.unique(targets[order], return_index=True)
    return np.concatenate([order[firsts], np.delete(order, firsts)])[:count]
