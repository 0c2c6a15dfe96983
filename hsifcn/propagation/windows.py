"""Labels carried over scenes too large to be held: window by window, as ``propagation.py`` does.

Components and classifier are those of all windows together, so that a class looks the same in
each; edges and walks are those of one window, which is given a halo about as wide as walks go.
Only windows that hold training pixels are looked at, as many as keep the time within bounds, and
only they are held.
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
from hsifcn.propagation.label_coverage import agreement, coverage
from hsifcn.propagation.mnf import clean_directions, noise_sums, projected, signal_sums
from hsifcn.propagation.random_walker import counting_by_class, pace_of, seen_in, walks
from hsifcn.propagation.spectral_prior import MOST_KNOWN, KnownSpectra, known_spectra, some_of_each

HALO = 32  # pixels round the core of a window
MOST_WINDOWS = 24  # 880,000 pixels: about a minute on two cores

Labels = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class LabelledWindow:
    """A part of a scene that labels are carried over.

    Attributes
    ----------
    scene : int
        Number of the scene.
    tile : Tile
        What is read, and its core, of which something is learnt.
    labels : ndarray, (rows, cols) of ``tile.read``, uint16
        Of the training pixels, 0 elsewhere.
    """

    scene: int
    tile: Tile
    labels: Labels

    def known(self) -> tuple[Tensor, Tensor]:
        """Flat indices and classes (from 0) of the training pixels, core and halo."""
        pixels = np.flatnonzero(self.labels)
        return torch.from_numpy(pixels), torch.from_numpy(class_targets(self.labels.flat[pixels]))


Read = Callable[[LabelledWindow], tuple[Tensor, Tensor | None]]
"""Standardised cube of a window, and its valid pixels or None: as ``propagate`` takes them."""


@dataclass(frozen=True)
class Carried:
    """Classes carried over the core of a window.

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


def carry_over_windows(
    windows: Sequence[LabelledWindow], read: Read, classes: int
) -> list[Carried]:
    """Carry labels over windows, all of which hold training pixels in their cores.

    A pixel counts by its probability and by how rare its class is in all windows together; see
    ``propagation.propagated_labels``.
    """
    directions = shared_directions(windows, read)
    cores = [window.labels[crop(window.tile)] for window in windows]
    covered = coverage(cores)
    learnt = shared_spectra(windows, read, directions, covered)
    classifier, pace = learnt.learn(classes), pace_of(learnt, agreement(cores))
    found = []
    for window in windows:
        pixels, targets = window.known()
        cube, valid = read(window)
        edges, seen = seen_in(projected(cube, directions), valid, covered)
        pixels, targets = pixels.to(cube.device), targets.to(cube.device)
        said = walks(edges, classifier.probabilities(seen), valid, pixels, targets, pace)
        weights, best = said.max(0)
        weights.view(-1)[pixels] = 0
        found.append((weights[crop(window.tile)].cpu(), best[crop(window.tile)].cpu()))
    sizes = [weights.numel() for weights, _ in found]
    likeliest = torch.cat([best.flatten() for _, best in found])
    counting = counting_by_class(
        likeliest, torch.cat([weights.flatten() for weights, _ in found]), classes
    )
    return [
        Carried(
            window.scene,
            window.tile.core,
            best.reshape(own.shape).numpy().astype(np.uint16),
            weights.reshape(own.shape).numpy(),
        )
        for window, (own, _), best, weights in zip(
            windows, found, torch.split(likeliest, sizes), torch.split(counting, sizes), strict=True
        )
    ]


def shared_directions(windows: Sequence[LabelledWindow], read: Read) -> npt.NDArray[np.float32]:
    """Directions of the minimum noise fractions of all windows together."""
    sums = []
    for window in windows:
        cube, valid = read(window)
        rows, cols = crop(window.tile)  # so that no pixel counts twice
        core = cube[0, :, rows, cols]
        measured = None if valid is None else valid[:, :, rows, cols]
        sums.append((*noise_sums(core, measured), signal_sums(core)))
    noises, counts, signals = zip(*sums, strict=True)
    return clean_directions(np.sum(noises, axis=0) / max(1, sum(counts)), np.sum(signals, axis=0))


def shared_spectra(
    windows: Sequence[LabelledWindow],
    read: Read,
    directions: npt.NDArray[np.float32],
    covered: float,
) -> KnownSpectra:
    """What the classifier learns from: training pixels of all cores, as many as it takes.

    They come in the order of the scenes, so that where only some are taken, windows of any size
    take the same.
    """
    places = np.concatenate([places_of_core(window) for window in windows], axis=1)
    order = np.lexsort(places[:3])  # by scene, row, column
    taken = np.zeros(len(order), bool)
    taken[order[some_of_each(places[3, order], MOST_KNOWN)]] = True
    found: list[KnownSpectra] = []
    first_pixel = first_field = 0
    for window in windows:
        cube, valid = read(window)
        _, seen = seen_in(projected(cube, directions), valid, covered)
        labels = window.labels[crop(window.tile)]
        pixels = np.flatnonzero(labels)
        targets = torch.from_numpy(class_targets(labels.flat[pixels])).to(cube.device)
        core = seen.crop(*crop(window.tile))
        known = known_spectra(core, torch.from_numpy(pixels).to(cube.device), targets)
        fields = first_field + known.fields  # of another window, other fields
        own = taken[first_pixel : first_pixel + len(pixels)]
        found.append(replace(known, fields=fields).taken(own))
        first_pixel, first_field = first_pixel + len(pixels), fields.max() + 1
    return KnownSpectra(
        np.concatenate([known.smooth for known in found]),
        np.concatenate([known.scatter for known in found]),
        np.concatenate([known.targets for known in found]),
        np.concatenate([known.fields for known in found]),
    ).taken(np.lexsort(places[:3, taken]))


def places_of_core(window: LabelledWindow) -> npt.NDArray[np.int64]:
    """Column, row, scene and class (from 0) of the training pixels of a core, (4, n)."""
    labels = window.labels[crop(window.tile)]
    rows, cols = np.nonzero(labels)
    first, scenes = window.tile.core, np.full_like(rows, window.scene)
    targets = class_targets(labels[rows, cols])
    return np.stack([cols + first.col, rows + first.row, scenes, targets])


def cut(
    carried: Sequence[Carried], scene: int, window: Window
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Classes and weights of a window of a scene, both (rows, cols); weight 0 where none are."""
    classes = np.zeros((window.rows, window.cols), np.int64)
    weights = np.zeros((window.rows, window.cols), np.float32)
    for one in carried:
        common = window.intersection(one.core)
        if one.scene == scene and common.rows > 0 and common.cols > 0:
            there = common.slices_in(one.core)
            classes[common.slices_in(window)] = one.classes[there]
            weights[common.slices_in(window)] = one.weights[there]
    return classes, weights
