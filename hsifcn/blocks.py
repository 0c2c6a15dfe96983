"""A scene read block by block, ahead of who computes with it, and the memory that this takes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.scaling import read_bands, valid_pixels
from hsifcn.scene import Scene, Window
from hsifcn.stream import read_ahead

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
        A fresh array of a type that PyTorch has.
    valid : ndarray, (pixels,), bool
        False where the scene holds no measurement.
    """

    def read(part: Window) -> Block:
        block = read_bands(scene, part, bands)
        valid = valid_pixels(block, scene.nodata).reshape(-1)
        return _for_torch(block).reshape(len(valid), -1), valid

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


def _for_torch(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The block in a type that PyTorch has, converted only where it has not."""
    if block.dtype in (np.uint16, np.uint32, np.uint64):
        return block.astype(np.float32)
    return block
