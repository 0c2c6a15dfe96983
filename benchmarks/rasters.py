"""The bundled scene as arrays, and headers of ENVI rasters that are made of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.pages import ROOT
from hsifcn.core.scene import Window
from hsifcn.io import open_labels, open_scene

INDIAN_PINES = ROOT / "data" / "indian_pines_corrected.mat"
INDIAN_PINES_LABELS = ROOT / "data" / "indian_pines_gt.mat"

LabelImage = npt.NDArray[np.uint16]


@cache
def indian_pines() -> tuple[npt.NDArray[np.float32], LabelImage]:
    """Cube (rows, cols, bands) and labels (rows, cols); not to be changed."""
    scene = open_scene(INDIAN_PINES)
    cube = scene.read(Window(0, 0, *scene.shape[:2])).astype(np.float32)
    return cube, open_labels(INDIAN_PINES_LABELS).labels.astype(np.uint16)


def write_header(path: Path, shape: tuple[int, int, int], interleave: str) -> None:
    """Describe a file of int16 values as ENVI raster; ``shape`` is rows, columns, bands."""
    rows, cols, bands = shape
    path.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = {cols}\nlines = {rows}\nbands = {bands}\nheader offset = 0\n"
        f"file type = ENVI Standard\ndata type = 2\ninterleave = {interleave}\nbyte order = 0\n"
    )
