"""Labels propagated over a scene: the graph, the random walker, and what they give together."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsifcn.core.scene import Window
from hsifcn.core.tiles import Tile
from hsifcn.data.standardise import Scaling
from hsifcn.propagation.features import PixelFeatures, shapes, smooth, spectral_edges
from hsifcn.propagation.grid_graph import edge_weights, neighbour_distances, neighbour_slices
from hsifcn.propagation.mnf import band_product_sums, mnf_fit, noise_sums, project
from hsifcn.propagation.pseudo_labels import Propagation, PropagationWindow, fit_projection
from hsifcn.propagation.random_walker import (
    WalkerParams,
    absorption,
    solve_random_walker,
    walker_weights,
    weaken_edges_near_labels,
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


def projection_of(cube):
    """Components of a scene that is one window."""
    place = Window(0, 0, *cube.shape[2:])
    window = PropagationWindow(0, Tile(place, place), np.zeros(cube.shape[2:], np.uint16))
    return fit_projection([window], lambda _: (cube, None))


def label(truth, places):
    pixels = torch.tensor([row * truth.shape[1] + col for row, col in places])
    return pixels, truth.flatten()[pixels]


def whole_scene(cube, valid, pixels, targets, classes):
    """Propagation over one window, which is the whole of a scene; and the window."""
    labels = np.zeros(cube.shape[2:], np.uint16)
    labels.flat[pixels] = targets + 1
    place = Window(0, 0, *labels.shape)
    window = PropagationWindow(0, Tile(place, place), labels)
    return Propagation([window], lambda window: (cube, valid), classes), window


def propagate(cube, valid, pixels, targets, classes):
    """Class probabilities of a whole scene, (classes, rows, cols)."""
    propagation, window = whole_scene(cube, valid, pixels, targets, classes)
    return propagation.core_probabilities(window)


def pseudo_labels(cube, valid, pixels, targets, classes):
    """Classes and weights, (rows, cols), and the mean confidence."""
    (found,) = whole_scene(cube, valid, pixels, targets, classes)[0].pseudo_labels()
    return found.classes, found.weights, found.mean_confidence


def components_of(cube):
    """Minimum noise fractions of a cube."""
    noise, differences = noise_sums(cube[0], None)
    return project(cube, mnf_fit(noise / differences, band_product_sums(cube[0])))


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


@pytest.mark.parametrize("prior_weight", [1e-3, 0.1])
def test_where_a_walk_ends_is_a_row_of_the_inverse(prior_weight):
    """Solved by NumPy in float64: one column a label, and one a pixel's own prior."""
    rows, cols = 9, 11
    rng = np.random.default_rng(0)
    weights, matrix = random_edges(rows, cols, rng)
    pixels = np.sort(rng.permutation(rows * cols)[:7])
    free = np.setdiff1d(np.arange(rows * cols), pixels)
    dense = laplacian(matrix).toarray() + prior_weight * np.eye(rows * cols)
    inverse = np.linalg.inv(dense[np.ix_(free, free)])
    labelled = torch.zeros(rows, cols, dtype=torch.bool)
    labelled.view(-1)[pixels] = True
    for start in free[[0, 30, -1]]:
        row = inverse[np.flatnonzero(free == start)[0]]
        wanted = np.zeros(rows * cols)
        wanted[free] = prior_weight * row
        wanted[pixels] = -row @ dense[np.ix_(free, pixels)]
        ends = absorption(weights, prior_weight, None, labelled, divmod(int(start), cols))
        np.testing.assert_allclose(ends.flatten().numpy(), wanted, atol=1e-6)
        assert float(ends.sum()) == pytest.approx(1, abs=1e-6)
    here = divmod(int(pixels[3]), cols)
    assert absorption(weights, prior_weight, None, labelled, here)[here] == 1


