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
    area_estimates,
    bootstrap_over_fields,
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


def resampled_by_hand(
    truth: Array, predicted: Array, numbers: Array, resamples: int, seed: int
) -> list[Accuracy]:
    """Accuracy of every resample, from its pixels as often as their fields were drawn."""
    drawn = np.unique(numbers[truth > 0])
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(drawn), np.full(len(drawn), 1 / len(drawn)), size=resamples)
    found = []
    for weight in weights:
        parts = [numbers == number for number in drawn.repeat(weight)]
        true = np.concatenate([np.where(part, truth, 0).ravel() for part in parts])
        maps = np.concatenate([np.where(part, predicted, 0).ravel() for part in parts])
        found.append(Accuracy.from_confusion(confusion_matrix(true, maps, N_CLASSES)))
    return found


def test_the_bootstrap_is_that_of_resampling_pixels_by_field() -> None:
    truth, numbers = striped_truth()
    maps = {"good": noisy(truth, 0.1, 1), "bad": noisy(truth, 0.6, 2)}
    found = bootstrap_over_fields(truth, maps, numbers, N_CLASSES, resamples=60, seed=5)
    assert list(found) == ["good", "bad"]
    for name, predicted in maps.items():
        resampled = resampled_by_hand(truth, predicted, numbers, 60, 5)
        for measure in ("oa", "aa", "kappa"):
            values = [getattr(accuracy, measure) for accuracy in resampled]
            assert found[name][measure] == pytest.approx(np.percentile(values, [2.5, 97.5]))


def test_the_paired_difference_is_that_of_resampling_pixels_by_field() -> None:
    truth, numbers = striped_truth()
    a, b = noisy(truth, 0.2, 1), noisy(truth, 0.5, 2)
    found = paired_difference(truth, a, b, numbers, N_CLASSES, resamples=60, seed=5)
    of_a = Accuracy.from_confusion(confusion_matrix(truth, a, N_CLASSES))
    of_b = Accuracy.from_confusion(confusion_matrix(truth, b, N_CLASSES))
    pairs = list(
        zip(
            resampled_by_hand(truth, a, numbers, 60, 5),
            resampled_by_hand(truth, b, numbers, 60, 5),
            strict=True,
        )
    )
    oa, aa = ([getattr(x, m) - getattr(y, m) for x, y in pairs] for m in ("oa", "aa"))
    recalls = np.array([x.recall - y.recall for x, y in pairs])

    assert found["oa_difference"] == pytest.approx(of_a.oa - of_b.oa)
    assert found["aa_difference"] == pytest.approx(of_a.aa - of_b.aa)
    assert found["interval"] == pytest.approx(np.percentile(oa, [2.5, 97.5]))
    assert found["aa_interval"] == pytest.approx(np.percentile(aa, [2.5, 97.5]))
    assert len(found["per_class"]) == N_CLASSES
    for i, entry in enumerate(found["per_class"]):
        assert entry["recall_difference"] == pytest.approx(of_a.recall[i] - of_b.recall[i])
        expected = np.nanpercentile(recalls[:, i], [2.5, 97.5])
        assert entry["interval"] == pytest.approx(expected)
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
    maps = {"map": noisy(truth, 0.3, 1)}
    at_once = bootstrap_over_fields(truth, maps, numbers, N_CLASSES, resamples=50)
    monkeypatch.setattr(intervals, "_WEIGHTS_AT_ONCE", 20)
    assert bootstrap_over_fields(truth, maps, numbers, N_CLASSES, resamples=50) == at_once


