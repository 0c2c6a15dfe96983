"""Reading ahead and writing behind: files are waited for while the network computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Generator[Result]:
    """Read items in order, in another thread, while the caller is busy with those before.

    Parameters
    ----------
    read : callable
    items : iterable
        What ``read`` is called with.
    count : int
        Results that may wait for the caller; so many and two more exist at once at most.

    Yields
    ------
    object
        What ``read`` gave; where it raised, so does this.
    """
    pool = ThreadPoolExecutor(1, "reader")
    try:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class WriteBehind:
    """Calls functions one after the other in another thread, the caller at most one ahead.

    As a context manager: the end of the block waits for the last call. What a call raises is raised
    by the next one or by the end of the block, unless that already ends by an error.
    """

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(1, "writer")
        self._last: Future[Any] | None = None
        return self

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call it when the call before has ended."""
        self._wait()
        self._last = self._pool.submit(function, *arguments)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _wait(self) -> None:
        if self._last is not None:
            last, self._last = self._last, None
            last.result()