def test_a_pseudo_label_is_traced_to_training_pixels_and_spectra():
    cube, truth = fields_scene()
    pixels, targets = label(truth, [(4, 2), (9, 11), (15, 20)])
    valid = torch.ones(1, 1, *truth.shape, dtype=torch.bool)
    valid[0, 0, 0, 3:6] = False
    propagation, window = whole_scene(cube, valid, pixels, targets, 3)
    probabilities = propagation.core_probabilities(window).numpy()
    for row, col in [(0, 0), (9, 12), (17, 21), (4, 2)]:
        source = propagation.trace(0, row, col)
        np.testing.assert_allclose(source.probabilities(), probabilities[:, row, col], atol=0.011)
        assert source.ends.sum() == pytest.approx(1, abs=1e-6)
        assert (source.ends >= -1e-9).all()
        assert (source.ends[0, 3:6] == 0).all()
    assert source.shares[(source.rows == 4) & (source.cols == 2)] == 1
    assert propagation.trace(1, 0, 0) is None


@pytest.mark.parametrize("strength", [0.0, 1.0, 20.0])
def test_smoothing_agrees_with_a_direct_solution(strength):
    rng = np.random.default_rng(0)
    weights, matrix = random_edges(9, 14, rng)
    image = rng.normal(0, 1, (5, 9, 14))
    system = scipy.sparse.eye_array(9 * 14) + strength * laplacian(matrix)
    expected = scipy.sparse.linalg.spsolve(system.tocsc(), image.reshape(5, -1).T).T
    found = smooth(torch.from_numpy(image).float(), weights, strength)
    error = found.flatten(1).numpy() - expected
    assert np.sqrt(np.mean(error**2)) < 0.05  # of the noise, which is 1
    assert np.abs(error).max() < 0.1


def test_fields_are_filled_from_one_pixel_each():
    cube, truth = fields_scene()
    pixels, targets = label(truth, [(2, 2), (9, 10), (15, 20)])
    found = propagate(cube, None, pixels, targets, 3)
    assert (found.argmax(0) == truth).float().mean() > 0.98


@settings(deadline=None, max_examples=15)
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
    assert (found[absent] < 1e-15).all()


def test_pixels_without_a_measurement_take_no_part():
    cube, truth = fields_scene()
    pixels, targets = label(truth, [(2, 2), (9, 10), (15, 20)])
    valid = torch.ones(1, 1, *truth.shape, dtype=torch.bool)
    valid[..., 4:6, :] = False
    weights = edge_weights(spectral_edges(cube[0]), valid)
    for weight, (a, b, c, d) in zip(weights, neighbour_slices(cube), strict=True):
        assert (weight[~(valid[0, 0, a, b] & valid[0, 0, c, d])] == 0).all()
    _, counts, _ = pseudo_labels(cube, valid, pixels, targets, 3)
    assert (counts[4:6] == 0).all()
    assert np.isfinite(counts).all()
    assert (propagate(cube, valid, pixels, targets, 3)[:, 4:6] == 0).all()


def test_what_lies_where_nothing_is_measured_changes_nothing():
    cube, truth = fields_scene()
    pixels, targets = label(truth, [(2, 2), (9, 10), (15, 20)])
    valid = torch.ones(1, 1, *truth.shape, dtype=torch.bool)
    valid[..., 4:6, :] = False
    rng = np.random.default_rng(0)
    edges, found = spectral_edges(cube[0]), []
    for _ in range(2):
        random = torch.from_numpy(rng.uniform(0, 9, (4, *truth.shape))).float()
        prior = torch.where(valid[0], torch.full((3, *truth.shape), 1 / 3), random[:3])
        others = [random[3, : edge.shape[0], : edge.shape[1]] for edge in edges]
        measured = [valid[0, 0, a, b] & valid[0, 0, c, d] for a, b, c, d in neighbour_slices(cube)]
        mixed = [
            torch.where(both, edge, other)
            for both, edge, other in zip(measured, edges, others, strict=True)
        ]
        weights = edge_weights(mixed, valid)
        found.append(solve_random_walker(weights, prior, 0.1, valid, pixels, targets))
    assert torch.equal(found[0], found[1])
    assert (found[0][:, 4:6] == 0).all()


