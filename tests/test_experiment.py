"""Who takes part in a comparison, what fits into memory, and how workers are started."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace

import pytest
import torch
from scenes import write_field_scene

from hsifcn.comparison import launcher, tasks
from hsifcn.comparison.compare import why_skipped
from hsifcn.comparison.experiment import Experiment, contenders
from hsifcn.comparison.tables import patch_store_bytes
from hsifcn.comparison.task import Task
from hsifcn.core.errors import MemoryCeilingError


def test_patches_are_stored_on_the_first_split_only():
    splits = {"random": "random:0.2", "disjoint": "checkerboard:5:gap=1"}
    experiment = Experiment("cube.npy", "cube_gt.npy", splits, patch=5)
    known = contenders(5)
    assert why_skipped(known["materialised"], "random", experiment) is None
    reason = why_skipped(known["materialised"], "disjoint", experiment)
    assert "windowed form" in reason
    assert "measured on split random" in reason
    assert why_skipped(known["patch"], "disjoint", experiment) is None


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
    assert str(tmp_path) not in launcher.module_folders().split(os.pathsep)
