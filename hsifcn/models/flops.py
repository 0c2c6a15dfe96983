"""FLOPs of networks, counted by PyTorch and by formula, as a rule on the meta device.

A multiply-add counts two. The formula knows only the shapes that convolutions take and give, not
PyTorch's counter, so that each checks the other; biases, batch norms, ReLUs and pools, about a
hundredth of the whole, are in neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hsifcn.models import MODELS, ModelSpec, build, geometry, scene_form


@dataclass(frozen=True)
class ConvolutionRun:
    """One convolution of a forward pass.

    Attributes
    ----------
    flops : int
        2 x kernel area x channels in / groups x channels out x output pixels; of a transposed
        convolution, whose taps are laid round each input pixel, x input pixels.
    values : int
        Numbers that it gave.
    """

    flops: int
    values: int


def convolution_runs(network: nn.Module, *shape: int) -> list[ConvolutionRun]:
    """The convolutions of a forward pass over an input of that shape, in the order run.

    Nothing is computed where the network's weights are on the meta device.
    """
    runs: list[ConvolutionRun] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        pixels = (inputs[0] if isinstance(module, nn.ConvTranspose2d) else output)[:, 0].numel()
        taps = math.prod(module.kernel_size) * module.in_channels // module.groups
        runs.append(ConvolutionRun(2 * taps * module.out_channels * pixels, output.numel()))

    hooks: list[Any] = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    with torch.no_grad():
        network(torch.zeros(*shape, device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    return runs


def counted_forward(network: nn.Module, *shape: int) -> int:
    """FLOPs of a forward pass over an input of that shape, by PyTorch's counter.

    The network's weights are on the meta device: nothing is computed.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(*shape, device="meta"))
    return int(counter.get_total_flops())


def formula_forward(network: nn.Module, *shape: int) -> int:
    """FLOPs of a forward pass over an input of that shape, by the formula."""
    return sum(run.flops for run in convolution_runs(network, *shape))


def predict_flops(
    spec: ModelSpec,
    rows: int,
    cols: int,
    *,
    whole_scene: bool,
    forward: Callable[..., int] = counted_forward,
) -> int:
    """FLOPs of scoring every pixel of a scene.

    Parameters
    ----------
    spec : ModelSpec
    rows, cols : int
    whole_scene : bool
        In one pass, patch CNNs cast; otherwise patch by patch.
    forward : callable
        ``counted_forward`` or ``formula_forward``.
    """
    patch = MODELS[spec.name].patch
    network = on_meta(spec).eval()
    if whole_scene or patch is None:
        return forward(scene_form(network), 1, spec.bands, rows, cols)
    return rows * cols * forward(network, 1, spec.bands, patch, patch)


def flops_per_pixel(spec: ModelSpec) -> float:
    """FLOPs a pixel of scoring a large scene, by the formula.

    Those of a scene whose sides are multiples of the stride are a polynomial of second degree in
    the side; margins that a cast patch CNN computes beyond the scene are in its lower terms. The
    passes are real but tiny: shapes on the meta device would load PyTorch's compiler.
    """
    network = scene_form(build(spec)).eval()
    stride = geometry(spec).stride
    one, two, three = (
        formula_forward(network, 1, spec.bands, side, side)
        for side in (stride, 2 * stride, 3 * stride)
    )
    return (three - 2 * two + one) / (2 * stride**2)


def training_step_flops(spec: ModelSpec, shape: tuple[int, int, int]) -> int:
    """FLOPs of one step, forward and backward, counted.

    Parameters
    ----------
    spec : ModelSpec
    shape : tuple of int
        Inputs a step (scenes or patches), rows and columns of each.
    """
    network = on_meta(spec)
    x = torch.empty(shape[0], spec.bands, *shape[1:], device="meta")
    with FlopCounterMode(display=False) as counter:
        network(x).sum().backward()
    return int(counter.get_total_flops())


def training_step_formula(spec: ModelSpec, shape: tuple[int, int, int]) -> int:
    """FLOPs of one step by the formula, parameters as for ``training_step_flops``.

    Backward takes twice what forward takes, once for the weights and once for the input of each
    convolution; the input of the first needs no gradient.
    """
    runs = convolution_runs(on_meta(spec), shape[0], spec.bands, *shape[1:])
    return 3 * sum(run.flops for run in runs) - runs[0].flops


def on_meta(spec: ModelSpec) -> nn.Module:
    """A network without the memory of its weights."""
    with torch.device("meta"):
        return build(spec)
