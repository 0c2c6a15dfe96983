from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from hsifcn.core.errors import LabelError, MismatchError
from hsifcn.data.splits import fields
from hsifcn.evaluation import intervals
from hsifcn.evaluation.intervals import (
    accuracy_interval,
    difference_interval,
    intervals_over_fields,
    mcnemar,
    paired_difference,
)
from hsifcn.evaluation.metrics import Accuracy, confusion_matrix

Array = npt.NDArray[Any]
N_CLASSES = 3


def striped_truth() -> tuple[Array, Array]:
    """Fields of 2 x 3 to 2 x 9 px, each of one class, four of each class."""
    rng = np.random.default_rng(0)
    truth = np.zeros((23, 10), np.uint8)
    for field in range(8):
        truth[3 * field : 3 * field + 2, : rng.integers(3, 10)] = 1 + field % N_CLASSES
    return truth, fields(truth)


def noisy(truth: Array, share: float, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    wrong = rng.integers(0, N_CLASSES + 1, truth.shape)
    return np.where(rng.uniform(size=truth.shape) < share, wrong, truth).astype(np.uint8)


def without_a_field(truth: Array, predicted: Array, numbers: Array) -> list[Accuracy]:
    """Accuracy of the map without the pixels of one field, for each field."""
    return [
        Accuracy.from_confusion(
            confusion_matrix(np.where(numbers == number, 0, truth), predicted, N_CLASSES)
        )
        for number in np.unique(numbers[truth > 0])
    ]


def jackknife_error(values: list[float]) -> float:
    """Standard error of the delete-one jackknife, by its formula."""
    n = len(values)
    return float(np.sqrt((n - 1) / n * sum((value - np.mean(values)) ** 2 for value in values)))


def test_a_difference_is_jackknifed_over_fields_of_one_size() -> None:
    """Ten fields of ten pixels: Student's t has nine degrees of freedom."""
    truth = np.repeat(np.resize([1, 2], 10), 10).reshape(10, 10)
    numbers = np.repeat(np.arange(1, 11), 10).reshape(10, 10)
    a, b = noisy(truth, 0.2, 1), noisy(truth, 0.5, 2)
    found = paired_difference(truth, a, b, numbers, N_CLASSES)
    of_a = Accuracy.from_confusion(confusion_matrix(truth, a, N_CLASSES))
    of_b = Accuracy.from_confusion(confusion_matrix(truth, b, N_CLASSES))
    pairs = list(
        zip(without_a_field(truth, a, numbers), without_a_field(truth, b, numbers), strict=True)
    )
    half = stats.t.ppf(0.975, 9) * jackknife_error([x.oa - y.oa for x, y in pairs])
    middle = of_a.oa - of_b.oa
    assert found["oa_difference"] == pytest.approx(middle)
    assert found["interval"] == pytest.approx((middle - half, middle + half))
    half = stats.t.ppf(0.975, 9) * jackknife_error([x.aa - y.aa for x, y in pairs])
    assert found["aa_difference"] == pytest.approx(of_a.aa - of_b.aa)
    assert found["aa_interval"] == pytest.approx(
        (of_a.aa - of_b.aa - half, of_a.aa - of_b.aa + half)
    )
    for i, entry in enumerate(found["per_class"][:2]):
        assert entry["recall_difference"] == pytest.approx(of_a.recall[i] - of_b.recall[i])
        low, high = entry["interval"]
        assert low < entry["recall_difference"] < high
    json.dumps(found, allow_nan=False)


def test_differences_change_their_sign_with_the_order_of_the_maps() -> None:
    truth, numbers = striped_truth()
    a, b = noisy(truth, 0.2, 1), noisy(truth, 0.5, 2)
    one = paired_difference(truth, a, b, numbers, N_CLASSES)
    other = paired_difference(truth, b, a, numbers, N_CLASSES)
    assert one["oa_difference"] > 0
    assert other["oa_difference"] == pytest.approx(-one["oa_difference"])
    assert other["interval"] == pytest.approx((-one["interval"][1], -one["interval"][0]))
    same = paired_difference(truth, a, a, numbers, N_CLASSES)
    assert same["oa_difference"] == 0
    assert same["interval"] == same["aa_interval"] == (0, 0)


def test_the_memory_bound_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, numbers = striped_truth()
    maps = {"good": noisy(truth, 0.1, 1), "bad": noisy(truth, 0.6, 2)}
    at_once = intervals_over_fields(truth, maps, numbers, N_CLASSES)
    assert list(at_once) == ["good", "bad"]
    monkeypatch.setattr(intervals, "FIELDS_AT_ONCE", 3)
    assert intervals_over_fields(truth, maps, numbers, N_CLASSES) == at_once


@pytest.mark.parametrize("n_fields", [5, 10, 42])
@pytest.mark.parametrize(("accuracy", "likeness"), [(0.85, 0.5), (0.9, 0.3)])
def test_intervals_reach_their_nominal_coverage(
    n_fields: int, accuracy: float, likeness: float
) -> None:
    """Fields of very different sizes, whose pixels are right or wrong much alike.

    The accuracy of a field is drawn from a beta distribution with the intraclass correlation
    ``likeness``. Percentiles of a bootstrap over fields cover 70 % with 5 fields and 88 % with 42.
    """
    rng = np.random.default_rng(n_fields)
    spread = (1 - likeness) / likeness
    covered, trials = 0, 1500
    for _ in range(trials):
        sizes = np.rint(rng.lognormal(4.5, 0.7, n_fields)).clip(1).astype(int)
        shares = rng.beta(accuracy * spread, (1 - accuracy) * spread, n_fields)
        right = rng.binomial(sizes, shares)
        total = sizes.sum()
        without = (right.sum() - right) / (total - sizes)
        low, high = accuracy_interval(right.sum() / total, without, sizes.astype(float))
        covered += low <= accuracy <= high
    assert covered / trials == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("n_fields", [5, 42])
def test_intervals_of_a_difference_reach_their_nominal_coverage(n_fields: int) -> None:
    rng = np.random.default_rng(n_fields)
    covered, trials = 0, 1500
    for _ in range(trials):
        sizes = np.rint(rng.lognormal(4.5, 0.7, n_fields)).clip(1).astype(int)
        right = rng.binomial(sizes, rng.beta(8, 2, n_fields))
        changed = rng.binomial(right, 0.1) - rng.binomial(sizes - right, 0.2)
        # One map has a tenth of the right pixels wrong, and a fifth of the wrong ones right.
        expected = 0.1 * 0.8 - 0.2 * 0.2
        total = sizes.sum()
        without = (changed.sum() - changed) / (total - sizes)
        low, high = difference_interval(changed.sum() / total, without, sizes.astype(float))
        covered += low <= expected <= high
    assert covered / trials == pytest.approx(0.95, abs=0.03)


def test_fields_without_an_error_leave_room_for_some() -> None:
    low, high = accuracy_interval(1.0, np.ones(5), np.full(5, 30.0))
    assert high == 1
    assert 0.3 < low < 0.9
    narrower, _ = accuracy_interval(1.0, np.ones(50), np.full(50, 30.0))
    assert low < narrower < 1


def test_the_whole_interval_comes_from_the_counts_of_the_fields() -> None:
    truth, numbers = striped_truth()
    predicted = noisy(truth, 0.3, 1)
    found = intervals_over_fields(truth, {"map": predicted}, numbers, N_CLASSES)["map"]
    rest = without_a_field(truth, predicted, numbers)
    sizes = np.array([(numbers == n).sum() for n in np.unique(numbers[truth > 0])], float)
    whole = Accuracy.from_confusion(confusion_matrix(truth, predicted, N_CLASSES))
    for name in ("oa", "kappa"):
        left = np.array([getattr(accuracy, name) for accuracy in rest])
        low = -1.0 if name == "kappa" else 0.0
        assert found[name] == pytest.approx(
            accuracy_interval(getattr(whole, name), left, sizes, low)
        )


def test_what_one_field_cannot_tell_is_none() -> None:
    truth = np.ones((4, 8), np.uint8)
    truth[:, 3] = 0
    truth[:, 6:] = 2
    predicted = np.ones((4, 8), np.uint8)
    numbers = fields(truth)
    found = paired_difference(truth, predicted, truth, numbers, 3)
    # Class 1 has two fields, class 2 one, class 3 none.
    assert found["per_class"][0] == {"recall_difference": 0.0, "interval": (0.0, 0.0)}
    assert found["per_class"][1] == {"recall_difference": -1.0, "interval": None}
    assert found["per_class"][2] == {"recall_difference": None, "interval": None}
    assert found["interval"] is not None

    one = np.where(numbers == 1, truth, 0)
    alone = intervals_over_fields(one, {"map": predicted}, numbers, 3)
    assert [alone["map"][name] for name in ("oa", "aa", "kappa")] == [None] * 3
    assert {value for row in alone["map"]["per_class"] for value in row.values()} == {None}
    nothing = paired_difference(0 * truth, predicted, truth, numbers, 3)
    assert nothing["oa_difference"] is nothing["interval"] is None


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    truth, numbers = striped_truth()
    with pytest.raises(MismatchError):
        intervals_over_fields(truth, {"map": truth[1:]}, numbers, N_CLASSES)
    with pytest.raises(MismatchError):
        mcnemar(truth, truth, truth[1:])
    with pytest.raises(LabelError, match="no field"):
        paired_difference(truth, truth, truth, 0 * numbers, N_CLASSES)
    with pytest.raises(LabelError, match="above 2"):
        paired_difference(truth, truth, truth, numbers, 2)


def discordant(only_a: int, only_b: int) -> tuple[Array, Array, Array]:
    truth = np.ones(only_a + only_b + 10, np.uint8)
    a, b = truth.copy(), truth.copy()
    b[:only_a] = 2
    a[only_a : only_a + only_b] = 2
    truth[-3:] = 0
    a[-3:] = 2
    return truth, a, b


def test_mcnemar_is_exact_where_few_pixels_differ() -> None:
    # 2 (1 + 10) / 2^10, by hand.
    assert mcnemar(*discordant(9, 1)) == pytest.approx(22 / 1024)
    assert mcnemar(*discordant(1, 9)) == pytest.approx(22 / 1024)
    assert mcnemar(*discordant(24, 0)) == pytest.approx(2 / 2**24)
    assert mcnemar(*discordant(5, 5)) == 1
    assert mcnemar(*discordant(0, 0)) == 1


def test_mcnemar_is_chi_square_where_many_pixels_differ() -> None:
    # (|150 - 86| - 1)^2 / 236 = 16.818 with one degree of freedom.
    assert mcnemar(*discordant(150, 86)) == pytest.approx(4.115e-5, rel=1e-3)
    assert mcnemar(*discordant(20, 5)) == pytest.approx(stats.chi2.sf(14**2 / 25, 1))
    assert mcnemar(*discordant(50, 50)) == 1
    assert mcnemar(*discordant(400, 380)) == pytest.approx(
        stats.binomtest(380, 780).pvalue, abs=0.01
    )


def test_intervals_of_a_class_are_binomial_where_fields_are_pixels() -> None:
    """Where every field is one pixel the share of right ones is binomial."""
    rng = np.random.default_rng(1)
    truth = rng.integers(1, 3, (20, 25))
    predicted = np.where(rng.random(truth.shape) < 0.2, 3 - truth, truth)
    numbers = np.arange(1, truth.size + 1).reshape(truth.shape)
    found = intervals_over_fields(truth, {"m": predicted}, numbers, 3)["m"]["per_class"]
    for label in (1, 2):
        right = (predicted == truth)[truth == label]
        error = np.sqrt(right.mean() * (1 - right.mean()) / right.size)
        low, high = found[label - 1]["recall"]
        assert low == pytest.approx(right.mean() - 1.96 * error, abs=0.01)
        assert high == pytest.approx(right.mean() + 1.96 * error, abs=0.01)
        for measure in ("precision", "f1", "iou"):
            low, high = found[label - 1][measure]
            assert 0 < low < high < 1
        assert found[label - 1]["iou"][1] < found[label - 1]["f1"][0]
    assert found[2] == dict.fromkeys(("recall", "precision", "f1", "iou"))


def test_kappa_lies_in_its_interval() -> None:
    truth, numbers = striped_truth()
    predicted = noisy(truth, 0.3, 1)
    every_field_once = np.where(truth > 0, 1, 0) * np.arange(truth.size).reshape(truth.shape) + 1
    interval = intervals_over_fields(truth, {"m": predicted}, every_field_once, N_CLASSES)["m"]
    kappa = sklearn_metrics.cohen_kappa_score(truth[truth > 0], predicted[truth > 0])
    low, high = interval["kappa"] or (1, 0)
    assert low < kappa < high
    assert numbers.max() == 8
