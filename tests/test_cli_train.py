"""``hsifcn train``: the run directory, interrupts, what is refused."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import (
    ENVIRONMENT,
    STEPS,
    assert_refused,
    command,
    copy_of_finished,
    finished_folder,
    hsifcn,
    small_scene,
    snapshot,
)

from benchmarks.command import PROGRAM
from hsifcn.cli.options import choose_device
from hsifcn.data.splits import read_split
from hsifcn.inference.bundle import load_model

FILES = {
    *("model.safetensors", "metrics.json", "split.npz", "config.json", "log.csv", "map.png"),
    "report.html",
}
LONG = "250"  # steps that leave time to press Ctrl-C
METRICS = {
    *("model", "params", "flops_per_pixel", "seed", "split", "oa", "aa", "kappa", "per_class"),
    *("confusion", "class_names", "train_seconds", "predict_seconds", "steps", "peak_rss_bytes"),
    *("baseline_rss_bytes", "device", "threads", "versions", "calibration"),
}
SPLIT = {"recipe", "seed", "digest", "n_train", "n_validation", "n_test", "leakage"}
LEAKAGE = {"test_touching", "test_within", "test_in_shared_fields", "receptive_field_px"}
PER_CLASS = {"recall", "precision", "f1", "iou", "n_train", "n_test"}


@pytest.fixture
def folder(tmp_path):
    small_scene(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def metrics():
    return json.loads((finished_folder() / "runs/cube/metrics.json").read_text("utf-8"))


def train(folder, *arguments):
    return command(folder, "train", "cube.npy", "--steps", "2", *arguments)


def test_the_files_of_a_run():
    assert {file.name for file in (finished_folder() / "runs/cube").iterdir()} == FILES


def test_json_is_alone_on_stdout(metrics):
    assert json.loads((finished_folder() / "train.stdout").read_text()) == metrics
    messages = (finished_folder() / "train.stderr").read_text()
    labels, plan = messages.splitlines()
    assert labels == "labels of cube.mat: cube_gt.mat"
    assert re.fullmatch(r"plan: whole scenes; about [\d,]+ MB of memory, (about .*|less .*)", plan)


def test_the_keys_of_metrics(metrics):
    assert metrics.keys() >= METRICS
    assert metrics["split"].keys() >= SPLIT
    assert metrics["split"]["leakage"].keys() >= LEAKAGE
    within = metrics["split"]["leakage"]["test_within"]
    assert within.keys() == {"1", "2", "4", "7", "16", "receptive_field"}
    assert all(row.keys() >= PER_CLASS for row in metrics["per_class"].values())


def test_the_values_of_metrics(metrics):
    names = metrics["class_names"]
    assert list(metrics["per_class"]) == names
    assert np.shape(metrics["confusion"]) == (3, 3)
    counts = [row["n_test"] for row in metrics["per_class"].values()]
    assert sum(counts) == metrics["split"]["n_test"]
    right = np.trace(metrics["confusion"])
    assert metrics["oa"] == pytest.approx(right / metrics["split"]["n_test"])
    assert metrics["oa"] > 0.7  # a third by chance
    assert metrics["kappa"] <= metrics["oa"] <= 1
    assert 0 < metrics["baseline_rss_bytes"] < metrics["peak_rss_bytes"]
    assert (metrics["steps"], metrics["seed"]) == (STEPS, 0)
    assert metrics["device"] == choose_device("auto")
    assert metrics["versions"].keys() >= {"python", "torch", "numpy", "hsifcn"}
    assert min(metrics["train_seconds"], metrics["predict_seconds"]) > 0


def test_metrics_tell_what_propagation_chose_and_why(metrics):
    recipe = metrics["recipe"]
    assert sum(recipe["classifiers"].values()) == pytest.approx(1, abs=1e-3)
    tried = [float(weight) for weight in recipe["prior_weight_accuracy"]]
    assert min(tried) <= recipe["prior_weight"] <= max(tried)
    assert all(0 <= accuracy <= 1 for accuracy in recipe["prior_weight_accuracy"].values())
    assert recipe["expected_oa"] == pytest.approx(metrics["oa"], abs=0.2)
    assert recipe["groups"] > 3


def test_the_split_is_the_one_that_split_makes(metrics, tmp_path):
    with np.load(finished_folder() / "runs/cube/split.npz") as stored:
        counts = [int(stored[name].sum()) for name in ("train", "validation", "test")]
    assert counts == [metrics["split"][f"n_{name}"] for name in ("train", "validation", "test")]
    done = command(finished_folder(), "split", "cube.mat", "-o", tmp_path / "again.npz", "--json")
    assert done.json["digest"] == metrics["split"]["digest"]


def test_the_log():
    with open(finished_folder() / "runs/cube/log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "loss", "lr", "validation_oa", "seconds"]
    assert int(rows[-1]["step"]) == STEPS
    assert all(np.isfinite(float(row["loss"])) for row in rows)


def test_the_config_tells_what_was_asked_for():
    config = json.loads((finished_folder() / "runs/cube/config.json").read_text())
    assert config["command"] == f"hsifcn train cube.mat --steps {STEPS} --json"
    assert config["scenes"] == [str(finished_folder() / "cube.mat")]
    assert config["labels"] == [str(finished_folder() / "cube_gt.mat")]
    assert config["split"] == "random:0.1"


def test_the_report_needs_no_other_file():
    page = (finished_folder() / "runs/cube/report.html").read_text("utf-8")
    assert "class 3" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", page)


def test_the_text(folder):
    done = train(folder)
    assert done.code == 0
    for part in ("class 3", "leakage", "kappa", "MB", "report.html", "hsifcn predict runs/cube"):
        assert part in done.out


def test_the_model_records_the_bands_that_were_chosen(folder):
    done = train(folder, "--bands", "2-4,7", "--keep-bad-bands")
    assert done.code == 0
    bundle = load_model(folder / "runs/cube/model.safetensors")
    assert np.flatnonzero(bundle.good_bands).tolist() == [1, 2, 3, 6]
    config = json.loads((folder / "runs/cube/config.json").read_text())
    assert (config["bands"], config["keep_bad_bands"]) == ("2-4,7", True)
    assert command(folder, "predict", "runs/cube", "cube.npy", "-o", "map.npy").code == 0
    assert_refused(
        train(folder, "--bands", "13", "-q", "-o", "other"), "--bands 13 is not among bands 1-12"
    )


def test_quiet_and_json_together(folder):
    done = train(folder, "-q", "--json")
    assert done.err == ""
    assert done.json.keys() >= METRICS


def test_a_finished_run_is_kept_unless_told(tmp_path):
    run = copy_of_finished(tmp_path)
    before = snapshot(run)
    again = ["train", "cube.mat", "--steps", "2", "-q"]
    assert_refused(command(tmp_path, *again), "runs/cube exists", "--overwrite")
    assert snapshot(run) == before
    assert command(tmp_path, *again, "--overwrite").code == 0
    assert json.loads((run / "metrics.json").read_text())["steps"] == 2


def test_a_folder_of_something_else_is_not_touched(folder):
    (folder / "mine" / "checkpoint").mkdir(parents=True)
    (folder / "mine" / "checkpoint" / "epoch1.pt").write_bytes(b"precious")
    before = snapshot(folder)
    assert_refused(train(folder, "-q", "-o", "mine"), "mine exists")
    assert_refused(train(folder, "-q", "-o", "mine", "--resume"), "mine exists")
    assert snapshot(folder) == before
    assert train(folder, "-o", "mine", "--overwrite").code == 0
    assert (folder / "mine" / "checkpoint" / "epoch1.pt").read_bytes() == b"precious"


def test_resume_with_nothing_to_resume_starts(folder):
    assert train(folder, "--resume").code == 0
    assert (folder / "runs/cube/metrics.json").exists()


def test_resume_of_a_finished_run_does_nothing(tmp_path):
    run = copy_of_finished(tmp_path)
    before = snapshot(run)
    done = command(tmp_path, "train", "cube.mat", "--steps", STEPS, "--resume", "--json")
    assert done.code == 0
    assert "runs/cube is finished; nothing to do" in done.err
    assert done.json == json.loads((run / "metrics.json").read_text())
    assert snapshot(run) == before


def interrupted_training(folder, scene, *options):
    """Start training as from a terminal, and press Ctrl-C once the bar has moved."""
    import pty

    terminal, stderr = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hsifcn", "train", scene, "--steps", LONG, *options],
        cwd=folder,
        env={**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "150"},
        stdout=subprocess.PIPE,
        stderr=stderr,
    )
    os.close(stderr)
    shown = b""
    while not re.search(rb"[1-9][0-9]*/" + LONG.encode(), shown):
        shown += os.read(terminal, 4096)
    process.send_signal(signal.SIGINT)
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:  # so a terminal ends on Linux
        pass
    os.close(terminal)
    return process.wait(60), process.stdout.read(), shown.decode()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="terminals are made otherwise")
def test_interrupt_and_resume(folder):
    code, out, shown = interrupted_training(folder, "cube.npy")
    assert (code, out) == (130, b"")
    assert "Traceback" not in shown
    assert shown.splitlines()[-1].strip() == "interrupted"
    assert "--resume" in shown
    run = folder / "runs/cube"
    assert not (run / "metrics.json").exists()

    mapped = command(folder, "predict", run / "checkpoint", "cube.npy", "-o", "early.npy")
    assert mapped.code == 0, mapped.err
    assert np.load(folder / "early.npy").shape[:2] == (20, 24)

    other = command(folder, "train", "cube.npy", "--steps", "9", "--resume", "-q")
    assert_refused(other, "runs/cube/checkpoint", "other settings", "--overwrite")

    resumed = command(folder, "train", "cube.npy", "--steps", LONG, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["steps"] == int(LONG)
    assert not (run / "checkpoint").exists()
    with open(run / "log.csv", newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps))
    assert steps[-1] == int(LONG)

    assert command(folder, "train", "cube.npy", "--steps", LONG, "-o", "whole").code == 0
    uninterrupted = (folder / "whole/model.safetensors").read_bytes()
    assert (run / "model.safetensors").read_bytes() == uninterrupted


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="terminals are made otherwise")
def test_an_interrupted_overwrite_keeps_the_old_run(tmp_path):
    run = copy_of_finished(tmp_path)
    before = snapshot(run)
    assert interrupted_training(tmp_path, "cube.mat", "--overwrite")[0] == 130
    after = snapshot(run)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) >= {"checkpoint", "checkpoint/model.safetensors"}
    assert command(tmp_path, "predict", "-q").code == 0


def test_an_unfinished_run_needs_no_overwrite(folder):
    (folder / "runs/cube/checkpoint").mkdir(parents=True)
    (folder / "runs/cube/checkpoint/state.safetensors").write_bytes(b"left by a crash")
    damaged = train(folder, "--resume", "-q")
    assert_refused(damaged, "checkpoint/state.safetensors", "--overwrite")
    assert train(folder).code == 0
    assert not (folder / "runs/cube/checkpoint").exists()


def test_a_run_starts_from_another(folder):
    assert train(folder, "-o", "first", "-q").code == 0
    done = train(folder, "--init", "first", "-o", "second", "--json")
    assert done.code == 0, done.err
    message = re.search(r"first \(hsifcn\) gives ([\d,]+) weights", done.err)
    assert message
    assert done.json["init"]["weights"] == int(message[1].replace(",", "")) > 1000
    assert done.json["init"]["model"] == "hsifcn"
    assert "warning" not in done.err
    again = ("--init", "first/model.safetensors", "--seed", "1", "-o", "other")
    assert "was trained on another split" in train(folder, *again).err
    refused = train(folder, "-m", "fcn8s", "--init", "first", "-o", "fcn", "-q")
    assert_refused(refused, "fcn8s of 12 bands cannot start from a hsifcn")


@pytest.mark.parametrize("removed", [("--staged",), ("--ensemble", "2")])
def test_removed_options_are_refused_and_say_why(folder, removed):
    refused = train(folder, *removed, "-q")
    assert_refused(refused, f"{removed[0]} was removed: ")
    assert removed[0] not in train(folder, "--help").out


def test_labels_in_the_file_itself(tmp_path):
    import scipy.io

    cube, labels = small_scene(tmp_path)
    scipy.io.savemat(tmp_path / "both.mat", {"cube": cube, "truth": labels})
    done = command(tmp_path, "train", "both.mat", "--steps", "2")
    assert done.code == 0
    assert "labels of both.mat: both.mat:truth" in done.err
    assert (tmp_path / "runs/both/metrics.json").exists()


def test_several_scenes_train_one_model(folder):
    small_scene(folder, "next.npy", rows=9, seed=1)
    done = train(folder, "next.npy", "-o", "two", "--json")
    assert done.code == 0, done.err
    labels = [np.load(folder / f"{name}_gt.npy") for name in ("cube", "next")]
    counts = done.json["split"]
    assert counts["n_train"] + counts["n_validation"] + counts["n_test"] == sum(
        int((array > 0).sum()) for array in labels
    )
    digests = [read_split(folder / "two" / name).digest for name in ("split.npz", "split-2.npz")]
    assert counts["digest"] == "+".join(digests)
    assert train(folder, "-o", "two", "--overwrite").code == 0
    assert not (folder / "two" / "split-2.npz").exists()


@pytest.mark.parametrize("size", [(3, 5), (1, 24), (24, 1)], ids=str)
def test_a_scene_smaller_than_the_stride(tmp_path, size):
    labels = np.resize(np.array([1, 1, 2, 2], "u1"), size)
    np.save(tmp_path / "cube.npy", np.repeat(labels[..., None], 6, 2) * np.arange(1.0, 7))
    np.save(tmp_path / "cube_gt.npy", labels)
    done = train(tmp_path, "--json")
    assert done.code == 0, done.err
    assert done.json["split"]["n_test"] > 0
    assert command(tmp_path, "predict").code == 0


def test_a_class_of_one_pixel(folder):
    labels = np.load(folder / "cube_gt.npy")
    labels[0, 0] = 4
    np.save(folder / "cube_gt.npy", labels)
    done = train(folder, "--json")
    assert done.code == 0
    assert "warning: class 4 has no test pixels (1 labelled)" in done.err
    assert done.json["per_class"]["class 4"]["recall"] is None
    assert done.json["per_class"]["class 4"]["n_train"] == 1


def test_nan_pixels_stay_unclassified(folder):
    cube = np.load(folder / "cube.npy")
    cube[3:6, 4:9, 2] = np.nan
    np.save(folder / "cube.npy", cube)
    assert train(folder).code == 0
    assert command(folder, "predict", "-f", "npy").code == 0
    labels = np.load(folder / "runs/cube/map.npy").reshape(20, 24)
    assert ((labels == 0) == np.isnan(cube).any(2)).all()


def test_fewer_names_than_classes(folder):
    (folder / "names.txt").write_text("corn\n")
    done = train(folder, "--class-names", "names.txt", "--json")
    assert done.code == 0
    assert done.json["class_names"] == ["corn", "class 2", "class 3"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes on Linux only")
def test_a_file_name_that_is_no_text(folder):
    name = os.fsdecode(b"caf\xe9")
    (folder / "cube.npy").rename(folder / f"{name}.npy")
    (folder / "cube_gt.npy").rename(folder / f"{name}_gt.npy")
    assert command(folder, "train", f"{name}.npy", "--steps", "2", "-o", "run").code == 0
    assert command(folder, "predict", "run").code == 0
    assert (folder / "run/map.img").exists()


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    cube, labels = small_scene(folder)
    scenes = {"nan": cube * np.nan, "flat": cube * 0 + 1, "short": cube[:, :, :5]}
    for name, array in scenes.items():
        np.save(folder / f"{name}.npy", array)
        np.save(folder / f"{name}_gt.npy", labels)
    np.save(folder / "lone.npy", cube)
    np.save(folder / "small.npy", labels[:5])
    np.save(folder / "zero.npy", labels * 0)
    (folder / "text.mat").write_text("no cube")
    (folder / "twice.txt").write_text("corn\ncorn\noak\n")
    (folder / "bad.txt").write_text("400\nred\n")
    np.save(folder / "twin.npy", cube)
    np.save(folder / "twin_gt.npy", labels)
    np.save(folder / "twin_labels.npy", labels)
    return folder


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nosuch.npy"], ["nosuch.npy does not exist", "check the path"]),
        (["text.mat", "-l", "cube_gt.npy"], ["text.mat cannot be parsed"]),
        (["cube_gt.npy", "-l", "cube_gt.npy"], ["cube_gt.npy has 2 dimensions"]),
        (["nan.npy"], ["nan.npy has no usable band", "hsifcn info"]),
        (["flat.npy"], ["flat.npy has no usable band"]),
        (["lone.npy"], ["no labels for lone.npy", "-l"]),
        (["twin.npy"], ["twin_gt.npy, twin_labels.npy", "-l"]),
        (["cube.npy", "-l", "small.npy"], ["small.npy is 5x24", "20x24"]),
        (["cube.npy", "-l", "zero.npy"], ["zero.npy labels no pixel"]),
        (["cube.npy", "short.npy"], ["short.npy has 5 bands", "12"]),
        (["cube.npy", "nan.npy", "-l", "cube_gt.npy"], ["2 scenes and 1 label files", "-l"]),
        (["cube.npy", "-m", "nosuch"], ["no model 'nosuch'", "fcn8s"]),
        (["cube.npy", "-s", "nosuch"], ["no split 'nosuch'", "random:0.1"]),
        (["cube.npy", "-s", "checkerboard:50"], ["checkerboard:50"]),
        (["cube.npy", "--max-memory", "lots"], ["'lots' is no size", "4G"]),
        (["cube.npy", "--wavelengths", "bad.txt"], ["bad.txt, line 2"]),
        (["cube.npy", "--class-names", "twice.txt"], ["twice.txt", "two classes", "'corn'"]),
        (["cube.npy", "--class-names", "nosuch.txt"], ["nosuch.txt does not exist"]),
        (["cube.npy", "-o", "bad.txt"], ["bad.txt is a file", "-o"]),
        (["cube.npy", "-o", "bad.txt/run"], ["bad.txt/run", "-o"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input(bad_folder, arguments, parts):
    before = snapshot(bad_folder)
    done = command(bad_folder, "train", "-q", "--steps", "2", "-o", "run", *arguments)
    assert_refused(done, *parts)
    assert snapshot(bad_folder) == before


def test_bad_input_leaves_the_old_run(tmp_path):
    run = copy_of_finished(tmp_path)
    cube, _ = small_scene(tmp_path, "flat.npy")
    np.save(tmp_path / "flat.npy", cube * 0)
    before = snapshot(run)
    done = command(tmp_path, "train", "flat.npy", "-o", "runs/cube", "--overwrite", "-q")
    assert_refused(done, "flat.npy")
    assert snapshot(run) == before


def test_a_device_that_is_not_there(folder):
    import torch

    if torch.cuda.is_available():
        pytest.skip("it is there")
    before = snapshot(folder)
    assert_refused(train(folder, "-q", "--device", "cuda"), "cuda", "--device")
    assert snapshot(folder) == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="no permissions for root")
def test_a_folder_that_may_not_be_written(folder):
    locked = folder / "locked"
    locked.mkdir(mode=0o500)
    assert_refused(train(folder, "-q", "-o", "locked/run"), "locked/run")
    assert list(Path(locked).iterdir()) == []


def test_calibration_is_measured_on_the_test_pixels(metrics):
    calibration = metrics["calibration"]
    assert calibration["temperature"] > 0
    assert 0 <= calibration["expected_calibration_error"] <= 1
    assert calibration["coverage"][-1]["coverage"] == 1
    assert calibration["coverage"][-1]["accuracy"] == pytest.approx(metrics["oa"])


def measured_training(folder, *options):
    """Train in a process; gives its metrics, the megabytes planned, and the peak of all it did."""
    arguments = ["train", "cube.npy", "--steps", "2", "--device", "cpu", "--json", *options]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plan = next(line for line in done.stderr.splitlines() if line.startswith("plan: "))
    planned = re.search(r"about ([\d,]+) MB", plan)[1]
    peak = int(done.stderr.split()[-1])
    return json.loads(done.stdout), plan, 1e6 * int(planned.replace(",", "")), peak


@pytest.fixture(scope="module")
def large_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    small_scene(folder, rows=250, cols=270, field=20)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are measured otherwise")
@pytest.mark.parametrize(
    ("ceiling", "crops", "split"),
    [
        (None, "16 crops", "per-class:20"),
        ("430M", "at once", "per-class:20"),
        ("500M", "at once", "random:0.1"),  # 6,000 labels
    ],
)
def test_a_large_scene_is_trained_on_in_crops_within_the_ceiling(
    large_folder, tmp_path, ceiling, crops, split
):
    options = ["--max-memory", ceiling] if ceiling else []
    metrics, plan, planned, peak = measured_training(
        large_folder, "-o", tmp_path / "run", "-s", split, *options
    )
    assert crops in plan
    assert planned == pytest.approx(metrics["peak_rss_bytes"], rel=0.15)
    assert metrics["peak_rss_bytes"] <= peak
    if ceiling:
        assert peak < 1e6 * int(ceiling.removesuffix("M"))
        assert "labels propagated over windows" in plan
    assert (metrics["crops"]["side"], metrics["crops"]["count"]) == (64, 16)


@pytest.mark.slow
def test_too_little_memory_to_propagate_many_labels_is_told(large_folder):
    arguments = ["train", "cube.npy", "--steps", "2", "-o", "told", "-s", "random:0.1"]
    done = hsifcn(large_folder, *arguments, "--device", "cpu", "--max-memory", "430M")
    assert done.code == 0, done.err
    assert "labels propagated" not in done.err
    assert "warning: the memory is too small to propagate labels" in done.err


def test_a_ceiling_that_is_too_low_names_the_least(large_folder):
    arguments = ["train", "cube.npy", "--steps", "2", "-q", "-o", "refused", "--max-memory"]
    refused = command(large_folder, *arguments, "10M")
    assert_refused(refused, "cube.npy cannot be", "--max-memory")
    assert not (large_folder / "refused").exists()


@pytest.mark.slow
def test_a_scene_whose_steps_do_not_fit_is_cut(large_folder):
    """What would be seen whole without a ceiling."""
    for name in ("cube", "cube_gt"):
        np.save(large_folder / f"part{name[4:]}.npy", np.load(large_folder / f"{name}.npy")[:200])
    done = hsifcn(
        *(large_folder, "train", "part.npy", "--steps", "2", "-o", "part"),
        *("--inductive", "--max-memory", "430M", "--device", "cpu"),
    )
    assert done.code == 0, done.err
    assert "at once" in done.err


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (("--steps", "3"), "options"),
        (("--seed", "1"), "options and split"),
        (("-m", "fcn8s"), "options and network"),
        (("-s", "random:0.3"), "split"),
    ],
)
def test_a_finished_run_of_something_else_is_not_resumed(folder, other, named):
    assert train(folder, "-q").code == 0
    refused = train(folder, *other, "--resume", "-q")
    assert_refused(refused, f"the finished run was made with other {named}; repeat its options")
    assert train(folder, "--resume", "-q").code == 0


def test_a_finished_run_on_other_values_is_not_resumed(folder):
    assert train(folder, "-q").code == 0
    np.save(folder / "cube.npy", np.load(folder / "cube.npy") + 1)
    assert_refused(train(folder, "--resume", "-q"), "made with other scenes")


def test_damaged_metrics_are_told(folder):
    assert train(folder, "-q").code == 0
    for text in ("{", "[]", "{}", '{"split": 3}'):
        (folder / "runs/cube/metrics.json").write_text(text)
        assert_refused(train(folder, "--resume", "-q"), "metrics.json is damaged")


def test_a_directory_that_another_training_works_in_is_refused(folder):
    from hsifcn.training.run_directory import lock_run_directory, prepare_run_directory

    run = folder / "runs/cube"
    for _ in range(2):  # a directory that is made, and one that a killed training left
        with lock_run_directory(run):
            assert_refused(train(folder, "-q"), "another training works in runs/cube")
            assert not prepare_run_directory(run, overwrite=False, resume=False)
            assert_refused(train(folder, "-q"), "another training works in runs/cube")
    assert train(folder, "-q").code == 0


KILLED = """
import os, signal, sys
import hsifcn.training.run_directory as runs
name, when = sys.argv.pop(1), sys.argv.pop(1)
called = getattr(runs, name)

