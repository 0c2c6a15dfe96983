"""Labels propagated over a scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsifcn.propagation.grid_graph import neighbour_slices
from hsifcn.propagation.mnf import mnf_transform, noise_sums
from hsifcn.propagation.random_walker import (
    WalkerParams,
    choose_params,
    class_edges,
    edge_weights,
    edges_and_features,
    make_pseudo_labels,
    prior_weight_factor,
    propagate,
    scale_edges,
    smoothed,
    solve_random_walker,
    spectral_edges,
    walker_weights,
    weaken_edges_near_labels,
)
from hsifcn.propagation.spectral_prior import LabelledSpectra


def fields_scene(rows=18, cols=22, bands=8, noise=0.3, seed=0):
    """A standardised scene of three upright fields, and the class of each pixel."""
    rng = np.random.default_rng(seed)
    classes = np.repeat([0, 1, 2], [7, 8, 7])[:cols]
    truth = np.broadcast_to(classes, (rows, cols))
    spectra = rng.normal(0, 1, (3, bands))[truth] + rng.normal(0, noise, (rows, cols, bands))
    spectra = (spectra - spectra.mean((0, 1))) / spectra.std((0, 1))
    cube = torch.from_numpy(spectra.astype(np.float32)).permute(2, 0, 1)[None]
    return cube, torch.from_numpy(truth.copy())


def label(truth, places):
    pixels = torch.tensor([row * truth.shape[1] + col for row, col in places])
    return pixels, truth.flatten()[pixels]


def noise_covariance(image):
    noise, differences = noise_sums(image, None)
    return noise / differences


def random_edges(rows, cols, rng):
    """Weights of the eight-neighbour graph: one array a direction, and a sparse matrix of all."""
    arrays, entries = [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        weights = rng.uniform(0.01, 1, (rows - down, cols - abs(right)))
        for row in range(rows - down):
            for col in range(cols - abs(right)):
                here = row * cols + col + (right < 0)
                there = (row + down) * cols + col + (right > 0)
                entries += [(here, there, weights[row, col]), (there, here, weights[row, col])]
        arrays.append(torch.from_numpy(weights).float())
    first, second, values = zip(*entries, strict=True)
    matrix = scipy.sparse.csr_array((values, (first, second)), shape=(rows * cols, rows * cols))
    return arrays, matrix


def laplacian(matrix):
    return scipy.sparse.diags_array(matrix.sum(1)) - matrix


@pytest.mark.parametrize("prior_weight", [1e-3, 0.1])
@pytest.mark.parametrize("labelled", [1, 5, 40])
def test_the_random_walker_solves_gradys_system(labelled, prior_weight):
    """Grady (2006), equation 11, and the prior of Grady (2005), solved by SuperLU in float64."""
    rows, cols, classes = 12, 15, 3
    rng = np.random.default_rng(labelled)
    weights, matrix = random_edges(rows, cols, rng)
    prior = rng.dirichlet(np.ones(classes), rows * cols)
    pixels = rng.permutation(rows * cols)[:labelled]
    targets = rng.integers(0, classes, labelled)
    wanted = np.zeros((rows * cols, classes))
    wanted[pixels, targets] = 1
    free = np.setdiff1d(np.arange(rows * cols), pixels)
    system = laplacian(matrix) + prior_weight * scipy.sparse.eye_array(rows * cols)
    right = prior_weight * prior[free] - system.tocsr()[free][:, pixels] @ wanted[pixels]
    wanted[free] = scipy.sparse.linalg.spsolve(system.tocsc()[free][:, free], right)
    found = solve_random_walker(
        weights,
        torch.from_numpy(prior.T.reshape(classes, rows, cols)).float(),
        prior_weight,
        None,
        torch.from_numpy(pixels),
        torch.from_numpy(targets),
    )
    np.testing.assert_allclose(found.flatten(1).numpy().T, wanted, atol=0.01)


@pytest.mark.parametrize("strength", [20.0, 500.0])
def test_smoothing_agrees_with_a_direct_solution(strength):
    rng = np.random.default_rng(0)
    weights, matrix = random_edges(9, 14, rng)
    image = rng.normal(0, 1, (5, 9, 14))
    system = scipy.sparse.eye_array(9 * 14) + strength * laplacian(matrix)
    expected = scipy.sparse.linalg.spsolve(system.tocsc(), image.reshape(5, -1).T).T
    found = smoothed(torch.from_numpy(image).float(), weights, strength, 60)
    np.testing.assert_allclose(found.flatten(1), expected, atol=1e-3)


def test_fields_are_filled_from_one_pixel_each():
    cube, truth = fields_scene()
    pixels, targets = label(truth, [(2, 2), (9, 10), (15, 20)])
    found = propagate(cube, None, pixels, targets, 3)
    assert (found.argmax(0) == truth).float().mean() > 0.98


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000), st.data())
def test_probabilities_on_any_size(rows, cols, seed, data):
    rng = np.random.default_rng(seed)
    cube = torch.from_numpy(rng.normal(0, 1, (1, 6, rows, cols)).astype(np.float32))
    n = data.draw(st.integers(1, rows * cols))
    pixels = torch.from_numpy(rng.permutation(rows * cols)[:n])
    targets = torch.from_numpy(rng.integers(0, 3, n))
    found = propagate(cube, None, pixels, targets, 4)
    assert torch.isfinite(found).all()
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(0).numpy(), 1, atol=1e-2)
    assert (found.flatten(1)[targets, pixels] == 1).all()
    absent = sorted({0, 1, 2, 3} - set(targets.tolist()))
    assert (found[absent] == 0).all()


def test_pixels_without_a_measurement_take_no_part():
    cube, truth = fields_scene()
    pixels, targets = label(truth, [(2, 2), (9, 10), (15, 20)])
    valid = torch.ones(1, 1, *truth.shape, dtype=torch.bool)
    valid[..., 4:6, :] = False
    weights = edge_weights(spectral_edges(cube[0]), valid)
    for weight, (a, b, c, d) in zip(weights, neighbour_slices(cube), strict=True):
        assert (weight[~(valid[0, 0, a, b] & valid[0, 0, c, d])] == 0).all()
    found = make_pseudo_labels(cube, valid, pixels, targets, 3)
    assert (found.weights.reshape(truth.shape)[4:6] == 0).all()
    assert (propagate(cube, valid, pixels, targets, 3)[:, 4:6] == 0).all()


def test_pixels_get_the_likeliest_class_and_count_by_its_probability():
    cube, truth = fields_scene(noise=1.0)
    pixels, targets = label(truth, [(2, 2), (9, 10), (15, 20)])
    probabilities = propagate(cube, None, pixels, targets, 3).flatten(1)
    found = make_pseudo_labels(cube, None, pixels, targets, 3)
    assert (found.classes == probabilities.argmax(0)).all()
    some = (found.classes == 1) & (found.weights > 0)
    ratios = (found.weights / probabilities.max(0).values)[some]
    assert some.sum() > 50
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)
    free = torch.ones(truth.numel(), dtype=torch.bool)
    free[pixels] = False
    confidence = probabilities.max(0).values[free].mean().item()
    assert found.mean_confidence == pytest.approx(confidence, rel=1e-5)


def test_labelled_pixels_do_not_count_twice_and_weights_sum_to_one():
    cube, truth = fields_scene()
    pixels, targets = label(truth, [(2, 2), (9, 10), (15, 20)])
    found = make_pseudo_labels(cube, None, pixels, targets, 3)
    assert (found.weights[pixels] == 0).all()
    assert found.weights.sum().item() == pytest.approx(1, abs=1e-5)


def test_weights_are_small_at_the_borders_of_fields():
    cube, truth = fields_scene(noise=0.1)
    edges = spectral_edges(mnf_transform(cube, None))
    assert torch.cat([edge.flatten() for edge in edges]).mean() == pytest.approx(1, abs=1e-4)
    weights = edge_weights(scale_edges(edges, 3.0), None)
    inside, across, *_ = weights[0].split([6, 1, 14], dim=1)
    assert across.median() < inside.median() / 3
    assert truth[0, 6] != truth[0, 7]


def test_weights_are_small_where_the_prior_changes_its_class():
    sure = torch.zeros(2, 3, 4)
    sure[0, :, :2] = sure[1, :, 2:] = 1
    right, down, *_ = class_edges(sure)
    assert (down == 0).all()
    assert (right[:, [0, 2]] == 0).all()
    assert (right[:, 1] > 1).all()
    weights = edge_weights(class_edges(sure), None)
    assert (weights[0][:, 1] < weights[0][:, 0] / 10).all()
    unsure = 0.5 + 0.2 * (sure - 0.5)
    np.testing.assert_allclose(class_edges(unsure)[0], 0.2**2 * right, rtol=1e-5)


def test_diagonal_edges_weigh_less_by_their_length():
    flat = [torch.zeros(3, 3), torch.zeros(2, 4), torch.zeros(2, 3), torch.zeros(2, 3)]
    right, down, *diagonals = edge_weights(flat, None)
    assert (right == down[0, 0]).all()
    for diagonal in diagonals:
        np.testing.assert_allclose(diagonal, right[0, 0] / np.sqrt(2), rtol=1e-6)


def test_edges_are_weaker_near_labelled_pixels():
    labelled = torch.zeros(5, 9, dtype=torch.bool)
    labelled[2, 4] = True
    edges = class_edges(torch.rand(3, 5, 9, generator=torch.Generator().manual_seed(0)))
    lower = weaken_edges_near_labels(labelled, edges, 0.2)
    assert [edge.shape for edge in lower] == [edge.shape for edge in edges]
    right, down = (near / edge for near, edge in zip(lower[:2], edges[:2], strict=True))
    np.testing.assert_allclose(right[2, 3:5], 0.2, rtol=1e-5)  # the edges of the labelled pixel
    np.testing.assert_allclose(down[1:3, 4], 0.2, rtol=1e-5)
    one_away = 1 - 0.8 * np.exp(-1)
    np.testing.assert_allclose(right[[1, 3, 2, 2], [4, 4, 2, 5]], one_away, rtol=1e-5)
    np.testing.assert_allclose(right[:, [0, 7]], 1, atol=1e-3)
    same = weaken_edges_near_labels(labelled, edges, 1.0)
    assert all((a == b).all() for a, b in zip(same, edges, strict=True))


def test_a_labelled_neighbour_outweighs_the_prior_of_a_mixed_pixel():
    """A pixel between labelled ones of its field, whose spectrum looks like another class."""
    prior = torch.full((2, 5, 9), 0.05)
    prior[0] = 0.95
    prior[:, 2, 4] = torch.tensor([0.05, 0.95])
    edges = [torch.zeros_like(edge) for edge in class_edges(prior)]
    pixels = torch.tensor([2 * 9 + 3, 2 * 9 + 5])
    targets = torch.zeros(2, dtype=torch.int64)
    found = []
    for scale in (1.0, 0.2):
        params = WalkerParams(1.0, 0.5, scale)
        weights = walker_weights(edges, prior, None, pixels, params)
        solution = solve_random_walker(weights, prior, 0.5, None, pixels, targets)
        found.append(int(solution[:, 2, 4].argmax()))
    assert found == [1, 0]


def spectra_of(errors, fields=100, size=4):
    """Two classes of fields far apart, but for some fields that look like the other class."""
    rng = np.random.default_rng(0)
    targets = np.arange(fields) % 2
    looks = targets.copy()
    looks[:errors] = 1 - looks[:errors]
    smooth = np.repeat(looks * 20.0, size)[:, None] + rng.normal(0, 1, (fields * size, 3))
    variance = rng.normal(0, 0.01, (fields * size, 1))
    return LabelledSpectra(
        smooth, variance, np.repeat(targets, size), np.repeat(np.arange(fields), size)
    )


def test_the_prior_weighs_more_where_the_classifier_makes_few_errors():
    none, one, two, many = (prior_weight_factor(spectra_of(errors)) for errors in (0, 1, 2, 20))
    assert none > one > two
    assert one == pytest.approx(2 * two)  # half as many errors
    assert many == 1


def test_the_prior_weighs_no_more_where_no_field_can_be_left_out():
    assert prior_weight_factor(spectra_of(0, fields=2, size=30)) == 1


def test_errors_are_counted_by_pixels_whatever_their_fields():
    pixels = spectra_of(30, fields=100, size=1)
    fields = replace(pixels, fields=np.arange(100) // 2)
    assert prior_weight_factor(fields) == prior_weight_factor(pixels) == 1


def test_borders_are_weaker_where_more_fields_are_labelled():
    one_each, some, many = (choose_params(spectra_of(n // 4, fields=n), 1.0) for n in (2, 8, 400))
    assert one_each.beta > some.beta > many.beta > 0
    assert 1 == one_each.label_edge_scale > some.label_edge_scale > many.label_edge_scale > 0
    assert one_each.prior_weight == some.prior_weight == many.prior_weight


def test_the_prior_weighs_more_where_fields_are_narrower_than_labels_lie_apart():
    labelled = spectra_of(100, fields=400)
    wide, less, narrow, narrower = (choose_params(labelled, share) for share in (1, 0.8, 0.5, 0))
    assert wide.prior_weight < less.prior_weight < narrow.prior_weight < 2 * wide.prior_weight
    assert wide.label_edge_scale < less.label_edge_scale < narrow.label_edge_scale == 1
    assert narrow == narrower
    one_field_each = choose_params(spectra_of(0, fields=2), 0)  # which tells nothing
    assert one_field_each.prior_weight == wide.prior_weight


def test_less_is_smoothed_where_labels_cover_few_fields():
    cube, _ = fields_scene(rows=40, noise=1.0)
    components = mnf_transform(cube, None)
    few, many = (edges_and_features(components, None, covers)[1].smooth for covers in (0.0, 1.0))
    assert many.diff(dim=1).square().mean() < few.diff(dim=1).square().mean()  # down a field


def test_noise_is_what_neighbours_differ_by():
    rng = np.random.default_rng(0)
    mixing = rng.normal(0, 1, (5, 5))
    ramp = np.linspace(0, 5, 60)[:, None, None] * rng.normal(0, 1, 5)  # signal, no noise
    spectra = ramp + rng.normal(0, 1, (60, 70, 5)) @ mixing
    image = torch.from_numpy(spectra.astype(np.float32)).permute(2, 0, 1)
    true = mixing.T @ mixing
    np.testing.assert_allclose(noise_covariance(image), true, atol=0.1 * true.max())


def test_components_have_noise_one_and_come_in_the_order_of_signal():
    cube, _ = fields_scene(rows=60, cols=22, noise=1.0)
    components = mnf_transform(cube, None)
    assert (components.square().mean((1, 2)).diff() <= 1e-3).all()
    np.testing.assert_allclose(noise_covariance(components), np.eye(8), atol=0.02)


@pytest.mark.parametrize("coverage", [0.05, 0.5, 1.0])  # at 0 the local variance is not used
def test_local_variance_tells_rough_fields_from_smooth_ones(coverage):
    rng = np.random.default_rng(2)
    rough = np.broadcast_to(np.where(np.arange(40) < 20, 1.0, 4.0), (30, 40))
    components = torch.from_numpy(rough * rng.normal(0, 1, (3, 30, 40))).float()
    components[0] += torch.from_numpy(np.where(rough > 1, 40.0, 0.0)).float()  # a border
    valid = torch.ones(1, 1, 30, 40, dtype=torch.bool)
    valid[..., :3, :] = False
    _, features = edges_and_features(components, valid, coverage)
    assert torch.isfinite(features.variance).all()
    left, right = features.variance[:, 3:, :20], features.variance[:, 3:, 20:]
    assert (right.amin((1, 2)) > left.amax((1, 2))).all()
