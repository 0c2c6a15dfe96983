from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scenes import noise_scene, random_bundle, randomise, whole

from hsifcn.core.errors import SettingError
from hsifcn.data.standardise import Scaling
from hsifcn.inference.predictor import Predictor
from hsifcn.models import (
    DEFAULT_MODEL,
    MODELS,
    ModelSpec,
    build,
    default_spec,
    empty_network,
    geometry,
    scene_form,
)
from hsifcn.models.batchnorm import reestimate
from hsifcn.models.flops import predict_flops, training_step_flops
from hsifcn.models.folding import RawSceneNetwork
from hsifcn.models.layers import BatchNorm

FCNS = [name for name in MODELS if MODELS[name].patch is None]
PATCHES = [name for name in MODELS if MODELS[name].patch is not None]
KINDS = [*FCNS, "patch5", "patch15", "patch31"]  # patch CNNs differ by their number of layers
COARSE_TO_FINE = ["fcn32s", "fcn16s", "fcn8s", "fcn4s", "fcn2s", "fcn1s"]

pytestmark = pytest.mark.usefixtures("small_models")


def scene_network(name, bands=2, classes=3, seed=0):
    """A network over scenes with random weights, ready to predict."""
    return scene_form(randomise(build(default_spec(name, bands, classes)), seed)).eval()


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_family():
    assert {*COARSE_TO_FINE, "segnet", "deconvnet", "deeplab"} <= set(FCNS)
    assert DEFAULT_MODEL in MODELS
    assert [MODELS[name].patch for name in PATCHES] == list(range(5, 32, 2))


def test_an_unknown_model_is_refused():
    with pytest.raises(SettingError, match=r"no model 'fcn3s'.*fcn8s"):
        default_spec("fcn3s", 4, 2)


