"""Scenes with their labels and splits."""

from __future__ import annotations

import numpy as np
import pytest
from cli_helpers import small_scene

from hsifcn.core.errors import LabelError, MismatchError
from hsifcn.core.scene import LabelMap, default_class_names, default_colours
from hsifcn.data.dataset import Labelling, common_class_names, open_dataset


def test_dataset(tmp_path):
    small_scene(tmp_path)
    small_scene(tmp_path, "four.npy", classes=4, seed=1)
    paths = [tmp_path / "cube.npy", tmp_path / "four.npy"]
    labels = [tmp_path / "cube_gt.npy", tmp_path / "four_gt.npy"]
    dataset = open_dataset([str(p) for p in paths], [str(p) for p in labels], "random:0.2", 3)
    assert len(dataset.class_names) == len(dataset.colours) == 4
    assert [split.seed for split in dataset.splits] == [3, 3]
    assert [split.labels.max() for split in dataset.splits] == [3, 4]


def test_one_class_is_told(tmp_path):
    _, labels = small_scene(tmp_path)
    np.save(tmp_path / "one.npy", np.where(labels == 2, 2, 0))
    with pytest.warns(UserWarning, match=r"one\.npy labels one class only"):
        open_dataset([str(tmp_path / "cube.npy")], [str(tmp_path / "one.npy")], "random:0.2", 0)


def test_a_fixed_split_brings_its_own_labels(tmp_path):
    _, labels = small_scene(tmp_path)
    left = np.arange(24) < 12
    np.save(tmp_path / "train.npy", np.where(left, labels, 0))
    np.save(tmp_path / "test.npy", np.where(left, 0, labels * 2))
    recipe = f"fixed:{tmp_path / 'train.npy'},{tmp_path / 'test.npy'}"
    dataset = open_dataset([str(tmp_path / "cube.npy")], [str(tmp_path / "cube_gt.npy")], recipe, 0)
    assert dataset.class_names == tuple(f"class {number}" for number in range(1, 7))
    assert len(set(dataset.colours)) == 6
    assert set(np.unique(dataset.splits[0].labels[dataset.splits[0].test])) == {2, 4, 6}


def test_bad_dataset(tmp_path):
    _, labels = small_scene(tmp_path)
    scene, truth = str(tmp_path / "cube.npy"), str(tmp_path / "cube_gt.npy")
    np.save(tmp_path / "small.npy", labels[1:])
    with pytest.raises(MismatchError, match=r"small.npy is 19x24 pixels, .*cube.npy is 20x24"):
        open_dataset([scene], [str(tmp_path / "small.npy")], "random:0.1", 0)
    (tmp_path / "names.txt").write_text("corn\noak\ncorn\n")
    names = str(tmp_path / "names.txt")
    with pytest.raises(LabelError, match=r"names.txt has two classes called 'corn'"):
        open_dataset([scene], [truth], "random:0.1", 0, labelling=Labelling(class_names=names))
    (tmp_path / "names.txt").write_text("class 3\n")  # as class 3 is called without a name
    with pytest.raises(LabelError, match="'class 3'"):
        open_dataset([scene], [truth], "random:0.1", 0, labelling=Labelling(class_names=names))


def named(*names):
    return LabelMap(np.zeros((2, 2), np.uint8), names, default_colours(len(names)))


def test_names_of_several_label_maps():
    unnamed = named(*default_class_names(4))
    full, part = named("corn", "oak", "hay"), named("corn", "class 2", "hay")
    common = common_class_names([unnamed, part, full], "abc", 2)
    assert common == ("corn", "oak", "hay", "class 4")
    assert common_class_names([part], "a", 5) == ("corn", "class 2", "hay", "class 4", "class 5")


def test_one_class_with_two_names_is_refused():
    maps = [named("corn", "oak"), named("corn", "hay", "oak")]
    message = "class 2 is 'hay' in b.gpkg and 'oak' in labels before it; .*--class-names"
    with pytest.raises(LabelError, match=message):
        common_class_names(maps, ["a.gpkg", "b.gpkg"], 1)
