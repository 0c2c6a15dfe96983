"""The choice of classifiers and of the prior's weight by labels that are left out in groups."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsifcn.core.scene import Window
from hsifcn.core.tiles import Tile
from hsifcn.propagation.pseudo_labels import Propagation, PropagationWindow
from hsifcn.propagation.selection import (
    Evidence,
    LabelledPixels,
    choose_prior_weight,
    stratified_sample,
)


def labelled_pixels(targets, groups):
    return LabelledPixels({}, np.asarray(targets), np.asarray(groups))


@st.composite
def labels_in_groups(draw):
    """Groups of one to six pixels, each of one class."""
    classes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=40))
    sizes = draw(st.lists(st.integers(1, 6), min_size=len(classes), max_size=len(classes)))
    order = np.random.default_rng(0).permutation(sum(sizes))
    targets, groups = np.repeat(classes, sizes), np.repeat(np.arange(len(classes)), sizes)
    return labelled_pixels(targets[order], groups[order])


@given(labels_in_groups())
def test_folds_never_split_a_group_and_leave_other_groups_of_the_class(labelled):
    folds = labelled.folds()
    for group in np.unique(labelled.groups):
        assert len(np.unique(folds[labelled.groups == group])) == 1
    for label in np.unique(labelled.targets):
        own = labelled.targets == label
        several = len(np.unique(labelled.groups[own])) > 1
        assert (labelled.can_be_left_out()[own] == several).all()
        for fold in np.unique(folds[own]):
            assert (own & (folds != fold)).any() == several


@given(labels_in_groups())
def test_a_group_counts_by_the_square_root_of_its_size(labelled):
    weights = labelled.weights()
    for group in np.unique(labelled.groups):
        own = labelled.groups == group
        assert weights[own].sum() == pytest.approx(np.sqrt(own.sum()))


def test_a_sample_holds_every_class():
    targets = np.zeros(2000, int)
    targets[-2:] = 1, 2
    few = stratified_sample(targets, 400)
    assert len(few) == len(np.unique(few)) == 400
    assert set(targets[few]) == {0, 1, 2}
    np.testing.assert_array_equal(few, stratified_sample(targets, 400))
    np.testing.assert_array_equal(stratified_sample(targets, 2000), np.arange(2000))


class Told:
    """Stands for random walkers: right in given shares of the left-out pixels."""

    def __init__(self, labelled, shares, sureness=3.0):
        self.labelled, self.shares, self.sureness = labelled, shares, sureness
        self.held = []

    def __call__(self, held):
        self.held.append(held)
        targets, found = self.labelled.targets[held], {}
        classes = self.labelled.targets.max() + 1
        for one, share in self.shares.items():
            right = np.arange(len(targets)) < round(share * len(targets))
            scores = self.sureness * np.eye(classes)[(targets + ~right) % classes]
            found[one] = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return found


def one_pixel_groups(count, classes=2):
    return labelled_pixels(np.arange(count) % classes, np.arange(count))


def test_the_weight_that_predicts_best_is_chosen_where_many_groups_tell():
    labelled = one_pixel_groups(500)
    shares = {0.001: 0.6, 0.01: 1.0, 0.1: 0.8}
    weight, accuracy, expected_oa = choose_prior_weight(
        list(shares), labelled, Told(labelled, shares), 5
    )
    assert weight == pytest.approx(0.01, rel=1e-3)
    assert accuracy == pytest.approx(shares, abs=0.02)
    assert expected_oa == pytest.approx(501 / 502, abs=1e-3)


def test_few_groups_decide_less_than_the_size_of_the_fields():
    """Labelled areas of 25 pixels let expect wide fields, unless many groups say otherwise."""
    chosen = []
    for groups in (6, 600):
        number = np.repeat(np.arange(groups), 25)
        labelled = labelled_pixels(number % 2, number)
        told = Told(labelled, {0.0001: 0.7, 0.1: 0.8})
        chosen.append(choose_prior_weight([0.0001, 0.1], labelled, told, 5)[0])
    assert chosen == [0.0001, 0.1]


def test_of_equally_right_ones_the_surer_is_taken():
    labelled = one_pixel_groups(400)
    sure, unsure = (Told(labelled, {0.001: 0.9}, s) for s in (2.0, 0.1))

    def predict(held):
        return {0.001: sure(held)[0.001], 0.1: unsure(held)[0.001]}

    assert choose_prior_weight([0.001, 0.1], labelled, predict, 5)[0] < 0.005


def test_classes_with_a_single_group_are_not_scored():
    targets = np.repeat([0, 1, 2], [30, 30, 30])
    groups = np.concatenate([np.arange(30) // 3, 100 + np.arange(30) // 3, np.full(30, 999)])
    labelled = labelled_pixels(targets, groups)
    told = Told(labelled, {0.01: 1.0, 0.1: 1.0})
    choose_prior_weight([0.01, 0.1], labelled, told, 5)
    held = np.sum(told.held, axis=0)
    np.testing.assert_array_equal(held, targets != 2)  # each other pixel once


def test_where_nothing_can_be_left_out_nothing_is_predicted():
    labelled = labelled_pixels([0, 0, 1, 1], [0, 0, 1, 1])

    def refuse(held):
        raise AssertionError("asked for a prediction")

    weight, accuracy, expected_oa = choose_prior_weight([0.001, 0.1], labelled, refuse, 5)
    assert weight in (0.001, 0.1)
    assert np.isnan([*accuracy.values(), expected_oa]).all()


def test_larger_areas_of_labels_let_expect_wider_fields():
    weights = []
    for size in (2, 20, 200):
        targets, groups = np.repeat([0, 1], size), np.repeat([0, 1], size)
        labelled = labelled_pixels(targets, groups)
        candidates = np.geomspace(1e-6, 1, 25).tolist()
        weights.append(choose_prior_weight(candidates, labelled, None, 5)[0])
    assert weights == sorted(weights, reverse=True)
    assert weights[0] == pytest.approx(100 * weights[-1], rel=0.1)


def standardised(truth, noise, seed=0, bands=8):
    """A cube (1, bands, rows, cols) of classes with a spectrum each, and noise."""
    rng = np.random.default_rng(seed)
    spectra = rng.normal(0, 1, (truth.max() + 1, bands))[truth]
    spectra = spectra + rng.normal(0, noise, spectra.shape)
    spectra = (spectra - spectra.mean((0, 1))) / spectra.std((0, 1))
    return torch.from_numpy(spectra.astype(np.float32)).permute(2, 0, 1)[None]


def evidence_on(truth, noise, share=0.1, seed=0):
    """What is chosen on a scene of which a share of single pixels is labelled."""
    labelled = np.random.default_rng(seed).random(truth.shape) < share
    labels = np.where(labelled, truth + 1, 0).astype(np.uint16)
    place = Window(0, 0, *truth.shape)
    window = PropagationWindow(0, Tile(place, place), labels)
    cube = standardised(truth, noise, seed)
    return Propagation([window], lambda _: (cube, None), int(truth.max()) + 1).evidence


def smoothing_of(evidence):
    return sum(weight * one.smoothing for one, weight in evidence.classifiers.items())


@pytest.mark.parametrize("seed", [0, 1])
def test_wide_fields_and_single_pixels_are_told_apart(seed):
    rng = np.random.default_rng(seed)
    wide = np.kron(rng.integers(0, 3, (4, 4)), np.ones((12, 12), int))
    single = rng.integers(0, 3, (48, 48))
    fields = evidence_on(wide, 2.0, seed=seed)
    objects = evidence_on(single, 0.8, seed=seed)
    assert fields.prior_weight < 0.01
    assert objects.prior_weight > 0.1
    assert smoothing_of(fields) > 3
    assert smoothing_of(objects) < 1
    for evidence in (fields, objects):
        assert sum(evidence.classifiers.values()) == pytest.approx(1)
        assert evidence.expected_oa > 0.8
        assert evidence.accuracy > 0.7


def test_expected_accuracy_is_that_of_the_other_pixels():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, (40, 40))
    labelled = rng.random(truth.shape) < 0.25
    labels = np.where(labelled, truth + 1, 0).astype(np.uint16)
    place = Window(0, 0, *truth.shape)
    window = PropagationWindow(0, Tile(place, place), labels)
    cube = standardised(truth, 2.5, seed=3)
    propagation = Propagation([window], lambda _: (cube, None), 2)
    (found,) = propagation.pseudo_labels()
    right = (found.classes == truth)[~labelled].mean()
    assert 0.6 < right < 0.97
    assert propagation.evidence.expected_oa == pytest.approx(right, abs=0.06)


def test_groups_that_cannot_be_left_out_are_not_counted():
    truth = np.kron(np.array([[0, 1, 2]]), np.ones((12, 12), int))
    labels = np.zeros(truth.shape, np.uint16)
    labels[2, ::3] = truth[2, ::3] + 1
    labels[:, 24:] = 0
    labels[4:8, 30:34] = 3  # the only one of its class
    place = Window(0, 0, *truth.shape)
    window = PropagationWindow(0, Tile(place, place), labels)
    cube = standardised(truth, 0.5)
    evidence = Propagation([window], lambda _: (cube, None), 3).evidence
    assert evidence.groups == 8


def test_the_record_is_made_of_plain_values():
    record = evidence_on(np.kron(np.eye(2, dtype=int), np.ones((8, 8), int)), 0.3).record()
    assert set(record) == {
        "groups", "classifiers", "left_out_accuracy", "prior_weight", "prior_weight_accuracy",
        "expected_oa",
    }  # fmt: skip
    assert all(isinstance(name, str) for name in record["classifiers"])
    assert sum(record["classifiers"].values()) == pytest.approx(1, abs=1e-3)


def test_a_record_without_evidence_is_json():
    nothing = float("nan")
    record = Evidence(0, {}, nothing, 0.01, {0.01: nothing}, nothing).record()
    assert json.loads(json.dumps(record, allow_nan=False))["expected_oa"] is None
