"""Labels onto the pixels of a scene, by what both tell of where they lie."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import MismatchError, OutsideError
from hsifcn.core.scene import Grid, LabelMap, Scene, Window, default_class_name
from hsifcn.io.crs import reprojected

# Pixels. Georeferences written as text are off by less, and nearest-neighbour sampling goes wrong
# at half a pixel only.
TOLERANCE = 0.01
_NUDGE = 1e-6  # pixels: a centre on the border of two label pixels belongs to the later one
_BLOCK_ROWS = 256
_LATTICE = 33  # places a side at which a scene is looked up in a large raster, and
_MARGIN = 16  # pixels more, at least

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer[Any]]


class OutsideWarning(UserWarning):
    """Some labels lie outside of a scene, as they must where one file serves several."""


@dataclass(frozen=True)
class Target:
    """The pixels that labels are wanted for.

    Attributes
    ----------
    name : str
        What messages call it.
    shape : tuple of int
        Rows, columns.
    grid : Grid or None
    class_names : mapping of int to str
        Names of classes by code: how classes given by name are numbered. Empty where that is
        free.
    names_are_complete : bool
        Whether a class of another name is an error.
    """

    name: str
    shape: tuple[int, int]
    grid: Grid | None
    class_names: Mapping[int, str] = field(default_factory=dict)
    names_are_complete: bool = False


def how_to_place(target: Target) -> str:
    """What to add to a remedy where a scene has no georeference: EMIT's swaths can be placed."""
    file, swath, _ = target.name.partition(":/reflectance")
    return f", or name the scene {file}:@glt, which places an EMIT swath" if swath else ""


def target_of(like: Scene | LabelMap) -> Target:
    """Take the pixels of a scene, or the pixels and the names of classes of a label map."""
    if isinstance(like, LabelMap):
        rows, cols = like.labels.shape
        classes = zip(like.codes, like.class_names, strict=True)
        names = {code: name for code, name in classes if name != default_class_name(code)}
        return Target("the label map", (rows, cols), like.grid, names)
    return Target(like.path, like.shape[:2], like.grid)


def align(path: str, labels: Labels, grid: Grid | None, target: Target) -> Labels:
    """Put the labels of a raster where they lie in a scene.

    Where both have a georeference it decides: a raster on the same pixels, shifted, larger or
    smaller, is cut out exactly; any other is sampled at the pixel centres of the scene. Where one
    has none, the sizes must be equal. A georeference without a CRS is relied on only where the
    sizes differ.

    Parameters
    ----------
    path : str
        Of the raster, for messages.
    labels : ndarray, (rows, cols), integer
    grid : Grid or None
        Of the raster.
    target : Target

    Returns
    -------
    ndarray, ``target.shape``, the same type
        0 outside of the raster.

    Warns
    -----
    UserWarning
        Labels were moved by part of a pixel, sampled, or left out.

    Raises
    ------
    MismatchError
        The sizes differ and there is no georeference to go by.
    LabelError
        No label lies in the scene.
    """
    there = target.grid
    same_size = labels.shape == target.shape
    if grid is None or there is None or (same_size and None in (grid.crs, there.crs)):
        if not same_size:
            raise sizes_differ(path, labels.shape, target)
        return labels
    if grid.crs != there.crs and None in (grid.crs, there.crs):
        without = path if grid.crs is None else target.name
        warnings.warn(f"{without} has no CRS; the other's is assumed", stacklevel=2)
    shift = _shift(path, grid, target.shape, there)
    if shift is None:
        warnings.warn(
            f"{path} has other pixels than {target.name}: the nearest label is taken", stacklevel=2
        )
        found = _sampled(path, labels, grid, target.shape, there)
    else:
        found = _moved(path, labels, shift, target)
    if not found.any():
        corners = _corners(grid, labels.shape)
        raise outside(path, reprojected(*corners, grid.crs, there.crs, path), target)
    return found


def window_covering(path: str, grid: Grid, shape: tuple[int, int], target: Target) -> Window:
    """The pixels of a raster that a scene may need, with a margin.

    Raises
    ------
    OutsideError
        There are none.
    """
    assert target.grid is not None
    steps = (np.linspace(0, size, _LATTICE) for size in target.shape)
    places = coordinates_of(target.grid, *np.meshgrid(*steps, indexing="ij"))
    at = pixels_at(grid, *reprojected(*places, target.grid.crs, grid.crs, path))
    known = np.isfinite(at[0]) & np.isfinite(at[1])
    bounds = []
    for values, size in zip(at, shape, strict=True):
        low, high = (values[known].min(), values[known].max()) if known.any() else (0.0, -1.0)
        margin = _MARGIN + (high - low) / _LATTICE
        bounds.append((max(0, int(max(low - margin, 0))), int(min(high + margin, size))))
    (top, bottom), (left, right) = bounds
    if bottom <= top or right <= left:
        corners = reprojected(*_corners(grid, shape), grid.crs, target.grid.crs, path)
        raise outside(path, corners, target)
    return Window(top, left, bottom - top, right - left)


def moved_grid(grid: Grid, window: Window) -> Grid:
    """The grid of a window of a raster."""
    a, b, c, d, e, f = grid.transform
    row, col = window.row, window.col
    return Grid(grid.crs, (a, b, c + a * col + b * row, d, e, f + d * col + e * row))


