"""Runs the tasks of a campaign on a running Dask cluster.

A task is a scene, or some rows of tiles of a large one: paths and numbers, never an array. Tasks
are submitted as workers become free, so that neither this process nor the scheduler holds the whole
campaign. What a lost worker was doing is done again elsewhere by Dask itself, as often as its
``allowed-failures`` says.
"""

from __future__ import annotations

import logging
import queue
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from hsifcn.core.errors import FailedError, SettingError
from hsifcn.inference.campaign.dask_worker import check_on_worker, map_on_worker
from hsifcn.inference.campaign.job import PART, SPLIT, UNFIT, Job
from hsifcn.inference.campaign.manifest import Entry, lost_entry
from hsifcn.inference.campaign.scene_list import Task

CONNECT_S = 5  # seconds for the scheduler to answer
LOOK_S = 5.0  # between two looks at the workers, while none answers
TASKS_A_WORKER = 2  # one at work, one waiting

Tell = Callable[[str], None]


def on_cluster(job: Job, tasks: Sequence[Task], address: str, tell: Tell) -> Generator[Entry]:
    """Map scenes on the workers of a Dask cluster; gives each entry as it is finished.

    Parameters
    ----------
    job : Job
    tasks : sequence of Task
    address : str
        Of the scheduler: ``tcp://host:8786``.
    tell : callable
        Given a line for each worker that is left out.

    Raises
    ------
    SettingError
        Dask is not installed here.
    FailedError
        No scheduler answers, no worker can do the work, or the scheduler went away.
    """
    client = connect(address)
    try:
        yield from Cluster(client, job, address, tell).map(tasks)
    finally:
        with suppress(OSError, TimeoutError):
            client.close(timeout=CONNECT_S)


def connect(address: str) -> Any:
    """A client of the scheduler at an address; see ``on_cluster``."""
    try:
        from distributed import Client
    except ImportError as error:
        raise SettingError("--scheduler needs Dask", "pip install 'hsifcn[dask]'") from error
    for name in ("distributed", "distributed.client"):  # they tell of lost connections at length
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions that differ; ours are compared later
            client: Any = Client  # which is not typed
            return client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise FailedError(
            f"no Dask scheduler answers at {address}",
            "start one there with: dask scheduler; or check the address",
        ) from error