def test_seeds_draw_differently_and_repeatably() -> None:
    truth, numbers = striped_truth()
    maps = {"map": noisy(truth, 0.3, 1)}
    first, again, other = (
        bootstrap_over_fields(truth, maps, numbers, N_CLASSES, resamples=99, seed=seed)
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_intervals_of_fields_cover_the_truth_where_pixels_are_alike() -> None:
    """Whole fields are right or wrong at once: the true OA is 0.7, whatever the pixels."""
    rng = np.random.default_rng(3)
    numbers = np.arange(1, 61).repeat(25)[np.newaxis]
    truth = np.ones(numbers.shape, np.uint8)
    covered, trials = 0, 200
    for trial in range(trials):
        right = rng.uniform(size=60) < 0.7
        predicted = np.where(right.repeat(25), 1, 2)[np.newaxis]
        found = bootstrap_over_fields(truth, {"map": predicted}, numbers, 2, seed=trial)
        low, high = found["map"]["oa"] or (1, 0)
        covered += low <= 0.7 <= high
    assert covered / trials > 0.9


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
    alone = bootstrap_over_fields(one, {"map": predicted}, numbers, 3)
    assert [alone["map"][name] for name in ("oa", "aa", "kappa")] == [None] * 3
    assert {value for row in alone["map"]["per_class"] for value in row.values()} == {None}
    nothing = paired_difference(0 * truth, predicted, truth, numbers, 3)
    assert nothing["oa_difference"] is nothing["interval"] is None


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    truth, numbers = striped_truth()
    with pytest.raises(MismatchError):
        bootstrap_over_fields(truth, {"map": truth[1:]}, numbers, N_CLASSES)
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


def test_areas_of_the_worked_example() -> None:
    """Olofsson et al. 2014, table 8 and section 5: deforestation, gain, stable, non-forest."""
    by_map = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
    confusion = np.concatenate([by_map.T, np.zeros((4, 1), int)], axis=1)
    mapped = np.array([200_000, 150_000, 3_200_000, 6_450_000, 0])
    found = area_estimates(confusion, mapped, pixel_area=0.09)
    assert found.area is not None
    assert found.area_interval is not None
    assert found.area.round().tolist() == [21_158, 11_686, 285_770, 581_386]
    half_widths = (found.area_interval[:, 1] - found.area_interval[:, 0]) / 2
    assert half_widths.round().tolist() == [6_158, 3_756, 15_510, 16_282]
    np.testing.assert_allclose(found.proportion * 900_000, found.area)
    assert found.proportion.sum() == pytest.approx(1)


def test_areas_of_a_perfect_map_are_those_of_the_map() -> None:
    confusion = np.array([[30, 0, 0], [0, 20, 0]])
    found = area_estimates(confusion, np.array([600, 400, 0]))
    assert found.proportion.tolist() == [0.6, 0.4]
    assert found.interval.tolist() == [[0.6, 0.6], [0.4, 0.4]]
    assert found.area is found.area_interval is None


def test_unclassified_pixels_are_shared_out_as_their_test_pixels_are() -> None:
    confusion = np.array([[30, 0, 6], [0, 20, 2]])
    found = area_estimates(confusion, np.array([500, 300, 200]))
    np.testing.assert_allclose(found.proportion, [0.5 + 0.2 * 0.75, 0.3 + 0.2 * 0.25])


def test_mapped_classes_that_were_hardly_tested_are_one_stratum() -> None:
    confusion = np.array([[30, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 20]])
    mapped = np.array([500, 40, 60, 400])
    found = area_estimates(confusion, mapped)
    assert found.joined == (1, 2)
    as_one = area_estimates(
        np.array([[30, 1, 0, 0], [2, 1, 0, 0], [0, 0, 0, 20]]), np.array([500, 100, 0, 400])
    )
    np.testing.assert_allclose(found.proportion, as_one.proportion)
    np.testing.assert_allclose(found.interval, as_one.interval)
    assert found.proportion.sum() == pytest.approx(1)


def test_a_mapped_class_that_was_not_tested_joins_the_least_mapped_one() -> None:
    confusion = np.array([[30, 0, 0], [0, 20, 0], [5, 5, 0]])
    found = area_estimates(
        np.insert(confusion, 2, 0, axis=1), np.array([500, 300, 7, 0]), pixel_area=2.0
    )
    assert found.joined == (1, 2)
    np.testing.assert_allclose(
        found.proportion, area_estimates(confusion, np.array([500, 307, 0])).proportion
    )
    assert found.area is not None
    assert found.area.sum() == pytest.approx(2 * 807)


def test_areas_are_unknown_from_a_single_pixel() -> None:
    confusion = np.array([[1, 0, 0], [0, 0, 0]])
    found = area_estimates(confusion, np.array([500, 300, 0]), pixel_area=1.0)
    assert np.isnan(found.proportion).all()
    assert np.isnan(found.interval).all()


def test_areas_need_a_count_for_every_column() -> None:
    with pytest.raises(MismatchError):
        area_estimates(np.ones((2, 3), int), np.array([1, 2]))
    with pytest.raises(MismatchError):
        area_estimates(np.ones((2, 3), int), np.array([0, 0, 0]))


def test_area_intervals_cover_the_true_area() -> None:
    rng = np.random.default_rng(4)
    truth = rng.choice([1, 2, 3], 20_000, p=[0.1, 0.3, 0.6])
    mapped = np.where(rng.uniform(size=truth.size) < 0.2, rng.integers(1, 4, truth.size), truth)
    true_share = np.bincount(truth, minlength=4)[1:] / truth.size
    covered = np.zeros(3)
    for _ in range(300):
        sample = np.concatenate(
            [rng.choice(np.flatnonzero(mapped == label), 150, False) for label in (1, 2, 3)]
        )
        confusion = confusion_matrix(truth[sample], mapped[sample], 3)
        found = area_estimates(confusion, np.bincount(mapped, minlength=4)[[1, 2, 3, 0]])
        covered += (found.interval[:, 0] <= true_share) & (true_share <= found.interval[:, 1])
    assert (covered / 300 > 0.91).all()
    # Counting pixels of the map instead would be off by far more than the intervals are wide.
    assert abs((mapped == 1).mean() - true_share[0]) > 0.02


def test_intervals_of_a_class_are_those_of_resampling_its_fields() -> None:
    """Where every field is one pixel the share of right ones is binomial."""
    rng = np.random.default_rng(1)
    truth = rng.integers(1, 3, (20, 25))
    predicted = np.where(rng.random(truth.shape) < 0.2, 3 - truth, truth)
    numbers = np.arange(1, truth.size + 1).reshape(truth.shape)
    found = bootstrap_over_fields(truth, {"m": predicted}, numbers, 3)["m"]["per_class"]
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


def test_kappa_of_the_bootstrap_is_the_usual_one() -> None:
    truth, numbers = striped_truth()
    predicted = noisy(truth, 0.3, 1)
    every_field_once = np.where(truth > 0, 1, 0) * np.arange(truth.size).reshape(truth.shape) + 1
    interval = bootstrap_over_fields(truth, {"m": predicted}, every_field_once, N_CLASSES)["m"]
    kappa = sklearn_metrics.cohen_kappa_score(truth[truth > 0], predicted[truth > 0])
    low, high = interval["kappa"] or (1, 0)
    assert low < kappa < high
    assert numbers.max() == 8
