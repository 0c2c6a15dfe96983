"""``hsifcn train --learning-curve``, over shares of the labels or steps; curves of a comparison."""

from __future__ import annotations

import csv
import itertools
import json

import numpy as np
import pytest
from cli_helpers import assert_refused, command, hsifcn, small_scene

from hsifcn.data.splits import make_split, read_split, thin_split
from hsifcn.report.learning_curve import learning_curve_svg, write_validation_curves


def test_smaller_shares_lie_in_greater_ones():
    labels = np.repeat(np.arange(1, 4), [20, 100, 280]).reshape(20, 20)
    split = make_split(labels, "random:0.5")
    parts = [thin_split(split, share, seed=3) for share in (0.01, 0.2, 0.5, 1)]
    for smaller, greater in itertools.pairwise(parts):
        assert not (smaller.train & ~greater.train).any()
        assert not (smaller.validation & ~greater.validation).any()
    assert all((part.test == split.test).all() for part in parts)
    assert (parts[-1].train == split.train).all()
    assert parts[0].n_train_per_class(3) == [1, 1, 1]
    counts = split.n_train_per_class(3)
    assert parts[2].n_train_per_class(3) == [round(0.5 * count) for count in counts]


def test_the_figure_has_a_point_a_row():
    statistic = {"mean": 0.9, "std": 0.01, "values": [0.89, 0.91]}
    rows = [{"labels": n, "oa": statistic, "aa": statistic} for n in (1000, 2000)]
    text = learning_curve_svg(rows)
    assert text == learning_curve_svg(rows)
    for part in ("1,000", "2,000", "training labels", "OA", "AA"):
        assert part in text


def test_curves_of_a_comparison_by_step(tmp_path):
    curve = {"split": "a", "train_oa_steps": [10, 20, 30]}
    rows = [
        curve | {"label": "=one", "train_oa_curve": [[1.0, 0.5], [2.0, 0.75], [3.0, None]]},
        curve | {"label": "two", "train_oa_curve": [[1.5, 0.25], [2.5, 0.5], [3.5, 1.0]]},
        {"split": "a", "label": "svm", "train_oa_curve": None, "train_oa_steps": None},
        {"split": "a", "label": "old", "train_oa_curve": [[1.0, 0.5]]},
    ]
    write_validation_curves(tmp_path, rows)
    table = list(csv.DictReader((tmp_path / "validation_curves.csv").open(newline="")))
    found = [(row["model"], int(row["step"]), float(row["validation_oa"])) for row in table]
    wanted = [("'=one", 10, 0.5), ("'=one", 20, 0.75), ("two", 10, 0.25), ("two", 20, 0.5)]
    assert found == [*wanted, ("two", 30, 1.0)]
    figure = (tmp_path / "validation_curves.svg").read_text("utf-8")
    assert all(part in figure for part in ("=one", "two", "training steps"))
    write_validation_curves(tmp_path / "none", rows[2:])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--learning-curve", "0.1,2"], ["0.1,2", "at most 1"]),
        (["--learning-curve", "a"], ["'a' is no list of shares"]),
        (["--learning-curve", "steps:0,9"], ["steps:0,9", "fewer than 1"]),
        (["--learning-curve", "steps:9", "--steps", "4"], ["leave out --steps"]),
        (["--learning-curve", "1", "--folds", "3"], ["--folds"]),
        (["--learning-curve", "1", "-s", "fixed:a.npy,b.npy"], ["another split"]),
    ],
)
def test_what_makes_no_curve(tmp_path, options, parts):
    small_scene(tmp_path)
    assert_refused(command(tmp_path, "train", "cube.npy", "-q", *options), *parts)


@pytest.mark.slow
def test_each_share_is_a_run(tmp_path):
    small_scene(tmp_path)
    words = ["train", "cube.npy", "-s", "random:0.4", "--steps", "4", "-o", "out", "-q", "--json"]
    done = hsifcn(tmp_path, *words, "--learning-curve", "1,0.2", timeout=600)
    assert done.code == 0, done.err
    rows = done.json["rows"]
    assert [row["share"] for row in rows] == [0.2, 1]
    runs = [tmp_path / f"out/share-{name}/seed-0" for name in ("0.2", "1")]
    for row, run in zip(rows, runs, strict=True):
        metrics = json.loads((run / "metrics.json").read_text("utf-8"))
        assert row["oa"]["values"] == [metrics["oa"]]
        assert row["labels"] == metrics["split"]["n_train"] + metrics["split"]["n_validation"]
    few, all_labels = (read_split(run / "split.npz") for run in runs)
    assert few.n_train < all_labels.n_train
    assert (few.test == all_labels.test).all()
    assert (tmp_path / "out/learning_curve.svg").exists()


@pytest.mark.slow
def test_each_number_of_steps_is_a_run_of_its_own(tmp_path):
    small_scene(tmp_path)
    words = ["train", "cube.npy", "-s", "random:0.4", "-o", "out", "-q", "--json"]
    done = hsifcn(tmp_path, *words, "--learning-curve", "steps:6,2", timeout=600)
    assert done.code == 0, done.err
    assert [row["steps"] for row in done.json["rows"]] == [2, 6]
    for row, steps in zip(done.json["rows"], (2, 6), strict=True):
        metrics = json.loads((tmp_path / f"out/steps-{steps}/seed-0/metrics.json").read_text())
        assert metrics["steps"] == steps  # its own schedule, to its end
        assert row["oa"]["values"] == [metrics["oa"]]
    parts = [read_split(tmp_path / f"out/steps-{steps}/seed-0/split.npz") for steps in (2, 6)]
    assert parts[0].digest == parts[1].digest
    with (tmp_path / "out/learning_curve.csv").open(newline="") as file:
        table = [(row["steps"], row["figure"]) for row in csv.DictReader(file)]
    assert table[::3] == [("2", "oa"), ("6", "oa")]
    assert "training steps" in (tmp_path / "out/learning_curve.svg").read_text("utf-8")
