"""The patch CNN, and the same weights as a fully convolutional net.

What most code does: a small 2-D CNN on the window round each pixel. Convolutions are valid, pools
are unpadded and of odd size, and the scene is padded once, after scaling, by half a patch; so its
fully connected layers are convolutions over what is left of the patch and ``cast`` gives the very
same scores at every pixel of the scene, border included, in one pass (the FCN paper, section 3.1).
Where the patch net strides, the cast net dilates what follows, instead of stitching shifted
outputs together (section 3.2; "a trous").
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsifcn.models.layers import ConvBlock, SpectralStem

POOL = 3  # kernel of the max-pool, with stride 2: exact on odd sizes, no pixel left over


def patch_plan(patch: int) -> tuple[tuple[str, ...], int]:
    """Layers that bring an odd patch down to a few cells, and how many cells are left a side.

    Twice a 3x3 convolution and a pool while the patch is large, then 3x3 convolutions.

    >>> patch_plan(15)
    (('conv', 'conv', 'pool', 'conv'), 3)
    """
    layers: list[str] = []
    size = patch
    while size >= 11 and size % 2:
        layers += ["conv", "conv", "pool"]
        size = (size - 4 - POOL) // 2 + 1
    while size >= 5:
        layers += ["conv"]
        size -= 2
    return tuple(layers), size


def encoder_roles(patch: int) -> dict[str, str]:
    """Which convolution of a patch CNN does what in an encoder of stages.

    Returns
    -------
    dict of str to str
        From names in ``PatchCNN`` to names in the networks over the whole scene.

    >>> encoder_roles(15)
    {'convs.0': 'stages.0.0', 'convs.1': 'stages.0.1', 'convs.2': 'stages.1.0'}
    """
    roles: dict[str, str] = {}
    stage = place = 0
    for layer in patch_plan(patch)[0]:
        if layer == "pool":
            stage, place = stage + 1, 0
        else:
            roles[f"convs.{len(roles)}"] = f"stages.{stage}.{place}"
            place += 1
    return roles


class PatchCNN(nn.Module):
    """Patch CNN; given a patch it gives one score a class, given a scene (cast) a score map.

    Parameters
    ----------
    bands, classes : int
        Channels of the scene and of the scores.
    patch : int
        Side of the window in pixels, odd, at least 5.
    stem : tuple of int
        Channels of the stem's 1x1 convolutions.
    width, hidden : int
        Channels of the 3x3 convolutions, units of the fully connected layer.
    """

    def __init__(
        self, bands: int, classes: int, patch: int, stem: tuple[int, ...], width: int, hidden: int
    ) -> None:
        super().__init__()
        self.bands = bands
        self.patch = patch
        self.plan, cells = patch_plan(patch)
        self.stem = SpectralStem(bands, stem)
        n_convs = self.plan.count("conv")
        channels = (stem[-1], *(width,) * n_convs)
        self.convs = nn.ModuleList(
            ConvBlock(i, o, 3, padding=0) for i, o in itertools.pairwise(channels)
        )
        self.full = ConvBlock(width, hidden, cells, padding=0)
        self.dropout = nn.Dropout(0.5)
        self.score = nn.Conv2d(hidden, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Score patches.

        Parameters
        ----------
        x : Tensor, (patches, bands, patch, patch), float
            Standardised spectra.

        Returns
        -------
        Tensor, (patches, classes, 1, 1)
            Logits of the centre pixels.
        """
        x = self.stem(x)
        convs = iter(self.convs)
        for layer in self.plan:
            x = next(convs)(x) if layer == "conv" else F.max_pool2d(x, POOL, 2)
        scores: Tensor = self.score(self.dropout(self.full(x)))
        return scores


class CastPatchCNN(nn.Module):
    """A patch CNN's weights as a fully convolutional net: the same scores at every pixel.

    Parameters
    ----------
    net : PatchCNN
        Shares its weights, does not copy them.
    """

    def __init__(self, net: PatchCNN) -> None:
        super().__init__()
        self.margin = net.patch // 2
        self.bands = net.bands
        self.stem = net.stem
        self.layers = nn.Sequential()
        convs = iter(net.convs)
        dilation = 1
        for layer in net.plan:
            if layer == "conv":
                self.layers.append(dilated(next(convs), dilation))
            else:
                self.layers.append(nn.MaxPool2d(POOL, stride=1, dilation=dilation))
                dilation *= 2
        self.layers.append(dilated(net.full, dilation))
        self.score = net.score

    def forward(self, x: Tensor) -> Tensor:
        """Map standardised (scenes, bands, rows, cols) to logits (scenes, classes, rows, cols)."""
        return self.after_stem(self.stem(x))

    def after_stem(self, x: Tensor) -> Tensor:
        """Score what the stem made of a scene; beyond its edges lies what it makes of zeros."""
        outside = self.stem(x.new_zeros(1, self.bands, 1, 1))
        rows, cols = (size + 2 * self.margin for size in x.shape[-2:])
        padded = outside.expand(len(x), -1, rows, cols).contiguous(
            memory_format=torch.channels_last
        )
        padded[..., self.margin : rows - self.margin, self.margin : cols - self.margin] = x
        x = padded
        del padded
        scores: Tensor = self.score(self.layers(x))
        return scores


def activations(patch: int, stem: int, classes: int, width: int, hidden: int) -> float:
    """Values a pixel that ``CastPatchCNN.after_stem`` holds at most; ``stem`` are those given.

    With a tenth for the margin. See ``Model.activations_per_pixel``.
    """
    layers = patch_plan(patch)[0]
    wide = 4 if "pool" in layers else min(2, len(layers))  # a pool makes indices of eight bytes
    return 1.1 * max(stem + wide * width, stem + width + hidden, stem + hidden + classes)


def dilated(block: nn.Module, dilation: int) -> ConvBlock:
    """The same block, weights and statistics shared, with its taps ``dilation`` pixels apart."""
    assert isinstance(block, ConvBlock)
    shared: dict[int, Any] = {id(t): t for t in (*block.parameters(), *block.buffers())}
    twin = copy.deepcopy(block, shared)
    twin.conv.dilation = (dilation, dilation)
    return twin
