"""``hsifcn predict`` of many scenes: lists, manifests, shards, reruns, workers that are killed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import ENVIRONMENT, assert_refused, command, copy_of_finished, finished_folder
from io_samples import write_envi

from hsifcn.cli.campaign_text import tell_warnings
from hsifcn.cli.options import Output
from hsifcn.core.errors import HsifcnError
from hsifcn.inference import tiling
from hsifcn.inference.bundle import load_model
from hsifcn.inference.campaign import parts
from hsifcn.inference.campaign.job import Job, map_scene, unfit
from hsifcn.inference.campaign.run import hectares_of
from hsifcn.inference.campaign.scene_list import Shard, Task, expand, make_tasks
from hsifcn.io import open_labels

NAMES = [f"flight_{number}" for number in range(6)]


def write_scenes(folder):
    """The scene of the finished run, rolled along its rows: six scenes that differ."""
    folder.mkdir()
    cube = np.load(finished_folder() / "scene.npy")
    for shift, name in enumerate(NAMES):
        write_envi(folder / f"{name}.img", np.roll(cube, 3 * shift, 0))


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """Six scenes, and the bytes of their maps when each is predicted by a command of its own."""
    folder = tmp_path_factory.mktemp("one_by_one")
    copy_of_finished(folder)
    write_scenes(folder / "scenes")
    maps = {}
    for name in NAMES:
        given = ["predict", "runs/cube", f"scenes/{name}.img", "-o", f"{name}.img", "-q"]
        assert command(folder, *given).code == 0
        maps[f"{name}_map.img"] = (folder / f"{name}.img").read_bytes()
    assert len(set(maps.values())) == len(NAMES)
    return folder, maps


@pytest.fixture
def folder(tmp_path, one_by_one):
    for name in ("runs", "scenes"):
        shutil.copytree(one_by_one[0] / name, tmp_path / name)
    return tmp_path


def maps_in(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*_map.img")}


def times_in(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*_map.*")}


def predict(folder, *more):
    return command(folder, "predict", "runs/cube", "scenes/*.img", "-o", "maps", *more)


# Lists


def test_lists_folders_and_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.hdr", "a/x.img", "a/y.tif", "a/y_map.img", "a/b/z.npy", "a/notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert expand(["a"]) == [("a/x.img", True), ("a/y.tif", True)]
    assert expand(["a/**/*.npy", "q.tif"]) == [("a/b/z.npy", True), ("q.tif", False)]
    Path("list.txt").write_text("# of May\n\na/y.tif\n  a/b/z.npy\na/*.hdr\n")
    listed = [("a/y.tif", False), ("a/b/z.npy", False), ("a/x.hdr", True)]
    assert expand(["@list.txt"]) == listed
    tasks = make_tasks(listed, Path("maps"), ".tif")
    assert [Path(task.map).name for task in tasks] == ["y_map.tif", "z_map.tif", "x_map.tif"]
    assert all(Path(task.scene).is_absolute() and Path(task.map).is_absolute() for task in tasks)


@pytest.mark.parametrize(
    ("paths", "part"),
    [
        (["none/*.hdr"], "none/*.hdr holds no scene"),
        (["@nosuch.txt"], "nosuch.txt does not exist"),
        (["@empty.txt"], "empty.txt names no scene"),
        (["@nested.txt"], "nested.txt names another list"),
        (["@remote.txt"], "s3://store/a.tif is an address"),
        (["/vsicurl/http://host/*.tif"], "is an address, and hsifcn reads files only"),
    ],
)
def test_lists_that_are_refused(tmp_path, monkeypatch, paths, part):
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("# nothing\n")
    Path("nested.txt").write_text("@empty.txt\n")
    Path("remote.txt").write_text("s3://store/a.tif\n")
    with pytest.raises(HsifcnError) as error:
        expand(paths)
    assert part in str(error.value)


def test_two_scenes_for_one_map_are_refused(tmp_path):
    with pytest.raises(HsifcnError, match=r"same name: .*one/a.tif and two/a.tif"):
        make_tasks([("one/a.tif", False), ("two/a.tif", False)], tmp_path, ".img")


def test_shards_share_the_list():
    tasks = [Task(str(number), str(number)) for number in range(11)]
    shards = [Shard.parse(f"{number}/4").of_list(tasks) for number in (1, 2, 3, 4)]
    assert sorted(task.scene for shard in shards for task in shard) == sorted(map(str, range(11)))
    assert {len(shard) for shard in shards} == {2, 3}
    for text in ("0/4", "5/4", "4", "a/b", "-1/4", "1/0"):
        with pytest.raises(HsifcnError, match="no shard"):
            Shard.parse(text)


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--shard", "7/3"], ["--shard 7/3", "I/N"]),
        (["--assemble"], ["--assemble takes the folder"]),
        (["--preview"], ["--preview"]),
        (["--polygons", "p.gpkg"], ["p.gpkg is one file for 6 maps"]),
        (["--scheduler", "tcp://h:1", "--shard", "1/2"], ["--scheduler", "--shard"]),
    ],
)
def test_bad_usage(tmp_path, more, parts):
    copy_of_finished(tmp_path)
    write_scenes(tmp_path / "scenes")
    assert_refused(predict(tmp_path, "-q", *more), *parts)
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"versions": {"hsifcn": "9.9"}}, "not 9.9; install hsifcn==9.9 there"),
        ({"model_sha256": "0" * 64}, "is not the model that the command was started with"),
        ({"model": "/nosuch/model.safetensors"}, "the model cannot be taken"),
        ({"id": "of another folder"}, "does not see the folder of the maps"),
        ({"manifest": "/nosuch/maps/manifest.jsonl"}, "mount it there under the same path"),
    ],
)
def test_a_worker_that_cannot_do_the_work_says_why(tmp_path, changes, part):
    model = copy_of_finished(tmp_path) / "model.safetensors"
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text('{"id": "mine"}\n')
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    job = Job({}, str(model), sha256, str(manifest), "mine", {})
    assert unfit(job) is None
    answer = map_scene(replace(job, **changes), Task("scene.npy", str(tmp_path / "map.img")))
    assert answer["status"] == "unfit"
    assert part in answer["cause"]
    assert not (tmp_path / "map.img").exists()


def test_a_scene_that_is_cut_again_keeps_the_parts_that_are_mapped(tmp_path, monkeypatch):
    """As where the worker that cut it is lost before its answer is taken."""
    monkeypatch.setattr(parts, "PART_PIXELS", 20_000)
    monkeypatch.setattr(tiling, "largest_tile", lambda halo: 10_000)
    model = copy_of_finished(tmp_path) / "model.safetensors"
    cube = np.load(tmp_path / "scene.npy")
    np.save(tmp_path / "large.npy", np.tile(cube, (60, 4, 1)))
    given = ("predict", model, "large.npy", "-o", "whole.img", "--precision", "float32", "-q")
    assert command(tmp_path, *given).code == 0
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text('{"id": "mine"}\n')
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    options = {"precision": "float32"}
    job = Job({}, str(model), sha256, str(manifest), "mine", options, in_parts=True)
    task = Task(str(tmp_path / "large.npy"), str(tmp_path / "map.img"))
    cut = map_scene(job, task)["cut"]
    assert len(cut["rows"]) > 1
    for part in range(len(cut["rows"])):
        assert map_scene(job, replace(task, cut=cut, part=part))["status"] == "part"
        assert map_scene(job, task)["cut"]["rows"] == cut["rows"]
    assert map_scene(job, replace(task, cut=cut))["status"] == "done"
    assert (tmp_path / "map.img").read_bytes() == (tmp_path / "whole.img").read_bytes()
    assert not parts.parts_folder(tmp_path / "map.img").exists()


# What is told


def test_each_kind_of_warning_is_told_once(capsys):
    warned = [
        {"scene": f"/data/f{n}.img", "warnings": [f"/data/f{n}.img: {n}.5 % are odd"]}
        for n in range(3)
    ]
    summary = {"warnings": [*warned, {"scene": "/data/g.img", "warnings": ["no place"]}]}
    tell_warnings(Output(quiet=False, verbose=False, json=False), summary)
    assert capsys.readouterr().err.splitlines() == [
        "warning: 3 scenes, f0.img among them: 0.5 % are odd",
        "warning: g.img: no place",
        "--verbose tells the warnings of every scene",
    ]
    tell_warnings(Output(quiet=False, verbose=True, json=False), summary)
    assert "warning: /data/f2.img: 2.5 % are odd" in capsys.readouterr().err


def test_hectares_are_told_where_every_map_has_some():
    results = [{"counts": [1, 2], "pixel_area": 25.0}, {"counts": [0, 4], "pixel_area": 100.0}]
    assert hectares_of(results) == [0.0025, 0.045]
    assert hectares_of([*results, {"counts": [1, 1], "pixel_area": None}]) is None
    assert hectares_of([]) is None


# Runs


@pytest.mark.slow
def test_a_campaign_and_its_reruns(folder, one_by_one):
    scenes = folder / "scenes"
    good = (scenes / "flight_2.img").read_bytes()
    (scenes / "flight_2.img").write_bytes(good[:100])
    cube = np.load(finished_folder() / "scene.npy")
    write_envi(scenes / "elevation.img", cube[:, :, :1])
    done = predict(folder, "--workers", 2, "--json")
    assert done.code == 1
    assert "error: 1 of 7 scenes failed" in done.err
    assert "Traceback" not in done.err
    expected = dict(one_by_one[1])
    missing = expected.pop("flight_2_map.img")
    assert maps_in(folder / "maps") == expected
    (failed,) = done.json["failed"]
    assert failed["map"] == "flight_2_map.img"
    assert "truncated" in failed["cause"]
    assert [Path(entry["scene"]).name for entry in done.json["left_out"]] == ["elevation.img"]
    totals = done.json["totals"]
    assert (totals["scenes"], totals["mapped"], totals["failed"]) == (7, 5, 1)
    labels = [open_labels(folder / "maps" / name).labels for name in expected]
    assert totals["counts"] == sum(np.bincount(one.ravel(), minlength=4) for one in labels).tolist()
    summary = json.loads((folder / "maps/summary.json").read_text())
    assert summary["totals"] == totals

    # Again: nothing is done; the failed one is told, and tried only when asked to.
    before = times_in(folder / "maps")
    again = predict(folder, "--workers", 2)
    assert again.code == 1
    assert "7 of 7 scenes were dealt with before" in again.err
    assert "flight_2.img is truncated" in again.out
    assert times_in(folder / "maps") == before
    retried = predict(folder, "--workers", 1, "--retry-failed")
    assert retried.code == 1
    assert "6 of 7 scenes were dealt with before" in retried.err

    # A failed scene that changed is tried again, and so is a map that is gone or cut off.
    (scenes / "flight_2.img").write_bytes(good)
    (folder / "maps/flight_4_map.img").write_bytes(b"")
    mended = predict(folder, "--workers", 2)
    assert mended.code == 0, mended.err
    assert "5 of 7 scenes were dealt with before" in mended.err
    assert maps_in(folder / "maps") == {**expected, "flight_2_map.img": missing}
    untouched = {n: t for n, t in before.items() if not n.startswith(("flight_2", "flight_4"))}
    assert untouched.items() <= times_in(folder / "maps").items()


@pytest.mark.slow
def test_two_models_are_not_mixed(folder):
    assert predict(folder, "--workers", 1).code == 0
    before = maps_in(folder / "maps")
    shutil.copytree(folder / "runs/cube", folder / "runs/other")
    other = ["predict", "runs/other", "scenes/*.img", "-o", "maps"]
    path = folder / "runs/other/model.safetensors"
    bundle = load_model(path)
    replace(bundle, temperature=2 * bundle.temperature).save(path, overwrite=True)
    refused = command(folder, *other, "-q")
    assert_refused(refused, "maps/manifest.jsonl is of another model", "--overwrite")
    refused = predict(folder, "-q", "--confidence")
    assert_refused(refused, "maps/manifest.jsonl is of other options (confidence)", "--overwrite")
    assert maps_in(folder / "maps") == before
    replaced = command(folder, *other, "--overwrite", "--confidence", "--json")
    assert replaced.code == 0, replaced.err
    assert replaced.json["totals"]["mapped"] == len(NAMES)
    assert len(list((folder / "maps").glob("*_map_confidence.img"))) == len(NAMES)


@pytest.mark.slow
def test_shards_make_the_same_maps(folder, one_by_one):
    first = predict(folder, "--shard", "1/3", "--workers", 1, "--json")
    assert first.code == 0, first.err
    assert first.json["totals"]["scenes"] == 2
    partly = command(folder, "predict", "--assemble", "-o", "maps")
    assert partly.code == 1
    assert "shards 2,3 left nothing in maps" in partly.err
    (folder / "scenes/flight_1.img").write_bytes(b"")
    assert predict(folder, "--shard", "2/3", "--workers", 1).code == 1
    assert predict(folder, "--shard", "3/3", "--workers", 1).code == 0
    whole = command(folder, "predict", "--assemble", "-o", "maps", "--json")
    assert whole.code == 1
    assert "0 of 6 scenes are missing, 1 failed" in whole.err
    assert whole.json["totals"]["mapped"] == 5
    expected = dict(one_by_one[1])
    del expected["flight_1_map.img"]
    assert maps_in(folder / "maps") == expected
    # A run without shards goes on where they ended.
    rest = predict(folder, "--workers", 1)
    assert "6 of 6 scenes were dealt with before" in rest.err


def test_nothing_to_assemble(tmp_path):
    (tmp_path / "maps").mkdir()
    done = command(tmp_path, "predict", "--assemble", "-o", "maps", "-q")
    assert_refused(done, "maps holds no manifest", code=1)


def workers_of(process):
    """The worker processes that a process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
            words = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if f"\nPPid:\t{process.pid}\n" in text and b"campaign.worker" in words:
            found.append(int(status.parent.name))
    return found


