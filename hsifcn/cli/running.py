"""A hsifcn command within another: a process of its own, whose memory and figures are its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence


def run_command(
    words: Sequence[str],
    added: Sequence[str],
    *,
    folder: str | None = None,
    threads: int | None = None,
) -> None:
    """Give a command; this process ends with its exit code where that is not 0.

    What it prints on stdout is dropped; messages, and the error that ends it, reach stderr.

    Parameters
    ----------
    words : sequence of str
        The command, without ``hsifcn``.
    added : sequence of str
        Options that go before those of ``words``.
    folder : str, optional
        Where it is given; the current folder by default.
    threads : int, optional
        That it computes with, unless ``OMP_NUM_THREADS`` tells.
    """
    from hsifcn.core.errors import FailedError
    from hsifcn.io.child import module_folders

    end = words.index("--") if "--" in words else len(words)
    command = [*words[:end], *added, *words[end:]]  # of two values of an option the last counts
    environment = {**os.environ, "PYTHONPATH": module_folders()}
    if threads:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    reading, writing = os.pipe()  # closes with this process, which interrupts the other
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "hsifcn.cli.attended", *command],
            cwd=folder,
            env=environment,
            stdin=reading,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # else Ctrl-C would reach it twice
        )
    except OSError as error:
        raise FailedError(f"no process could be started: {error}") from error
    finally:
        os.close(reading)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        code = None
    finally:
        os.close(writing)
    if code is None:
        code = process.wait()
    if code < 0:
        raise FailedError(f"the command was killed by signal {-code}")
    if code:
        sys.exit(code)
