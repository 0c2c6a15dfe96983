"""From a model and a scene to scores and a label map, tile by tile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.band_matching import match_scene
from hsifcn.bundle import Bundle
from hsifcn.errors import MemoryCeilingError, MismatchError
from hsifcn.io import create_raster
from hsifcn.mapped_tile import MappedTile
from hsifcn.measure import Stopwatch, rss_bytes
from hsifcn.models import MODELS, ModelSpec, geometry
from hsifcn.models.folding import RawSceneNetwork
from hsifcn.refinement import Refinement, choose_weights, reduced_spectra
from hsifcn.scaling import read_bands, valid_pixels
from hsifcn.scene import Scene, Window, shifted_band
from hsifcn.tiles import Tile, crop, plan_tiles

FREE_SHARE = 0.6  # of the free memory that prediction takes unless told otherwise
LARGEST_TILE = 2_000_000  # pixels read for one tile; larger ones gain nothing


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

    @torch.inference_mode()
    def scores(self, scene: Scene, window: Window) -> tuple[Tensor, npt.NDArray[np.bool_]]:
        """Score a window as if it were a scene of its own.

        Returns
        -------
        logits : Tensor, (classes, rows, cols), float32, on the predictor's device
        valid : ndarray, (rows, cols), bool
            False where the scene holds no measurement; the logits there mean nothing.
        """
        spectra, valid = self.spectra(scene, window)
        return self.network(spectra[None])[0], valid

    @torch.inference_mode()
    def scores_and_spectra(
        self, scene: Scene, window: Window
    ) -> tuple[Tensor, Tensor, npt.NDArray[np.bool_]]:
        """Score a window; its ``reduced_spectra``, (features, rows, cols), come second."""
        spectra, valid = self.spectra(scene, window)
        reduced = reduced_spectra(spectra, self.bundle.scaling)
        return self.network(spectra[None])[0], reduced, valid

    def spectra(self, scene: Scene, window: Window) -> tuple[Tensor, npt.NDArray[np.bool_]]:
        """Read a window for the network: (bands, rows, cols) float32, and which pixels are valid.

        Pixels without a measurement hold the band means.
        """
        block = read_bands(scene, window, self.bundle.good_bands)
        valid = valid_pixels(block, scene.nodata)
        spectra = torch.from_numpy(_for_torch(block)).to(self.device).float()
        if not valid.all():
            spectra[torch.from_numpy(~valid).to(self.device)] = self.network.get_buffer("mean")
        return spectra.permute(2, 0, 1), valid

    def tiles(self, scene: Scene, max_memory: int | None = None) -> list[Tile]:
        """How to cut a scene: ``scene_tiles`` of this model and refinement."""
        return scene_tiles(
            self.bundle.spec, scene, max_memory, self.refinement, approximate=self.approximate
        )

    def map_scene(self, scene: Scene, max_memory: int | None = None) -> Iterator[MappedTile]:
        """Score, refine and classify a scene tile by tile; cores cover the scene once."""
        if self.refinement is None:
            for core, logits, valid in self.score_scene(scene, max_memory):
                yield MappedTile(core, logits, logits.argmax(0), valid)
            return
        check_scene(self.bundle, scene)
        for tile in self.tiles(scene, max_memory):
            logits, spectra, valid = self.scores_and_spectra(scene, tile.read)
            mask = torch.from_numpy(valid).to(self.device)
            logits, classes = self.refinement.apply(logits, spectra, mask)
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
        for tile in self.tiles(scene, max_memory):
            logits, valid = self.scores(scene, tile.read)
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


def scene_tiles(
    spec: ModelSpec,
    scene: Scene,
    max_memory: int | None = None,
    refinement: Refinement | None = None,
    *,
    approximate: bool = False,
) -> list[Tile]:
    """How to cut a scene so that mapping it stays within ``max_memory`` bytes, all included.

    Raises
    ------
    MemoryCeilingError
        Not even the smallest tile fits; or the whole scene does not, where network or refinement
        look at all of it and may not be ``approximate``.
    """
    rows, cols, _ = scene.shape
    stride, halo = geometry(spec).stride, geometry(spec).halo
    pixel = bytes_per_pixel(spec, scene)
    reach = 0
    if refinement is not None:
        pixel += refinement.bytes_per_pixel(spec.classes)
        reach = refinement.reach
    side = largest_side(pixel, max_memory)
    if rows * cols <= side * side:
        return plan_tiles(rows, cols, tile=max(rows, cols), halo=0, stride=stride)
    if halo is None:
        raise MemoryCeilingError(
            f"{scene.path} does not fit into the memory given, and {spec.name} looks at all of it",
            "give more --max-memory, or take another model",
        )
    halo += reach
    if not (refinement is None or refinement.exact_in_tiles or approximate):
        raise MemoryCeilingError(
            f"{scene.path} must be cut into tiles, which {refinement.method} is not exact in",
            "take crf, allow --approximate, or give more --max-memory",
        )
    tile = side - 2 * (halo + stride)
    if tile < stride:
        needed = rss_bytes() + (2 * halo + 3 * stride) ** 2 * pixel
        raise MemoryCeilingError(
            f"{scene.path} cannot be scored within the memory given",
            f"the smallest tile takes --max-memory {-(-needed // 10**6)}M",
        )
    return plan_tiles(rows, cols, tile=tile, halo=halo, stride=stride)


def bytes_per_pixel(spec: ModelSpec, scene: Scene) -> int:
    """Memory that scoring takes a pixel read: the block, its float copy, the widest layers."""
    bands = scene.shape[2]
    block = bands * (scene.dtype.itemsize + 4)
    if MODELS[spec.name].patch is None:
        kept = sum(width / 4**level for level, width in enumerate(spec.widths))
        layers = 4 * (2 * max(*spec.stem, *spec.widths[:1]) + kept + 2 * spec.classes)
    else:
        layers = 4 * (bands + 2 * max(*spec.stem, *spec.widths) + 2 * spec.classes)
    return int(block + layers)


def largest_side(pixel: int, max_memory: int | None) -> int:
    """Side in pixels of the largest square that may be read at once, at so many bytes a pixel."""
    used = rss_bytes()
    ceiling = used + int(FREE_SHARE * free_memory()) if max_memory is None else max_memory
    pixels = max(0, ceiling - used) // pixel
    return int(min(pixels, LARGEST_TILE) ** 0.5)


def free_memory() -> int:
    """Bytes of memory that can be had without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _for_torch(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The block in a type that PyTorch has, converted only where it has not."""
    if block.dtype in (np.uint16, np.uint32, np.uint64):
        return block.astype(np.float32)
    return block


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
    tiles : int
        Pieces that the scene was scored in.
    seconds : float
        Reading, scoring and writing.
    """

    map_path: Path
    probabilities_path: Path | None
    shape: tuple[int, int]
    counts: tuple[int, ...]
    tiles: int
    seconds: float


def probabilities_path(map_path: Path) -> Path:
    """Where the probabilities of a map are written: beside it."""
    return map_path.with_name(f"{map_path.stem}_probabilities{map_path.suffix}")


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
) -> Prediction:
    """Map a scene to a file, as it is scored.

    Parameters
    ----------
    predictor : Predictor
    scene : Scene
    map_path : Path
        Its suffix decides the format; label 0 is unclassified, and the map's no-data.
    probabilities : bool
        Write the probability of every class too, (rows, cols, classes) float32; NaN where there
        is no measurement. A CRF's are its marginals; an MRF has none, so they are the network's.
    reject : float
        Pixels whose best probability is under this stay unclassified.
    max_memory : int, optional
        Ceiling on the process's resident memory, bytes.
    overwrite : bool

    Raises
    ------
    MismatchError, MemoryCeilingError, ExistingOutputError, FailedError
    """
    bundle = predictor.bundle
    classes = bundle.spec.classes
    counts = np.zeros(classes + 1, np.int64)
    n_tiles = 0
    with Stopwatch() as watch, ExitStack() as files:
        labels_file = files.enter_context(
            create_raster(
                map_path,
                shape=scene.shape[:2],
                dtype=np.dtype(np.uint8 if classes < 256 else np.uint16),
                overwrite=overwrite,
                grid=scene.grid,
                nodata=0,
                class_names=bundle.class_names,
                colours=bundle.colours,
            )
        )
        scores_file = None
        if probabilities:
            scores_file = files.enter_context(
                create_raster(
                    probabilities_path(map_path),
                    shape=(*scene.shape[:2], classes),
                    dtype=np.dtype(np.float32),
                    overwrite=overwrite,
                    grid=scene.grid,
                    nodata=float("nan"),
                    band_names=bundle.class_names,
                )
            )
        for part in predictor.map_scene(scene, max_memory):
            labels = part.labels(reject)
            labels_file.write(part.core, labels)
            counts += np.bincount(labels.ravel(), minlength=classes + 1)
            if scores_file is not None:
                scores_file.write(part.core, part.probabilities())
            n_tiles += 1
    return Prediction(
        map_path=map_path,
        probabilities_path=probabilities_path(map_path) if probabilities else None,
        shape=scene.shape[:2],
        counts=tuple(int(count) for count in counts),
        tiles=n_tiles,
        seconds=watch.seconds,
    )
