"""Networks made ready to predict: batch norms and band scaling put into the convolutions.

Same function, fewer passes over memory. Float32 only: under bfloat16 the folded scaling loses
precision, as raw counts are far from zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hsifcn.models import scene_form
from hsifcn.models.layers import ConvBlock, SpectralStem, WholeSceneNetwork
from hsifcn.scaling import Scaling


class RawSceneNetwork(nn.Module):
    """A network that takes a scene in its own units.

    Parameters
    ----------
    network : Module
        As ``Bundle.network`` gives it, in evaluation mode; its modules are changed.
    scaling : Scaling
    """

    def __init__(self, network: nn.Module, scaling: Scaling) -> None:
        super().__init__()
        for block in [module for module in network.modules() if isinstance(module, ConvBlock)]:
            block.fold()
        self.register_buffer("mean", torch.from_numpy(scaling.mean.astype(np.float32)))
        self.register_buffer("inverse_std", torch.from_numpy((1 / scaling.std).astype(np.float32)))
        self.folded = isinstance(network, WholeSceneNetwork)
        if isinstance(network, WholeSceneNetwork):
            fold_scaling(network.stem, scaling)
        # A cast patch CNN scores zeros beyond the scaled scene's edges, so scaling stays apart.
        self.network = scene_form(network)

    def forward(self, x: Tensor) -> Tensor:
        """Map raw spectra (scenes, bands, rows, cols), float32, to logits of the same size."""
        rows, cols = x.shape[-2:]
        pixels = x.permute(0, 2, 3, 1).flatten(0, 2)
        features = self.stem_channels(pixels).view(len(x), rows, cols, -1)
        return self.after_stem(features.permute(0, 3, 1, 2))

    @property
    def channels(self) -> int:
        """Channels that the stem gives."""
        return int(self._stem()[-1].conv.out_channels)

    def stem_channels(self, spectra: Tensor, out: Tensor | None = None) -> Tensor:
        """Reduce the bands of pixels: the stem as matrix products, which need no scene around.

        Parameters
        ----------
        spectra : Tensor, (pixels, bands), float32
            In the units of the scene; may be changed.
        out : Tensor, (pixels, channels), float32, optional
            Where to put the result.

        Returns
        -------
        Tensor, (pixels, channels), float32
        """
        x = spectra
        if not self.folded:
            x = x.sub_(self.get_buffer("mean")).mul_(self.get_buffer("inverse_std"))
        stem = self._stem()
        for block in stem:
            weight, bias = block.conv.weight[:, :, 0, 0], block.conv.bias
            last = block is stem[-1]
            x = torch.addmm(bias, x, weight.t(), out=out if last else None).relu_()
        return x

    def after_stem(self, features: Tensor) -> Tensor:
        """Logits, (scenes, classes, rows, cols), of what the stem made of scenes."""
        return self.network.after_stem(features)  # type: ignore[no-any-return, operator]

    def _stem(self) -> Any:
        return self.network.stem


def fold_scaling(stem: SpectralStem, scaling: Scaling) -> None:
    """Let the stem's first convolution, batch norm already folded, standardise its input."""
    block = next(iter(stem))
    assert isinstance(block, ConvBlock)
    assert block.conv.bias is not None
    conv = block.conv
    weight = conv.weight.detach().double()
    scaled = weight / _bands(scaling.std)
    shift = (scaled * _bands(scaling.mean)).sum((1, 2, 3))
    with torch.no_grad():
        conv.weight.copy_(scaled)
        block.conv.bias.copy_(block.conv.bias.double() - shift)


def _bands(values: npt.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values)[None, :, None, None]
