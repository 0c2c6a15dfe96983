"""How labelled pixels lie in a scene."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsifcn.propagation.label_coverage import label_coverage, labels_at, nearest_label_agreement


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_coverage_of_parts_is_that_of_their_fields(rows, cols, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.choice([0, 0, 0, 1, 2, 5], (rows, cols)) for _ in range(2)]
    parts[0][0, 0] = 3
    whole = np.concatenate([parts[0], np.zeros((1, cols), int), parts[1]])  # no field in both
    labels = whole[whole > 0]
    pixels = torch.from_numpy(np.flatnonzero(whole))
    targets = torch.from_numpy(whole.flat[pixels.numpy()] - 1)
    areas = sum(
        scipy.ndimage.label(whole == label, np.ones((3, 3)))[1] for label in np.unique(labels)
    )
    wanted = (1 - len(np.unique(labels)) / areas) ** 2
    assert label_coverage(parts) == label_coverage([whole]) == pytest.approx(wanted)
    np.testing.assert_array_equal(labels_at(pixels, targets, whole.shape), whole)


def test_nothing_labelled_covers_nothing():
    assert label_coverage([]) == label_coverage([np.zeros((3, 4), int)]) == 0


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.integers(1, 6))
def test_nearest_labels_agree_as_often_as_counted(rows, cols, seed, spacing):
    rng = np.random.default_rng(seed)
    part = rng.integers(1, 3, (rows, cols)) * (rng.integers(0, spacing, (rows, cols)) == 0)
    places, labels = np.argwhere(part), part[part > 0]
    away = np.square(places[:, None] - places).sum(2).astype(float)
    np.fill_diagonal(away, np.inf)
    alike = labels[:, None] == labels
    nearest = away == away.min(1, keepdims=True, initial=np.inf)
    found = nearest_label_agreement([part, np.zeros((2, 2), int)])
    if len(labels) < 2:
        assert found == 0
    else:  # of equally near ones either may be asked
        assert (nearest <= alike).all(1).mean() <= found <= (nearest & alike).any(1).mean()


def test_agreement_tells_how_far_labels_lie_against_the_width_of_fields():
    truth = np.broadcast_to(1 + np.arange(64) // 8 % 2, (64, 64))  # fields of 8 columns
    drawn = np.random.default_rng(0).random(truth.shape)
    dense, sparse = (np.where(drawn < share, truth, 0) for share in (0.3, 0.005))
    assert nearest_label_agreement([dense]) > 0.8
    assert nearest_label_agreement([sparse]) < 0.65
    assert nearest_label_agreement([truth]) == pytest.approx(1, abs=0.1)
    assert nearest_label_agreement([truth[:1, :1]]) == nearest_label_agreement([]) == 0
