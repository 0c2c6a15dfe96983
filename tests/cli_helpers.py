"""The command line as its users meet it: small scenes as files, and two ways to run a command.

``hsifcn`` starts a real process. ``command`` calls the same entry point in this one, which is as
good for all that does not hang on the process itself, and spares the two seconds of loading
PyTorch.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from scenes import field_cube, field_labels

from hsifcn.cli import main
from hsifcn.models import DEFAULT_MODEL

ROOT = Path(__file__).parent.parent
SESSION = tempfile.TemporaryDirectory(prefix="hsifcn-tests-")
ENVIRONMENT = {
    **os.environ,  # with the number of threads that conftest.py sets
    "HSIFCN_CACHE": str(Path(SESSION.name) / "cache"),
    "PYTHONPATH": str(ROOT),
}
STEPS = 30  # enough to tell the classes of the small scenes apart
COMPARISON = shlex.split(
    f"compare-patch-vs-fcn cube.npy -o out --models svm,patch,materialised,cast,{DEFAULT_MODEL}"
    " -s random:0.2 --patch 5 --seeds 1 --steps 4 --budget 1s"
)


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The whole of stdout as JSON, as strict readers take it: no NaN, no Infinity."""

        def refuse(constant):
            raise ValueError(f"{constant} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


def hsifcn(folder, *arguments, timeout=120, **environment):
    """Run a command as a process of its own in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "hsifcn", *map(str, arguments)],
        cwd=folder,
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def command(folder, *arguments):
    """Run a command in this process, in a folder; what is no deliberate error is raised."""
    out, err = io.StringIO(), io.StringIO()
    hook, cache = sys.excepthook, os.environ.get("HSIFCN_CACHE")
    os.environ["HSIFCN_CACHE"] = ENVIRONMENT["HSIFCN_CACHE"]
    code = 0
    try:
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    finally:
        sys.excepthook = hook
        if cache is None:
            del os.environ["HSIFCN_CACHE"]
        else:
            os.environ["HSIFCN_CACHE"] = cache
    return Done(code, out.getvalue(), err.getvalue())


def small_scene(folder, path="cube.npy", **size):
    """Write a cube of separable classes and, to be found beside it, its labels; give both."""
    path = Path(folder) / path
    labels = field_labels(**size)
    cube = field_cube(labels, dtype="f4", noise=0.05)
    for name, array in ((path.stem, cube), (f"{path.stem}_gt", labels)):
        if path.suffix == ".mat":
            scipy.io.savemat(path.with_name(f"{name}.mat"), {name: array})
        else:
            np.save(path.with_name(f"{name}.npy"), array)
    return cube, labels


def snapshot(folder):
    """Every file and folder under a folder, with content and time of change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        if path.is_file()
        else None
        for path in sorted(Path(folder).rglob("*"))
    }


def assert_refused(done, *parts, code=2):
    """The command ended with one line on stderr that names these things, and nothing else."""
    assert done.code == code, done
    assert done.out == ""
    assert done.err.startswith("error: "), done.err
    assert done.err.count("\n") == 1, done.err
    assert "Traceback" not in done.err
    for part in parts:
        assert part in done.err, done.err


@functools.cache
def finished_folder():
    """A folder with a scene and its finished run ``runs/cube``; not to be changed.

    ``cube.mat`` and ``scene.npy`` are the same cube; the latter is read sooner.
    """
    folder = Path(SESSION.name) / "finished"
    folder.mkdir()
    cube, _ = small_scene(folder, "cube.mat")
    np.save(folder / "scene.npy", cube)
    done = hsifcn(folder, "train", "cube.mat", "--steps", STEPS, "--json")
    assert done.code == 0, done.err
    (folder / "train.stdout").write_text(done.out)
    (folder / "train.stderr").write_text(done.err)
    return folder


def copy_of_finished(folder):
    """Copy that folder; give its run, which was trained on the scene of the original."""
    shutil.copytree(finished_folder(), folder, dirs_exist_ok=True)
    return folder / "runs" / "cube"


@functools.cache
def finished_comparison():
    """A folder with a scene and a finished comparison in ``out``; not to be changed."""
    folder = Path(SESSION.name) / "comparison"
    folder.mkdir()
    small_scene(folder)
    done = hsifcn(folder, *COMPARISON, "--json", timeout=900)
    assert done.code == 0, done.err
    (folder / "compare.stdout").write_text(done.out)
    (folder / "compare.stderr").write_text(done.err)
    return folder
