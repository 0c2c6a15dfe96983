"""Augmentation: the eight flips and transposes of the square, and gain and offset of bands."""

from __future__ import annotations

import torch
from torch import Tensor

N_SYMMETRIES = 8


def transform(x: Tensor, symmetry: int) -> Tensor:
    """Turn (..., rows, cols) by one of the eight symmetries; 0 leaves it as it is."""
    if symmetry & 4:
        x = x.transpose(-1, -2)
    axes = [axis for axis, bit in ((-1, 1), (-2, 2)) if symmetry & bit]
    return x.flip(axes) if axes else x


def undo(x: Tensor, symmetry: int) -> Tensor:
    """The inverse of ``transform``."""
    axes = [axis for axis, bit in ((-1, 1), (-2, 2)) if symmetry & bit]
    if axes:
        x = x.flip(axes)
    return x.transpose(-1, -2) if symmetry & 4 else x


def channels_last(x: Tensor) -> Tensor:
    """The same tensor, its channels beside each other in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def jitter_bands(x: Tensor, scale: float) -> Tensor:
    """Multiply each band by about 1 and shift it a little, all pixels alike.

    Illumination, calibration and soil differ so from place to place.

    Parameters
    ----------
    x : Tensor, (scenes, bands, rows, cols)
        Standardised.
    scale : float
        Standard deviation of gain and offset, the same unit as ``x``; drawn from PyTorch's
        generator.
    """
    gain, offset = scale * torch.randn(2, 1, x.shape[1], 1, 1, device=x.device)
    return x.mul(1 + gain).add_(offset)
