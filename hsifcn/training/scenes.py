"""Scenes as networks train on them: standardised cubes with the labels that may be seen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.errors import LabelError, MismatchError, UnreadableFileError
from hsifcn.core.scene import Scene, Window, class_targets, shifted_band
from hsifcn.data.bands import varying_bands
from hsifcn.data.splits import Split
from hsifcn.data.standardise import (
    Scaling,
    divided_by_length,
    fit_scaling,
    read_bands,
    strips,
    valid_pixels,
)
from hsifcn.propagation.pseudo_labels import (
    PseudoLabels,
    WindowPseudoLabels,
    pseudo_labels_in,
)
from hsifcn.training.ranks import ALONE, Ranks

LabelArray = npt.NDArray[np.uint16]
STATISTICS_VOXELS = 2**18  # whose statistics are taken at once, in double precision


@dataclass(frozen=True)
class LabelledScene:
    """A scene and the labels that training may see of it; no others.

    Attributes
    ----------
    scene : Scene
    training, validation : ndarray, (rows, cols), uint16
        Labels of the pixels that train and validate, 0 elsewhere and without a measurement.
    counted : ndarray, (rows, cols), bool, or None
        The only pixels that may count in batch statistics; None for all measured ones.
    """

    scene: Scene
    training: LabelArray
    validation: LabelArray
    counted: npt.NDArray[np.bool_] | None


def label_scene(
    scene: Scene, split: Split, bands: npt.NDArray[np.bool_], *, inductive: bool
) -> LabelledScene:
    """Find the pixels of a scene that may be learnt from.

    Raises
    ------
    LabelError
        Labels and scene differ in size.
    """
    require_same_size(scene, split)
    valid = measured_pixels(scene, bands)
    return LabelledScene(
        scene,
        np.where(split.train & valid, split.labels, 0).astype(np.uint16),
        np.where(split.validation & valid, split.labels, 0).astype(np.uint16),
        split.train & valid if inductive else None,
    )


def measured_pixels(scene: Scene, bands: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which pixels hold a measurement, (rows, cols); read only where some may not."""
    valid = np.ones(scene.shape[:2], bool)
    if scene.dtype.kind == "f" or scene.nodata is not None:
        for window in strips(scene.shape):
            valid[window.slices] = valid_pixels(read_bands(scene, window, bands), scene.nodata)
    return valid


def require_training_pixels(scenes: Sequence[LabelledScene]) -> None:
    """Make sure that there is something to learn from.

    Raises
    ------
    LabelError
        No training pixel holds a measurement.
    """
    if not any(scene.training.any() for scene in scenes):
        raise LabelError(
            "no training pixel holds a measurement",
            "check no-data values and labels: hsifcn info",
        )


@dataclass(frozen=True)
class TrainingScene:
    """A scene as the network sees it, with the labels it may learn from; no others.

    Or several crops of one size, which the network sees at once.

    Attributes
    ----------
    cube : Tensor, (scenes, bands, rows, cols), float32, channels-last
        Standardised; pixels without a measurement are 0, the band mean.
    counted : Tensor, (scenes, 1, rows, cols), bool or int8, or None
        Pixels that count in batch statistics; None where all do. -1 outside of the smaller scenes
        of a batch.
    pixels, targets : Tensor, (n,), int64
        Flat indices (of ``(scenes, rows, cols)``) and classes (from 0) of the training pixels.
    validation_pixels, validation_targets : Tensor, (m,), int64
        The same of the validation pixels.
    pseudo_labels : PseudoLabels or None
        Of its other pixels, where networks learn from them, too.
    """

    cube: Tensor
    counted: Tensor | None
    pixels: Tensor
    targets: Tensor
    validation_pixels: Tensor
    validation_targets: Tensor
    pseudo_labels: PseudoLabels | None = None


