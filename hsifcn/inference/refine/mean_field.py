"""Mean-field inference in a pairwise CRF whose kernels end at the edge of a window.

The model is that of Krähenbühl, Koltun (2011), *Efficient inference in fully connected CRFs with
Gaussian edge potentials*, NIPS, arXiv:1210.5644: an appearance kernel on position and spectrum, a
smoothness kernel on position, Potts compatibility. As in ConvCRF (Teichmann, Cipolla 2018,
arXiv:1805.04777) two pixels farther apart than a window are independent given the rest. So the
marginals of a pixel depend on what lies within ``REACH`` pixels, and tiles with that halo give what
the whole scene gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

RADIUS = 3  # of the window, pixels
ITERATIONS = 5  # the marginals hardly move afterwards
REACH = RADIUS * ITERATIONS  # pixels that a marginal depends on
APPEARANCE_SHARE = 0.75  # of the weight of both kernels
APPEARANCE_SIGMA, SMOOTHNESS_SIGMA = 2.0, 1.0  # on position, pixels

Offset = tuple[int, int]
Block = tuple[slice, slice]


def mean_field(
    logits: Tensor, spectra: Tensor, valid: Tensor, strength: float, spectral_width: float
) -> Tensor:
    """Refine scores by what near and similar pixels say.

    Parameters
    ----------
    logits : Tensor, (classes, rows, cols), float32
        Unary potentials, negated.
    spectra : Tensor, (features, rows, cols), float32
        What the appearance kernel compares; see ``refinement.reduced_spectra``.
    valid : Tensor, (rows, cols), bool
        Pixels that take part.
    strength : float
        Change in the logit of a class, in nats, where the whole window is surely of that class and
        has the pixel's own spectrum.
    spectral_width : float
        Standard deviation of the appearance kernel, in the units of ``spectra`` (root mean square
        over features).

    Returns
    -------
    Tensor, (classes, rows, cols), float32
        Logits whose softmax are the mean-field marginals after ``ITERATIONS`` updates of all pixels
        at once. Those of pixels that are not valid mean nothing.
    """
    logits = logits.masked_fill(~valid, 0.0)
    kernels = list(pair_kernels(spectra, valid, spectral_width))
    refined = logits
    for _ in range(ITERATIONS):
        marginals = refined.softmax(0)
        refined = logits.clone()
        for kernel, here, there in kernels:
            refined[:, *here].addcmul_(kernel, marginals[:, *there], value=strength)
            refined[:, *there].addcmul_(kernel, marginals[:, *here], value=strength)
    return refined


def pair_kernels(
    spectra: Tensor, valid: Tensor, spectral_width: float
) -> Iterator[tuple[Tensor, Block, Block]]:
    """Weights of all pairs of pixels within the window, each pair once.

    Yields
    ------
    kernel : Tensor, (rows, cols) of the blocks, float32
        Both kernels, weighted by ``APPEARANCE_SHARE``; over a whole window of equal spectra all
        weights of a pixel sum to 1. 0 where one of the two is not valid.
    here, there : tuple of slice
        The blocks of the scene that hold the first and the second pixel of each pair.
    """
    rows, cols = valid.shape
    appearance, smoothness = position_kernel(APPEARANCE_SIGMA), position_kernel(SMOOTHNESS_SIGMA)
    for down, right in half_window():
        if down >= rows or abs(right) >= cols:
            continue
        here = slice(0, rows - down), slice(max(0, -right), cols - max(0, right))
        there = slice(down, rows), slice(max(0, right), cols - max(0, -right))
        distance = (spectra[:, *here] - spectra[:, *there]).square().mean(0)
        kernel = torch.exp(distance / (-2 * spectral_width**2))
        kernel *= APPEARANCE_SHARE * appearance[down, right]
        kernel += (1 - APPEARANCE_SHARE) * smoothness[down, right]
        yield kernel * (valid[here] & valid[there]), here, there


def half_window() -> Iterator[Offset]:
    """One of each two opposite offsets (rows, cols) within the window."""
    for down in range(RADIUS + 1):
        for right in range(-RADIUS if down else 1, RADIUS + 1):
            yield down, right


def position_kernel(sigma: float) -> dict[Offset, float]:
    """A Gaussian on the offsets of ``half_window``; over the whole window it sums to 1."""
    weights = {
        (down, right): math.exp(-(down**2 + right**2) / (2 * sigma**2))
        for down, right in half_window()
    }
    total = 2 * sum(weights.values())
    return {offset: weight / total for offset, weight in weights.items()}
