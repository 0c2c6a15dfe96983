"""How far an output pixel sees, worked out backwards from the layers, in one dimension.

A span is the first and last index, at some layer's input, that one output pixel depends on. All
networks here are square and alike along rows and columns, so one dimension is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Span = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """What tiling must know of a network.

    Attributes
    ----------
    stride : int
        Pixels after which the network repeats itself: tiles start at multiples of it.
    receptive_field : int or None
        Odd side, in pixels, of the square round a pixel outside of which nothing changes its
        score; None where a layer looks at the whole scene.
    """

    stride: int
    receptive_field: int | None

    @property
    def halo(self) -> int | None:
        """Pixels that a tile needs round its core."""
        return None if self.receptive_field is None else (self.receptive_field - 1) // 2


def before_conv(span: Span, kernel: int, dilation: int = 1) -> Span:
    """Span at the input of a convolution (or stride-1 pooling) padded by half its kernel."""
    reach = dilation * (kernel // 2)
    return span[0] - reach, span[1] + reach


def before_halving(span: Span) -> Span:
    """Span at the input of ``layers.halve``."""
    return 2 * span[0], 2 * span[1] + 1


def before_unpooling(span: Span) -> Span:
    """Span at the smaller input of ``layers.unpool``; the places depend on the same cells."""
    return span[0] // 2, span[1] // 2


def before_upsampling(span: Span, factor: int) -> Span:
    """Span at the input of ``layers.Upsample``: kernel 2f, stride f, padding f/2."""
    pad = factor // 2
    return -((2 * factor - 1 - pad - span[0]) // factor), (span[1] + pad) // factor


def receptive_field(input_span: Callable[[int], Span], stride: int) -> int:
    """Side of the smallest centred square that holds the input span of a pixel of any phase."""
    reach = 0
    for phase in range(stride):
        first, last = input_span(phase)
        reach = max(reach, phase - first, last - phase)
    return 2 * reach + 1
