"""Memory and time of ``hsifcn train`` and ``hsifcn predict`` as scenes grow, under ceilings.

    python -m benchmarks.large_scenes [--side 4] [--steps 100] [--write]

Trains on and maps mosaics of the bundled scene, each piece turned by another symmetry and with
noise of its own, 0.4 GB a million pixels. Every command is a fresh process. ``--write`` puts the
tables into ``docs/large_scenes.md``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import Figures, run_hsifcn
from benchmarks.pages import DOCS, markdown_table, where_measured, write_figures
from benchmarks.rasters import indian_pines, write_header

NOISE = 20.0  # standard deviation, in the scene's counts; its bands' own lie between 40 and 1000
TRAINING_CEILINGS = ("none", "800M")
PREDICTIONS: tuple[
    tuple[str, int, str, str], ...
] = (  # interleave, times as long, ceiling, waiting
    ("bip", 1, "none", "brief"),
    ("bip", 4, "none", "brief"),
    ("bip", 4, "400M", "brief"),
    ("bsq", 4, "none", "brief"),
    ("bip", 4, "none", "long"),
)
PAGE = DOCS / "large_scenes.md"


def write_mosaic(path: Path, side: int, seed: int = 0) -> tuple[int, int, int]:
    """Write ``side`` x ``side`` turned and noisy copies of the scene, and their labels beside."""
    cube, labels = indian_pines()
    rows, cols, bands = cube.shape
    rng = np.random.default_rng(seed)
    wide = np.zeros((side * rows, side * cols), np.uint8)
    with open(path, "wb") as file:
        for down in range(side):
            strip = np.empty((rows, side * cols, bands), np.int16)
            for across in range(side):
                symmetry = int(rng.integers(8))
                span = slice(across * cols, (across + 1) * cols)
                noisy = turned(cube, symmetry) + rng.normal(0, NOISE, cube.shape).astype(np.float32)
                strip[:, span] = noisy.round()
                wide[down * rows : (down + 1) * rows, span] = turned(labels, symmetry)
            file.write(strip.tobytes())
    shape = (side * rows, side * cols, bands)
    write_header(path, shape, "bip")
    np.save(path.with_name(f"{path.stem}_gt.npy"), wide)
    return shape


def turned(array: np.ndarray[Any, Any], symmetry: int) -> np.ndarray[Any, Any]:
    """One of the eight symmetries of the first two axes; the scene is square."""
    array = np.rot90(array, symmetry & 3)
    return array.swapaxes(0, 1) if symmetry & 4 else array


def repeated(cube: Path, shape: tuple[int, int, int], times: int, interleave: str) -> Path:
    """Write a scene below itself so many times, in another interleave."""
    path = cube.with_name(f"repeated-{interleave}-{times}.img")
    if not path.exists():
        voxels = np.fromfile(cube, np.int16).reshape(shape)
        with open(path, "wb") as file:
            if interleave == "bip":
                for _ in range(times):
                    file.write(voxels.tobytes())
            else:
                for band in range(shape[2]):
                    file.write(np.tile(voxels[..., band], (times, 1)).tobytes())
    write_header(path, (times * shape[0], *shape[1:]), interleave)
    return path


def run(arguments: Sequence[str], environment: dict[str, str] | None = None) -> Figures:
    """Run a command in a fresh process; gives its JSON, its peak memory, seconds and plan."""
    options = ("--device", "cpu", "--json", "--overwrite")
    done = run_hsifcn(*arguments, *options, environment=environment)
    plans = [line.removeprefix("plan: ") for line in done.told if line.startswith("plan: ")]
    plan = plans[0] if plans else ""
    return {**done.json, "plan": plan, "peak": done.peak, "whole_seconds": done.seconds}


def ceiling_options(ceiling: str) -> list[str]:
    """The option for a ceiling of memory."""
    return [] if ceiling == "none" else ["--max-memory", ceiling]


def training_rows(cube: Path, steps: int) -> list[list[str]]:
    """Trainings under each ceiling."""
    rows = []
    for ceiling in TRAINING_CEILINGS:
        out = cube.with_name(f"run-{ceiling}")
        options = ["-s", "random:0.01", "--steps", str(steps), *ceiling_options(ceiling)]
        found = run(["train", str(cube), "-o", str(out), *options])
        rows.append(
            [
                ceiling,
                found["plan"],
                f"{found['peak'] / 1e6:,.0f}",
                f"{100 * found['oa']:.2f}",
                f"{found['whole_seconds']:.0f}",
            ]
        )
        print(rows[-1], flush=True)
    return rows


def prediction_rows(cube: Path, shape: tuple[int, int, int]) -> list[list[str]]:
    """Predictions of growing scenes, in two interleaves, with threads that wait either way."""
    model = cube.with_name(f"run-{TRAINING_CEILINGS[0]}") / "model.safetensors"
    rows = []
    for interleave, times, ceiling, waiting in PREDICTIONS:
        scene = repeated(cube, shape, times, interleave)
        target = scene.with_name("map.img")
        environment = {} if waiting == "brief" else {"OMP_WAIT_POLICY": "active"}
        found = run(
            ["predict", str(model), str(scene), "-o", str(target), *ceiling_options(ceiling)],
            environment,
        )
        pixels = times * shape[0] * shape[1]
        rows.append(
            [
                f"{pixels / 1e6:.2f}",
                interleave,
                ceiling,
                waiting,
                f"{found['planned_peak_bytes'] / 1e6:,.0f}",
                f"{found['peak'] / 1e6:,.0f}",
                f"{found['whole_seconds']:.1f}",
                f"{pixels / found['seconds'] / 1e6:.2f}",
            ]
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4, help="pieces along each side of the mosaic")
    parser.add_argument("--steps", type=int, default=100, help="of the trainings")
    parser.add_argument("--folder", type=Path, help="for the scenes; a temporary one otherwise")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        cube = Path(name) / "mosaic.img"
        shape = write_mosaic(cube, given.side)
        trained = training_rows(cube, given.steps)
        mapped = prediction_rows(cube, shape)
    lines = [
        f"Measured on a mosaic of the bundled scene, {'x'.join(map(str, shape))}, int16, with "
        f"{where_measured()}; a fresh process a row; printed by `python -m benchmarks.large_scenes "
        "--write`. Peak memory and seconds are those of the whole process, from start to exit. Do "
        "not expect this accuracy elsewhere: the mosaic holds copies of one scene.",
        "",
        f"### `hsifcn train -s random:0.01 --steps {given.steps}`",
        "",
        *markdown_table(["--max-memory", "plan", "peak MB", "OA %", "seconds"], trained),
        "",
        "### `hsifcn predict`",
        "",
        "Threads that wait for each other spin for a short time (brief) or until they go on "
        "(long, `OMP_WAIT_POLICY=active`).",
        "",
        *markdown_table(
            [
                *("million pixels", "interleave", "--max-memory", "threads wait", "planned MB"),
                *("peak MB", "seconds", "million pixels a second while mapping"),
            ],
            mapped,
        ),
    ]
    print("\n".join(lines))
    if given.write:
        write_figures(PAGE, lines)


if __name__ == "__main__":
    main()
