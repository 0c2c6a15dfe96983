"""Which maps make one mosaic, and where each lies in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hsifcn.core.errors import FailedError
from hsifcn.core.scene import Grid, Window
from hsifcn.io import envi, tiff
from hsifcn.io.alignment import moved_grid
from hsifcn.io.crs import parse_crs
from hsifcn.io.raw import RawArray
from hsifcn.io.table import naming_file
from hsifcn.io.tiff import TiffArray

_SAME_GRID = 0.1  # pixels that two grids may drift apart from one end of a map to the other
NO_PLACE = "without a georeference"
OTHER_GRID = "in another CRS, pixel size or rotation"


@dataclass(frozen=True)
class PlacedMap:
    """A map, and the pixels of the mosaic that it covers."""

    path: Path
    voxels: RawArray | TiffArray
    place: Window


@dataclass(frozen=True)
class Layout:
    """Where maps lie in a mosaic.

    Attributes
    ----------
    grid : Grid
    shape : tuple of int
        Rows and columns.
    maps : tuple of PlacedMap
    left_out : tuple of (Path, str)
        Maps that do not belong to it, and why.
    shift : float
        Pixels by which a map was moved at most, to the pixels of the mosaic; up to 0.5 a side.
    """

    grid: Grid
    shape: tuple[int, int]
    maps: tuple[PlacedMap, ...]
    left_out: tuple[tuple[Path, str], ...]
    shift: float


@dataclass(frozen=True)
class Found:
    """A map that was opened: path, voxels (rows, cols, 1), and place."""

    path: Path
    voxels: RawArray | TiffArray
    grid: Grid | None


def open_map(path: Path) -> Found:
    """Open a map, or its confidence."""
    form = tiff if path.suffix.lower() in tiff.FORMAT.write_suffixes else envi
    with naming_file(str(path)):
        voxels, grid = form.open_map(str(path))
    return Found(path, voxels, grid)


def lay_out(maps: Sequence[Path]) -> Layout:
    """Find the grid that most maps share, and place these in it.

    They share it where CRS, pixel size and rotation are the same. Those that lie between its pixels
    are moved to the nearest.

    Parameters
    ----------
    maps : sequence of Path

    Raises
    ------
    FailedError
        No map has a georeference in a CRS that GDAL understands.
    """
    left_out: list[tuple[Path, str]] = []
    groups: list[list[Found]] = []
    systems = _Systems()
    for path in maps:
        found = open_map(path)
        if systems.of(found.grid) is None:
            left_out.append((path, NO_PLACE))
            continue
        for group in groups:
            if systems.are_alike(group[0].grid, found):
                group.append(found)
                break
        else:
            groups.append([found])
    if not groups:
        raise FailedError(
            f"there is no mosaic: none of {len(maps)} maps has a georeference in a known CRS",
            "give the scenes one, as with gdal_edit",
        )
    chosen = max(groups, key=len)
    others = [found.path for group in groups if group is not chosen for found in group]
    left_out += [(path, OTHER_GRID) for path in others]
    return _placed(chosen, tuple(left_out))


class _Systems:
    """Coordinate reference systems that were met, so that each text is parsed once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int | None] = {}
        self._known: list[Any] = []

    def of(self, grid: Grid | None) -> int | None:
        """The number of the CRS of a grid; None where pixels have no place in a known one."""
        from rasterio.errors import CRSError

        if grid is None or grid.crs is None or not _is_sound(grid):
            return None
        if grid.crs not in self._numbers:
            try:
                crs = parse_crs(grid.crs)
            except CRSError:
                self._numbers[grid.crs] = None
            else:
                if crs not in self._known:
                    self._known.append(crs)
                self._numbers[grid.crs] = self._known.index(crs)
        return self._numbers[grid.crs]

    def are_alike(self, grid: Grid | None, found: Found) -> bool:
        """Whether the pixels of a map are those of a grid, but for where they begin."""
        if self.of(grid) != self.of(found.grid):
            return False
        a, b, _, d, e, _ = _between(grid, found.grid)
        drift = max(abs(a - 1), abs(b), abs(d), abs(e - 1)) * max(found.voxels.shape[:2])
        return drift <= _SAME_GRID


def _is_sound(grid: Grid) -> bool:
    """Whether pixels have a finite place and a size."""
    a, b, _, d, e, _ = grid.transform
    return all(map(math.isfinite, grid.transform)) and a * e - b * d != 0


def _between(grid: Grid | None, other: Grid | None) -> tuple[float, ...]:
    """The transform, as in ``Grid``, from pixels of the second grid to pixels of the first."""
    assert grid is not None
    assert other is not None
    (a, b, c, d, e, f), (oa, ob, oc, od, oe, of) = grid.transform, other.transform
    columns = [[oa, ob, oc - c], [od, oe, of - f]]
    return tuple(np.linalg.solve(np.array([[a, b], [d, e]]), np.array(columns)).ravel().tolist())


def _placed(group: Sequence[Found], left_out: tuple[tuple[Path, str], ...]) -> Layout:
    """Place maps of one grid; the mosaic ends where they end."""
    first = group[0].grid
    assert first is not None
    places, shift = [], 0.0
    for found in group:
        _, _, across, _, _, down = _between(first, found.grid)
        row, col = round(down), round(across)
        shift = max(shift, abs(down - row), abs(across - col))
        places.append(Window(row, col, *found.voxels.shape[:2]))
    top, left = min(place.row for place in places), min(place.col for place in places)
    maps = tuple(
        PlacedMap(
            found.path, found.voxels, replace(place, row=place.row - top, col=place.col - left)
        )
        for found, place in zip(group, places, strict=True)
    )
    shape = max(one.place.row_stop for one in maps), max(one.place.col_stop for one in maps)
    grid = moved_grid(first, Window(top, left, *shape))
    return Layout(grid, shape, maps, left_out, shift)
