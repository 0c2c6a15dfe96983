"""The back end of a run: weights chosen by the validation pixels alone, and the maps they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.process import Stopwatch
from hsifcn.core.scene import Scene, class_targets
from hsifcn.core.tiles import crop
from hsifcn.data.splits import Split
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.refine.potentials import DEFAULTS, Refinement, candidates


@dataclass(frozen=True)
class RefinedRun:
    """What the back end gave.

    Attributes
    ----------
    refinement : Refinement
        As chosen.
    maps : list of ndarray, (rows, cols), uint16
        The refined map of each scene.
    choice_seconds, predict_seconds : float
        Of choosing the weights, and of mapping with them.
    """

    refinement: Refinement
    maps: list[npt.NDArray[np.uint16]]
    choice_seconds: float
    predict_seconds: float

    def record(self, accuracy: dict[str, Any]) -> dict[str, Any]:
        """What ``metrics.json`` says of it, given the accuracy of the maps."""
        return {
            "method": self.refinement.method,
            **{measure: accuracy[measure] for measure in ("oa", "aa", "kappa")},
            "weights": {
                "strength": self.refinement.strength,
                "spectral_width": self.refinement.spectral_width,
            },
            "choice_seconds": self.choice_seconds,
            "predict_seconds": self.predict_seconds,
        }


def refine_run(
    method: str,
    bundle: Bundle,
    scenes: Sequence[Scene],
    splits: Sequence[Split],
    *,
    device: str = "cpu",
    max_memory: int | None = None,
) -> RefinedRun:
    """Choose the weights of a back end for a trained model, and map the scenes with them."""
    with Stopwatch() as choice:
        predictor = Predictor(bundle, device, DEFAULTS[method])
        chosen = choose_refinement(method, predictor, scenes, splits, max_memory)
    with Stopwatch() as mapping:
        predictor = Predictor(bundle, device, chosen)
        maps = [predictor.label_map(scene, max_memory) for scene in scenes]
    return RefinedRun(chosen, maps, choice.seconds, mapping.seconds)


@dataclass(frozen=True)
class ScoredTile:
    """What candidates are tried on.

    Attributes
    ----------
    logits, spectra, valid : Tensor
        As ``Refinement.apply`` takes them.
    pixels : ndarray, (n,), int64
        Flat indices of the validation pixels in the tile's core.
    targets : ndarray, (n,), int64
        Their classes, from 0.
    """

    logits: Tensor
    spectra: Tensor
    valid: Tensor
    pixels: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]

    def right(self, refinement: Refinement) -> int:
        """Validation pixels whose class is right after a refinement."""
        _, classes = refinement.apply(self.logits, self.spectra, self.valid)
        return int((classes.flatten().cpu().numpy()[self.pixels] == self.targets).sum())


def choose_refinement(
    method: str,
    predictor: Predictor,
    scenes: Sequence[Scene],
    splits: Sequence[Split],
    max_memory: int | None = None,
) -> Refinement:
    """The weakest of those ``candidates`` that get most validation pixels right.

    Parameters
    ----------
    method : str
        ``crf`` or ``mrf``.
    predictor : Predictor
        Of the trained model; its tiles must suit the strongest candidate, so it refines by
        ``DEFAULTS``.
    scenes, splits : sequences of the same length
    max_memory : int, optional
        Ceiling on the process's resident memory while scoring, bytes.

    Returns
    -------
    Refinement
        Of strength 0 where none is better than what the network says; that of ``DEFAULTS`` where
        there are no validation pixels.
    """
    tiles = [
        tile
        for scene, split in zip(scenes, splits, strict=True)
        for tile in scored_tiles(predictor, scene, split, max_memory)
    ]
    n_pixels = sum(len(tile.pixels) for tile in tiles)
    best, most_right = DEFAULTS[method], -1
    if not n_pixels:
        return best
    for candidate in candidates(method):
        right = sum(tile.right(candidate) for tile in tiles)
        if right > most_right:
            best, most_right = candidate, right
        if most_right == n_pixels:  # a stronger one can be no better
            break
    return best


@torch.inference_mode()
def scored_tiles(
    predictor: Predictor, scene: Scene, split: Split, max_memory: int | None
) -> list[ScoredTile]:
    """The tiles of a scene that hold validation pixels, scored."""
    targets = class_targets(np.where(split.validation, split.labels, 0))
    scored = []
    for tile in predictor.tiles(scene, max_memory):
        if not split.validation[tile.core.slices].any():
            continue
        logits, spectra, valid = predictor.scores_and_spectra(scene, tile.read)
        wanted = np.full(valid.shape, -1)
        wanted[crop(tile)] = targets[tile.core.slices]
        wanted[~valid] = -1
        pixels = np.flatnonzero(wanted >= 0)
        mask = torch.from_numpy(valid).to(logits.device)
        scored.append(ScoredTile(logits, spectra, mask, pixels, wanted.flat[pixels]))
    return scored
