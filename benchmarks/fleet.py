"""``hsifcn predict`` of many scenes: two workers against one, Dask against processes, long lists.

    python -m benchmarks.fleet [--scenes 40] [--side 1024] [--large 1000] [--queued 10000] [--write]

Scenes are mosaics of the bundled one, each under a name of its own. Every command is a fresh
process, and every worker computes with one thread. The long list is mapped by a stand-in that
answers at once, as only the memory of those who hand out the work is of interest. The last table is
an estimate for 100 machines from the rates measured here. ``--write`` puts the tables into
``docs/fleet.md``.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.command import Figures, run_hsifcn
from benchmarks.pages import DOCS, ROOT, markdown_table, where_measured, write_figures
from benchmarks.rasters import INDIAN_PINES, indian_pines, write_header

PAGE = DOCS / "fleet.md"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
ON_ONE_CORE = "import os; os.sched_setaffinity(0, {0})\n"
STEPS = 50  # of the model: it need not be good
FLEET, GRANULES = 100, 10_000  # workers and scenes of the estimate
EMIT = (1280, 1242, 285)  # rows, columns, bands of a granule, float32
STORAGE_GB_S, CORE_HOUR = 5.0, 0.05  # of all workers together; dollars: assumptions

# The command, with a stand-in for the work of a task.
STAND_IN = """
import benchmarks.fleet
from hsifcn.inference.campaign import dask_cluster
dask_cluster.map_on_worker = benchmarks.fleet.stand_in
"""


def stand_in(job: dict[str, Any], task: dict[str, Any]) -> Figures:
    """What a worker would answer for a scene that it has mapped."""
    name = Path(task["map"]).name
    shift = {"pixels": 256, "mean_difference": 0.1, "gain": [1.0] * 10}
    result = {"map": task["map"], "counts": [256, *[0] * 16], "seconds": 0.0, "files": {name: 256}}
    result |= {"shape": [16, 16], "request": job["options"], "shift": shift, "unchanged": False}
    entry = {"map": name, "scene": task["scene"], "worker": "", "digest": "0" * 64, "warnings": []}
    return {**entry, "status": "done", "result": result}


def write_scenes(folder: Path, count: int, side: int) -> None:
    """Write a mosaic of the bundled scene, ``side`` pixels wide, under many names."""
    folder.mkdir()
    scene, _ = indian_pines()
    rows, _, bands = scene.shape
    times = -(-side // rows)
    cube = np.tile(scene.astype(np.int16), (times, times, 1))[:side, :side]
    raster = folder.with_suffix(".img")
    raster.write_bytes(np.ascontiguousarray(cube).tobytes())
    write_header(raster, (side, side, bands), "bip")
    for number in range(count):
        for suffix in (".img", ".hdr"):
            (folder / f"scene_{number:05d}{suffix}").symlink_to(raster.with_suffix(suffix))


def predict(folder: Path, scenes: str, *options: str, before: str = "") -> Figures:
    """Run the command; gives its JSON, its seconds and its peak of memory."""
    arguments = ["predict", "run", scenes, "-o", f"maps-{time.monotonic_ns()}", "--json", *options]
    done = run_hsifcn(*arguments, folder=folder, before=before, environment=ONE_THREAD)
    return {**done.json, "whole": done.seconds, "peak": done.peak}


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[tuple[str, int]]:
    """A Dask cluster of workers with one thread; gives its address and the scheduler's process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    host, port = address.removeprefix("tcp://").split(":")
    scheduler = ["dask_scheduler", "--host", host, "--port", port, "--no-dashboard"]
    worker = ["dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    with ExitStack() as processes:
        ids = []
        for module, *options in [scheduler, *[worker] * workers]:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *options],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **ONE_THREAD},
                stderr=subprocess.DEVNULL,
            )
            processes.callback(process.wait)
            processes.callback(process.kill)
            ids.append(process.pid)
        time.sleep(8)  # until all are there
        yield address, ids[0]


