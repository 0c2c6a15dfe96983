"""The files of a map, written tile by tile as it is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.scene import Scene, Window, codes_table, labels_of
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.tiling import WRITE_PIXELS
from hsifcn.io import RasterWriter, create_raster
from hsifcn.io.polygons import NO_CONFIDENCE


class MapFiles:
    """The rasters of labels and, if asked for, of confidence and of probabilities.

    See ``predict.write_map``.

    Used as a context manager; the files appear when its block ends well.

    Parameters
    ----------
    bundle : Bundle
        Tells the classes.
    scene : Scene
        Tells size and place.
    map_path : Path
    confidence, probabilities, overwrite : bool
    min_confidence : float

    Attributes
    ----------
    counts : ndarray, (classes + 1,), int64
        Pixels left unclassified, then pixels of each class, of the tiles written so far.
    """

    def __init__(
        self,
        bundle: Bundle,
        scene: Scene,
        map_path: Path,
        *,
        confidence: bool,
        probabilities: bool,
        min_confidence: float,
        overwrite: bool,
    ) -> None:
        self.bundle = bundle
        self.scene = scene
        self.map_path = map_path
        self.confidence_path = confidence_path(map_path) if confidence else None
        self.probabilities_path = probabilities_path(map_path) if probabilities else None
        self.min_confidence = min_confidence
        self.overwrite = overwrite
        self.counts = np.zeros(bundle.spec.classes + 1, np.int64)
        self._codes = codes_table(bundle.class_codes)
        self._files = ExitStack()

    def __enter__(self) -> MapFiles:
        with ExitStack() as files:
            self._labels = files.enter_context(self._create_labels())
            self._sure = None
            if self.confidence_path is not None:
                self._sure = files.enter_context(self._create_confidence(self.confidence_path))
            self._scores = None
            if self.probabilities_path is not None:
                self._scores = files.enter_context(self._create_scores(self.probabilities_path))
            self._files = files.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._files.__exit__(kind, error, trace)

    def write(self, part: MappedTile) -> None:
        """Write the core of a tile."""
        for piece in part.pieces(WRITE_PIXELS):
            labels = piece.labels(self.min_confidence)
            self._labels.write(piece.core, self._codes[labels])
            self.counts += np.bincount(labels.ravel(), minlength=len(self.counts))
            if self._sure is not None:
                self._sure.write(piece.core, piece.percent())
            if self._scores is not None:
                self._scores.write(piece.core, piece.probabilities_and_margin())

    def _create_labels(self) -> RasterWriter:
        return create_raster(
            self.map_path,
            shape=self.scene.shape[:2],
            dtype=self._codes.dtype,
            overwrite=self.overwrite,
            grid=self.scene.grid,
            nodata=0,
            class_names=self.bundle.class_names,
            colours=self.bundle.colours,
            class_codes=self.bundle.class_codes,
        )

    def _create_confidence(self, path: Path) -> RasterWriter:
        return create_raster(
            path,
            shape=self.scene.shape[:2],
            dtype=np.dtype(np.uint8),
            overwrite=self.overwrite,
            grid=self.scene.grid,
            nodata=NO_CONFIDENCE,
            band_names=("confidence, per cent",),
            ramp=(0, 100),
        )

    def _create_scores(self, path: Path) -> RasterWriter:
        return create_raster(
            path,
            shape=(*self.scene.shape[:2], self.bundle.spec.classes + 1),
            dtype=np.dtype(np.float32),
            overwrite=self.overwrite,
            grid=self.scene.grid,
            nodata=float("nan"),
            band_names=(*self.bundle.class_names, "margin"),
            ramp=(0, 1),
        )


def confidence_path(map_path: Path) -> Path:
    """Where the confidence of a map is written: beside it."""
    return map_path.with_name(f"{map_path.stem}_confidence{map_path.suffix}")


def probabilities_path(map_path: Path) -> Path:
    """Where the probabilities of a map are written: beside it."""
    return map_path.with_name(f"{map_path.stem}_probabilities{map_path.suffix}")


@dataclass(frozen=True)
class MappedTile:
    """A part of a scene, classified.

    Attributes
    ----------
    core : Window
    logits : Tensor, (classes, rows, cols), float32
    classes : Tensor, (rows, cols), int64
        From 0.
    valid : ndarray, (rows, cols), bool
        False where the scene holds no measurement; the others mean nothing there.
    """

    core: Window
    logits: Tensor
    classes: Tensor
    valid: npt.NDArray[np.bool_]

    def labels(self, min_confidence: float = 0.0) -> npt.NDArray[np.uint16]:
        """Labels; 0 where invalid, or where the probability is under ``min_confidence``."""
        keep = self.valid
        if min_confidence > 0:
            keep = keep & (self.confidence() >= min_confidence)
        return np.where(keep, labels_of(self.classes.cpu().numpy()), np.uint16(0))

    def confidence(self) -> npt.NDArray[np.float32]:
        """Probability of the class that each pixel has, (rows, cols); no meaning where invalid."""
        chosen = self.logits.softmax(0).gather(0, self.classes[None])[0]
        confidence: npt.NDArray[np.float32] = chosen.cpu().numpy()
        return confidence

    def percent(self) -> npt.NDArray[np.uint8]:
        """``confidence`` in whole per cent, (rows, cols), ``NO_CONFIDENCE`` where invalid."""
        percent = np.rint(100 * np.where(self.valid, self.confidence(), 0)).astype(np.uint8)
        return np.where(self.valid, percent, np.uint8(NO_CONFIDENCE))

    def probabilities_and_margin(self) -> npt.NDArray[np.float32]:
        """Probability of every class, then the margin: the greatest less the second.

        Returns
        -------
        ndarray, (rows, cols, classes + 1), float32
            NaN where invalid. The margin is 1 where there is one class only.
        """
        shares = self.logits.softmax(0)
        greatest = shares.topk(min(2, len(shares)), dim=0).values
        margin = greatest[0] - greatest[1] if len(greatest) > 1 else greatest[0]
        bands = torch.cat([shares, margin[None]]).permute(1, 2, 0).cpu().numpy()
        return np.where(self.valid[..., None], bands, np.float32("nan"))

    def pieces(self, pixels: int) -> Iterator[MappedTile]:
        """Cut along rows into parts of about that many pixels, which are views."""
        step = max(1, pixels // self.core.cols)
        for row in range(0, self.core.rows, step):
            rows = slice(row, min(row + step, self.core.rows))
            core = Window(
                self.core.row + row, self.core.col, rows.stop - rows.start, self.core.cols
            )
            yield MappedTile(core, self.logits[:, rows], self.classes[rows], self.valid[rows])
