"""Cross-validation: every label tests once, in whole units and with a gap."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_helpers import command, small_scene
from scipy import ndimage

from hsifcn.core.scene import LabelMap
from hsifcn.training.folds import fold_splits


def label_map(labels, features=None):
    n = int(np.max(labels))
    names = tuple(f"c{i}" for i in range(1, n + 1))
    return LabelMap(np.asarray(labels, np.uint8), names, ((1, 2, 3),) * n, features=features)


def blocks(rows=6, cols=8, size=5):
    """Fields of 5 x 5 pixels of three classes in turn, two pixels apart."""
    labels = np.zeros((rows * (size + 2), cols * (size + 2)), np.uint8)
    for i in range(rows):
        for j in range(cols):
            top, left = i * (size + 2), j * (size + 2)
            labels[top : top + size, left : left + size] = 1 + (i + 2 * j) % 3
    return labels


def test_every_label_tests_once_and_fields_stay_whole() -> None:
    labels = blocks()
    folds = fold_splits([label_map(labels)], 5, seed=2)
    tested = sum(split.test.astype(int) for (split,) in folds)
    assert (tested == (labels > 0)).all()
    for (split,) in folds:
        numbers, _ = ndimage.label(labels > 0)
        for number in np.unique(numbers[split.test]):
            assert split.test[numbers == number].all()
        assert not split.test[split.train | split.validation].any()
        assert split.leakage()["test_within"]["2"] == 0
        assert set(labels[split.test]) == {1, 2, 3}


def test_a_single_field_is_cut_and_a_gap_kept() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[5:35, 2:28], labels[5:35, 32:58] = 1, 2
    folds = fold_splits([label_map(labels)], 4)
    assert len(folds) == 4
    for (split,) in folds:
        assert split.leakage()["test_within"]["2"] == 0
        assert 0.2 < split.test.sum() / (labels > 0).sum() < 0.3


def test_features_of_one_file_are_units_over_scenes() -> None:
    features = np.repeat(np.arange(1, 9, dtype=np.int32), 10).reshape(8, 10)
    labels = np.where(features % 2, 1, 2)
    maps = [label_map(labels, features), label_map(labels, features)]
    for a, b in fold_splits(maps, 4, sources=("f.gpkg", "f.gpkg")):
        assert set(features[a.test]) == set(features[b.test])
        assert len(set(features[a.test])) == 2


def test_one_label_a_class() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[2, 2], labels[10, 10], labels[17, 3] = 1, 2, 3
    folds = fold_splits([label_map(labels)], 5)
    assert sum(int(split.test.sum()) for (split,) in folds) == 3
    for (split,) in folds:
        assert split.n_train + split.n_validation == 3 - split.n_test


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A scene with a finished run of two folds."""
    folder = tmp_path_factory.mktemp("folds")
    small_scene(folder)
    done = command(folder, "train", "cube.npy", "--folds", "2", "--steps", "20", "-o", "run")
    assert done.code == 0, done.err
    (folder / "out").write_text(done.out)
    (folder / "err").write_text(done.err)
    return folder


def test_the_model_learns_all_labels_and_accuracy_is_of_the_folds(folder):
    metrics = json.loads((folder / "run/metrics.json").read_text())
    labels = np.load(folder / "cube_gt.npy")
    n = np.count_nonzero(labels)
    assert np.sum(metrics["confusion"]) + sum(metrics["unclassified"]) == n
    with np.load(folder / "run/split.npz") as split:
        assert ((split["train"] | split["validation"]) == (labels > 0)).all()
    assert metrics["split"]["n_test"] == n
    assert metrics["split"]["n_train"] + metrics["split"]["n_validation"] == n
    assert metrics["folds"]["n"] == len(metrics["folds"]["oa"]) == 2
    assert metrics["oa"] > 0.5
    low, high = metrics["intervals"]["oa"]
    assert low <= metrics["oa"] <= high
    assert metrics["split"]["leakage"]["test_touching"] == 0
    assert "fold 2 of 2: OA" in (folder / "err").read_text()
    told = " ".join((folder / "out").read_text().split())
    assert "of 2 folds over fields; the model that is kept learnt all labels" in told
    page = (folder / "run/report.html").read_text()
    assert "the model has learnt all labels" in " ".join(page.split())


def test_folds_and_a_split_exclude_each_other(folder):
    done = command(folder, "train", "cube.npy", "--folds", "2", "-s", "random:0.1", "-o", "other")
    assert done.code == 2
    assert "--folds splits the labels itself" in done.err