def peak_of(process: int) -> int:
    """Peak resident memory of another process, bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def worker_rows(
    folder: Path, scenes: int, side: int, repeats: int
) -> tuple[list[list[str]], float]:
    """Whole commands with one and two processes; and the pixels a second of one on one core."""
    ways = {"one, on one core": ("1", ON_ONE_CORE), "one": ("1", ""), "two": ("2", "")}
    times: dict[str, list[Figures]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, (workers, before) in ways.items():
            options = ("--workers", workers, "--precision", "float32")
            times[way].append(predict(folder, "small/*.img", *options, before=before))
    whole = {way: median(run["whole"] for run in runs) for way, runs in times.items()}
    alone = whole["one, on one core"]
    rows = [[way, f"{seconds:.1f}", f"{alone / seconds:.2f}"] for way, seconds in whole.items()]
    return rows, scenes * side**2 / alone


def dask_rows(folder: Path, scenes: int, repeats: int) -> list[list[str]]:
    """Large scenes by two processes, and by two workers of a cluster."""
    local, remote = [], []
    for _ in range(repeats):
        local.append(predict(folder, "large/*.img", "--workers", "2", "--precision", "float32"))
        with cluster(folder, 2) as (address, _):
            given = ("--scheduler", address, "--precision", "float32")
            predict(folder, "small/*0[0-7].img", *given)  # so that both have loaded PyTorch
            remote.append(predict(folder, "large/*.img", *given))
    here, there = (median(run["whole"] for run in runs) for runs in (local, remote))
    overhead = f"{100 * (there / here - 1):+.1f} %"
    return [
        ["two processes", str(scenes), f"{here:.1f}", ""],
        ["Dask, two workers", str(scenes), f"{there:.1f}", overhead],
    ]


def queue_row(folder: Path, queued: int) -> list[str]:
    """A long list: memory of the command and of the scheduler."""
    with cluster(folder, 2) as (address, scheduler):
        found = predict(folder, "queued/*.img", "--scheduler", address, before=STAND_IN)
        peak = peak_of(scheduler)
    assert found["totals"]["mapped"] == queued
    memory = [f"{bytes_ / 1e6:.0f}" for bytes_ in (found["peak"], peak)]
    return [f"{queued:,}", *memory, f"{queued / found['whole']:.0f}"]


def estimate_rows(rate: float, bands: int) -> list[list[str]]:
    """What a year of granules takes on a fleet, from the pixels a second of one core."""
    pixels = EMIT[0] * EMIT[1]
    seconds = pixels / rate * EMIT[2] / bands  # the share that grows with bands is nearly all
    compute = GRANULES * seconds / FLEET / 3600
    gigabytes = pixels * EMIT[2] * 4 / 1e9
    reading = GRANULES * gigabytes / STORAGE_GB_S / 3600
    slower = "the processors" if compute > reading else "the storage"
    core_hours = FLEET * max(compute, reading)
    return [
        ["one granule on one core", f"{seconds:.0f} s, {gigabytes:.2f} GB read"],
        [f"computing, {FLEET} workers of one core", f"{compute:.1f} h"],
        [f"reading at {STORAGE_GB_S:g} GB/s together", f"{reading:.1f} h"],
        ["what limits", slower],
        ["whole, the slower of both", f"{max(compute, reading):.1f} h"],
        [
            f"core hours, and at ${CORE_HOUR:g} each",
            f"{core_hours:,.0f}, ${core_hours * CORE_HOUR:,.0f}",
        ],
    ]


def measure(folder: Path, given: argparse.Namespace) -> list[str]:
    """Train a model, write the scenes, run everything; gives the lines of the page."""
    train = ["train", str(INDIAN_PINES), "-o", "run", "--steps", str(STEPS), "-q"]
    run_hsifcn(*train, folder=folder, environment=ONE_THREAD)
    write_scenes(folder / "small", given.scenes, given.side)
    write_scenes(folder / "large", given.large_scenes, given.large)
    write_scenes(folder / "queued", given.queued, 16)
    rows, rate = worker_rows(folder, given.scenes, given.side, given.repeats)
    bands = indian_pines()[0].shape[2]
    return [
        f"Medians of {given.repeats} runs of the whole command with {where_measured()}; scenes of "
        f"{bands} bands, int16; printed by `python -m benchmarks.fleet --write`.",
        "",
        f"{given.scenes} scenes of {given.side} x {given.side} pixels. Each process computes with "
        "one thread; others read ahead and write behind, on the second core where they may.",
        "",
        *markdown_table(["processes", "s", "times as fast"], rows),
        "",
        f"Scenes of {given.large} x {given.large} pixels, where the workers of the cluster have "
        "mapped scenes before, while the processes are started anew:",
        "",
        *markdown_table(
            ["run by", "scenes", "s", "more"],
            dask_rows(folder, given.large_scenes, given.repeats),
        ),
        "",
        "A long list on a Dask cluster, each task answered at once; peaks of the whole processes:",
        "",
        *markdown_table(
            ["scenes", "command, MB", "scheduler, MB", "tasks a second"],
            [queue_row(folder, given.queued)],
        ),
        "",
        f"An estimate, not a measurement: {GRANULES:,} EMIT granules of {EMIT[0]} x {EMIT[1]} "
        f"pixels and {EMIT[2]} bands, float32, on {FLEET} workers of one core as the one measured "
        f"above ({rate / 1e6:.2f} million pixels a second of {bands} bands; time is taken to grow "
        "with the bands). Assumed are a storage that gives all workers together the rate named, "
        "and the price. Unpacking of compressed NetCDF comes on top; see [reading](reading.md).",
        "",
        *markdown_table(["what", "estimate"], estimate_rows(rate, bands)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=40, help="for one and for two processes")
    parser.add_argument("--side", type=int, default=1024, help="pixels, of these")
    parser.add_argument("--large", type=int, default=1000, help="side of those for Dask")
    parser.add_argument("--large-scenes", type=int, default=24, help="how many of these")
    parser.add_argument("--queued", type=int, default=10_000, help="scenes of the long list")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary one otherwise")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        lines = measure(Path(name), given)
    print("\n".join(lines))
    if given.write:
        write_figures(PAGE, lines)


if __name__ == "__main__":
    main()
