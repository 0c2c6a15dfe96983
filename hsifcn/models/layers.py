"""The layers that every network is made of.

All of them are local when predicting (batch norm uses stored statistics), so that a scene may be
cut into tiles without changing a score. Tensors are ``(scenes, channels, rows, cols)``, laid out
channels-last in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class BatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics may be taken over some of the pixels only.

    With ``valid`` ((scenes, 1, rows, cols), see ``WholeSceneNetwork``), pixels where it is 0 (no
    data, or not to be looked at) are normalised but do not count in the mean and the variance. When
    predicting, the stored statistics are used and ``valid`` plays no part.

    Attributes
    ----------
    rows_of_all : callable or None
        Where several processes share a batch: turns (n,) into (processes, n), the values of all.
        Then the statistics are those of the whole batch.
    """

    momentum: float
    rows_of_all: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalise ``x``, (scenes, channels, rows, cols)."""
        alone = self.rows_of_all is None
        if not self.training or (alone and valid is None and x.numel() > x.shape[1]):
            return super().forward(x)
        # Without a mask where PyTorch refuses a single value a channel, which has no spread.
        mask = torch.ones_like(x[:, :1], dtype=torch.bool) if valid is None else valid > 0
        mean, var = masked_moments(x, mask)
        if self.rows_of_all is None:
            self._store(mean, var)
        else:
            own = torch.cat([mask.sum().to(mean)[None], mean, var])
            rows = self.rows_of_all(own)
            mean, var = pooled_moments(rows[:, 0], *rows[:, 1:].chunk(2, dim=1))
            n = rows[:, 0].sum()  # without a mask PyTorch stores the unbiased variance
            self._store(mean, var * n / (n - 1).clamp(min=1) if valid is None else var)
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]

    @torch.no_grad()
    def _store(self, mean: Tensor, var: Tensor) -> None:
        """Move the stored statistics towards those of a batch, as PyTorch does without a mask."""
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)


def masked_moments(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of ``x`` over the pixels where ``valid`` is True."""
    count = valid.sum().clamp(min=1)
    mean = (x * valid).sum((0, 2, 3)) / count
    var = ((x - mean[:, None, None]).square() * valid).sum((0, 2, 3)) / count
    return mean, var


