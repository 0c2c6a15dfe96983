"""Labels carried over a scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsifcn.propagation.grid_graph import steps
from hsifcn.propagation.label_coverage import agreement, coverage, labels_at
from hsifcn.propagation.mnf import clean_components, noise_sums
from hsifcn.propagation.random_walker import (
    CLASS_EDGE,
    EDGE_COMPONENTS,
    LABEL_EDGE,
    LEAK,
    MOST_HASTE,
    NARROW_HASTE,
    PRIOR,
    SCATTER_ITERATIONS,
    SCATTER_SMOOTHING,
    SMOOTHING,
    SMOOTHING_EDGE,
    SMOOTHING_ITERATIONS,
    WALK_EDGE,
    Pace,
    class_edges,
    haste_of,
    lower_near,
    pace_of,
    propagate,
    propagated_labels,
    seen_in,
    smoothed,
    spectral_edges,
    steeper,
    step_weights,
    walks,
)
from hsifcn.propagation.spectral_prior import KnownSpectra, known_spectra


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
    labels = labels_at(pixels, targets, (rows, cols))
    covered = coverage([labels])
    edges, seen = seen_in(clean_components(cube, valid), valid, covered)
    known_pixels = known_spectra(seen, pixels, targets)
    prior = known_pixels.learn(classes).probabilities(seen)
    pace = pace_of(known_pixels, agreement([labels]))
    edges = [pace.edge * a + b for a, b in zip(edges, class_edges(prior), strict=True)]
    places = np.stack(np.unravel_index(pixels.numpy(), (rows, cols)), 1)
    squares = ((np.indices((rows, cols))[:, None] - places.T[..., None, None]) ** 2).sum(0).min(0)
    heights = torch.from_numpy(1 - (1 - pace.label_edge) * np.exp(-squares)).float()
    edges = [
        edge * torch.minimum(heights[a, b], heights[c, d])
        for edge, (a, b, c, d) in zip(edges, steps(heights), strict=True)
    ]
    graph = dense_graph(step_weights(edges, valid), rows, cols)
    prior = prior.flatten(1).numpy()
    known = np.zeros((classes, rows * cols))
    known[targets.numpy(), pixels.numpy()] = 1
    free = np.ones(rows * cols, bool)
    free[pixels.numpy()] = False
    system = np.diag(graph.sum(1) + pace.chance) - graph
    right = (graph @ known.T + pace.chance * prior.T)[free]
    found = known.T.copy()
    found[free] = np.linalg.solve(system[np.ix_(free, free)], right)
    return found.T.reshape(classes, rows, cols)


@pytest.mark.parametrize("beside", [[], [(2, 0), (9, 12), (0, 16), (16, 10)]])
def test_agrees_with_a_direct_solution(beside):
    cube, truth = fields_scene()
    pixels, targets = label(truth, [(2, 2), (9, 10), (15, 20), (0, 0), *beside])
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
    edges = spectral_edges(clean_components(cube, None)[:EDGE_COMPONENTS])
    assert torch.cat([edge.flatten() for edge in edges]).mean() == pytest.approx(1, abs=1e-4)
    weights = step_weights(steeper(edges, min(WALK_EDGE)), None)
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


def test_edges_are_lower_near_labelled_pixels():
    labelled = torch.zeros(5, 9, dtype=torch.bool)
    labelled[2, 4] = True
    edges = class_edges(torch.rand(3, 5, 9, generator=torch.Generator().manual_seed(0)))
    lower = lower_near(labelled, edges, 0.2)
    assert [edge.shape for edge in lower] == [edge.shape for edge in edges]
    right, down = (near / edge for near, edge in zip(lower[:2], edges[:2], strict=True))
    np.testing.assert_allclose(right[2, 3:5], 0.2, rtol=1e-5)  # the steps to it and from it
    np.testing.assert_allclose(down[1:3, 4], 0.2, rtol=1e-5)
    one_away = 1 - 0.8 * np.exp(-1)
    np.testing.assert_allclose(right[[1, 3, 2, 2], [4, 4, 2, 5]], one_away, rtol=1e-5)
    np.testing.assert_allclose(right[:, [0, 7]], 1, atol=1e-3)
    same = lower_near(labelled, edges, 1.0)
    assert all((a == b).all() for a, b in zip(same, edges, strict=True))


def test_a_labelled_neighbour_outweighs_what_the_pixel_looks_like():
    """A pixel beside labelled ones of a field that looks like another, as mixed pixels do."""
    prior = torch.full((2, 5, 9), 0.05)
    prior[0] = 0.95
    prior[:, 2, 4] = torch.tensor([0.05, 0.95])
    edges = [torch.zeros_like(edge) for edge in class_edges(prior)]
    pixels = torch.tensor([2 * 9 + 3, 2 * 9 + 5])
    targets = torch.zeros(2, dtype=torch.int64)
    high, low = (
        walks(edges, prior, None, pixels, targets, Pace(1.0, 0.5, label_edge))[:, 2, 4]
        for label_edge in (1.0, 0.2)
    )
    assert high.argmax() == 1
    assert low.argmax() == 0


def spectra_of(errors, fields=100, size=4):
    """Two classes of fields far apart, but for some fields that look like the other class."""
    rng = np.random.default_rng(0)
    targets = np.arange(fields) % 2
    looks = targets.copy()
    looks[:errors] = 1 - looks[:errors]
    smooth = np.repeat(looks * 20.0, size)[:, None] + rng.normal(0, 1, (fields * size, 3))
    scatter = rng.normal(0, 0.01, (fields * size, 1))
    return KnownSpectra(
        smooth, scatter, np.repeat(targets, size), np.repeat(np.arange(fields), size)
    )


def test_walks_end_sooner_where_the_classifier_never_errs():
    assert haste_of(spectra_of(0)) == MOST_HASTE
    assert haste_of(spectra_of(1)) == pytest.approx(2)  # 1 % of errors
    assert haste_of(spectra_of(2)) == pytest.approx(1)
    assert haste_of(spectra_of(20)) == 1


def test_walks_do_not_end_sooner_where_nothing_can_be_asked():
    assert haste_of(spectra_of(0, fields=2, size=30)) == 1


def test_errors_of_fields_hasten_walks_no_more_than_those_of_pixels():
    pixels = spectra_of(30, fields=100, size=1)
    fields = replace(pixels, fields=np.arange(100) // 2)
    assert haste_of(fields) == haste_of(pixels) == 1


def test_walks_cross_more_where_labels_cover_more_fields():
    one_each, some, many = (pace_of(spectra_of(n // 4, fields=n), 1.0) for n in (2, 8, 400))
    assert one_each.edge == WALK_EDGE[0]
    assert one_each.edge > some.edge > many.edge > WALK_EDGE[1]
    assert one_each.label_edge == LABEL_EDGE[0]
    assert one_each.label_edge > some.label_edge > many.label_edge > LABEL_EDGE[1]
    assert one_each.chance == some.chance == many.chance == PRIOR


def test_walks_end_sooner_and_edges_stay_where_fields_are_narrower_than_labels_lie_apart():
    known = spectra_of(100, fields=400)
    wide, less, narrow, narrower = (pace_of(known, share) for share in (1, 0.8, 0.5, 0))
    assert wide.chance == PRIOR < less.chance < narrow.chance < NARROW_HASTE * PRIOR
    assert wide.label_edge < less.label_edge < narrow.label_edge == 1
    assert narrow == narrower
    assert pace_of(spectra_of(0, fields=2), 0).chance == PRIOR  # one field each: nothing is known


def test_fewer_pixels_are_smoothed_together_where_labels_cover_few_fields():
    cube, _ = fields_scene(rows=40, noise=1.0)
    components = clean_components(cube, None)
    few, many = (seen_in(components, None, covered)[1].smooth for covered in (0.0, 1.0))
    assert many.diff(dim=1).square().mean() < few.diff(dim=1).square().mean()  # down a field


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


@pytest.mark.parametrize("steepness", SMOOTHING_EDGE)
@pytest.mark.parametrize(
    ("pull", "iterations"),
    [(SMOOTHING, SMOOTHING_ITERATIONS), (SCATTER_SMOOTHING, SCATTER_ITERATIONS)],
)
def test_smoothing_agrees_with_a_direct_solution(pull, iterations, steepness):
    cube, _ = fields_scene(rows=9, cols=22)
    components = clean_components(cube, None)
    weights = step_weights(steeper(spectral_edges(components), steepness), None)
    graph = dense_graph(weights, 9, 22)
    system = np.eye(9 * 22) + pull * (np.diag(graph.sum(1)) - graph)
    expected = np.linalg.solve(system, components.flatten(1).t().double().numpy())
    found = smoothed(components, weights, pull, iterations).flatten(1).t().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("covered", [0.05, 0.5, 1.0])  # at 0 no scatter is asked for
def test_scatter_tells_rough_fields_from_smooth_ones(covered):
    rng = np.random.default_rng(2)
    rough = np.broadcast_to(np.where(np.arange(40) < 20, 1.0, 4.0), (30, 40))
    components = torch.from_numpy(rough * rng.normal(0, 1, (3, 30, 40))).float()
    components[0] += torch.from_numpy(np.where(rough > 1, 40.0, 0.0)).float()  # an edge
    valid = torch.ones(1, 1, 30, 40, dtype=torch.bool)
    valid[..., :3, :] = False
    _, seen = seen_in(components, valid, covered)
    assert torch.isfinite(seen.scatter).all()
    left, right = seen.scatter[:, 3:, :20], seen.scatter[:, 3:, 20:]
    assert (right.amin((1, 2)) > left.amax((1, 2))).all()
