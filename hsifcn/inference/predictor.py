"""From a model and a scene to scores and a label map, tile by tile."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.errors import MismatchError
from hsifcn.core.process import Stopwatch
from hsifcn.core.scene import Scene, Window, shifted_band
from hsifcn.core.tiles import Tile, crop
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.map_writer import MappedTile
from hsifcn.inference.refine.potentials import FEATURES, Refinement, reduced_spectra
from hsifcn.inference.spectral_classifier import SpectralScorer, SpectralShare
from hsifcn.inference.streaming import Block, read_blocks
from hsifcn.inference.tiling import TilePlan, plan_scene
from hsifcn.models import geometry
from hsifcn.models.folding import RawSceneNetwork

STEM_PIXELS = 8192  # that the stem sees at once on a processor: their spectra stay in its cache
TRIAL_SIDE = 96  # pixels; of the square that is scored to estimate how long a scene takes


class Predictor:
    """A model ready to score windows of scenes.

    Parameters
    ----------
    bundle : Bundle
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    refinement : Refinement, optional
        What to do to the scores before they become classes.
    approximate : bool
        Cut scenes into tiles even where the refinement is not exact in them.
    dtype : torch.dtype
        What the network computes in; scores are float32 in any case.
    spectral_share : SpectralShare, optional
        How much the spectral classifier counts beside the network; see ``rotation.py``.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "cpu",
        refinement: Refinement | None = None,
        approximate: bool = False,
        dtype: torch.dtype = torch.float32,
        spectral_share: SpectralShare | None = None,
    ) -> None:
        self.bundle = bundle
        self.spectral_share = spectral_share
        self.refinement = refinement
        self.approximate = approximate
        self.device = torch.device(device)
        self.geometry = geometry(bundle.spec)
        network = RawSceneNetwork(bundle.network(), bundle.scaling, dtype)
        self.network = network.to(self.device)
        classifier = bundle.spectral_classifier
        self.spectral: SpectralScorer | None = None
        known = bundle.applicability
        self.applicability = None if known is None else known.to(self.device)
        if spectral_share is not None and classifier is not None:
            self.spectral = SpectralScorer(classifier, self.device)

    def sharing(
        self, spectral_share: SpectralShare, refinement: Refinement | None = None
    ) -> Predictor:
        """The same, with a share of the spectral classifier, and a refinement unless it has one."""
        return Predictor(
            self.bundle,
            self.device.type,
            self.refinement or refinement,
            self.approximate,
            self.network.dtype,
            spectral_share,
        )

    @property
    def precision(self) -> str:
        """What the network computes in: ``float32`` or ``bfloat16``."""
        return str(self.network.dtype).removeprefix("torch.")

    def scores(self, scene: Scene, window: Window) -> tuple[Tensor, npt.NDArray[np.bool_]]:
        """Score a window as if it were a scene of its own.

        Returns
        -------
        logits : Tensor, (classes, rows, cols), float32, on the predictor's device
        valid : ndarray, (rows, cols), bool
            False where the scene holds no measurement; the logits there mean nothing.
        """
        with closing(self._read(scene, [window])) as blocks:
            logits, _, valid = self.score_blocks(blocks, window)
        self._calibrate(logits)
        return logits, valid

    def scores_and_spectra(
        self, scene: Scene, window: Window
    ) -> tuple[Tensor, Tensor, npt.NDArray[np.bool_]]:
        """Score a window; its ``reduced_spectra``, (features, rows, cols), come second."""
        with closing(self._read(scene, [window])) as blocks:
            logits, spectra, valid = self.score_blocks(blocks, window, with_spectra=True)
        assert spectra is not None
        return logits, spectra, valid

    def _read(self, scene: Scene, windows: Sequence[Window]) -> Generator[Block]:
        return read_blocks(scene, windows, self.bundle.good_bands)

    @torch.inference_mode()
    def score_blocks(
        self,
        blocks: Iterator[Block],
        window: Window,
        *,
        with_spectra: bool = False,
        dissimilarity: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, npt.NDArray[np.bool_]]:
        """Score a window of which the pixels come in blocks; as ``scores_and_spectra``.

        ``dissimilarity``, (pixels,), is filled where it is given; see ``applicability.py``.
        """
        rows, cols = window.rows, window.cols
        valid = np.empty(rows * cols, bool)
        spectra = None
        if with_spectra:
            groups = min(FEATURES, self.bundle.spec.bands)
            spectra = torch.empty((len(valid), groups), device=self.device)
        by_spectrum = None
        if self.spectral is not None:
            by_spectrum = torch.empty((len(valid), self.bundle.spec.classes), device=self.device)
        # No name holds the features, so that they are freed as soon as no layer needs them.
        logits = self.network.form.after_stem(
            self._features(blocks, valid, spectra, by_spectrum, dissimilarity)
            .view(1, rows, cols, -1)
            .permute(0, 3, 1, 2)
        )[0].float()
        if self.bundle.temperature != 1:
            logits.div_(self.bundle.temperature)
        if by_spectrum is not None and self.spectral_share is not None:
            weight = self.spectral_share.weight
            logits.lerp_(by_spectrum.view(rows, cols, -1).permute(2, 0, 1), weight)
        if spectra is not None:
            spectra = spectra.view(rows, cols, -1).permute(2, 0, 1)
        return logits, spectra, valid.reshape(rows, cols)

    @torch.inference_mode()
    def _calibrate(self, logits: Tensor) -> None:
        """Divide logits by the temperature of a scene that the network does not know."""
        if self.spectral_share is not None and self.spectral_share.temperature != 1:
            logits.div_(self.spectral_share.temperature)

    def _features(
        self,
        blocks: Iterator[Block],
        valid: npt.NDArray[np.bool_],
        spectra: Tensor | None,
        by_spectrum: Tensor | None,
        dissimilarity: Tensor | None = None,
    ) -> Tensor:
        """The stem's output for pixels, (pixels, channels); fills the other arrays.

        The stem runs over a few pixels at a time, so that their float32 copy stays in the cache
        and that of a whole tile is never held. Pixels without a measurement hold the band means.
        """
        shape = len(valid), self.network.channels
        features = torch.empty(shape, dtype=self.network.dtype, device=self.device)
        mean = self.network.get_buffer("mean")
        # Allocated once: to be given as much memory for each strip takes as long as the stem.
        strip = torch.empty((min(STEM_PIXELS, len(valid)), len(mean)))
        start = 0
        while start < len(valid):
            block, measured = next(blocks)
            valid[start : start + len(block)] = measured
            step = STEM_PIXELS if self.device.type == "cpu" else len(block)
            for first in range(0, len(block), step):
                part = slice(start + first, start + min(first + step, len(block)))
                pixels = self.network.normalise(self._float32(block[first : first + step], strip))
                bad = ~measured[first : first + step]
                if bad.any():
                    pixels[torch.from_numpy(bad).to(self.device)] = mean
                if spectra is not None:
                    reduced = reduced_spectra(pixels.T[:, None], self.bundle.scaling)
                    spectra[part] = reduced[:, 0].T
                if by_spectrum is not None and self.spectral is not None:
                    self.spectral.score(pixels, by_spectrum[part])
                if dissimilarity is not None and self.applicability is not None:
                    dissimilarity[part] = self.applicability.dissimilarity(pixels)
                self.network.stem_channels(pixels, features[part])
            start += len(block)
        return features

    def _float32(self, block: npt.NDArray[Any], strip: Tensor) -> Tensor:
        """The block on the device, in the memory of ``strip`` where that is a processor's."""
        if self.device.type == "cpu":
            pixels = torch.from_numpy(block)
            return pixels if pixels.dtype == strip.dtype else strip[: len(pixels)].copy_(pixels)
        if block.dtype in (np.uint16, np.uint32, np.uint64):  # which not every device has
            block = block.astype(np.float32)
        return torch.from_numpy(block).to(self.device).float()

    def plan(
        self, scene: Scene, max_memory: int | None = None, *, dissimilarity: bool = False
    ) -> TilePlan:
        """How a scene will be mapped, how much memory that takes and about how long."""
        seconds = self._seconds_per_pixel  # first: the trial loads libraries, which take memory
        plan = plan_scene(
            self.bundle.spec,
            scene,
            max_memory,
            self.refinement,
            approximate=self.approximate,
            by_spectrum=self.spectral is not None,
            dissimilarity=dissimilarity,
        )
        return replace(plan, seconds=seconds * plan.read_pixels)

    @cached_property
    @torch.inference_mode()
    def _seconds_per_pixel(self) -> float:
        """How long the network takes, measured on a small square of zeros."""
        bands = self.bundle.spec.bands
        block = np.zeros((TRIAL_SIDE**2, bands), np.float32), np.ones(TRIAL_SIDE**2, bool)
        window = Window(0, 0, TRIAL_SIDE, TRIAL_SIDE)
        for _ in range(2):  # the first pass also chooses and loads the kernels
            with Stopwatch() as watch:
                self.score_blocks(iter([block]), window)[0].cpu()
        return watch.seconds / TRIAL_SIDE**2

    def tiles(self, scene: Scene, max_memory: int | None = None) -> list[Tile]:
        """How to cut a scene: ``plan_scene`` of this model and refinement."""
        return plan_scene(
            self.bundle.spec,
            scene,
            max_memory,
            self.refinement,
            approximate=self.approximate,
            by_spectrum=self.spectral is not None,
        ).tiles

    def map_scene(self, scene: Scene, max_memory: int | None = None) -> Iterator[MappedTile]:
        """Score, refine and classify a scene tile by tile; cores cover the scene once."""
        check_scene(self.bundle, scene)
        yield from self.map_tiles(scene, self.tiles(scene, max_memory))

    def map_tiles(
        self, scene: Scene, tiles: Sequence[Tile], *, with_dissimilarity: bool = False
    ) -> Generator[MappedTile]:
        """Score, refine and classify tiles of a scene that was checked."""
        refinement = self.refinement
        unlike = None
        with closing(self._read(scene, [tile.read for tile in tiles])) as blocks:
            for tile in tiles:
                if with_dissimilarity:
                    pixels = tile.read.rows * tile.read.cols
                    unlike = torch.empty(pixels, device=self.device)
                logits, spectra, valid = self.score_blocks(
                    blocks,
                    tile.read,
                    with_spectra=refinement is not None,
                    dissimilarity=unlike,
                )
                if refinement is None:
                    classes = logits.argmax(0)
                else:
                    mask = torch.from_numpy(valid).to(self.device)
                    assert spectra is not None
                    logits, classes = refinement.apply(logits, spectra, mask)
                    del spectra, mask  # room for the next tile
                self._calibrate(logits)
                rows, cols = crop(tile)
                part = MappedTile(
                    tile.core, logits[:, rows, cols], classes[rows, cols], valid[rows, cols]
                )
                if unlike is not None:
                    unlike = unlike.view(valid.shape)
                    part = replace(part, dissimilarity=unlike[rows, cols])
                yield part

    def score_scene(
        self, scene: Scene, max_memory: int | None = None
    ) -> Iterator[tuple[Window, Tensor, npt.NDArray[np.bool_]]]:
        """Score a scene tile by tile: the very scores that it would get whole.

        Yields
        ------
        core : Window
            Cores cover the scene once.
        logits : Tensor, (classes, core.rows, core.cols), float32
        valid : ndarray, (core.rows, core.cols), bool
        """
        check_scene(self.bundle, scene)
        tiles = self.tiles(scene, max_memory)
        with closing(self._read(scene, [tile.read for tile in tiles])) as blocks:
            for tile in tiles:
                logits, _, valid = self.score_blocks(blocks, tile.read)
                self._calibrate(logits)
                rows, cols = crop(tile)
                yield tile.core, logits[:, rows, cols], valid[rows, cols]

    def whole_scene_logits(
        self, scene: Scene, max_memory: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Logits of every pixel, (classes, rows, cols)."""
        rows, cols, _ = scene.shape
        scores = np.empty((self.bundle.spec.classes, rows, cols), np.float32)
        for core, logits, _ in self.score_scene(scene, max_memory):
            scores[(slice(None), *core.slices)] = logits.cpu().numpy()
        return scores

    def label_map(self, scene: Scene, max_memory: int | None = None) -> npt.NDArray[np.uint16]:
        """Label of every pixel, (rows, cols), 0 where there is no measurement."""
        return self.labels_and_confidence(scene, max_memory)[0]

    def labels_and_confidence(
        self, scene: Scene, max_memory: int | None = None
    ) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]:
        """Label and its probability of every pixel, (rows, cols); 0 without a measurement."""
        labels = np.zeros(scene.shape[:2], np.uint16)
        confidence = np.zeros(scene.shape[:2], np.float32)
        for part in self.map_scene(scene, max_memory):
            labels[part.core.slices] = part.labels()
            confidence[part.core.slices] = np.where(part.valid, part.confidence(), 0)
        return labels, confidence


PACKED_PIXELS, PACKED_BYTES = 65_536, 4_000_000  # beyond which a page has no probabilities


def packed_probabilities(predictor: Predictor, scene: Scene) -> npt.NDArray[np.uint8] | None:
    """Probability of every class at every pixel, for a page: (rows, cols, classes), 255 for 1.

    None where the scene is too large for that.
    """
    rows, cols, _ = scene.shape
    n_classes = predictor.bundle.spec.classes
    if rows * cols > PACKED_PIXELS or rows * cols * n_classes > PACKED_BYTES:
        return None
    found = np.zeros((rows, cols, n_classes), np.uint8)
    for part in predictor.map_scene(scene):
        shares = part.logits.softmax(0).mul_(255).round_().permute(1, 2, 0)
        found[part.core.slices] = shares.cpu().numpy()
    return found


def check_scene(bundle: Bundle, scene: Scene) -> None:
    """Make sure that a scene has the bands that a model was trained on.

    Raises
    ------
    MismatchError
        It has another number of bands, or other wavelengths.
    """
    bands = len(bundle.good_bands)
    if scene.shape[2] != bands:
        raise MismatchError(
            f"{scene.path} has {scene.shape[2]} bands, the model was trained on {bands}",
            "predict a scene of the same sensor and band selection, or train on this one",
        )
    worst = shifted_band(bundle.wavelengths, scene.wavelengths)
    if worst is not None and bundle.wavelengths is not None and scene.wavelengths is not None:
        raise MismatchError(
            f"band {worst + 1} of {scene.path} lies at {scene.wavelengths[worst]:.1f} nm, the "
            f"model's at {bundle.wavelengths[worst]:.1f} nm",
            "predict a scene of the same sensor, or train on this one",
        )
