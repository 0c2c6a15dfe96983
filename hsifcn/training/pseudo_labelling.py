"""The step of training that propagates labels: windows of the scenes, with and without validation.

Scenes that are trained on whole are one window each. Of scenes that are trained on in crops, the
windows with the most training pixels are processed, rare classes counting more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.scene import Scene, Window
from hsifcn.core.tiles import Tile, plan_tiles
from hsifcn.data.split import Split
from hsifcn.data.standardise import Scaling, read_bands, valid_pixels
from hsifcn.inference.bundle import Bundle
from hsifcn.propagation.pseudo_labels import (
    HALO,
    MAX_WINDOWS,
    Propagation,
    PropagationWindow,
    WindowPseudoLabels,
)
from hsifcn.propagation.selection import Evidence
from hsifcn.propagation.source import PseudoLabelSource
from hsifcn.training.scenes import LabelArray, LabelledScene, label_scene, scene_scaling


@dataclass(frozen=True)
class PseudoLabelSets:
    """Pseudo-labels that training needs, and how they came about.

    Attributes
    ----------
    training : list of WindowPseudoLabels
        Of the training pixels.
    all_labels : list of WindowPseudoLabels
        Of the training and validation pixels; those of the training pixels where there are no
        others, or scenes are trained on in crops.
    evidence : Evidence
        What was chosen from the training pixels, and why.
    """

    training: list[WindowPseudoLabels]
    all_labels: list[WindowPseudoLabels]
    evidence: Evidence


class WindowReader:
    """Reads windows of scenes, standardised band by band.

    Parameters
    ----------
    scenes : sequence of LabelledScene
    bands : ndarray, (bands of the scene,), bool
        Those used.
    scaling : Scaling
    device : torch.device
    """

    def __init__(
        self,
        scenes: Sequence[LabelledScene],
        bands: npt.NDArray[np.bool_],
        scaling: Scaling,
        device: torch.device,
    ) -> None:
        self.scenes, self.bands, self.scaling, self.device = scenes, bands, scaling, device

    def __call__(self, window: PropagationWindow) -> tuple[Tensor, Tensor | None]:
        """Cube (1, bands, rows, cols) and valid pixels (1, 1, rows, cols), None for all."""
        scene = self.scenes[window.scene].scene
        block = read_bands(scene, window.tile.read, self.bands)
        valid = valid_pixels(block, scene.nodata)
        spectra = torch.from_numpy(self.scaling.apply(block, valid))
        cube = spectra.permute(2, 0, 1)[None].contiguous().to(self.device)
        return cube, None if valid.all() else torch.from_numpy(valid)[None, None].to(self.device)


def propagate_labels(
    scenes: Sequence[LabelledScene],
    bands: npt.NDArray[np.bool_],
    scaling: Scaling,
    classes: int,
    window_side: int | None,
    device: torch.device,
) -> PseudoLabelSets:
    """Propagate labels over the scenes, with and without their validation pixels.

    Parameters
    ----------
    scenes : sequence of LabelledScene
    bands, scaling
        Of ``WindowReader``.
    classes : int
    window_side : int or None
        Side of the core of the windows; None for whole scenes.
    device : torch.device
    """
    read = WindowReader(scenes, bands, scaling, device)
    training = [scene.training for scene in scenes]
    propagation = Propagation(choose_windows(training, window_side), read, classes, scaling)
    pseudo_labels = propagation.pseudo_labels()
    # Validation pixels are trained on in the last steps on whole scenes, but not in crops.
    if window_side is not None or not any(scene.validation.any() for scene in scenes):
        return PseudoLabelSets(pseudo_labels, pseudo_labels, propagation.evidence)
    both = [scene.training + scene.validation for scene in scenes]
    windows = choose_windows(both, window_side)
    all_labels = Propagation(windows, read, classes, scaling, earlier=propagation).pseudo_labels()
    return PseudoLabelSets(pseudo_labels, all_labels, propagation.evidence)


def trace_pseudo_label(
    scenes: Sequence[Scene],
    splits: Sequence[Split],
    bundle: Bundle,
    number: int,
    pixel: tuple[int, int],
) -> PseudoLabelSource | None:
    """Propagate the training pixels of a finished run again, and trace one pseudo-label.

    Parameters
    ----------
    scenes, splits : sequences
        Of the run, in its order.
    bundle : Bundle
        Its model.
    number : int
        Of the scene, from 0.
    pixel : tuple of int
        Row and column in it.

    Returns
    -------
    PseudoLabelSource or None
        None where labels were propagated over windows, and none holds the pixel.
    """
    bands = bundle.good_bands
    labelled = [
        label_scene(scene, split, bands, inductive=False)
        for scene, split in zip(scenes, splits, strict=True)
    ]
    scaling = scene_scaling(scenes, splits, bands, inductive=False)
    read = WindowReader(labelled, bands, scaling, torch.device("cpu"))
    side = (bundle.settings.get("crops") or {}).get("window")
    windows = choose_windows([scene.training for scene in labelled], side)
    return Propagation(windows, read, bundle.spec.classes, scaling).trace(number, *pixel)


def choose_windows(labels: Sequence[LabelArray], side: int | None) -> list[PropagationWindow]:
    """Windows with labelled pixels, at most ``MAX_WINDOWS`` where scenes are cut.

    Parameters
    ----------
    labels : sequence of ndarray, (rows, cols), uint16
        Of each scene; 0 = unlabelled.
    side : int or None
        Of the cores; None for whole scenes.
    """
    found: list[PropagationWindow] = []
    if side is None:
        for number, own in enumerate(labels):
            if own.any():
                whole = Window(0, 0, *own.shape)
                found.append(PropagationWindow(number, Tile(whole, whole), own))
        return found
    counts = np.bincount(np.concatenate([own[own > 0] for own in labels]))
    worth = []
    for number, own in enumerate(labels):
        rows, cols = own.shape
        for tile in plan_tiles(rows, cols, tile=(side, side), halo=HALO, stride=1):
            inside = own[tile.core.slices]
            if inside.any():
                found.append(PropagationWindow(number, tile, own[tile.read.slices]))
                worth.append((1 / counts[inside[inside > 0]]).sum())
    order = np.argsort(-np.array(worth), kind="stable")
    return [found[place] for place in order[:MAX_WINDOWS]]
