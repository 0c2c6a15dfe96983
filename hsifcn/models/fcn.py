"""Fully convolutional networks over the whole scene: FCN-32s, 16s, 8s, and on to 4s, 2s, 1s.

Long, Shelhamer, Darrell (2015), *Fully Convolutional Networks for Semantic Segmentation*, CVPR,
and Shelhamer, Long, Darrell (2017), IEEE TPAMI 39(4), doi:10.1109/TPAMI.2016.2572683.

- a spectral stem instead of the RGB input: 1x1 convolutions reduce the bands of each pixel;
- an encoder of stages, two 3x3 convolutions and a 2x2 max-pool each, as in VGG; with five stages
  the coarsest cells are 32 pixels wide;
- the fully connected layer is a convolution on those cells (section 3.1): ``fr``;
- every stage kept is *scored* by a 1x1 convolution, and the scores, not the features, are summed
  from coarse to fine, each sum brought to the next finer grid by a learned transposed convolution
  (sections 3.3 and 4.2). FCN-32s keeps the coarsest scores only; 16s adds those of pool4; 8s those
  of pool3; 4s, 2s and 1s carry on to pool2, pool1 and the first stage at full resolution;
- transposed convolutions start as bilinear interpolation, skip scorers at zero, so that each
  network starts from about what the next coarser one says.
"""

from __future__ import annotations

from torch import Tensor, nn

from hsifcn.models.geometry import (
    Geometry,
    Span,
    before_conv,
    before_halving,
    before_upsampling,
    receptive_field,
)
from hsifcn.models.layers import (
    ConvBlock,
    SpectralStem,
    Upsample,
    WholeSceneNetwork,
    crop_to,
    encoder_stages,
    halve,
    halve_mask,
    zero_outside,
)


class FCN(WholeSceneNetwork):
    """An FCN whose finest skip has stride ``finest``.

    Parameters
    ----------
    bands, classes : int
        Channels of the scene and of the score map.
    finest : int
        Stride of the finest scores that are summed: 1, 2, 4, ... up to ``2 ** len(widths)``.
    stem : tuple of int
        Channels of the stem's 1x1 convolutions.
    widths : tuple of int
        Channels of each encoder stage.
    """

    def __init__(
        self, bands: int, classes: int, finest: int, stem: tuple[int, ...], widths: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.finest = finest
        self.stem = SpectralStem(bands, stem)
        self.stages = encoder_stages(stem[-1], widths)
        self.fr = ConvBlock(widths[-1], widths[-1], 3)
        self.score_fr = nn.Conv2d(widths[-1], classes, 1)
        # What can be skipped to, coarse to fine: pool4, pool3, ..., and at stride 1 stage 1 itself.
        skip_widths = (*reversed(widths[:-1]), widths[0])[: n_skips(finest, len(widths))]
        self.upscore2 = nn.ModuleList(Upsample(classes, 2) for _ in skip_widths)
        self.score_skip = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in skip_widths)
        for parameter in self.score_skip.parameters():
            nn.init.zeros_(parameter)
        self.upscore = Upsample(classes, finest) if finest > 1 else None

    def after_stem(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Encode, score every stage, and sum the scores from coarse to fine."""
        rows, cols = x.shape[-2:]
        skips: list[tuple[Tensor, Tensor | None]] = []
        for stage in self.stages:
            x = stage(x, valid)
            if not skips:
                skips.append((x, valid))
            x, valid = halve(x), halve_mask(valid)
            skips.append((x, valid))
        coarsest, valid = skips.pop()
        scores = zero_outside(self.score_fr(self.fr(coarsest, valid)), valid)
        for upscore2, score_skip in zip(self.upscore2, self.score_skip, strict=True):
            skip, valid = skips.pop()
            scores = crop_to(upscore2(scores), skip) + score_skip(skip)
            scores = zero_outside(scores, valid)
        return scores if self.upscore is None else self.upscore(scores)[..., :rows, :cols]


def activations(finest: int, stem: int, widths: tuple[int, ...], classes: int) -> float:
    """Values a pixel that ``FCN.after_stem`` holds at most; ``stem`` are the channels it is given.

    See ``Model.activations_per_pixel``.
    """
    skips = [float(widths[0])]
    peak, given = 0.0, float(stem)
    for level, width in enumerate(widths):
        area = 4.0**-level
        peak = max(peak, sum(skips) * (level > 0) + (given * (level == 0) + 2 * width) * area)
        skips.append(width * area / 4)
        peak = max(peak, sum(skips) + (level > 0) * width * area + width * area / 2)  # indices
    peak = max(peak, sum(skips) + skips[-1])
    skips.pop()
    area, skip = 4.0 ** -len(widths), 0.0
    for _ in range(n_skips(finest, len(widths))):
        area *= 4
        peak = max(peak, sum(skips) + 3.25 * classes * area)  # coarse, upsampled, skip, their sum
        skip = skips.pop()
    if finest == 1:
        return peak
    return max(peak, sum(skips) + skip + classes * (1 + area))


def n_skips(finest: int, n_stages: int) -> int:
    """Skips of an ``FCN`` with that many stages, each to a grid twice as fine."""
    return n_stages - stride_exponent(finest)


def stride_exponent(stride: int) -> int:
    """The k of ``stride = 2 ** k``."""
    return stride.bit_length() - 1


def geometry(finest: int, n_stages: int) -> Geometry:
    """Stride and receptive field of an ``FCN`` with that many stages."""

    def input_span(pixel: int) -> Span:
        span = (pixel, pixel) if finest == 1 else before_upsampling((pixel, pixel), finest)
        spans = []
        for level in range(stride_exponent(finest), n_stages):
            spans.append(before_encoder(span, level))
            span = before_upsampling(span, 2)
        spans.append(before_encoder(before_conv(span, 3), n_stages))
        return min(first for first, _ in spans), max(last for _, last in spans)

    stride = 2**n_stages
    return Geometry(stride, receptive_field(input_span, stride))


def before_encoder(span: Span, level: int) -> Span:
    """Span in the scene of a span of pool ``level``, or of the first stage for level 0."""
    for _ in range(level):
        span = before_conv(before_conv(before_halving(span), 3), 3)
    return span if level else before_conv(before_conv(span, 3), 3)
