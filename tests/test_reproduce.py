"""``hsifcn reproduce``: a run's command again, and what is told of a difference."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from cli_helpers import ENVIRONMENT, assert_refused, command, copy_of_finished, hsifcn, small_scene

from hsifcn.comparison.reproduction import compare_runs, recorded_command


@pytest.fixture
def folder(tmp_path):
    copy_of_finished(tmp_path)
    return tmp_path


def edit(path, change):
    values = json.loads(path.read_text("utf-8"))
    change(values)
    path.write_text(json.dumps(values), "utf-8")


def test_a_run_is_its_own_copy_and_what_differs_is_named(folder):
    shutil.copytree(folder / "runs/cube", folder / "again")
    run = folder / "runs/cube"
    found = compare_runs(run, folder / "again")
    assert found["same"]
    assert (len(found["weights"]), len(found["maps"]), found["figures"]) == (1, 1, [])
    assert found["n_figures"] > 20

    def other(metrics):
        metrics["kappa"] -= 0.25
        metrics["per_class"]["class 1"]["recall"] = 0.5
        metrics["versions"]["torch"] = "1.0"
        metrics["map_digests"] = ["0" * 16]
        metrics["train_seconds"] *= 2

    edit(folder / "again/metrics.json", other)
    found = compare_runs(run, folder / "again")
    assert not found["same"]
    assert {row["name"] for row in found["figures"]} >= {"kappa"}
    assert "train_seconds" not in {row["name"] for row in found["figures"]}
    assert [row["same"] for row in found["weights"]] == [True]
    assert [row["same"] for row in found["maps"]] == [False]
    assert [cause for cause in found["causes"] if "torch" in cause and "1.0 now" in cause]


@pytest.mark.slow
def test_the_same_comes_out_and_a_changed_scene_is_told(tmp_path):
    small_scene(tmp_path)
    first = hsifcn(tmp_path, "train", "cube.npy", "-o", "runs/a", "--steps", "4", "-q")
    assert first.code == 0, first.err
    (tmp_path / "elsewhere").mkdir()
    same = hsifcn(tmp_path / "elsewhere", "reproduce", "../runs/a", "--json", "-q")
    assert same.code == 0, same.err
    assert same.json["same"]
    weights = [(tmp_path / f"runs/{name}/model.safetensors") for name in ("a", "a-again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()

    np.save(tmp_path / "cube.npy", np.load(tmp_path / "cube.npy") * 1.5)
    other = hsifcn(tmp_path, "reproduce", "runs/a", "-o", "other", "-q")
    assert other.code == 1
    assert "the scene is another one" in " ".join(other.out.split())
    assert other.err == "error: other differs from runs/a\n"


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"command": None}, ["tells no command"]),
        ({"command": "hsifcn predict --overwrite"}, ["tells no command"]),
        ({"command": "hsifcn train 'cube"}, ["tells no command"]),
        ({"command": "hsifcn compare-patch-vs-fcn --models a:B"}, ["model of another module"]),
        ({"working_folder": "/nosuch"}, ["/nosuch", "--folder"]),
    ],
)
def test_what_cannot_be_run_again(folder, change, parts):
    edit(folder / "runs/cube/config.json", lambda config: config.update(change))
    assert_refused(command(folder, "reproduce", "runs/cube", "-q"), *parts)
    assert not (folder / "runs/cube-again").exists()


def test_folders(folder):
    assert_refused(command(folder, "reproduce", "nosuch", "-q"), "nosuch/metrics.json")
    assert_refused(command(folder, "reproduce", "runs/cube", "-o", "runs"), "runs exists")
    assert_refused(command(folder, "reproduce", "runs/cube", "-o", "runs/cube"), "the run itself")
    (folder / "runs/cube/metrics.json").write_text("{")
    assert_refused(command(folder, "reproduce", "runs/cube", "-q"), "metrics.json is damaged")


def test_the_command_is_that_of_the_run(folder):
    found = recorded_command(folder / "runs/cube")
    assert found.words[:2] == ["train", "cube.mat"]
    assert found.threads == int(ENVIRONMENT["OMP_NUM_THREADS"])
