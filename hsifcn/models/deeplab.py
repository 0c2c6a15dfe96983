"""DeepLab over the whole scene: atrous convolutions see far without coarse cells.

Chen, Papandreou, Kokkinos, Murphy, Yuille (2018), *DeepLab: Semantic Image Segmentation with Deep
Convolutional Nets, Atrous Convolution, and Fully Connected CRFs*, IEEE TPAMI 40(4),
doi:10.1109/TPAMI.2017.2699184, and for the decoder Chen, Zhu, Papandreou, Schroff, Adam (2018),
*Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation* (v3+), ECCV.

- the spectral stem instead of the RGB input, then an encoder of stages of two 3x3 convolutions,
  pooled between stages only: two stages, so an output stride of 2, as fields are few pixels wide;
- an atrous spatial pyramid (ASPP): a 1x1 convolution and 3x3 convolutions with their taps 2, 4 and
  8 cells apart look at the same cells at several scales, and a 1x1 convolution merges them;
- the decoder of v3+: the merged features are upsampled, meet the first stage's features at full
  resolution, reduced by a 1x1 convolution, and a 3x3 convolution refines both before they are
  scored.

Left out is the image pooling that version 3 adds to the pyramid, the mean of the features over the
image: trained on one whole scene it is the same vector at every step, a bias from which nothing
can be learnt, and it would let every score hang on the whole scene, so that tiles and crops were no
longer exact. The conditional random field of versions 1 and 2 is no part of the network.
"""

from __future__ import annotations

import torch
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

RATES = (2, 4, 8)  # distances of the taps of the pyramid's 3x3 convolutions, in cells


class DeepLab(WholeSceneNetwork):
    """A DeepLab with the decoder of v3+.

    Parameters
    ----------
    bands, classes : int
        Channels of the scene and of the score map.
    stem : tuple of int
        Channels of the stem's 1x1 convolutions.
    widths : tuple of int
        Channels of each encoder stage, and last of each branch of the pyramid and of the decoder.
    """

    def __init__(
        self, bands: int, classes: int, stem: tuple[int, ...], widths: tuple[int, ...]
    ) -> None:
        super().__init__()
        *stages, width = widths
        self.stem = SpectralStem(bands, stem)
        self.stages = encoder_stages(stem[-1], tuple(stages))
        self.pyramid = nn.ModuleList(
            [
                ConvBlock(stages[-1], width, 1),
                *(ConvBlock(stages[-1], width, 3, dilation=rate) for rate in RATES),
            ]
        )
        self.merge = ConvBlock(width * len(self.pyramid), width, 1)
        self.upsample = Upsample(width, 2 ** (len(stages) - 1))
        self.reduce = ConvBlock(stages[0], width, 1)
        self.refine = ConvBlock(2 * width, width, 3)
        self.score = nn.Conv2d(width, classes, 1)

    def after_stem(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Encode, look at several scales, refine at full resolution, score."""
        cells = valid
        first, *others = self.stages
        x = first(x, valid)
        fine = self.reduce(x, valid)
        for stage in others:
            x, cells = halve(x), halve_mask(cells)
            x = stage(x, cells)
        x = self.merge(torch.cat([branch(x, cells) for branch in self.pyramid], 1), cells)
        x = torch.cat([crop_to(self.upsample(x), fine), fine], 1)
        scores: Tensor = self.score(self.refine(zero_outside(x, valid), valid))
        return scores


def activations(stem: int, widths: tuple[int, ...], classes: int) -> float:
    """Values a pixel that ``DeepLab.after_stem`` holds at most; ``stem`` are the channels given.

    See ``Model.activations_per_pixel``.
    """
    *stages, width = widths
    peak = stem + 2.0 * stages[0]
    given = stages[0]
    for level, stage in enumerate(stages[1:], start=1):
        area = 4.0**-level
        halved = 4 * given + given + 2 * given  # before, behind, indices
        peak = max(peak, width + halved * area, width + (given + 2 * stage) * area)
        given = stage
    cells = 4.0 ** (1 - len(stages))
    branches = (len(RATES) + 1) * width
    peak = max(peak, width + (given + 2 * branches) * cells, width + (branches + width) * cells)
    fine = (4 + cells) * width  # upsampled, reduced, both joined
    return max(peak, fine, 4 * width + classes)


def geometry(n_stages: int) -> Geometry:
    """Stride and receptive field of a ``DeepLab`` with that many encoder stages."""
    stride = 2 ** (n_stages - 1)

    def input_span(pixel: int) -> Span:
        refined = before_conv((pixel, pixel), 3)
        fine = before_conv(before_conv(refined, 3), 3)
        span = before_conv(before_upsampling(refined, stride), 3, max(RATES))
        for _ in range(n_stages - 1):
            span = before_halving(before_conv(before_conv(span, 3), 3))
        span = before_conv(before_conv(span, 3), 3)
        return min(span[0], fine[0]), max(span[1], fine[1])

    return Geometry(stride, receptive_field(input_span, stride))
