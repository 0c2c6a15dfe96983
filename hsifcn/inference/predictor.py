"""From a model and a scene to scores and a label map, tile by tile."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.errors import MismatchError
from hsifcn.core.process import Stopwatch
from hsifcn.core.scene import Scene, Window, shifted_band
from hsifcn.core.tiles import Tile, crop
from hsifcn.inference.band_matching import match_scene
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.map_writer import MapFiles, MappedTile
from hsifcn.inference.refine.potentials import FEATURES, Refinement, choose_weights, reduced_spectra
from hsifcn.inference.streaming import Block, WriteBehind, read_blocks
from hsifcn.inference.tiling import Plan, plan_scene
from hsifcn.models import geometry
from hsifcn.models.folding import RawSceneNetwork

STEM_PIXELS = 8192  # that the stem sees at once on a processor: their spectra stay in its cache
TRIAL_SIDE = 96  # pixels; of the square that is scored to foretell how long a scene takes


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
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "cpu",
        refinement: Refinement | None = None,
        approximate: bool = False,
    ) -> None:
        self.bundle = bundle
        self.refinement = refinement
        self.approximate = approximate
        self.device = torch.device(device)
        self.geometry = geometry(bundle.spec)
        network = RawSceneNetwork(bundle.network(), bundle.scaling, bundle.temperature)
        self.network = network.to(self.device)

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
        self, blocks: Iterator[Block], window: Window, *, with_spectra: bool = False
    ) -> tuple[Tensor, Tensor | None, npt.NDArray[np.bool_]]:
        """Score a window of which the pixels come in blocks; as ``scores_and_spectra``."""
        size = window.rows, window.cols
        valid = np.empty(window.rows * window.cols, bool)
        spectra = None
        if with_spectra:
            groups = min(FEATURES, self.bundle.spec.bands)
            spectra = torch.empty((len(valid), groups), device=self.device)
        features = [
            channels.view(1, *size, -1).permute(0, 3, 1, 2)
            for channels in self._features(blocks, valid, spectra)
        ]
        logits = self.network.after_stem(features)  # which empties the list
        if spectra is not None:
            spectra = spectra.view(*size, -1).permute(2, 0, 1)
        return logits[0], spectra, valid.reshape(size)

    def _features(
        self, blocks: Iterator[Block], valid: npt.NDArray[np.bool_], spectra: Tensor | None
    ) -> list[Tensor]:
        """What each stem makes of pixels, (pixels, channels); fills ``valid`` and ``spectra``.

        The stem runs over a few pixels at a time, so that their float32 copy stays in the cache
        and that of a whole tile is never held. Pixels without a measurement hold the band means.
        """
        shape = len(valid), self.network.channels
        features = [torch.empty(shape, device=self.device) for _ in self.network.members]
        mean = self.network.get_buffer("mean")
        # Used again and again: to be given as much memory for each strip takes as long as the stem.
        strip = torch.empty((min(STEM_PIXELS, len(valid)), len(mean)))
        start = 0
        while start < len(valid):
            block, measured = next(blocks)
            valid[start : start + len(block)] = measured
            step = STEM_PIXELS if self.device.type == "cpu" else len(block)
            for first in range(0, len(block), step):
                part = slice(start + first, start + min(first + step, len(block)))
                pixels = self._float32(block[first : first + step], strip)
                bad = ~measured[first : first + step]
                if bad.any():
                    pixels[torch.from_numpy(bad).to(self.device)] = mean
                if spectra is not None:
                    reduced = reduced_spectra(pixels.T[:, None], self.bundle.scaling)
                    spectra[part] = reduced[:, 0].T
                self.network.stem_channels(pixels, [channels[part] for channels in features])
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

    def plan(self, scene: Scene, max_memory: int | None = None) -> Plan:
        """How a scene will be mapped, how much memory that takes and about how long."""
        seconds = self._seconds_per_pixel
        plan = plan_scene(
            self.bundle.spec, scene, max_memory, self.refinement, approximate=self.approximate
        )
        return replace(plan, seconds=seconds * plan.read_pixels)

    @cached_property
    @torch.inference_mode()
    def _seconds_per_pixel(self) -> float:
        """How long the network takes, by a small trial; loads what it needs, too."""
        bands = self.bundle.spec.bands
        block = np.zeros((TRIAL_SIDE**2, bands), np.float32), np.ones(TRIAL_SIDE**2, bool)
        window = Window(0, 0, TRIAL_SIDE, TRIAL_SIDE)
        for _ in range(2):  # the first one settles how to compute
            with Stopwatch() as watch:
                self.score_blocks(iter([block]), window)[0].cpu()
        return watch.seconds / TRIAL_SIDE**2

    def tiles(self, scene: Scene, max_memory: int | None = None) -> list[Tile]:
        """How to cut a scene: ``plan_scene`` of this model and refinement."""
        return plan_scene(
            self.bundle.spec, scene, max_memory, self.refinement, approximate=self.approximate
        ).tiles

    def map_scene(self, scene: Scene, max_memory: int | None = None) -> Iterator[MappedTile]:
        """Score, refine and classify a scene tile by tile; cores cover the scene once."""
        check_scene(self.bundle, scene)
        yield from self.map_tiles(scene, self.tiles(scene, max_memory))

    def map_tiles(self, scene: Scene, tiles: Sequence[Tile]) -> Generator[MappedTile]:
        """Score, refine and classify tiles of a scene that was checked."""
        refinement = self.refinement
        with closing(self._read(scene, [tile.read for tile in tiles])) as blocks:
            for tile in tiles:
                logits, spectra, valid = self.score_blocks(
                    blocks, tile.read, with_spectra=refinement is not None
                )
                if refinement is None:
                    classes = logits.argmax(0)
                else:
                    mask = torch.from_numpy(valid).to(self.device)
                    assert spectra is not None
                    logits, classes = refinement.apply(logits, spectra, mask)
                    del spectra, mask  # room for the next tile
                rows, cols = crop(tile)
                yield MappedTile(
                    tile.core, logits[:, rows, cols], classes[rows, cols], valid[rows, cols]
                )

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


@dataclass(frozen=True)
class Prediction:
    """What ``write_prediction`` did.

    Attributes
    ----------
    map_path, probabilities_path : Path, Path or None
        Files written.
    shape : tuple of int
        Rows and columns.
    counts : tuple of int, (classes + 1,)
        Pixels left unclassified, then pixels of each class.
    plan : Plan
        How the scene was cut, and what was expected.
    seconds : float
        Reading, scoring and writing.
    """

    map_path: Path
    probabilities_path: Path | None
    shape: tuple[int, int]
    counts: tuple[int, ...]
    plan: Plan
    seconds: float


def predict(
    bundle: Bundle,
    scene: Scene,
    map_path: str | os.PathLike[str],
    *,
    device: str = "cpu",
    refine: str = "none",
    approximate: bool = False,
    resample: bool = False,
    **options: Any,
) -> Prediction:
    """Map a scene to a file with a model.

    Its bands are matched as ``match_scene`` does; ``refine`` is ``none``, ``crf`` or ``mrf``,
    ``approximate`` that of ``Predictor``, ``options`` are those of ``write_prediction``.
    """
    matched = match_scene(bundle, scene, resample=resample).scene
    predictor = Predictor(bundle, device, choose_weights(refine, bundle.refinement), approximate)
    return write_prediction(predictor, matched, Path(map_path), **options)


def write_prediction(
    predictor: Predictor,
    scene: Scene,
    map_path: Path,
    *,
    probabilities: bool = False,
    reject: float = 0.0,
    max_memory: int | None = None,
    overwrite: bool = False,
    announce: Callable[[Plan], None] = lambda plan: None,
) -> Prediction:
    """Map a scene to a file, as it is scored.

    Parameters
    ----------
    predictor : Predictor
    scene : Scene
    map_path : Path
        Its suffix decides the format; label 0 is unclassified, and the map's no-data.
    probabilities : bool
        Write the probability of every class too, and how far the greatest is above the second,
        (rows, cols, classes + 1) float32; NaN where there is no measurement. A CRF's are its
        marginals; an MRF has none, so they are the network's.
    reject : float
        Pixels whose best probability is under this stay unclassified.
    max_memory : int, optional
        Ceiling on the process's resident memory, bytes.
    overwrite : bool
    announce : callable
        Told the plan before the work starts.

    Raises
    ------
    MismatchError, MemoryCeilingError, ExistingOutputError, FailedError
    """
    check_scene(predictor.bundle, scene)
    files = MapFiles(
        predictor.bundle,
        scene,
        map_path,
        probabilities=probabilities,
        reject=reject,
        overwrite=overwrite,
    )
    with Stopwatch() as watch, files:
        plan = predictor.plan(scene, max_memory)  # of what is left by the libraries that write
        announce(plan)
        with WriteBehind() as writer, closing(predictor.map_tiles(scene, plan.tiles)) as parts:
            for part in parts:
                writer.call(files.write, part)
    return Prediction(
        map_path=map_path,
        probabilities_path=files.probabilities_path,
        shape=scene.shape[:2],
        counts=tuple(int(count) for count in files.counts),
        plan=plan,
        seconds=watch.seconds,
    )
