"""Temperature and coverage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from hsifcn.evaluation.calibration import (
    coverage_curve,
    expected_calibration_error,
)
from hsifcn.models.temperature import (
    FOR_UNKNOWN_SCENES,
    TEMPERATURES,
    fit_temperature,
    temperature_of_confidence,
)
from hsifcn.training.temperature import fit_temperature_of_scene


def draw(temperature, pixels=4000, classes=5):
    """Logits whose softmax at that temperature is the true probability of each class."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (pixels, classes))
    shares = softmax(logits / temperature, axis=1).cumsum(axis=1)
    targets = (rng.random((pixels, 1)) > shares).sum(axis=1).clip(max=classes - 1)
    return logits, targets


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_drew_the_labels_is_found(temperature):
    logits, targets = draw(temperature)
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.08)


def test_calibration_error_falls():
    logits, targets = draw(2.5)
    fitted = fit_temperature(logits[::2], targets[::2])
    correct = logits[1::2].argmax(axis=1) == targets[1::2]
    before, after = (
        expected_calibration_error(softmax(logits[1::2] / t, axis=1).max(axis=1), correct)
        for t in (1.0, fitted)
    )
    assert after < before / 3


def test_few_pixels_without_an_error_do_not_make_it_certain():
    logits = 2.0 * np.eye(4)[[0, 1, 2, 3, 0, 1]]
    assert 0.25 < fit_temperature(logits, np.array([0, 1, 2, 3, 0, 1])) < 1


def test_no_pixels_leave_it_at_one():
    empty = fit_temperature(np.zeros((0, 3)), np.zeros(0, int))
    assert empty == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("coverage", "validation", "expected"),
    [
        (0.0, 100, 0.6),  # one field a class: left-out fields alone tell what to expect
        (0.2, 100, 0.8 * 0.6 + 0.2 * 0.9),
        (0.5, 100, 0.75),
        (1.0, 100, 0.75),  # validation pixels lie in labelled fields, so they count by a half
        (1.0, 10, 0.6),  # too few
    ],
)
def test_confidence_is_a_mean_of_accuracies_in_labelled_and_in_other_fields(
    coverage, validation, expected
):
    logits, _ = draw(1.0)
    targets = torch.arange(validation) % 5
    scores = torch.eye(5)[targets]
    scores[::10] = scores[::10].roll(1, 1)  # a tenth is wrong
    found = fit_temperature_of_scene(scores, targets, (logits, 0.6), coverage)
    assert softmax(logits / found, axis=1).max(axis=1).mean() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_of_a_sureness_is_found(temperature):
    logits = np.random.default_rng(0).normal(0, 3, (500, 5))
    shares = np.exp(logits / temperature)
    sureness = (shares / shares.sum(1, keepdims=True)).max(1).mean()
    assert temperature_of_confidence(logits, sureness) == pytest.approx(temperature, rel=0.011)
    hotter = temperature_of_confidence(30 * logits, sureness, FOR_UNKNOWN_SCENES)
    assert hotter == pytest.approx(30 * temperature, rel=0.011)


def test_a_sureness_out_of_reach_gives_the_last_temperature():
    logits = np.random.default_rng(0).normal(0, 3, (50, 5))
    assert temperature_of_confidence(logits, 1.0) == TEMPERATURES[0]
    assert temperature_of_confidence(logits, 0.0) == TEMPERATURES[-1]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80))
def test_coverage_against_counting(pixels):
    confidence = np.array([pixel[0] for pixel in pixels])
    correct = np.array([pixel[1] for pixel in pixels])
    rows = coverage_curve(confidence, correct)
    assert rows[-1]["coverage"] == 1
    assert rows[-1]["accuracy"] == pytest.approx(correct.mean())
    for row in rows:
        kept = round(row["coverage"] * len(pixels))
        assert (confidence >= row["threshold"]).sum() >= kept
        assert (confidence > row["threshold"]).sum() < kept
        assert 0 <= row["accuracy"] <= 1


def test_doubt_that_points_at_errors_raises_accuracy():
    rows = coverage_curve(np.linspace(0, 1, 100), np.arange(100) >= 30)
    accuracies = [row["accuracy"] for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] == 1
    assert accuracies[-1] == pytest.approx(0.7)


def test_no_pixels_no_curve():
    assert coverage_curve(np.zeros(0), np.zeros(0, bool)) == []


def test_the_calibration_error_by_hand():
    confidence, correct = np.array([0.9, 0.9, 0.7]), np.array([True, False, True])
    # With 10 bins, 0.9 and 0.9 share one: |0.5 - 0.9| of 2 pixels; 0.7: |1 - 0.7| of one.
    error = expected_calibration_error(confidence, correct, bins=10)
    assert error == pytest.approx((2 * 0.4 + 0.3) / 3)


def test_over_and_under_confidence_cancel_within_a_bin_only():
    confidence, correct = np.array([0.55, 0.55, 0.95]), np.array([True, False, True])
    one_bin, ten_bins = (expected_calibration_error(confidence, correct, n) for n in (1, 10))
    assert one_bin == pytest.approx(abs(2 / 3 - (0.55 + 0.55 + 0.95) / 3))
    assert ten_bins == pytest.approx((2 * 0.05 + 0.05) / 3)


def test_a_bin_of_confidence_holds_its_upper_edge():
    error = expected_calibration_error(np.array([0.5, 0.6]), np.array([True, False]), bins=2)
    assert error == pytest.approx((0.5 + 0.6) / 2)


def test_a_calibrated_model_has_no_calibration_error():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0, 1, 200_000)
    correct = rng.uniform(0, 1, confidence.size) < confidence
    assert expected_calibration_error(confidence, correct) < 0.01
    assert expected_calibration_error(confidence, ~correct) > 0.4


def test_no_pixels_no_calibration_error():
    assert expected_calibration_error(np.zeros(0), np.zeros(0, bool)) is None
