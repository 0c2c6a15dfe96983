"""Classifiers of single pixels by their spectra, against scikit-learn and against refitting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_ridge import KernelRidge as SklearnKernelRidge
from sklearn.metrics.pairwise import rbf_kernel

from hsifcn.propagation.classifiers import (
    KernelRidge,
    KernelSettings,
    LinearDiscriminant,
    left_out_residuals,
    tune_kernel,
)


def pixels(count=60, classes=3, features=5, seed=0):
    """Features of pixels round the centres of their classes, and these classes."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.arange(count) % classes)
    return rng.normal(0, 2, (classes, features))[targets] + rng.normal(
        0, 1, (count, features)
    ), targets


def rings(count, seed=0):
    """Two classes round the same centre, one inside the other: no plane parts them."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 2
    features = rng.normal(0, 1, (count, 4))
    features *= ((1 + 2 * targets) / np.linalg.norm(features, axis=1))[:, None]
    return features, targets


@pytest.mark.parametrize("shrinkage", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_discriminants_are_those_of_scikit_learn(classes, shrinkage):
    features, targets = pixels(37, classes)
    others = pixels(50, classes, seed=1)[0]
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    wanted = reference.fit(features, targets).predict_log_proba(others)
    ours = LinearDiscriminant.fit(features, targets, np.ones(37), classes, shrinkage)
    found = ours.log_probabilities(torch.from_numpy(others)).numpy()
    np.testing.assert_allclose(found, np.maximum(wanted, found.min()), rtol=1e-6, atol=1e-6)


def test_a_weight_of_two_is_a_pixel_seen_twice():
    features, targets = pixels(24)
    times = np.empty(24, int)
    for label in range(3):  # half of each class counts twice, so that classes stay as frequent
        times[targets == label] = np.tile([1, 2], 4)
    others = torch.from_numpy(pixels(50, seed=1)[0])
    found, wanted = (
        LinearDiscriminant.fit(*fitted, 3, 0.2).log_probabilities(others)
        for fitted in (
            (features, targets, times.astype(float)),
            (features.repeat(times, 0), targets.repeat(times), np.ones(times.sum())),
        )
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
    alike = LinearDiscriminant.fit(features, targets, np.ones(24), 3, 0.2)
    assert not np.allclose(found, alike.log_probabilities(others), atol=1e-3)


@pytest.mark.parametrize("values", [(0.5, 0.01, 4.0), (3.0, 1.0, 1.0)])
def test_kernel_scores_are_those_of_scikit_learn(values):
    chosen = KernelSettings(*values)
    features, targets = pixels()
    others = pixels(70, seed=1)[0]
    squares = ((features[:, None] - features) ** 2).sum(2)
    gamma = 1 / (chosen.width * np.median(squares[~np.eye(60, dtype=bool)]))
    membership = np.eye(3)[targets]
    shares = membership.mean(0)
    reference = SklearnKernelRidge(alpha=chosen.ridge, kernel="rbf", gamma=gamma)
    scores = reference.fit(features, membership - shares).predict(others) + shares
    ours = KernelRidge.fit(features, targets, 3, chosen)
    found = ours.log_probabilities(torch.from_numpy(others)).numpy()
    np.testing.assert_allclose(found, log_softmax(chosen.sharpness * scores, axis=1), atol=1e-6)
    single = ours.log_probabilities(torch.from_numpy(others).float())
    np.testing.assert_allclose(single, found, atol=1e-3)


def test_pixels_scored_in_parts_are_those_scored_together():
    ours = KernelRidge.fit(*pixels(), 3, KernelSettings(1.0, 0.1, 4.0))
    many = torch.from_numpy(pixels(5000, seed=1)[0])
    whole = ours.log_probabilities(many)
    assert len(whole) == 5000
    for first in (0, 2040, 4990):
        part = ours.log_probabilities(many[first : first + 10])
        np.testing.assert_allclose(whole[first : first + 10], part, atol=1e-9)


@settings(max_examples=30)
@given(st.integers(2, 20), st.integers(2, 6), st.integers(0, 99))
def test_residuals_of_groups_are_those_of_refitting_without_them(count, n_groups, seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, n_groups, count)
    groups[0], groups[-1] = 0, 1  # two groups at least
    points, values = rng.normal(0, 1, (count, 3)), rng.normal(0, 1, (count, 2))
    kernel = rbf_kernel(points, gamma=0.3)
    found = left_out_residuals(np.linalg.inv(kernel + 0.05 * np.eye(count)), values, groups)
    for group in np.unique(groups):
        held = groups == group
        reference = SklearnKernelRidge(alpha=0.05, kernel="rbf", gamma=0.3)
        predicted = reference.fit(points[~held], values[~held]).predict(points[held])
        np.testing.assert_allclose(found[held], values[held] - predicted, atol=1e-6)


def test_predictions_of_the_chosen_kernel_are_made_without_the_own_group():
    features, targets = pixels(48, seed=2)
    groups = np.arange(48) // 3
    chosen, found = tune_kernel(features, targets, np.ones(48), groups, 3)
    squares = ((features[:, None] - features) ** 2).sum(2)
    gamma = 1 / (chosen.width * np.median(squares[~np.eye(48, dtype=bool)]))
    membership = np.eye(3)[targets]
    shares = membership.mean(0)
    for group in np.unique(groups):
        held = groups == group
        reference = SklearnKernelRidge(alpha=chosen.ridge, kernel="rbf", gamma=gamma)
        reference.fit(features[~held], (membership - shares)[~held])
        scores = reference.predict(features[held]) + shares
        wanted = log_softmax(chosen.sharpness * scores, axis=1)
        np.testing.assert_allclose(found[held], wanted, atol=1e-6)


def test_kernels_part_classes_that_no_plane_parts():
    features, targets = rings(200)
    others, wanted = rings(200, seed=1)
    chosen, left_out = tune_kernel(features, targets, np.ones(200), np.arange(200), 2)
    assert (left_out.argmax(1) == targets).mean() > 0.95
    kernel = KernelRidge.fit(features, targets, 2, chosen)
    plane = LinearDiscriminant.fit(features, targets, np.ones(200), 2, 0.05)
    right = [
        (fitted.log_probabilities(torch.from_numpy(others)).argmax(1).numpy() == wanted).mean()
        for fitted in (kernel, plane)
    ]
    assert right[0] > 0.95
    assert right[1] < 0.7


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 99))
def test_a_class_without_a_pixel_is_never_likely(count, features, seed):
    rng = np.random.default_rng(seed)
    spectra, targets = rng.normal(0, 1, (count, features)), 2 * rng.integers(0, 2, count)
    absent = sorted({0, 1, 2, 3} - set(targets.tolist()))
    others = torch.from_numpy(rng.normal(0, 9, (20, features)))
    for fitted in (
        LinearDiscriminant.fit(spectra, targets, np.ones(count), 4, 0.2),
        KernelRidge.fit(spectra, targets, 4, KernelSettings(1.0, 0.1, 4.0)),
    ):
        found = fitted.log_probabilities(others).exp()
        assert torch.isfinite(found).all()
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-9)
        assert found[:, absent].max() < 1e-18
