"""A classifier that sees spectra, and not where they lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsifcn.propagation.spectral_prior import (
    LabelledSpectra,
    LinearDiscriminant,
    NystroemKernel,
    PixelFeatures,
    error_on_unseen_fields,
    labelled_spectra,
)


def spectra_of(targets, centres, fields=None, spread=1.0, seed=0):
    """Pixels round the centres of their classes; each a field of its own unless said."""
    rng = np.random.default_rng(seed)
    targets = np.asarray(targets)
    smooth = np.asarray(centres, float)[targets] + rng.normal(0, spread, (len(targets), 4))
    fields = np.arange(len(targets)) if fields is None else np.asarray(fields)
    return LabelledSpectra(smooth, rng.normal(0, 1, (len(targets), 2)), targets, fields)


def rings(count, seed=0):
    """Two classes round the same centre, one inside the other: no plane parts them."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 2
    smooth = rng.normal(0, 1, (count, 4))
    smooth *= ((1 + 2 * targets) / np.linalg.norm(smooth, axis=1))[:, None]
    return LabelledSpectra(smooth, rng.normal(0, 1, (count, 2)), targets, np.arange(count))


def predicted(classifier, known):
    scores = classifier.scores(torch.from_numpy(known.smooth), torch.from_numpy(known.variance))
    return scores.argmax(1).numpy()


def test_a_weight_of_two_is_a_pixel_seen_twice():
    rng = np.random.default_rng(3)
    seen, targets = rng.normal(0, 1, (12, 4)), np.repeat([0, 1, 3], 4)
    times = np.tile([1, 2], 6)  # of each class one half counts twice
    weighted = LinearDiscriminant.fit(seen, targets, times.astype(float), 4)
    twice = LinearDiscriminant.fit(
        seen.repeat(times, 0), targets.repeat(times), np.ones(times.sum()), 4
    )
    np.testing.assert_allclose(weighted.directions, twice.directions, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(weighted.offsets, twice.offsets, rtol=1e-9)
    assert weighted.offsets[2] == -np.inf
    assert torch.isneginf(weighted.log_probabilities(torch.from_numpy(seen))[:, 2]).all()


def test_a_field_of_four_pixels_counts_twice_as_much_as_one_pixel():
    image = torch.from_numpy(np.random.default_rng(5).normal(0, 1, (3, 6, 6)).astype(np.float32))
    rows, cols = [0, 0, 1, 1, 5, 3, 4], [0, 1, 0, 1, 0, 3, 5]  # a square, a corner; two of another
    pixels, targets = torch.tensor(rows) * 6 + torch.tensor(cols), torch.tensor([0] * 5 + [1] * 2)
    known = labelled_spectra(PixelFeatures(image, image[:1]), pixels, targets)
    np.testing.assert_array_equal(known.weights(), [0.5, 0.5, 0.5, 0.5, 1, 1, 1])
    np.testing.assert_array_equal(known.targets, targets)
    np.testing.assert_array_equal(known.smooth, image[:, rows, cols].t())
    np.testing.assert_array_equal(known.variance[:, 0], image[0, rows, cols])
    learnt = known.fit_classifier(2).linear_discriminant
    weighted = LinearDiscriminant.fit(known.smooth, known.targets, known.weights(), 2)
    np.testing.assert_array_equal(learnt.directions, weighted.directions)
    np.testing.assert_array_equal(learnt.offsets, weighted.offsets)
    alike = LinearDiscriminant.fit(known.smooth, known.targets, np.ones(7), 2)
    assert not np.allclose(learnt.directions, alike.directions)


def test_classes_that_no_plane_parts_are_told_where_many_fields_are_known():
    known, others = rings(200), rings(200, seed=1)
    classifier = known.fit_classifier(2)
    assert (predicted(classifier, others) == others.targets).mean() > 0.95
    linear = replace(classifier, kernel_weight=0.0)
    assert (predicted(linear, others) == others.targets).mean() < 0.7


def test_the_kernel_has_no_weight_where_single_fields_are_known():
    one_each = replace(rings(200), fields=np.arange(200) % 2)
    assert one_each.coverage() == 0
    classifier = one_each.fit_classifier(2)
    np.testing.assert_array_equal(
        predicted(classifier, one_each),
        classifier.linear_discriminant.log_probabilities(torch.from_numpy(one_each.smooth)).argmax(
            1
        ),
    )


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_coverage_grows_with_the_fields_of_a_class(counts):
    targets = np.repeat(np.arange(len(counts)), counts)
    fewer = spectra_of(targets, np.zeros((len(counts), 4)))
    more = spectra_of(np.tile(targets, 2), np.zeros((len(counts), 4)))
    assert 0 <= fewer.coverage() < more.coverage() < 1


def test_local_variance_tells_classes_of_like_spectra():
    known = spectra_of(np.arange(60) % 2, np.zeros((2, 4)))
    known = replace(known, variance=known.variance + 8 * known.targets[:, None])
    assert (predicted(known.fit_classifier(2), known) == known.targets).mean() > 0.95


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 4), st.integers(0, 99), st.data())
def test_probabilities_of_anything_known(count, components, classes, seed, data):
    rng = np.random.default_rng(seed)
    rows, cols = data.draw(st.sampled_from([(1, 1), (5, 7), (33, 40)]))
    smooth = torch.from_numpy(rng.normal(0, 1, (components, rows, cols)).astype(np.float32))
    seen = PixelFeatures(smooth, smooth[:3].square())
    pixels = torch.from_numpy(rng.integers(0, rows * cols, count)).unique()
    targets = torch.from_numpy(rng.integers(0, classes, len(pixels)))
    found = labelled_spectra(seen, pixels, targets).fit_classifier(classes + 1).probabilities(seen)
    assert found.shape == (classes + 1, rows, cols)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    absent = sorted(set(range(classes + 1)) - set(targets.tolist()))
    assert (found[absent] == 0).all()


