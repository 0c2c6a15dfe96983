"""Large ENVI cubes, and untrained models, for the benchmarks of size and speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hsifcn.core.process import versions
from hsifcn.core.scene import Window, default_class_names, default_colours
from hsifcn.data.indian_pines import bundled_scene
from hsifcn.data.standardise import Scaling
from hsifcn.inference.bundle import Bundle
from hsifcn.io import open_scene
from hsifcn.models import build, default_spec

CODES = {"int16": 2, "float32": 4}  # ENVI's data types
CLASSES = 16

Shape = tuple[int, int, int]


def write_header(path: Path, shape: Shape, dtype: str, interleave: str) -> None:
    """Describe a file of voxels."""
    rows, cols, bands = shape
    path.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = {cols}\nlines = {rows}\nbands = {bands}\nheader offset = 0\n"
        f"file type = ENVI Standard\ndata type = {CODES[dtype]}\ninterleave = {interleave}\n"
        "byte order = 0\n"
    )


@contextmanager
def sparse_cube(
    path: Path, shape: Shape, dtype: str = "int16", interleave: str = "bip"
) -> Iterator[Path]:
    """A cube of zeros that takes no room on the disk; removed after the block."""
    with open(path, "wb") as file:
        file.truncate(shape[0] * shape[1] * shape[2] * np.dtype(dtype).itemsize)
    write_header(path, shape, dtype, interleave)
    yield path
    path.unlink()


@contextmanager
def mosaic(path: Path, pixels: int, interleave: str = "bip") -> Iterator[Path]:
    """The bundled scene side by side with itself, int16, of about that many pixels."""
    scene = open_scene(bundled_scene()["scene"])
    rows, cols, bands = scene.shape
    tile = scene.read(Window(0, 0, rows, cols)).astype(np.int16)
    across = max(1, min(14, round((pixels / tile[..., 0].size) ** 0.5)))
    down = max(1, round(pixels / (across * tile[..., 0].size)))
    shape = (down * rows, across * cols, bands)
    if interleave == "bip":
        strip = np.tile(tile, (1, across, 1)).tobytes()
        with open(path, "wb") as file:
            for _ in range(down):
                file.write(strip)
    else:
        with open(path, "wb") as file:
            for band in range(bands):
                file.write(np.tile(tile[..., band], (down, across)).tobytes())
    write_header(path, shape, "int16", interleave)
    yield path
    path.unlink()


def write_model(path: Path, name: str, bands: int) -> Path:
    """A freshly initialised model; time and memory do not hang on the weights."""
    torch.manual_seed(0)
    spec = default_spec(name, bands, CLASSES)
    Bundle(
        spec=spec,
        weights=build(spec).state_dict(),
        scaling=Scaling(np.full(bands, 3000.0), np.full(bands, 1000.0)),
        good_bands=np.ones(bands, bool),
        wavelengths=None,
        class_names=default_class_names(CLASSES),
        colours=default_colours(CLASSES),
        settings={},
        split=[],
        versions=versions(),
    ).save(path, overwrite=True)
    return path


def predict(model: Path, scene: Path, *options: str) -> dict[str, Any]:
    """Map a scene in a fresh process; gives what ``hsifcn predict --json`` tells."""
    target = scene.with_name("map.img")
    command = ["predict", str(model), str(scene), "-o", str(target), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "hsifcn", *command, "--overwrite", "--json", *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout))
