"""Pseudo-labels: training labels propagated over scenes, whole or window by window.

Noise, spectral classifiers and the choice between them (``selection.py``) are shared by all windows
of all scenes, so that a class is the same in each. Smoothing and the random walker work on one
window. A whole scene that is held in memory is one window; of scenes too large for that, windows
have a halo about as wide as labels spread, only those with training pixels are processed, and no
more than ``MAX_WINDOWS`` of them, which bounds the time.

A network learns from the labels and from the likeliest class of every other pixel. The network
alone makes the map, so it needs no labels to map a scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.scene import Window, class_targets
from hsifcn.core.tiles import Tile, crop
from hsifcn.data.split_recipes import fields
from hsifcn.data.standardise import Scaling
from hsifcn.propagation.features import SMOOTHING, PixelFeatures, Projection, shapes
from hsifcn.propagation.mnf import band_product_sums, noise_sums
from hsifcn.propagation.random_walker import (
    TOLERANCE,
    WalkerParams,
    absorption,
    solve_random_walker,
    walker_weights,
)
from hsifcn.propagation.selection import (
    FOLDS,
    KERNEL_COMPONENTS,
    MAX_LABELLED,
    Evidence,
    LabelledPixels,
    SpectralPosterior,
    choose_classifiers,
    choose_prior_weight,
    stratified_sample,
)
from hsifcn.propagation.source import PseudoLabelSource

HALO = 32  # pixels round the core of a window
MAX_WINDOWS = 24  # 880,000 pixels: about a minute on two cores
# To choose from: labels spread over whole fields, over a few pixels, or hardly.
PRIOR_WEIGHTS = (4e-4, 2e-2, 2e-1)
# Power of the classifiers' probabilities that the walker gets, nearly one vote a pixel. Most votes
# in a field are right, where a mean of doubts stays a doubt. Chosen on all development scenes.
PRIOR_POWER = 16.0
ENOUGH_GROUPS = 300  # left out of the random walker: more are not needed to choose
TRIAL_PIXELS = 2**16  # of the windows that random walkers are chosen on
TRIAL_TOLERANCE = 0.05  # of probabilities there

LabelArray = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class PseudoLabels:
    """Classes of the unlabelled pixels of a scene, and how much each pixel counts in the loss.

    Attributes
    ----------
    classes : Tensor, (pixels,), int64
        Class (from 0) of every pixel, in flat order.
    weights : Tensor, (pixels,), float32
        0 for labelled pixels and where there is no measurement; they sum to 1.
    mean_confidence : float
        Mean over the counted pixels of the greatest probability; 0 where none counts.
    """

    classes: Tensor
    weights: Tensor
    mean_confidence: float = 0.0


@dataclass(frozen=True)
class PropagationWindow:
    """A part of a scene, or a whole scene, that labels are propagated over.

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
    labels: LabelArray

    def training_pixels(self) -> tuple[Tensor, Tensor]:
        """Flat indices and classes (from 0) of the training pixels of core and halo."""
        pixels = np.flatnonzero(self.labels)
        return torch.from_numpy(pixels), torch.from_numpy(class_targets(self.labels.flat[pixels]))

    def core_labels(self) -> LabelArray:
        """Labels of the core, (rows, cols)."""
        return self.labels[crop(self.tile)]

    def core_pixels(self) -> npt.NDArray[np.int64]:
        """Flat indices, in what is read, of the training pixels of the core."""
        own = np.zeros_like(self.labels)
        own[crop(self.tile)] = self.core_labels()
        return np.flatnonzero(own)