class WholeScenes:
    """Scenes that every step sees whole, held in memory as one batch.

    All scenes are in every batch, padded to the size of the largest. So the batch statistics of a
    step are those of all scenes together, as are those that the model stores. Of several ranks each
    holds some of the scenes.

    Parameters
    ----------
    batch : TrainingScene
        Of this rank's scenes.
    shapes : sequence of (rows, cols)
        Of all scenes.
    ranks : Ranks
    """

    whole = True

    def __init__(
        self, batch: TrainingScene, shapes: Sequence[tuple[int, int]], ranks: Ranks = ALONE
    ) -> None:
        self.batch, self.shapes, self.ranks = batch, list(shapes), ranks
        self.validation = self.batch_norm_inputs = [batch]
        self.n_validation = int(ranks.total(len(batch.validation_targets)))

    def counts(self, classes: int) -> npt.NDArray[np.int64]:
        """Training pixels of each class."""
        own = torch.bincount(self.batch.targets.cpu(), minlength=classes)
        counts: npt.NDArray[np.int64] = self.ranks.sum(own).numpy()
        return counts

    def draw(self, rng: np.random.Generator) -> list[TrainingScene]:
        """All scenes, whatever the generator."""
        return [self.batch]

    def read(self, scene: TrainingScene, *, cores_only: bool = False) -> TrainingScene:
        """The scenes, held already."""
        return scene

    def with_pseudo_labels(self, found: Sequence[WindowPseudoLabels]) -> WholeScenes:
        """The same scenes with pseudo-labels."""
        count, _, rows, cols = self.batch.cube.shape
        classes = np.zeros((count, rows, cols), np.int64)
        weights = np.zeros((count, rows, cols), np.float32)
        for place, number in enumerate(self.ranks.share(range(len(self.shapes)))):
            own = Window(0, 0, *self.shapes[number])
            there = (place, *own.slices)
            classes[there], weights[there] = pseudo_labels_in(found, number, own)
        pixels = [np.count_nonzero(one.weights) for one in found]
        confidence = [one.mean_confidence for one in found]
        pseudo_labels = PseudoLabels(
            torch.from_numpy(classes.ravel()).to(self.batch.cube.device),
            torch.from_numpy(weights.ravel() / max(self.ranks.total(weights.sum()), 1e-12)).to(
                self.batch.cube.device
            ),
            float(np.dot(pixels, confidence) / max(1, sum(pixels))),
        )
        batch = replace(self.batch, pseudo_labels=pseudo_labels)
        return WholeScenes(batch, self.shapes, self.ranks)

    def with_validation(self) -> WholeScenes:
        """The same scenes, whose validation pixels are training pixels, too."""
        batch = replace(
            self.batch,
            pixels=torch.cat([self.batch.pixels, self.batch.validation_pixels]),
            targets=torch.cat([self.batch.targets, self.batch.validation_targets]),
            validation_pixels=self.batch.validation_pixels[:0],
            validation_targets=self.batch.validation_targets[:0],
        )
        return WholeScenes(batch, self.shapes, self.ranks)


def padded_pixels(shapes: Sequence[tuple[int, int]]) -> int:
    """Pixels of a batch of scenes of these shapes (rows, cols)."""
    rows, cols = zip(*shapes, strict=True)
    return int(len(shapes) * max(rows) * max(cols))


