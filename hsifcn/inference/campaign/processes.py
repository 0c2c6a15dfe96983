"""Runs the tasks of a campaign in processes of this machine, each with a share of the cores."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hsifcn.core.errors import FailedError
from hsifcn.core.process import FREE_SHARE, free_memory, usable_cores
from hsifcn.inference.campaign.job import Job
from hsifcn.inference.campaign.manifest import Entry, lost_entry
from hsifcn.inference.campaign.scene_list import Task

TRIES = 3  # of a scene that ends its process
LEAST_SCENES = 4  # for each process, as starting one takes as long as some scenes
LEAST_MEMORY = 1_000_000_000  # bytes, free for each process
PATIENCE_S = 10.0  # for a process to end of itself


def choose_workers(scenes: int, device: str) -> int:
    """How many processes map so many scenes: one a core, or one for a GPU."""
    if device != "cpu":
        return 1
    most = int(FREE_SHARE * free_memory()) // LEAST_MEMORY
    return max(1, min(usable_cores(), scenes // LEAST_SCENES, most))


class WorkerProcess:
    """A process that answers tasks, one after the other, and is replaced when it ends.

    Parameters
    ----------
    job : Job
    folder : Path
        An empty one to work in.
    stop : Event
        Set when no more answers are wanted.
    """

    def __init__(self, job: Job, folder: Path, stop: threading.Event) -> None:
        self._job = job
        self._folder = folder
        self._stop = stop
        self._process: subprocess.Popen[bytes] | None = None
        self._messages = folder / f"messages-{id(self)}"

    def answer(self, task: Task) -> Entry | None:
        """Have a scene mapped, up to ``TRIES`` times where that ends the process.

        Returns
        -------
        dict or None
            Its entry; None where it was told to stop.

        Raises
        ------
        FailedError
            No process can be started.
        """
        cause = ""
        for _ in range(TRIES):
            if self._process is None:
                self._start()
            self._send(asdict(task))
            line = self._receive()
            if line.endswith(b"\n"):
                answer: Entry = json.loads(line)
                return answer
            cause = self._end()
            if self._stop.is_set():
                return None
        return lost_entry(task, f"its process ended {TRIES} times, {cause}")

    def hang_up(self) -> None:
        """Let the process know that nothing more is wanted: it ends, if need be amid a scene."""
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError, ValueError):
                process.stdin.close()

    def close(self) -> None:
        """Wait for the process to end."""
        if self._process is not None:
            self.hang_up()
            self._end()

    def _start(self) -> None:
        # It sees the modules that this process sees, and none in the working directory.
        modules = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        try:
            with open(self._messages, "wb") as messages:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "hsifcn.inference.campaign.worker"],
                    cwd=self._folder,
                    env={**os.environ, "PYTHONPATH": modules},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=messages,
                )
        except OSError as error:
            raise FailedError(f"no process could be started: {error}") from error
        self._send(asdict(self._job))

    def _send(self, values: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # it ended, or was told to: no answer will come
            self._process.stdin.write(json.dumps(values).encode() + b"\n")
            self._process.stdin.flush()

    def _receive(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _end(self) -> str:
        """Wait for a process that ends, and tell how it ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._process.stdout.close()
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process = None
        lines = self._messages.read_text("utf-8", "replace").strip().splitlines()
        if code < 0:
            return f"last killed by signal {-code}"
        return f"last with code {code}: {lines[-1] if lines else 'no message'}"


def in_processes(job: Job, tasks: Sequence[Task], workers: int) -> Generator[Entry]:
    """Map scenes in processes of their own; gives each entry as it is finished.

    Parameters
    ----------
    job : Job
    tasks : sequence of Task
    workers : int
        Processes.

    Raises
    ------
    FailedError
        No process can be started.
    """
    waiting: Iterator[Task] = iter(tasks)
    turn = threading.Lock()
    answers: queue.SimpleQueue[Entry | FailedError | None] = queue.SimpleQueue()
    stop = threading.Event()

    def work(worker: WorkerProcess) -> None:
        """Pass tasks to a process until there are none; None tells the end."""
        try:
            while not stop.is_set():
                with turn:
                    task = next(waiting, None)
                answer = None if task is None else worker.answer(task)
                if answer is None:
                    break
                answers.put(answer)
        except FailedError as error:
            answers.put(error)
        finally:
            worker.close()
            answers.put(None)

    with tempfile.TemporaryDirectory(prefix="hsifcn-workers-") as empty:
        crew = [WorkerProcess(job, Path(empty), stop) for _ in range(min(workers, len(tasks)))]
        threads = [threading.Thread(target=work, args=(worker,)) for worker in crew]
        for thread in threads:
            thread.start()
        try:
            for _ in threads:
                while (answer := answers.get()) is not None:
                    if isinstance(answer, FailedError):
                        raise answer
                    yield answer
        finally:
            stop.set()
            for worker, thread in zip(crew, threads, strict=True):
                while thread.is_alive():
                    worker.hang_up()
                    thread.join(0.1)
