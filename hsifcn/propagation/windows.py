"""Pseudo-labels of scenes too large to be held: labels propagated window by window.

The MNF transform, the spectral classifier and the parameters of the random walker are fitted on all
windows together, so that a class is the same in each. Smoothing and the random walker work on one
window, which has a halo about as wide as labels spread. Only windows with training pixels are
processed, and no more than ``MAX_WINDOWS`` of them, which bounds the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.scene import Window, class_targets
from hsifcn.core.tiles import Tile, crop
from hsifcn.propagation.label_coverage import label_coverage, nearest_label_agreement
from hsifcn.propagation.mnf import band_product_sums, mnf_fit, mnf_project, noise_sums
from hsifcn.propagation.random_walker import (
    WalkerParams,
    balance_classes,
    choose_params,
    edges_and_features,
    solve_random_walker,
    walker_weights,
)
from hsifcn.propagation.spectral_prior import (
    MAX_LABELLED,
    LabelledSpectra,
    SpectralClassifier,
    labelled_spectra,
    stratified_sample,
)

HALO = 32  # pixels round the core of a window
MAX_WINDOWS = 24  # 880,000 pixels: about a minute on two cores

Labels = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class PropagationWindow:
    """A part of a scene that labels are propagated over.

    Attributes
    ----------
    scene : int
        Number of the scene.
    tile : Tile
        What is read, and its core, whose pseudo-labels are kept.
    labels : ndarray, (rows, cols) of ``tile.read``, uint16
        Of the training pixels, 0 elsewhere.
    """

    scene: int
    tile: Tile
    labels: Labels

    def training_pixels(self) -> tuple[Tensor, Tensor]:
        """Flat indices and classes (from 0) of the training pixels of core and halo."""
        pixels = np.flatnonzero(self.labels)
        return torch.from_numpy(pixels), torch.from_numpy(class_targets(self.labels.flat[pixels]))


Read = Callable[[PropagationWindow], tuple[Tensor, Tensor | None]]
"""Standardised cube of a window, and its valid pixels or None: as ``propagate`` takes them."""


@dataclass(frozen=True)
class WindowPseudoLabels:
    """Pseudo-labels of the core of a window.

    Attributes
    ----------
    scene : int
        Number of the scene.
    core : Window
    classes : ndarray, (rows, cols), uint16
        From 0.
    weights : ndarray, (rows, cols), float32
        How much each pixel counts; 0 where labelled or without a measurement.
    """

    scene: int
    core: Window
    classes: Labels
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True)
class SharedFit:
    """What is fitted on all windows together."""

    directions: npt.NDArray[np.float32]
    coverage: float
    classifier: SpectralClassifier
    params: WalkerParams


def propagate_over_windows(
    windows: Sequence[PropagationWindow], read: Read, classes: int
) -> list[WindowPseudoLabels]:
    """Propagate labels over windows, all of which hold training pixels in their cores.

    A pixel counts by its greatest probability and by how rare its class is in all windows together,
    as in ``random_walker.make_pseudo_labels``.
    """
    shared = fit_shared(windows, read, classes)
    found = [propagate_window(window, read, shared) for window in windows]
    sizes = [weights.numel() for weights, _ in found]
    likeliest = torch.cat([best.flatten() for _, best in found])
    confidence = torch.cat([weights.flatten() for weights, _ in found])
    balanced = balance_classes(likeliest, confidence, classes)
    return [
        WindowPseudoLabels(
            window.scene,
            window.tile.core,
            best.reshape(own.shape).numpy().astype(np.uint16),
            weights.reshape(own.shape).numpy(),
        )
        for window, (own, _), best, weights in zip(
            windows, found, torch.split(likeliest, sizes), torch.split(balanced, sizes), strict=True
        )
    ]


def fit_shared(windows: Sequence[PropagationWindow], read: Read, classes: int) -> SharedFit:
    """Fit the MNF transform, the spectral classifier and the parameters on all windows."""
    directions = fit_shared_mnf(windows, read)
    cores = [window.labels[crop(window.tile)] for window in windows]
    coverage = label_coverage(cores)
    labelled = shared_labelled_spectra(windows, read, directions, coverage)
    classifier = labelled.fit_classifier(classes)
    params = choose_params(labelled, nearest_label_agreement(cores))
    return SharedFit(directions, coverage, classifier, params)


def propagate_window(
    window: PropagationWindow, read: Read, shared: SharedFit
) -> tuple[Tensor, Tensor]:
    """Greatest probability (0 where labelled) and likeliest class of the core of a window."""
    pixels, targets = window.training_pixels()
    cube, valid = read(window)
    components = mnf_project(cube, shared.directions)
    edges, features = edges_and_features(components, valid, shared.coverage)
    prior = shared.classifier.probabilities(features)
    pixels, targets = pixels.to(cube.device), targets.to(cube.device)
    edge_weights = walker_weights(edges, prior, valid, pixels, shared.params)
    probabilities = solve_random_walker(
        edge_weights, prior, shared.params.prior_weight, valid, pixels, targets
    )
    weights, best = probabilities.max(0)
    weights.view(-1)[pixels] = 0
    return weights[crop(window.tile)].cpu(), best[crop(window.tile)].cpu()


def fit_shared_mnf(windows: Sequence[PropagationWindow], read: Read) -> npt.NDArray[np.float32]:
    """Directions of the minimum noise fractions of all windows together."""
    sums = []
    for window in windows:
        cube, valid = read(window)
        rows, cols = crop(window.tile)  # so that no pixel counts twice
        core = cube[0, :, rows, cols]
        measured = None if valid is None else valid[:, :, rows, cols]
        sums.append((*noise_sums(core, measured), band_product_sums(core)))
    noises, counts, signals = zip(*sums, strict=True)
    return mnf_fit(np.sum(noises, axis=0) / max(1, sum(counts)), np.sum(signals, axis=0))


def shared_labelled_spectra(
    windows: Sequence[PropagationWindow],
    read: Read,
    directions: npt.NDArray[np.float32],
    coverage: float,
) -> LabelledSpectra:
    """Features of the training pixels of all cores, at most ``MAX_LABELLED`` of them.

    Pixels are in the order of the scenes, so that a sample does not depend on the windows.
    """
    places = np.concatenate([places_of_core(window) for window in windows], axis=1)
    order = np.lexsort(places[:3])  # by scene, row, column
    sampled = np.zeros(len(order), bool)
    sampled[order[stratified_sample(places[3, order], MAX_LABELLED)]] = True
    found: list[LabelledSpectra] = []
    first_pixel = first_field = 0
    for window in windows:
        cube, valid = read(window)
        _, features = edges_and_features(mnf_project(cube, directions), valid, coverage)
        labels = window.labels[crop(window.tile)]
        pixels = np.flatnonzero(labels)
        targets = torch.from_numpy(class_targets(labels.flat[pixels])).to(cube.device)
        core = features.crop(*crop(window.tile))
        labelled = labelled_spectra(core, torch.from_numpy(pixels).to(cube.device), targets)
        fields = first_field + labelled.fields  # each window has fields of its own
        own = sampled[first_pixel : first_pixel + len(pixels)]
        found.append(replace(labelled, fields=fields).subset(own))
        first_pixel, first_field = first_pixel + len(pixels), fields.max() + 1
    return LabelledSpectra(
        np.concatenate([labelled.smooth for labelled in found]),
        np.concatenate([labelled.variance for labelled in found]),
        np.concatenate([labelled.targets for labelled in found]),
        np.concatenate([labelled.fields for labelled in found]),
    ).subset(np.lexsort(places[:3, sampled]))


def places_of_core(window: PropagationWindow) -> npt.NDArray[np.int64]:
    """Column, row, scene and class (from 0) of the training pixels of a core, (4, n)."""
    labels = window.labels[crop(window.tile)]
    rows, cols = np.nonzero(labels)
    first, scenes = window.tile.core, np.full_like(rows, window.scene)
    targets = class_targets(labels[rows, cols])
    return np.stack([cols + first.col, rows + first.row, scenes, targets])


def pseudo_labels_in(
    found: Sequence[WindowPseudoLabels], scene: int, window: Window
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Classes and weights of a window of a scene, both (rows, cols); weight 0 where none are."""
    classes = np.zeros((window.rows, window.cols), np.int64)
    weights = np.zeros((window.rows, window.cols), np.float32)
    for one in found:
        common = window.intersection(one.core)
        if one.scene == scene and common.rows > 0 and common.cols > 0:
            there = common.slices_in(one.core)
            classes[common.slices_in(window)] = one.classes[there]
            weights[common.slices_in(window)] = one.weights[there]
    return classes, weights
