"""Stages, upsampling, wavelengths and receptive field of an explanation, against other ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scenes import ArrayScene, field_scene, noise_scene, random_bundle, whole
from scipy import stats

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import Window
from hsifcn.data.splits import make_split
from hsifcn.inference.explain.bands import (
    BandProbe,
    band_groups,
    importance,
    rank_correlation,
    replacements,
    with_shuffled_weights,
)
from hsifcn.inference.explain.explain import explain
from hsifcn.inference.explain.field import influence
from hsifcn.inference.explain.inputs import choose_window, near_a_change
from hsifcn.inference.explain.stages import (
    bilinear,
    nearest,
    phase_pattern,
    score_stages,
    upsamplings,
    with_kernels,
)
from hsifcn.inference.predictor import Predictor
from hsifcn.models import MODELS, build, default_spec, geometry, scene_form
from hsifcn.models.fcn import FCN

pytestmark = pytest.mark.usefixtures("small_models_in_module")

FAMILY = [name for name in MODELS if name == "hsifcn" or name.startswith("fcn")]


@pytest.mark.parametrize("name", FAMILY)
def test_shares_add_up_to_the_scores_of_the_predictor(name):
    bundle = random_bundle(name)
    scene = noise_scene((37, 45, 5))
    explanation = explain(bundle, scene)
    expected, _ = Predictor(bundle).scores(scene, whole(scene))
    torch.testing.assert_close(explanation.shares.sum(0), expected, rtol=1e-4, atol=1e-4)
    assert explanation.record["largest_error_of_sum"] < 1e-4
    assert len(explanation.shares) == len(explanation.record["stages"])


@pytest.mark.parametrize("name", FAMILY)
def test_a_share_is_what_the_network_says_with_the_other_scorers_at_zero(name):
    torch.manual_seed(0)
    network = scene_form(random_bundle(name).network())
    assert isinstance(network, FCN)
    features = torch.randn(1, network.stages[0][0].conv.in_channels, 29, 31)
    stages, _ = score_stages(network, features)
    shares = stages.shares(network)
    scorers = [network.score_fr, *network.score_skip]
    with torch.no_grad():
        for stage in range(len(scorers)):
            kept = [(s.weight.clone(), s.bias.clone()) for s in scorers]
            for other, scorer in enumerate(scorers):
                if other != stage:
                    scorer.weight.zero_()
                    scorer.bias.zero_()
            alone = network.after_stem(features)[0]
            for scorer, (weight, bias) in zip(scorers, kept, strict=True):
                scorer.weight.copy_(weight)
                scorer.bias.copy_(bias)
            torch.testing.assert_close(shares[stage], alone, rtol=1e-4, atol=1e-4)


def test_kernels_are_replaced_by_bilinear_ones():
    fresh = build(default_spec("fcn8s", 5, 4)).eval()
    changed = with_kernels(random_bundle("fcn8s").network(), bilinear)
    for (*_, one), (*_, other) in zip(upsamplings(fresh), upsamplings(changed), strict=True):
        assert torch.equal(one.weight, other.weight)
    assert [grids[:2] for grids in upsamplings(fresh)] == [(32, 16), (16, 8), (8, 1)]


def test_an_even_area_stays_even_under_bilinear_kernels_and_repetition_only():
    network = random_bundle("fcn8s").network()
    for kernel in (bilinear, nearest):
        even = phase_pattern(with_kernels(network, kernel), 0)
        torch.testing.assert_close(even, torch.ones_like(even))
    learned = phase_pattern(network, 2)
    layer = network.upscore
    for row in range(8):  # the weights that reach a pixel of the cell, summed by hand
        for col in range(8):
            rows, cols = [(row + 4) % 8, (row + 4) % 8 + 8], [(col + 4) % 8, (col + 4) % 8 + 8]
            wanted = layer.weight[1, 0][rows][:, cols].sum()
            torch.testing.assert_close(learned[1, row, col], wanted)
    assert learned.std() > 0.01


def test_bands_are_grouped_without_crossing_gaps():
    good = np.ones(24, bool)
    good[10:12] = False
    nm = np.concatenate([np.arange(16) * 10.0, 800 + np.arange(8) * 10.0]) + 400
    groups = band_groups(good, nm, wanted=5)
    assert groups[0].bands.start == 0
    assert [a.bands.stop for a in groups[:-1]] == [b.bands.start for b in groups[1:]]
    assert groups[-1].bands.stop == 22
    starts = {group.bands.start for group in groups}
    assert {10, 14} <= starts  # after the bad bands, and after the gap in wavelength
    assert groups[0].first == "400 nm"
    assert band_groups(np.ones(3, bool), None, 16)[2].last == "band 3"


def test_only_bands_with_weight_are_important():
    bundle = random_bundle("patch5", bands=12)
    weight = bundle.weights["stem.0.conv.weight"]
    weight[:, :4] = 0
    weight[:, 8:] = 0
    network = scene_form(bundle.network())
    spectra = torch.randn(1, 12, 24, 24)
    groups = band_groups(np.ones(12, bool), None, wanted=3)
    rounds = replacements(groups, (24, 24))
    losses = importance(BandProbe(network, spectra, 1.0), rounds, np.ones((24, 24), bool))
    assert losses.shape == (3, 3)
    assert np.abs(losses[[0, 2]]).max() < 1e-6
    assert losses[1].min() > 0.01


def test_a_replacement_is_the_network_on_changed_spectra():
    network = scene_form(random_bundle("hsifcn").network())
    spectra = torch.randn(1, 5, 20, 21)
    changed = spectra.clone()
    changed[:, 2:4] = spectra[:, 2:4].roll((7, 5), (2, 3))
    with torch.no_grad():
        expected = network(changed)[0].div(2).softmax(0)
    found = BandProbe(network, spectra, 2.0).probabilities([(slice(2, 4), (7, 5))])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_shuffled_weights_are_the_same_numbers_elsewhere():
    network = scene_form(random_bundle("hsifcn").network())
    shuffled = with_shuffled_weights(network, torch.randn(1, 5, 20, 20), 1)
    before, after = (n.stages[0][0].conv.weight.flatten() for n in (network, shuffled))
    assert torch.equal(before.sort().values, after.sort().values)
    assert not torch.equal(before, after)


def test_rank_correlation_is_spearmans():
    a, b = np.random.default_rng(0).normal(size=(2, 12))
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_influence_is_the_slope_of_the_score():
    bundle = random_bundle("patch5")
    network = scene_form(bundle.network()).double()
    torch.manual_seed(0)
    spectra = torch.randn(1, 5, 15, 15, dtype=torch.float64)
    found = influence(network, spectra, [(7, 7)], 5, 1, label=2)
    slopes, step = np.zeros((5, 5)), 1e-6
    with torch.no_grad():
        before = network(spectra)[0, 1, 7, 7]
        for band, row, col in np.ndindex(5, 5, 5):
            moved = spectra.clone()
            moved[0, band, 5 + row, 5 + col] += step
            slopes[row, col] += abs(float(network(moved)[0, 1, 7, 7] - before)) / step
    np.testing.assert_allclose(found.map, slopes / slopes.sum(), rtol=1e-3, atol=1e-5)
    assert found.within(5) == pytest.approx(1)
    assert found.side_of(1.0) == 5


def test_influence_stays_within_the_receptive_field():
    spec = random_bundle("hsifcn").spec
    field = geometry(spec).receptive_field
    network = scene_form(random_bundle("hsifcn").network())
    found = influence(network, torch.randn(1, 5, 80, 81), [(40, 39), (3, 78)], field, 4)
    assert found.map.shape == (field, field)
    assert found.map.sum() == pytest.approx(1)


def test_pixels_near_a_change_of_label():
    labels = np.zeros((6, 12), int)
    labels[:, 6:] = 1
    near = near_a_change(labels)
    assert near[0].tolist() == [False] * 4 + [True] * 4 + [False] * 4


def test_the_window_holds_most_of_what_is_wanted():
    wanted = np.zeros((400, 500), bool)
    wanted[300:340, 410:460] = True
    window = choose_window((400, 500), wanted, 100 * 100, 8)
    assert window.rows * window.cols <= 100 * 100
    assert window.row % 8 == window.col % 8 == 0
    assert wanted[window.slices].sum() == wanted.sum()
    assert choose_window((40, 50), wanted, 2000, 8) == Window(0, 0, 40, 50)


def explained(name="hsifcn", **options):
    scene, labels = field_scene(40, 44, bands=5, classes=4)
    split = make_split(labels, "random:0.2")
    return explain(random_bundle(name), scene, split, **options), split


def test_accuracy_is_that_of_the_summed_shares():
    explanation, split = explained()
    labels = explanation.shares.sum(0).argmax(0).numpy() + 1
    told = explanation.record["stages"][-1]["up_to_here"]
    assert told["oa"] == pytest.approx((labels == split.labels)[split.test].mean())
    assert told["same_as_map"] == 1
    without = explanation.shares[1:].sum(0).argmax(0).numpy() + 1
    found = explanation.record["stages"][0]["without"]["oa"]
    assert found == pytest.approx((without == split.labels)[split.test].mean())


def test_one_pixel_has_the_shares_of_the_whole():
    explanation, _ = explained(at=(12, 30), label=2)
    told = explanation.record["pixel"]
    shares = [stage["share"] for stage in told["stages"]]
    np.testing.assert_allclose(shares, explanation.shares[:, 1, 12, 30].numpy(), rtol=1e-5)
    assert sum(shares) == pytest.approx(told["logit"], rel=1e-5)
    assert told["class"] == "class 2"


@pytest.mark.parametrize("name", ["segnet", "deconvnet", "deeplab", "patch7"])
def test_a_network_without_skips_says_so(name):
    explanation, _ = explained(name)
    assert explanation.record["stages"] == []
    assert f"{name} has no skips" in explanation.record["note"]
    assert explanation.record["wavelengths"]["groups"]


def test_a_pixel_outside_or_without_measurement_is_refused():
    bundle = random_bundle("hsifcn")
    cube = np.random.default_rng(0).normal(size=(20, 20, 5)).astype(np.float32)
    cube[3, 4] = np.nan
    with pytest.raises(SettingError, match="outside of the scene of 20 x 20"):
        explain(bundle, ArrayScene(cube), at=(20, 0))
    with pytest.raises(SettingError, match="holds no measurement"):
        explain(bundle, ArrayScene(cube), at=(3, 4))


def test_a_large_scene_is_explained_in_a_window(monkeypatch):
    monkeypatch.setattr("hsifcn.inference.explain.explain.MOST_PIXELS", 32 * 32)
    scene = noise_scene((90, 100, 5))
    explanation = explain(random_bundle("hsifcn"), scene, at=(80, 90))
    row, col, rows, cols = explanation.record["window"]
    assert rows * cols <= 32 * 32
    assert row <= 80 < row + rows
    assert col <= 90 < col + cols
    assert explanation.shares.shape[2:] == (rows, cols)


def test_a_scene_without_any_measurement_is_refused():
    cube = np.full((20, 20, 5), np.nan, np.float32)
    with pytest.raises(SettingError, match="array holds no measurement"):
        explain(random_bundle("hsifcn"), ArrayScene(cube))
