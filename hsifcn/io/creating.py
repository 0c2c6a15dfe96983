"""Rasters, begun by the suffix of their file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import Grid
from hsifcn.io.table import writing_format
from hsifcn.io.writer import RasterSpec, RasterWriter


def create_raster(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int] | tuple[int, int, int],
    dtype: npt.DTypeLike,
    overwrite: bool = False,
    grid: Grid | None = None,
    nodata: float | None = None,
    class_names: Sequence[str] | None = None,
    colours: Sequence[tuple[int, int, int]] | None = None,
    class_codes: Sequence[int] | None = None,
    band_names: Sequence[str] | None = None,
    wavelengths: Sequence[float] | npt.NDArray[np.float64] | None = None,
    ramp: tuple[float, float] | None = None,
) -> RasterWriter:
    """Begin a raster that is written window by window; the suffix decides the format.

    What a format has no place for (an ``.npy`` file: all but the voxels) is left out.

    Parameters
    ----------
    path : path
        The file.
    shape, dtype, overwrite, grid, nodata, class_names, colours, class_codes, band_names,
    wavelengths, ramp
        Of ``RasterSpec``.

    Returns
    -------
    RasterWriter
        A context manager; the file appears when its block ends.

    Raises
    ------
    ExistingOutputError
        The raster or its header exists, or the header belongs to another raster.
    SettingError
        No format of that suffix, or it cannot hold such voxels.
    FailedError
        From the block: disk full, no permission.
    """
    target = Path(path)
    if len(shape) not in {2, 3} or min(shape) < 1:
        raise SettingError(f"{target} cannot have the shape {shape}", "give rows, cols, bands")
    spec = RasterSpec(
        path=target,
        shape=tuple(shape),
        dtype=np.dtype(dtype).newbyteorder("="),
        overwrite=overwrite,
        grid=grid,
        nodata=nodata,
        class_names=tuple(class_names or ()),
        colours=tuple(colours or ()),
        class_codes=tuple(class_codes or ()),
        band_names=tuple(band_names or ()),
        wavelengths=() if wavelengths is None else tuple(float(value) for value in wavelengths),
        ramp=ramp,
    )
    return writing_format(target).create(spec)
