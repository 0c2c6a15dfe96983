"""The process that parses files from strangers: ``python -P -m hsifcn.io.parser``.

It may crash or be killed. ``hsifcn.io.child`` starts it and writes requests to its stdin, JSON a
line: module, task, bytes of memory, seconds, path and whatever else the task needs. The answer is
JSON on a line too. What a file may not hold is told in the answer; all other faults end the
process, and its last line on stderr is the reason.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import threading
import warnings
from contextlib import suppress
from typing import Any, BinaryIO

from hsifcn.core.errors import HsifcnError, Notice
from hsifcn.core.process import address_space_bytes, rss_bytes

_IDLE_S = 5.0  # seconds without a request after which it ends
_MOST_KEPT = 400 * 2**20  # bytes held after a request, above which it ends
_MOST_WARNINGS = 20
_TOLD = (UserWarning, Notice)  # kinds of warnings that answers carry; those of libraries stay out


def serve(answers: BinaryIO) -> None:
    """Answer requests until none comes for a while."""
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_take, args=(waiting,), daemon=True).start()
    with suppress(queue.Empty):
        while rss_bytes() < _MOST_KEPT:
            module, task, memory, seconds, *rest = json.loads(waiting.get(timeout=_IDLE_S))
            limit_process(memory, seconds)
            answer = _parse(module, task, *rest)
            answers.write(json.dumps(answer, default=str).encode("ascii") + b"\n")
            answers.flush()


def _take(waiting: queue.SimpleQueue[bytes]) -> None:
    """Take requests from stdin; it closes when the process that sends them ends."""
    pending = b""
    while chunk := os.read(0, 2**16):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            waiting.put(line)
    os.kill(os.getpid(), signal.SIGTERM)


def _parse(module: str, *arguments: Any) -> dict[str, Any]:
    """What a module makes of a file, or the error it raises; and its warnings."""
    answer: dict[str, Any]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer = importlib.import_module(f"hsifcn.io.{module}_child").main(*arguments)
        except HsifcnError as error:
            kind = type(error).__name__
            answer = {"error": error.message, "remedy": error.remedy, "kind": kind}
    told = [(str(w.message), w.category.__name__) for w in caught if w.category in _TOLD]
    return {**answer, "warnings": told[:_MOST_WARNINGS]}


def limit_process(memory: int, seconds: int) -> None:
    """Bound what this process may take from now on; on some systems only its parent does."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        def lower(kind: int, limit: int) -> None:
            hard = resource.getrlimit(kind)[1]
            bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(kind, (bound, hard))

        used = resource.getrusage(resource.RUSAGE_SELF)
        lower(resource.RLIMIT_CORE, 0)
        lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds + 1)
        lower(resource.RLIMIT_AS, address_space_bytes() + memory)


if __name__ == "__main__":
    with suppress(OSError):
        os.rmdir(os.getcwd())  # nothing can come to lie in it, and nothing of it stays
    answering = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    serve(answering)
