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
from hsifcn.core.scene import Scene, class_targets, shifted_band
from hsifcn.data.bands import varying_bands
from hsifcn.data.splits import Split
from hsifcn.data.standardise import (
    Scaling,
    fit_scaling,
    read_bands,
    strips,
    valid_pixels,
)
from hsifcn.propagation.label_coverage import label_coverage, labels_at
from hsifcn.propagation.random_walker import PseudoLabels, make_pseudo_labels
from hsifcn.training.augment import channels_last


@dataclass(frozen=True)
class TrainingScene:
    """A scene as the network sees it, with the labels it may learn from; no others.

    Or several crops of one size, which the network sees at once.

    Attributes
    ----------
    cube : Tensor, (scenes, bands, rows, cols), float32, channels-last
        Standardised; pixels without a measurement are 0, the band mean.
    counted : Tensor, (scenes, 1, rows, cols), bool, or None
        Pixels that count in batch statistics; None where all do.
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
    """Scenes that every step sees whole, held in memory.

    Parameters
    ----------
    scenes : sequence of TrainingScene
    """

    whole = True

    def __init__(self, scenes: Sequence[TrainingScene]) -> None:
        if not any(len(scene.pixels) for scene in scenes):
            raise LabelError(
                "no training pixel holds a measurement",
                "check no-data values and labels: hsifcn info",
            )
        self.scenes = self.validation = self.batch_norm_inputs = scenes
        self.n_validation = sum(len(scene.validation_targets) for scene in scenes)

    def counts(self, classes: int) -> npt.NDArray[np.int64]:
        """Training pixels of each class."""
        targets = torch.cat([scene.targets for scene in self.scenes])
        counts: npt.NDArray[np.int64] = torch.bincount(targets.cpu(), minlength=classes).numpy()
        return counts

    def coverage(self) -> float:
        """Label coverage of the training pixels, see ``propagation.label_coverage``."""
        return label_coverage(
            labels_at(scene.pixels, scene.targets, scene.cube.shape[2:]) for scene in self.scenes
        )

    def draw(self, rng: np.random.Generator) -> list[TrainingScene]:
        """The scenes with training pixels: all of them, whatever the generator."""
        return [scene for scene in self.scenes if len(scene.pixels)]

    def read(self, scene: TrainingScene, *, cores_only: bool = False) -> TrainingScene:
        """A scene, held already."""
        return scene

    def with_pseudo_labels(self, classes: int) -> WholeScenes:
        """The same scenes, their training labels propagated over them."""
        return WholeScenes(
            [
                replace(
                    scene,
                    pseudo_labels=make_pseudo_labels(
                        scene.cube, scene.counted, scene.pixels, scene.targets, classes
                    ),
                )
                if len(scene.pixels)
                else scene
                for scene in self.scenes
            ]
        )

    def with_validation(self) -> WholeScenes:
        """The same scenes, whose validation pixels are training pixels, too."""
        return WholeScenes([with_validation(scene) for scene in self.scenes])

    def halved(self, half: int) -> WholeScenes:
        """The same scenes, half of the training pixels of each class for validation."""
        return WholeScenes([halved(scene, half) for scene in self.scenes])


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
    scenes: Sequence[Scene], splits: Sequence[Split], bands: npt.NDArray[np.bool_], inductive: bool
) -> Scaling:
    """Band statistics over the scenes' valid pixels, or over their training pixels only.

    Raises
    ------
    LabelError
        None of these pixels holds a measurement in every band.
    """

    def spectra() -> Any:
        for scene, split in zip(scenes, splits, strict=True):
            for window in strips(scene.shape):
                block = read_bands(scene, window, bands)
                taken = valid_pixels(block, scene.nodata)
                if inductive:
                    taken &= split.train[window.slices]
                yield block[taken]

    scaling = fit_scaling(spectra())
    if not len(scaling.mean):
        raise LabelError(
            f"no {'training ' if inductive else ''}pixel of {scenes[0].path} holds a measurement "
            "in every band",
            "check no-data values and labels: hsifcn info",
        )
    return scaling


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
    rows, cols, _ = scene.shape
    cube = np.empty((rows, cols, int(bands.sum())), np.float32)
    valid = np.empty((rows, cols), bool)
    for window in strips(scene.shape):
        block = read_bands(scene, window, bands)
        valid[window.slices] = valid_pixels(block, scene.nodata)
        cube[window.slices] = scaling.apply(block, valid[window.slices])
    return channels_last(torch.from_numpy(cube).permute(2, 0, 1)[None]), valid


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


def load_training_scene(
    scene: Scene,
    split: Split,
    bands: npt.NDArray[np.bool_],
    scaling: Scaling,
    *,
    inductive: bool,
    device: torch.device,
) -> TrainingScene:
    """Read and standardise a scene.

    Raises
    ------
    LabelError
        Labels and scene differ in size.
    """
    require_same_size(scene, split)
    cube, valid = read_standardised(scene, bands, scaling)
    counted = valid & split.train if inductive else valid
    targets = class_targets(split.labels)

    def learn_from(mask: npt.NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        taken = mask & valid
        pixels = torch.from_numpy(np.flatnonzero(taken))
        return pixels.to(device), torch.from_numpy(targets[taken]).to(device)

    mask = None if counted.all() else torch.from_numpy(counted)[None, None].to(device)
    return TrainingScene(
        cube.to(device), mask, *learn_from(split.train), *learn_from(split.validation)
    )


def with_validation(scene: TrainingScene) -> TrainingScene:
    """The scene with its validation pixels appended to the training pixels."""
    return replace(
        scene,
        pixels=torch.cat([scene.pixels, scene.validation_pixels]),
        targets=torch.cat([scene.targets, scene.validation_targets]),
        validation_pixels=scene.validation_pixels[:0],
        validation_targets=scene.validation_targets[:0],
    )


def halved(scene: TrainingScene, half: int) -> TrainingScene:
    """The scene with every second training pixel of each class, the others for validation.

    Parameters
    ----------
    scene : TrainingScene
    half : int
        0 or 1: which of the two halves trains.
    """
    by_class = torch.argsort(scene.targets, stable=True)
    trains = torch.zeros_like(scene.targets, dtype=torch.bool)
    trains[by_class[half::2]] = True
    return replace(
        scene,
        pixels=scene.pixels[trains],
        targets=scene.targets[trains],
        validation_pixels=scene.pixels[~trains],
        validation_targets=scene.targets[~trains],
    )
