"""``hsifcn predict --scheduler``: real schedulers and workers of Dask, and hosts that are lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import numpy as np
import pytest
from cli_helpers import ENVIRONMENT, assert_refused, command, copy_of_finished, finished_folder
from io_samples import write_envi
from test_fleet import NAMES, maps_in, wait_for, write_scenes

pytest.importorskip("distributed", reason="Dask is not installed: pip install -e '.[dask]'")
pytestmark = pytest.mark.slow

MODULE = {"scheduler": "distributed.cli.dask_scheduler", "worker": "distributed.cli.dask_worker"}


class Dask:
    """Processes of a cluster; with namespaces, each on a host of its own."""

    def __init__(self, processes, folder):
        self.processes = processes
        self.folder = folder
        self.address = f"tcp://127.0.0.1:{free_port()}"

    def start(self, kind, *arguments, prefix=(), **environment):
        with open(self.folder / f"{kind}.log", "ab") as log:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", MODULE[kind], *map(str, arguments)],
                cwd=self.folder,
                env={**ENVIRONMENT, **environment},
                stdout=log,
                stderr=log,
            )
        self.processes.callback(process.wait)
        self.processes.callback(process.kill)
        return process

    def scheduler(self, prefix=(), **environment):
        host, port = self.address.removeprefix("tcp://").split(":")
        process = self.start(
            *("scheduler", "--host", host, "--port", port, "--no-dashboard"),
            prefix=prefix,
            **environment,
        )
        wait_for(lambda: b"Scheduler at" in (self.folder / "scheduler.log").read_bytes())
        return process

    def worker(self, prefix=(), **environment):
        """A worker without a nanny, so that the process that is killed is the worker."""
        before = self.registered()
        options = ("--nthreads", 1, "--no-nanny", "--no-dashboard", "--memory-limit", "2GB")
        options += ("--local-directory", self.folder)
        process = self.start("worker", self.address, *options, prefix=prefix, **environment)
        wait_for(lambda: self.registered() > before)
        return process

    def registered(self):
        log = self.folder / "worker.log"
        return log.read_bytes().count(b"Registered to") if log.exists() else 0


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def folder(tmp_path):
    copy_of_finished(tmp_path)
    write_scenes(tmp_path / "scenes")
    return tmp_path


@pytest.fixture
def dask(tmp_path_factory):
    with ExitStack() as processes:
        yield Dask(processes, tmp_path_factory.mktemp("dask"))


def with_version(folder, package, version):
    """The environment of a process that has a package in another version, as far as it can tell."""
    told = folder / f"{package}-{version}.dist-info" / "METADATA"
    told.parent.mkdir(parents=True)
    told.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"}


def expected_maps(folder):
    """The bytes of the maps that processes of this machine make."""
    given = ["predict", "runs/cube", "scenes/*.img", "-o", "here", "--workers", 1, "-q"]
    command(folder, *given)
    return maps_in(folder / "here")


def on_cluster(folder, dask, *more):
    given = ["predict", "runs/cube", "scenes", "-o", "maps", "--scheduler", dask.address]
    return command(folder, *given, *more)


def start_on_cluster(folder, dask, *more, prefix=()):
    """As a process; one of the scenes is a pipe that nobody writes to."""
    os.mkfifo(folder / "scenes/stuck.npy")
    given = ["predict", "runs/cube", "scenes", "-o", "maps", "--scheduler", dask.address]
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "hsifcn", *given, *more],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(folder):
    """How many scenes the manifest tells of."""
    manifest = folder / "maps/manifest.jsonl"
    return manifest.read_bytes().count(b'"status"') if manifest.exists() else 0


def put_scene(folder):
    """Replace the pipe by a scene."""
    (folder / "scenes/stuck.npy").unlink()
    shutil.copy(finished_folder() / "scene.npy", folder / "scenes/stuck.npy")


def test_the_maps_are_those_of_this_machine(folder, dask):
    (folder / "scenes/flight_2.img").write_bytes(b"")
    write_envi(folder / "scenes/dem.img", np.load(folder / "scene.npy")[:, :, :1])
    expected = expected_maps(folder)
    dask.scheduler()
    dask.worker()
    dask.worker(**with_version(dask.folder / "old", "hsifcn", "0.0.1"))
    done = on_cluster(folder, dask, "--json")
    assert done.code == 1
    assert "warning: worker tcp://127.0.0.1:" in done.err
    assert "it has hsifcn 0.0.1" in done.err
    assert "error: 1 of 7 scenes failed" in done.err
    assert "Traceback" not in done.err
    assert maps_in(folder / "maps") == expected
    assert done.json["totals"]["left_out"] == 1
    (failed,) = done.json["failed"]
    assert f"(worker {failed['worker']})" in done.err
    assert failed["worker"].startswith("tcp://127.0.0.1:")
    again = on_cluster(folder, dask)
    assert "7 of 7 scenes were dealt with before" in again.err


def test_a_large_scene_is_mapped_in_parts(folder, dask):
    """By two workers in rows of tiles; one is lost on the way; the map is that of one machine."""
    cube = np.load(folder / "scene.npy")
    large = np.tile(np.round(1000 * cube).astype("i2"), (230, 42, 1))  # 4600 x 1008 pixels
    write_envi(folder / "large.img", large, order="bip", reflectance_scale_factor=1000)
    given = ["predict", "runs/cube", "large.img", "--precision", "float32"]
    given += ["--confidence", "--probabilities"]
    assert command(folder, *given, "-o", "whole.img").code == 0
    dask.scheduler()
    dask.worker()
    lost = dask.worker()
    process = subprocess.Popen(
        [sys.executable, "-m", "hsifcn", *given, "-o", "maps", "--scheduler", dask.address, "-q"],
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: list((folder / "maps").glob(".large_map.img.parts/rows_*.hdr")))
    lost.send_signal(signal.SIGKILL)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    for end in ("", "_confidence", "_dissimilarity", "_probabilities"):
        whole = (folder / f"whole{end}.img").read_bytes()
        assert (folder / f"maps/large_map{end}.img").read_bytes() == whole
    assert [path.name for path in (folder / "maps").glob(".*")] == []
    assert finished(folder) == 1
    counts = json.loads((folder / "maps/summary.json").read_text())["totals"]["counts"]
    assert counts == json.loads((folder / "whole.img.json").read_text())["counts"]


def test_scenes_at_addresses(folder, dask):
    """The server is a process, as the workers are; one of the scenes is not there."""
    pytest.importorskip("aiohttp", reason="pip install -e '.[remote]'")
    expected = expected_maps(folder)
    del expected["flight_3_map.img"]
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        cwd=folder / "scenes",
        stderr=subprocess.DEVNULL,
    )
    dask.processes.callback(server.wait)
    dask.processes.callback(server.kill)
    (folder / "scenes/flight_3.img").unlink()
    lines = [f"http://127.0.0.1:{port}/{name}.img" for name in NAMES]
    (folder / "list.txt").write_text("\n".join(lines))
    dask.scheduler()
    for number in range(2):
        (folder / f"temporary_{number}").mkdir()
        dask.worker(TMPDIR=str(folder / f"temporary_{number}"), NO_PROXY="127.0.0.1")
    given = ["predict", "runs/cube", "@list.txt", "-o", "maps", "--scheduler", dask.address]
    done = command(folder, *given, "--allow-remote", "--json")
    assert done.code == 1
    assert [entry["cause"] for entry in done.json["failed"]] == [
        f"{lines[3]} does not exist; check the address"
    ]
    assert maps_in(folder / "maps") == expected
    assert not list(folder.glob("temporary_?/.hsifcn-copy*"))


def test_a_worker_settles_how_memory_is_asked_for_before_pytorch_is_loaded():
    """Without large pages a worker of Dask took a third longer than a process of this machine."""
    program = (
        "import os, sys, hsifcn.inference.campaign.dask_worker as worker\n"
        "assert 'torch' not in sys.modules\n"
        "try:\n    worker.check_on_worker({})\nexcept TypeError:\n    pass\n"
        "assert 'torch' in sys.modules\n"
        "assert os.environ['THP_MEM_ALLOC_ENABLE'] == '1'\n"
    )
    environment = {k: v for k, v in ENVIRONMENT.items() if k != "THP_MEM_ALLOC_ENABLE"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_no_cluster_no_workers_no_fit_worker(folder, dask):
    started = time.monotonic()
    done = on_cluster(folder, dask, "-q")
    assert_refused(done, f"no Dask scheduler answers at {dask.address}", "dask scheduler", code=1)
    assert time.monotonic() - started < 15
    dask.scheduler()
    done = on_cluster(folder, dask, "-q")
    assert_refused(done, "has no workers", f"dask worker {dask.address}", code=1)
    dask.worker(**with_version(dask.folder / "old", "torch", "0.1"))
    done = on_cluster(folder, dask, "-q")
    assert_refused(done, "no worker can do this: tcp://", "it has torch 0.1", "install", code=1)


def test_a_lost_worker_loses_nothing(folder, dask):
    expected = expected_maps(folder)
    dask.scheduler()
    worker = dask.worker()
    process = start_on_cluster(folder, dask)
    wait_for(lambda: finished(folder) == len(NAMES))
    put_scene(folder)
    worker.send_signal(signal.SIGKILL)
    dask.worker()
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    maps = maps_in(folder / "maps")
    assert maps.pop("stuck_map.img") == expected["flight_0_map.img"]
    assert maps == expected
    assert finished(folder) == len(NAMES) + 1


def test_a_scene_that_loses_every_worker_fails_alone(folder, dask):
    expected = expected_maps(folder)
    dask.scheduler(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    worker = dask.worker()
    process = start_on_cluster(folder, dask)
    wait_for(lambda: finished(folder) == len(NAMES))
    worker.send_signal(signal.SIGKILL)
    dask.worker()
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "stuck.npy: its workers were lost" in out
    assert err.count("error: ") == 1
    assert maps_in(folder / "maps") == expected


def test_a_scheduler_that_goes_away(folder, dask):
    scheduler = dask.scheduler()
    dask.worker()
    process = start_on_cluster(folder, dask, "-q")
    wait_for(lambda: finished(folder) == len(NAMES))
    scheduler.send_signal(signal.SIGKILL)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert err.startswith(f"error: the Dask scheduler at {dask.address} went away")
    assert err.count("\n") == 1
    (folder / "scenes/stuck.npy").unlink()
    rest = command(folder, "predict", "runs/cube", "scenes", "-o", "maps")
    assert "6 of 6 scenes were dealt with before" in rest.err


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts():
    """Three hosts: network namespaces on one bridge, which lies in the first."""
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    names = [f"hsifcn-{os.getpid()}-{number}" for number in range(3)]
    try:
        ip("netns", "add", names[0])
    except subprocess.CalledProcessError:
        pytest.skip("this system gives no network namespaces")
    try:
        ip("-n", names[0], "link", "add", "bridge", "type", "bridge")
        ip("-n", names[0], "address", "add", "10.213.0.1/24", "dev", "bridge")
        for device in ("lo", "bridge"):
            ip("-n", names[0], "link", "set", device, "up")
        for number, name in enumerate(names[1:], 2):
            ip("netns", "add", name)
            peer = ("type", "veth", "peer", "name", "eth", "netns", name)
            ip("-n", names[0], "link", "add", f"eth{number}", *peer)
            ip("-n", names[0], "link", "set", f"eth{number}", "master", "bridge", "up")
            ip("-n", name, "address", "add", f"10.213.0.{number}/24", "dev", "eth")
            for device in ("lo", "eth"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def test_a_host_that_is_cut_off_half_way(folder, dask, hosts):
    """The scheduler on one host, a worker on two others; files are shared."""
    for path in (folder / "scenes").iterdir():
        for number in range(8):
            shutil.copy(path, path.with_name(f"{path.stem}_{number}{path.suffix}"))
    expected = expected_maps(folder)
    dask.address = "tcp://10.213.0.1:8786"
    first, second, third = (("ip", "netns", "exec", name) for name in hosts)
    dask.scheduler(first, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="3s")
    dask.worker(second)
    dask.worker(third)
    given = ["predict", "runs/cube", "scenes", "-o", "maps", "--scheduler", dask.address, "-q"]
    process = subprocess.Popen(
        [*first, sys.executable, "-m", "hsifcn", *given],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: finished(folder) >= 10)
    ip("-n", hosts[2], "link", "set", "eth", "down")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert maps_in(folder / "maps") == expected
    manifest = (folder / "maps/manifest.jsonl").read_text()
    assert "tcp://10.213.0.2:" in manifest
    assert "tcp://10.213.0.3:" in manifest
    assert finished(folder) == len(expected) == 9 * len(NAMES)
    assert not list((folder / "maps").glob(".*"))
