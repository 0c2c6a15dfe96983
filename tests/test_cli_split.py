"""``hsifcn split``."""

from __future__ import annotations

import numpy as np
import pytest
from cli_helpers import assert_refused, command, small_scene, snapshot

from hsifcn.data.splits import read_split

KEYS = {"recipe", "seed", "digest", "n_train", "n_validation", "n_test", "leakage", "out"}


@pytest.fixture
def folder(tmp_path):
    small_scene(tmp_path)
    return tmp_path


def test_the_file_is_what_is_printed(folder):
    done = command(folder, "split", "cube.npy", "-o", "split.npz", "--json")
    assert done.code == 0
    facts = done.json
    assert facts.keys() >= KEYS
    assert facts["leakage"].keys() >= {"test_touching", "test_within", "test_in_shared_fields"}
    with np.load(folder / "split.npz") as stored:
        masks = {name: stored[name] for name in ("train", "validation", "test")}
    assert all(mask.dtype == bool and mask.shape == (20, 24) for mask in masks.values())
    counts = [int(mask.sum()) for mask in masks.values()]
    assert counts == [facts["n_train"], facts["n_validation"], facts["n_test"]]
    assert sum(masks.values()).max() == 1
    assert read_split(folder / "split.npz").digest == facts["digest"]


def test_the_text(folder):
    done = command(folder, "split", "cube.npy", "-o", "split.npz")
    assert done.err == "labels of cube.npy: cube_gt.npy\n"
    for part in ("class 3", "training, ", "digest ", "% of the test pixels touch"):
        assert part in done.out


def test_the_seed_decides(folder):
    def digest(name, *options):
        done = command(folder, "split", "cube.npy", "-o", name, "--json", *options)
        return done.json["digest"]

    first = digest("a.npz")
    assert digest("b.npz") == first
    assert digest("c.npz", "--seed", "1") != first
    assert (folder / "a.npz").read_bytes() == (folder / "b.npz").read_bytes()


@pytest.mark.parametrize(
    "recipe",
    [
        "random:0.2",
        "per-class:10:val=0.3",
        "blocks:5:gap=1:train=0.3",
        "checkerboard:6:gap=1",
        "fields:0.3:gap=1",
        "fixed:train.npy,test.npy",
    ],
)
def test_every_recipe(folder, recipe):
    labels = np.load(folder / "cube_gt.npy")
    np.save(folder / "train.npy", np.where(np.arange(24) < 12, labels, 0))
    np.save(folder / "test.npy", np.where(np.arange(24) < 12, 0, labels))
    done = command(folder, "split", "cube.npy", "-s", recipe, "-o", "split.npz", "--json")
    assert done.code == 0, done.err
    assert done.json["recipe"].startswith(recipe.split(":")[0])
    assert min(done.json["n_train"], done.json["n_test"]) > 0


def test_a_class_of_one_pixel_is_told(folder):
    labels = np.load(folder / "cube_gt.npy")
    labels[0, 0] = 4
    np.save(folder / "one.npy", labels)
    done = command(folder, "split", "cube.npy", "-l", "one.npy", "-o", "split.npz")
    assert done.code == 0
    assert done.err == "warning: class 4 has no test pixels (1 labelled)\n"