def wait_for(condition, seconds=200):
    started = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - started < seconds
        time.sleep(0.05)
    return found


def start(folder, *more):
    """Start a campaign as a process, of which one scene is a pipe that nobody writes to."""
    os.mkfifo(folder / "scenes/stuck.npy")
    given = ["predict", "runs/cube", "scenes", "-o", "maps", "--workers", "2", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "hsifcn", *given],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds processes in /proc")
def test_a_killed_worker_loses_nothing(folder, one_by_one):
    process = start(folder)
    wait_for(lambda: len(maps_in(folder / "maps")) == len(NAMES))
    wait_for(lambda: len(workers_of(process)) == 1)
    (stuck,) = workers_of(process)
    (folder / "scenes/stuck.npy").unlink()
    shutil.copy(finished_folder() / "scene.npy", folder / "scenes/stuck.npy")
    os.kill(stuck, signal.SIGKILL)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    maps = maps_in(folder / "maps")
    assert maps.pop("stuck_map.img") == one_by_one[1]["flight_0_map.img"]
    assert maps == one_by_one[1]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds processes in /proc")
def test_a_scene_that_always_kills_its_worker_fails_alone(folder, one_by_one):
    process = start(folder)
    wait_for(lambda: len(maps_in(folder / "maps")) == len(NAMES))
    killed = set()
    while process.poll() is None:
        left = set(workers_of(process)) - killed
        if len(left) == 1 and len(workers_of(process)) == 1:
            time.sleep(3)  # as far as to the scene
            killed |= left
            os.kill(left.pop(), signal.SIGKILL)
        time.sleep(0.1)
    out, err = process.communicate()
    assert process.returncode == 1
    assert "stuck.npy: its process ended 3 times, last killed by signal 9" in out
    assert err.count("error: ") == 1
    assert maps_in(folder / "maps") == one_by_one[1]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_was_stopped_goes_on(folder, one_by_one, number):
    process = start(folder)
    wait_for(lambda: len(maps_in(folder / "maps")) == len(NAMES))
    workers = workers_of(process)
    assert workers
    refused = predict(folder, "-q")
    assert_refused(refused, "maps/manifest.jsonl is written by another run", "wait for it")
    process.send_signal(number)
    _, err = process.communicate(timeout=200)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in err
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    (folder / "scenes/stuck.npy").unlink()
    with open(folder / "maps/manifest.jsonl", "ab") as manifest:
        manifest.write(b'{"map": "flight_0_map.img", "sta')  # as a crash may leave it
    before = times_in(folder / "maps")
    rest = predict(folder, "--workers", 1)
    assert rest.code == 0, rest.err
    assert times_in(folder / "maps") == before
    assert maps_in(folder / "maps") == one_by_one[1]
