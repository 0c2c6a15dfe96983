"""FLOPs of networks, counted by PyTorch on the meta device; a multiply-add counts two."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hsifcn.models import MODELS, ModelSpec, build, scene_form


def counted_forward(network: nn.Module, *shape: int) -> int:
    """FLOPs of a forward pass over an input of that shape, by PyTorch's counter.

    The network's weights are on the meta device: nothing is computed.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(*shape, device="meta"))
    return int(counter.get_total_flops())


def predict_flops(spec: ModelSpec, rows: int, cols: int, *, whole_scene: bool) -> int:
    """FLOPs of scoring every pixel of a scene, counted.

    Parameters
    ----------
    spec : ModelSpec
    rows, cols : int
    whole_scene : bool
        In one pass, patch CNNs cast; otherwise patch by patch.
    """
    patch = MODELS[spec.name].patch
    with torch.device("meta"):
        network = build(spec).eval()
    if whole_scene or patch is None:
        return counted_forward(scene_form(network), 1, spec.bands, rows, cols)
    return rows * cols * counted_forward(network, 1, spec.bands, patch, patch)


def training_step_flops(spec: ModelSpec, shape: tuple[int, int, int]) -> int:
    """FLOPs of one step, forward and backward, counted.

    Parameters
    ----------
    spec : ModelSpec
    shape : tuple of int
        Inputs a step (scenes or patches), rows and columns of each.
    """
    with torch.device("meta"):
        network = build(spec)
    x = torch.empty(shape[0], spec.bands, *shape[1:], device="meta")
    with FlopCounterMode(display=False) as counter:
        network(x).sum().backward()
    return int(counter.get_total_flops())
