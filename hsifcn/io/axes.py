"""Arrays whose axes are in another order than rows, columns and bands."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import AmbiguousInputError
from hsifcn.core.scene import Window
from hsifcn.io.formats import FileScene, Voxels

Axes = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class TurnedVoxels:
    """Voxels whose axes are in another order in the file; see ``Voxels``.

    Attributes
    ----------
    voxels : Voxels
        Reads the array as if its axes were rows, columns and bands.
    stored : tuple of int
        Its shape.
    axes : tuple of int
        Which of its axes rows, columns and bands are.
    """

    voxels: Voxels
    stored: tuple[int, int, int]
    axes: Axes

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read all bands of a window."""
        wanted: list[slice] = [slice(None)] * 3
        wanted[self.axes[0]], wanted[self.axes[1]] = window.slices
        rows, cols = (
            range(size)[part] for size, part in zip(self.stored, wanted[:2], strict=False)
        )
        block = self.voxels.read(Window(rows.start, cols.start, len(rows), len(cols)))
        return np.ascontiguousarray(block[:, :, wanted[2]].transpose(self.axes))


def axes_by_wavelengths(shape: tuple[int, ...], count: int | None) -> Axes | None:
    """Which axes of a cube rows, columns and bands are; None where wavelengths do not tell.

    Parameters
    ----------
    shape : tuple of int
        Of three axes.
    count : int or None
        How many wavelengths there are. Where several axes are as long, the last one is meant if it
        is among them.
    """
    alike = [axis for axis in range(3) if shape[axis] == count]
    if 2 in alike:
        return 0, 1, 2
    if len(alike) != 1:
        return None
    rows, cols = (axis for axis in range(3) if axis != alike[0])
    return rows, cols, alike[0]


def turned(scene: FileScene, axes: Axes) -> FileScene:
    """The scene with its stored axes taken for rows, columns and bands as ``axes`` tells."""
    if axes == (0, 1, 2):
        return dataclasses.replace(scene, axes_told=True)
    rows, cols, bands = (scene.shape[axis] for axis in axes)
    return dataclasses.replace(
        scene,
        shape=(rows, cols, bands),
        interleave=("bsq", "bil", "bip")[axes[2]],
        voxels=TurnedVoxels(scene.voxels, scene.shape, axes),
        good_bands=np.ones(bands, np.bool_),
        axes_told=True,
    )


def refuse_small_cube(path: str, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise where the only cube is smaller than an array of other dimensions beside it.

    Abundances and previews are cubes, too, beside data that are a matrix or have more dimensions.

    Raises
    ------
    AmbiguousInputError
        It is so.
    """
    size = np.prod(shapes[name], dtype=object)
    for other, shape in shapes.items():
        if len(shape) > 1 and len(shape) != 3 and np.prod(shape, dtype=object) > size:
            raise AmbiguousInputError(
                f"{path} holds one cube, {name} {shapes[name]}, but {other} {shape} holds more",
                f"name the cube if it is the scene: {path}:{name}",
            )
