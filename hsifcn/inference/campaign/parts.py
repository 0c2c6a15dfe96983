"""A large scene in parts of whole rows of tiles: each is mapped by itself, then all are joined.

Tiles overlap by halos, so that the joined map is that of the whole scene. How the scene is cut is
decided once, by the worker that is given it first; the others are told.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from hsifcn.core.errors import FailedError
from hsifcn.core.process import Stopwatch
from hsifcn.core.scene import Scene
from hsifcn.core.tiles import Tile, plan_tiles
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.map_writer import MapFiles
from hsifcn.inference.precision import computing_in, try_bfloat16, worth_trying
from hsifcn.inference.predict import Prediction, PredictOptions, Tell, fit_scene, write_tiles
from hsifcn.inference.tiling import TilePlan
from hsifcn.io.files import make_folder

PART_PIXELS = 2**21  # of a part, about; a scene of fewer than two is mapped in one go


@dataclass(frozen=True)
class Cut:
    """How a scene is cut.

    Attributes
    ----------
    digest : str
        Of the scene, which may not change until it is joined.
    tile : tuple of int
        Rows and columns of the core of a tile.
    halo, stride, peak_bytes : int
        Of the ``TilePlan``.
    precision : str
        What every part is computed in: ``float32`` or ``bfloat16``.
    rows : tuple of (int, int)
        First row of each part, and the one behind its last.
    seconds : float
        That the parts took together, once they are done.
    """

    digest: str
    tile: tuple[int, int]
    halo: int
    stride: int
    peak_bytes: int
    precision: str
    rows: tuple[tuple[int, int], ...]
    seconds: float = 0.0

    def tiles(self, scene: Scene) -> list[Tile]:
        """All tiles of the scene."""
        rows, cols, _ = scene.shape
        return plan_tiles(rows, cols, tile=self.tile, halo=self.halo, stride=self.stride)


def cut_scene(bundle: Bundle, scene: Scene, options: PredictOptions, digest: str) -> Cut | None:
    """Decide how a matched scene is cut; None where it is small, or can be mapped whole only."""
    rows, cols, _ = scene.shape
    if rows * cols < 2 * PART_PIXELS:
        return None
    predictor, _ = fit_scene(bundle, scene, options)
    unlike = options.confidence and bundle.applicability is not None
    plan = predictor.plan(scene, options.max_memory, dissimilarity=unlike)
    starts = sorted({tile.core.row for tile in plan.tiles})
    bounds = row_bounds(starts, rows, max(1, PART_PIXELS // cols))
    if len(bounds) < 2:
        return None
    if worth_trying(options.precision, options.device, plan):
        predictor, _ = try_bfloat16(predictor, scene, plan)
    core = plan.tiles[0].core
    stride = predictor.geometry.stride
    return Cut(
        digest=digest,
        tile=(core.rows, core.cols),
        halo=plan.halo,
        stride=stride,
        peak_bytes=plan.peak_bytes,
        precision=predictor.precision,
        rows=tuple(bounds),
    )


def row_bounds(starts: Sequence[int], rows: int, wanted: int) -> list[tuple[int, int]]:
    """Join rows of tiles that begin at ``starts`` to parts of at least ``wanted`` rows."""
    bounds = [0]
    for start in starts[1:]:
        if start - bounds[-1] >= wanted:
            bounds.append(start)
    return list(pairwise([*bounds, rows]))


def parts_folder(map_path: Path) -> Path:
    """Where the parts of a map are written: hidden, beside it."""
    return map_path.with_name(f".{map_path.name}.parts")


def part_path(map_path: Path, rows: tuple[int, int]) -> Path:
    """The file of the labels of a part."""
    return parts_folder(map_path) / f"rows_{rows[0]:07d}_{rows[1]:07d}.img"


def map_part(
    bundle: Bundle, scene: Scene, map_path: Path, options: PredictOptions, cut: Cut, part: int
) -> float:
    """Map one part of a matched scene; gives the seconds that it took."""
    rows = cut.rows[part]
    predictor, _ = fit_scene(bundle, scene, options)
    if cut.precision != predictor.precision:
        predictor = computing_in(predictor, getattr(torch, cut.precision))
    tiles = [tile for tile in cut.tiles(scene) if rows[0] <= tile.core.row < rows[1]]
    path = part_path(map_path, rows)
    make_folder(path.parent)
    with Stopwatch() as watch, _map_files(bundle, scene, path, options, rows) as files:
        write_tiles(predictor, scene, TilePlan(tiles, cut.halo, cut.peak_bytes), files)
    return watch.seconds


def join_parts(
    bundle: Bundle, scene: Scene, map_path: Path, options: PredictOptions, tell: Tell, *, cut: Cut
) -> Prediction:
    """Join the parts to the map of a matched scene; takes the place of ``map_matched``."""
    _, fit = fit_scene(bundle, scene, options, tell)
    with Stopwatch() as watch, _map_files(bundle, scene, map_path, options) as files:
        for rows in cut.rows:
            path = part_path(map_path, rows)
            if not path.exists():
                raise FailedError(f"{path} is missing", "give the command again")
            files.take(path, rows)
    done = Prediction(
        map_path=map_path,
        probabilities_path=files.probabilities_path,
        shape=scene.shape[:2],
        counts=tuple(int(count) for count in files.counts),
        plan=TilePlan(cut.tiles(scene), cut.halo, cut.peak_bytes),
        seconds=cut.seconds + watch.seconds,
        precision=cut.precision,
        confidence_path=files.confidence_path,
        dissimilarity_path=files.dissimilarity_path,
        applicability=files.unlike_share(),
    )
    return fit.added_to(done)


def remove_parts(map_path: Path) -> None:
    """Remove what parts of a map are there."""
    shutil.rmtree(parts_folder(map_path), ignore_errors=True)


def _map_files(
    bundle: Bundle,
    scene: Scene,
    path: Path,
    options: PredictOptions,
    rows: tuple[int, int] | None = None,
) -> MapFiles:
    """The rasters of a map, or of a part of it, which may be there from an earlier try."""
    return MapFiles(
        bundle,
        scene,
        path,
        confidence=options.confidence,
        probabilities=options.probabilities,
        min_confidence=options.min_confidence,
        overwrite=options.overwrite or rows is not None,
        rows=rows,
    )
