from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from hsifcn.core.errors import LabelError, MismatchError
from hsifcn.core.scene import Grid, LabelMap, default_class_names, default_colours
from hsifcn.data.splits import Split
from hsifcn.evaluation.evaluate import evaluate


def label_map(array, names=None):
    labels = np.asarray(array, np.uint8)
    names = default_class_names(int(labels.max())) if names is None else names
    return LabelMap(labels, names, default_colours(len(names)))


TRUTH = label_map([[1, 1, 1, 1], [2, 2, 2, 0], [3, 3, 0, 0]])
MAP = label_map([[1, 1, 1, 2], [2, 2, 2, 2], [3, 0, 3, 3]])


def split_of(truth, train_cols):
    train = np.zeros(truth.labels.shape, bool)
    train[:, :train_cols] = True
    labelled = truth.labels > 0
    return Split(
        labels=truth.labels.astype(np.uint16),
        train=train & labelled,
        validation=np.zeros_like(train),
        test=~train & labelled,
        recipe="fixed",
        seed=0,
    )


def test_measures_by_hand():
    result = evaluate(MAP, TRUTH)
    assert result["confusion"] == [[3, 1, 0], [0, 3, 0], [0, 0, 1]]
    assert result["unclassified"] == [0, 0, 1]
    assert result["oa"] == pytest.approx(7 / 9)
    assert result["aa"] == pytest.approx((3 / 4 + 1 + 1 / 2) / 3)
    assert result["per_class"]["class 1"]["n_train"] is None
    assert result["split"] is None


def test_areas_are_shares_of_the_whole_map():
    areas = evaluate(MAP, TRUTH)["areas"]
    assert [area["mapped"] for area in areas.values()] == pytest.approx([3 / 12, 5 / 12, 3 / 12])


def test_areas_leave_out_what_has_no_measurement():
    """A map of no class where no pixel counts, as along the border of a flight line."""
    found = label_map([[0, 1, 1, 2, 2, 0], [0, 1, 1, 2, 2, 0]])
    truth = label_map([[0, 1, 1, 2, 2, 0], [0, 1, 1, 2, 1, 0]])
    result = evaluate(found, truth)
    assert [area["mapped"] for area in result["areas"].values()] == [0.5, 0.5]
    assert [area["proportion"] for area in result["areas"].values()] == [0.5 + 0.125, 0.375]
    assert any("without the 4 unclassified pixels" in note for note in result["notes"])


def test_areas_say_which_classes_were_taken_together():
    found = label_map([[1, 1, 1, 2, 3], [1, 1, 1, 2, 3]], ("oak", "corn", "hay"))
    truth = label_map([[1, 1, 1, 2, 3], [1, 1, 1, 0, 0]], ("oak", "corn", "hay"))
    result = evaluate(found, truth)
    assert [area["proportion"] for area in result["areas"].values()] == [0.6, 0.2, 0.2]
    assert any("corn, hay, as mapped, are one stratum" in note for note in result["notes"])
    single = label_map([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], ("oak", "corn", "hay"))
    unknown = evaluate(found, single)
    assert {area["proportion"] for area in unknown["areas"].values()} == {None}
    assert any("unknown from fewer than two" in note for note in unknown["notes"])


@pytest.mark.parametrize(("crs", "square_metres"), [("EPSG:32616", 900.0), ("EPSG:4326", None)])
def test_areas_in_square_metres_where_the_grid_tells(crs, square_metres):
    grid = Grid(crs, (30.0, 0.0, 500_000.0, 0.0, -30.0, 4_000_000.0))
    placed = LabelMap(MAP.labels, MAP.class_names, MAP.colours, grid)
    for area in evaluate(placed, TRUTH)["areas"].values():
        if square_metres is None:
            assert area["square_metres"] is area["square_metres_interval"] is None
        else:
            assert area["square_metres"] == pytest.approx(12 * square_metres * area["proportion"])


def test_a_split_counts_its_test_pixels_only():
    result = evaluate(MAP, TRUTH, split_of(TRUTH, 1))
    assert result["confusion"] == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert [row["n_train"] for row in result["per_class"].values()] == [1, 1, 1]
    assert result["split"]["leakage"]["test_touching"] == pytest.approx(3 / 6)
    assert any(note.startswith("Leakage: 50.0 %") for note in result["notes"])


