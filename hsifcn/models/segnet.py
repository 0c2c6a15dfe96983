"""SegNet over the whole scene: the decoder knows where the encoder's maxima lay.

Badrinarayanan, Kendall, Cipolla (2017), *SegNet: A Deep Convolutional Encoder-Decoder Architecture
for Image Segmentation*, IEEE TPAMI 39(12), doi:10.1109/TPAMI.2016.2644615.

- the spectral stem instead of the RGB input, then an encoder of stages as in VGG, two 3x3
  convolutions and a 2x2 max-pool each;
- a decoder that mirrors it: each stage puts the values back to where the maxima of the encoder's
  stage lay (max-unpooling), so edges stay sharp without features or scores being skipped over, and
  fills the zeros between by two 3x3 convolutions;
- a 1x1 convolution scores the last features at full resolution.

Three stages where the paper has five, with which a score would see 311 x 311 pixels. Maxima that
tie share their place (``layers.places_of_maxima``), so that tiles score as the whole scene does.
"""

from __future__ import annotations

from torch import Tensor, nn

from hsifcn.models.geometry import (
    Geometry,
    Span,
    before_conv,
    before_halving,
    before_unpooling,
    receptive_field,
)
from hsifcn.models.layers import (
    PLACES_HELD,
    ConvBlock,
    ConvStack,
    SpectralStem,
    WholeSceneNetwork,
    encoder_stages,
    halve,
    halve_mask,
    places_of_maxima,
    unpool,
    zero_outside,
)


class SegNet(WholeSceneNetwork):
    """A SegNet.

    Parameters
    ----------
    bands, classes : int
        Channels of the scene and of the score map.
    stem : tuple of int
        Channels of the stem's 1x1 convolutions.
    widths : tuple of int
        Channels of each encoder stage, and from last to first of the decoder's.
    """

    def __init__(
        self, bands: int, classes: int, stem: tuple[int, ...], widths: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.stem = SpectralStem(bands, stem)
        self.stages = encoder_stages(stem[-1], widths)
        mirrored = zip(reversed(widths), (*reversed(widths[:-1]), widths[0]), strict=True)
        self.decoder = nn.ModuleList(
            ConvStack((ConvBlock(i, i, 3), ConvBlock(i, o, 3))) for i, o in mirrored
        )
        self.score = nn.Conv2d(widths[0], classes, 1)

    def after_stem(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Encode, remember where the maxima lay, decode, score."""
        remembered: list[tuple[Tensor, Tensor | None]] = []
        for stage in self.stages:
            x = stage(x, valid)
            halved = halve(x)
            remembered.append((places_of_maxima(x, halved), valid))
            x, valid = halved, halve_mask(valid)
        for stage in self.decoder:
            places, valid = remembered.pop()
            x = stage(zero_outside(unpool(x, places), valid), valid)
        scores: Tensor = self.score(x)
        return scores


def activations(stem: int, widths: tuple[int, ...], classes: int) -> float:
    """Values a pixel that ``SegNet.after_stem`` holds at most; ``stem`` are the channels given.

    See ``Model.activations_per_pixel``.
    """
    peak, kept, given = 0.0, 0.0, float(stem)
    for level, width in enumerate(widths):
        area = 4.0**-level
        peak = max(peak, kept + (given + 2 * width) * area, kept + PLACES_HELD * width * area)
        kept, given = kept + width * area, width / 4
    for level in reversed(range(len(widths))):
        area, width = 4.0**-level, widths[level]
        narrowed = widths[max(level - 1, 0)]
        # Coarse values, places, unpooled values, both convolutions; the places are among the kept.
        peak = max(peak, kept + ((0.25 + 2) * width + narrowed) * area)
        kept -= width * area
    return max(peak, 2 * widths[0] + classes)


def geometry(n_stages: int) -> Geometry:
    """Stride and receptive field of a ``SegNet`` with that many stages."""

    def input_span(pixel: int) -> Span:
        span = (pixel, pixel)
        for _ in range(n_stages):
            span = before_unpooling(before_conv(before_conv(span, 3), 3))
        for _ in range(n_stages):
            span = before_conv(before_conv(before_halving(span), 3), 3)
        return span

    return Geometry(2**n_stages, receptive_field(input_span, 2**n_stages))
