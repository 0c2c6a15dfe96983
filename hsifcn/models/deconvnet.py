"""DeconvNet over the whole scene: unpooling, then transposed convolutions that draw shapes.

Noh, Hong, Han (2015), *Learning Deconvolution Network for Semantic Segmentation*, ICCV,
doi:10.1109/ICCV.2015.178.

- the spectral stem instead of the RGB input, then an encoder of stages as in VGG, two 3x3
  convolutions and a 2x2 max-pool each;
- the fully connected layers are convolutions on the coarsest cells, ``fc6`` and ``fc7``, and a
  transposed convolution leads back from them;
- a decoder that mirrors the encoder: max-unpooling to where the encoder's maxima lay, then two 3x3
  transposed convolutions, whose filters spread each value into a shape;
- a 1x1 convolution scores the last features at full resolution.

The paper trains on boxes round objects, 7x7 cells at the end, and merges their maps; here the whole
scene is one input, ``fc6`` has the 3x3 kernel of the FCN family's ``fr``, and there are three
stages, for objects a few pixels wide. Maxima that tie share their place
(``layers.places_of_maxima``).
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
    ConvBlock,
    ConvStack,
    DeconvBlock,
    SpectralStem,
    WholeSceneNetwork,
    encoder_stages,
    halve,
    halve_mask,
    places_of_maxima,
    unpool,
    zero_outside,
)


class DeconvNet(WholeSceneNetwork):
    """A DeconvNet.

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
        deepest = widths[-1]
        self.stem = SpectralStem(bands, stem)
        self.stages = encoder_stages(stem[-1], widths)
        self.middle = ConvStack(
            (
                ConvBlock(deepest, deepest, 3),  # fc6
                ConvBlock(deepest, deepest, 1),  # fc7
                DeconvBlock(deepest, deepest, 3),
            )
        )
        mirrored = zip(reversed(widths), (*reversed(widths[:-1]), widths[0]), strict=True)
        self.decoder = nn.ModuleList(
            ConvStack((DeconvBlock(i, i, 3), DeconvBlock(i, o, 3))) for i, o in mirrored
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
        x = self.middle(x, valid)
        for stage in self.decoder:
            places, valid = remembered.pop()
            x = stage(zero_outside(unpool(x, places), valid), valid)
        scores: Tensor = self.score(x)
        return scores


def geometry(n_stages: int) -> Geometry:
    """Stride and receptive field of a ``DeconvNet`` with that many stages."""

    def input_span(pixel: int) -> Span:
        span = (pixel, pixel)
        for _ in range(n_stages):
            span = before_unpooling(before_conv(before_conv(span, 3), 3))
        span = before_conv(before_conv(span, 3), 3)  # the middle
        for _ in range(n_stages):
            span = before_conv(before_conv(before_halving(span), 3), 3)
        return span

    return Geometry(2**n_stages, receptive_field(input_span, 2**n_stages))