def load_whole_scenes(
    scenes: Sequence[LabelledScene],
    bands: npt.NDArray[np.bool_],
    scaling: Scaling,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> WholeScenes:
    """Read and standardise scenes into one batch; of several ranks each reads its share."""
    shapes = [scene.training.shape for scene in scenes]
    rows, cols = (max(lengths) for lengths in zip(*shapes, strict=True))
    scenes = ranks.share(scenes)
    cube = np.zeros((len(scenes), rows, cols, int(bands.sum())), np.float32)
    counted = np.full((len(scenes), 1, rows, cols), -1, np.int8)
    training, validation = np.zeros((2, len(scenes), rows, cols), np.uint16)
    for number, held in enumerate(scenes):
        own_rows, own_cols = held.training.shape
        own = (number, slice(own_rows), slice(own_cols))
        valid = read_standardised_into(cube[own], held.scene, bands, scaling)
        counted[number, 0][own[1:]] = valid if held.counted is None else held.counted
        training[own], validation[own] = held.training, held.validation

    def labelled(labels: LabelArray) -> tuple[Tensor, Tensor]:
        pixels = np.flatnonzero(labels)
        targets = class_targets(labels.flat[pixels])
        return torch.from_numpy(pixels).to(device), torch.from_numpy(targets).to(device)

    all_count = ranks.all(bool((counted > 0).all()))
    mask = None if all_count else torch.from_numpy(counted).to(device)
    return WholeScenes(
        TrainingScene(
            torch.from_numpy(cube).permute(0, 3, 1, 2).to(device), mask,
            *labelled(training), *labelled(validation),
        ),
        shapes,
        ranks,
    )  # fmt: skip


def usable_bands(scenes: Sequence[Scene]) -> npt.NDArray[np.bool_]:
    """Bands that the files call good and that vary in every scene, (bands,) bool.

    Raises
    ------
    MismatchError
        The scenes have different bands, wavelengths or scale factors.
    UnreadableFileError
        No band is left.
    """
    first = scenes[0]
    usable = np.ones(first.shape[2], bool)
    for scene in scenes:
        if scene.shape[2] != first.shape[2]:
            raise MismatchError(
                f"{scene.path} has {scene.shape[2]} bands, {first.path} has {first.shape[2]}",
                "train on scenes of one sensor",
            )
        scales = {first.scale_factor, scene.scale_factor}
        if len(scales) > 1 and None not in scales:
            raise MismatchError(
                f"reflectance = value / {scene.scale_factor:g} in {scene.path}, but value / "
                f"{first.scale_factor:g} in {first.path}",
                "bring the scenes to one scale",
            )
        worst = shifted_band(first.wavelengths, scene.wavelengths)
        if worst is not None:
            raise MismatchError(
                f"band {worst + 1} of {scene.path} has another wavelength than in {first.path}",
                "train on scenes of one sensor",
            )
        usable &= scene.good_bands & varying_bands(scene)
    if not usable.any():
        raise UnreadableFileError(
            f"{first.path} has no usable band", "look at it with hsifcn info: all are bad or flat"
        )
    flat = int((first.good_bands & ~usable).sum())
    if flat:
        warnings.warn(f"{flat} bands of {first.path} are flat or empty: left out", stacklevel=2)
    return usable


def scene_scaling(
    scenes: Sequence[Scene],
    splits: Sequence[Split],
    bands: npt.NDArray[np.bool_],
    inductive: bool,
    *,
    unit_length: bool = False,
) -> Scaling:
    """Band statistics over the scenes' valid pixels, or over their training pixels only.

    Of spectra divided by their length if ``unit_length``; see ``Scaling``.

    Raises
    ------
    LabelError
        None of these pixels holds a measurement in every band.
    """

    def spectra() -> Any:
        for scene, split in zip(scenes, splits, strict=True):
            for window in strips(scene.shape, STATISTICS_VOXELS):
                block = read_bands(scene, window, bands)
                taken = valid_pixels(block, scene.nodata)
                if inductive:
                    taken &= split.train[window.slices]
                yield divided_by_length(block[taken]) if unit_length else block[taken]

    scaling = fit_scaling(spectra())
    if not len(scaling.mean):
        raise LabelError(
            f"no {'training ' if inductive else ''}pixel of {scenes[0].path} holds a measurement "
            "in every band",
            "check no-data values and labels: hsifcn info",
        )
    return replace(scaling, unit_length=unit_length)


def read_standardised(
    scene: Scene, bands: npt.NDArray[np.bool_], scaling: Scaling
) -> tuple[Tensor, npt.NDArray[np.bool_]]:
    """Read a whole scene, standardised.

    Returns
    -------
    cube : Tensor, (1, bands, rows, cols), float32, channels-last
    valid : ndarray, (rows, cols), bool
        False where there is no measurement; the cube is 0 there.
    """
    cube = np.empty((*scene.shape[:2], int(bands.sum())), np.float32)
    valid = read_standardised_into(cube, scene, bands, scaling)
    return torch.from_numpy(cube).permute(2, 0, 1)[None], valid


def read_standardised_into(
    out: npt.NDArray[np.float32],
    scene: Scene,
    bands: npt.NDArray[np.bool_],
    scaling: Scaling,
) -> npt.NDArray[np.bool_]:
    """Read a whole scene, standardised, into ``out``, (rows, cols, bands); tell what is valid."""
    valid = np.empty(scene.shape[:2], bool)
    for window in strips(scene.shape):
        block = read_bands(scene, window, bands)
        valid[window.slices] = valid_pixels(block, scene.nodata)
        out[window.slices] = scaling.apply(block, valid[window.slices])
    return valid


def require_same_size(scene: Scene, split: Split) -> None:
    """Make sure that labels and scene have the same size.

    Raises
    ------
    LabelError
        They differ.
    """
    rows, cols, _ = scene.shape
    if split.labels.shape != (rows, cols):
        raise LabelError(
            f"the labels are {split.labels.shape[0]}x{split.labels.shape[1]} pixels, {scene.path} "
            f"is {rows}x{cols}",
            "give labels of the scene's size",
        )
