"""Commands killed at random moments: nothing partial, nothing lost, nothing left.

Cases are forks of a process that has loaded PyTorch, so that the moments fall into the work and
not into two seconds of imports.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torture.checks import Check, Context, Outcome

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
# What the command said: not in its folder, whose disk may be full.
SAID = Path(tempfile.gettempdir()) / f"hsifcn-torture-{os.getpid()}.log"
MARK = "HSIFCN_TORTURE"  # in the environment of all that a case starts
PATIENCE_S = 300.0
CHILDREN_S = 15.0  # that children may outlive their parent, on a machine that is busy
LOADED = ("torch", "scipy", "safetensors", "hsifcn.cli.train", "hsifcn.training.run", "hsifcn.io")


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Attributes
    ----------
    words : str
        The command line.
    outputs : tuple of str
        Patterns of what it writes under final names.
    full : int
        Times that it is killed in a full campaign.
    fixed : callable
        ``path -> value`` that must be the same whenever the command ends well.
    again : str
        What the command needs besides where it had finished before it was killed.
    resumed : str
        The same where it had begun.
    """

    words: str
    outputs: tuple[str, ...]
    full: int
    fixed: Callable[[Path], object] = Path.read_bytes
    again: str = ""
    resumed: str = ""


def weights(path: Path) -> object:
    """The tensors of a model; other outputs are as they are."""
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return None
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def without_times(path: Path) -> object:
    """What is the same in every run: rasters, and no records of seconds, paths and versions."""
    return path.read_bytes() if path.suffix in {".img", ".tif", ".npy", ".hdr", ".csv"} else None


PREDICT = {"envi": ".img", "gtiff": ".tif", "npy": ".npy", "mat": ".mat", "png": ".png"}
COMMANDS = {
    "train": Command(
        "train cube.npy -o out --steps 30 -q", ("out/*",), 100, weights, again=" --resume"
    ),
    "train-resume": Command(
        "train cube.npy -o out --steps 60 --inductive -q",
        ("out/*",),
        20,
        weights,
        again=" --resume",
        resumed=" --resume",
    ),
    "train-overwrite": Command(
        "train cube.npy -o old --steps 30 --seed 1 --overwrite -q", ("old/*",), 40, weights
    ),
    **{
        f"predict-{name}": Command(
            f"predict run scene.npy -o m{suffix} --confidence -q", ("m*",), 20, without_times
        )
        for name, suffix in PREDICT.items()
    },
    "predict-polygons": Command(
        "predict run scene.npy -o m.tif --polygons --probabilities -q",
        ("m*",),
        20,
        lambda path: None if path.suffix == ".gpkg" else without_times(path),
    ),
    "compare": Command(
        "compare-patch-vs-fcn cube.npy -o out --models patch -s random:0.2 --patch 5 --seeds 1 "
        "--steps 4 --budget 0 -q",
        ("out/*",),
        20,
        lambda path: None,
        again=" --overwrite",
        resumed=" --resume",
    ),
    "explain": Command(
        "explain run scene.npy -o out -q", ("out/*",), 20, lambda path: None, again=" --overwrite"
    ),
    "sample": Command(
        "sample map.npy -n 20 --seed 1 -o points.csv -q",
        ("points*",),
        60,
        without_times,
        again=" --overwrite",
    ),
}


def load() -> None:
    """Import what takes long, before processes are forked."""
    atexit.register(SAID.unlink, missing_ok=True)
    for name in LOADED:
        importlib.import_module(name)


def start(folder: Path, words: Sequence[str], limits: Sequence[tuple[int, int]] = ()) -> int:
    """Run a command in a fork of this process, in a process group of its own."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        os.environ[MARK] = str(folder)
        os.environ["HSIFCN_CACHE"] = str(folder / "cache")
        null = os.open(os.devnull, os.O_RDONLY)
        said = os.open(SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number, descriptor in enumerate((null, said, said)):
            os.dup2(descriptor, number)
        sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for kind, limit in limits:
            resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
        from hsifcn.cli import main

        main(list(words))
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:  # after the command had ended, which Python ends with
        code = 130
    except BaseException as error:  # which the user would see as a traceback
        os.write(2, f"Traceback: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def wait_for(process: int, seconds: float = PATIENCE_S) -> int | None:
    """The exit code, negative for a signal; None, and the group killed, after too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def run(folder: Path, words: str, limits: Sequence[tuple[int, int]] = ()) -> tuple[int | None, str]:
    """Run a command to its end; gives its exit code and what it said."""
    code = wait_for(start(folder, shlex.split(words), limits))
    return code, SAID.read_text("utf-8", "replace")


def descendants(folder: Path) -> list[int]:
    """Processes that a case in a folder has started and that still run."""
    mark, found = f"{MARK}={folder}\0".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "environ").read_bytes() + b"\0":
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporaries: hidden files and folders."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))