def test_what_exists_is_kept_unless_told(folder):
    target = folder / "split.npz"
    target.write_bytes(b"mine")
    again = ["split", "cube.npy", "-q", "-o", "split.npz"]
    assert_refused(command(folder, *again), "split.npz exists", "--overwrite")
    assert target.read_bytes() == b"mine"
    assert command(folder, *again, "--overwrite").code == 0
    read_split(target)


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    cube, labels = small_scene(folder)
    np.save(folder / "lone.npy", cube)
    np.save(folder / "zero.npy", labels * 0)
    np.save(folder / "small.npy", labels[:5])
    one = labels * 0
    one[3, 3] = 1
    np.save(folder / "one.npy", one)
    return folder


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nosuch.mat"], ["nosuch.mat does not exist"]),
        (["nosuch.mat", "-l", "cube_gt.npy"], ["nosuch.mat does not exist"]),
        (["lone.npy"], ["no labels for lone.npy", "-l"]),
        (["cube.npy", "-l", "small.npy"], ["small.npy is 5x24", "20x24", "labels of its size"]),
        (["cube.npy", "-l", "zero.npy"], ["zero.npy labels no pixel"]),
        (["cube.npy", "-l", "cube_gt.npy", "-l", "cube_gt.npy"], ["cube_gt.npy is named twice"]),
        (["cube.npy", "-s", "nosuch"], ["no split 'nosuch'", "random:0.1"]),
        (["cube.npy", "-s", "random:7"], ["random:7", "between 0 and 1"]),
        (["cube.npy", "-s", "random:nan"], ["random:nan"]),
        (["cube.npy", "-s", "blocks:50"], ["blocks:50", "smaller blocks"]),
        (["cube.npy", "-s", "fixed:a.npy"], ["fixed:a.npy", "two label files"]),
        (["cube.npy", "-s", "fixed:nosuch.npy,zero.npy"], ["nosuch.npy does not exist"]),
        (["cube.npy", "-s", "fixed:cube_gt.npy,cube_gt.npy"], ["share", "one of the two"]),
        (["cube.npy", "-o", "nosuch/s.npz"], ["nosuch is no folder"]),
        (["cube.npy", "-o", "lone.npy/s.npz"], ["lone.npy is no folder"]),
        (["cube.npy", "-o", "."], [". is a folder"]),
        (["lone.npy", "-l", "one.npy"], ["no test pixels"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input(bad_folder, arguments, parts):
    before = snapshot(bad_folder)
    done = command(bad_folder, "split", "-o", "split.npz", *arguments, "-q")
    assert_refused(done, *parts)
    assert snapshot(bad_folder) == before


def test_a_fixed_split_is_audited(folder):
    labels = np.load(folder / "cube_gt.npy")
    train, test = labels.copy(), labels.copy()
    train[10:], test[:10] = 0, 0
    test[test == 3] = 0
    rows, cols = np.nonzero(test)
    test[rows[0], cols[0]] = 1 + test[rows[0], cols[0]] % 2
    train[0, 4] = 1  # in a seam
    np.save(folder / "train.npy", train)
    np.save(folder / "test.npy", test)
    before = snapshot(folder)
    done = command(
        folder, "split", "cube.npy", "-l", "cube_gt.npy", "-s", "fixed:train.npy,test.npy"
    )
    assert done.code == 0
    assert f"test.npy labels 1 of its {len(rows):,} pixels otherwise than" in done.err
    assert f"train.npy labels 1 of its {(train > 0).sum():,} pixels that are unl" in done.err
    assert "class 3 has no test pixels" in done.err
    assert "% of the test pixels touch" in done.out
    assert snapshot(folder) == before
    train[rows[0], cols[0]] = labels[rows[0], cols[0]]
    np.save(folder / "train.npy", train)
    done = command(
        folder, "split", "cube.npy", "-l", "cube_gt.npy", "-s", "fixed:train.npy,test.npy"
    )
    assert_refused(done, "share 1 labelled pixels, 1 of them with different labels")


def test_a_split_of_a_file_is_the_same_split(folder):
    first = command(folder, "split", "cube.npy", "-s", "fields:0.3", "-o", "split.npz", "--json")
    again = command(folder, "split", "cube.npy", "-s", "split.npz", "--json")
    assert again.json["digest"] == first.json["digest"]


def test_several_label_files_of_one_scene(folder):
    labels = np.load(folder / "cube_gt.npy")
    rows, cols = np.nonzero(labels)
    np.save(folder / "west.npy", np.where(np.arange(24) < 12, labels, 0))
    lines = [f"{r},{c},{labels[r, c]}" for r, c in zip(rows, cols, strict=True) if c >= 11]
    first_of_west = next(i for i, line in enumerate(lines) if line.split(",")[1] == "11")
    r, c, code = lines[first_of_west].split(",")
    lines[first_of_west] = f"{r},{c},{1 + int(code) % 3}"
    (folder / "east.csv").write_text("row,col,class\n" + "\n".join(lines) + "\n")
    whole = command(folder, "split", "cube.npy", "-s", "all", "--json")
    parts = ["-l", "west.npy", "-l", "east.csv"]
    done = command(folder, "split", "cube.npy", *parts, "-s", "all", "--json", "-o", "all.npz")
    assert done.code == 0, done.err
    assert "1 pixels of east.csv have another class in west.npy: nothing labels them" in done.err
    assert done.json["n_train"] + done.json["n_validation"] == (labels > 0).sum() - 1
    assert done.json["class_codes"] == whole.json["class_codes"]
    found = read_split(folder / "all.npz").labels
    assert found[int(r), int(c)] == 0
    assert (found[found > 0] == labels[found > 0]).all()


def test_labels_that_a_split_does_not_know_train(folder):
    labels = np.load(folder / "cube_gt.npy")
    np.save(folder / "west.npy", np.where(np.arange(24) < 12, labels, 0))
    first = ["split", "cube.npy", "-l", "west.npy", "-s", "fields:0.3:gap=2", "-o", "a.npz"]
    assert command(folder, *first).code == 0
    done = command(folder, "split", "cube.npy", "-s", "a.npz", "-o", "b.npz")
    assert done.code == 0
    old, new = (read_split(folder / name) for name in ("a.npz", "b.npz"))
    east = (labels > 0) & (np.arange(24) >= 12)
    assert f"{east.sum():,} labelled pixels are new" in done.err
    assert (new.train == (old.train | east)).all()
    assert (new.test == old.test).all()