def wrapper(*arguments, **named):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    called(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(runs, name, wrapper)
from hsifcn.cli import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="folders are exchanged in one step on Linux")
@pytest.mark.parametrize(
    ("name", "when", "seed"),
    [("write_split", "after", 0), ("exchange", "before", 0), ("exchange", "after", 1)],
)
@pytest.mark.slow
def test_a_kill_leaves_the_old_run_or_the_new_one(folder, name, when, seed):
    assert train(folder, "-q").code == 0
    run = folder / "runs/cube"
    (run / "maps").mkdir()
    (run / "maps/metrics.json").write_text("the user's own")
    killed = subprocess.run(
        [
            *(sys.executable, "-c", KILLED, name, when, "train", "cube.npy", "-q"),
            *("--steps", "2", "--overwrite", "--seed", "1"),
        ],
        cwd=folder,
        env=ENVIRONMENT,
        timeout=120,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert json.loads((run / "metrics.json").read_text())["seed"] == seed
    assert load_model(run / "model.safetensors").settings["seed"] == seed
    assert json.loads((run / "config.json").read_text())["settings"]["seed"] == seed
    assert len(list((folder / "runs").iterdir())) == 2  # what the killed process left
    assert train(folder, "--overwrite", "--seed", "2", "-q").code == 0
    assert json.loads((run / "metrics.json").read_text())["seed"] == 2
    assert (run / "maps/metrics.json").read_text() == "the user's own"
    assert not (run / "checkpoint").exists()
    assert [path.name for path in (folder / "runs").iterdir()] == ["cube"]


def test_codes_stand_in_the_table_of_classes_where_they_are_not_counted(folder):
    labels = np.load(folder / "cube_gt.npy")
    np.save(folder / "cube_gt.npy", np.array([0, 112, 311, 999])[labels])
    (folder / "names.txt").write_text("112 = Town\n311 = Forest\n999 = Lake\n")
    done = train(folder, "--class-names", "names.txt")
    assert done.code == 0
    assert re.search(r"^ *class +code +train", done.out)
    assert re.search(r"^ *Forest +311 ", done.out, re.MULTILINE)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process there")
def test_sigterm_leaves_a_checkpoint(folder, monkeypatch):
    from hsifcn.training.optimiser import AdamW

    step = AdamW.step

    def stop(self, lr):
        step(self, lr)
        if self.steps[0] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(AdamW, "step", stop)
    done = train(folder)
    assert done.code == 130
    assert "go on with --resume" in done.err
    assert (folder / "runs/cube/checkpoint/state.safetensors").exists()
    assert signal.getsignal(signal.SIGTERM) == before
