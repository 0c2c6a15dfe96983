"""A process that maps scenes: ``python -P -m hsifcn.inference.campaign.worker``.

It reads a job, then tasks, from stdin, and answers on stdout; each is a line of JSON. What takes
long to import is imported once the process is bound to its parent.
"""

from __future__ import annotations

import _thread
import json
import os
import queue
import signal
import sys
import threading
import time

GRACE_S = 5.0  # seconds that an orphan has to end of itself


def read_lines(lines: queue.SimpleQueue[bytes | None]) -> None:
    """Pass on the lines of stdin; it closes when the parent ends, and then this process ends."""
    for line in sys.stdin.buffer:
        lines.put(line)
    lines.put(None)
    _thread.interrupt_main()  # an interrupt leaves no half-written file behind
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Answer tasks until stdin closes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=read_lines, args=(lines,), daemon=True).start()
    from hsifcn.core.process import load_torch

    load_torch()
    from hsifcn.inference.campaign.job import Job, map_scene
    from hsifcn.inference.campaign.scene_list import Task

    job = Job(**json.loads(lines.get() or b"{}"))
    while (line := lines.get()) is not None:
        answers.write(json.dumps(map_scene(job, Task(**json.loads(line)))) + "\n")
        answers.flush()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