Read = Callable[[PropagationWindow], tuple[Tensor, Tensor | None]]
"""Standardised cube (1, bands, rows, cols) of a window, float32, and its valid pixels
(1, 1, rows, cols), bool, or None where all are."""


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
        Greatest probability, divided by the square root of what that class has in all windows:
        rare classes count more, as they do among labels. 0 where labelled or not measured.
    mean_confidence : float
        See ``PseudoLabels``.
    """

    scene: int
    core: Window
    classes: LabelArray
    weights: npt.NDArray[np.float32]
    mean_confidence: float


class Propagation:
    """Label propagation fitted to the labels of windows, all of which have some in their cores.

    Parameters
    ----------
    windows : sequence of PropagationWindow
    read : callable
    classes : int
    scaling : Scaling, optional
        What ``read`` standardises by; None where it gives spectra in the scene's own units.
    earlier : Propagation, optional
        Of other labels of the same scenes: its components and its choice are taken.

    Attributes
    ----------
    evidence : Evidence
        What was chosen, and why.
    """

    def __init__(
        self,
        windows: Sequence[PropagationWindow],
        read: Read,
        classes: int,
        scaling: Scaling | None = None,
        earlier: Propagation | None = None,
    ) -> None:
        self.windows, self.read, self.classes = windows, read, classes
        self.last: tuple[tuple[int, Tile], PixelFeatures, Tensor | None] | None = (
            earlier.last if earlier else None
        )
        self.projection: Projection = (
            earlier.projection if earlier else fit_projection(windows, read, scaling)
        )
        self.params = WalkerParams.choose([window.core_labels() for window in windows])
        labelled, places = self._labelled_pixels()
        self.evidence: Evidence = earlier.evidence if earlier else self._choose(labelled, places)
        self.posterior = SpectralPosterior.fit(self.evidence.classifiers, labelled, classes)

    def pseudo_labels(self) -> list[WindowPseudoLabels]:
        """Pseudo-labels of the core of each window."""
        confidence, best = [], []
        for window in self.windows:
            greatest, likeliest = self.core_probabilities(window).max(0)
            confidence.append(greatest * torch.from_numpy(window.core_labels() == 0))
            best.append(likeliest)
        mass = torch.zeros(self.classes)
        for own, likeliest in zip(confidence, best, strict=True):
            mass.index_add_(0, likeliest.flatten(), own.flatten())
        rarity = mass.clamp(min=1).rsqrt()
        return [
            WindowPseudoLabels(
                window.scene,
                window.tile.core,
                likeliest.numpy().astype(np.uint16),
                (own * rarity[likeliest]).numpy(),
                float(own.sum() / own.count_nonzero().clamp(min=1)),
            )
            for window, own, likeliest in zip(self.windows, confidence, best, strict=True)
        ]

    def core_probabilities(self, window: PropagationWindow) -> Tensor:
        """Class probabilities of the core of a window, (classes, rows, cols), on the processor."""
        pixels, targets = window.training_pixels()
        [(_, found)] = self._probabilities(
            window, self.posterior, [self.evidence.prior_weight], pixels, targets, TOLERANCE
        )
        return found[(slice(None), *crop(window.tile))].cpu()

    def trace(self, scene: int, row: int, col: int) -> PseudoLabelSource | None:
        """How one pixel came by its pseudo-label; None where no window has it in its core."""
        pixel = Window(row, col, 1, 1)
        holding = [
            window
            for window in self.windows
            if window.scene == scene and window.tile.core.intersection(pixel) == pixel
        ]
        if not holding:
            return None
        (window,) = holding
        read, prior_weight = window.tile.read, self.evidence.prior_weight
        weights, prior, valid = self._graph(window, self.posterior, window.training_pixels()[0])
        labelled = torch.from_numpy(window.labels > 0).to(prior.device)
        place = row - read.row, col - read.col
        ends = absorption(weights, prior_weight, valid, labelled, place).cpu().numpy()
        rows, cols = np.nonzero(window.labels)
        spectral = ends * (window.labels == 0)
        return PseudoLabelSource(
            window=read,
            ends=ends,
            rows=rows + read.row,
            cols=cols + read.col,
            classes=class_targets(window.labels[rows, cols]),
            shares=ends[rows, cols],
            spectral=(prior.cpu().double().numpy() * spectral).sum((1, 2)),
        )

    def _features(self, window: PropagationWindow) -> tuple[PixelFeatures, Tensor | None]:
        """Features of a window and its valid pixels; those of the last window are kept."""
        place = window.scene, window.tile
        if self.last is None or self.last[0] != place:
            self.last = None  # before the next are made, which take as much memory
            cube, valid = self.read(window)
            self.last = place, PixelFeatures.of(cube, valid, self.projection), valid
        return self.last[1], self.last[2]

    def _probabilities(
        self,
        window: PropagationWindow,
        posterior: SpectralPosterior,
        prior_weights: Sequence[float],
        pixels: Tensor,
        targets: Tensor,
        tolerance: float,
    ) -> Iterator[tuple[float, Tensor]]:
        """Each weight of the prior and what that random walker gives a window.

        Class probabilities are (classes, rows, cols), 0 where there is no measurement. Weights
        come from large to small: each walker starts from the one before, which is near it.
        """
        weights, prior, valid = self._graph(window, posterior, pixels)
        pixels, targets = pixels.to(prior.device), targets.to(prior.device)
        found = prior
        for prior_weight in sorted(prior_weights, reverse=True):
            found = solve_random_walker(
                weights, prior, prior_weight, valid, pixels, targets,
                start=found, tolerance=tolerance,
            )  # fmt: skip
            yield prior_weight, found if valid is None else found * valid[0, 0]

    def _graph(
        self, window: PropagationWindow, posterior: SpectralPosterior, pixels: Tensor
    ) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """Weights of the edges, the prior and the valid pixels of a window's random walker."""
        features, valid = self._features(window)
        prior = posterior.probabilities(features, slice(None), PRIOR_POWER).t()
        prior = prior.reshape(self.classes, *window.labels.shape).contiguous()
        pixels = pixels.to(prior.device)
        return walker_weights(features.edges, prior, valid, pixels, self.params), prior, valid

    def _labelled_pixels(self) -> tuple[LabelledPixels, npt.NDArray[np.int64]]:
        """Features of the training pixels of all cores, and (window, flat index) of each, (n, 2).

        At most ``MAX_LABELLED``, in the order of the scenes, so that windows of another size give
        the same sample.
        """
        places, order, targets = [], [], []
        groups: list[npt.NDArray[np.int64]] = []
        for number, window in enumerate(self.windows):
            own = window.core_pixels()
            labels, core = window.core_labels(), window.tile.core
            rows, cols = np.nonzero(labels)
            places.append(np.stack([np.full_like(own, number), own], axis=1))
            scene = np.full_like(rows, window.scene)
            order.append(np.stack([cols + core.col, rows + core.row, scene]))
            targets.append(class_targets(labels[rows, cols]))
            first = 0 if not groups else groups[-1].max() + 1
            groups.append(first + fields(labels)[rows, cols].astype(np.int64))
        sorted_places = np.lexsort(np.concatenate(order, axis=1))
        all_targets = np.concatenate(targets)[sorted_places]
        sample = sorted_places[np.sort(stratified_sample(all_targets, MAX_LABELLED))]
        where = np.concatenate(places)[sample]
        keys = [(space, s) for s in SMOOTHING for space in KERNEL_COMPONENTS]
        features: dict[tuple[str, float], npt.NDArray[np.float64]] = {}
        for number, window in enumerate(self.windows):
            mine = where[:, 0] == number
            if not mine.any():
                continue
            pixels = torch.from_numpy(where[mine, 1])
            found, _ = self._features(window)
            for space, smoothing in keys:
                values = found.pixels(space, smoothing, pixels).cpu().double().numpy()
                whole = features.setdefault(
                    (space, smoothing), np.empty((len(where), values.shape[1]))
                )
                whole[mine] = values
        labelled = LabelledPixels(
            features, np.concatenate(targets)[sample], np.concatenate(groups)[sample]
        )
        return labelled, where

    def _choose(self, labelled: LabelledPixels, places: npt.NDArray[np.int64]) -> Evidence:
        """Choose classifiers, then the weight of their prior, on the labels."""
        choice = choose_classifiers(labelled, self.classes)
        groups = len(np.unique(labelled.groups))
        folds = int(min(FOLDS, np.ceil(FOLDS * ENOUGH_GROUPS / groups)))
        tried = self._trial_windows(labelled, places)
        taken = np.isin(places[:, 0], tried)
        few, where = labelled.subset(taken), places[taken]

        def predict(held: npt.NDArray[np.bool_]) -> dict[float, npt.NDArray[np.float64]]:
            """Log probabilities of left-out pixels, by the weight of the prior."""
            posterior = SpectralPosterior.fit(choice.weights, few.subset(~held), self.classes)
            found = {one: np.zeros((int(held.sum()), self.classes)) for one in PRIOR_WEIGHTS}
            for number in tried:
                window = self.windows[number]
                left_out = where[held & (where[:, 0] == number), 1]
                pixels, targets = window.training_pixels()
                kept = torch.from_numpy(~np.isin(pixels.numpy(), left_out))
                for one, probabilities in self._probabilities(
                    window, posterior, PRIOR_WEIGHTS, pixels[kept], targets[kept], TRIAL_TOLERANCE
                ):
                    own = probabilities.flatten(1)[:, torch.from_numpy(left_out)].t()
                    logs = own.clamp(min=1e-20).log().cpu().double().numpy()
                    found[one][where[held, 0] == number] = logs
            return found

        chosen = choose_prior_weight(PRIOR_WEIGHTS, few, predict, folds)
        left_out = len(np.unique(labelled.groups[labelled.can_be_left_out()]))
        return Evidence(left_out, choice.weights, choice.accuracy, *chosen)

    def _trial_windows(self, labelled: LabelledPixels, places: npt.NDArray[np.int64]) -> list[int]:
        """Windows with the most groups of labels, of ``TRIAL_PIXELS`` pixels or one at least."""
        groups = [
            len(np.unique(labelled.groups[places[:, 0] == number]))
            for number in range(len(self.windows))
        ]
        chosen: list[int] = []
        pixels = 0
        for number in np.argsort(groups)[::-1].tolist():
            pixels += self.windows[number].labels.size
            if chosen and pixels > TRIAL_PIXELS:
                break
            chosen.append(number)
        return sorted(chosen)


def fit_projection(
    windows: Sequence[PropagationWindow], read: Read, scaling: Scaling | None = None
) -> Projection:
    """Components shared by all windows, each of whose pixels counts once."""
    sums = []
    for window in windows:
        cube, valid = read(window)
        rows, cols = crop(window.tile)
        core = cube[0, :, rows, cols]
        measured = None if valid is None else valid[:, :, rows, cols]
        shape = shapes(core, scaling)
        sums.append(
            (
                *noise_sums(core, measured),
                band_product_sums(core),
                band_product_sums(shape),
                shape.flatten(1).double().sum(1).cpu().numpy(),
                core[0].numel(),
            )
        )
    noises, counts, signals, products, totals, pixels = zip(*sums, strict=True)
    mean = np.sum(totals, axis=0) / sum(pixels)
    covariance = np.sum(products, axis=0) / sum(pixels) - np.outer(mean, mean)
    noise = np.sum(noises, axis=0) / max(1, sum(counts))
    return Projection.fit(noise, np.sum(signals, axis=0), covariance, scaling)


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
