"""The same again: byte-identical results, many at once, many in one process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from torture.checks import Check, Context, Outcome
from torture.kills import (
    COMMANDS,
    MARK,
    PATIENCE_S,
    load,
    prepare,
    run,
    start,
    wait_for,
    weights,
)

SIDE_BY_SIDE = 50
IN_ONE_PROCESS = 1000
GROWTH_BYTES = 64e6  # from the first fifth of many predictions to the last


def checks() -> list[Check]:
    """Checks of what is done again."""
    return [
        Check("repeats", "same", _same),
        Check("repeats", "memory", _same_map_in_any_memory),
        Check("repeats", "side-by-side", _side_by_side),
        Check("repeats", "one-process", _one_process),
        Check("repeats", "one-directory", _one_directory),
    ]


def _command(folder: Path, words: str, **environment: str) -> str:
    """Run a command as a process of its own; gives what it said where it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "hsifcn", *words.split()],
        cwd=folder,
        env={**os.environ, "HSIFCN_CACHE": str(folder / "cache"), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr[-300:]


def _same(context: Context) -> Outcome:
    """Two trainings and two maps, with one, two and four threads; and a run that is reproduced."""
    outcome, base = Outcome(), prepare(context.folder / "base")
    for threads in ("1", "2", "4"):
        found = []
        for number in (1, 2):
            folder = shutil.copytree(base, context.folder / f"{threads}-{number}")
            settings = {"OMP_NUM_THREADS": threads}
            faults = [_command(folder, COMMANDS["train"].words, **settings)]
            faults += [_command(folder, "predict out scene.npy -o m.npy -q", **settings)]
            outcome.case(*(f"{threads} threads: {fault}" for fault in faults if fault))
            figures = json.loads((folder / "out/metrics.json").read_text())
            kept = ("oa", "aa", "kappa", "confusion", "recipe", "steps")
            model = weights(folder / "out/model.safetensors")
            told = [json.dumps(figures[key], sort_keys=True) for key in kept]
            found.append((model, (folder / "m.npy").read_bytes(), told))
        for what, one, two in zip(("weights", "map", "figures"), *found, strict=True):
            outcome.case("" if one == two else f"{threads} threads: other {what}")
        outcome.case(_command(folder, "reproduce out -q", OMP_NUM_THREADS=threads))
    return outcome


def _same_map_in_any_memory(context: Context) -> Outcome:
    """One map, whatever memory it may take, and so however it is cut into tiles."""
    load()
    outcome, folder = Outcome(), prepare(context.folder / "base")
    from scenes import field_cube, field_labels

    labels = field_labels(rows=400, cols=300)
    np.save(folder / "large.npy", field_cube(labels, dtype="f4", noise=0.05))
    found = []
    for memory in ("", "--max-memory 500M", "--max-memory 350M", "--max-memory 300M"):
        name = f"m{len(found)}.npy"
        code, said = run(folder, f"predict run large.npy -o {name} -q {memory}")
        if code == 0:
            found.append((folder / name).read_bytes())
            outcome.case("" if found[-1] == found[0] else f"another map with {memory}")
        elif "memory" not in said:
            outcome.case(f"{memory}: {said[-200:]}")
    return outcome


def _side_by_side(context: Context) -> Outcome:
    """Many predictions at once, into one folder."""
    load()
    outcome, folder = Outcome(), prepare(context.folder / "base")
    code, said = run(folder, "predict run scene.npy -o m.npy -q")
    assert code == 0, said
    expected = (folder / "m.npy").read_bytes()
    count = context.count(SIDE_BY_SIDE)
    words = [["predict", "run", "cube.npy", "-o", f"m{i}.npy", "-q"] for i in range(count)]
    processes = [start(folder, given) for given in words]
    for number, process in enumerate(processes):
        code = wait_for(process, 10 * PATIENCE_S)
        path = folder / f"m{number}.npy"
        same = path.exists() and path.read_bytes() == expected
        outcome.case("" if code == 0 and same else f"{number} of {count}: {code}, same map: {same}")
    return outcome


def _one_process(context: Context) -> Outcome:
    """Many predictions in one process: no more memory, descriptors or threads at the end."""
    folder = prepare(context.folder / "base")
    count = context.count(IN_ONE_PROCESS)
    done = subprocess.run(
        [sys.executable, "-m", "torture.repeats", str(count)],
        cwd=folder,
        env={**os.environ, "HSIFCN_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    outcome = Outcome(cases=count)
    try:
        early, late, same = json.loads(done.stdout)
    except ValueError:
        outcome.breaches.append(f"ended with {done.returncode}: {done.stderr[-300:]}")
        return outcome
    names = ("memory", "descriptors", "threads", "temporaries")
    for name, before, after in zip(names, early, late, strict=True):
        if after > before + (GROWTH_BYTES if name == "memory" else 0):
            outcome.breaches.append(f"{name}: {before} after a fifth, {after} at the end")
    if not same:
        outcome.breaches.append("another map")
    outcome.note = f"{(late[0] - early[0]) / 1e6:+.1f} MB from the first fifth to the last"
    return outcome


def _one_directory(context: Context) -> Outcome:
    """Two trainings into one directory: one of them, or one after the other, is refused."""
    load()
    outcome, base = Outcome(), prepare(context.folder / "base")
    for number in range(context.count(20)):
        folder = shutil.copytree(base, context.folder / "case")
        words = ["train", "cube.npy", "-o", "out", "--steps", "10", "-q", "--seed"]
        pair = [start(folder, [*words, seed]) for seed in ("1", "2")]
        codes = sorted(str(wait_for(process)) for process in pair)
        seeds = set()
        for name in ("metrics.json", "config.json"):
            found = json.loads((folder / "out" / name).read_text())
            seeds.add(found["seed"] if "seed" in found else found["settings"]["seed"])
        fine = codes == ["0", "2"] and len(seeds) == 1
        outcome.case("" if fine else f"case {number}: exit codes {codes}, files of seeds {seeds}")
        shutil.rmtree(folder)
    return outcome


def main(count: str) -> None:
    """Predict so many times; print what is held after a fifth, and at the end."""
    import hsifcn
    from hsifcn.core.process import rss_bytes

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    model, first, same, early = hsifcn.load_model("run/model.safetensors"), b"", True, []
    for number in range(int(count)):
        hsifcn.predict(model, "scene.npy", "m.npy", overwrite=True)
        content = Path("m.npy").read_bytes()
        first = first or content
        same = same and content == first
        if number in (int(count) // 5, int(count) - 1):
            descriptors = len(os.listdir("/proc/self/fd"))
            threads = len(os.listdir("/proc/self/task"))
            early.append((rss_bytes(), descriptors, threads, len(list(Path().rglob(".*")))))
    print(json.dumps([early[0], early[-1], same]))


if __name__ == "__main__":
    os.environ.pop(MARK, None)
    main(sys.argv[1])