def test_pixels_get_the_likeliest_class_and_count_by_its_probability():
    cube, truth = fields_scene(noise=1.0)
    pixels, targets = label(truth, [(2, 2), (9, 10), (15, 20)])
    probabilities = propagate(cube, None, pixels, targets, 3).numpy()
    classes, counts, mean_confidence = pseudo_labels(cube, None, pixels, targets, 3)
    np.testing.assert_array_equal(classes, probabilities.argmax(0))
    free = np.ones(truth.shape, bool)
    free.flat[pixels] = False
    assert (counts[~free] == 0).all()
    greatest = probabilities.max(0)
    for one in range(3):  # what a class has in all, to the power of a half: rare ones count more
        own = free & (classes == one)
        wanted = greatest[own] / np.sqrt(greatest[own].sum())
        np.testing.assert_allclose(counts[own], wanted, rtol=1e-4)
    assert mean_confidence == pytest.approx(greatest[free].mean(), rel=1e-5)


def test_weights_are_small_at_the_borders_of_fields():
    cube, truth = fields_scene(noise=0.1)
    edges = spectral_edges(components_of(cube))
    assert torch.cat([edge.flatten() for edge in edges]).mean() == pytest.approx(1, abs=1e-4)
    weights = edge_weights([3 * edge for edge in edges], None)
    inside, across, *_ = weights[0].split([6, 1, 14], dim=1)
    assert across.median() < inside.median() / 3
    assert truth[0, 6] != truth[0, 7]


def test_weights_are_small_where_the_prior_changes_its_class():
    sure = torch.zeros(2, 3, 4)
    sure[0, :, :2] = sure[1, :, 2:] = 1
    no_edges = [torch.zeros_like(edge) for edge in neighbour_distances(sure)]
    nowhere = torch.zeros(0, dtype=torch.int64)
    right, down, *_ = walker_weights(no_edges, sure, None, nowhere, WalkerParams(1.0, 1.0))
    assert (right[:, 1] < right[:, 0] / 10).all()
    assert (right[:, 0] == right[:, 2]).all()
    assert (down == right[0, 0]).all()
    unsure = 0.5 + 0.2 * (sure - 0.5)
    weaker, *_ = walker_weights(no_edges, unsure, None, nowhere, WalkerParams(1.0, 1.0))
    assert (weaker[:, 1] > weaker[:, 0] / 1.5).all()


def test_diagonal_edges_weigh_less_by_their_length():
    flat = [torch.zeros(3, 3), torch.zeros(2, 4), torch.zeros(2, 3), torch.zeros(2, 3)]
    right, down, *diagonals = edge_weights(flat, None)
    assert (right == down[0, 0]).all()
    for diagonal in diagonals:
        np.testing.assert_allclose(diagonal, right[0, 0] / np.sqrt(2), rtol=1e-6)


def test_edges_are_weaker_near_labelled_pixels():
    labelled = torch.zeros(5, 9, dtype=torch.bool)
    labelled[2, 4] = True
    edges = neighbour_distances(torch.rand(3, 5, 9, generator=torch.Generator().manual_seed(0)))
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
    edges = [torch.zeros_like(edge) for edge in neighbour_distances(prior)]
    pixels = torch.tensor([2 * 9 + 3, 2 * 9 + 5])
    targets = torch.zeros(2, dtype=torch.int64)
    found = []
    for scale in (1.0, 0.2):
        params = WalkerParams(1.0, scale)
        weights = walker_weights(edges, prior, None, pixels, params)
        solution = solve_random_walker(weights, prior, 0.5, None, pixels, targets)
        found.append(int(solution[:, 2, 4].argmax()))
    assert found == [1, 0]


def grown(fields, size=3, period=8):
    """Labels of upright fields of two classes, some pixels of each."""
    labels = np.zeros((size + 4, fields * period), np.uint16)
    for number in range(fields):
        labels[:size, number * period : number * period + size] = 1 + number % 2
    return labels


def test_borders_are_weaker_where_more_fields_are_labelled():
    one_each, some, many = (WalkerParams.choose([grown(n)]) for n in (2, 8, 400))
    assert one_each.beta > some.beta > many.beta > 0
    assert 1 == one_each.label_edge_scale > some.label_edge_scale > many.label_edge_scale > 0


