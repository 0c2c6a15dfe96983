"""FLOPs against hand arithmetic for single layers, and against PyTorch's counter for networks."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hsifcn.models import MODELS, default_spec, empty_network, scene_form
from hsifcn.models.flops import (
    flops_per_pixel,
    forward_flops,
    predict_flops,
    training_step_flops,
)

KINDS = [name for name, model in MODELS.items() if model.patch in (None, 5, 15, 31)]
LAYERS = {
    "plain": (torch.nn.Conv2d(3, 5, 3, padding=1, device="meta"), 2 * 9 * 3 * 5 * 8 * 9),
    "strided": (torch.nn.Conv2d(3, 5, 2, 2, device="meta"), 2 * 4 * 3 * 5 * 4 * 4),
    "dilated": (torch.nn.Conv2d(3, 5, 3, dilation=2, device="meta"), 2 * 9 * 3 * 5 * 4 * 5),
    "grouped": (torch.nn.Conv2d(3, 6, 3, groups=3, device="meta"), 2 * 9 * 1 * 6 * 6 * 7),
    "up": (torch.nn.ConvTranspose2d(3, 5, 4, 2, 1, device="meta"), 2 * 16 * 3 * 5 * 8 * 9),
    "grouped up": (
        torch.nn.ConvTranspose2d(3, 3, 4, 2, 1, groups=3, device="meta"),
        2 * 16 * 1 * 3 * 8 * 9,
    ),
}


def counted(run):
    """FLOPs that PyTorch counts while ``run`` runs."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_by_hand_and_counted(name):
    layer, wanted = LAYERS[name]
    assert forward_flops(layer, 1, 3, 8, 9) == wanted
    assert counted(lambda: layer(torch.empty(1, 3, 8, 9, device="meta"))) == wanted


def test_a_batch_counts_every_input_and_leaves_no_hook():
    layer, wanted = LAYERS["plain"]
    assert forward_flops(layer, 4, 3, 8, 9) == 4 * wanted
    assert not layer._forward_hooks


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("whole_scene", [True, False])
def test_flops_of_prediction_are_those_counted(name, whole_scene):
    spec = default_spec(name, 30, 4)
    network, patch = empty_network(spec).eval(), MODELS[name].patch
    shape, passes = (64, 70), 1
    if whole_scene:
        network = scene_form(network)
    elif patch is not None:
        shape, passes = (patch, patch), 64 * 70
    x = torch.empty(1, 30, *shape, device="meta")
    found = predict_flops(spec, 64, 70, whole_scene=whole_scene)
    assert found == passes * counted(lambda: network(x)) > 0


@pytest.mark.parametrize("name", ["hsifcn", "fcn8s", "patch5", "patch15"])
def test_flops_of_a_training_step_are_near_those_counted(name):
    spec = default_spec(name, 30, 4)
    patch = MODELS[name].patch
    shape = (1, 64, 70) if patch is None else (16, patch, patch)
    network = empty_network(spec)
    x = torch.empty(shape[0], 30, *shape[1:], device="meta")
    found = counted(lambda: network(x).sum().backward())
    assert training_step_flops(spec, shape) == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize("name", ["hsifcn", "fcn8s", "segnet", "deeplab", "patch15"])
def test_flops_a_pixel_are_those_of_a_large_scene(name):
    spec = default_spec(name, 30, 5)
    side = 32 * 60
    whole = predict_flops(spec, side, side, whole_scene=True)
    assert flops_per_pixel(spec) == pytest.approx(whole / side**2, rel=0.02)


def test_counting_the_flops_a_pixel_does_not_load_the_compiler():
    code = """
import sys
from hsifcn.models import default_spec
from hsifcn.models.flops import flops_per_pixel
flops_per_pixel(default_spec("hsifcn", 30, 5))
assert "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
