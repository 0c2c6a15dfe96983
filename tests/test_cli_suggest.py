"""``hsifcn suggest``: points where labels are wanted."""

from __future__ import annotations

import csv
import json
import shlex

import numpy as np
import pyogrio
import pytest
import scipy.io
from cli_helpers import assert_refused, command, copy_of_finished, snapshot

from hsifcn.data.splits import read_split
from hsifcn.inference.bundle import load_model
from hsifcn.inference.suggest import spectral_likeness, suggest
from hsifcn.io import open_scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run; no test changes what is in it."""
    folder = tmp_path_factory.mktemp("suggest")
    copy_of_finished(folder)
    return folder


def test_likeness_is_that_of_shape_not_of_brightness() -> None:
    rng = np.random.default_rng(0)
    kinds = np.repeat(rng.random((3, 20)), 30, axis=0) + 0.01 * rng.random((90, 20))
    bright = kinds * rng.uniform(0.5, 2, (90, 1))
    likeness = spectral_likeness(bright)
    np.testing.assert_allclose(likeness, likeness.T)
    assert (np.diag(likeness) > 0.999).all()
    same = np.repeat(np.arange(3), 30)[:, None] == np.repeat(np.arange(3), 30)
    assert likeness[same].mean() > 5 * likeness[~same].mean()


def test_points_lie_apart_and_away_from_labels(folder):
    bundle = load_model(folder / "runs/cube/model.safetensors")
    scene = open_scene(folder / "scene.npy")
    labelled = np.zeros((20, 24), bool)
    labelled[:, :8] = True
    found = suggest(bundle, scene, 12, labelled=labelled, distance=2)
    assert len(found.rows) == 12
    assert found.cols.min() > 9
    for i in range(12):
        away = np.maximum(abs(found.rows - found.rows[i]), abs(found.cols - found.cols[i]))
        assert np.sort(away)[1] > 2
    again = suggest(bundle, scene, 12, labelled=labelled, distance=2)
    assert again.rows.tolist() == found.rows.tolist()


@pytest.mark.parametrize("name", ["next.csv", "next.gpkg"])
def test_points_are_written_with_class_and_confidence(folder, name):
    arguments = ["runs/cube", "scene.npy", "-n", "5", "--measure", "entropy", "-o", name]
    done = command(folder, "suggest", *arguments, "--json")
    assert done.code == 0, done.err
    assert len(done.json["points"]) == 5
    if name.endswith(".csv"):
        with (folder / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["row"]) for row in rows] == [p["row"] for p in done.json["points"]]
        assert all(row["predicted"].startswith("class ") for row in rows)
        assert all(0 < float(row["confidence"]) <= 1 for row in rows)
    else:
        assert pyogrio.read_info(folder / name)["features"] == 5


def test_the_text(folder):
    done = command(folder, "suggest", "runs/cube", "scene.npy", "-n", "3")
    assert done.code == 0
    assert "looks alike %" in done.out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["runs/cube", "scene.npy", "-n", "3", "-o", "p.shp"], ["p.shp", ".gpkg or .csv"]),
        (["runs/cube", "nosuch.npy", "-n", "3"], ["nosuch.npy does not exist"]),
        (["nosuch.safetensors", "scene.npy", "-n", "3"], ["nosuch.safetensors"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input(folder, arguments, parts):
    before = snapshot(folder)
    assert_refused(command(folder, "suggest", *arguments, "-q"), *parts)
    assert snapshot(folder) == before


@pytest.mark.slow
def test_old_and_new_labels_train_together(tmp_path):
    """As the printed command says: the new labels train, the test pixels stay as they were."""
    copy_of_finished(tmp_path)
    labels = scipy.io.loadmat(tmp_path / "cube_gt.mat")["cube_gt"]
    some = np.where(np.arange(24) < 16, labels, 0)
    np.save(tmp_path / "some.npy", some)
    words = ["-l", "some.npy", "-s", "random:0.3", "-o", "run", "--steps", "2", "-q"]
    assert command(tmp_path, "train", "scene.npy", *words).code == 0
    done = command(tmp_path, "suggest", "run", "-n", "9", "-o", "next.csv", "--distance", "1")
    assert done.code == 0, done.err
    with (tmp_path / "next.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    filled = 0
    for row in rows[:-1]:  # the last one stays blank
        code = labels[int(row["row"]), int(row["col"])]
        row["class"] = f"class {code}" if code else ""
        filled += bool(code)
    assert filled > 2
    with (tmp_path / "next.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    after = shlex.split(done.out.partition("next: hsifcn ")[2])
    again = command(tmp_path, *after, "--steps", "2")
    assert again.code == 0, again.err
    assert f"{filled} labelled pixels are new" in again.err
    first, second = (read_split(tmp_path / name / "split.npz") for name in ("run", "run-more"))
    assert second.n_train == first.n_train + filled
    assert (second.test == first.test).all()
    assert (second.labels[second.train] == labels[second.train]).all()
    metrics = json.loads((tmp_path / "run-more/metrics.json").read_text("utf-8"))
    assert metrics["class_names"] == ["class 1", "class 2", "class 3"]
