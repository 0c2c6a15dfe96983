"""Where a model may be trusted: how unlike a pixel is to all that was labelled.

The dissimilarity index of Meyer, Pebesma (2021), *Predicting into unknown space? Estimating the
area of applicability of spatial prediction models*, Methods in Ecology and Evolution 12(9),
doi:10.1111/2041-210X.13650: the distance from the nearest labelled pixel. They weigh variables by
what these tell of the classes. Here they are principal components of spectra, whitened by the
scatter within classes. The limit is the distance that 95 % of left-out labels keep; whole groups of
labels are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from hsifcn.core.process import FLOAT

INSIDE_SHARE = 0.95  # of the left-out labels, which are inside by definition of the limit
COMPONENTS = 10  # at most
MAX_PROTOTYPES = 512
LARGEST_PERCENT = 254  # that is written; 255 stands for no measurement
STEP_PIXELS = 2048  # whose distances are held at once
_PREFIX = "applicability."  # of tensors in the file of a model
_NAMES = ("projection", "offset", "prototypes")


@dataclass(frozen=True, eq=False)
class Applicability:
    """A sample of what was labelled, in a space where a distance of 1 is the limit.

    Attributes
    ----------
    projection : Tensor, (bands, components), float32
    offset : Tensor, (components,), float32
        A spectrum, as the network gets it before it is standardised, lies there at
        ``spectrum @ projection + offset``.
    prototypes : Tensor, (n, components), float32
        Labelled pixels there.
    """

    projection: Tensor
    offset: Tensor
    prototypes: Tensor

    def to(self, device: torch.device) -> Applicability:
        """The same on a device."""
        return Applicability(*(getattr(self, name).to(device) for name in _NAMES))

    def dissimilarity(self, spectra: Tensor) -> Tensor:
        """Distance from the nearest prototype; up to 1 a pixel is like what was labelled.

        Parameters
        ----------
        spectra : Tensor, (pixels, bands), float32
            As ``RawSceneNetwork.normalise`` gives them.

        Returns
        -------
        Tensor, (pixels,), float32
        """
        points = (
            torch.addmm(self.offset, part, self.projection)
            for part in torch.split(spectra, STEP_PIXELS)
        )
        return torch.cat([nearest(part, self.prototypes) for part in points])

    def to_tensors(self) -> dict[str, Tensor]:
        """Tensors for the file of a model."""
        return {_PREFIX + name: getattr(self, name) for name in _NAMES}

    @classmethod
    def take_from(cls, tensors: dict[str, Tensor], bands: int) -> Self | None:
        """Take what ``to_tensors`` gave out of a file's tensors; nonsense is a ValueError."""
        own = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_PREFIX)}
        if not own:
            return None
        found = cls(*(own.pop(_PREFIX + name) for name in _NAMES))
        count, components = found.prototypes.shape
        shapes = tuple(found.projection.shape), tuple(found.offset.shape)
        if shapes != ((bands, components), (components,)) or not count * components or own:
            raise ValueError("the prototypes of what was labelled are damaged")
        parts = found.projection, found.offset, found.prototypes
        if not all(part.dtype == torch.float32 and part.isfinite().all() for part in parts):
            raise ValueError("a prototype of what was labelled is no number")
        return found


def nearest(points: Tensor, prototypes: Tensor) -> Tensor:
    """Distance of points (n, components) from the nearest of some prototypes, (n,)."""
    offsets = prototypes.square().sum(1)
    squares = torch.addmm(offsets, points, prototypes.T, alpha=-2).amin(1)
    return squares.add_(points.square().sum(1)).clamp_(min=0).sqrt_()


STEP_BYTES = FLOAT * STEP_PIXELS * (MAX_PROTOTYPES + 3 * COMPONENTS)  # that it takes


@dataclass(frozen=True)
class UnlikeShare:
    """How much of a scene is unlike anything labelled.

    Attributes
    ----------
    share_outside : float
        Share of the pixels whose dissimilarity is over 1.
    pixels : int
        That were looked at.
    whole_scene : bool
        Whether these are all that hold a measurement, not a sample.
    """

    share_outside: float
    pixels: int
    whole_scene: bool

    def record(self) -> dict[str, Any]:
        """The numbers, for ``--json``."""
        return asdict(self)


def sentence(record: Mapping[str, Any]) -> str:
    """What ``UnlikeShare.record`` means, in one line."""
    about = "" if record["whole_scene"] else "about "
    return (
        f"{about}{100 * record['share_outside']:.1f} % of this scene is unlike anything labelled "
        f"({100 * (1 - INSIDE_SHARE):.0f} % of left-out labels are)"
    )
