"""A scene read block by block, ahead of who computes with it, and the memory that this takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import Scene, Window
from hsifcn.data.standardise import read_bands, valid_pixels

BLOCK_BYTES = 2 * 2**20  # on disk, so that it stays in the cache; a row of a window may be more
BLOCKS_AHEAD = 4  # read before they are needed

Block = tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]  # (pixels, bands), and which are valid


def read_blocks(
    scene: Scene, windows: Sequence[Window], bands: npt.NDArray[np.bool_]
) -> Generator[Block]:
    """Read windows one after the other, in another thread, each in parts of its width.

    Parameters
    ----------
    scene : Scene
    windows : sequence of Window
    bands : ndarray, (bands of the scene,), bool
        Those wanted.

    Yields
    ------
    pixels : ndarray, (pixels, bands wanted)
        A fresh array.
    valid : ndarray, (pixels,), bool
        False where the scene holds no measurement.
    """

    def read(part: Window) -> Block:
        block = read_bands(scene, part, bands)
        pixels = block.reshape(part.rows * part.cols, -1)
        return pixels, _measured(pixels, scene.nodata)

    parts = (part for window in windows for part in _parts(scene, window))
    return read_ahead(read, parts, BLOCKS_AHEAD)


def reading_bytes(scene: Scene, bands: int) -> int:
    """Memory of the blocks that are read, wait and are worked on; ``bands`` of them are wanted."""
    rows, cols, all_bands = scene.shape
    row = cols * all_bands * scene.dtype.itemsize
    block = max(BLOCK_BYTES, row)
    copies = (scene.interleave != "bip") + (bands < all_bands)
    return min(block * (BLOCKS_AHEAD + 1), rows * row) + copies * min(block, rows * row)


def _parts(scene: Scene, window: Window) -> Iterator[Window]:
    step = max(1, BLOCK_BYTES // (window.cols * scene.shape[2] * scene.dtype.itemsize))
    for row in range(window.row, window.row_stop, step):
        yield Window(row, window.col, min(step, window.row_stop - row), window.cols)


def _measured(pixels: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.bool_]:
    """As ``valid_pixels``, which is asked about suspects only: it takes as long as reading."""
    suspect = np.zeros(len(pixels), bool)
    with np.errstate(all="ignore"):  # sums and no-data beyond the range
        if pixels.dtype.kind == "f":
            suspect |= ~np.isfinite(np.einsum("pb->p", pixels))
        if nodata is not None and (found := pixels == nodata).any():
            suspect |= found.any(axis=1)
    valid = ~suspect
    if suspect.any():
        valid[suspect] = valid_pixels(pixels[None, suspect], nodata)[0]
    return valid


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
