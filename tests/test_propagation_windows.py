"""Labels propagated window by window: as over whole scenes, and only where windows fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import field_cube, field_labels

from hsifcn.core.scene import Window
from hsifcn.core.tiles import plan_tiles
from hsifcn.data.splits import make_split
from hsifcn.propagation import pseudo_labels as propagation_pseudo_labels
from hsifcn.propagation.pseudo_labels import (
    Propagation,
    PropagationWindow,
    WindowPseudoLabels,
    fit_projection,
    pseudo_labels_in,
)
from hsifcn.propagation.selection import Evidence


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


def labels_of(spectra, training, side, halo=16):
    """Pseudo-labels of the scene, (rows, cols): classes from 0 and weights."""
    windows, read = windows_of(spectra, training, side, halo)
    found = Propagation(windows, read, 3).pseudo_labels()
    return pseudo_labels_in(found, 0, Window(0, 0, *training.shape))


def test_windows_agree_with_the_whole_scene():
    spectra, labels = standardised(50, 60)
    training = np.where(make_split(labels, "random:0.05").train, labels, 0).astype(np.uint16)
    assert len(windows_of(spectra, training, 30)[0]) == 4
    classes, weights = labels_of(spectra, training, 30)
    whole, _ = labels_of(spectra, training, 128)
    assert (classes == whole).mean() > 0.98
    assert (classes == whole)[labels > 0].mean() > 0.99
    assert (classes + 1 == labels)[labels > 0].mean() > 0.97
    assert (weights[training > 0] == 0).all()
    assert (weights[training == 0] > 0).all()


def test_labels_of_training_pixels_are_kept_as_they_are():
    spectra, labels = standardised(40, 60)
    training = np.where(make_split(labels, "random:0.05").train, labels, 0).astype(np.uint16)
    row, col = np.argwhere(training)[0]
    training[row, col] = training[row, col] % 3 + 1  # even a wrong one
    classes, _ = labels_of(spectra, training, 30)
    np.testing.assert_array_equal(classes[training > 0] + 1, training[training > 0])


@pytest.fixture
def nothing_chosen(monkeypatch):
    """No classifiers, which take long to choose and are of no account here."""
    nothing = Evidence(0, {}, np.nan, 0.01, {}, np.nan)
    monkeypatch.setattr(Propagation, "_choose", lambda *_: nothing)


@pytest.mark.usefixtures("nothing_chosen")
@pytest.mark.parametrize("side", [20, 40, 128])
def test_classifiers_learn_every_training_pixel_once_in_the_order_of_the_scene(side):
    spectra, labels = standardised(50, 60)
    training = np.where(make_split(labels, "random:0.05").train, labels, 0).astype(np.uint16)
    windows, read = windows_of(spectra, training, side)
    order = np.random.default_rng(0).permutation(len(windows))  # of the windows: of no account
    propagation = Propagation([windows[i] for i in order], read, 3)
    learnt, places = propagation._labelled_pixels()
    np.testing.assert_array_equal(learnt.targets + 1, training[training > 0])
    for values in learnt.features.values():
        assert values.shape[0] == np.count_nonzero(training)
        assert np.isfinite(values).all()
    for (number, pixel), target in zip(places, learnt.targets, strict=True):
        window = propagation.windows[number]
        row, col = divmod(pixel, window.labels.shape[1])
        read_from = window.tile.read
        assert training[read_from.row + row, read_from.col + col] == target + 1


@pytest.mark.usefixtures("nothing_chosen")
@pytest.mark.parametrize("side", [20, 40])
def test_of_many_training_pixels_windows_of_any_size_take_the_same_few(side, monkeypatch):
    monkeypatch.setattr(propagation_pseudo_labels, "MAX_LABELLED", 50)
    spectra, labels = standardised(50, 60)
    training = np.where(make_split(labels, "random:0.05").train, labels, 0).astype(np.uint16)
    whole, parts = (
        Propagation(*windows_of(spectra, training, wide), 3)._labelled_pixels()[0]
        for wide in (128, side)
    )
    assert len(whole.targets) == 50 < np.count_nonzero(training)
    assert set(whole.targets) == {0, 1, 2}
    np.testing.assert_array_equal(parts.targets, whole.targets)


@pytest.mark.usefixtures("nothing_chosen")
def test_groups_are_connected_pixels_of_one_label():
    spectra, _ = standardised(40, 40)
    training = np.zeros((40, 40), np.uint16)
    training[2:5, 2:5] = training[20, 30] = 1
    training[5, 5] = 2  # touches the first, but of another class
    training[30:32, 10] = training[32, 11] = 3  # connected by a corner
    windows, read = windows_of(spectra, training, 64)
    learnt, _ = Propagation(windows, read, 3)._labelled_pixels()
    sizes = np.unique(learnt.groups, return_counts=True)[1]
    assert sorted(sizes) == [1, 1, 3, 9]
    for group in np.unique(learnt.groups):
        assert len(np.unique(learnt.targets[learnt.groups == group])) == 1


def test_noise_and_signal_count_every_pixel_once():
    spectra, _ = standardised(40, 60)
    windows, read = windows_of(spectra, np.ones(spectra.shape[:2], np.uint16), 20, halo=16)
    without_halo, read_core = windows_of(spectra, np.ones(spectra.shape[:2], np.uint16), 20, halo=0)
    found, wanted = fit_projection(windows, read), fit_projection(without_halo, read_core)
    np.testing.assert_array_equal(found.noise_fractions, wanted.noise_fractions)
    np.testing.assert_array_equal(found.principal, wanted.principal)


def test_pixels_without_a_measurement_get_no_weight():
    spectra, labels = standardised(40, 40)
    training = np.where(make_split(labels, "random:0.1").train, labels, 0).astype(np.uint16)
    training[:9] = 0
    windows, read = windows_of(spectra, training, 64)
    valid = torch.ones(1, 1, 40, 40, dtype=torch.bool)
    valid[:, :, :9] = False
    (found,) = Propagation(windows, lambda window: (read(window)[0], valid), 3).pseudo_labels()
    assert (found.weights[:9] == 0).all()
    assert np.isfinite(found.weights).all()
    assert (found.weights[9:][training[9:] == 0] > 0).all()


def test_more_labels_keep_the_choice_that_was_made_on_the_first():
    """Labels that validate may spread in the end, but must not choose."""
    spectra, labels = standardised(40, 60)
    split = make_split(labels, "random:0.1:val=0.1")
    first, both = (
        np.where(mask, labels, 0).astype(np.uint16)
        for mask in (split.train, split.train | split.validation)
    )
    windows, read = windows_of(spectra, first, 64)
    earlier = Propagation(windows, read, 3)
    later = Propagation(windows_of(spectra, both, 64)[0], read, 3, earlier=earlier)
    assert later.evidence is earlier.evidence
    assert later.projection is earlier.projection
    (found,) = later.pseudo_labels()
    np.testing.assert_array_equal(found.classes[both > 0] + 1, both[both > 0])
    assert (found.weights[both > 0] == 0).all()


@given(st.data())
def test_pseudo_labels_of_a_window_are_what_lies_there(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    classes, weights = rng.integers(0, 9, (30, 41)), rng.random((30, 41)).astype(np.float32)
    pseudo_labels = [
        WindowPseudoLabels(
            0,
            tile.core,
            classes[tile.core.slices].astype(np.uint16),
            weights[tile.core.slices],
            1.0,
        )
        for tile in plan_tiles(30, 41, tile=(8, 8), halo=0, stride=1)
    ]
    left_out = data.draw(st.integers(0, len(pseudo_labels) - 1))
    weights[pseudo_labels.pop(left_out).core.slices] = 0
    pseudo_labels.append(
        WindowPseudoLabels(1, Window(0, 0, 30, 41), classes.astype(np.uint16), weights + 1, 1.0)
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
    spectra, labels = standardised(45, 90)
    training = np.where(make_split(labels, "random:0.05").train, labels, 0).astype(np.uint16)
    training[:, 45:][labels[:, 45:] != 2] = 0  # one class alone is labelled in the other half
    assert len(windows_of(spectra, training, 45, halo=0)[0]) == 2
    classes, weights = (values[:, 45:] for values in labels_of(spectra, training, 45, halo=0))
    other = (labels[:, 45:] > 0) & (labels[:, 45:] != 2) & (weights > 0)
    assert (classes + 1 == labels[:, 45:])[other].mean() > 0.7
