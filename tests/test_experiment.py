"""Who takes part in a comparison on which split, and what is carried on from a few steps."""

from __future__ import annotations

import json

import pytest
from scenes import write_field_scene

from hsifcn.comparison import launcher as jobs
from hsifcn.comparison import memory_check as footprint
from hsifcn.comparison.experiment import why_skipped
from hsifcn.comparison.plan import Plan, contenders
from hsifcn.data.dataset import open_inputs


@pytest.fixture
def plan(tmp_path):
    scene = write_field_scene(tmp_path)
    splits = {"random": "random:0.2", "disjoint": "checkerboard:5:gap=1"}
    return Plan(str(scene), str(scene.with_name("cube_gt.npy")), splits, patch=5)


@pytest.fixture
def inputs(plan):
    return open_inputs([plan.scene], [plan.labels], "random:0.2", 0)


def test_patches_are_stored_on_the_first_split_only(plan, inputs):
    known = contenders(5)
    assert why_skipped(known["materialised"], "random", inputs, plan) is None
    reason = why_skipped(known["materialised"], "disjoint", inputs, plan)
    assert "windowed form" in reason
    assert "measured on split random" in reason
    assert why_skipped(known["patch"], "disjoint", inputs, plan) is None


@pytest.mark.parametrize("name", ["patch", "cast", "hsifcn", "svm"])
def test_who_does_not_fit_is_left_out_with_the_arithmetic(plan, inputs, name, monkeypatch):
    monkeypatch.setattr(footprint, "free_memory", lambda: 1000)
    assert "GB at least" in why_skipped(contenders(5)[name], "random", inputs, plan)


def test_the_seconds_of_a_few_steps_are_carried_on_and_marked(tmp_path, monkeypatch):
    asked = []

    def run_job(job, stem):
        asked.append(job)
        return {"peak_train_bytes": 7, "train_baseline_bytes": 3, "train_seconds": 2.5}

    monkeypatch.setattr(jobs, "run_job", run_job)
    found = jobs.run_probe({"steps": 200, "model": "patch5"}, tmp_path / "a")
    assert (asked[0]["steps"], asked[0]["bundle"]) == (50, None)
    assert found["train_seconds"] == 10
    assert found["train_seconds_from_steps"] == 50
    assert json.dumps(found)
    found = jobs.run_probe({"steps": 4, "model": "patch5"}, tmp_path / "a")
    assert (found["train_seconds"], found["train_seconds_from_steps"]) == (2.5, None)
