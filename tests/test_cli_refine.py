"""``--refine`` from end to end: a run that chooses weights, and predictions that use them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_helpers import STEPS, assert_refused, command, copy_of_finished, snapshot
from scenes import field_cube, field_labels

from hsifcn.data.splits import read_split
from hsifcn.inference.bundle import load_model
from hsifcn.io import open_labels


@pytest.fixture(scope="module", params=["crf", "mrf"])
def refined_run(request, tmp_path_factory):
    """A folder with a noisy scene and its run with a back end."""
    folder = tmp_path_factory.mktemp(request.param)
    labels = field_labels(60, 48, field=12)
    np.save(folder / "cube.npy", field_cube(labels, dtype="f4", noise=1.5))
    np.save(folder / "cube_gt.npy", labels)
    options = ["-s", "random:0.1:val=0.3", "--steps", STEPS, "--refine", request.param]
    done = command(folder, "train", "cube.npy", *options)
    assert done.code == 0, done.err
    assert f"({request.param}, strength " in done.out
    return folder, request.param


def test_metrics_tell_of_both_maps(refined_run):
    folder, method = refined_run
    metrics = json.loads((folder / "runs/cube/metrics.json").read_text())
    refined = metrics["refined"]
    assert refined["method"] == method
    assert refined.keys() >= {"oa", "aa", "kappa", "weights", "choice_seconds", "predict_seconds"}
    chosen = load_model(folder / "runs/cube/model.safetensors").refinement
    assert refined["weights"] == {
        "strength": chosen.strength,
        "spectral_width": chosen.spectral_width,
    }
    split = read_split(folder / "runs/cube/split.npz")
    for refine, wanted in (("none", metrics["oa"]), (method, refined["oa"])):
        target = folder / f"{refine}.npy"
        done = command(folder, "predict", "cube.npy", "-o", target, "--refine", refine, "-q")
        assert done.code == 0, done.err
        right = (open_labels(target).labels == split.labels)[split.test]
        assert right.mean() == pytest.approx(wanted)
    # Chosen on a few validation pixels, which are a sample: of 2,000 test pixels some may be lost.
    assert refined["oa"] > metrics["oa"] - 0.002


def test_validation_pixels_choose_the_weights_and_are_never_learnt(refined_run):
    folder, _ = refined_run
    config = json.loads((folder / "runs/cube/config.json").read_text())
    assert config["settings"]["learn_validation"] is False
    rows = (folder / "runs/cube/log.csv").read_text().splitlines()
    columns = rows[0].split(",")
    last = dict(zip(columns, rows[-1].split(","), strict=True))
    assert last["validation_oa"] != ""  # of the last step too: they were held back to the end


def test_another_back_end_is_another_map(refined_run):
    folder, method = refined_run
    given = ["predict", "cube.npy", "-o", "same.npy", "--refine"]
    done = command(folder, *given, method)
    assert f"{method}: " in done.err
    assert "nothing to do" in command(folder, *given, method).err
    assert_refused(command(folder, *given, "none", "-q"), "same.npy exists", "--overwrite")


def test_a_model_without_weights_takes_the_default(tmp_path):
    copy_of_finished(tmp_path)
    done = command(tmp_path, "predict", "scene.npy", "-o", "m.npy", "--refine", "mrf")
    assert done.code == 0
    assert "mrf: strength 1, width 0.5 (default" in done.err
    assert "refined" not in json.loads((tmp_path / "runs/cube/metrics.json").read_text())


def test_an_unknown_back_end_is_refused(tmp_path):
    for arguments in (["train", "cube.npy"], ["predict"]):
        assert command(tmp_path, *arguments, "--refine", "blur").code == 2


@pytest.mark.parametrize("arguments", [["predict"], ["train", "cube.mat", "--overwrite"]])
def test_a_cut_of_a_scene_in_tiles_is_refused_before_any_work(tmp_path, monkeypatch, arguments):
    from hsifcn.inference import tiling as tile_plan

    copy_of_finished(tmp_path)
    monkeypatch.setattr(tile_plan.MemoryEstimate, "whole", lambda self, pixels: 10**15)
    before = snapshot(tmp_path)
    done = command(tmp_path, *arguments, "--refine", "mrf", "-q")
    assert_refused(done, "cube.mat", "must be cut into tiles", "--approximate")
    assert snapshot(tmp_path).keys() == before.keys()
    assert snapshot(tmp_path)["runs/cube/metrics.json"] == before["runs/cube/metrics.json"]
