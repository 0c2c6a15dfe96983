"""``hsifcn compare-patch-vs-fcn``: outputs, resuming, contenders that fail, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import (
    COMPARISON,
    ENVIRONMENT,
    ROOT,
    assert_refused,
    command,
    finished_comparison,
    hsifcn,
    small_scene,
    snapshot,
)

from hsifcn.inference.bundle import load_model
from hsifcn.models import default_spec
from hsifcn.models.flops import predict_flops

SHORT = ["compare-patch-vs-fcn", "cube.npy", "-o", "out", "-s", "random:0.2", "--patch", "5"]
SHORT += ["--seeds", "1", "--steps", "4", "--budget", "0"]


@pytest.fixture
def folder(tmp_path):
    small_scene(tmp_path)
    return tmp_path


@pytest.fixture
def compared(tmp_path):
    shutil.copytree(finished_comparison(), tmp_path, dirs_exist_ok=True)
    return tmp_path


def weights(folder):
    return {name: file for name, file in snapshot(folder).items() if name.endswith(".safetensors")}


@pytest.mark.slow
def test_progress_is_told_on_stderr():
    messages = (finished_comparison() / "compare.stderr").read_text()
    assert "labels of cube.npy: cube_gt.npy" in messages
    assert "Traceback" not in messages


@pytest.mark.slow
def test_a_finished_comparison_is_kept_unless_told(compared):
    before = snapshot(compared)
    assert_refused(command(compared, *COMPARISON, "-q"), "out exists", "--overwrite", "--resume")
    other = command(compared, *COMPARISON, "-q", "--resume", "--steps", "5")
    assert_refused(other, "out exists")
    assert snapshot(compared) == before


@pytest.mark.slow
def test_resume_keeps_what_is_there(compared):
    out = compared / "out"
    first = json.loads((out / "comparison.json").read_text())
    (out / "comparison.json").unlink()
    (out / "report.html").unlink()
    before = weights(out)
    done = command(compared, *COMPARISON, "--resume", "-q")
    assert (done.code, done.err) == (0, "")
    assert weights(out) == before
    again = json.loads((out / "comparison.json").read_text())
    assert again["contenders"] == first["contenders"]
    assert (out / "report.html").exists()
    for part in ("patch CNN 5x5", "OA %", "touch a training pixel", "report.html"):
        assert part in done.out


@pytest.mark.slow
def test_a_contender_that_fails_leaves_the_others_standing(folder):
    """A process that works on the patch CNN kills itself, as the system does for want of memory."""
    (folder / "killer").mkdir()
    (folder / "killer/sitecustomize.py").write_text(
        "import os, pathlib, signal, sys\n"
        "files = [pathlib.Path(word) for word in sys.orig_argv if word.endswith('.json')]\n"
        "if any('\"patch5\"' in file.read_text() for file in files if file.is_file()):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join([str(folder / "killer"), str(ROOT)])
    done = hsifcn(folder, *SHORT, "--models", "patch,cast,fcn32s", "--json", PYTHONPATH=path)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    rows = {row["name"]: row for row in done.json["contenders"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "patch": "failed",
        "cast": "failed",
        "fcn32s": "done",
    }
    assert "signal 9" in rows["patch"]["reason"]
    assert 0 <= rows["fcn32s"]["oa"]["mean"] <= 1
    assert (folder / "out/report.html").exists()

    without = command(folder, *SHORT, "--models", "patch,cast,fcn32s", "--resume", "--json")
    rows = {row["name"]: row for row in without.json["contenders"]}
    assert [row["status"] for row in rows.values()] == ["done"] * 3


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent otherwise")
def test_interrupt(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "hsifcn", *SHORT, "--models", "fcn32s", "--steps", "100000"],
        cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    for line in process.stderr:
        if "fcn32s" in line:
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    assert not (folder / "out/comparison.json").exists()
    refused = command(folder, *SHORT, "--models", "fcn32s", "--steps", "4", "-q")
    assert_refused(refused, "out exists", "--resume")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent otherwise")
def test_an_interrupted_comparison_goes_on_where_it_stopped(folder):
    """Interrupted in its third contender; what the first two left is taken up, byte for byte."""
    arguments = [*SHORT, "--models", "patch,fcn32s,cast"]
    (folder / "slow").mkdir()
    (folder / "slow/sitecustomize.py").write_text(
        "import pathlib, sys, time\n"
        "files = [pathlib.Path(word) for word in sys.orig_argv if word.endswith('.task.json')]\n"
        "if any('fcn32s' in file.name for file in files):\n"
        "    time.sleep(60)\n"
    )
    path = os.pathsep.join([str(folder / "slow"), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, "-m", "hsifcn", *arguments], cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    for line in process.stderr:
        if "fcn32s" in line:
            break
    time.sleep(0.5)  # so that the process of the contender is there too
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    before = snapshot(folder / "out/jobs")
    done_before = {name: file for name, file in before.items() if name.endswith(".result.json")}
    assert done_before
    assert not any("fcn32s" in name for name in done_before)

    resumed = command(folder, *arguments, "--resume", "--json")
    assert [row["status"] for row in resumed.json["contenders"]] == ["done"] * 3
    after = snapshot(folder / "out/jobs")
    assert {name: after[name] for name in done_before} == done_before
    assert (folder / "out/report.html").exists()


@pytest.mark.slow
def test_no_code_of_the_current_folder_is_run_and_failing_all_is_failing(folder):
    """A ``json.py`` beside the data stays unread; every worker is killed, so there is no figure."""
    (folder / "json.py").write_text("open('executed', 'w')\n")
    (folder / "killer").mkdir()
    (folder / "killer/sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if sys.orig_argv[-1].endswith('.task.json'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    hsifcn_command = Path(sys.executable).with_name("hsifcn")
    arguments = [*SHORT, "--models", "fcn32s"]
    environment = {
        **ENVIRONMENT,
        "PYTHONPATH": os.pathsep.join([str(folder / "killer"), str(ROOT)]),
    }
    done = subprocess.run(
        [hsifcn_command, *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: every contender failed: killed by")
    done = subprocess.run(
        [hsifcn_command, *arguments, "--resume", "-q"], cwd=folder, env=ENVIRONMENT,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (folder / "executed").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_workers_end_with_the_command(folder, number):
    process = subprocess.Popen(
        [sys.executable, "-m", "hsifcn", *SHORT, "--models", "fcn32s", "--steps", "100000"],
        cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while not (found := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = Path("/proc") / found[0]
    os.kill(process.pid, number)
    process.wait(60)
    deadline = time.monotonic() + 30
    while worker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not worker.exists()


@pytest.mark.slow
def test_both_regimes_side_by_side(folder):
    arguments = ["--models", "patch,hsifcn", "--learn-from", "both", "--json", "-q"]
    done = hsifcn(folder, *SHORT, *arguments, timeout=300)
    assert done.code == 0, done.err
    regimes = {split["name"]: split["regime"] for split in done.json["splits"]}
    assert regimes == {
        "random:0.2": "labels-alone",
        "random:0.2, pseudo-labels": "pseudo-labels",
    }
    assert [row["status"] for row in done.json["contenders"]] == ["done"] * 4
    for name in ("patch", "hsifcn"):
        alone, pseudo = (
            load_model(folder / f"out/jobs/split-{number}/{name}-0.safetensors")
            for number in (0, 1)
        )
        assert (alone.settings["propagation"], pseudo.settings["propagation"]) == (0, 1)
        assert any((alone.weights[key] != pseudo.weights[key]).any() for key in alone.weights)


@pytest.mark.slow
def test_bands_are_chosen_by_wavelengths_from_a_file(folder):
    np.savetxt(folder / "nm.txt", np.linspace(400, 950, 12))
    chosen = ["--models", "svm,fcn32s", "--bands", "400nm-650nm", "--wavelengths", "nm.txt"]
    done = hsifcn(
        folder, *SHORT, *chosen, "--budget", "9s", "--json"
    )  # the growth with the scene is measured too
    assert done.code == 0, done.err
    assert [row["status"] for row in done.json["contenders"]] == ["done", "done"]
    assert all(row["measured"] for row in done.json["scaling"]["by_scene"])
    bundle = load_model(folder / "out/jobs/split-0/fcn32s-0.safetensors")
    assert bundle.good_bands.tolist() == [True] * 6 + [False] * 6
    np.testing.assert_allclose(bundle.wavelengths, np.linspace(400, 950, 12))
    spec = default_spec("fcn32s", 6, 3)
    assert done.json["contenders"][1]["flops_predict"] == predict_flops(
        spec, 20, 24, whole_scene=True
    )


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    _, labels = small_scene(folder)
    np.save(folder / "small.npy", labels[:5])
    (folder / "twice.txt").write_text("corn\ncorn\noak\n")
    (folder / "full").mkdir()
    (folder / "full/notes.txt").write_text("mine")
    return folder


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nosuch.npy"], ["nosuch.npy does not exist"]),
        (["cube_gt.npy"], ["cube_gt.npy"]),
        (["cube.npy", "-l", "small.npy"], ["small.npy is 5x24", "20x24"]),
        (["cube.npy", "-l", "cube_gt.npy", "-l", "cube_gt.npy"], ["2 label files"]),
        (["cube.npy", "-s", "nosuch"], ["no split 'nosuch'", "random:0.1"]),
        (["cube.npy", "-s", "random:0.1", "-s", "checkerboard:50"], ["checkerboard:50"]),
        (["cube.npy", "--patch", "4"], ["patches of 4 pixels", "5, 7"]),
        (["cube.npy", "--patch", "99"], ["patches of 99 pixels", "5, 7"]),
        (["cube.npy", "--models", "nosuch"], ["no contender 'nosuch'", "cast"]),
        (["cube.npy", "--models", "patch,"], ["no contender ''", "cast"]),
        (["cube.npy", "--class-names", "twice.txt"], ["twice.txt", "'corn'"]),
        (["cube.npy", "--wavelengths", "twice.txt"], ["twice.txt, line 1"]),
        (["cube.npy", "--bands", "400nm-900nm"], ["--bands 400nm-900nm", "--wavelengths"]),
        (["cube.npy", "--bands", "5-13"], ["--bands 5-13", "1-12"]),
        (["cube.npy", "-o", "small.npy"], ["small.npy"]),
        (["cube.npy", "-o", "small.npy/out"], ["small.npy/out"]),
        (["cube.npy", "-o", "full"], ["full exists", "--overwrite"]),
        (["cube.npy", "-o", "full", "--resume"], ["full exists", "--overwrite"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input(bad_folder, arguments, parts):
    before = snapshot(bad_folder)
    done = command(bad_folder, "compare-patch-vs-fcn", "-o", "out", *arguments, "-q")
    assert_refused(done, *parts)
    assert snapshot(bad_folder) == before


@pytest.mark.slow
def test_who_does_not_fit_under_the_ceiling_is_marked(folder):
    ceiling = ["--max-memory", "10M", "--device", "cpu"]
    done = command(folder, *SHORT, "--models", "svm,patch,cast,hsifcn", *ceiling)
    assert done.code == 0, done.err
    assert done.err.count(" skipped: ") == 4
    assert done.err.count("ceiling") >= 1
    result = json.loads((folder / "out/comparison.json").read_text())
    assert [row["status"] for row in result["contenders"]] == ["skipped"] * 4
