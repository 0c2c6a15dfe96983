"""Scenes too large to be trained on whole: crops of them, drawn anew for each step and read then.

Crops lie round training pixels: a class is drawn first, each as likely as another, then one of its
pixels, then the place of the crop round it, so that rare classes and far corners come up. The scene
is never held: what a step needs is read from the file and standardised on the way.

What needs no gradient, evaluation and the batch-norm update at the end, reads tiles that lie as
those of prediction do, with a halo.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.scene import Window, class_targets
from hsifcn.core.tiles import Tile, crop, plan_tiles
from hsifcn.data.standardise import Scaling, read_bands, valid_pixels
from hsifcn.propagation.pseudo_labels import (
    PseudoLabels,
    WindowPseudoLabels,
    pseudo_labels_in,
)
from hsifcn.training.ranks import ALONE, Ranks
from hsifcn.training.scenes import LabelArray, LabelledScene, TrainingScene

EVALUATION_PIXELS = 2**18  # read at most for an evaluation: about two steps
BATCH_NORM_PIXELS = 2**19  # read for the batch-norm update at the end


@dataclass(frozen=True)
class CropSize:
    """How scenes are cut.

    Attributes
    ----------
    side : int
        Rows and columns of a crop that is learnt from.
    count, batch : int
        Crops a step, and crops that the network is given at once.
    core, halo, stride : int
        Of the tiles of an evaluation; see ``tiles.plan_tiles``.
    window : int
        Side of the core of the windows that labels are propagated over; 0 where none fits.
    """

    side: int
    count: int
    batch: int
    core: int
    halo: int
    stride: int
    window: int = 0

    @property
    def tile_pixels(self) -> int:
        """Pixels read for a tile of an evaluation."""
        return (self.core + 2 * self.halo) ** 2

    @property
    def tiles_at_once(self) -> int:
        """Tiles that the network is given at once: no more pixels than of crops."""
        return max(1, self.batch * self.side**2 // self.tile_pixels)


@dataclass(frozen=True)
class DrawnCrops:
    """Crops of one size that the network is given at once, with their labels.

    Attributes
    ----------
    shape : (rows, cols)
        Of each.
    scenes : list of int
        Number of the scene that each is cut from.
    tiles : list of Tile
    pixels, targets : Tensor, (n,), int64
        Flat indices (over crops, rows and columns) and classes (from 0) of the labelled pixels in
        the cores.
    """

    shape: tuple[int, int]
    scenes: list[int]
    tiles: list[Tile]
    pixels: Tensor
    targets: Tensor


class CroppedScenes:
    """Scenes of which every step sees a few crops.

    Parameters
    ----------
    scenes : sequence of LabelledScene
    bands : ndarray, (bands of the scene,), bool
        Those used.
    scaling : Scaling
    size : CropSize
    seed : int
        Of the tiles of evaluations and of the batch-norm update.
    device : torch.device
    ranks : Ranks
        Each draws all crops of a step and reads its share of them.
    """

    whole = False

    def __init__(
        self,
        scenes: Sequence[LabelledScene],
        bands: npt.NDArray[np.bool_],
        scaling: Scaling,
        size: CropSize,
        *,
        seed: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.scenes, self.bands, self.scaling = scenes, bands, scaling
        self.size, self.seed, self.device, self.ranks = size, seed, device, ranks
        self.pixels = [np.flatnonzero(scene.training) for scene in scenes]
        labels = np.concatenate(
            [scene.training.flat[own] for scene, own in zip(scenes, self.pixels, strict=True)]
        )
        self.by_class = np.argsort(labels, kind="stable")  # among the pixels of all scenes
        self.class_counts = np.bincount(labels)
        self.firsts = np.cumsum([0, *(len(pixels) for pixels in self.pixels)])
        self.validation = self._validation_tiles()
        self.batch_norm_inputs = self._batch_norm_tiles()
        self.pseudo_labels: list[WindowPseudoLabels] = []
        self.n_validation = int(ranks.total(sum(len(crops.targets) for crops in self.validation)))

    def counts(self, classes: int) -> npt.NDArray[np.int64]:
        """Training pixels of each class."""
        return np.append(self.class_counts[1:], np.zeros(classes, np.int64))[:classes]

    def with_pseudo_labels(self, found: Sequence[WindowPseudoLabels]) -> CroppedScenes:
        """The same scenes with pseudo-labels."""
        other = copy.copy(self)
        other.pseudo_labels = list(found)
        return other

    def draw(self, rng: np.random.Generator) -> list[DrawnCrops]:
        """The crops of a step; those of one size are given to the network together."""
        scenes, tiles = [], []
        for _ in range(self.size.count):
            number, row, col = self.draw_pixel(rng)
            scenes.append(number)
            rows, cols, _ = self.scenes[number].scene.shape
            window = crop_round(rows, cols, row, col, self.size.side, rng)
            tiles.append(Tile(window, window))
        training = [scene.training for scene in self.scenes]
        return self._batches(scenes, tiles, training, self.size.batch)

    def draw_pixel(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """A training pixel of a class drawn before: number of its scene, row and column."""
        label = int(rng.choice(np.flatnonzero(self.class_counts)))
        first = int(self.class_counts[:label].sum())
        place = int(self.by_class[first + rng.integers(self.class_counts[label])])
        number = int(np.searchsorted(self.firsts, place, side="right")) - 1
        pixel = int(self.pixels[number][place - self.firsts[number]])
        return number, *divmod(pixel, self.scenes[number].scene.shape[1])

    def _grid(self, number: int) -> tuple[list[Tile], int]:
        """All tiles of a scene, and how many lie side by side."""
        rows, cols, _ = self.scenes[number].scene.shape
        core, halo, stride = self.size.core, self.size.halo, self.size.stride
        tiles = plan_tiles(rows, cols, tile=(core, core), halo=halo, stride=stride)
        return tiles, -(-cols // core)

    def _validation_tiles(self) -> list[DrawnCrops]:
        """Tiles with validation pixels, the same in every evaluation."""
        found: list[tuple[int, Tile]] = []
        for number, scene in enumerate(self.scenes):
            rows, cols = np.nonzero(scene.validation)
            tiles, across = self._grid(number)
            cells = np.unique(rows // self.size.core * across + cols // self.size.core)
            found += [(number, tiles[cell]) for cell in cells]
        order = np.random.default_rng([self.seed, 0, 1]).permutation(len(found))
        taken = [found[place] for place in order[: -(-EVALUATION_PIXELS // self.size.tile_pixels)]]
        scenes, tiles = [number for number, _ in taken], [tile for _, tile in taken]
        validation = [scene.validation for scene in self.scenes]
        return self._batches(scenes, tiles, validation, self.size.tiles_at_once)

    def _batch_norm_tiles(self) -> list[DrawnCrops]:
        """Tiles round training pixels drawn as for a step: the inputs that were learnt from."""
        rng = np.random.default_rng([self.seed, 0, 2])
        grids = [self._grid(number) for number in range(len(self.scenes))]
        found: dict[tuple[int, int], Tile] = {}  # each tile once
        for _ in range(-(-BATCH_NORM_PIXELS // self.size.tile_pixels)):
            number, row, col = self.draw_pixel(rng)
            tiles, across = grids[number]
            cell = row // self.size.core * across + col // self.size.core
            found[number, cell] = tiles[cell]
        scenes = [number for number, _ in found]
        training = [scene.training for scene in self.scenes]
        return self._batches(scenes, list(found.values()), training, self.size.tiles_at_once)

    def _batches(
        self, scenes: list[int], tiles: list[Tile], labels: Sequence[LabelArray], at_once: int
    ) -> list[DrawnCrops]:
        """Put crops of one size together, with the labelled pixels of their cores.

        Of several ranks each gets its share of every batch, which may be none.
        """
        sizes: dict[tuple[int, int], list[int]] = {}
        for place, tile in enumerate(tiles):
            sizes.setdefault((tile.read.rows, tile.read.cols), []).append(place)
        batches = []
        for shape, places in sizes.items():
            for first in range(0, len(places), at_once):
                some = self.ranks.share(places[first : first + at_once])
                batches.append(
                    _with_labels(shape, [scenes[i] for i in some], [tiles[i] for i in some], labels)
                )
        return batches

    def read(self, crops: DrawnCrops, *, cores_only: bool = False) -> TrainingScene:
        """Read crops and standardise them.

        Parameters
        ----------
        crops : DrawnCrops
        cores_only : bool
            Let only the cores count in batch statistics.

        Returns
        -------
        TrainingScene
            Its labelled pixels stand for training and for validation.
        """
        shape = len(crops.tiles), *crops.shape
        cube = np.empty((*shape, int(self.bands.sum())), np.float32)
        counted = np.empty(shape, bool)
        for place, (number, tile) in enumerate(zip(crops.scenes, crops.tiles, strict=True)):
            cube[place], counted[place] = self._read(number, tile.read)
            if cores_only:
                core = np.zeros_like(counted[place])
                core[crop(tile)] = True
                counted[place] &= core
        all_count = self.ranks.all(bool(counted.all()))
        mask = None if all_count else torch.from_numpy(counted)[:, None].to(self.device)
        labelled = crops.pixels.to(self.device), crops.targets.to(self.device)
        channels_last = torch.from_numpy(cube).permute(0, 3, 1, 2)
        pseudo = self._pseudo_labels_of(crops) if self.pseudo_labels else None
        return TrainingScene(channels_last.to(self.device), mask, *labelled, *labelled, pseudo)

    def _read(
        self, number: int, window: Window
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Standardised spectra (rows, cols, bands), and which count in batch statistics."""
        held = self.scenes[number]
        block = read_bands(held.scene, window, self.bands)
        valid = valid_pixels(block, held.scene.nodata)
        counted = valid if held.counted is None else held.counted[window.slices]
        return self.scaling.apply(block, valid), counted

    def _pseudo_labels_of(self, crops: DrawnCrops) -> PseudoLabels:
        """Pseudo-labels of crops; the weights sum to one, or are 0 where there are none."""
        pairs = [
            pseudo_labels_in(self.pseudo_labels, number, tile.read)
            for number, tile in zip(crops.scenes, crops.tiles, strict=True)
        ]
        weights = np.concatenate([np.empty(0, np.float32), *(own.ravel() for _, own in pairs)])
        classes = np.concatenate([np.empty(0, np.int64), *(own.ravel() for own, _ in pairs)])
        total = max(self.ranks.total(weights.sum()), 1e-12)
        return PseudoLabels(
            torch.from_numpy(classes).to(self.device),
            torch.from_numpy(weights / total).to(self.device),
        )


def crop_round(
    rows: int, cols: int, row: int, col: int, side: int, rng: np.random.Generator
) -> Window:
    """A window somewhere round a pixel of a scene, as large as the scene at most."""
    first_row, first_col = (
        int(rng.integers(max(0, pixel - side + 1), max(0, min(pixel, length - side)) + 1))
        for pixel, length in ((row, rows), (col, cols))
    )
    return Window(first_row, first_col, min(rows, side), min(cols, side))


def _with_labels(
    shape: tuple[int, int], scenes: list[int], tiles: list[Tile], labels: Sequence[LabelArray]
) -> DrawnCrops:
    pixels, targets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for place, (number, tile) in enumerate(zip(scenes, tiles, strict=True)):
        own = np.zeros((tile.read.rows, tile.read.cols), np.uint16)
        own[crop(tile)] = labels[number][tile.core.slices]
        found = np.flatnonzero(own)
        pixels.append(found + place * own.size)
        targets.append(class_targets(own.flat[found]))
    return DrawnCrops(
        shape,
        scenes,
        tiles,
        torch.from_numpy(np.concatenate(pixels)),
        torch.from_numpy(np.concatenate(targets)),
    )
