"""The files of a map, written tile by tile as it is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.scene import Scene, Window, codes_table, labels_of, labels_of_codes
from hsifcn.inference.applicability import LARGEST_PERCENT, UnlikeShare
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.tiling import WRITE_PIXELS
from hsifcn.io import RasterWriter, create_raster, open_scene
from hsifcn.io.polygons import NO_CONFIDENCE


class MapFiles:
    """The rasters of labels and, if asked for, of confidence and of probabilities.

    With the confidence comes the dissimilarity, where the model tells it.

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
    rows : tuple of int, optional
        First row and the one behind the last, where the files hold these rows alone.

    Attributes
    ----------
    counts : ndarray, (classes + 1,), int64
        Pixels left unclassified, then pixels of each class, of the tiles written so far.
    measured, outside : int
        Pixels of these tiles that hold a measurement, and those unlike anything labelled, where
        the dissimilarity is written.
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
        rows: tuple[int, int] | None = None,
    ) -> None:
        self.bundle = bundle
        self.map_path = map_path
        self.confidence_path = confidence_path(map_path) if confidence else None
        self.dissimilarity_path = None
        if confidence and bundle.applicability is not None:
            self.dissimilarity_path = dissimilarity_path(map_path)
        self.probabilities_path = probabilities_path(map_path) if probabilities else None
        self.min_confidence = min_confidence
        self.overwrite = overwrite
        self.first_row, last = rows or (0, scene.shape[0])
        self.shape = last - self.first_row, scene.shape[1]
        self.grid = None if rows else scene.grid
        # Rows alone are a raster of codes, which is read again as it is.
        self._classes: dict[str, Any] = (
            {}
            if rows
            else {
                "class_names": bundle.class_names,
                "colours": bundle.colours,
                "class_codes": bundle.class_codes,
            }
        )
        self.counts = np.zeros(bundle.spec.classes + 1, np.int64)
        self.measured = self.outside = 0
        self._codes = codes_table(bundle.class_codes)
        self._files = ExitStack()

    def __enter__(self) -> MapFiles:
        with ExitStack() as files:
            self._labels = files.enter_context(self._create_labels())
            self._sure = None
            if self.confidence_path is not None:
                self._sure = files.enter_context(
                    self._create_percent(self.confidence_path, "confidence, per cent", 100)
                )
            self._unlike = None
            if self.dissimilarity_path is not None:
                self._unlike = files.enter_context(
                    self._create_percent(self.dissimilarity_path, "dissimilarity, per cent", 200)
                )
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
            self._write(
                piece.core,
                piece.labels(self.min_confidence),
                piece.percent() if self._sure is not None else None,
                piece.dissimilarity_percent() if self._unlike is not None else None,
                piece.probabilities_and_margin() if self._scores is not None else None,
            )

    def unlike_share(self) -> UnlikeShare | None:
        """How much of what was written is unlike anything labelled; None where nothing tells."""
        if self.dissimilarity_path is None or not self.measured:
            return None
        return UnlikeShare(self.outside / self.measured, self.measured, whole_scene=True)

    def take(self, path: Path, rows: tuple[int, int]) -> None:
        """Write rows that ``MapFiles`` of these rows alone wrote before, as ENVI rasters."""
        coded = open_scene(path)
        sure = open_scene(confidence_path(path)) if self._sure is not None else None
        unlike = open_scene(dissimilarity_path(path)) if self._unlike is not None else None
        scores = open_scene(probabilities_path(path)) if self._scores is not None else None
        cols = self.shape[1]
        step = max(1, WRITE_PIXELS // cols)
        for row in range(rows[0], rows[1], step):
            window = Window(row - rows[0], 0, min(step, rows[1] - row), cols)
            self._write(
                replace(window, row=row),
                labels_of_codes(coded.read(window)[..., 0], self.bundle.class_codes),
                None if sure is None else sure.read(window)[..., 0],
                None if unlike is None else unlike.read(window)[..., 0],
                None if scores is None else scores.read(window),
            )

    def _write(
        self,
        window: Window,
        labels: npt.NDArray[np.uint16],
        percent: npt.NDArray[np.uint8] | None,
        unlike: npt.NDArray[np.uint8] | None,
        scores: npt.NDArray[np.float32] | None,
    ) -> None:
        window = replace(window, row=window.row - self.first_row)
        self._labels.write(window, self._codes[labels])
        self.counts += np.bincount(labels.ravel(), minlength=len(self.counts))
        if self._sure is not None and percent is not None:
            self._sure.write(window, percent)
        if self._unlike is not None and unlike is not None:
            self._unlike.write(window, unlike)
            known = unlike[unlike != NO_CONFIDENCE]
            self.measured += len(known)
            self.outside += int((known > 100).sum())
        if self._scores is not None and scores is not None:
            self._scores.write(window, scores)

    def _create_labels(self) -> RasterWriter:
        return create_raster(
            self.map_path,
            shape=self.shape,
            dtype=self._codes.dtype,
            overwrite=self.overwrite,
            grid=self.grid,
            nodata=0,
            **self._classes,
        )

    def _create_percent(self, path: Path, name: str, most: int) -> RasterWriter:
        return create_raster(
            path,
            shape=self.shape,
            dtype=np.dtype(np.uint8),
            overwrite=self.overwrite,
            grid=self.grid,
            nodata=NO_CONFIDENCE,
            band_names=(name,),
            ramp=(0, most),
        )

    def _create_scores(self, path: Path) -> RasterWriter:
        return create_raster(
            path,
            shape=(*self.shape, self.bundle.spec.classes + 1),
            dtype=np.dtype(np.float32),
            overwrite=self.overwrite,
            grid=self.grid,
            nodata=float("nan"),
            band_names=(*self.bundle.class_names, "margin"),
            ramp=(0, 1),
        )


def confidence_path(map_path: Path) -> Path:
    """Where the confidence of a map is written: beside it."""
    return map_path.with_name(f"{map_path.stem}_confidence{map_path.suffix}")


def dissimilarity_path(map_path: Path) -> Path:
    """Where the dissimilarity of a map's pixels is written: beside it."""
    return map_path.with_name(f"{map_path.stem}_dissimilarity{map_path.suffix}")


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
    dissimilarity : Tensor, (rows, cols), float32, or None
        See ``applicability.py``; None where it was not asked for.
    """

    core: Window
    logits: Tensor
    classes: Tensor
    valid: npt.NDArray[np.bool_]
    dissimilarity: Tensor | None = None

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

    def dissimilarity_percent(self) -> npt.NDArray[np.uint8]:
        """``dissimilarity`` in whole per cent, over 100 where it is over 1; as ``percent``."""
        assert self.dissimilarity is not None
        percent = (100 * self.dissimilarity).ceil_().clamp_(max=LARGEST_PERCENT)
        found = percent.cpu().numpy().astype(np.uint8)
        return np.where(self.valid, found, np.uint8(NO_CONFIDENCE))

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
            unlike = None if self.dissimilarity is None else self.dissimilarity[rows]
            yield MappedTile(
                core, self.logits[:, rows], self.classes[rows], self.valid[rows], unlike
            )
