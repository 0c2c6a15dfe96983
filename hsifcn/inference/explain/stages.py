"""What each stage of an FCN adds to every score.

The logits of an FCN are sums: each stage is scored by a 1x1 convolution, and learned upsampling
without bias brings the sums to the pixels (``models/fcn.py``). Upsampling is linear, so the scores
of one stage, upsampled alone, are exactly its share of the logits, and the shares add up to them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hsifcn.models.fcn import FCN
from hsifcn.models.layers import Upsample

Kernel = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class StageScores:
    """Scores of every stage of an FCN, coarse to fine, before they are summed.

    Attributes
    ----------
    strides : tuple of int
        Pixels between the cells of each stage.
    scores : tuple of Tensor, each (1, classes, cells down, cells across)
    shape : tuple of int
        Rows and columns of the scene.
    """

    strides: tuple[int, ...]
    scores: tuple[Tensor, ...]
    shape: tuple[int, int]

    def shares(self, network: FCN) -> Tensor:
        """The share of each stage in every logit, (stages, classes, rows, cols)."""
        return torch.cat([self._to_pixels(network, stage) for stage in range(len(self.scores))])

    def _to_pixels(self, network: FCN, stage: int) -> Tensor:
        """The scores of one stage, upsampled as the network upsamples their sum."""
        scores = self.scores[stage]
        for upscore2, finer in list(zip(network.upscore2, self.scores[1:], strict=True))[stage:]:
            scores = upscore2(scores)[..., : finer.shape[-2], : finer.shape[-1]]
        rows, cols = self.shape
        return scores if network.upscore is None else network.upscore(scores)[..., :rows, :cols]


@torch.no_grad()
def score_stages(network: FCN, features: Tensor) -> tuple[StageScores, Tensor]:
    """Score a scene and keep what every stage says.

    Parameters
    ----------
    network : FCN
    features : Tensor, (1, stem channels, rows, cols), float32
        What the stem gives.

    Returns
    -------
    stages : StageScores
    logits : Tensor, (1, classes, rows, cols)
        Of the network itself.
    """
    found: list[Tensor] = []
    scorers = (network.score_fr, *network.score_skip)
    hooks = [
        scorer.register_forward_hook(lambda _module, _given, scores: found.append(scores))
        for scorer in scorers
    ]
    try:
        logits = network.after_stem(features)
    finally:
        for hook in hooks:
            hook.remove()
    rows, cols = features.shape[-2:]
    return StageScores(strides(network), tuple(found), (rows, cols)), logits


def strides(network: FCN) -> tuple[int, ...]:
    """Stride of every stage that is scored, coarse to fine."""
    coarsest = 2 ** len(network.stages)
    return tuple(coarsest // 2**stage for stage in range(len(network.score_skip) + 1))


def upsamplings(network: FCN) -> list[tuple[int, int, Upsample]]:
    """Stride before and after each learned upsampling, and its layer, coarse to fine."""
    found = strides(network)
    layers: list[tuple[int, int, nn.Module]] = [
        (coarse, coarse // 2, layer)
        for coarse, layer in zip(found[:-1], network.upscore2, strict=True)
    ]
    if network.upscore is not None:
        layers.append((found[-1], 1, network.upscore))
    return [
        (before, after, layer) for before, after, layer in layers if isinstance(layer, Upsample)
    ]


def with_kernels(network: FCN, kernel: Kernel) -> FCN:
    """The network with other upsampling kernels: the weights of ``kernel(classes, factor)``."""
    changed = copy.deepcopy(network)
    with torch.no_grad():
        for _, _, layer in upsamplings(changed):
            layer.weight.copy_(kernel(layer.in_channels, layer.stride[0]))
    return changed


def bilinear(classes: int, factor: int) -> Tensor:
    """Weights of bilinear upsampling, (classes, 1, 2 factor, 2 factor)."""
    return Upsample(classes, factor).weight.detach()


def nearest(classes: int, factor: int) -> Tensor:
    """Weights that repeat every cell, (classes, 1, 2 factor, 2 factor)."""
    weights = torch.zeros(classes, 1, 2 * factor, 2 * factor)
    inside = slice(factor // 2, factor // 2 + factor)
    weights[..., inside, inside] = 1
    return weights


@torch.no_grad()
def phase_pattern(network: FCN, stage: int) -> Tensor:
    """What an even area of one score in the cells of a stage becomes at the pixels.

    Upsampling by a whole factor treats the pixels of a cell differently, by where in the cell they
    lie. Where the kernel's weights for each place do not add up to the same, an even area comes out
    as a dotted grid. Bilinear kernels give 1 everywhere.

    Returns
    -------
    Tensor, (classes, stride, stride)
        The pixels of one cell, far from every edge.
    """
    stride = strides(network)[stage]
    layers = upsamplings(network)[stage:]
    classes = network.score_fr.out_channels
    middle, cells = 6, 13  # kernels reach one cell away in each upsampling
    scores = torch.ones(1, classes, cells, cells)
    for _, _, layer in layers:
        scores = layer(scores)
    inside = slice(middle * stride, (middle + 1) * stride)
    return scores[0, :, inside, inside]
