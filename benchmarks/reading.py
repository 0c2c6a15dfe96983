"""Reading scenes window by window, from the page cache, against copying the file.

    python benchmarks/reading.py [--gigabytes 1] [--repeats 5] [--folder /tmp]

An int16 scene of 200 bands is written as ENVI raster in each interleave, and read by strips of 64
full rows and by windows of 512x512 pixels; the rate of ``shutil.copyfile`` is measured by turns
with them. MATLAB files of the same scene, a quarter of it, are read twice: first through the cache,
then from it. Prints the table and writes it to ``docs/reading.md``.
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

from hsifcn.core.process import machine, versions
from hsifcn.core.scene import Scene, Window
from hsifcn.io import open_scene
from hsifcn.io.raw import ORDERS

ROOT = Path(__file__).parent.parent
BANDS, STRIP, TILE = 200, 64, 512
GOAL = 70  # per cent of the rate of copying

Cube = npt.NDArray[np.int16]


def scene_of(gigabytes: float) -> Cube:
    """Counts as a sensor gives them: smooth along rows, so that they can be compressed."""
    side = int((gigabytes * 1e9 / 2 / BANDS) ** 0.5)
    rng = np.random.default_rng(0)
    cube = rng.integers(0, 200, (side, side, BANDS), dtype=np.int16)
    cube += (3000 + 1000 * np.sin(np.arange(BANDS) / 20)).astype(np.int16)
    return cube


def write_envi(path: Path, cube: Cube, interleave: str) -> Path:
    """Write an ENVI raster, header first."""
    rows, cols, bands = cube.shape
    path.with_suffix(".hdr").write_text(
        f"ENVI\nlines = {rows}\nsamples = {cols}\nbands = {bands}\ndata type = 2\n"
        f"byte order = 0\ninterleave = {interleave}\n"
    )
    cube.transpose(ORDERS[interleave]).astype("<i2").tofile(path)
    return path


def write_v73(path: Path, cube: Cube) -> None:
    """Write a cube as MATLAB does: axes reversed, in compressed chunks."""
    with h5py.File(path, "w", userblock_size=512) as file:
        chunks = (16, 64, 64)
        data = file.create_dataset("cube", data=cube.T, chunks=chunks, compression=3)
        data.attrs["MATLAB_class"] = np.bytes_("int16")
    with path.open("r+b") as start:
        start.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def strips(rows: int, cols: int) -> Iterator[Window]:
    """Windows of full width."""
    for row in range(0, rows, STRIP):
        yield Window(row, 0, min(STRIP, rows - row), cols)


def tiles(rows: int, cols: int) -> Iterator[Window]:
    """Square windows."""
    for row in range(0, rows, TILE):
        for col in range(0, cols, TILE):
            yield Window(row, col, min(TILE, rows - row), min(TILE, cols - col))


def read_all(scene: Scene, windows: Callable[[int, int], Iterator[Window]]) -> None:
    """Read every window of a scene once."""
    for window in windows(*scene.shape[:2]):
        scene.read(window)


def seconds(action: Callable[[], None]) -> float:
    """Wall seconds of an action."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def measure_raster(path: Path, repeats: int) -> tuple[float, float, float]:
    """Median GB/s of copying, of strips and of tiles, measured by turns."""
    scene, copy = open_scene(path), path.with_name("copy")

    def copy_file() -> None:
        shutil.copyfile(path, copy)
        copy.unlink()

    actions = (copy_file, lambda: read_all(scene, strips), lambda: read_all(scene, tiles))
    for action in actions:
        action()  # into the page cache
    rounds = [[seconds(action) for action in actions] for _ in range(repeats)]
    size = path.stat().st_size / 1e9
    copied, by_strips, by_tiles = (size / median(times) for times in zip(*rounds, strict=True))
    return copied, by_strips, by_tiles


def raster_lines(folder: Path, cube: Cube, repeats: int) -> Iterator[str]:
    """A line of the table for each interleave, and one for an array in Fortran order."""
    for name in ("bip", "bil", "bsq", "Fortran"):
        if name == "Fortran":
            path = folder / "x.npy"
            np.save(path, np.asfortranarray(cube))
        else:
            path = write_envi(folder / "x.img", cube, name)
        copied, by_strips, by_tiles = measure_raster(path, repeats)
        path.unlink()
        label = "`.npy`, Fortran order" if name == "Fortran" else f"ENVI {name.upper()}"
        yield (
            f"| {label} | {copied:.2f} | {by_strips:.2f} | {100 * by_strips / copied:.0f} | "
            f"{by_tiles:.2f} | {100 * by_tiles / copied:.0f} |"
        )


def matlab_lines(folder: Path, cube: Cube) -> Iterator[str]:
    """A line for each kind of MATLAB file: the first reading fills the cache."""
    os.environ["HSIFCN_CACHE"] = str(folder / "cache")
    path = folder / "x.mat"
    for label, write in (
        ("v5, uncompressed", lambda: savemat(path, {"cube": cube})),
        ("v5, compressed", lambda: savemat(path, {"cube": cube}, do_compression=True)),
        ("v7.3, compressed", lambda: write_v73(path, cube)),
    ):
        write()
        first = seconds(lambda: read_all(open_scene(path), tiles))
        second = seconds(lambda: read_all(open_scene(path), tiles))
        shutil.rmtree(folder / "cache")
        size = cube.nbytes / 1e9
        yield f"| {label} | {size / first:.2f} | {first:.2f} | {size / second:.2f} | {second:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the scene")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write, some GB; /tmp by default")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "reading.md")
    given = parser.parse_args()
    cube = scene_of(given.gigabytes)
    rows, cols, bands = cube.shape
    found, known = machine(), versions()
    lines = [
        f"A scene of {rows} x {cols} pixels and {bands} bands, int16, {cube.nbytes / 1e9:.2f} GB, "
        f"read from the page cache on {found['processor']}, NumPy {known['numpy']}; medians of "
        f"{given.repeats} rounds, printed by `python benchmarks/reading.py --gigabytes "
        f"{given.gigabytes:g}`. Strips are {STRIP} full rows, "
        f"windows {TILE} x {TILE} pixels, each given as (rows, cols, bands) in one "
        f"piece. Copying is `shutil.copyfile` to the same disk. The goal is {GOAL} % of its rate.",
        "",
        "| file | copy, GB/s | strips, GB/s | % of copy | windows, GB/s | % of copy |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        for line in raster_lines(Path(name), cube, given.repeats):
            lines.append(line)
            print(line, flush=True)
        quarter = np.ascontiguousarray(cube[: rows // 4])
        lines += [
            "",
            f"MATLAB files of {quarter.nbytes / 1e9:.2f} GB, read by windows: first through "
            "the cache (parsed in a child process, turned to bands last), then from it.",
            "",
            "| file | first, GB/s | s | again, GB/s | s |",
            "|---|---|---|---|---|",
        ]
        print("\n".join(lines[-5:]), flush=True)
        for line in matlab_lines(Path(name), quarter):
            lines.append(line)
            print(line, flush=True)
    given.out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
