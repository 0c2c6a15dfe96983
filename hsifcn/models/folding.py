"""Networks made ready to predict: batch norms and band scaling put into the convolutions.

Same function, fewer passes over memory. Float32 only: under bfloat16 the folded scaling loses
precision, as raw counts are far from zero.
"""

from __future__ import annotations

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
    temperature : float
        What logits are divided by, so that their softmax is a probability.
    """

    def __init__(self, network: nn.Module, scaling: Scaling, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature
        for block in [module for module in network.modules() if isinstance(module, ConvBlock)]:
            block.fold()
        self.register_buffer("mean", torch.from_numpy(scaling.mean.astype(np.float32)))
        self.register_buffer("inverse_std", torch.from_numpy((1 / scaling.std).astype(np.float32)))
        whole = [module for module in network.modules() if isinstance(module, WholeSceneNetwork)]
        self.folded = bool(whole)
        for member in whole:
            fold_scaling(member.stem, scaling)
        # A patch CNN pads the scaled scene with zeros before its stem, so scaling stays apart.
        self.network = scene_form(network)

    def forward(self, x: Tensor) -> Tensor:
        """Map raw spectra (scenes, bands, rows, cols), float32, to logits of the same size."""
        if not self.folded:
            x = (x - self.get_buffer("mean")[:, None, None]) * self.get_buffer("inverse_std")[
                :, None, None
            ]
        return self.network(x) / self.temperature  # type: ignore[no-any-return]


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
