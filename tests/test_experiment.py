"""Who takes part in a comparison, what fits into memory, and how workers are started."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scenes import write_field_scene

from hsifcn.comparison import launcher, tasks
from hsifcn.comparison.compare import why_skipped
from hsifcn.comparison.experiment import Experiment, contenders
from hsifcn.comparison.tables import patch_store_bytes
from hsifcn.comparison.task import Task
from hsifcn.core.errors import MemoryCeilingError
from hsifcn.io import child
from hsifcn.training.settings import default_options


def test_patches_are_stored_on_the_first_split_only():
    splits = {"random": "random:0.2", "disjoint": "checkerboard:5:gap=1"}
    experiment = Experiment("cube.npy", "cube_gt.npy", splits, patch=5)
    known, (random, disjoint) = contenders(5), experiment.cases
    assert why_skipped(known["materialised"], random, experiment) is None
    reason = why_skipped(known["materialised"], disjoint, experiment)
    assert "windowed form" in reason
    assert "measured on split random" in reason
    assert why_skipped(known["patch"], disjoint, experiment) is None


def test_each_split_is_compared_in_each_regime():
    splits = {"random": "random:0.2", "disjoint": "checkerboard:5:gap=1"}
    both = Experiment("a", "b", splits, regimes=("labels-alone", "pseudo-labels"))
    assert [case.name for case in both.cases] == [
        *("random", "disjoint", "random, pseudo-labels", "disjoint, pseudo-labels")
    ]
    known = contenders(15)
    assert why_skipped(known["svm"], both.cases[0], both) is None
    assert "labels alone" in why_skipped(known["svm"], both.cases[2], both)
    alone = Experiment("a", "b", splits, regimes=("pseudo-labels",))
    assert why_skipped(known["svm"], alone.cases[0], alone) is None


@pytest.mark.parametrize(("regime", "weight"), [("labels-alone", 0.0), ("pseudo-labels", 1.0)])
@pytest.mark.parametrize("model", ["patch5", "hsifcn"])
def test_all_networks_learn_from_the_same(regime, weight, model):
    task = Task("train", "cube.npy", "scene", "cpu", model=model, regime=regime)
    options = tasks.comparable_options(task)
    assert options.propagation == weight
    assert not options.learn_validation


@pytest.mark.parametrize(
    ("losses", "kept", "stopped_by"),
    [
        ([0.5, 0.4, 0.3], 40, "cap"),
        ([0.5, 0.4, 0.397], 20, "validation"),
        ([0.5, 0.499, 0.1], 10, "validation"),
        ([0.5, 0.6, 0.1], 10, "validation"),
    ],
)
def test_steps_double_until_the_validation_loss_no_longer_falls(
    monkeypatch, losses, kept, stopped_by
):
    asked = []

    def train(dataset, options):
        asked.append(options.steps)
        return SimpleNamespace(bundle=None, seconds=1.0, log=[{"step": options.steps}])

    monkeypatch.setattr(tasks, "train", train)
    monkeypatch.setattr(tasks, "validation_loss", lambda *given: losses[len(asked) - 1])
    options = replace(default_options("hsifcn"), steps=10)
    trained, trials, why = tasks.train_until_no_gain(None, options)
    assert (trained.log[-1]["step"], why) == (kept, stopped_by)
    assert [trial["steps"] for trial in trials] == asked == [10, 20, 40][: len(asked)]


def test_the_validation_loss_is_that_of_the_validation_pixels(monkeypatch):
    logits = np.zeros((2, 1, 3), np.float32)
    logits[1, 0, 1] = np.log(3)  # probability 3/4 of class 2 at the validation pixel

    class Fixed:
        def __init__(self, bundle, device):
            pass

        def whole_scene_logits(self, scene, max_memory):
            return logits

    monkeypatch.setattr(tasks, "Predictor", Fixed)
    labels = np.array([[1, 2, 1]])
    split = SimpleNamespace(labels=labels, validation=np.array([[False, True, False]]))
    dataset = SimpleNamespace(scenes=[None], splits=[split])
    loss = tasks.validation_loss(None, dataset, default_options("hsifcn"))
    assert loss == pytest.approx(-np.log(0.75))


def test_the_patches_of_indian_pines():
    known, shape = contenders(15), (145, 145, 200)
    assert patch_store_bytes(known["materialised"], shape) == 145 * 145 * 15 * 15 * 200 * 4
    assert patch_store_bytes(known["patch"], shape) == 0


@pytest.fixture
def task(tmp_path):
    scene = write_field_scene(tmp_path)
    return Task("classical", str(scene), "scene", "cpu", model="svm7x7")


def test_arrays_that_do_not_fit_are_refused_with_their_arithmetic(task, monkeypatch):
    monkeypatch.setattr(tasks, "free_memory", lambda: 1000)
    with pytest.raises(MemoryCeilingError, match=r"scene, 2 times\), 0\.0 GB are free"):
        tasks.do_task(task)


def test_arrays_that_would_break_the_ceiling_are_refused(task):
    with pytest.raises(MemoryCeilingError, match=r"0\.0 GB are left under the ceiling"):
        tasks.do_task(replace(task, max_memory=10**6))


def test_on_cuda_what_is_free_is_asked_of_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (123, 10**11))
    assert tasks.free_bytes("cuda") == 123
    assert tasks.free_bytes("cpu") > 10**6


def test_the_seconds_of_a_few_steps_are_extrapolated_and_marked(tmp_path, monkeypatch):
    asked = []

    def run_task(task, stem):
        asked.append(task)
        return {"peak_train_bytes": 7, "train_baseline_bytes": 3, "train_seconds": 2.5}

    monkeypatch.setattr(launcher, "run_task", run_task)
    task = Task("predict", "cube.npy", "materialised", "cpu", model="patch5", steps=200)
    found = launcher.run_probe(task, tmp_path / "a")
    assert (asked[0].kind, asked[0].steps, asked[0].bundle) == ("train", 50, "")
    assert found["train_seconds"] == 10
    assert found["train_seconds_from_steps"] == 50
    assert json.dumps(found)
    found = launcher.run_probe(replace(task, steps=4), tmp_path / "a")
    assert (found["train_seconds"], found["train_seconds_from_steps"]) == (2.5, None)


def test_workers_find_no_module_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    assert str(tmp_path) not in child.module_folders().split(os.pathsep)
