"""``hsifcn train --learning-curve``: shares of the training labels, one test."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from cli_helpers import assert_refused, command, hsifcn, small_scene

from hsifcn.data.splits import make_split, read_split, thin_split
from hsifcn.report.learning_curve import learning_curve_svg


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


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--learning-curve", "0.1,2"], ["0.1,2", "at most 1"]),
        (["--learning-curve", "a"], ["'a' is no list of shares"]),
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
