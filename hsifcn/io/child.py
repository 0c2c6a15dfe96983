"""Starts, and bounds, the process that parses files which could crash or swamp this one.

It is ``hsifcn.io.parser``. One is started when a file must be parsed, and serves for the files
after it too: starting it takes longer than parsing. A file that ends it is refused, and the next
one has a fresh parser. It ends when this process does, or after some seconds without a file.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from hsifcn.core import errors
from hsifcn.core.errors import FailedError, Notice, UnreadableFileError
from hsifcn.io.cache import FileState

MEMORY = 2 * 2**30  # bytes of address space for a file, and
_MEMORY_PER_BYTE = 16  # more for every byte of the file, which may be compressed
SECONDS = 3  # of the processor for a file, and
_BYTES_PER_SECOND = 2e6  # more at this rate
_PATIENCE = 20  # times as long by the clock: others may want the processor too
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # each thread reserves address space
    "HDF5_USE_FILE_LOCKING": "FALSE",  # a read-only file system has no locks
    "HDF5_PLUGIN_PRELOAD": "::",  # a file must not choose which libraries are loaded
}
_KINDS = {"Notice": Notice}  # of warnings; others are told as UserWarning

_END = b"}\n"  # of an answer

_idle: list[_Parser] = []  # parsers that wait for a file


class _Parser:
    """One process that parses, in an empty folder, with no modules of the current one."""

    def __init__(self) -> None:
        self.overdue = False
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in ``end``
        self._folder = tempfile.mkdtemp(prefix="hsifcn-parser-")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "hsifcn.io.parser"],
            cwd=self._folder,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": module_folders()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
        )

    def ask(self, request: bytes, seconds: float) -> bytes:
        """Give the answer to a request: a line, or less where the process ended before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        clock = threading.Timer(seconds, self._expire)
        clock.daemon = True
        clock.start()
        try:
            with suppress(BrokenPipeError):
                self._process.stdin.write(request)
                self._process.stdin.flush()
            return self._process.stdout.readline()
        finally:
            clock.cancel()

    def _expire(self) -> None:
        self.overdue = True
        self._process.kill()

    def end(self) -> tuple[int, str]:
        """End the process, if it has not ended; gives its exit code and its last message."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # which ends it
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)  # gone already where that is possible
        with self._messages:
            self._messages.seek(0)
            lines = self._messages.read().decode("utf-8", "replace").strip().splitlines()
        return self._process.wait(), lines[-1] if lines else "no reason given"


def run_child(
    module: str, task: str, file: FileState, *arguments: str | None, name: str | None = None
) -> dict[str, Any]:
    """Run a module on a file and give its answer; whatever ends it is the file's fault.

    Parameters
    ----------
    module : str
        ``mat``, say: ``hsifcn.io.mat_child.main(task, path, *arguments)`` gives the answer.
    task : str
        What it shall do.
    file : FileState
        The file, whose size decides on memory and time.
    arguments : str or None
        What the task needs besides.
    name : str, optional
        What errors and warnings call the file; its path by default.

    Warns
    -----
    UserWarning, Notice
        What the module warns of.

    Raises
    ------
    HsifcnError
        As the module raises it.
    UnreadableFileError
        The file crashed it, took too long or too much memory.
    FailedError
        It could not be started.
    """
    memory = int(MEMORY + _MEMORY_PER_BYTE * file.size)
    seconds = int(SECONDS + file.size / _BYTES_PER_SECOND)
    name = name or file.path
    request = json.dumps([module, task, memory, seconds, file.path, *arguments]) + "\n"
    try:
        line, fault = _answer(request.encode("ascii"), _PATIENCE * seconds)
    except (OSError, ValueError) as error:
        raise FailedError(f"{name} cannot be parsed: {error}") from error
    if fault:
        printable = "".join(c if c.isprintable() else "?" for c in fault[:160])
        raise UnreadableFileError(f"{name} cannot be parsed ({printable})", "save it again")
    answer: dict[str, Any] = json.loads(line)
    for text, kind in answer.get("warnings", ()):
        warnings.warn(text.replace(file.path, name), _KINDS.get(kind, UserWarning), stacklevel=3)
    if "error" in answer:
        texts = (answer[key].replace(file.path, name) for key in ("error", "remedy"))
        raise _error_named(answer["kind"])(*texts)
    return answer


def _answer(request: bytes, seconds: float) -> tuple[bytes, str]:
    """The line that answers a request, and else what ended the parser."""
    while True:
        waited = bool(_idle)
        parser = _idle.pop() if waited else _Parser()
        line = b""
        try:
            line = parser.ask(request, seconds)
        finally:
            if line.endswith(_END):
                _idle.append(parser)
            else:
                code, message = parser.end()
        if line.endswith(_END):
            return line, ""
        if waited and code == 0:  # it had waited for long enough
            continue
        if parser.overdue:
            return b"", "it took too long"
        return b"", f"killed by signal {-code}" if code < 0 else message


def _error_named(name: str) -> type[errors.HsifcnError]:
    found = getattr(errors, name, None)
    if isinstance(found, type) and issubclass(found, errors.HsifcnError):
        return found
    return UnreadableFileError


def module_folders() -> str:
    """Where a child finds modules: where this process does, the current folder left out.

    The current folder stays where it holds hsifcn itself, as in a source checkout.
    """
    own, here = Path(__file__).resolve().parents[2], Path.cwd()
    folders = [Path(entry or here).resolve() for entry in sys.path]
    return os.pathsep.join(str(folder) for folder in folders if folder != here or folder == own)


def _end_all() -> None:
    while _idle:
        _idle.pop().end()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # the parser serves the process that forked
