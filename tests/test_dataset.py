"""Scenes with their labels and splits."""

from __future__ import annotations

import numpy as np
import pytest
from cli_helpers import small_scene

from hsifcn.core.errors import LabelError, MismatchError
from hsifcn.data.dataset import Labelling, open_dataset
from hsifcn.data.splits import fields


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


def test_classes_are_those_that_train(tmp_path):
    """A class with test pixels alone comes last, is told, and is no class of the network."""
    _, labels = small_scene(tmp_path)
    left = np.arange(24) < 12
    np.save(tmp_path / "train.npy", np.where(left, 100 * labels.astype(int), 0))
    np.save(tmp_path / "test.npy", np.where(left, 0, 200 * labels.astype(int)))
    recipe = f"fixed:{tmp_path / 'train.npy'},{tmp_path / 'test.npy'}"
    dataset = open_dataset([str(tmp_path / "cube.npy")], [None], recipe, 0)
    (split,) = dataset.splits
    assert dataset.class_names == ("class 100", "class 200", "class 300")
    assert dataset.class_codes == (100, 200, 300)
    assert dataset.untrained_names == ("class 400", "class 600")
    assert len(set(dataset.label_colours)) == 5
    assert set(np.unique(split.labels[split.test])) == {2, 4, 5}
    assert any("class 600 has no training pixels" in text for text in split.warnings)


@pytest.mark.parametrize("given", ["cube_gt.npy", None])
def test_a_fixed_split_counts_fields_on_the_whole_labels(tmp_path, given):
    """Training and test labels with a gap between them lie in one field all the same."""
    _, labels = small_scene(tmp_path)
    cols = np.arange(24)
    np.save(tmp_path / "train.npy", np.where(cols < 11, labels, 0))
    np.save(tmp_path / "test.npy", np.where(cols > 12, labels, 0))
    recipe = f"fixed:{tmp_path / 'train.npy'},{tmp_path / 'test.npy'}"
    path = given and str(tmp_path / given)
    (split,) = open_dataset([str(tmp_path / "cube.npy")], [path], recipe, 0).splits
    numbers = fields(labels)
    shared = np.isin(numbers[split.test], numbers[split.train | split.validation])
    assert shared.any()
    assert split.leakage()["test_in_shared_fields"] == shared.mean()


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
