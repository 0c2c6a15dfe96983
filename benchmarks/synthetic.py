"""Mapping synthetic scenes of the size of real ones: seconds, memory and FLOPs of the contenders.

    python benchmarks/synthetic.py [--limit 90] [--patch 15]

A scene of the size and bands of Pavia University (610x340x103) and one of 2,000x2,000x200, int16,
are made in a temporary folder. Every contender maps them in a fresh process, by the very task of
``hsifcn compare-patch-vs-fcn``, with freshly initialised weights: what is measured here does not
depend on them. What does not fit into memory is left out; the seconds of what takes longer than the
limit are extrapolated by its FLOPs, and marked so. Prints the table and writes it to
``docs/synthetic.md``.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hsifcn.comparison.experiment import Contender, contenders
from hsifcn.comparison.launcher import run_task
from hsifcn.comparison.task import Task
from hsifcn.core.errors import FailedError, MemoryCeilingError
from hsifcn.core.process import machine, versions
from hsifcn.core.scene import default_class_names, default_colours
from hsifcn.data.standardise import Scaling
from hsifcn.inference.bundle import Bundle
from hsifcn.models import DEFAULT_MODEL, build, default_spec
from hsifcn.models.flops import predict_flops

ROOT = Path(__file__).parent.parent
SCENES = {"Pavia University's size": (610, 340, 103), "2,000 x 2,000 x 200": (2000, 2000, 200)}
NAMES = ("materialised", "patch", "cast", "fcn8s", DEFAULT_MODEL)
CLASSES = 16
MATERIALS = 5  # spectra that every pixel is a mixture of
CELL = 20  # pixels over which the mixture changes
STRIP = 100  # rows written at once

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Figures:
    """One line of the table; what was not measured says why in ``note``."""

    seconds: float | None
    memory_bytes: int | None
    note: str = ""


def write_scene(path: Path, shape: Shape) -> Scaling:
    """Write smooth mixtures of a few smooth spectra as int16; returns their mean and deviation."""
    rows, cols, bands = shape
    rng = np.random.default_rng(0)
    wave = np.linspace(0, 1, bands)
    phases = rng.uniform(0, 6, MATERIALS)
    spectra = 3000 + 1500 * np.sin(np.outer(rng.uniform(2, 9, MATERIALS), wave) + phases[:, None])
    knots = rng.random((rows // CELL + 2, cols // CELL + 2, MATERIALS))
    col = np.arange(cols) / CELL
    left, share = col.astype(int), (col % 1)[:, None]
    along_cols = knots[:, left] * (1 - share) + knots[:, left + 1] * share
    cube = np.lib.format.open_memmap(path, "w+", np.int16, shape)
    for start in range(0, rows, STRIP):
        row = np.arange(start, min(rows, start + STRIP)) / CELL
        above, share = row.astype(int), (row % 1)[:, None, None]
        mixture = along_cols[above] * (1 - share) + along_cols[above + 1] * share
        mixture /= mixture.sum(2, keepdims=True)
        cube[start : start + len(row)] = mixture.astype(np.float32) @ spectra.astype(np.float32)
    sample = np.asarray(cube[:: max(1, rows // 20)], np.float64).reshape(-1, bands)
    cube.flush()
    return Scaling(sample.mean(0), np.maximum(sample.std(0), 1.0))


def untrained(contender: Contender, scaling: Scaling) -> Bundle:
    """A freshly initialised model of a contender."""
    bands = len(scaling.mean)
    spec = default_spec(contender.model, bands, CLASSES)
    torch.manual_seed(0)
    return Bundle(
        spec=spec,
        weights=build(spec).state_dict(),
        scaling=scaling,
        good_bands=np.ones(bands, bool),
        wavelengths=None,
        class_names=default_class_names(CLASSES),
        colours=default_colours(CLASSES),
        settings={},
        split=[],
        versions=versions(),
    )


def measure(contender: Contender, scene: Path, scaling: Scaling, shape: Shape) -> Figures:
    """Map a scene in a fresh process."""
    bundle = scene.with_name("model.safetensors")
    untrained(contender, scaling).save(bundle, overwrite=True)
    task = Task(
        kind="predict",
        scene=str(scene),
        storage=contender.storage,
        device="cpu",
        bundle=str(bundle),
        map=str(scene.with_name("map.npy")),
    )
    try:
        found = run_task(task, scene.with_name(f"{contender.name}-{shape[0]}"))
    except (FailedError, MemoryCeilingError) as error:
        return Figures(None, None, f"not run: {error}")
    return Figures(found["predict_seconds"], found["peak_predict_bytes"] - found["baseline_bytes"])


def line(name: str, contender: Contender, shape: Shape, flops: int, found: Figures) -> str:
    """One line of the table."""
    about = "about " if found.note else ""
    cells = [name, contender.label]
    if found.seconds is None:
        cells += ["-", "-"]
    else:
        rate = shape[0] * shape[1] / found.seconds
        cells += [f"{about}{found.seconds:,.1f}", f"{about}{rate:,.0f}"]
    cells += ["-" if found.memory_bytes is None else f"{found.memory_bytes / 1e6:,.0f}"]
    return "| " + " | ".join([*cells, f"{flops / 1e9:,.0f}", found.note or "measured"]) + " |"


def head(patch: int) -> list[str]:
    """What the table is and how it was made."""
    found, known = machine(), versions()
    return [
        f"Mapping synthetic scenes with untrained (freshly initialised) weights on "
        f"{found['cores']} cores of {found['processor']}, {int(found['memory_bytes']) / 1e9:.0f} GB"
        f" of memory, torch {known['torch']}; patches of {patch}x{patch}, {CLASSES} classes, int16 "
        "scenes on disk; printed by `python benchmarks/synthetic.py`. A fresh process each; the "
        "seconds are those of reading and scoring every pixel, the memory is the peak above what "
        "the process held before. Networks over the scene read it in tiles of up to 262,144 "
        "pixels where memory allows; `--max-memory` of `hsifcn predict` makes them smaller. FLOPs "
        "are counted. SVM and random forest are left out: their time depends on what they were "
        "fitted to.",
        "",
        "| scene | contender | seconds | pixels/s | memory, MB | GFLOP | how |",
        "|---|---|---|---|---|---|---|",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=90.0, help="seconds a contender may take")
    parser.add_argument("--patch", type=int, default=15)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "synthetic.md")
    given = parser.parse_args()
    known = contenders(given.patch)
    seconds_per_flop: dict[str, float] = {}
    lines = head(given.patch)
    print("\n".join(lines), flush=True)
    for name, shape in SCENES.items():
        with tempfile.TemporaryDirectory() as folder:
            scene = Path(folder) / "scene.npy"
            scaling = write_scene(scene, shape)
            for contender in (known[key] for key in NAMES):
                spec = default_spec(contender.model, shape[2], CLASSES)
                whole = contender.storage == "scene"
                flops = predict_flops(spec, *shape[:2], whole_scene=whole)
                rate = seconds_per_flop.get(contender.name)
                if rate is not None and rate * flops > given.limit:
                    note = f"by its FLOPs from the smaller scene, over {given.limit:.0f} s"
                    found = Figures(rate * flops, None, note)
                else:
                    found = measure(contender, scene, scaling, shape)
                    if found.seconds is not None:
                        seconds_per_flop[contender.name] = found.seconds / flops
                lines.append(line(name, contender, shape, flops, found))
                print(lines[-1], flush=True)
    given.out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
