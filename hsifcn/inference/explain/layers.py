"""The layers of an explanation as georeferenced rasters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.scene import Grid, Window, codes_table
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.explain.explanation import Explanation
from hsifcn.io import create_raster


def write_layers(
    folder: Path, explanation: Explanation, bundle: Bundle, grid: Grid | None, *, overwrite: bool
) -> list[str]:
    """Write what every stage says as GeoTIFF, a band a class.

    ``shares_stride_4.tif`` and so on add up to ``logits.tif``, pixel by pixel.
    ``probabilities_stride_4.tif`` and ``map_stride_4.tif`` are what the stages up to that one say
    together; the last of them is the map of the whole network.

    Returns
    -------
    list of str
        Names of the files.
    """
    pixels = explanation.pixels
    place = grid_of_window(grid, pixels.window)
    names: list[str] = []

    def scores(name: str, values: Tensor) -> None:
        bands = values.permute(1, 2, 0).numpy().astype(np.float32)
        bands = np.where(pixels.valid[..., None], bands, np.float32("nan"))
        write_raster(folder / name, bands, bundle.class_names, place, overwrite=overwrite)
        names.append(name)

    scores("logits.tif", explanation.logits)
    for stage, stride in enumerate(explanation.strides if explanation.record["stages"] else ()):
        scores(f"shares_stride_{stride}.tif", explanation.shares[stage])
        scores(f"probabilities_stride_{stride}.tif", torch.softmax(explanation.after(stage), 0))
        name = f"map_stride_{stride}.tif"
        write_map(folder / name, explanation.labels_after(stage), bundle, place, overwrite)
        names.append(name)
    return names


def write_source(
    folder: Path, ends: npt.NDArray[np.float64], window: Window, grid: Grid | None, *,
    overwrite: bool,
) -> str:  # fmt: skip
    """Write where the walk from a pixel ends, (rows, cols) of a window; gives the file's name."""
    name = "pseudo_label_source.tif"
    bands = ends.astype(np.float32)[..., None]
    names = ["probability that the walk ends here"]
    place = grid_of_window(grid, window)
    write_raster(folder / name, bands, names, place, overwrite=overwrite)
    return name


def write_raster(
    path: Path,
    bands: npt.NDArray[np.float32],
    band_names: Sequence[str],
    grid: Grid | None,
    *,
    overwrite: bool,
) -> None:
    """Write (rows, cols, bands) float32; NaN is no-data."""
    rows, cols = bands.shape[:2]
    with create_raster(
        path,
        shape=bands.shape,
        dtype=np.float32,
        overwrite=overwrite,
        grid=grid,
        nodata=float("nan"),
        band_names=band_names,
    ) as raster:
        raster.write(Window(0, 0, rows, cols), bands)


def write_map(
    path: Path, labels: npt.NDArray[Any], bundle: Bundle, grid: Grid | None, overwrite: bool
) -> None:
    """Write a label map, (rows, cols), with the names and colours of its classes."""
    codes = codes_table(bundle.class_codes)
    with create_raster(
        path,
        shape=labels.shape,
        dtype=codes.dtype,
        overwrite=overwrite,
        grid=grid,
        nodata=0,
        class_names=bundle.class_names,
        colours=bundle.colours,
        class_codes=bundle.class_codes,
    ) as raster:
        raster.write(Window(0, 0, *labels.shape), codes[labels])


def grid_of_window(grid: Grid | None, window: Window) -> Grid | None:
    """Where the pixels of a window lie, of the grid of its scene."""
    if grid is None:
        return None
    a, b, c, d, e, f = grid.transform
    x = a * window.col + b * window.row + c
    y = d * window.col + e * window.row + f
    return Grid(grid.crs, (a, b, x, d, e, y))
