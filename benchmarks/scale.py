"""Memory and time of ``hsifcn predict`` as scenes grow, and what its plan said beforehand.

    python -m benchmarks.scale [--gigabytes 20] [--megapixels 1,50]

Maps sparse ENVI cubes, which take no room on the disk, under several ceilings of memory, and
mosaics of the bundled scene, 0.4 GB a million pixels, each in a fresh process. Prints the tables
and writes them to ``docs/scale.md``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cubes import mosaic, predict, sparse_cube, write_model
from hsifcn.core.process import machine, versions
from hsifcn.models import DEFAULT_MODEL

ROOT = Path(__file__).parent.parent
COLS = 2000
Case = tuple[str, tuple[int, int, int], str, str, str, tuple[str, ...]]
CASES: tuple[Case, ...] = (  # model, shape, type, interleave, ceiling, more options
    (DEFAULT_MODEL, (145, 145, 200), "int16", "bip", "", ()),
    (DEFAULT_MODEL, (1000, 1000, 50), "int16", "bip", "", ()),
    (DEFAULT_MODEL, (1000, 1000, 250), "int16", "bip", "", ()),
    (DEFAULT_MODEL, (1000, 1000, 250), "float32", "bsq", "", ("--probabilities",)),
    (DEFAULT_MODEL, (1000, 1000, 200), "int16", "bsq", "400M", ()),
    (DEFAULT_MODEL, (1000, 1000, 200), "int16", "bip", "450M", ("--probabilities",)),
    (DEFAULT_MODEL, (1000, 1000, 100), "int16", "bil", "", ("--refine", "crf")),
    ("fcn8s", (1000, 1000, 100), "int16", "bip", "600M", ()),
    ("fcn8s", (1000, 1000, 200), "float32", "bsq", "1G", ("--probabilities",)),
    ("fcn8s", (1000, 1000, 200), "int16", "bip", "", ()),
    ("deeplab", (1000, 1000, 100), "int16", "bip", "", ()),
    ("patch15", (1000, 1000, 100), "int16", "bip", "", ()),
)
HEAD = ("tiles", "planned MB", "peak MB", "planned / peak", "planned s", "s")


def figures(found: dict[str, Any]) -> list[str]:
    """The cells below ``HEAD``."""
    planned, peak = found["planned_peak_bytes"], found["peak_rss_bytes"]
    cells = [str(found["tiles"]), f"{planned / 1e6:,.0f}", f"{peak / 1e6:,.0f}"]
    cells += [f"{planned / peak:.2f}"]
    return [*cells, f"{found['planned_seconds']:.1f}", f"{found['seconds']:.1f}"]


def line(cells: Sequence[str]) -> str:
    text = "| " + " | ".join(cells) + " |"
    print(text, flush=True)
    return text


def table(head: Sequence[str]) -> list[str]:
    return [line(head), line(["---"] * len(head))]


def ceilings(folder: Path, gigabytes: float, given: list[str]) -> list[str]:
    """The cube of many gigabytes under each ceiling."""
    bands = 200
    shape = (max(1, int(gigabytes * 1e9 / (COLS * bands * 2))), COLS, bands)
    model = write_model(folder / "model.safetensors", DEFAULT_MODEL, bands)
    lines = table(("cube", "--max-memory", *HEAD))
    with sparse_cube(folder / "cube.img", shape) as cube:
        for ceiling in given:
            found = predict(model, cube, "--max-memory", ceiling)
            size = f"{gigabytes:g} GB, {shape[0]:,}x{COLS}x{bands}"
            lines.append(line((size, ceiling, *figures(found))))
    return lines


def mosaics(folder: Path, megapixels: list[float]) -> list[str]:
    """Seconds a million pixels of mosaics of the bundled scene."""
    model = write_model(folder / "model.safetensors", DEFAULT_MODEL, 200)
    lines = table(("million pixels", *HEAD, "s a million pixels"))
    for size in megapixels:
        with mosaic(folder / "mosaic.img", int(size * 1e6)) as cube:
            found = predict(model, cube)
            pixels = found["shape"][0] * found["shape"][1] / 1e6
            rate = f"{found['seconds'] / pixels:.2f}"
            lines.append(line((f"{pixels:.2f}", *figures(found), rate)))
    return lines


def shapes(folder: Path) -> list[str]:
    """Plans against what was measured, over models, types, interleaves and ceilings."""
    lines = table(("model", "cube", "ceiling", "options", *HEAD))
    for name, shape, dtype, interleave, ceiling, more in CASES:
        model = write_model(folder / "model.safetensors", name, shape[2])
        with sparse_cube(folder / "cube.img", shape, dtype, interleave) as cube:
            limit = ("--max-memory", ceiling) if ceiling else ()
            found = predict(model, cube, *limit, *more)
        size = "x".join(map(str, shape))
        cells = (name, f"{size} {dtype} {interleave}", ceiling, " ".join(more))
        lines.append(line((*cells, *figures(found))))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of the sparse cube")
    parser.add_argument("--ceilings", default="4G,2G", help="--max-memory for it")
    parser.add_argument("--megapixels", default="1,4", help="of the mosaics, 0.4 GB of disk each")
    parser.add_argument("--folder", type=Path, help="for the cubes; a temporary one otherwise")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "scale.md")
    given = parser.parse_args()
    found, known = machine(), versions()
    command = f"python -m benchmarks.scale --gigabytes {given.gigabytes:g}"
    text = [
        "# Size: memory and time of prediction",
        "",
        f"Untrained networks on {found['cores']} cores of {found['processor']}, torch "
        f"{known['torch']}; a fresh process a row; printed by `{command} --megapixels "
        f"{given.megapixels}`. Peak memory is that of the whole process, PyTorch's own included; "
        "what was planned is what `hsifcn predict` says before the work. Seconds are without the "
        "start of the program.",
        "",
    ]
    print("\n".join(text))
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        text += ["## Under a ceiling", ""]
        text += ceilings(folder, given.gigabytes, given.ceilings.split(","))
        text += ["", "## As the scene grows", ""]
        text += mosaics(folder, [float(size) for size in given.megapixels.split(",")])
        text += ["", "## Whatever the scene", "", *shapes(folder)]
    given.out.write_text("\n".join(text) + "\n", "utf-8")


if __name__ == "__main__":
    main()