def test_training_pixels_count_for_nothing():
    wrong = MAP.labels.copy()
    wrong[:, 0] = 2
    split = split_of(TRUTH, 1)
    assert evaluate(label_map(wrong), TRUTH, split)["oa"] == evaluate(MAP, TRUTH, split)["oa"]


@pytest.mark.parametrize("more", ["map", "truth"])
def test_classes_that_one_of_both_lacks(more):
    few, many = label_map([[1, 2], [1, 2]]), label_map([[1, 2], [3, 2]], ("a", "b", "c"))
    result = evaluate(many, few) if more == "map" else evaluate(few, many)
    assert result["class_names"] == ["a", "b", "c"]
    assert np.shape(result["confusion"]) == (3, 3)


def test_a_map_that_classifies_nothing_that_counts():
    blank = label_map(np.where(TRUTH.labels > 0, 0, 1))
    result = evaluate(blank, TRUTH)
    assert result["oa"] == 0
    assert result["unclassified"] == [4, 3, 2]


def test_sizes_must_agree():
    with pytest.raises(MismatchError, match=r"\(3, 4\).*\(2, 4\)"):
        evaluate(MAP, label_map(TRUTH.labels[:2]))


def test_the_split_must_be_of_the_labels():
    other = TRUTH.labels.copy()
    other[0, 3] = 3
    other[0, 0] = 3  # a training pixel, which does not matter
    with pytest.raises(MismatchError, match="1 of 6 test pixels"):
        evaluate(MAP, label_map(other), split_of(TRUTH, 1))
    with pytest.raises(MismatchError, match="the split is"):
        evaluate(MAP, TRUTH, split_of(label_map(TRUTH.labels[:2]), 1))


def test_two_classes_of_one_name():
    with pytest.raises(LabelError, match="name of its own"):
        evaluate(MAP, LabelMap(TRUTH.labels, ("a", "a", "b"), TRUTH.colours))


def test_a_class_of_two_numbers_is_matched_by_name():
    other = LabelMap(TRUTH.labels, ("class 1", "oak", "corn"), TRUTH.colours)
    mapped = LabelMap(np.array([0, 1, 3, 2])[MAP.labels], ("class 1", "corn", "oak"), MAP.colours)
    with pytest.warns(UserWarning, match="is 3 in the labels and 2 in the map"):
        result = evaluate(mapped, other)
    assert (result["oa"], result["class_names"]) == (
        pytest.approx(7 / 9),
        ["class 1", "corn", "oak"],
    )


def test_area_weighted_accuracy_by_hand():
    """Of class 1, half of the map, all 2 test pixels are right; of class 2 it is 1 of 2."""
    found = label_map([[1, 1, 1, 1], [2, 2, 2, 2]])
    truth = label_map([[1, 1, 0, 0], [2, 1, 0, 0]])
    assert evaluate(found, truth)["oa_area_weighted"] == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    wide = label_map([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 2, 2]])
    few = label_map([[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 2, 1]])
    assert evaluate(wide, few)["oa_area_weighted"] == pytest.approx(10 / 12 + 2 / 12 * 0.5)


def test_counting_in_parts_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    truth = label_map(np.kron(rng.integers(0, 4, (5, 6)), np.ones((4, 4), int)))
    found = label_map(np.where(rng.random(truth.labels.shape) < 0.2, 1, truth.labels))
    whole = evaluate(found, truth)
    monkeypatch.setattr("hsifcn.evaluation.metrics.PART_PIXELS", 7)
    assert evaluate(found, truth) == whole


def test_memory_is_what_was_said():
    """A process of its own is refused, told what it takes, and keeps within that."""
    code = """
import numpy as np
from hsifcn.core.errors import MemoryCeilingError
from hsifcn.evaluation.evaluate import evaluate
from hsifcn.core.process import peak_rss_bytes
from hsifcn.core.scene import LabelMap, default_class_names, default_colours
labels = np.kron(np.arange(1200).reshape(30, 40) % 5, np.ones((100, 100), int)).astype(np.uint8)
labels = LabelMap(labels, default_class_names(4), default_colours(4))
try:
    evaluate(labels, labels, max_memory=10**8)
except MemoryCeilingError as error:
    print(error.remedy)
evaluate(labels, labels, max_memory=10**10)
print(peak_rss_bytes())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told, peak = done.stdout.splitlines()
    needed = 1e6 * int(re.search(r"--max-memory (\d+)M", told)[1])
    assert 0.75 * needed < int(peak) < needed
