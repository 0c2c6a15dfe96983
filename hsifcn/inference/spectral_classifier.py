"""A classifier of single spectra that travels with a network.

A network learns where things lie in its training scenes, so it errs in a scene of other ground.
Classifiers of single spectra err less there. So their scores are averaged with the network's in
scenes that the network does not know; see ``rotation.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.process import FLOAT
from hsifcn.inference.refine.potentials import LARGEST_STRENGTH

BATCH = 1024  # spectra that are scored at once, or fewer:
DISTANCES = 2**21  # from points that are held at once; training keeps 1536 points at most
KERNEL_BYTES = 2 * FLOAT * DISTANCES  # that these take, with room for a copy
_PREFIX = "spectral."  # of its tensors in the file of a model

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class KernelScores:
    """Scores that fall with the distance of a centred spectrum from labelled ones.

    ``exp(-|spectrum @ projection - point|^2) @ coefficients``, summed over the points.

    Attributes
    ----------
    projection : ndarray, (bands, components), float32
    points : ndarray, (points, components), float32
    coefficients : ndarray, (points, classes), float32
    """

    projection: Floats
    points: Floats
    coefficients: Floats


@dataclass(frozen=True, eq=False)
class SpectralClassifier:
    """Scores of every class that are functions of one spectrum: a linear one, plus kernels.

    Attributes
    ----------
    centre : ndarray, (bands,), float32
        Subtracted from spectra as the network gets them before they are standardised: of length 1
        where ``Scaling.unit_length`` is set.
    directions : ndarray, (bands, classes), float32
    offsets : ndarray, (classes,), float32
    kernels : tuple of KernelScores
    expected_oa : float or None
        Accuracy at pixels of labelled fields that it did not learn from: what to expect of it in
        another scene. None where no class has two fields.
    smoothing : float
        Nats that a wholly agreeing neighbourhood adds to the score of its class, where this
        classifier decides alone: the more, the wider the fields of the training scenes.
    """

    centre: Floats
    directions: Floats
    offsets: Floats
    kernels: tuple[KernelScores, ...] = ()
    expected_oa: float | None = None
    smoothing: float = 0.0

    def to_tensors(self) -> dict[str, Tensor]:
        """Its arrays, by name."""
        arrays = {name: getattr(self, name) for name in ("centre", "directions", "offsets")}
        for number, kernel in enumerate(self.kernels):
            arrays |= {f"kernels.{number}.{name}": value for name, value in vars(kernel).items()}
        return {_PREFIX + name: torch.from_numpy(value) for name, value in arrays.items()}

    def to_header(self) -> dict[str, Any]:
        """The rest, as plain values."""
        return {
            "kernels": len(self.kernels),
            "expected_oa": self.expected_oa,
            "smoothing": self.smoothing,
        }

    @classmethod
    def take_from(
        cls, tensors: dict[str, Tensor], header: Mapping[str, Any] | None, bands: int, classes: int
    ) -> Self | None:
        """Take out of a model's tensors and header what it holds; nonsense is a ValueError."""
        if header is None:
            return None

        def take(name: str, *shape: int) -> Floats:
            tensor = tensors.pop(_PREFIX + name)
            fits = tensor.dtype == torch.float32 and tensor.dim() == len(shape)
            if not (
                fits
                and all(side in (-1, own) for side, own in zip(shape, tensor.shape, strict=True))
            ):
                raise ValueError("the spectral classifier is damaged")
            if not tensor.isfinite().all():
                raise ValueError("a number of the spectral classifier is not finite")
            array: Floats = tensor.numpy()
            return array

        centre, offsets = take("centre", bands), take("offsets", classes)
        directions = take("directions", bands, classes)
        kernels = []
        for number in range(int(header["kernels"])):
            projection = take(f"kernels.{number}.projection", bands, -1)
            points = take(f"kernels.{number}.points", -1, projection.shape[1])
            coefficients = take(f"kernels.{number}.coefficients", len(points), classes)
            kernels.append(KernelScores(projection, points, coefficients))
        expected, smoothing = header["expected_oa"], float(header["smoothing"])
        if expected is not None and not 0 <= expected <= 1:
            raise ValueError("the accuracy expected of the spectral classifier is out of 0-1")
        if not 0 <= smoothing <= LARGEST_STRENGTH:
            raise ValueError("the smoothing of the spectral classifier is out of range")
        return cls(centre, directions, offsets, tuple(kernels), expected, smoothing)


class SpectralScorer:
    """A spectral classifier on a device.

    Parameters
    ----------
    classifier : SpectralClassifier
    device : torch.device
    """

    def __init__(self, classifier: SpectralClassifier, device: torch.device) -> None:
        def there(array: Floats) -> Tensor:
            return torch.from_numpy(array).to(device)

        self.centre, self.offsets = there(classifier.centre), there(classifier.offsets)
        self.directions = there(classifier.directions)
        self.kernels = [
            (points.t(), points.square().sum(1), there(one.projection), there(one.coefficients))
            for one in classifier.kernels
            for points in (there(one.points),)
        ]
        most = max((len(one.points) for one in classifier.kernels), default=1)
        self.batch = max(1, min(BATCH, DISTANCES // most))

    def score(self, spectra: Tensor, out: Tensor) -> None:
        """Write the scores (n, classes) of spectra (n, bands) to ``out``."""
        parts = torch.split(spectra, self.batch), torch.split(out, self.batch)
        for part, scores in zip(*parts, strict=True):
            centred = part - self.centre  # first: products of what is not centred lose digits
            torch.addmm(self.offsets, centred, self.directions, out=scores)
            for points, squares, projection, coefficients in self.kernels:
                features = centred @ projection
                # |a - b|^2 = |a|^2 - 2 a.b + |b|^2, in one matrix product
                distances = torch.addmm(squares, features, points, alpha=-2)
                distances += features.square().sum(1, keepdim=True)
                scores.addmm_(distances.clamp_(min=0).neg_().exp_(), coefficients)


@dataclass(frozen=True)
class SpectralShare:
    """How much the spectral classifier counts beside the network.

    Attributes
    ----------
    weight : float
        Of its scores, 0 to 1; the network's have the rest.
    temperature : float
        What the weighted mean of both scores is divided by, after its refinement.
    """

    weight: float
    temperature: float = 1.0
