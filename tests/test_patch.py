from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import field_scene, noise_scene, random_bundle, randomise

from hsifcn.comparison.baselines import PatchPredictor
from hsifcn.data.standardise import fit_scaling
from hsifcn.inference.predictor import Predictor
from hsifcn.models import MODELS, build, default_spec, scene_form
from hsifcn.models.patch import patch_plan
from hsifcn.training.patches import Patches

pytestmark = pytest.mark.usefixtures("small_models_in_module")

PATCHES = [model.patch for model in MODELS.values() if model.patch]


@pytest.mark.parametrize("patch", PATCHES)
def test_plans_use_up_the_patch(patch):
    layers, cells = patch_plan(patch)
    size = patch
    for layer in layers:
        assert layer == "conv" or size % 2  # a pool of 3 by 2 leaves nothing over
        size = size - 2 if layer == "conv" else (size - 3) // 2 + 1
    assert 1 <= size == cells <= 4


def patches_of(cube, pixels, patch, materialised=False):
    return Patches([(cube, pixels)], patch, materialised)


@settings(max_examples=30)
@given(
    patch=st.sampled_from(PATCHES),
    rows=st.integers(1, 12),
    cols=st.integers(1, 12),
    seed=st.integers(0, 99),
)
@torch.inference_mode()
def test_the_cast_network_scores_every_pixel_as_its_patch(patch, rows, cols, seed):
    network = randomise(build(default_spec(f"patch{patch}", 3, 4)), seed)
    cube = torch.randn(1, 3, rows, cols, generator=torch.Generator().manual_seed(seed))
    one_by_one = network(
        patches_of(cube, torch.arange(rows * cols), patch).window(torch.arange(rows * cols))
    )
    wanted = one_by_one[:, :, 0, 0].t().reshape(1, 4, rows, cols)
    found = scene_form(network)(cube)
    assert (found - wanted).abs().max() < 1e-4
    assert torch.equal(found.argmax(1), wanted.argmax(1))


@pytest.mark.parametrize("patch", [5, 15, 31])
def test_three_ways_to_map_a_scene_agree(patch):
    scene, _ = field_scene(17, 21, bands=6)
    scaling = fit_scaling([scene.cube.reshape(-1, 6)])
    bundle = random_bundle(f"patch{patch}", 6, scaling=scaling)
    windowed = PatchPredictor(bundle, materialised=False)
    materialised = PatchPredictor(bundle, materialised=True)
    cast = Predictor(bundle).whole_scene_logits(scene)
    assert cast.shape == (4, 17, 21)
    for predictor in (windowed, materialised):
        logits = predictor.whole_scene_logits(scene)
        assert np.abs(logits - cast).max() < 1e-4
        assert np.array_equal(logits.argmax(0), cast.argmax(0))


@pytest.mark.parametrize("materialised", [False, True])
def test_windows_lie_round_their_pixels(materialised):
    cubes = [torch.from_numpy(noise_scene((4, 6, 2), seed).cube) for seed in range(2)]
    sources = [
        (cube.permute(2, 0, 1)[None], torch.tensor(pixels))
        for cube, pixels in zip(cubes, [[0, 9], [23]], strict=True)
    ]
    patches = Patches(sources, 3, materialised)
    assert len(patches) == 3
    first, second, third = patches.gather(torch.tensor([0, 1, 2]))
    assert not first[:, 0].any()
    assert not first[:, :, 0].any()
    assert torch.equal(first[:, 1:, 1:], sources[0][0][0, :, :2, :2])
    assert torch.equal(second, sources[0][0][0, :, 0:3, 2:5])
    assert torch.equal(third[:, :2, :2], sources[1][0][0, :, 2:, 4:])
    assert not third[:, 2].any()
    (again,) = patches.chunks()
    assert torch.equal(again[2], third)