def pooled_moments(counts: Tensor, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance, (channels,), of several parts together.

    Parameters
    ----------
    counts : Tensor, (parts,), float
    means, variances : Tensor, (parts, channels)
    """
    share = (counts / counts.sum().clamp(min=1))[:, None]
    mean = (share * means).sum(0)
    spread = variances + (means - mean).square()
    return mean, (share * spread).sum(0)


class ConvBlock(nn.Module):
    """Convolution, batch norm, ReLU.

    Size is kept (``padding`` as given, else half the kernel as spread out by ``dilation``).
    """

    conv: nn.Conv2d | nn.ConvTranspose2d

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int,
        padding: int | None = None,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2) if padding is None else padding
        self.conv = nn.Conv2d(
            in_channels, channels, kernel, padding=padding, dilation=dilation, bias=False
        )
        self.norm: BatchNorm | None = BatchNorm(channels)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map (scenes, in_channels, rows, cols) to (scenes, channels, rows, cols)."""
        x = self.conv(x)
        if self.norm is not None:
            x = zero_outside(self.norm(x, valid), valid)
        return F.relu(x, inplace=True)

    def fold(self) -> None:
        """Put the batch norm, with its stored statistics, into the convolution."""
        if self.norm is not None:
            transposed = isinstance(self.conv, nn.ConvTranspose2d)
            self.conv = fuse_conv_bn_eval(self.conv, self.norm, transposed)
            self.norm = None


class DeconvBlock(ConvBlock):
    """Transposed convolution of stride 1, batch norm, ReLU; size is kept."""

    def __init__(self, in_channels: int, channels: int, kernel: int) -> None:
        super().__init__(in_channels, channels, kernel)
        self.conv = nn.ConvTranspose2d(
            in_channels, channels, kernel, padding=kernel // 2, bias=False
        )


class ConvStack(nn.ModuleList):
    """Blocks one after the other, each given the same ``valid`` mask."""

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Run the blocks in order."""
        for block in self:
            x = block(x, valid)
        return x


def encoder_stages(in_channels: int, widths: tuple[int, ...]) -> nn.ModuleList:
    """Stages of two 3x3 convolutions each, as in VGG; what lies between them pools."""
    return nn.ModuleList(
        ConvStack((ConvBlock(i, o, 3), ConvBlock(o, o, 3)))
        for i, o in itertools.pairwise((in_channels, *widths))
    )


class SpectralStem(ConvStack):
    """Reduces the bands of every pixel by itself: 1x1 convolutions, the same for every network."""

    def __init__(self, bands: int, widths: tuple[int, ...]) -> None:
        channels = (bands, *widths)
        super().__init__(ConvBlock(i, o, 1) for i, o in itertools.pairwise(channels))


class WholeSceneNetwork(nn.Module):
    """A network over the whole scene: the stem, then what looks at neighbours.

    The stem looks at single pixels, so a scene may be turned or mirrored behind it as well as
    before it.

    Attributes
    ----------
    stem : SpectralStem
    """

    stem: SpectralStem

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Score every pixel.

        Parameters
        ----------
        x : Tensor, (scenes, bands, rows, cols), float
            Standardised spectra, any number of rows and columns.
        valid : Tensor, (scenes, 1, rows, cols), bool or int8, optional
            Pixels that count in batch statistics when training; all by default. -1 stands for
            pixels outside of a scene that is smaller than others of the batch.

        Returns
        -------
        Tensor, (scenes, classes, rows, cols)
            Logits.
        """
        return self.after_stem(self.stem(x, valid), valid)

    def after_stem(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Score what the stem made of a scene, (scenes, stem channels, rows, cols)."""
        raise NotImplementedError


class Upsample(nn.ConvTranspose2d):
    """Learned upsampling by a whole factor: a transposed convolution that starts as bilinear.

    One filter a class (groups = classes): scores of different classes do not mix. Kernel, stride
    and padding are 2f, f and f/2, so that ``n`` cells become ``n f`` pixels, cell ``i`` covering
    pixels ``i f`` to ``i f + f - 1``. Initialised as in the FCN paper, section 3.3 and 4.1.
    """

    def __init__(self, classes: int, factor: int) -> None:
        super().__init__(
            classes, classes, 2 * factor, factor, factor // 2, groups=classes, bias=False
        )
        ramp = 1 - np.abs(np.arange(2 * factor) - (factor - 0.5)) / factor
        bilinear = torch.from_numpy(np.outer(ramp, ramp).astype(np.float32))
        with torch.no_grad():
            self.weight.copy_(bilinear.expand_as(self.weight))


def halve(x: Tensor) -> Tensor:
    """Max-pool 2x2 to half the size, rounded up: an odd last row or column is pooled alone."""
    return F.max_pool2d(x, 2, 2, ceil_mode=True)


def halve_mask(valid: Tensor | None) -> Tensor | None:
    """A cell is valid where any of its pixels is, and outside of a scene where all are."""
    return None if valid is None else halve(valid.float()).to(valid.dtype)


def zero_outside(x: Tensor, valid: Tensor | None) -> Tensor:
    """Zeros outside of the smaller scenes of a batch, put into ``x`` itself.

    The layers then see at their borders what padding gives them when such a scene is alone.
    """
    if valid is None or valid.dtype == torch.bool:
        return x
    outside = valid < 0
    return x.masked_fill_(outside, 0) if outside.any() else x


PLACES_HELD = 5.25  # values for each one given, while ``places_of_maxima`` runs
TIE = 0.25  # how far below its cell's maximum a pixel still takes part, of 1 + the maximum


def places_of_maxima(x: Tensor, halved: Tensor) -> Tensor:
    """Where in its cell each maximum of ``halve`` lies: 1 there, 0 elsewhere.

    What max-unpooling keeps in place of indices. An index jumps when two pixels of a cell are
    equal but for rounding, as in even fields and where pixels without a measurement were filled;
    then a tile would differ from the whole scene. So a pixel a little below the maximum takes part,
    the less the lower it lies, and ties are shared: rounding changes places about as little as it
    changes features.

    Parameters
    ----------
    x : Tensor, (scenes, channels, rows, cols)
        Behind a batch norm, so that 1 is about a standard deviation, and a ReLU.
    halved : Tensor
        ``halve(x)``.

    Returns
    -------
    Tensor, (scenes, channels, rows, cols), float, 0 to 1
        Without gradient, like indices.
    """
    maxima = spread(halved, x).detach()
    return (1 - (maxima - x.detach()) / (TIE * (1 + maxima))).clamp_(min=0)


def unpool(x: Tensor, places: Tensor) -> Tensor:
    """Max-unpooling: every value back to the place that its cell's maximum had, 0 elsewhere.

    Exact for odd sizes: ``places`` has the size that was pooled.
    """
    return spread(x, places) * places


def spread(x: Tensor, like: Tensor) -> Tensor:
    """Give all pixels of a 2x2 cell its value; the size becomes that of ``like``."""
    return crop_to(F.interpolate(x, scale_factor=2, mode="nearest"), like)


def crop_to(x: Tensor, like: Tensor) -> Tensor:
    """Cut off what upsampling made beyond the size of ``like``: at most a cell, bottom and right.

    The paper's crop offsets are zero here by construction: ``halve`` and ``Upsample`` keep the
    upper left corners together.
    """
    return x[..., : like.shape[-2], : like.shape[-1]]
