"""What each idea of the recipe brings, those included that were left out: ``docs/ideas.md``.

    python -m benchmarks.ideas [--seeds 2] [--workers 1] [--only NAME,NAME] [--splits-like TEXT]

Every idea alone against the recipe as it is, on draws of Indian Pines that no table of accuracy
uses (seeds from 100 on). Every training is a fresh process that leaves a JSON file under
``runs/benchmarks/ideas``, so that an interrupted run goes on where it stopped. Ideas that are not
part of the package are written out here.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import re
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor, nn

from hsifcn import models
from hsifcn.core.process import machine, versions
from hsifcn.core.scene import default_class_names, default_colours
from hsifcn.data.split_recipes import fields
from hsifcn.data.splits import Split, make_split
from hsifcn.evaluation.metrics import Accuracy, confusion_matrix
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.refine.potentials import choose_weights
from hsifcn.io import open_labels, open_scene
from hsifcn.models.layers import WholeSceneNetwork
from hsifcn.propagation import random_walker as propagation
from hsifcn.propagation import spectral_prior as spectral_classifier
from hsifcn.propagation.label_coverage import coverage, labels_at
from hsifcn.propagation.random_walker import PropagatedLabels
from hsifcn.propagation.spectral_prior import KnownSpectra, Seen, SpectralClassifier
from hsifcn.training import objectives
from hsifcn.training import scenes as training_scenes
from hsifcn.training.augment import jitter_bands, transform, undo
from hsifcn.training.objectives import SceneObjective
from hsifcn.training.scenes import read_standardised, scene_scaling, usable_bands
from hsifcn.training.settings import default_settings
from hsifcn.training.train import Trained, train

ROOT = Path(__file__).parent.parent
SCENE = ROOT / "data" / "indian_pines_corrected.mat"
LABELS = ROOT / "data" / "indian_pines_gt.mat"
RESULTS = ROOT / "runs" / "benchmarks" / "ideas"
FIRST_SEED = 100
RECIPES = {
    "random:0.01": "random, 1 %",
    "random:0.05": "random, 5 %",
    "random:0.1": "random, 10 %",
    "blocks:14:gap=3:train=0.5": "blocks of 14, gap 3",
    "fields:0.2:gap=2": "whole fields",
    "fields:0.05:gap=2": "a field a class",
}
FIGURES = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)", re.DOTALL)
Labels = np.ndarray[Any, np.dtype[np.integer[Any]]]
Map = Callable[[Split, int], Labels]
Change = Callable[[], AbstractContextManager[Any]]


# Maps


def trained(split: Split, seed: int, **settings: Any) -> Trained:
    """A network by the recipe, but for ``settings``."""
    model = settings.pop("model", "hsifcn")
    classes = int(split.labels.max())
    return train(
        [open_scene(str(SCENE))],
        [split],
        replace(default_settings(model, seed), **settings),
        class_names=default_class_names(classes),
        colours=default_colours(classes),
    )


def by_network(change: Change = nullcontext, **settings: Any) -> Map:
    """The map of one network, trained while something of the package is changed."""

    def run(split: Split, seed: int) -> Labels:
        with change():
            bundle = trained(split, seed, **settings).bundle
            return Predictor(bundle).label_map(open_scene(str(SCENE)))

    return run


def by_all_labels(split: Split, seed: int) -> Labels:
    """The map of a network that holds no validation pixels back."""
    known = split.train | split.validation
    nothing = np.zeros_like(split.validation)
    return by_network()(replace(split, train=known, validation=nothing), seed)


def by_members(count: int) -> Map:
    """The map of the mean logits of several seeds."""

    def run(split: Split, seed: int) -> Labels:
        scene = open_scene(str(SCENE))
        logits = [
            Predictor(trained(split, seed + 1000 * k).bundle).whole_scene_logits(scene)
            for k in range(count)
        ]
        return np.asarray(np.mean(logits, axis=0).argmax(0) + 1)

    return run


def by_turned_scenes(split: Split, seed: int) -> Labels:
    """The map of the mean logits of the eight flips and transposes of the scene."""
    scene = open_scene(str(SCENE))
    bundle = trained(split, seed).bundle
    bands = bundle.good_bands
    cube, _ = read_standardised(scene, bands, bundle.scaling)
    network = bundle.network()
    with torch.inference_mode():
        logits = [undo(network(transform(cube, turn)), turn) for turn in range(8)]
    return np.asarray(torch.stack(logits).mean(0)[0].argmax(0) + 1)


def by_renewed_walks(split: Split, seed: int) -> Labels:
    """The map of a second network, for which walks end at what a first one says."""
    scene = open_scene(str(SCENE))
    logits = Predictor(trained(split, seed).bundle).whole_scene_logits(scene)
    said = torch.from_numpy(logits).softmax(0)
    say = SpectralClassifier.probabilities

    def renewed(self: SpectralClassifier, seen: Seen) -> Tensor:
        whole = seen.smooth.shape[1:] == said.shape[1:]  # memory is planned on a small scene
        return said if whole else say(self, seen)

    with mock.patch.object(SpectralClassifier, "probabilities", renewed):
        return Predictor(trained(split, seed).bundle).label_map(scene)


def by_refinement(method: str) -> Map:
    """The map of a network behind which a back end of default weights is forced."""

    def run(split: Split, seed: int) -> Labels:
        predictor = Predictor(trained(split, seed).bundle, "cpu", choose_weights(method, None))
        return predictor.label_map(open_scene(str(SCENE)))

    return run


def training_scene(split: Split) -> tuple[Tensor, Tensor, Tensor]:
    """The standardised cube, flat indices and classes (from 0) of all training pixels."""
    scene = open_scene(str(SCENE))
    bands = usable_bands([scene])
    cube, _ = read_standardised(scene, bands, scene_scaling([scene], [split], bands, False))
    known = split.train | split.validation
    pixels = torch.from_numpy(np.flatnonzero(known))
    return cube, pixels, torch.from_numpy(split.labels[known].astype(np.int64) - 1)


def by_walks(change: Change = nullcontext) -> Map:
    """The map of the random walks themselves, without a network."""

    def run(split: Split, seed: int) -> Labels:
        cube, pixels, targets = training_scene(split)
        with change():
            found = propagation.propagate(cube, None, pixels, targets, int(split.labels.max()))
        return np.asarray(found.argmax(0) + 1)

    return run


def by_classifier(split: Split, seed: int) -> Labels:
    """The map of the spectral classifier, without walks."""
    cube, pixels, targets = training_scene(split)
    labels = labels_at(pixels, targets, split.labels.shape)
    covered = coverage([labels])
    _, seen = propagation.seen_in(propagation.clean_components(cube, None), None, covered)
    known = spectral_classifier.known_spectra(seen, pixels, targets)
    found = known.learn(int(split.labels.max())).probabilities(seen)
    return np.asarray(found.argmax(0) + 1)


# Changes of the package


def constants(module: Any, **values: Any) -> Change:
    """Other values for constants of a module."""
    return lambda: mock.patch.multiple(module, **values)


def edges_times(factor: float) -> Change:
    """Edges of spectra so many times as steep, for walks and for smoothing, at either coverage."""
    ends = {name: getattr(propagation, name) for name in ("WALK_EDGE", "SMOOTHING_EDGE")}
    larger = {name: (factor * few, factor * many) for name, (few, many) in ends.items()}
    return constants(propagation, **larger)


def network_of(stem: tuple[int, ...], widths: tuple[int, ...]) -> Change:
    """The default network with other channels."""
    known = models.MODELS["hsifcn"]
    other = models.fcn_model(1, known.summary, stem, widths)
    return lambda: mock.patch.dict(models.MODELS, {"hsifcn": other})


def principal_components(cube: Tensor, valid: Tensor | None) -> Tensor:
    """In place of ``propagation.clean_components``: those of greatest variance."""
    spectra = cube[0].flatten(1)
    _, vectors = np.linalg.eigh((spectra @ spectra.t()).numpy())
    directions = vectors[:, : -propagation.COMPONENTS - 1 : -1].T.copy()
    return (torch.from_numpy(directions) @ spectra).reshape(-1, *cube.shape[2:])


def by_three_walks(split: Split, seed: int) -> Labels:
    """The map of the mean of walks that see edges half as steep, as they are, twice as steep."""
    cube, pixels, targets = training_scene(split)
    classes = int(split.labels.max())
    found = []
    for factor in (0.5, 1.0, 2.0):
        with edges_times(factor)():
            found.append(propagation.propagate(cube, None, pixels, targets, classes))
    return np.asarray(torch.stack(found).mean(0).argmax(0) + 1)


def by_walks_of_components(split: Split, seed: int) -> Labels:
    """The map of the mean of walks that see edges in 5, 8 and 12 components."""
    cube, pixels, targets = training_scene(split)
    classes = int(split.labels.max())
    found = []
    for components in (5, 8, 12):
        with constants(propagation, EDGE_COMPONENTS=components)():
            found.append(propagation.propagate(cube, None, pixels, targets, classes))
    return np.asarray(torch.stack(found).mean(0).argmax(0) + 1)


def by_means_round_about(split: Split, seed: int) -> Labels:
    """The map of walks, weighed by how near a spectrum is to each class's mean 5 pixels about.

    An adaptive clustering (Pappas 1992, doi:10.1109/78.127962) that begins with the walks; noise
    counts a tenth, since it is alike in neighbours.
    """
    cube, pixels, targets = training_scene(split)
    found = propagation.propagate(cube, None, pixels, targets, int(split.labels.max()))
    components = propagation.clean_components(cube, None)[: propagation.EDGE_COMPONENTS]

    def about(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, 11, 1, 5)

    scores = []
    for share in torch.split(found, 1):
        means = about(share * components) / about(share).clamp(min=1e-9)
        apart = (components - means).square().sum(0)
        near = about(share)[0] > 4 / 11**2  # four pixels' worth of the class
        likely = share[0].clamp(min=1e-6).log() - 0.1 * apart / 2
        scores.append(likely.where(near, torch.tensor(-torch.inf)))
    best = torch.stack(scores).argmax(0)
    best.view(-1)[pixels] = targets
    return np.asarray(best + 1)


def by_taught_walks(split: Split, seed: int) -> Labels:
    """The map of walks whose classifier learnt what first walks were nine tenths sure of."""
    cube, pixels, targets = training_scene(split)
    classes = int(split.labels.max())
    sureness, best = propagation.propagate(cube, None, pixels, targets, classes).flatten(1).max(0)
    sure = (sureness > 0.9).nonzero()[:, 0]
    known = spectral_classifier.known_spectra

    def taught(seen: Seen, pixels: Tensor, targets: Tensor) -> KnownSpectra:
        return known(seen, sure, best[sure])

    with mock.patch.object(propagation, "known_spectra", taught):
        found = propagation.propagate(cube, None, pixels, targets, classes)
    return np.asarray(found.argmax(0) + 1)


@contextmanager
def softer_classifier() -> Iterator[None]:
    """Scores of the classifier divided by ten."""
    say = SpectralClassifier.scores

    def softer(self: SpectralClassifier, smooth: Tensor, scatter: Tensor) -> Tensor:
        return say(self, smooth, scatter) / 10

    with mock.patch.object(SpectralClassifier, "scores", softer):
        yield


def trusted(share: float) -> Change:
    """How much the rich discriminant counts, below 1, however many fields are known."""
    learn = KnownSpectra.learn

    def trusting(self: KnownSpectra, classes: int) -> SpectralClassifier:
        return replace(learn(self, classes), trust=share)

    return lambda: mock.patch.object(KnownSpectra, "learn", trusting)


def pixels_alike() -> AbstractContextManager[Any]:
    """Every pixel counts as one in the classifier, however many its field has."""
    return mock.patch.object(KnownSpectra, "weights", lambda self: np.ones(len(self.targets)))


@dataclass(frozen=True)
class SupportVectors:
    """In place of ``SpectralClassifier``: an SVM on the ten cleanest components."""

    scaler: StandardScaler
    fitted: SVC
    classes: int

    def probabilities(self, seen: Seen) -> Tensor:
        """In place of ``SpectralClassifier.probabilities``."""
        smooth = seen.smooth.flatten(1).t()
        return self.scores(smooth, smooth).softmax(1).t().reshape(-1, *seen.smooth.shape[1:])

    def scores(self, smooth: Tensor, scatter: Tensor) -> Tensor:
        """In place of ``SpectralClassifier.scores``."""
        found = torch.full((len(smooth), self.classes), -torch.inf)
        decisions = self.fitted.decision_function(self.scaler.transform(smooth[:, :10].numpy()))
        found[:, torch.from_numpy(self.fitted.classes_)] = torch.from_numpy(2 * decisions).float()
        return found


def support_vectors(known: KnownSpectra, classes: int) -> SupportVectors:
    """In place of ``KnownSpectra.learn``."""
    scaler = StandardScaler().fit(known.smooth[:, :10])
    fitted = SVC(C=100.0).fit(scaler.transform(known.smooth[:, :10]), known.targets)
    return SupportVectors(scaler, fitted, classes)


def averaged_windows(image: Tensor, *given: Any) -> Tensor:
    """In place of ``propagation.smoothed``: means of 3x3 pixels."""
    return F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)


def smooth_jitter(x: Tensor, scale: float) -> Tensor:
    """In place of ``augment.jitter_bands``: gain and offset that vary smoothly with wavelength."""
    bands = x.shape[1]
    knots = scale * torch.randn(2, 1, 8)
    gain, offset = F.interpolate(knots, size=bands, mode="linear", align_corners=True)
    return x.mul(1 + gain.view(1, bands, 1, 1)).add_(offset.view(1, bands, 1, 1))


def dropped_bands(x: Tensor, scale: float) -> Tensor:
    """In place of ``augment.jitter_bands``: a tenth of the bands at their mean, too."""
    kept = (torch.rand(1, x.shape[1], 1, 1) >= 0.1).to(x)
    return jitter_bands(x, scale) * kept


def by_varied_fields(split: Split, seed: int) -> Labels:
    """The map of a network that sees the scene shifted as fields of a class differ.

    Each step all spectra are shifted by a random mixture of how the means of labelled fields lie
    from those of their classes: the nearest that labels come to telling how a class varies.
    """
    cube, pixels, targets = training_scene(split)
    spectra = cube[0].flatten(1)[:, pixels]
    known = np.where(split.train | split.validation, split.labels, 0)
    of_field = torch.from_numpy(fields(known).flat[pixels.numpy()].astype(np.int64))

    def means(groups: Tensor) -> Tensor:
        """Mean spectra of the groups that pixels are of, one a pixel: (bands, n)."""
        sums = spectra.new_zeros(len(spectra), int(groups.max()) + 1).index_add_(1, groups, spectra)
        found = sums / torch.bincount(groups).clamp(min=1)
        return torch.index_select(found, 1, groups)

    apart = means(of_field) - means(targets)
    differences = apart[:, np.unique(of_field.numpy(), return_index=True)[1]]

    def varied(x: Tensor, scale: float) -> Tensor:
        mixture: Tensor = (
            differences @ torch.randn(differences.shape[1]) / differences.shape[1] ** 0.5
        )
        return jitter_bands(x, scale) + mixture.view(1, -1, 1, 1)

    return by_network(constants(objectives, jitter_bands=varied))(split, seed)


@contextmanager
def contrast_between_fields() -> Iterator[None]:
    """Learn stem features in which pixels of a class are alike, be they of other fields.

    A supervised contrast (Khosla et al. 2020, arXiv:2004.11362) whose positives are pixels of the
    same class in other fields, and whose negatives are those of other classes.
    """
    learn = SceneObjective._learn

    def learn_with_contrast(
        self: Any, network: WholeSceneNetwork, drawn: Any, symmetry: int, *rest: Any
    ) -> float:
        loss = learn(self, network, drawn, symmetry, *rest)
        scene = self.source.read(drawn)
        labels = labels_at(scene.pixels, scene.targets, scene.cube.shape[2:])
        taken = torch.randperm(len(scene.pixels))[:512]
        of_field = torch.from_numpy(fields(labels).flat[scene.pixels[taken]].astype(np.int64))
        of_class = scene.targets[taken]
        same_class = of_class[:, None] == of_class
        positive = same_class & (of_field[:, None] != of_field)
        features = network.stem(jitter_bands(scene.cube, self.jitter), scene.counted)
        features = F.normalize(features[0].flatten(1)[:, scene.pixels[taken]], dim=0)
        likeness = features.t() @ features / 0.1
        others = likeness.masked_fill(same_class & ~positive, -torch.inf).logsumexp(1)
        asked = positive.any(1)
        if asked.any():
            apart = (others[:, None] - likeness).masked_fill(~positive, 0).sum(1)[asked]
            more = 0.1 * (apart / positive.sum(1)[asked]).mean()
            more.backward()
            loss += more.item()
        return loss

    with mock.patch.object(SceneObjective, "_learn", learn_with_contrast):
        yield


@contextmanager
def probabilities_carried() -> Iterator[None]:
    """Learn the probabilities that walks give, those of sure pixels above all, not the classes."""

    def labels(
        cube: Tensor, valid: Tensor | None, pixels: Tensor, targets: Tensor, classes: int
    ) -> PropagatedLabels:
        found = propagation.propagate(cube, valid, pixels, targets, classes).flatten(1)
        sureness, best = found.max(0)
        weights = sureness.square()
        weights[pixels] = 0
        mass = weights.new_zeros(classes).index_add_(0, best, weights)
        weights *= mass.clamp(min=1).rsqrt()[best]
        return PropagatedLabels(found, weights / weights.sum().clamp(min=1e-12))

    def loss(logits: Tensor, probabilities: Tensor, weights: Tensor) -> Tensor:
        return -(probabilities * F.log_softmax(logits.flatten(2)[0], dim=0)).sum(0) @ weights

    with (
        mock.patch.object(training_scenes, "propagated_labels", labels),
        mock.patch.object(objectives, "propagated_cross_entropy", loss),
    ):
        yield


@contextmanager
def moving_average_teacher() -> Iterator[None]:
    """Learn, too, what a moving average of the network is sure of, each class the same number.

    Tarvainen, Valpola (2017), arXiv:1703.01780; pseudo-labels with a threshold as in Sohn et al.
    (2020), arXiv:2001.07685.
    """
    learn = SceneObjective._learn
    teachers: dict[int, nn.Module] = {}

    def learn_from_teacher(
        self: Any, network: WholeSceneNetwork, drawn: Any, symmetry: int, *rest: Any
    ) -> float:
        teacher = teachers.setdefault(id(network), copy.deepcopy(network))
        scene = self.source.read(drawn)
        with torch.no_grad():
            for own, new in zip(teacher.parameters(), network.parameters(), strict=True):
                own.lerp_(new, 0.03)
            sureness, classes = teacher(scene.cube, scene.counted).softmax(1)[0].flatten(1).max(0)
        places = [
            (classes == label).logical_and(sureness > 0.9).nonzero()[:, 0]
            for label in range(len(self.weights))
        ]
        taken = torch.cat([place[torch.randperm(len(place))[:200]] for place in places])
        loss = learn(self, network, drawn, symmetry, *rest)
        if len(taken):
            logits = network(smooth_jitter(scene.cube, self.jitter), scene.counted)
            more = F.cross_entropy(logits[0].flatten(1)[:, taken].t(), classes[taken])
            more.backward()  # type: ignore[no-untyped-call]
            loss += more.item()
        return loss

    with mock.patch.object(SceneObjective, "_learn", learn_from_teacher):
        yield


@dataclass(frozen=True)
class Idea:
    """What is changed, and the map that it gives."""

    text: str
    map: Map


IDEAS = {
    "recipe": Idea("the recipe as it is", by_network()),
    "labels": Idea("labels alone, nothing carried over the scene", by_network(propagation=0.0)),
    "probabilities": Idea(
        "probabilities carried over the scene, by their square, not classes",
        by_network(probabilities_carried),
    ),
    "held-back": Idea(
        "validation pixels held back to the end", by_network(learn_validation=False)
    ),
    "all-labels": Idea("validation pixels learnt from the start", by_all_labels),
    "carried3": Idea("carried labels count three times", by_network(propagation=3.0)),
    "carried03": Idea("carried labels count a third", by_network(propagation=0.3)),
    "walks": Idea("the walks alone, no network", by_walks()),
    "classifier": Idea("the spectral classifier alone, no walks, no network", by_classifier),
    "walks-plain": Idea("walks alone, the plain discriminant alone", by_walks(trusted(0.0))),
    "walks-rich": Idea("walks alone, the rich discriminant alone", by_walks(trusted(0.9999))),
    "walks-no-scatter": Idea(
        "walks alone, the rich discriminant does not see scatter",
        by_walks(constants(spectral_classifier, SCATTER_UNIT=0.0)),
    ),
    "walks-no-likeness": Idea(
        "walks alone, the rich discriminant does not see likeness",
        by_walks(constants(spectral_classifier, LIKENESS_UNIT=0.0)),
    ),
    "walks-pc": Idea(
        "walks alone, edges and classifier on principal components",
        by_walks(constants(propagation, clean_components=principal_components)),
    ),
    "walks-3x3": Idea(
        "walks alone, classifier on means of 3x3 pixels",
        by_walks(constants(propagation, smoothed=averaged_windows)),
    ),
    "walks-spectra": Idea(
        "walks alone, edges of spectra alone",
        by_walks(constants(propagation, CLASS_EDGE=0.0)),
    ),
    "walks-spectra-prior": Idea(
        "the same, three times as likely to end at the classifier",
        by_walks(constants(propagation, CLASS_EDGE=0.0, PRIOR=3 * propagation.PRIOR)),
    ),
    "walks-classes-2": Idea(
        "walks alone, edges of classes half as steep",
        by_walks(constants(propagation, CLASS_EDGE=2.0)),
    ),
    "walks-classes-8": Idea(
        "walks alone, edges of classes twice as steep",
        by_walks(constants(propagation, CLASS_EDGE=8.0)),
    ),
    "walks-8": Idea(
        "walks alone, edges of spectra twice as steep", by_walks(edges_times(2.0))
    ),
    "walks-2": Idea(
        "walks alone, edges of spectra half as steep", by_walks(edges_times(0.5))
    ),
    "walks-fewest": Idea(
        "walks alone, edges as where one field of each class is labelled",
        by_walks(constants(propagation, between=lambda ends, covered: ends[0])),
    ),
    "walks-most": Idea(
        "walks alone, edges as where all fields are labelled",
        by_walks(constants(propagation, between=lambda ends, covered: ends[1])),
    ),
    "walks-label-edge": Idea(
        "walks alone, edges as high near labelled pixels as elsewhere",
        by_walks(constants(propagation, LABEL_EDGE=(1.0, 1.0))),
    ),
    "walks-20": Idea(
        "walks alone, edges in 20 components", by_walks(constants(propagation, EDGE_COMPONENTS=20))
    ),
    "walks-prior": Idea(
        "walks alone, three times as likely to end at the classifier",
        by_walks(constants(propagation, PRIOR=3 * propagation.PRIOR)),
    ),
    "walks-far": Idea(
        "walks alone, a third as likely to",
        by_walks(constants(propagation, PRIOR=propagation.PRIOR / 3)),
    ),
    "walks-pixels": Idea(
        "walks alone, all pixels count alike in the classifier", by_walks(pixels_alike)
    ),
    "walks-taught": Idea(
        "walks alone, classifier taught by first walks where these are sure", by_taught_walks
    ),
    "walks-softer": Idea("walks alone, a softer classifier", by_walks(softer_classifier)),
    "walks-three": Idea(
        "walks alone, mean of three steepnesses of edges of spectra", by_three_walks
    ),
    "walks-components": Idea(
        "walks alone, mean of edges in 5, 8 and 12 components", by_walks_of_components
    ),
    "walks-means": Idea(
        "walks alone, then spectra compared with the classes' means round about",
        by_means_round_about,
    ),
    "walks-svm": Idea(
        "walks alone, an SVM in place of the classifier",
        by_walks(constants(KnownSpectra, learn=support_vectors)),
    ),
    "no-jitter": Idea("no gain and offset of bands", by_network(spectral_jitter=0.0)),
    "jitter": Idea("twice the gain and offset of bands", by_network(spectral_jitter=0.2)),
    "rate-low": Idea("half the learning rate", by_network(learning_rate=4e-3)),
    "rate-high": Idea("twice the learning rate", by_network(learning_rate=1.6e-2)),
    "sharp": Idea("labels not smoothed", by_network(label_smoothing=0.0)),
    "smooth": Idea("labels smoothed twice as much", by_network(label_smoothing=0.2)),
    "smooth-jitter": Idea(
        "gain and offset smooth in wavelength",
        by_network(constants(objectives, jitter_bands=smooth_jitter)),
    ),
    "dropped": Idea(
        "a tenth of the bands left out each step",
        by_network(constants(objectives, jitter_bands=dropped_bands)),
    ),
    "varied": Idea("spectra shifted as fields of a class differ", by_varied_fields),
    "contrast": Idea(
        "a contrast that makes fields of a class alike", by_network(contrast_between_fields)
    ),
    "teacher": Idea(
        "pseudo-labels of a moving average, alike of each class", by_network(moving_average_teacher)
    ),
    "teacher-labels": Idea(
        "the same on labels alone", by_network(moving_average_teacher, propagation=0.0)
    ),
    "renewed": Idea("walks renewed by the network, and a second network", by_renewed_walks),
    "wide": Idea(
        "2.4 times the cost: 64 channels throughout", by_network(network_of((64, 64), (64, 96)))
    ),
    "shallow": Idea(
        "one stage, which sees less of what is around", by_network(network_of((48, 32), (32,)))
    ),
    "deep": Idea("three stages", by_network(network_of((48, 32), (32, 64, 96)))),
    "five": Idea("five stages (fcn1s)", by_network(model="fcn1s")),
    "patch": Idea("a patch CNN of 15x15 pixels", by_network(model="patch15")),
    "patch-high": Idea(
        "the same, twice its learning rate", by_network(model="patch15", learning_rate=8e-3)
    ),
    "800": Idea("800 steps", by_network(steps=800)),
    "100": Idea("100 steps", by_network(steps=100)),
    "inductive": Idea("training pixels only", by_network(inductive=True, propagation=0.0)),
    "flips": Idea("eight flips and transposes when predicting", by_turned_scenes),
    "ensemble": Idea("three networks", by_members(3)),
    "crf": Idea("CRF behind it, default weights", by_refinement("crf")),
    "mrf": Idea("MRF behind it, default weights", by_refinement("mrf")),
}  # fmt: skip


# Measuring


@dataclass(frozen=True)
class Job:
    """One idea on one draw."""

    idea: str
    recipe: str
    seed: int

    @property
    def file(self) -> Path:
        """Where its figures are kept."""
        return RESULTS / f"{self.idea}_{self.recipe.replace(':', '-')}_{self.seed}.json"

    def run(self) -> dict[str, float]:
        """Map the scene and measure the map at the test pixels."""
        warnings.simplefilter("ignore")
        split = make_split(open_labels(str(LABELS)).labels, self.recipe, seed=self.seed)
        labels = IDEAS[self.idea].map(split, self.seed)
        truth = np.where(split.test, split.labels, 0)
        found = Accuracy.from_confusion(
            confusion_matrix(truth, labels.astype(np.uint16), int(split.labels.max()))
        )
        return {"oa": found.oa, "aa": found.aa}


def work(job: Job, threads: int) -> str:
    """Do one measurement and write its file; in a process of its own."""
    torch.set_num_threads(threads)
    figures = job.run()
    job.file.write_text(json.dumps(figures), "utf-8")
    return f"{job.idea:14s} {job.recipe:26s} {job.seed} OA {100 * figures['oa']:.2f}"


def table(recipes: list[str], seeds: int) -> list[str]:
    """The Markdown table of what has been measured: the recipe, then differences from it."""
    titles = " | ".join(f"{RECIPES[recipe]}, OA / AA" for recipe in recipes)
    lines = [f"| idea | draws | {titles} |", "|---" * (len(recipes) + 2) + "|"]
    for name, idea in IDEAS.items():
        cells = [cell(name, recipe, seeds) for recipe in recipes]
        if any(cells):
            draws = draws_of(name, recipes, seeds)
            lines.append(f"| {idea.text} | {draws} | " + " | ".join(cells) + " |")
    return lines


def draws_of(idea: str, recipes: list[str], seeds: int) -> int:
    """How many draws of the recipes that an idea has been measured on, at least."""
    draws = range(FIRST_SEED, FIRST_SEED + seeds)
    counts = [sum(Job(idea, recipe, seed).file.exists() for seed in draws) for recipe in recipes]
    return min(count for count in counts if count)


def cell(idea: str, recipe: str, seeds: int) -> str:
    """Mean OA and AA in per cent; of other ideas than the recipe, how far they are above it."""
    draws = range(FIRST_SEED, FIRST_SEED + seeds)
    jobs = [(Job(idea, recipe, seed), Job("recipe", recipe, seed)) for seed in draws]
    runs = [
        [json.loads(job.file.read_text("utf-8")) for job in pair]
        for pair in jobs
        if all(job.file.exists() for job in pair)
    ]
    if not runs:
        return ""
    if idea == "recipe":
        return " / ".join(f"{100 * mean(own[key] for own, _ in runs):.2f}" for key in ("oa", "aa"))
    return " / ".join(
        f"{100 * mean(own[key] - base[key] for own, base in runs):+.2f}" for key in ("oa", "aa")
    )


def command(given: argparse.Namespace) -> str:
    """What prints the same table."""
    like = f" --splits-like {given.splits_like}" if given.splits_like else ""
    return f"python -m benchmarks.ideas --seeds {given.seeds}{like}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="draws of each recipe")
    parser.add_argument("--workers", type=int, default=1, help="processes beside each other")
    parser.add_argument("--only", default=",".join(IDEAS), help="ideas, with commas between")
    parser.add_argument("--splits-like", default="", help="recipes that hold this text")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "ideas.md")
    given = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    draws = range(FIRST_SEED, FIRST_SEED + given.seeds)
    recipes = [recipe for recipe in RECIPES if given.splits_like in recipe]
    wanted = [
        Job(idea, recipe, seed)
        for seed in draws
        for idea in given.only.split(",")
        for recipe in recipes
    ]
    jobs = [job for job in wanted if not job.file.exists()]
    threads = max(1, (os.cpu_count() or 1) // given.workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.workers, context, max_tasks_per_child=1) as pool:
        for line in pool.map(work, jobs, [threads] * len(jobs)):
            print(line, flush=True)
    found, known = machine(), versions()
    lines = [
        f"Indian Pines, seeds {draws[0]} to {draws[-1]} (of split and training), on "
        f"{found['cores']} cores of {found['processor']}, torch {known['torch']}; printed by "
        f"`{command(given)}`. Points of OA and AA in per cent: the recipe's own in the first row, "
        "below it how far each idea is above or below it on the same draws.",
        "",
        *table(recipes, given.seeds),
    ]
    print("\n".join(lines))
    page = given.out.read_text("utf-8")
    given.out.write_text(FIGURES.sub(lambda _: "\n".join(lines) + "\n", page), "utf-8")


if __name__ == "__main__":
    main()
