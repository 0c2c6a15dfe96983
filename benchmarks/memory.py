"""What ``hsifcn train --max-memory`` costs: a large scene under several ceilings.

    python -m benchmarks.memory [--side 8] [--ceilings none,1500M,800M]

Trains on a mosaic of the bundled scene, each piece turned by another symmetry and with noise of its
own, each time in a fresh process. Prints the table and writes it to ``docs/memory.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cubes import write_header
from hsifcn.core.process import machine, versions
from hsifcn.core.scene import Window
from hsifcn.data.indian_pines import bundled_scene
from hsifcn.io import open_labels, open_scene

ROOT = Path(__file__).parent.parent
NOISE = 20.0  # standard deviation, in the scene's counts; its bands' own lie between 40 and 1000
HEAD = (
    *("--max-memory", "mode", "planned MB", "peak MB", "planned / peak", "OA %", "AA %"),
    *("train s", "all s", "planned s"),
)


def write_mosaic(path: Path, side: int, seed: int = 0) -> tuple[int, int, int]:
    """Write ``side`` x ``side`` turned and noisy copies of the scene, and their labels beside."""
    files = bundled_scene()
    scene = open_scene(files["scene"])
    rows, cols, bands = scene.shape
    cube = scene.read(Window(0, 0, rows, cols)).astype(np.float32)
    labels = open_labels(files["labels"], like=scene).labels
    rng = np.random.default_rng(seed)
    wide = np.zeros((side * rows, side * cols), np.uint8)
    with open(path, "wb") as file:
        for down in range(side):
            strip = np.empty((rows, side * cols, bands), np.int16)
            for across in range(side):
                symmetry = int(rng.integers(8))
                place = (
                    slice(down * rows, (down + 1) * rows),
                    slice(across * cols, (across + 1) * cols),
                )
                noisy = turned(cube, symmetry) + rng.normal(0, NOISE, cube.shape).astype(np.float32)
                strip[:, place[1]] = noisy.round()
                wide[place] = turned(labels, symmetry)
            file.write(strip.tobytes())
    shape = (side * rows, side * cols, bands)
    write_header(path, shape, "int16", "bip")
    np.save(path.with_name(f"{path.stem}_gt.npy"), wide)
    return shape


def turned(array: np.ndarray[Any, Any], symmetry: int) -> np.ndarray[Any, Any]:
    """One of the eight symmetries of the first two axes; the scene is square."""
    array = np.rot90(array, symmetry & 3)
    return array.swapaxes(0, 1) if symmetry & 4 else array


def train(cube: Path, ceiling: str, options: list[str]) -> dict[str, Any]:
    """Train in a fresh process; gives its metrics, what it planned, and its own peak."""
    out = cube.with_name(f"run-{ceiling}")
    limit = [] if ceiling == "none" else ["--max-memory", ceiling]
    command = ["train", str(cube), "-o", str(out), "--device", "cpu", "--json", "--overwrite"]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command, *limit, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    plan = next(line for line in done.stderr.splitlines() if line.startswith("plan: "))
    return {
        **json.loads(done.stdout),
        "plan": plan,
        "peak": int(done.stderr.split()[-1]),
        "all_seconds": time.perf_counter() - started,
    }


# The peak of the whole process, report and all, behind what it writes on stderr.
MEASURED = """
import sys
from hsifcn.cli import main
from hsifcn.measure import peak_rss_bytes
code = 0
try:
    main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(peak_rss_bytes(), file=sys.stderr)
sys.exit(code)
"""


def figures(ceiling: str, found: dict[str, Any]) -> tuple[str, ...]:
    """The cells below ``HEAD``."""
    said = re.fullmatch(r"plan: (.*); about (.*) MB of memory, (.*)", found["plan"])
    assert said is not None
    planned = 1e6 * float(said[2].replace(",", ""))
    return (
        ceiling,
        said[1],
        f"{planned / 1e6:,.0f}",
        f"{found['peak'] / 1e6:,.0f}",
        f"{planned / found['peak']:.2f}",
        f"{100 * found['oa']:.2f}",
        f"{100 * found['aa']:.2f}",
        f"{found['train_seconds']:.0f}",
        f"{found['all_seconds']:.0f}",
        said[3],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8, help="pieces along each side of the mosaic")
    parser.add_argument("--ceilings", default="none,1500M,800M", help="--max-memory of each run")
    parser.add_argument("--split", default="random:0.01")
    parser.add_argument("--options", default="", help="more for hsifcn train: '--steps 100'")
    parser.add_argument("--folder", type=Path, help="for the mosaic; a temporary one otherwise")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "memory.md")
    given = parser.parse_args()
    found, known = machine(), versions()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        cube = Path(name) / "mosaic.img"
        size = "x".join(map(str, write_mosaic(cube, given.side)))
        text = [
            "# Training within a ceiling of memory",
            "",
            f"`hsifcn train mosaic.img -s {given.split}` on a mosaic of the bundled scene, {size}, "
            f"int16, on {found['cores']} cores of {found['processor']}, torch {known['torch']}; "
            "a fresh process a row; printed by `python -m benchmarks.memory`. Peak memory is that "
            "of the whole process, from its start to the end of its report; what was planned is "
            "what it said before the first step. Read no accuracy for other scenes from copies of "
            "one: a field without a label in one copy has one in another, so that labels alone do "
            "better here than with what walks carry within a window.",
            "",
            "| " + " | ".join(HEAD) + " |",
            "|" + " --- |" * len(HEAD),
        ]
        print("\n".join(text), flush=True)
        for ceiling in given.ceilings.split(","):
            options = ["-s", given.split, *given.options.split()]
            row = figures(ceiling, train(cube, ceiling, options))
            text.append("| " + " | ".join(row) + " |")
            print(text[-1], flush=True)
    given.out.write_text("\n".join(text) + "\n", "utf-8")


if __name__ == "__main__":
    main()
