"""``hsifcn demo``: a finished run that other commands go on with, and the comparison beside it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cli_helpers import assert_refused, command, finished_comparison, snapshot

import hsifcn
from hsifcn.comparison import compare
from hsifcn.data.indian_pines import bundled_scene
from hsifcn.models import DEFAULT_MODEL
from hsifcn.training import settings


@pytest.fixture
def asked(monkeypatch):
    """What the command asks of ``compare``; a small comparison is given back, training is short."""
    calls = []

    def compared(experiment, out, **options):
        calls.append((experiment, out, options))
        options["say"]("at work")
        return json.loads((finished_comparison() / "out/comparison.json").read_text())

    monkeypatch.setattr(compare, "compare", compared)
    short = settings.default_options

    def two_steps(*arguments, **keywords):
        return replace(short(*arguments, **keywords), steps=2, propagation=0.0)

    monkeypatch.setattr(settings, "default_options", two_steps)
    return calls


@pytest.mark.slow
def test_it_leaves_a_run_that_can_be_predicted_with(tmp_path, asked):
    done = command(tmp_path, "demo")
    assert done.code == 0, done.err
    ((experiment, out, options),) = asked
    bundled = bundled_scene()
    assert (experiment.scene, experiment.labels) == (bundled["scene"], bundled["labels"])
    assert {"patch", "cast", DEFAULT_MODEL} <= set(experiment.contenders)
    assert list(experiment.splits.values()) == ["checkerboard:14:gap=3"]
    assert out.as_posix() == "runs/demo/comparison"
    assert options["overwrite"] is False
    assert "at work" in done.err
    assert "report: runs/demo/report.html" in done.out
    run = tmp_path / "runs/demo"
    assert json.loads((run / "metrics.json").read_text())["command"].startswith("hsifcn train ")
    predicted = command(tmp_path, "predict", "-q")
    assert (predicted.code, predicted.err) == (0, "")
    assert (run / "map.img").stat().st_size == 145 * 145
    assert (run / "report.html").exists()


@pytest.mark.slow
def test_options(tmp_path, asked):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/notes.txt").write_text("mine")
    done = command(tmp_path, "demo", "-o", "d", "--seed", "3", "--overwrite", "--json", "-q")
    assert done.err == ""
    assert done.json.keys() >= {"contenders", "splits"}
    assert done.json["run"]["seed"] == 3
    ((experiment, out, options),) = asked
    assert (experiment.first_seed, out.as_posix()) == (3, "d/comparison")
    assert options["overwrite"]


@pytest.mark.parametrize("out", ["file", "full"])
def test_what_exists_is_kept(tmp_path, out):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    before = snapshot(tmp_path)
    assert_refused(command(tmp_path, "demo", "-o", out, "-q"), out, "-o")
    assert snapshot(tmp_path) == before


def test_the_bundled_scene():
    bundled = bundled_scene()
    scene = hsifcn.open_scene(bundled["scene"], wavelengths=bundled["wavelengths"])
    labels = hsifcn.open_labels(bundled["labels"], class_names=bundled["class_names"])
    assert scene.shape == (145, 145, 200)
    assert labels.labels.shape == (145, 145)
    assert labels.n_classes == 16
    assert (labels.labels > 0).sum() == 10249
