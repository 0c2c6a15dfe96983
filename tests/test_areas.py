"""Areas of classes: the published worked example, and what few test pixels can tell."""

from __future__ import annotations

import numpy as np
import pytest

from hsifcn.core.errors import MismatchError
from hsifcn.evaluation.areas import area_estimates
from hsifcn.evaluation.metrics import confusion_matrix


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
    assert (found.standard_error == 0).all()
    assert (found.interval[:, 0] < found.proportion).all()
    assert (found.interval[:, 1] > found.proportion).all()
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
