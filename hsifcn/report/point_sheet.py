"""A sheet of the surroundings of points, for those who interpret a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import Scene, Window
from hsifcn.io import atomic_write
from hsifcn.report.quicklook import pick, rgb_bands, stretched

REACH = 15  # pixels shown to each side of a point
SCALE = 4  # of a pixel on the sheet
HEADER = 16  # for the number of the point
COLUMNS = 8
MARK = (255, 60, 60)


def write_point_sheet(
    path: Path,
    scene: Scene,
    rows: npt.NDArray[np.int64],
    cols: npt.NDArray[np.int64],
    *,
    overwrite: bool = False,
) -> None:
    """Write a PNG with a picture of the surroundings of each point, numbered from 1.

    Colours are those of ``rgb_quicklook``, stretched alike in all pictures. The pixel that is meant
    is framed.

    Parameters
    ----------
    path : Path
    scene : Scene
        Read in small windows.
    rows, cols : ndarray, (points,), int64
        Pixels, counted from 0.
    overwrite : bool

    Raises
    ------
    ExistingOutputError, FailedError
        As of ``atomic_write``.
    """
    from PIL import Image, ImageDraw

    side = 2 * REACH + 1
    views = np.stack([_surroundings(scene, *at) for at in zip(rows, cols, strict=True)])
    colours = stretched(views, np.asarray(np.isfinite(views).all(axis=-1)))
    width, height = side * SCALE + 8, side * SCALE + HEADER + 4
    lines = -(-len(views) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, lines * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, view in enumerate(colours):
        left, top = i % COLUMNS * width, i // COLUMNS * height
        draw.text((left + 2, top + 2), str(i + 1), fill="black")
        tile = Image.fromarray(view).resize((side * SCALE,) * 2, Image.Resampling.NEAREST)
        sheet.paste(tile, (left, top + HEADER))
        corner = left + REACH * SCALE - 1, top + HEADER + REACH * SCALE - 1
        draw.rectangle((*corner, corner[0] + SCALE + 1, corner[1] + SCALE + 1), outline=MARK)
    with atomic_write(path, overwrite=overwrite) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def _surroundings(scene: Scene, row: int, col: int) -> npt.NDArray[np.float32]:
    """Three bands round a pixel, (side, side, 3); NaN outside of the scene and of what is valid."""
    side = 2 * REACH + 1
    view = np.full((side, side, 3), np.nan, np.float32)
    around = Window(int(row) - REACH, int(col) - REACH, side, side)
    window = around.intersection(Window(0, 0, *scene.shape[:2]))
    values, valid = pick(scene.read(window), rgb_bands(scene), scene.nodata)
    view[window.slices_in(around)] = np.where(valid[..., np.newaxis], values, np.nan)
    return view
