"""Whether a network knows a scene: its map of such a scene stays the same when that is turned.

A network that is trained on turned and mirrored scenes gives the same map of its training scenes
whichever way round they are: all but one or two pixels in a hundred, in another light or with more
noise, too. In a scene of other ground, or of another sensor, it has learnt no such thing, and the
share of pixels that get another class grows several times. No label is needed to see that.

Where the share is large, a classifier of single spectra, which carries over better to other ground,
counts beside the network or alone. It does not see fields, so its scores are refined as by a CRF,
the more the wider the fields of the training scenes are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hsifcn.core.scene import Scene, Window
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.refine.potentials import Refinement
from hsifcn.inference.spectral_classifier import SpectralShare
from hsifcn.inference.streaming import Block, read_blocks
from hsifcn.models.temperature import FOR_UNKNOWN_SCENES, temperature_of_confidence

_SIDE = 64  # rows and columns of the windows that are turned
_WINDOWS = 2  # of them along each side of a scene
# With a measurement; with fewer nothing is told. Of small pieces (24 to 32 rows and columns) of
# Indian Pines, Houston and EnMAP a tenth to a half would count as unknown to a network that was
# trained on the whole scene; of pieces of 48, a tenth (a fifth of EnMAP's); of 64, none.
LEAST_PIXELS = 2000
# Chosen on halves of Indian Pines and of four other scenes, gains, offsets, haze and noise; see
# docs/ideas.md. Added to shares, so that two that are nearly 0 are alike.
FLOOR = 0.005
KNOWN = 1.5  # times the share of the training scenes: up to here the network decides alone
UNKNOWN = 3.0  # times that share: from here on the spectral classifier decides alone
SPECTRAL_WIDTH = 1.0  # of the refinement, see ``Refinement``


@dataclass(frozen=True)
class RotationCheck:
    """How many pixels of a scene get another class when it is turned by 180 degrees.

    Attributes
    ----------
    changed : float
        Share of the pixels looked at.
    changed_in_training : float
        The same of the training scenes.
    expected_oa : float or None
        Accuracy of the spectral classifier at labelled fields that it had not learnt.
    """

    changed: float
    changed_in_training: float
    expected_oa: float | None = None

    @property
    def ratio(self) -> float:
        """How many times as many pixels change as in the training scenes."""
        return (self.changed + FLOOR) / (self.changed_in_training + FLOOR)

    @property
    def known(self) -> bool:
        """Whether the network reads the scene as surely as its training scenes."""
        return self.ratio <= KNOWN

    @property
    def spectral_weight(self) -> float:
        """Weight of the spectral classifier's scores, 0 to 1; the network's have the rest."""
        return float(np.clip((self.ratio - KNOWN) / (UNKNOWN - KNOWN), 0, 1))

    def warning(self) -> str | None:
        """What it means for the map; None where the network knows the scene."""
        if self.known:
            return None
        known = (
            ""
            if self.expected_oa is None
            else (
                f" (at labelled fields that it had not learnt, it was right in "
                f"{100 * self.expected_oa:.0f} %)"
            )
        )
        return (
            f"the network does not know this scene: turned by 180 degrees, "
            f"{100 * self.changed:.1f} % of its pixels get another class "
            f"({100 * self.changed_in_training:.1f} % in training), so a classifier of single "
            f"spectra counts with weight {self.spectral_weight:.2f}{known}; expect a poorer map "
            "than in training, and check it"
        )

    def record(self) -> dict[str, Any]:
        """The numbers, for ``--json``."""
        return asdict(self) | {"spectral_weight": self.spectral_weight}


def check_rotation(predictor: Predictor, scene: Scene) -> RotationCheck | None:
    """Turn parts of a scene and compare with the training scenes.

    Returns
    -------
    RotationCheck or None
        None where the model holds no spectral classifier, or hardly any pixel is measured.
    """
    bundle = predictor.bundle
    changed = changed_share(predictor, [scene])
    classifier = bundle.spectral_classifier
    if changed is None or bundle.changed_when_turned is None or classifier is None:
        return None
    return RotationCheck(changed, bundle.changed_when_turned, classifier.expected_oa)


def let_spectra_count(predictor: Predictor, scene: Scene, check: RotationCheck) -> Predictor:
    """A predictor in which the spectral classifier has the share that a check gives it.

    The less the network knows the scene, the more the mean confidence is that of left-out fields:
    that of the training scenes would promise too much.
    """
    if not check.spectral_weight:
        return predictor
    classifier = predictor.bundle.spectral_classifier
    assert classifier is not None  # else there is no check
    share = SpectralShare(check.spectral_weight)
    strength = classifier.smoothing * check.spectral_weight
    refinement = Refinement("crf", strength, SPECTRAL_WIDTH) if strength else None
    sharing = predictor.sharing(share, refinement)
    if classifier.expected_oa is None:
        return sharing
    scores = np.concatenate(
        [refined_scores(sharing, *sample) for sample in sampled_blocks(predictor, [scene])]
    )
    unknown = temperature_of_confidence(scores, classifier.expected_oa, FOR_UNKNOWN_SCENES)
    share = replace(share, temperature=unknown**check.spectral_weight)
    return predictor.sharing(share, refinement)


def refined_scores(
    predictor: Predictor, window: Window, block: Block
) -> npt.NDArray[np.floating[Any]]:
    """Scores (n, classes) of the measured pixels of a window, after the refinement."""
    valid = torch.from_numpy(block[1].reshape(window.rows, window.cols)).to(predictor.device)
    scores, spectra, _ = predictor.score_blocks(iter([block]), window, with_spectra=True)
    if predictor.refinement is not None:
        assert spectra is not None
        scores, _ = predictor.refinement.apply(scores, spectra, valid)
    found: npt.NDArray[np.floating[Any]] = scores[:, valid].T.cpu().numpy()
    return found


def changed_share(predictor: Predictor, scenes: Sequence[Scene]) -> float | None:
    """Share of pixels whose class changes when windows of scenes are turned by 180 degrees.

    None where fewer than ``LEAST_PIXELS`` of them hold a measurement.
    """
    changed = pixels = 0
    for window, (spectra, valid) in sampled_blocks(predictor, scenes):
        turned = spectra[::-1].copy(), valid[::-1].copy()  # before scoring, which changes spectra
        upright, _, _ = predictor.score_blocks(iter([(spectra, valid)]), window)
        other, _, _ = predictor.score_blocks(iter([turned]), window)
        differs = upright.argmax(0) != other.argmax(0).flip(0, 1)
        changed += int(differs.flatten().cpu().numpy()[valid].sum())
        pixels += int(valid.sum())
    return changed / pixels if pixels >= LEAST_PIXELS else None


def sampled_blocks(predictor: Predictor, scenes: Sequence[Scene]) -> Iterator[tuple[Window, Block]]:
    """Windows of scenes that are looked at, each with its pixels."""
    for scene in scenes:
        for window in turned_windows(scene):
            blocks = list(read_blocks(scene, [window], predictor.bundle.good_bands))
            spectra, valid = zip(*blocks, strict=True)
            yield window, (np.concatenate(spectra), np.concatenate(valid))


def turned_windows(scene: Scene) -> list[Window]:
    """Windows spread evenly over a scene, none on another."""
    rows, cols = scene.shape[:2]
    height, width = min(_SIDE, rows), min(_SIDE, cols)
    down, across = (min(_WINDOWS, max(1, side // _SIDE)) for side in (rows, cols))
    # A quarter in from the border where there are two, in the middle where there is one.
    return [
        Window(round((rows - height) * place), round((cols - width) * other), height, width)
        for place in (np.arange(down) + 0.5) / down
        for other in (np.arange(across) + 0.5) / across
    ]