@pytest.mark.parametrize("name", FCNS)
@torch.inference_mode()
def test_a_smaller_scene_of_a_batch_has_the_scores_that_it_has_alone(name):
    network = scene_network(name)
    small = noise(1, 2, 21, 18)
    batch = noise(2, 2, 40, 33, seed=1)
    valid = torch.ones(2, 1, 40, 33, dtype=torch.int8)
    valid[1, :, 21:], valid[1, :, :, 18:] = -1, -1
    batch[1] = 0
    batch[1, :, :21, :18] = small[0]
    together = network(batch, valid)
    torch.testing.assert_close(together[1:, :, :21, :18], network(small), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together[:1], network(batch[:1]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_scenes_of_any_size_keep_it(name):
    network = scene_network(name)
    for rows, cols in [(1, 1), (1, 19), (23, 1), (5, 7), (32, 32), (33, 65)]:
        scores = network(noise(1, 2, rows, cols))
        assert scores.shape == (1, 3, rows, cols)
        assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_network_is_built_without_memory(name):
    spec = ModelSpec(name, 200, 16, (4096, 4096), tuple(4096 for _ in MODELS[name].widths))
    assert all(tensor.is_meta for tensor in empty_network(spec).state_dict().values())


def footprints(network, length, probes, axis):
    """Which output pixels of a line see each of some input pixels: (probes, length) bool."""
    lines = torch.zeros(len(probes), 2, length, 1)
    lines[torch.arange(len(probes)), :, probes, 0] = torch.nan
    seen = network(lines if axis == "rows" else lines.transpose(2, 3)).isnan()
    return seen.any(1).flatten(1)


@pytest.mark.parametrize("axis", ["rows", "cols"])
@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_the_declared_geometry_is_what_a_probe_finds(name, axis):
    declared = geometry(default_spec(name, 2, 3))
    stride, halo = declared.stride, declared.halo
    assert declared.receptive_field == 2 * halo + 1
    first = -(-(halo + 1) // stride) * stride
    probes = torch.arange(first, first + 2 * stride)
    length = first + 2 * stride + halo + stride
    seen = footprints(scene_network(name), length, probes, axis)
    distances = (torch.arange(length) - probes[:, None]).abs()
    assert distances[seen].max() == halo
    # Farther apart by the stride, the same pattern again: tiles may start at multiples of it.
    shifted = seen[stride:].roll(-stride, dims=1)
    assert torch.equal(shifted[:, :-stride], seen[:stride, :-stride])


@pytest.mark.parametrize(
    ("coarse", "fine"), [pair for pair in pairwise(COARSE_TO_FINE) if pair[1] != "fcn1s"]
)
@torch.inference_mode()
def test_a_finer_network_starts_near_the_coarser_one(coarse, fine):
    scores, finer = starting_scores(coarse, fine)
    inner = (..., slice(32, -32), slice(32, -32))  # at the border bilinear weights do not sum to 1
    difference = (scores - finer)[inner]
    # Bilinear by 8 is not quite bilinear by 2 and then by 4.
    assert difference.square().mean() < 0.02 * scores[inner].var()


@torch.inference_mode()
def test_the_finest_network_starts_as_the_next_coarser_one():
    scores, finer = starting_scores("fcn2s", "fcn1s")
    assert torch.equal(scores, finer)


def starting_scores(coarse, fine):
    """Scores of a coarse network, and of a fresh finer one given its encoder."""
    torch.manual_seed(0)
    coarser = build(default_spec(coarse, 2, 3)).eval()
    finer = build(default_spec(fine, 2, 3)).eval()
    shared = ("stem.", "stages.", "fr.", "score_fr.")
    state = {n: t for n, t in coarser.state_dict().items() if n.startswith(shared)}
    finer.load_state_dict(state, strict=False)
    x = noise(1, 2, 160, 160)
    scores = coarser(x)
    assert scores.std() > 0
    return scores, finer(x)


@torch.inference_mode()
def test_skips_tell_once_they_are_trained():
    torch.manual_seed(0)
    network = build(default_spec("fcn1s", 2, 3)).eval()
    x = noise(1, 2, 40, 40)
    before = network(x)
    for skip in network.score_skip:
        torch.nn.init.normal_(skip.weight)
        after = network(x)
        assert not torch.equal(before, after)
        before = after


@torch.inference_mode()
def test_a_network_is_a_coarser_one_while_its_skips_are_at_zero():
    torch.manual_seed(0)
    network = build(default_spec("fcn1s", 2, 3)).eval()
    x = noise(1, 2, 40, 40)
    assert network(x).any()
    torch.nn.init.zeros_(network.score_fr.weight)
    torch.nn.init.zeros_(network.score_fr.bias)
    assert not network(x).any()


def input_moments(network, scenes):
    """Mean and variance of the input of every batch norm, over the counted pixels of scenes."""
    inputs = {norm: [] for norm in network.modules() if isinstance(norm, BatchNorm)}

    def keep(norm, args):
        x, valid = args
        flat = x.permute(0, 2, 3, 1).flatten(0, 2)
        inputs[norm].append(flat if valid is None else flat[valid.flatten()])

    hooks = [norm.register_forward_pre_hook(keep) for norm in inputs]
    for cube, valid in scenes:
        network(cube, valid)
    for hook in hooks:
        hook.remove()
    pooled = {norm: torch.cat(parts) for norm, parts in inputs.items()}
    return {norm: (x.mean(0), x.var(0, correction=0)) for norm, x in pooled.items()}


@pytest.mark.parametrize("name", ["fcn1s", "fcn32s", "segnet", "deconvnet", "deeplab"])
@torch.no_grad()
def test_statistics_of_one_scene_are_exact(name):
    network = randomise(build(default_spec(name, 2, 3)))
    cube = noise(1, 2, 70, 90)
    reestimate(network, lambda network: network(cube), calls=1)
    assert not network.training
    stored = network(cube)
    network.train()
    torch.testing.assert_close(network(cube), stored, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["fcn1s", "segnet", "deconvnet", "deeplab"])
@pytest.mark.parametrize("sizes", [[(70, 90)], [(70, 90), (40, 35), (64, 128)]])
@torch.no_grad()
def test_statistics_are_pooled_over_the_counted_pixels_of_all_scenes(name, sizes):
    scenes = []
    for seed, (rows, cols) in enumerate(sizes):
        cube = noise(1, 2, rows, cols, seed=seed) * (1 + seed) + seed
        valid = None if seed == 1 else noise(1, 1, rows, cols, seed=9) > -0.5
        scenes.append((cube, valid))
    network = randomise(build(default_spec(name, 2, 3)))

    def run(network):
        for cube, valid in scenes:
            network(cube, valid)

    reestimate(network, run, calls=len(scenes))
    for norm, (mean, variance) in input_moments(network, scenes).items():
        torch.testing.assert_close(norm.running_mean, mean, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(norm.running_var, variance, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_scene_without_counted_pixels_adds_nothing():
    cube, other = noise(1, 2, 40, 50), noise(1, 2, 33, 20) + 5
    nowhere = torch.zeros(1, 1, 33, 20, dtype=torch.bool)
    alone, both = (randomise(build(default_spec("fcn1s", 2, 3))) for _ in range(2))
    reestimate(alone, lambda network: network(cube), calls=1)

    def run(network):
        network(cube)
        network(other, nowhere)

    reestimate(both, run, calls=2)
    torch.testing.assert_close(both.state_dict(), alone.state_dict(), atol=1e-5, rtol=1e-5)


UNITS = {"counts": (3000.0, 900.0), "reflectance": (0.3, 0.1)}


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("name", [*FCNS, "patch5", "patch15"])
@torch.inference_mode()
def test_raw_scenes_are_scored_as_standardised_ones(name, units):
    rng = np.random.default_rng(0)
    bands = 30
    mean, spread = UNITS[units]
    scaling = Scaling(mean * rng.uniform(0.5, 1.5, bands), spread * rng.uniform(0.1, 1, bands))
    bundle = random_bundle(name, bands, scaling=scaling)
    standardised = noise_scene((40, 37, bands))
    raw = standardised.with_cube(
        (standardised.cube * scaling.std + scaling.mean).astype(np.float32)
    )
    wanted = scene_form(bundle.network())(
        torch.from_numpy(standardised.cube).permute(2, 0, 1)[None]
    )
    found, valid = Predictor(bundle).scores(raw, whole(raw))
    assert valid.all()
    assert (found - wanted[0]).abs().max() < 1e-3 * wanted.abs().max()


def test_folding_leaves_no_batch_norm():
    for name in (*FCNS, "patch9"):
        bundle = random_bundle(name)
        folded = RawSceneNetwork(bundle.network(), bundle.scaling)
        assert not any(isinstance(module, BatchNorm) for module in folded.modules())


def test_flops_of_scenes_grow_with_their_pixels():
    for name in ("fcn1s", "segnet", "deconvnet", "deeplab", "patch9"):
        spec = default_spec(name, 5, 3)
        small, large = (predict_flops(spec, 64, side, whole_scene=True) for side in (640, 1280))
        assert large == pytest.approx(2 * small, rel=0.05)


def test_the_cast_network_saves_what_patches_compute_twice():
    for name in ("patch5", "patch15", "patch31"):
        spec = default_spec(name, 5, 3)
        cast = predict_flops(spec, 100, 100, whole_scene=True)
        assert 3 * cast < predict_flops(spec, 100, 100, whole_scene=False)


def test_a_training_step_takes_about_three_forward_passes():
    spec = default_spec(DEFAULT_MODEL, 5, 3)
    forward = predict_flops(spec, 64, 64, whole_scene=True)
    assert 2.5 * forward < training_step_flops(spec, (1, 64, 64)) <= 3 * forward
