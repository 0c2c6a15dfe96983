"""FLOPs of networks, from the shapes that their convolutions take and give.

A multiply-add counts two. Biases, batch norms, ReLUs and pools, about a hundredth of the whole, are
left out. A test compares the counts with those of ``torch.utils.flop_counter``, which is not used
here because it takes more than a second to load PyTorch's compiler.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from hsifcn.models import MODELS, ModelSpec, build, empty_network, geometry, scene_form


def convolution_flops(network: nn.Module, *shape: int) -> list[int]:
    """FLOPs of each convolution of a forward pass over an input of that shape, in the order run.

    2 x kernel area x channels in / groups x channels out x output pixels; for a transposed
    convolution, which lays its kernel round each input pixel, x input pixels. Nothing is computed
    where the network's weights are on the meta device.
    """
    flops: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        pixels = (inputs[0] if isinstance(module, nn.ConvTranspose2d) else output)[:, 0].numel()
        taps = math.prod(module.kernel_size) * module.in_channels // module.groups
        flops.append(2 * taps * module.out_channels * pixels)

    hooks: list[Any] = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    with torch.no_grad():
        network(torch.zeros(*shape, device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    return flops


def forward_flops(network: nn.Module, *shape: int) -> int:
    """FLOPs of a forward pass over an input of that shape."""
    return sum(convolution_flops(network, *shape))


def predict_flops(spec: ModelSpec, rows: int, cols: int, *, whole_scene: bool) -> int:
    """FLOPs of scoring every pixel of a scene.

    Parameters
    ----------
    spec : ModelSpec
    rows, cols : int
    whole_scene : bool
        In one pass, patch CNNs cast; otherwise patch by patch.
    """
    patch = MODELS[spec.name].patch
    network = empty_network(spec).eval()
    if whole_scene or patch is None:
        return forward_flops(scene_form(network), 1, spec.bands, rows, cols)
    return rows * cols * forward_flops(network, 1, spec.bands, patch, patch)


def flops_per_pixel(spec: ModelSpec) -> float:
    """FLOPs a pixel of scoring a large scene.

    Where the sides of a scene are multiples of the stride, its FLOPs are a polynomial of second
    degree in the side. Margins that a cast patch CNN computes beyond the scene are in the lower
    terms. The passes are real but tiny: shapes on the meta device would load PyTorch's compiler.
    """
    network = scene_form(build(spec)).eval()
    stride = geometry(spec).stride
    one, two, three = (
        forward_flops(network, 1, spec.bands, side, side)
        for side in (stride, 2 * stride, 3 * stride)
    )
    return (three - 2 * two + one) / (2 * stride**2)


def training_step_flops(spec: ModelSpec, shape: tuple[int, int, int]) -> int:
    """FLOPs of one step, forward and backward.

    Backward takes twice what forward takes: once for the weights and once for the input of each
    convolution. The input of the first convolution needs no gradient.

    Parameters
    ----------
    spec : ModelSpec
    shape : tuple of int
        Inputs a step (scenes or patches), rows and columns of each.
    """
    flops = convolution_flops(empty_network(spec), shape[0], spec.bands, *shape[1:])
    return 3 * sum(flops) - flops[0]