def test_probabilities_are_those_of_single_pixels():
    known = rings(80)
    pixels = rings(2051, seed=1)
    smooth, variance = (torch.from_numpy(x).float() for x in (pixels.smooth, pixels.variance))
    classifier = known.fit_classifier(2)
    found = classifier.probabilities(
        PixelFeatures(smooth.t()[:, :, None], variance.t()[:, :, None])
    )
    np.testing.assert_allclose(
        found[:, :, 0].t(), classifier.scores(smooth, variance).softmax(1), atol=1e-5
    )


def test_products_of_kernel_features_are_kernel_values():
    known = rings(50).smooth
    kernel = NystroemKernel.fit(known, known)
    features = kernel.transform(torch.from_numpy(known)).numpy()
    units = (known - known.mean(0)) / known.std(0)
    squares = ((units[:, None] - units) ** 2).sum(2)
    np.testing.assert_allclose(features @ features.T, np.exp(-squares / 8), atol=0.02)
    assert squares.mean() == pytest.approx(8)  # as far as they are on average: 1 / e


def test_a_sample_holds_every_class():
    targets = np.zeros(2000, int)
    targets[-2:] = 1, 2
    known = spectra_of(targets, np.zeros((3, 4)))
    few = known.sample(400)
    assert len(few.targets) == 400
    assert set(few.targets) == {0, 1, 2}
    assert len(np.unique(few.fields)) == 400  # no pixel twice
    np.testing.assert_array_equal(few.smooth, known.sample(400).smooth)
    np.testing.assert_array_equal(known.sample(len(targets)).targets, targets)


def test_errors_on_unseen_fields_of_known_classes():
    far = np.array([np.zeros(4), np.full(4, 20.0)])
    assert error_on_unseen_fields(spectra_of(np.arange(100) % 2, far)) == 0
    one_field_each = spectra_of(np.arange(60) % 2, far, fields=np.arange(60) % 2)
    assert error_on_unseen_fields(one_field_each) is None
    swapped = np.arange(100) % 2
    known = spectra_of(swapped, far)
    swapped = swapped.copy()
    swapped[:10] = 1 - swapped[:10]  # what they look like is the other class
    assert error_on_unseen_fields(replace(known, targets=swapped)) == pytest.approx(0.1)
