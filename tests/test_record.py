"""What is told of a split and of maps: each figure against numbers counted here by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hsifcn.comparison.experiment import contenders
from hsifcn.comparison.tables import Entry, difference_row
from hsifcn.core.scene import LabelMap
from hsifcn.data.split import Split
from hsifcn.evaluation.evaluate import evaluate
from hsifcn.evaluation.intervals import intervals_over_fields, paired_difference
from hsifcn.evaluation.record import calibration_record, pooled_leakage
from hsifcn.models import DEFAULT_MODEL

NOTHING = np.zeros((6, 8), bool)


def split_of(labels, train, validation, test):
    return Split(labels.astype(np.uint16), train, validation, test, "made-up", 0)


@pytest.fixture
def cut_field():
    """Three fields, each 2 rows high. Training columns cut each in two test parts of 2 columns."""
    labels = np.zeros((6, 8), np.uint16)
    labels[:2], labels[2:4], labels[4:] = 1, 2, 1
    train = NOTHING.copy()
    train[:, 2:6] = True
    return split_of(labels, train, NOTHING, ~train)


def some_maps(split):
    """Two maps that err in one part of a field each."""
    first, second = split.labels.copy(), split.labels.copy()
    first[:2, :2], second[2:4, 6:], second[4:, :1] = 2, 1, 2
    return first, second


def test_a_difference_counts_whole_fields_not_their_test_parts(cut_field):
    first, second = some_maps(cut_field)
    dataset = SimpleNamespace(splits=[cut_field], measured_names=("corn", "oak"))
    known = contenders(15)
    entries = [
        Entry(known[name], "random", maps=[labels])
        for name, labels in ((DEFAULT_MODEL, first), ("patch", second))
    ]
    row = difference_row("random", dataset, entries)
    whole_fields = np.repeat([1, 2, 3], 2)[:, None] * np.ones((1, 8), int)
    truth = np.where(cut_field.test, cut_field.labels, 0)
    wanted = paired_difference(truth, first, second, whole_fields, 2)
    assert row["interval"] == pytest.approx(wanted["interval"])
    parts = 2 * whole_fields - (np.arange(8) < 4)
    assert row["interval"] != pytest.approx(
        paired_difference(truth, first, second, parts, 2)["interval"]
    )


def test_an_evaluation_counts_whole_fields_not_their_test_parts(cut_field):
    mapped, _ = some_maps(cut_field)
    names, colours = ("corn", "oak"), ((1, 2, 3), (4, 5, 6))
    found = evaluate(
        LabelMap(mapped, names, colours), LabelMap(cut_field.labels, names, colours), cut_field
    )
    whole_fields = np.repeat([1, 2, 3], 2)[:, None] * np.ones((1, 8), int)
    truth = np.where(cut_field.test, cut_field.labels, 0)
    wanted = intervals_over_fields(truth, {"map": mapped}, whole_fields, 2)["map"]
    assert found["intervals"]["oa"] == pytest.approx(wanted["oa"])


def test_confidence_stays_beside_the_pixels_that_it_is_of():
    """Two scenes with different test pixels; right pixels are certain, wrong ones are not."""
    rng = np.random.default_rng(0)
    splits, mapped = [], []
    for rows in (6, 9):
        labels = rng.integers(1, 3, (rows, 8)).astype(np.uint16)
        test = rng.random(labels.shape) < 0.6
        wrong = rng.random(labels.shape) < 0.4
        splits.append(split_of(labels, ~test, np.zeros_like(test), test))
        confidence = np.where(wrong, 0.55, 0.95).astype(np.float32)
        mapped.append((np.where(wrong, 3 - labels, labels).astype(np.uint16), confidence))
    found = calibration_record(SimpleNamespace(splits=splits), mapped, 1.0)
    right = np.concatenate(
        [
            (labels == split.labels)[split.test]
            for (labels, _), split in zip(mapped, splits, strict=True)
        ]
    )
    # Certain pixels are all right, so 5 points too low; the others all wrong, 55 points too high.
    wanted = 0.05 * right.mean() + 0.55 * (1 - right.mean())
    assert found["expected_calibration_error"] == pytest.approx(wanted, abs=1e-6)
    for row in found["coverage"]:
        assert row["accuracy"] == pytest.approx(min(1, right.mean() / row["coverage"]))


def test_leakage_counts_validation_pixels():
    labels = np.ones((6, 8), np.uint16)
    train, validation, test = NOTHING.copy(), NOTHING.copy(), NOTHING.copy()
    validation[0, 0] = True
    test[0, 1], test[5, 7] = True, True
    train[5, 0] = True
    split = split_of(labels, train, validation, test)
    assert split.leakage()["test_touching"] == 0.5
    assert split.leakage()["test_in_shared_fields"] == 1
    assert pooled_leakage([split, split], None)["test_touching"] == 0.5
    without = split_of(labels, train, NOTHING, test)
    assert without.leakage()["test_touching"] == 0