def test_borders_stay_where_fields_are_narrower_than_labels_lie_apart():
    wide, narrow = (WalkerParams.choose([grown(400, size)]) for size in (3, 1))
    assert narrow.label_edge_scale == 1
    assert wide.label_edge_scale < 0.5
    assert wide.beta == narrow.beta


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
    components = components_of(cube)
    assert (components.square().mean((1, 2)).diff() <= 1e-3).all()
    np.testing.assert_allclose(noise_covariance(components), np.eye(8), atol=0.02)


def test_principal_components_are_those_of_the_bands():
    """From minimum noise fractions back to what a singular value decomposition gives."""
    cube, _ = fields_scene(bands=7, noise=1.0)
    projection = projection_of(cube)
    features = PixelFeatures.of(cube, None, projection)
    found = features.pixels("principal", 0.0, slice(None)).numpy()
    left, scale, _ = np.linalg.svd(cube[0].flatten(1).t().numpy(), full_matrices=False)
    wanted = left * scale
    signs = np.sign((found * wanted).sum(0))
    np.testing.assert_allclose(found, wanted * signs, atol=0.01 * np.abs(wanted).max())


def test_shapes_do_not_see_brightness():
    """What is standardised by the same scaling has the same shape, however bright it was."""
    rng = np.random.default_rng(0)
    counts = rng.uniform(900, 3000, (7, 20, 30))
    brightness = rng.uniform(0.5, 2, (1, 20, 30))
    scaling = Scaling(counts.mean((1, 2)), counts.std((1, 2)))

    def standardised(cube):
        scaled = (cube - scaling.mean[:, None, None]) / scaling.std[:, None, None]
        return torch.from_numpy(scaled.astype(np.float32))[None]

    plain = shapes(standardised(counts), scaling).numpy()
    lit = shapes(standardised(brightness * counts), scaling).numpy()
    np.testing.assert_allclose(lit, plain, atol=1e-6)
    wanted = counts / np.linalg.norm(counts, axis=0)
    common = scaling.mean / np.linalg.norm(scaling.mean)
    np.testing.assert_allclose(plain[0], wanted - common[:, None, None], atol=1e-6)


def test_components_of_shapes_are_those_of_their_correlations():
    cube, _ = fields_scene(bands=7, noise=1.0)
    found = PixelFeatures.of(cube, None, projection_of(cube)).pixels("shape", 0.0, slice(None))
    spectra = cube[0].flatten(1).t().double().numpy()
    unit = spectra / np.linalg.norm(spectra, axis=1, keepdims=True)
    scaled = (unit - unit.mean(0)) / unit.std(0)
    left, scale, _ = np.linalg.svd(scaled, full_matrices=False)
    wanted, centred = left * scale, found.numpy() - found.numpy().mean(0)
    signs = np.sign((centred * wanted).sum(0))
    np.testing.assert_allclose(centred, wanted * signs, atol=0.01 * np.abs(wanted).max())


def test_smoothing_removes_noise_within_fields_and_keeps_borders():
    cube, truth = fields_scene(rows=40, noise=1.0)
    projection = projection_of(cube)
    features = PixelFeatures.of(cube, None, projection)
    spreads, gaps = [], []
    for _, strength in sorted(place for place in features.smoothed if place[0] == "noise"):
        first = features.smoothed["noise", strength][0].numpy()
        means = np.array([first[truth == field].mean() for field in range(3)])
        spreads.append(np.mean([first[truth == field].std() for field in range(3)]))
        gaps.append(np.ptp(means))
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] < 0.6 * spreads[0]
    assert gaps[-1] > 0.8 * gaps[0]


def test_pixels_are_those_at_flat_indices():
    cube, _ = fields_scene()
    features = PixelFeatures.of(cube, None, projection_of(cube))
    some = torch.tensor([3, 100, 395])
    for space in ("noise", "principal", "shape"):
        whole = features.pixels(space, 0.0, slice(None))
        torch.testing.assert_close(features.pixels(space, 0.0, some), whole[some])