class Cluster:
    """The workers of a cluster that can do a job, and the tasks that they are given.

    Parameters
    ----------
    client : distributed.Client
    job : Job
    address : str
    tell : callable
    """

    def __init__(self, client: Any, job: Job, address: str, tell: Tell) -> None:
        self._client = client
        self._job = asdict(replace(job, in_parts=True))
        self._address = address
        self._tell = tell
        self._fit: set[str] = set()
        self._unfit: dict[str, str] = {}
        self._running: dict[str, tuple[Any, Task, frozenset[str]]] = {}  # by the key of the future
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._parts_left: dict[str, int] = {}  # by the map, of scenes that are mapped in parts
        self._part_seconds: dict[str, float] = {}
        self._next_look = 0.0  # seconds of the monotonic clock

    def map(self, tasks: Sequence[Task]) -> Generator[Entry]:
        """Map scenes; see ``on_cluster``."""
        waiting = list(reversed(tasks))
        self._look_at_workers()
        if not self._fit:
            raise FailedError(*self._nobody())
        while waiting or self._running:
            while waiting and len(self._running) < TASKS_A_WORKER * max(1, len(self._fit)):
                self._submit(waiting.pop())
            try:
                future = self._ended.get(timeout=LOOK_S)
            except queue.Empty:
                self._look_after_tasks()
                continue
            _, task, _ = self._running.pop(future.key, (None, None, None))
            if task is None:
                continue  # it was given to others meanwhile
            answer = self._entry_of(future, task)
            future.release()  # or Dask does the task again should its worker be lost later
            self._look_at_workers()
            if answer["status"] == UNFIT:
                self._leave_out(answer["worker"], answer["cause"])
                waiting.append(task)
            elif answer["status"] == SPLIT:
                waiting += self._parts(task, answer["cut"])
            elif task.part is not None:
                yield from self._part_done(task, answer, waiting)
            else:
                yield answer

    def _parts(self, task: Task, cut: dict[str, Any]) -> list[Task]:
        """The tasks of the parts of a scene, the first one last."""
        count = len(cut["rows"])
        self._parts_left[task.map], self._part_seconds[task.map] = count, 0.0
        return [replace(task, cut=cut, part=part) for part in reversed(range(count))]

    def _part_done(self, task: Task, answer: Entry, waiting: list[Task]) -> Generator[Entry]:
        """Have a scene joined when all of its parts are mapped; fail it when the first part fails.

        The other parts of a scene that failed are no longer asked for.
        """
        if task.map not in self._parts_left:
            return
        if answer["status"] != PART:
            del self._parts_left[task.map]
            waiting[:] = [other for other in waiting if other.map != task.map]
            yield answer
            return
        self._parts_left[task.map] -= 1
        self._part_seconds[task.map] += answer["seconds"]
        if not self._parts_left[task.map]:
            del self._parts_left[task.map]
            assert task.cut is not None
            seconds = self._part_seconds.pop(task.map)
            waiting.append(replace(task, cut={**task.cut, "seconds": seconds}, part=None))

    def _submit(self, task: Task) -> None:
        """Give a task to the workers that can do it; any, where none is known that cannot."""
        allowed = frozenset(self._fit) if self._unfit else frozenset()
        future = self._client.submit(
            map_on_worker,
            self._job,
            asdict(task),
            pure=False,
            workers=sorted(allowed) or None,
        )
        self._running[future.key] = future, task, allowed
        future.add_done_callback(self._ended.put)

    def _entry_of(self, future: Any, task: Task) -> Entry:
        """What a task gave, or what became of it."""
        if future.status == "finished":
            entry: Entry = future.result()
            return entry
        if future.status == "error":
            error = future.exception()
            if type(error).__name__ == "KilledWorker":
                return lost_entry(task, "its workers were lost, one after the other")
            return lost_entry(task, " ".join(f"{type(error).__name__}: {error}".split()))
        raise self._gone()

    def _gone(self) -> FailedError:
        return FailedError(
            f"the Dask scheduler at {self._address} went away",
            "start it and give the same command again: finished scenes are passed over",
        )

    def _alive(self) -> set[str]:
        """Addresses of the workers that the scheduler knows."""
        try:
            return set(self._client.scheduler_info(n_workers=-1)["workers"])
        except (OSError, TimeoutError) as error:
            raise self._gone() from error

    def _look_at_workers(self) -> None:
        """Check workers that are new, forget those that are gone; now and then only."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        alive = self._alive()
        self._fit &= alive
        self._unfit = {worker: why for worker, why in self._unfit.items() if worker in alive}
        new = sorted(alive - self._fit - self._unfit.keys())
        if not new:
            return
        answers = self._client.run(check_on_worker, self._job, workers=new, on_error="return")
        for worker, answer in answers.items():
            if answer is None:
                self._fit.add(worker)
            elif isinstance(answer, ImportError):
                version = self._job["versions"]["hsifcn"]
                self._leave_out(worker, f"{answer}; install hsifcn=={version} there")
            elif not isinstance(answer, OSError):  # one that is lost already is no longer new
                self._leave_out(worker, str(answer))

    def _leave_out(self, worker: str, cause: str) -> None:
        self._fit.discard(worker)
        if worker not in self._unfit:
            self._unfit[worker] = cause
            self._tell(f"warning: worker {worker} is left out: {cause}")

    def _nobody(self) -> tuple[str, str]:
        """Message and remedy where no worker can do the work."""
        if self._unfit:
            worker, cause = next(iter(self._unfit.items()))
            found, _, remedy = cause.partition("; ")
            return f"no worker can do this: {worker}: {found}", remedy
        return (
            f"the Dask scheduler at {self._address} has no workers",
            f"start one with: dask worker {self._address} --nthreads 1",
        )

    def _look_after_tasks(self) -> None:
        """While no task ends: see that there are workers, and those that tasks wait for.

        Raises
        ------
        FailedError
            The scheduler is gone, or only workers are left that cannot do the work.
        """
        if self._client.status in {"closed", "closing"}:
            raise self._gone()
        self._look_at_workers()
        if not self._fit:
            if self._unfit:
                raise FailedError(*self._nobody())
            self._tell(f"{self._address} has no workers now; waiting for some")
            return
        for key, (future, task, allowed) in list(self._running.items()):
            if allowed and not allowed & self._fit:
                del self._running[key]
                future.cancel()
                self._submit(task)
