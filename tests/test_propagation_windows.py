"""Labels propagated window by window: as over whole scenes, and only where windows fit."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import field_cube, field_labels

from hsifcn.core.scene import Window
from hsifcn.core.tiles import plan_tiles
from hsifcn.data.splits import make_split
from hsifcn.propagation import random_walker
from hsifcn.propagation import windows as propagation_windows
from hsifcn.propagation.random_walker import make_pseudo_labels, propagate
from hsifcn.propagation.windows import (
    PropagationWindow,
    WindowPseudoLabels,
    fit_shared_mnf,
    propagate_over_windows,
    pseudo_labels_in,
    shared_labelled_spectra,
)


def standardised(rows, cols, seed=0):
    """A scene of fields of three classes: spectra as networks get them, and labels."""
    labels = field_labels(rows, cols, field=15, seed=seed)
    spectra = field_cube(labels, seed=seed, noise=0.3).astype(np.float32)
    spectra = (spectra - spectra.mean((0, 1))) / spectra.std((0, 1))
    return spectra, labels


def windows_of(spectra, training, side, halo=16):
    """Windows over a scene whose cores hold training pixels, and how they are read."""
    tiles = plan_tiles(*training.shape, tile=(side, side), halo=halo, stride=1)
    windows = [
        PropagationWindow(0, tile, training[tile.read.slices])
        for tile in tiles
        if training[tile.core.slices].any()
    ]

    def read(window):
        cube = torch.from_numpy(spectra[window.tile.read.slices]).permute(2, 0, 1)[None]
        return cube, None

    return windows, read


def known(training):
    pixels = np.flatnonzero(training)
    return torch.from_numpy(pixels), torch.from_numpy(training.flat[pixels].astype(np.int64) - 1)


@settings(deadline=None, max_examples=10)
@given(st.integers(3, 30), st.integers(3, 30), st.integers(0, 50), st.sampled_from([20, 10_000]))
def test_one_window_over_the_whole_scene_gives_what_the_scene_gives(rows, cols, seed, most):
    spectra, labels = standardised(rows, cols, seed)
    training = np.where(make_split(labels, "random:0.2", seed=seed).train, labels, 0)
    windows, read = windows_of(spectra, training.astype(np.uint16), 40)
    cube = torch.from_numpy(spectra).permute(2, 0, 1)[None]
    with (
        mock.patch.object(propagation_windows, "MAX_LABELLED", most),
        mock.patch.object(random_walker, "MAX_LABELLED", most),
    ):
        (found,) = propagate_over_windows(windows, read, 3)
        wanted = make_pseudo_labels(cube, None, *known(training), 3)
    assert (found.classes.ravel() == wanted.classes.numpy()).all()
    np.testing.assert_allclose(
        found.weights.ravel() / max(found.weights.sum(), 1e-12), wanted.weights, atol=1e-6
    )


def test_windows_agree_with_the_whole_scene():
    spectra, labels = standardised(90, 110)
    training = np.where(make_split(labels, "random:0.05").train, labels, 0).astype(np.uint16)
    windows, read = windows_of(spectra, training, 40)
    assert len(windows) == 9
    pseudo_labels = propagate_over_windows(windows, read, 3)
    classes, weights = pseudo_labels_in(pseudo_labels, 0, Window(0, 0, 90, 110))
    cube = torch.from_numpy(spectra).permute(2, 0, 1)[None]
    whole = propagate(cube, None, *known(training), 3).argmax(0).numpy()
    assert (classes == whole).mean() > 0.99
    assert (classes == whole)[labels > 0].all()
    assert (weights[training > 0] == 0).all()
    assert (weights[training == 0] > 0).all()


@pytest.mark.parametrize("side", [20, 40, 128])
def test_the_classifier_learns_every_training_pixel_once_in_the_order_of_the_scene(side):
    spectra, labels = standardised(90, 110)
    training = np.where(make_split(labels, "random:0.05").train, labels, 0).astype(np.uint16)
    windows, read = windows_of(spectra, training, side)
    order = np.random.default_rng(0).permutation(len(windows))  # of the windows: of no account
    directions = np.eye(8, spectra.shape[2], dtype=np.float32)
    learnt = shared_labelled_spectra([windows[i] for i in order], read, directions, 0.5)
    np.testing.assert_array_equal(learnt.targets, known(training)[1])
    assert len(np.unique(learnt.smooth, axis=0)) == np.count_nonzero(training)


@pytest.mark.parametrize("side", [20, 40])
def test_of_many_training_pixels_windows_of_any_size_take_the_same_few(side, monkeypatch):
    monkeypatch.setattr(propagation_windows, "MAX_LABELLED", 50)
    spectra, labels = standardised(90, 110)
    training = np.where(make_split(labels, "random:0.05").train, labels, 0).astype(np.uint16)
    directions = np.eye(8, spectra.shape[2], dtype=np.float32)
    whole, parts = (
        shared_labelled_spectra(*windows_of(spectra, training, wide), directions, 0.5)
        for wide in (128, side)
    )
    assert len(whole.targets) == 50 < np.count_nonzero(training)
    assert set(whole.targets) == {0, 1, 2}
    np.testing.assert_array_equal(parts.targets, whole.targets)
    np.testing.assert_allclose(parts.smooth, whole.smooth, atol=0.2)


def test_noise_and_signal_count_every_pixel_once():
    spectra, _ = standardised(40, 60)
    windows, read = windows_of(spectra, np.ones(spectra.shape[:2], np.uint16), 20, halo=16)
    without_halo, read_core = windows_of(spectra, np.ones(spectra.shape[:2], np.uint16), 20, halo=0)
    np.testing.assert_array_equal(
        fit_shared_mnf(windows, read), fit_shared_mnf(without_halo, read_core)
    )


def test_pixels_without_a_measurement_get_no_weight():
    spectra, labels = standardised(40, 40)
    training = np.where(make_split(labels, "random:0.1").train, labels, 0).astype(np.uint16)
    training[:9] = 0
    windows, read = windows_of(spectra, training, 64)
    valid = torch.ones(1, 1, 40, 40, dtype=torch.bool)
    valid[:, :, :9] = False
    (found,) = propagate_over_windows(windows, lambda window: (read(window)[0], valid), 3)
    assert (found.weights[:9] == 0).all()
    assert np.isfinite(found.weights).all()
    assert (found.weights[9:][training[9:] == 0] > 0).all()


@given(st.data())
def test_pseudo_labels_of_a_window_are_what_lies_there(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    classes, weights = rng.integers(0, 9, (30, 41)), rng.random((30, 41)).astype(np.float32)
    pseudo_labels = [
        WindowPseudoLabels(
            0, tile.core, classes[tile.core.slices].astype(np.uint16), weights[tile.core.slices]
        )
        for tile in plan_tiles(30, 41, tile=(8, 8), halo=0, stride=1)
    ]
    left_out = data.draw(st.integers(0, len(pseudo_labels) - 1))
    weights[pseudo_labels.pop(left_out).core.slices] = 0
    pseudo_labels.append(
        WindowPseudoLabels(1, Window(0, 0, 30, 41), classes.astype(np.uint16), weights + 1)
    )
    row, col = data.draw(st.integers(0, 29)), data.draw(st.integers(0, 40))
    window = Window(
        row, col, data.draw(st.integers(1, 30 - row)), data.draw(st.integers(1, 41 - col))
    )
    found_classes, found_weights = pseudo_labels_in(pseudo_labels, 0, window)
    np.testing.assert_array_equal(found_weights, weights[window.slices])
    there = found_weights > 0
    np.testing.assert_array_equal(found_classes[there], classes[window.slices][there])


def test_a_class_is_known_in_windows_without_a_pixel_of_it():
    spectra, labels = standardised(60, 120)
    training = np.where(make_split(labels, "random:0.05").train, labels, 0).astype(np.uint16)
    training[:, 60:][labels[:, 60:] != 2] = 0  # one class alone is labelled in the other half
    windows, read = windows_of(spectra, training, 60, halo=0)
    assert len(windows) == 2
    classes, weights = pseudo_labels_in(
        propagate_over_windows(windows, read, 3), 0, Window(0, 60, 60, 60)
    )
    other = (labels[:, 60:] > 0) & (labels[:, 60:] != 2) & (weights > 0)
    assert (classes + 1 == labels[:, 60:])[other].mean() > 0.7
