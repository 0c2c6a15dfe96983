"""Labels carried over a scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsifcn.propagation import (
    CLASS_EDGE,
    EDGE_COMPONENTS,
    LEAK,
    MOST_HASTE,
    PRIOR,
    SMOOTHING,
    KnownSpectra,
    class_edges,
    clean_components,
    discriminant,
    haste_of,
    known_spectra,
    noise_sums,
    propagate,
    propagated_labels,
    smoothed,
    spectral_edges,
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


def noise_covariance(image):
    noise, steps_taken = noise_sums(image, None)
    return noise / steps_taken


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
    edges = spectral_edges(components[:EDGE_COMPONENTS])
    smooth = smoothed(components, step_weights(edges, valid))
    prior = spectral_probabilities(smooth, pixels, targets, classes)
    edges = [a + b for a, b in zip(edges, class_edges(prior), strict=True)]
    graph = dense_graph(step_weights(edges, valid), rows, cols)
    chance = PRIOR * haste_of(known_spectra(smooth, pixels, targets))
    prior = prior.flatten(1).numpy()
    known = np.zeros((classes, rows * cols))
    known[targets.numpy(), pixels.numpy()] = 1
    free = np.ones(rows * cols, bool)
    free[pixels.numpy()] = False
    system = np.diag(graph.sum(1) + chance) - graph
    right = (graph @ known.T + chance * prior.T)[free]
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
    weights = step_weights(spectral_edges(cube[0]), valid)
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
    weights = step_weights(spectral_edges(clean_components(cube, None)[:EDGE_COMPONENTS]), None)
    inside, across, *_ = weights[0].split([6, 1, 14], dim=1)
    assert across.median() < inside.median() / 3
    assert truth[0, 6] != truth[0, 7]


def test_few_walks_pass_where_the_classifier_changes_its_mind():
    sure = torch.zeros(2, 3, 4)
    sure[0, :, :2] = sure[1, :, 2:] = 1
    edges = class_edges(sure)
    right, down, *_ = edges
    assert (right == torch.tensor([0, CLASS_EDGE, 0])).all()
    assert (down == 0).all()
    weights = step_weights(edges, None)
    np.testing.assert_allclose(weights[0][:, 1], np.exp(-CLASS_EDGE) + LEAK, rtol=1e-5)
    unsure = 0.5 + 0.2 * (sure - 0.5)
    np.testing.assert_allclose(class_edges(unsure)[0].max(), 0.2**2 * CLASS_EDGE, rtol=1e-5)


def test_a_weight_of_two_is_a_pixel_seen_twice():
    rng = np.random.default_rng(3)
    seen, targets = rng.normal(0, 1, (12, 4)), np.repeat([0, 1, 3], 4)
    times = np.tile([1, 2], 6)
    weighted = discriminant(seen, targets, times, 4)
    twice = discriminant(seen.repeat(times, 0), targets.repeat(times), np.ones(times.sum()), 4)
    for found, expected in zip(weighted, twice, strict=True):  # of each class one half counts twice
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert weighted[1][2] == -np.inf


def test_a_field_of_four_pixels_counts_twice_as_much_as_one_pixel():
    rng = np.random.default_rng(5)
    image = torch.from_numpy(rng.normal(0, 1, (3, 6, 6)).astype(np.float32))
    rows, cols = [0, 0, 1, 1, 5, 3, 4], [0, 1, 0, 1, 0, 3, 5]  # a square, a corner; two of another
    pixels, targets = torch.tensor(rows) * 6 + torch.tensor(cols), torch.tensor([0] * 5 + [1] * 2)
    seen = image.flatten(1).t()[pixels].double().numpy()
    directions, offsets = discriminant(
        seen, targets.numpy(), np.array([0.5, 0.5, 0.5, 0.5, 1, 1, 1]), 2
    )
    scores = torch.from_numpy(image.flatten(1).t().double().numpy() @ directions + offsets)
    found = spectral_probabilities(image, pixels, targets, 2).flatten(1).t()
    np.testing.assert_allclose(found, scores.softmax(1), atol=1e-5)


def spectra_of(errors, fields=100, size=4):
    """Two classes of fields far apart, but for some fields that look like the other class."""
    rng = np.random.default_rng(0)
    targets = np.arange(fields) % 2
    looks = targets.copy()
    looks[:errors] = 1 - looks[:errors]
    features = np.repeat(looks * 20.0, size)[:, None] + rng.normal(0, 1, (fields * size, 3))
    return KnownSpectra(features, np.repeat(targets, size), np.repeat(np.arange(fields), size))


def test_walks_end_sooner_where_the_classifier_never_errs():
    assert haste_of(spectra_of(0)) == MOST_HASTE
    assert haste_of(spectra_of(1)) == pytest.approx(2)  # 1 % of errors
    assert haste_of(spectra_of(2)) == pytest.approx(1)
    assert haste_of(spectra_of(20)) == 1


def test_haste_asks_for_fields_unseen_and_classes_known():
    one_field_each = spectra_of(0, fields=2, size=30)
    assert haste_of(one_field_each) == 1  # nothing can be asked
    pixels = spectra_of(30, fields=100, size=1)
    fields = replace(pixels, fields=np.arange(100) // 2)
    assert haste_of(fields) == haste_of(pixels) == 1


def test_noise_is_what_neighbours_differ_by():
    rng = np.random.default_rng(0)
    mixing = rng.normal(0, 1, (5, 5))
    ramp = np.linspace(0, 5, 60)[:, None, None] * rng.normal(0, 1, 5)  # seen, but no noise
    spectra = ramp + rng.normal(0, 1, (60, 70, 5)) @ mixing
    image = torch.from_numpy(spectra.astype(np.float32)).permute(2, 0, 1)
    true = mixing.T @ mixing
    np.testing.assert_allclose(noise_covariance(image), true, atol=0.1 * true.max())


def test_components_are_clean_first_and_their_noise_is_one():
    cube, _ = fields_scene(rows=60, cols=22, noise=1.0)
    components = clean_components(cube, None)
    assert (components.square().mean((1, 2)).diff() <= 1e-3).all()
    np.testing.assert_allclose(noise_covariance(components), np.eye(8), atol=0.02)


def test_smoothing_agrees_with_a_direct_solution():
    cube, _ = fields_scene(rows=9, cols=22)
    components = clean_components(cube, None)
    weights = step_weights(spectral_edges(components), None)
    graph = dense_graph(weights, 9, 22)
    system = np.eye(9 * 22) + SMOOTHING * (np.diag(graph.sum(1)) - graph)
    expected = np.linalg.solve(system, components.flatten(1).t().double().numpy())
    found = smoothed(components, weights).flatten(1).t().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
