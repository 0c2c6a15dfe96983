"""Raw arrays on disk, read window by window into a buffer.

Nothing is mapped into memory: mapped pages count as resident, and a file that shrinks kills the
process that mapped it. The stored order of the axes is all that tells the interleaves apart.

A scene of int16 was read in blocks of 64 rows, on two cores. A loop over ``np.memmap`` reached
1.6 GB/s of BIL and 0.7 of BSQ with lines of 512 columns, 1.3 and 2.5 with lines of 1581. This
module reached 3.4 and 3.8, and 2.6 and 2.0. BIP is equal. So the buffers below pay where lines
are powers of two, as those of many sensors are, and cost little elsewhere.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io.files import cannot_read

# Axes (0 rows, 1 columns, 2 bands) from the slowest to the fastest on disk.
ORDERS: dict[str, tuple[int, int, int]] = {
    "bip": (0, 1, 2),
    "bil": (0, 2, 1),
    "bsq": (2, 0, 1),
    "bsq-columns": (2, 1, 0),  # a Fortran-ordered (rows, cols, bands) array
}
# What a read holds besides its result. Turned from memory that stays in the processor's own cache,
# voxels come twice as fast; BSQ, a call a band, is read in pieces too short from a smaller buffer.
_BUFFER_BYTES = {"bil": 2 * 2**20, "bsq": 4 * 2**20}
# Of a pixel, turned at once from BSQ: of fewer bands a buffer of the same size holds longer pieces,
# but writing less than two cache lines in a row is slow.
_PIXEL_BYTES = 128
_LARGE_BYTES = 16 * 2**20  # of a result, from which on two threads are quicker than one
_GAP_BYTES = 16 * 2**10  # read through rather than skipped: another call would take as long
_CACHE_LINE = 64  # bytes
_SHARED_BYTES = 512  # lines that are multiples of it apart share an eighth of the cache, or less


@dataclass(frozen=True)
class RawArray:
    """An array of voxels somewhere in a file.

    Attributes
    ----------
    path : str
        The file.
    offset : int
        Bytes before the first voxel.
    shape : tuple of int
        Rows, columns, bands.
    dtype : dtype
        Type on disk, byte order included.
    order : str
        A key of ``ORDERS``.
    """

    path: str
    offset: int
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    order: str

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array on disk."""
        rows, cols, bands = self.shape
        return rows * cols * bands * self.dtype.itemsize

    @property
    def interleave(self) -> str:
        """The interleave as the field names it."""
        return self.order[:3]

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read all bands of a window.

        Returns
        -------
        ndarray, (window.rows, window.cols, bands), native byte order, C order
            A fresh array.

        Raises
        ------
        UnreadableFileError
            The file is gone, shorter than it was, or cannot be read.
        ValueError
            The window reaches out of the array.
        """
        self._check(window)
        result = np.empty(
            (window.rows, window.cols, self.shape[2]), dtype=self.dtype.newbyteorder("=")
        )
        try:
            with open(self.path, "rb", buffering=0) as file:
                if self.order == "bip":
                    self._read_stored(file, window, slice(0, self.shape[2]), result, result)
                else:
                    self._read_turned(file, window, result)
        except OSError as error:
            raise cannot_read(self.path, error) from error
        return result

    def _check(self, window: Window) -> None:
        inside = (
            min(window.row, window.col, window.rows, window.cols) >= 0
            and window.row_stop <= self.shape[0]
            and window.col_stop <= self.shape[1]
        )
        if not inside:
            raise ValueError(f"{window} reaches out of an array of {self.shape}")

    def _whole_lines(self, window: Window) -> Window:
        """Widen a window to whole lines on disk, where little lies between its parts of lines."""
        rows, cols, _ = self.shape
        if self.order == "bsq-columns":
            if (rows - window.rows) * self.dtype.itemsize <= _GAP_BYTES:
                return Window(0, window.col, rows, window.cols)
        elif (cols - window.cols) * self.dtype.itemsize <= _GAP_BYTES:
            return Window(window.row, 0, window.rows, cols)
        return window

    def _read_turned(self, file: BinaryIO, window: Window, result: npt.NDArray[Any]) -> None:
        """Fill the result part by part, large ones in two threads."""
        axes = np.argsort(ORDERS[self.order])
        parts = list(self._parts(self._whole_lines(window)))

        def fill(parts: list[tuple[Window, slice]]) -> None:
            memory = np.empty(0, result.dtype)  # that every part is read into and turned from
            for part, bands in parts:
                memory, buffer = self._buffer(part, bands, memory)
                self._read_stored(file, part, bands, memory, buffer)
                common = part.intersection(window)
                found = buffer.transpose(axes)[common.slices_in(part)]
                _turn(found, result[common.slices_in(window)][:, :, bands])

        if result.nbytes < _LARGE_BYTES:
            fill(parts)
            return
        with ThreadPoolExecutor(2, "turning") as pool:
            for done in [pool.submit(fill, parts[start::2]) for start in (0, 1)]:
                done.result()

    def _parts(self, window: Window) -> Iterator[tuple[Window, slice]]:
        """Cut a window into parts that fit into the buffer, the largest first.

        It is cut along its slower axis on disk, and in BSQ along the bands.
        """
        lines, line = window.rows, window.cols
        if self.order == "bsq-columns":
            lines, line = line, lines
        bands = self.shape[2]
        if self.interleave == "bsq":
            bands = min(bands, _PIXEL_BYTES // self.dtype.itemsize)
        bytes_a_line = max(1, line * bands * self.dtype.itemsize)
        step = max(1, _BUFFER_BYTES[self.interleave] // bytes_a_line)
        for start in range(0, lines, step):
            count = min(step, lines - start)
            if self.order == "bsq-columns":
                part = Window(window.row, window.col + start, window.rows, count)
            else:
                part = Window(window.row + start, window.col, count, window.cols)
            for band in range(0, self.shape[2], bands):
                yield part, slice(band, min(band + bands, self.shape[2]))

    def _buffer(
        self, window: Window, bands: slice, memory: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """``memory`` or, where it is too small, more; and the part of it that some voxels fill.

        Their axes are in stored order. In BSQ the bands begin an odd number of cache lines apart. A
        power of two apart, as they are in many wide scenes, a pixel's bands would share a few
        places of the processor's cache, and turning them would take three times as long.
        """
        extent = (window.rows, window.cols, bands.stop - bands.start)
        slow, *others = (extent[axis] for axis in ORDERS[self.order])
        plane = apart = others[0] * others[1]
        if self.interleave == "bsq":
            lines = -(-plane * self.dtype.itemsize // _CACHE_LINE) | 1
            apart = lines * _CACHE_LINE // self.dtype.itemsize
        if memory.size < slow * apart:
            memory = np.empty(slow * apart, memory.dtype)
        planes = memory[: slow * apart].reshape(slow, apart)[:, :plane]
        return memory, planes.reshape(slow, *others)

    def _read_stored(
        self,
        file: BinaryIO,
        window: Window,
        bands: slice,
        memory: npt.NDArray[Any],
        buffer: npt.NDArray[Any],
    ) -> None:
        """Fill ``buffer``, whose axes are in stored order, with some bands of a window.

        Axes that the window covers whole are joined to the next slower one, so that a window of
        full width is one read a band (BSQ) or one altogether (BIL, BIP). ``memory`` is all that the
        buffer lies at the start of, in C order.
        """
        order = ORDERS[self.order]
        # The first axis is none of the array's: so there always is one to step along.
        sizes = [1, *(self.shape[axis] for axis in order)]
        starts = [0, *((window.row, window.col, bands.start)[axis] for axis in order)]
        counts = [1, *buffer.shape]
        # In memory; NumPy may give an axis of one voxel, the last one too, any stride.
        strides = [0, *buffer.strides[:-1], buffer.itemsize]
        while (
            len(sizes) > 2
            and counts[-1] == sizes[-1]
            and (strides[-2] == counts[-1] * strides[-1] or counts[-2] == 1)
        ):
            size = sizes.pop()
            starts.pop()
            counts.pop()
            starts[-1], counts[-1], sizes[-1] = (
                starts[-1] * size,
                counts[-1] * size,
                sizes[-1] * size,
            )
            strides[-2:] = strides[-1:]

        step, run = (values[-1] * self.dtype.itemsize for values in (sizes, counts))
        target = memory.reshape(-1).view(np.uint8).data
        for index in itertools.product(*map(range, counts[:-2])):
            line = 0
            for start, i, size in zip(starts[:-1], (*index, 0), sizes[:-1], strict=True):
                line = line * size + start + i
            first = self.offset + line * step + starts[-1] * self.dtype.itemsize
            place = sum(i * stride for i, stride in zip(index, strides, strict=False))
            for position in range(first, first + counts[-2] * step, step):
                self._fill(file, target[place : place + run], position)
                place += strides[-2]
        if self.dtype.newbyteorder("=") != self.dtype:
            buffer.byteswap(inplace=True)

    def _fill(self, file: BinaryIO, target: memoryview, position: int) -> None:
        while (count := os.preadv(file.fileno(), [target], position)) < len(target):
            if not count:
                raise UnreadableFileError(
                    f"{self.path} ends too early", "it changed while it was read; copy it again"
                )
            target = target[count:]
            position += count


def _turn(found: npt.NDArray[Any], result: npt.NDArray[Any]) -> None:
    """Copy (rows, cols, bands) into C order; lines that share the cache are set apart before."""
    if found.strides[2] % _SHARED_BYTES:
        result[:] = found
        return
    _, cols, bands = found.shape
    apart = np.empty((bands, cols + _CACHE_LINE // found.itemsize), found.dtype)[:, :cols]
    for source, target in zip(found, result, strict=True):
        apart[:] = source.T
        target[:] = apart.T
