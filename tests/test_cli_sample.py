"""``hsifcn sample``, and ``hsifcn evaluate`` with what it drew."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from cli_helpers import assert_refused, command, copy_of_finished, snapshot
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run with its map; no test changes what is in it."""
    folder = tmp_path_factory.mktemp("sample")
    run = copy_of_finished(folder)
    assert command(folder, "predict", "runs/cube", "scene.npy", "-o", "map.img").code == 0
    with np.load(run / "split.npz") as split:
        np.save(folder / "gt.npy", split["labels"])
    return folder


def interpret(folder, name):
    """Fill in the true class of each point from the ground truth, where there is one."""
    truth = np.load(folder / "gt.npy")
    with (folder / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["reference"] = str(truth[int(row["row"]), int(row["col"])])
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_from_a_map_to_its_accuracy(folder):
    options = ["-n", "60", "--scene", "scene.npy", "--sheet", "sheet.png"]
    done = command(folder, "sample", "map.img", *options, "-o", "points.csv", "--json")
    assert (done.code, done.err) == (0, "")
    assert sum(stratum["points"] for stratum in done.json["strata"]) == 60
    assert min(Image.open(folder / "sheet.png").size) > 500
    interpret(folder, "points.csv")
    done = command(folder, "evaluate", "map.img", "points.csv")
    assert done.code == 0
    assert done.out.startswith("These figures hold for the map as a whole")
    for part in ("user's %", "producer's %", "area %", "95 % interval", "OA"):
        assert part in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    measured = command(folder, "evaluate", "map.img", "points.csv", "-q", "--json").json
    truth = np.load(folder / "gt.npy")
    known = truth > 0
    mapped = command(folder, "evaluate", "map.img", "gt.npy", "-q", "--json").json
    low, high = measured["intervals"]["oa"]
    assert low <= mapped["oa"] <= high
    assert sum(row["interpreted"] for row in measured["strata"].values()) < 60 or known.all()


def test_labels_are_told_to_be_no_sample(folder):
    done = command(folder, "evaluate", "map.img", "gt.npy", "-q", "--against", "map.img")
    assert done.out.startswith("These figures hold for the labelled pixels.")
    assert "OA less that of the second map  +0.00 points" in done.out


def test_points_keep_clear_of_training_pixels(folder):
    options = ["-n", "40", "--away-from", "runs/cube/split.npz", "--distance", "1"]
    assert command(folder, "sample", "map.img", *options, "-o", "clear.csv").code == 0
    with np.load(folder / "runs/cube/split.npz") as split:
        rows, cols = np.nonzero(split["train"] | split["validation"])
    with (folder / "clear.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            away = np.maximum(abs(rows - int(row["row"])), abs(cols - int(row["col"])))
            assert away.min() > 1


def test_expected_accuracies_come_from_a_run_or_by_hand(folder):
    options = ["-n", "60", "--allocation", "neyman", "--minimum", "2", "--json"]
    given = ["--expected", "runs/cube/metrics.json", "--expected", "class 1=0.5"]
    done = command(folder, "sample", "map.img", *options, *given, "-o", "neyman.csv")
    points = {row["stratum"]: row["points"] for row in done.json["strata"]}
    assert points["class 1"] > 30


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["map.img", "-n", "20", "-o", "p.txt"], ["p.txt", ".gpkg or .csv"]),
        (["map.img", "-n", "2", "-o", "p.csv"], ["too few"]),
        (["map.img", "-n", "99999", "-o", "p.csv"], ["more than the 480 pixels"]),
        (["map.img", "-n", "20", "-o", "nosuch/p.csv"], ["nosuch is no folder"]),
        (["map.img", "-n", "20", "-o", "p.csv", "--sheet", "s.png"], ["--scene"]),
        (
            ["map.img", "-n", "20", "--allocation", "neyman", "-o", "p.csv"],
            ["Neyman", "--expected CLASS=0.8"],
        ),
        (
            ["map.img", "-n", "20", "--expected", "class 1=7", "-o", "p.csv"],
            ["class 1=7", "from 0 to 1"],
        ),
        (["map.img", "-n", "20", "--expected", "gt.npy", "-o", "p.csv"], ["gt.npy tells no"]),
        (["nosuch.img", "-n", "20", "-o", "p.csv"], ["nosuch.img does not exist"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input(folder, arguments, parts):
    before = snapshot(folder)
    assert_refused(command(folder, "sample", *arguments, "-q"), *parts)
    assert snapshot(folder) == before
