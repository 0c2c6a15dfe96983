"""Label maps as pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.io.files import atomic_write

_PALETTE = 256


def write_label_png(
    path: str | os.PathLike[str],
    labels: npt.NDArray[np.integer[Any]],
    colours: Sequence[tuple[int, int, int]],
    *,
    overwrite: bool = False,
) -> None:
    """Write a label map as a PNG in the classes' colours, unlabelled transparent.

    Parameters
    ----------
    path : path
        The picture.
    labels : ndarray, (rows, cols), integer
        0 = unlabelled, else the class, counted from 1.
    colours : sequence of (red, green, blue), 0-255
        Colours of classes 1, 2, ...
    overwrite : bool
        Replace a file that exists.

    Raises
    ------
    ExistingOutputError
        The file exists.
    FailedError
        It cannot be written.
    """
    from PIL import Image

    table = np.array([(0, 0, 0), *colours], dtype=np.uint8)
    if len(table) <= _PALETTE:
        image = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8))
        image.putpalette(table.tobytes())
        options: dict[str, Any] = {"transparency": 0}
    else:
        alpha = np.full((len(table), 1), 255, dtype=np.uint8)
        alpha[0] = 0
        image = Image.fromarray(np.concatenate([table, alpha], axis=1)[labels])
        options = {}
    with atomic_write(path, overwrite=overwrite) as temporary:
        image.save(temporary, format="PNG", optimize=True, **options)


def write_rgb_png(
    path: str | os.PathLike[str], picture: npt.NDArray[np.uint8], *, overwrite: bool = False
) -> None:
    """Write a (rows, cols, 3) uint8 picture as a PNG.

    Raises
    ------
    ExistingOutputError
        The file exists.
    FailedError
        It cannot be written.
    """
    from PIL import Image

    with atomic_write(path, overwrite=overwrite) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
