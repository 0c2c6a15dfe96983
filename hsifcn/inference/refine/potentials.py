"""The back end: scores of a network made to agree with near and similar pixels.

Two methods, ``crf`` (``crf.py``) and ``mrf`` (``graph_cuts.py``), with the same two weights: how
much a neighbourhood says at most, in nats, and how different spectra may be to count as alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hsifcn.core.errors import SettingError
from hsifcn.data.standardise import Scaling
from hsifcn.inference.refine import mean_field as crf

METHODS = ("crf", "mrf")
FEATURES = 16  # groups of bands whose means are compared
MRF_OVERLAP = 32  # pixels round a tile's core that a cut sees where it may not see the whole scene
LARGEST_STRENGTH = 1000.0  # nats
BYTES_PER_EDGE = 120  # of a cut: ends, weight, capacities and flows both ways


@dataclass(frozen=True)
class Refinement:
    """A method with its weights.

    Attributes
    ----------
    method : str
        ``crf`` or ``mrf``.
    strength : float
        Nats that a wholly agreeing neighbourhood adds to the score of its class; 0 changes nothing.
    spectral_width : float
        Difference of spectra at which they count as little alike, in standard deviations of the
        training scenes (root mean square over groups of bands).
    """

    method: str
    strength: float
    spectral_width: float

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingError(f"there is no refinement '{self.method}'", "choose crf or mrf")
        if not (0 <= self.strength <= LARGEST_STRENGTH and 0 < self.spectral_width < math.inf):
            raise SettingError(f"{self} makes no sense", "strength is from 0, width above 0")

    @property
    def exact_in_tiles(self) -> bool:
        """Whether tiles with a halo of ``reach`` give what the whole scene gives."""
        return self.method == "crf" or self.strength == 0

    @property
    def reach(self) -> int:
        """Pixels round a tile's core that the method is given."""
        if self.strength == 0:
            return 0
        return crf.REACH if self.method == "crf" else MRF_OVERLAP

    def bytes_per_pixel(self, classes: int) -> int:
        """Memory that the method takes a pixel, the scores left out."""
        features = 4 * 3 * FEATURES
        if self.method == "crf":
            return features + 4 * (len(list(crf.half_window())) + 4 * classes)
        return features + 4 * BYTES_PER_EDGE + 16 * classes

    @torch.inference_mode()
    def apply(self, logits: Tensor, spectra: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Refine the scores of a scene, or of a tile with its halo.

        Parameters
        ----------
        logits : Tensor, (classes, rows, cols), float32
        spectra : Tensor, (features, rows, cols), float32
            Of ``reduced_spectra``.
        valid : Tensor, (rows, cols), bool

        Returns
        -------
        logits : Tensor, (classes, rows, cols), float32
            Those of the mean-field marginals; under ``mrf`` the very ones given.
        classes : Tensor, (rows, cols), int64
            From 0; those of pixels that are not valid mean nothing.
        """
        if self.strength == 0:
            return logits, logits.argmax(0)
        weights = self.strength, self.spectral_width
        if self.method == "crf":
            refined = crf.mean_field(logits, spectra, valid, *weights)
            return refined, refined.argmax(0)
        return logits, _smooth_by_cuts(logits, spectra, valid, *weights)


# Where no validation pixel tells: as weak as the candidates get.
DEFAULTS = {method: Refinement(method, 1.0, 0.5) for method in METHODS}


def choose_weights(method: str, stored: Refinement | None) -> Refinement | None:
    """The refinement by a method: ``stored`` if it is by that one, else that of ``DEFAULTS``.

    Returns
    -------
    Refinement or None
        None for ``none``.

    Raises
    ------
    SettingError
        There is no such method.
    """
    if method == "none":
        return None
    if method not in METHODS:
        raise SettingError(f"there is no refinement '{method}'", "choose none, crf or mrf")
    return stored if stored is not None and stored.method == method else DEFAULTS[method]


def candidates(method: str) -> list[Refinement]:
    """What is tried on validation pixels, from the weakest, which changes nothing, upwards."""
    grid = [
        Refinement(method, strength, width)
        for strength in (1.0, 2.0, 4.0, 8.0)
        for width in (0.25, 0.5, 1.0)
    ]
    return [Refinement(method, 0.0, 0.5), *grid]


def from_header(values: Mapping[str, Any] | None) -> Refinement | None:
    """Read what ``dataclasses.asdict`` wrote; any nonsense is a ValueError."""
    if values is None:
        return None
    try:
        return Refinement(
            str(values["method"]), float(values["strength"]), float(values["spectral_width"])
        )
    except SettingError as error:
        raise ValueError(error.message) from error


def reduced_spectra(spectra: Tensor, scaling: Scaling) -> Tensor:
    """Means over groups of neighbouring bands, each band in standard deviations.

    Neighbouring bands say much the same, so their means hold the signal with less noise; nothing
    hangs on the other pixels, so tiles give what the scene gives.

    Parameters
    ----------
    spectra : Tensor, (bands, rows, cols), float32
        In the units of the scene.
    scaling : Scaling
        Of the training scenes.

    Returns
    -------
    Tensor, (features, rows, cols), float32
        ``FEATURES`` of them, or as many as there are bands.
    """
    bands = len(scaling.mean)
    groups = np.array_split(np.arange(bands), min(FEATURES, bands))
    projection = np.zeros((len(groups), bands))
    for row, group in zip(projection, groups, strict=True):
        row[group] = 1 / (len(group) * scaling.std[group])
    offset = projection @ scaling.mean
    weight, bias = (
        torch.from_numpy(array.astype(np.float32)).to(spectra.device)
        for array in (projection, offset)
    )
    return torch.einsum("fb,brc->frc", weight, spectra) - bias[:, None, None]


def _smooth_by_cuts(
    logits: Tensor, spectra: Tensor, valid: Tensor, strength: float, spectral_width: float
) -> Tensor:
    """Classes of least Potts energy with contrast-sensitive weights, (rows, cols) int64.

    Weights fall with spectral difference as in Boykov, Jolly (2001), but not below a share that
    keeps single pixels from standing out however different they are.
    """
    from hsifcn.inference.refine.graph_cuts import PottsEnergy, alpha_expansion, grid_edges

    used = valid.flatten().cpu().numpy()
    first, second, nearness = grid_edges(valid.cpu().numpy())
    pixels = spectra.flatten(1).T.cpu().numpy()
    distance = np.square(pixels[first] - pixels[second]).mean(1)
    alike = np.exp(-distance / (2 * spectral_width**2))
    share = crf.APPEARANCE_SHARE
    weight = strength * nearness * (share * alike + 1 - share)
    place = np.cumsum(used) - 1
    unary = -logits.log_softmax(0).flatten(1).T.cpu().numpy()[used]
    energy = PottsEnergy.from_nats(unary, place[first], place[second], weight)
    classes = logits.argmax(0).flatten()
    classes[valid.flatten()] = torch.from_numpy(alpha_expansion(energy)).to(classes.device)
    return classes.reshape(valid.shape)
