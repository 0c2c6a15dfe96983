"""Networks made ready to predict: batch norms and band scaling put into the convolutions.

Same function, fewer passes over memory. Float32 only: under bfloat16 the folded scaling loses
precision, as raw counts are far from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hsifcn.data.standardise import Scaling
from hsifcn.models import scene_form
from hsifcn.models.ensemble import Ensemble
from hsifcn.models.layers import ConvBlock, SpectralStem, WholeSceneNetwork


class RawSceneNetwork(nn.Module):
    """A network, or several whose logits are averaged, that takes a scene in its own units.

    Parameters
    ----------
    network : Module
        As ``Bundle.network`` gives it, in evaluation mode; its modules are changed.
    scaling : Scaling
    temperature : float
        What logits are divided by, so that their softmax is a probability.

    Attributes
    ----------
    channels : int
        That the stem of a member gives.
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
        # A cast patch CNN scores zeros beyond the scaled scene's edges, so scaling stays apart.
        form = scene_form(network)
        self.members: Any = form.members if isinstance(form, Ensemble) else nn.ModuleList([form])
        stem: Any = self.members[0].stem
        self.channels = int(stem[-1].conv.out_channels)

    def stem_channels(self, spectra: Tensor, outs: Sequence[Tensor]) -> None:
        """Reduce the bands of pixels by the stem, which needs no scene around them.

        On a processor as convolutions of one row of pixels, which PyTorch leaves to oneDNN: matrix
        products go to MKL, half as fast where the processor is not Intel's. Elsewhere as matrix
        products, which stay float32: convolutions may be rounded to TF32 there.

        Parameters
        ----------
        spectra : Tensor, (pixels, bands), float32
            In the units of the scene; may be changed.
        outs : sequence of Tensor, (pixels, channels), float32
            Where to put the result of each member.
        """
        if not self.folded:
            spectra.sub_(self.get_buffer("mean")).mul_(self.get_buffer("inverse_std"))
        for member, out in zip(self.members, outs, strict=True):
            if spectra.device.type == "cpu":
                out.copy_(member.stem(spectra.T[None, :, None])[0, :, 0].T)
                continue
            x, last = spectra, member.stem[-1]
            for block in member.stem:
                weight, bias = block.conv.weight[:, :, 0, 0], block.conv.bias
                x = torch.addmm(bias, x, weight.t(), out=out if block is last else None).relu_()

    def after_stem(self, features: list[Tensor]) -> Tensor:
        """Logits, (scenes, classes, rows, cols), of what the stem of each member made of scenes.

        The list is emptied, so that what no layer needs any more is let go.
        """
        total: Tensor | None = None
        for member in self.members:
            logits = member.after_stem(features.pop(0))
            total = logits if total is None else total.add_(logits)
        assert total is not None
        divisor = len(self.members) * self.temperature
        return total if divisor == 1 else total.div_(divisor)


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