def prepare(folder: Path) -> Path:
    """Write a scene, a finished run ``run`` and an older one ``old``; give the folder."""
    from cli_helpers import small_scene

    folder.mkdir(parents=True)
    cube, labels = small_scene(folder)
    np.save(folder / "scene.npy", cube)
    np.save(folder / "map.npy", labels)
    for name in ("run", "old"):
        code, said = run(folder, f"train cube.npy -o {name} --steps 10 -q")
        assert code == 0, said
    return folder


def outputs(folder: Path, command: Command) -> dict[str, object]:
    """What lies under final names, as far as it must be the same."""
    paths = {path for pattern in command.outputs for path in folder.glob(pattern)}
    files = sorted(path for path in paths if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): command.fixed(path) for path in files}


def checks() -> list[Check]:
    """A check a command."""
    return [
        Check("kills", name, lambda context, name=name: _of_command(context, name))
        for name in COMMANDS
    ]


def _of_command(context: Context, name: str) -> Outcome:
    load()
    command, outcome = COMMANDS[name], Outcome()
    base = prepare(context.folder / "base")
    before = outputs(base, command)
    whole = shutil.copytree(base, context.folder / "whole")
    begun = time.perf_counter()
    code, said = run(whole, command.words)
    seconds = time.perf_counter() - begun
    assert code == 0, f"{command.words}: {code}, {said}"
    expected = outputs(whole, command)
    for number in range(context.count(command.full)):
        rng = context.generator(number)
        folder = shutil.copytree(base, context.folder / "case")
        moment, kind = rng.uniform(0, 1.05 * seconds), SIGNALS[int(rng.integers(len(SIGNALS)))]
        told = f"{name}, case {number}, seed {context.seed}, {kind.name} after {moment:.2f} s: "
        faults = _killed(folder, command, moment, kind, (before, expected))
        outcome.case(*(told + fault for fault in faults))
        shutil.rmtree(folder)
    outcome.note = f"{seconds:.1f} s a run"
    return outcome


def _killed(
    folder: Path,
    command: Command,
    moment: float,
    kind: signal.Signals,
    known: tuple[dict[str, object], dict[str, object]],
) -> list[str]:
    """Kill a command, look at what it left, give it again; what was wrong."""
    process = start(folder, shlex.split(command.words))
    time.sleep(moment)
    # A terminal sends to the whole group, a system that ends a process to that alone.
    send = os.killpg if kind in (signal.SIGINT, signal.SIGHUP) else os.kill
    with contextlib.suppress(ProcessLookupError):
        send(process, kind)
    code = wait_for(process)
    said = SAID.read_text("utf-8", "replace")
    faults = [f"{word} on stderr: {said[-200:]}" for word in ("Traceback", "a bug") if word in said]
    if code is None:
        faults.append("did not end")
    faults += _children(folder)
    faults += _mixed(outputs(folder, command), *known)
    faults += [fault for name in ("out", "old") for fault in _of_two_runs(folder / name)]
    finished = outputs(folder, command) == known[1]
    begun = (folder / "out").exists()
    again = command.words + (command.again if finished else command.resumed if begun else "")
    code, said = run(folder, again)
    if code != 0:
        faults.append(f"the same command again gives {code}: {said[-300:]}")
    elif outputs(folder, command) != known[1]:
        other = _differing(folder, command, known[1])
        faults.append(f"the same command again gives other outputs: {other}")
    faults += [f"left {name}" for name in leftovers(folder)]
    return faults


def _children(folder: Path) -> list[str]:
    """Children that outlive the command."""
    deadline = time.monotonic() + CHILDREN_S
    while (left := descendants(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        os.kill(process, signal.SIGKILL)
    return [f"{len(left)} children run on after {CHILDREN_S:g} s"] if left else []


def _mixed(
    found: dict[str, object], before: dict[str, object], after: dict[str, object]
) -> list[str]:
    """Files under final names that are neither those before nor those of a whole run."""
    return [
        f"{name} is partial"
        for name, value in found.items()
        if value is not None and value not in (before.get(name), after.get(name))
    ]


def _of_two_runs(run: Path) -> list[str]:
    """Whether the files of a run tell of one training."""
    from hsifcn.inference.bundle import load_model

    if not (run / "metrics.json").exists():
        return []
    seeds = {
        json.loads((run / "metrics.json").read_text())["seed"],
        json.loads((run / "config.json").read_text())["settings"]["seed"],
        load_model(run / "model.safetensors").settings["seed"],
    }
    return [] if len(seeds) == 1 else [f"{run.name} has files of seeds {seeds}"]


def _differing(folder: Path, command: Command, expected: dict[str, object]) -> str:
    found = outputs(folder, command)
    names = found.keys() | expected.keys()
    return json.dumps(sorted(n for n in names if found.get(n, 0) != expected.get(n, 0)))