def outside(path: str, points: tuple[Floats, Floats], target: Target) -> OutsideError:
    """Say that labels, whose points are in the CRS of the scene, lie outside of it."""
    assert target.grid is not None
    return OutsideError(
        f"{path} labels no pixel of {target.name}: it covers {_extent(points)}, the scene "
        f"{_extent(_corners(target.grid, target.shape))}",
        "check that they belong together, and the CRS of both",
    )


def pixels_at(grid: Grid, xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
    """Rows and columns, counted from the upper left corner of the first pixel, of coordinates.

    Raises
    ------
    MismatchError
        The pixels of the grid have no size.
    """
    a, b, c, d, e, f = grid.transform
    determinant = a * e - b * d
    if determinant == 0:
        raise MismatchError("a georeference has pixels of no size", "correct it in its file")
    cols = (e * (xs - c) - b * (ys - f)) / determinant
    rows = (a * (ys - f) - d * (xs - c)) / determinant
    return rows, cols


def coordinates_of(grid: Grid, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
    """Coordinates of places counted in rows and columns; the inverse of ``pixels_at``."""
    a, b, c, d, e, f = grid.transform
    return a * cols + b * rows + c, d * cols + e * rows + f


def _shift(
    path: str, grid: Grid, shape: tuple[int, int], there: Grid
) -> tuple[float, float] | None:
    """Rows and columns by which all pixels of one grid are moved on another; None if not all."""
    rows, cols = np.meshgrid(*(np.array([0, size / 2, size]) for size in shape), indexing="ij")
    places = reprojected(*coordinates_of(there, rows, cols), there.crs, grid.crs, path)
    at_rows, at_cols = pixels_at(grid, *places)
    down, right = at_rows - rows, at_cols - cols
    if not (np.ptp(down) <= TOLERANCE and np.ptp(right) <= TOLERANCE):  # NaN and infinity too
        return None
    return float(down.mean()), float(right.mean())


def _moved(path: str, labels: Labels, shift: tuple[float, float], target: Target) -> Labels:
    """Cut labels out at whole pixels, and tell of parts of pixels and of labels outside."""
    rows, cols = (int(np.floor(offset + 0.5)) for offset in shift)
    off = max(abs(shift[0] - rows), abs(shift[1] - cols))
    if off > TOLERANCE:
        warnings.warn(
            f"{path} lies {off:.2f} pixels beside the pixels of {target.name}: the nearest label "
            "is taken",
            stacklevel=2,
        )
    found = _shifted(labels, rows, cols, target.shape)
    lost = np.count_nonzero(labels) - np.count_nonzero(found)
    if lost and found.any():
        warnings.warn(
            f"{lost} labelled pixels of {path} lie outside of {target.name}", stacklevel=2
        )
    return found


def _shifted(labels: Labels, down: int, right: int, shape: tuple[int, int]) -> Labels:
    """Cut out of labels what a scene sees whose first pixel is theirs at (down, right)."""
    rows, cols = shape
    part = labels[max(0, down) : max(0, rows + down), max(0, right) : max(0, cols + right)]
    found = np.zeros(shape, labels.dtype)
    top, left = max(0, -down), max(0, -right)
    found[top : top + part.shape[0], left : left + part.shape[1]] = part
    return found


def _sampled(path: str, labels: Labels, grid: Grid, shape: tuple[int, int], there: Grid) -> Labels:
    """Take the label under every pixel centre of a scene.

    ``rasterio.warp.reproject`` does not: it approximates places by up to an eighth of a pixel, and
    it wants the CRS of both.
    """
    found = np.zeros(shape, labels.dtype)
    for top in range(0, shape[0], _BLOCK_ROWS):
        block = found[top : top + _BLOCK_ROWS]
        rows, cols = np.indices(block.shape) + 0.5
        places = coordinates_of(there, rows + top, cols)
        at = pixels_at(grid, *reprojected(*places, there.crs, grid.crs, path))
        at_rows, at_cols = (np.floor(values + _NUDGE) for values in at)
        inside = (at_rows >= 0) & (at_rows < labels.shape[0])
        inside &= (at_cols >= 0) & (at_cols < labels.shape[1])
        block[inside] = labels[at_rows[inside].astype(np.intp), at_cols[inside].astype(np.intp)]
    return found


def _corners(grid: Grid, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    rows, cols = np.meshgrid([0.0, shape[0]], [0.0, shape[1]])
    return coordinates_of(grid, rows, cols)


def _extent(points: tuple[Floats, Floats]) -> str:
    known = np.isfinite(points[0]) & np.isfinite(points[1])
    if not known.any():
        return "no place in its CRS"
    return ", ".join(
        f"{axis} {values[known].min():.10g} to {values[known].max():.10g}"
        for axis, values in zip("xy", points, strict=True)
    )


def sizes_differ(path: str, shape: tuple[int, ...], target: Target) -> MismatchError:
    """Say that labels and a scene without a common georeference have different sizes."""
    rows, cols = shape
    return MismatchError(
        f"{path} is {rows}x{cols} pixels, {target.name} is {target.shape[0]}x{target.shape[1]}",
        "give labels of its size, or a georeference to both",
    )
