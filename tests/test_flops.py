"""The formula of FLOPs against hand arithmetic, and against PyTorch's counter for every network."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from hsifcn.models import MODELS, default_spec
from hsifcn.models.flops import (
    convolution_runs,
    counted_forward,
    flops_per_pixel,
    formula_forward,
    predict_flops,
    training_step_flops,
    training_step_formula,
)

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


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_by_hand_by_formula_and_counted(name):
    layer, wanted = LAYERS[name]
    assert formula_forward(layer, 1, 3, 8, 9) == wanted
    assert counted_forward(layer, 1, 3, 8, 9) == wanted


def test_a_batch_counts_every_member_and_leaves_no_hook():
    layer, wanted = LAYERS["plain"]
    (run,) = convolution_runs(layer, 4, 3, 8, 9)
    assert (run.flops, run.values) == (4 * wanted, 4 * 5 * 8 * 9)
    assert not layer._forward_hooks


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("whole_scene", [True, False])
def test_prediction_by_formula_is_what_is_counted(name, whole_scene):
    spec = default_spec(name, 30, 4)
    counted, formula = (
        predict_flops(spec, 64, 70, whole_scene=whole_scene, forward=forward)
        for forward in (counted_forward, formula_forward)
    )
    assert formula == counted > 0


@pytest.mark.parametrize("name", ["hsifcn", "fcn8s", "patch5", "patch15"])
def test_a_training_step_by_formula_is_near_what_is_counted(name):
    spec = default_spec(name, 30, 4)
    patch = MODELS[name].patch
    shape = (1, 64, 70) if patch is None else (16, patch, patch)
    assert training_step_formula(spec, shape) == pytest.approx(
        training_step_flops(spec, shape), rel=0.01
    )


@pytest.mark.parametrize("name", ["hsifcn", "fcn8s", "segnet", "deeplab", "patch15"])
def test_flops_a_pixel_are_those_of_a_large_scene(name):
    spec = default_spec(name, 30, 5)
    side = 32 * 60
    whole = predict_flops(spec, side, side, whole_scene=True, forward=formula_forward)
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
