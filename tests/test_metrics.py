from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sklearn_metrics

from hsifcn.core.errors import LabelError, MismatchError
from hsifcn.evaluation.metrics import Accuracy, confusion_matrix, overall_average_kappa

N_CLASSES = 4
PIXELS = hnp.arrays(np.uint8, st.just((6, 7)), elements=st.integers(0, N_CLASSES))

# Rows are true classes; the last column is unclassified. Class 3 is never tested.
BY_HAND = np.array([[8, 2, 0, 0], [3, 5, 1, 1], [0, 0, 0, 0]])


def test_the_confusion_by_hand() -> None:
    truth = np.array([[1, 1, 2, 2, 0, 3]], np.uint8)
    predicted = np.array([[1, 2, 0, 2, 3, 1]], np.uint16)
    expected = [[1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]]
    found = confusion_matrix(truth, predicted, 3)
    assert found.tolist() == expected
    assert found.dtype == np.int64


@settings(deadline=None, derandomize=True, max_examples=50)
@given(PIXELS, PIXELS)
def test_the_confusion_is_that_of_scikit_learn(
    truth: npt.NDArray[Any], predicted: npt.NDArray[Any]
) -> None:
    found = confusion_matrix(truth, predicted, N_CLASSES)
    if not (truth > 0).any():
        assert found.sum() == 0
        return
    expected = sklearn_metrics.confusion_matrix(
        truth[truth > 0], predicted[truth > 0], labels=[1, 2, 3, 4, 0]
    )
    assert np.array_equal(found, expected[:N_CLASSES])


def test_the_confusion_refuses_what_it_cannot_count() -> None:
    two, three = np.array([1, 2]), np.array([1, 2, 3])
    with pytest.raises(MismatchError):
        confusion_matrix(two, three, 3)
    with pytest.raises(LabelError, match="ground truth"):
        confusion_matrix(three, two[[0, 1, 1]], 2)
    with pytest.raises(LabelError, match="map"):
        confusion_matrix(two, two + 1, 2)
    with pytest.raises(LabelError, match="-1"):
        confusion_matrix(two, np.array([1, -1]), 2)


def test_accuracy_by_hand() -> None:
    accuracy = Accuracy.from_confusion(BY_HAND)
    assert accuracy.oa == pytest.approx(13 / 20)
    assert accuracy.aa == pytest.approx((8 / 10 + 5 / 10) / 2)
    by_chance = (10 * 11 + 10 * 7) / 400
    assert accuracy.kappa == pytest.approx((13 / 20 - by_chance) / (1 - by_chance))
    np.testing.assert_allclose(accuracy.recall, [0.8, 0.5, math.nan])
    np.testing.assert_allclose(accuracy.precision, [8 / 11, 5 / 7, 0])
    np.testing.assert_allclose(accuracy.f1, [16 / 21, 10 / 17, 0])
    np.testing.assert_allclose(accuracy.iou, [8 / 13, 5 / 12, 0])


@settings(deadline=None, derandomize=True, max_examples=50)
@given(PIXELS, PIXELS)
def test_accuracy_is_that_of_scikit_learn(
    truth: npt.NDArray[Any], predicted: npt.NDArray[Any]
) -> None:
    accuracy = Accuracy.from_confusion(confusion_matrix(truth, predicted, N_CLASSES))
    true, found = truth[truth > 0], predicted[truth > 0]
    if not true.size:
        assert math.isnan(accuracy.oa)
        assert math.isnan(accuracy.aa)
        assert math.isnan(accuracy.kappa)
        return
    assert accuracy.oa == pytest.approx(sklearn_metrics.accuracy_score(true, found))
    classes = [1, 2, 3, 4]
    options: dict[str, Any] = {"labels": classes, "average": None, "zero_division": math.nan}
    recall = sklearn_metrics.recall_score(true, found, **options)
    np.testing.assert_allclose(accuracy.recall, recall)
    np.testing.assert_allclose(
        accuracy.precision, sklearn_metrics.precision_score(true, found, **options)
    )
    np.testing.assert_allclose(accuracy.f1, sklearn_metrics.f1_score(true, found, **options))
    defined = ~np.isnan(accuracy.iou)
    iou = sklearn_metrics.jaccard_score(true, found, labels=classes, average=None, zero_division=0)
    np.testing.assert_allclose(accuracy.iou[defined], np.array(iou)[defined])
    assert accuracy.aa == pytest.approx(np.nanmean(recall))
    if len(np.unique(np.concatenate([true, found]))) > 1:
        kappa = sklearn_metrics.cohen_kappa_score(true, found)
        assert accuracy.kappa == pytest.approx(kappa, abs=1e-12)
    else:
        assert math.isnan(accuracy.kappa)


def test_scores_of_several_cases_at_once_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 50, (5, 3))
    correct = rng.integers(0, true + 1)
    predicted = correct + rng.integers(0, 9, (5, 3))
    together = np.stack(overall_average_kappa(correct, true, predicted), axis=1)
    one_by_one = [
        [float(score) for score in overall_average_kappa(*case)]
        for case in zip(correct, true, predicted, strict=True)
    ]
    np.testing.assert_allclose(together, one_by_one)


def test_accuracy_as_plain_values() -> None:
    accuracy = Accuracy.from_confusion(BY_HAND)
    values = accuracy.as_dict(["corn", "oats", "woods"], n_train=[3, 4, 0])
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert set(values) == {
        "oa",
        "aa",
        "kappa",
        "per_class",
        "confusion",
        "unclassified",
        "class_names",
    }
    assert values["oa"] == pytest.approx(0.65)
    assert values["per_class"]["oats"] == {
        "recall": 0.5,
        "precision": pytest.approx(5 / 7),
        "f1": pytest.approx(10 / 17),
        "iou": pytest.approx(5 / 12),
        "n_train": 4,
        "n_test": 10,
    }
    assert values["per_class"]["woods"]["recall"] is None
    assert values["confusion"] == [[8, 2, 0], [3, 5, 1], [0, 0, 0]]
    assert values["unclassified"] == [0, 1, 0]
    assert values["class_names"] == ["corn", "oats", "woods"]
    assert accuracy.as_dict(["a", "b", "c"])["per_class"]["a"]["n_train"] is None


def test_names_must_be_one_a_class() -> None:
    accuracy = Accuracy.from_confusion(BY_HAND)
    for names in (["a", "b"], ["a", "b", "b"], ["a", "b", "c", "c"]):
        with pytest.raises(MismatchError, match="class names"):
            accuracy.as_dict(names)
    with pytest.raises(MismatchError, match="training pixels"):
        accuracy.as_dict(["a", "b", "c"], n_train=[1, 2])
