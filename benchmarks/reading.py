"""Reading scenes window by window, against copying the file and against a memory map.

    python -m benchmarks.reading [--gigabytes 0.5] [--columns 512,1581] [--repeats 3] [--write]

Writes an int16 scene of 200 bands as ENVI raster in each interleave and reads it from the page
cache in strips of 64 full rows: with hsifcn, and with a loop over ``numpy.memmap`` that gives the
same arrays. MATLAB files of the same scene are read twice: first through the cache, then from it.
``--write`` puts the tables into ``docs/reading.md``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import numpy.typing as npt
from scipy.io import savemat

from benchmarks.pages import DOCS, markdown_table, where_measured, write_figures
from benchmarks.rasters import write_header
from hsifcn.core.scene import Scene, Window
from hsifcn.io import open_scene

BANDS, STRIP = 200, 64
ORDERS = {"bip": (0, 1, 2), "bil": (0, 2, 1), "bsq": (2, 0, 1)}
PAGE = DOCS / "reading.md"

Cube = npt.NDArray[np.int16]


def scene_of(gigabytes: float, columns: int) -> Cube:
    """Counts as a sensor gives them, which can be compressed."""
    rows = int(gigabytes * 1e9 / (2 * BANDS * columns))
    rng = np.random.default_rng(0)
    cube = rng.integers(0, 200, (rows, columns, BANDS), dtype=np.int16)
    cube += (3000 + 1000 * np.sin(np.arange(BANDS) / 20)).astype(np.int16)
    return cube


def write_envi(path: Path, cube: Cube, interleave: str) -> None:
    """Write an ENVI raster and its header."""
    write_header(path, cube.shape, interleave)
    cube.transpose(ORDERS[interleave]).astype("<i2").tofile(path)


def write_v73(path: Path, cube: Cube) -> None:
    """Write a cube as MATLAB does: axes reversed, in compressed chunks."""
    with h5py.File(path, "w", userblock_size=512) as file:
        data = file.create_dataset("cube", data=cube.T, chunks=(16, 64, 32), compression=3)
        data.attrs["MATLAB_class"] = np.bytes_("int16")
    with path.open("r+b") as start:
        start.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def read_all(scene: Scene) -> None:
    """Read every strip of a scene once."""
    rows, cols, _ = scene.shape
    for row in range(0, rows, STRIP):
        scene.read(Window(row, 0, min(STRIP, rows - row), cols))


def read_mapped(path: Path, shape: tuple[int, ...], interleave: str) -> None:
    """The same with a memory map: every strip as an array of its own, bands last."""
    order = ORDERS[interleave]
    mapped = np.memmap(path, "<i2", "r", shape=tuple(shape[axis] for axis in order))
    scene = mapped.transpose(np.argsort(order))
    for row in range(0, shape[0], STRIP):
        np.ascontiguousarray(scene[row : row + STRIP])


def seconds(action: Callable[[], None]) -> float:
    """Wall seconds of an action."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def raster_rows(folder: Path, gigabytes: float, columns: int, repeats: int) -> Iterator[list[str]]:
    """GB/s of copying, of a memory map and of hsifcn, measured by turns, for each interleave."""
    cube = scene_of(gigabytes, columns)
    path, copy = folder / "scene.img", folder / "copy"
    for interleave in ORDERS:
        write_envi(path, cube, interleave)
        scene = open_scene(path)

        def copy_file() -> None:
            shutil.copyfile(path, copy)

        def map_file(interleave: str = interleave) -> None:
            read_mapped(path, cube.shape, interleave)

        def read_file(scene: Scene = scene) -> None:
            read_all(scene)

        actions: tuple[Callable[[], None], ...] = (copy_file, map_file, read_file)
        for action in actions:
            action()  # into the page cache
        rounds = [[seconds(action) for action in actions] for _ in range(repeats)]
        rates = [cube.nbytes / 1e9 / median(times) for times in zip(*rounds, strict=True)]
        yield [str(columns), interleave, *(f"{rate:.2f}" for rate in rates)]


def matlab_rows(folder: Path, gigabytes: float) -> Iterator[list[str]]:
    """GB/s of each kind of MATLAB file: the first reading fills the cache."""
    os.environ["HSIFCN_CACHE"] = str(folder / "cache")
    cube = scene_of(gigabytes, 512)
    path = folder / "scene.mat"
    writers: dict[str, Callable[[], None]] = {
        "v5": lambda: savemat(path, {"cube": cube}),
        "v5, compressed": lambda: savemat(path, {"cube": cube}, do_compression=True),
        "v7.3, compressed": lambda: write_v73(path, cube),
    }
    for label, write in writers.items():
        write()
        first = seconds(lambda: read_all(open_scene(path)))
        second = seconds(lambda: read_all(open_scene(path)))
        shutil.rmtree(folder / "cache")
        size = cube.nbytes / 1e9
        yield [label, f"{size / first:.2f}", f"{size / second:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=0.5, help="of the scene")
    parser.add_argument("--columns", default="512,1581", help="lengths of its lines")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary one otherwise")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        rasters = [
            row
            for columns in given.columns.split(",")
            for row in raster_rows(Path(name), given.gigabytes, int(columns), given.repeats)
        ]
        matlab = list(matlab_rows(Path(name), given.gigabytes / 4))
    lines = [
        f"Scenes of {given.gigabytes:g} GB, int16, {BANDS} bands, read from the page cache in "
        f"strips of {STRIP} full rows, each given as one array (rows, cols, bands); with "
        f"{where_measured()}, NumPy {np.__version__}; GB/s, medians of {given.repeats} rounds; "
        "printed by `python -m benchmarks.reading --write`. Copying is `shutil.copyfile`; the "
        "memory map is a loop over `numpy.memmap` that gives the same arrays.",
        "",
        *markdown_table(["columns", "interleave", "copy", "memory map", "hsifcn"], rasters),
        "",
        f"MATLAB files of {given.gigabytes / 4:g} GB: first through the cache (parsed in a child "
        "process, turned to bands last), then from it.",
        "",
        *markdown_table(["file", "first", "again"], matlab),
    ]
    print("\n".join(lines))
    if given.write:
        write_figures(PAGE, lines)


if __name__ == "__main__":
    main()
