"""Design-based estimates: the worked examples of the papers, and coverage in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hsifcn.evaluation.design import (
    StratifiedSample,
    estimate_mean,
    estimate_of_part,
    largest_unseen_share,
)

# Stehman (2014), table 2: stratum, mapped class and true class of 40 points.
STRATA = "A" * 10 + "B" * 10 + "C" * 10 + "D" * 10
MAPPED = "A" * 7 + "B" * 3 + "A" + "B" * 11 + "C" * 6 + "B" * 2 + "D" * 10
TRUE = "AAAAACBABC" + "ABBBBBAABB" + "CCCCCDDBBA" + "DDDDDDDCCB"
SIZES = np.array([40_000, 30_000, 20_000, 10_000])


def counted(strata: str, mapped: str, true: str, classes: str) -> np.ndarray:
    counts = np.zeros((len(classes),) * 3)
    for h, i, j in zip(strata, mapped, true, strict=True):
        counts[classes.index(h), classes.index(i), classes.index(j)] += 1
    return counts


STEHMAN = StratifiedSample(counted(STRATA, MAPPED, TRUE, "ABCD"), SIZES)
# Olofsson et al. (2014), table 8: mapped classes in rows, true ones in columns.
BY_MAP = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
OLOFSSON = StratifiedSample(
    np.stack([np.where(np.arange(4)[:, None] == h, BY_MAP, 0) for h in range(4)]),
    np.array([200_000, 150_000, 3_200_000, 6_450_000]),
)
RIGHT = np.eye(4)


def of_true(k: int) -> np.ndarray:
    return np.tile(np.arange(4) == k, (4, 1)).astype(float)


def producers(sample: StratifiedSample, k: int):
    return estimate_of_part(sample, RIGHT * of_true(k), of_true(k), extent_known=False)


def users(sample: StratifiedSample, k: int):
    return estimate_of_part(sample, RIGHT * of_true(k), of_true(k).T, extent_known=True)


def test_the_worked_example_of_stehman() -> None:
    """Pages 4932 to 4936."""
    oa = estimate_mean(STEHMAN, RIGHT)
    assert (round(oa.value, 3), round(oa.standard_error, 3)) == (0.63, 0.085)
    area_a, area_c = (estimate_mean(STEHMAN, of_true(k)) for k in (0, 2))
    assert (round(area_a.value, 3), round(area_a.standard_error, 3)) == (0.35, 0.082)
    assert (round(area_c.value, 3), round(area_c.standard_error, 3)) == (0.20, 0.064)
    user = users(STEHMAN, 1)
    assert (round(user.value, 3), round(user.standard_error, 3)) == (0.574, 0.125)
    # The paper prints 0.114, with a variance of 0 for the one point of class B in stratum D, where
    # its own table 3 has 0.10.
    producer = producers(STEHMAN, 1)
    assert (round(producer.value, 3), round(producer.standard_error, 3)) == (0.794, 0.117)
    cell = np.zeros((4, 4))
    cell[1, 2] = 1
    assert estimate_mean(STEHMAN, cell).value == pytest.approx(0.08)


def test_the_worked_example_of_olofsson() -> None:
    """Section 5: accuracies with half widths of their intervals, and areas."""

    def rounded(estimate, digits=2):
        half = (estimate.interval[1] - estimate.interval[0]) / 2
        return round(estimate.value, digits), round(half, digits)

    assert rounded(estimate_mean(OLOFSSON, RIGHT)) == (0.95, 0.02)
    assert [rounded(users(OLOFSSON, k)) for k in range(4)] == [
        (0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02),
    ]  # fmt: skip
    assert [rounded(producers(OLOFSSON, k)) for k in (0, 2)] == [(0.75, 0.21), (0.93, 0.03)]
    assert [rounded(producers(OLOFSSON, k))[0] for k in (1, 3)] == [0.85, 0.96]
    assert rounded(estimate_mean(OLOFSSON, of_true(0)), 4) == (0.0235, 0.0068)


def test_producers_accuracy_by_equation_7_of_olofsson() -> None:
    """The paper prints 0.23 and 0.01 for gain and non-forest, where its equation has 0.25, 0.02."""
    sizes = OLOFSSON.sizes
    drawn = BY_MAP.sum(axis=1)
    halves = []
    for j in range(4):
        marginal = sum(sizes[i] * BY_MAP[i, j] / drawn[i] for i in range(4))
        producer = sizes[j] * BY_MAP[j, j] / drawn[j] / marginal
        user = BY_MAP[j, j] / drawn[j]
        others = sum(
            sizes[i] ** 2 * BY_MAP[i, j] / drawn[i] * (1 - BY_MAP[i, j] / drawn[i]) / (drawn[i] - 1)
            for i in range(4)
            if i != j
        )
        own = sizes[j] ** 2 * (1 - producer) ** 2 * user * (1 - user) / (drawn[j] - 1)
        error = np.sqrt(own + producer**2 * others) / marginal
        found = producers(OLOFSSON, j)
        assert found.value == pytest.approx(producer)
        assert found.standard_error == pytest.approx(error)
        halves.append(round(1.96 * error, 2))
    assert halves == [0.21, 0.25, 0.03, 0.02]


def test_ratios_against_a_plain_loop() -> None:
    """Stehman (2014), equations 2, 3 and 25 to 28, a point at a time."""
    rng = np.random.default_rng(0)
    sizes = {"A": 500, "B": 300, "C": 40, "D": 90}
    strata = "".join(h * n for h, n in zip("ABCD", (30, 20, 12, 9), strict=True))
    mapped, true = ("".join(rng.choice(list("ABCD"), len(strata))) for _ in range(2))
    sample = StratifiedSample(counted(strata, mapped, true, "ABCD"), np.array(list(sizes.values())))
    for k, name in enumerate("ABCD"):
        y_total = x_total = variance = 0.0
        parts = []
        for stratum, size in sizes.items():
            own = [i for i, h in enumerate(strata) if h == stratum]
            y = [float(mapped[i] == true[i] == name) for i in own]
            x = [float(true[i] == name) for i in own]
            y_total += size * sum(y) / len(own)
            x_total += size * sum(x) / len(own)
            parts.append((size, len(own), y, x))
        ratio = y_total / x_total
        for size, n, y, x in parts:
            covariance = np.cov(y, x)
            spread = covariance[0, 0] + ratio**2 * covariance[1, 1] - 2 * ratio * covariance[0, 1]
            variance += size**2 * (1 - n / size) * spread / n
        found = producers(sample, k)
        assert found.value == pytest.approx(ratio)
        assert found.standard_error == pytest.approx(np.sqrt(variance) / x_total)


def test_what_was_not_sampled_is_unknown() -> None:
    sample = StratifiedSample(np.array([[[5, 1, 0], [0, 0, 0], [0, 0, 0]]]), np.array([100]))
    third = np.tile([0, 0, 1], (3, 1))
    found = estimate_of_part(sample, np.eye(3) * third, third, extent_known=False)
    assert (found.value, found.standard_error, found.interval) == (None, None, None)


def test_a_single_point_has_no_interval() -> None:
    sample = StratifiedSample(np.array([[4, 2], [0, 1]]), np.array([100, 50]))
    found = estimate_mean(sample, np.array([0, 1]))
    assert found.value == pytest.approx((100 / 3 + 50) / 150)
    assert found.standard_error is found.interval is None


def test_a_sample_without_an_error_has_the_interval_of_clopper_and_pearson() -> None:
    sample = StratifiedSample(np.array([[0, 60]]), np.array([10_000]))
    found = estimate_mean(sample, np.array([0, 1]))
    expected = stats.binomtest(60, 60).proportion_ci(0.95, "exact")
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.standard_error == 0


def test_the_unseen_share_is_the_largest_of_all() -> None:
    """Against all pairs of shares on a fine grid."""
    drawn, sizes = np.array([40.0, 10.0]), np.array([3000, 2000])
    first, second = np.meshgrid(np.linspace(0, 0.99, 1000), np.linspace(0, 0.99, 1000))
    possible = (1 - first) ** 40 * (1 - second) ** 10 >= 0.025
    largest = (0.6 * first + 0.4 * second)[possible].max()
    assert largest_unseen_share(drawn, sizes) == pytest.approx(largest, abs=0.001)


def test_strata_sampled_whole_hide_nothing() -> None:
    assert largest_unseen_share(np.array([20.0, 5.0]), np.array([20, 5])) == 0
    sample = StratifiedSample(np.array([[2, 18]]), np.array([20]))
    found = estimate_mean(sample, np.array([0, 1]))
    assert (found.value, found.standard_error, found.interval) == (0.9, 0, None)


def test_a_true_class_may_lie_where_it_was_not_seen() -> None:
    """All 30 points of the class are right; it may yet be missed among 300 points elsewhere."""
    counts = np.array([[[30, 0], [0, 0]], [[0, 0], [0, 300]]])
    sample = StratifiedSample(counts, np.array([1_000, 99_000]))
    first = np.array([[1, 0], [1, 0]])
    found = estimate_of_part(sample, np.eye(2) * first, first, extent_known=False)
    assert found.value == 1
    low, high = found.interval
    assert high == 1
    assert 0.3 < low < 0.6
    mapped = estimate_of_part(sample, np.eye(2) * first, first.T, extent_known=True)
    assert mapped.interval[0] == pytest.approx(0.025 ** (1 / 30))


@pytest.mark.parametrize("accuracy", [0.7, 0.85])
def test_intervals_cover_the_truth(accuracy: float) -> None:
    """Strata of another map than the one that is measured."""
    rng = np.random.default_rng(int(100 * accuracy))
    n = 40_000
    truth = rng.choice(3, n, p=[0.15, 0.35, 0.5])

    def noisy() -> np.ndarray:
        return np.where(rng.random(n) < accuracy, truth, rng.integers(0, 3, n))

    strata, mapped = noisy(), noisy()
    sizes = np.bincount(strata)
    of_second = np.tile([0, 1, 0], (3, 1))
    right = np.eye(3)
    true_values = (
        (mapped == truth).mean(),
        (truth == 1).mean(),
        (mapped == truth)[truth == 1].mean(),
        (mapped == truth)[mapped == 1].mean(),
    )
    covered = np.zeros(4)
    trials = 400
    members = [np.flatnonzero(strata == h) for h in range(3)]
    for _ in range(trials):
        counts = np.zeros((3, 3, 3))
        for h, own in enumerate(members):
            drawn = own[rng.integers(0, len(own), 120)]
            np.add.at(counts[h], (mapped[drawn], truth[drawn]), 1)
        sample = StratifiedSample(counts, sizes)
        found = (
            estimate_mean(sample, right),
            estimate_mean(sample, of_second),
            estimate_of_part(sample, right * of_second, of_second, extent_known=False),
            estimate_of_part(sample, right * of_second, of_second.T, extent_known=True),
        )
        for i, (estimate, true_value) in enumerate(zip(found, true_values, strict=True)):
            covered[i] += estimate.interval[0] <= true_value <= estimate.interval[1]
    assert (covered / trials > 0.92).all()
    assert (covered / trials < 0.98).all()
