"""Labels carried over a scene."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsifcn.propagation import (
    EDGE_COMPONENTS,
    PRIOR,
    SMOOTHING,
    clean_components,
    noise_covariance,
    propagate,
    propagated_labels,
    smoothed,
    spectral_probabilities,
    step_weights,
    steps,
)


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


def dense_graph(weights, rows, cols):
    index = np.arange(rows * cols).reshape(rows, cols)
    graph = np.zeros((rows * cols, rows * cols))
    for weight, (a, b, c, d) in zip(weights, steps(index[None]), strict=True):
        graph[index[a, b].ravel(), index[c, d].ravel()] = weight.numpy().ravel()
    return graph + graph.T


def dense_solution(cube, valid, pixels, targets, classes):
    """The same linear system, written out and solved directly in float64."""
    rows, cols = cube.shape[2:]
    components = clean_components(cube, valid)
    weights = step_weights(components[:EDGE_COMPONENTS], valid)
    graph = dense_graph(weights, rows, cols)
    prior = spectral_probabilities(smoothed(components, weights), pixels, targets, classes)
    prior = prior.flatten(1).numpy()
    known = np.zeros((classes, rows * cols))
    known[targets.numpy(), pixels.numpy()] = 1
    free = np.ones(rows * cols, bool)
    free[pixels.numpy()] = False
    system = np.diag(graph.sum(1) + PRIOR) - graph
    right = (graph @ known.T + PRIOR * prior.T)[free]
    found = known.T.copy()
    found[free] = np.linalg.solve(system[np.ix_(free, free)], right)
    return found.T.reshape(classes, rows, cols)


def test_agrees_with_a_direct_solution():
    cube, truth = fields_scene()
    pixels, targets = label(truth, [(2, 2), (9, 10), (15, 20), (0, 0)])
    found = propagate(cube, None, pixels, targets, 3)
    np.testing.assert_allclose(
        found.numpy(), dense_solution(cube, None, pixels, targets, 3), atol=1e-3
    )


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
    weights = step_weights(cube[0], valid)
    for weight, (a, b, c, d) in zip(weights, steps(cube), strict=True):
        assert (weight[~(valid[0, 0, a, b] & valid[0, 0, c, d])] == 0).all()
    found = propagated_labels(cube, valid, pixels, targets, 3)
    assert (found.weights.reshape(truth.shape)[4:6] == 0).all()
    assert (propagate(cube, valid, pixels, targets, 3)[:, 4:6] == 0).all()


def test_pixels_are_told_the_likeliest_class_and_count_by_its_probability():
    cube, truth = fields_scene(noise=1.0)
    pixels, targets = label(truth, [(2, 2), (9, 10), (15, 20)])
    probabilities = propagate(cube, None, pixels, targets, 3).flatten(1)
    found = propagated_labels(cube, None, pixels, targets, 3)
    assert (found.classes == probabilities.argmax(0)).all()
    some = (found.classes == 1) & (found.weights > 0)
    ratios = (found.weights / probabilities.max(0).values)[some]
    assert some.sum() > 50
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)


def test_labelled_pixels_do_not_count_twice_and_weights_sum_to_one():
    cube, truth = fields_scene()
    pixels, targets = label(truth, [(2, 2), (9, 10), (15, 20)])
    found = propagated_labels(cube, None, pixels, targets, 3)
    assert (found.weights[pixels] == 0).all()
    assert found.weights.sum().item() == pytest.approx(1, abs=1e-5)


def test_an_edge_holds_back_what_a_lawn_lets_through():
    cube, truth = fields_scene(noise=0.1)
    weights = step_weights(clean_components(cube, None)[:EDGE_COMPONENTS], None)
    inside, across, *_ = weights[0].split([6, 1, 14], dim=1)
    assert across.median() < inside.median() / 3
    assert truth[0, 6] != truth[0, 7]


def test_noise_is_what_neighbours_differ_by():
    rng = np.random.default_rng(0)
    mixing = rng.normal(0, 1, (5, 5))
    ramp = np.linspace(0, 5, 60)[:, None, None] * rng.normal(0, 1, 5)  # seen, but no noise
    spectra = ramp + rng.normal(0, 1, (60, 70, 5)) @ mixing
    image = torch.from_numpy(spectra.astype(np.float32)).permute(2, 0, 1)
    true = mixing.T @ mixing
    np.testing.assert_allclose(noise_covariance(image, None), true, atol=0.1 * true.max())


def test_components_are_clean_first_and_their_noise_is_one():
    cube, _ = fields_scene(rows=60, cols=22, noise=1.0)
    components = clean_components(cube, None)
    assert (components.square().mean((1, 2)).diff() <= 1e-3).all()
    np.testing.assert_allclose(noise_covariance(components, None), np.eye(8), atol=0.02)


def test_smoothing_agrees_with_a_direct_solution():
    cube, _ = fields_scene(rows=9, cols=22)
    components = clean_components(cube, None)
    weights = step_weights(components, None)
    graph = dense_graph(weights, 9, 22)
    system = np.eye(9 * 22) + SMOOTHING * (np.diag(graph.sum(1)) - graph)
    expected = np.linalg.solve(system, components.flatten(1).t().double().numpy())
    found = smoothed(components, weights).flatten(1).t().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
