"""How a scene is cut into tiles such that tiled prediction equals whole-scene prediction.

A tile has a core, whose scores are kept, and a read window round it, which is what the network
sees. Two conditions make the scores of the core exact for a network of local layers: the read
window holds the core and at least half the receptive field on every side, and it starts at a
multiple of the network's total stride, so that every pooling and every strided convolution falls
into the same places as it does on the whole scene.
"""

from __future__ import annotations

from dataclasses import dataclass

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import Window


@dataclass(frozen=True)
class Tile:
    """A part of a scene that is predicted in one go.

    Attributes
    ----------
    core : Window
        The pixels whose scores are kept.
    read : Window
        The pixels that the network is given: the core with its halo.
    """

    core: Window
    read: Window


def plan_tiles(
    rows: int, cols: int, *, tile: tuple[int, int], halo: int, stride: int
) -> list[Tile]:
    """Cut a scene into tiles.

    The cores cover every pixel of the scene exactly once. A read window starts at a multiple of
    ``stride``, holds at least ``halo`` pixels round its core as far as the scene goes, and ends at
    a multiple of ``stride`` or with the scene.

    Parameters
    ----------
    rows, cols : int
        Size of the scene in pixels.
    tile : tuple of int
        Rows and columns of a core, each rounded up to a multiple of ``stride``.
    halo : int
        Pixels of context needed on every side, ``(receptive field - 1) / 2`` or more.
    stride : int
        Total stride of the network in pixels.

    Returns
    -------
    list of Tile
        In row-major order.

    Raises
    ------
    SettingError
        A size that is not positive, or a negative halo.
    """
    if min(rows, cols, *tile, stride) < 1 or halo < 0:
        raise SettingError(
            f"cannot cut {rows} x {cols} px into tiles of {tile[0]} x {tile[1]} px "
            f"with halo {halo} px and stride {stride} px",
            "sizes and strides are at least 1, a halo at least 0",
        )
    height, width = (-(-side // stride) * stride for side in tile)
    tiles = []
    for row in range(0, rows, height):
        for col in range(0, cols, width):
            core = Window(row, col, min(height, rows - row), min(width, cols - col))
            top, bottom = _widened(core.row, core.row_stop, rows, halo, stride)
            left, right = _widened(core.col, core.col_stop, cols, halo, stride)
            tiles.append(Tile(core, Window(top, left, bottom - top, right - left)))
    return tiles


def crop(tile: Tile) -> tuple[slice, slice]:
    """Where the core lies inside the read window, as an index into the scores of the tile."""
    return tile.core.slices_in(tile.read)


def _widened(start: int, stop: int, end: int, halo: int, stride: int) -> tuple[int, int]:
    """Widen a range by the halo, then outwards to multiples of the stride, within 0 and end."""
    first = max(0, start - halo) // stride * stride
    last = -(-(stop + halo) // stride) * stride
    return first, min(last, end)
