"""Networks made ready to predict: batch norms and band scaling put into the convolutions.

Same function, fewer passes over memory. The scaling is folded in float32 only: raw counts are far
from zero, so bfloat16 would lose most of their digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hsifcn.data.standardise import Scaling
from hsifcn.models import scene_form
from hsifcn.models.layers import ConvBlock, SpectralStem, WholeSceneNetwork


class RawSceneNetwork(nn.Module):
    """A network that takes a scene in its own units.

    Parameters
    ----------
    network : Module
        As ``Bundle.network`` gives it, in evaluation mode; its modules are changed.
    scaling : Scaling
    dtype : torch.dtype
        What convolutions compute in: float32, or bfloat16 behind the standardisation.

    Attributes
    ----------
    channels : int
        That the stem gives; the bands where it has no layer.
    """

    def __init__(
        self, network: nn.Module, scaling: Scaling, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        for block in [module for module in network.modules() if isinstance(module, ConvBlock)]:
            block.fold()
        self.register_buffer("mean", torch.from_numpy(scaling.mean.astype(np.float32)))
        self.register_buffer("inverse_std", torch.from_numpy((1 / scaling.std).astype(np.float32)))
        self.unit_length = scaling.unit_length
        self.has_light = scaling.gain is not None
        if scaling.gain is not None and scaling.offset is not None:
            self.register_buffer("gain", torch.from_numpy(scaling.gain.astype(np.float32)))
            self.register_buffer("offset", torch.from_numpy(scaling.offset.astype(np.float32)))
        # A cast patch CNN scores zeros beyond the scaled scene's edges, so scaling stays apart.
        stem: Any = network.stem
        self.folded = (
            isinstance(network, WholeSceneNetwork) and len(stem) > 0 and dtype == torch.float32
        )
        if self.folded:
            fold_scaling(stem, scaling)
        self.dtype = dtype
        form: Any = scene_form(network)
        self.form = form.to(dtype)
        layers = list(form.stem)
        self.channels = int(layers[-1].conv.out_channels) if layers else len(scaling.mean)

    def normalise(self, spectra: Tensor) -> Tensor:
        """Undo the light of another scene and bring spectra to length 1, as the model wants it.

        ``spectra``, (pixels, bands), float32, may be changed.
        """
        if self.has_light:
            spectra = spectra.sub_(self.get_buffer("offset")).div_(self.get_buffer("gain"))
        if self.unit_length:
            spectra = spectra.div_(spectra.norm(dim=1, keepdim=True).clamp_(min=1e-30))
        return spectra

    def stem_channels(self, spectra: Tensor, out: Tensor) -> None:
        """Reduce the bands of pixels by the stem, which needs no scene around them.

        On a processor as convolutions of one row of pixels, which PyTorch leaves to oneDNN: matrix
        products go to MKL, half as fast where the processor is not Intel's. Elsewhere as matrix
        products, which stay float32: convolutions may be rounded to TF32 there.

        Parameters
        ----------
        spectra : Tensor, (pixels, bands), float32
            Of ``normalise``; may be changed.
        out : Tensor, (pixels, channels), of the network's type
            Where to put the result.
        """
        if not self.folded:
            spectra.sub_(self.get_buffer("mean")).mul_(self.get_buffer("inverse_std"))
        if spectra.device.type == "cpu":
            pixels = spectra.to(self.dtype).T[None, :, None]
            out.copy_(self.form.stem(pixels)[0, :, 0].T)
            return
        if not len(self.form.stem):
            out.copy_(spectra)
            return
        x, last = spectra, self.form.stem[-1]
        for block in self.form.stem:
            weight, bias = block.conv.weight[:, :, 0, 0], block.conv.bias
            x = torch.addmm(bias, x, weight.t(), out=out if block is last else None).relu_()


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
