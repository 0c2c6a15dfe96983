"""Starts, and bounds, the processes that parse files which could crash or swamp this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

from hsifcn.core.errors import FailedError, UnreadableFileError
from hsifcn.io.cache import FileState

MEMORY = 2 * 2**30  # bytes of address space for the child, and
_MEMORY_PER_BYTE = 16  # more for every byte of the file, which may be compressed
SECONDS = 60  # for the child, and
_BYTES_PER_SECOND = 5e6  # more at this rate
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # each thread reserves address space
    "HDF5_USE_FILE_LOCKING": "FALSE",  # a read-only file system has no locks
    "HDF5_PLUGIN_PRELOAD": "::",  # a file must not choose which libraries are loaded
}


def run_child(module: str, task: str, file: FileState, *arguments: str) -> dict[str, Any]:
    """Run a module on a file and give its answer; whatever ends it is the file's fault.

    Parameters
    ----------
    module : str
        Run as ``python -m module TASK MEMORY SECONDS FILE ARGUMENT...``; it answers in JSON.
    task : str
        What it shall do.
    file : FileState
        The file, whose size decides on memory and time.
    arguments : str
        What the task needs besides.

    Raises
    ------
    UnreadableFileError
        The child found a fault, crashed, took too long or too much memory.
    FailedError
        It could not be started.
    """
    memory = int(MEMORY + _MEMORY_PER_BYTE * file.size)
    seconds = int(SECONDS + file.size / _BYTES_PER_SECOND)
    # The child sees the modules that this process sees, and none in the working directory.
    modules = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    command = [sys.executable, "-P", "-m", module, task, str(memory), str(seconds), file.path]
    try:
        child = subprocess.run(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2 * seconds,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": modules},
        )
    except subprocess.TimeoutExpired as error:
        raise _unparsable(file.path, "it took too long") from error
    except (OSError, ValueError) as error:
        raise FailedError(f"{file.path} cannot be parsed: {error}") from error
    if child.returncode < 0:
        raise _unparsable(file.path, f"killed by signal {-child.returncode}")
    try:
        if child.returncode > 0:
            raise ValueError("no answer")
        answer: dict[str, Any] = json.loads(child.stdout)
    except ValueError as error:
        lines = child.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise _unparsable(file.path, lines[-1][:160]) from error
    if "error" in answer:
        raise UnreadableFileError(answer["error"], answer["remedy"])
    return answer


def limit_process(memory: int, seconds: int) -> None:
    """Bound this process; a system without such limits is left with the parent's timeout."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _unparsable(path: str, reason: str) -> UnreadableFileError:
    printable = "".join(c if c.isprintable() else "?" for c in reason)
    return UnreadableFileError(f"{path} cannot be parsed ({printable})", "save it again")
