"""The main job on Indian Pines: accuracy, time and memory of ``hsifcn train`` and ``predict``.

    python benchmarks/main_job.py [--seeds 3] [--models hsifcn,fcn8s] [--device cpu]

Every training is a fresh process. Prints, and writes to ``docs/main_job.md``, the medians over the
seeds on the ``random:0.1`` split, and how long ``hsifcn --help`` takes.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from hsifcn.core.process import machine, versions

ROOT = Path(__file__).parent.parent
SCENE = ROOT / "data" / "indian_pines_corrected.mat"
LABELS = ROOT / "data" / "indian_pines_gt.mat"
SHORTER = (50, 75, 100, 200)  # steps


def hsifcn(*arguments: str) -> str:
    """Run the command in a fresh process and give its stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "hsifcn", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return done.stdout


def train(model: str, recipe: str, seed: int, folder: Path, *more: str) -> dict[str, Any]:
    """Train one model; returns its metrics.json."""
    out = hsifcn(
        "train", str(SCENE), "-l", str(LABELS), "-m", model, "-s", recipe, "--seed", str(seed),
        "-o", str(folder / f"{model}-{seed}"), "--overwrite", "--json", *more,
    )  # fmt: skip
    return dict(json.loads(out))


def row(model: str, recipe: str, runs: list[dict[str, Any]]) -> str:
    """One line of the table: medians, and the values of each seed for OA and AA."""

    def values(key: str) -> str:
        found = [100 * run[key] for run in runs]
        return f"{median(found):.2f} ({', '.join(f'{value:.2f}' for value in found)})"

    def middle(key: str, scale: float = 1.0, digits: int = 1) -> str:
        return f"{median(run[key] / scale for run in runs):.{digits}f}"

    cells = (
        model, recipe, values("oa"), values("aa"), f"{runs[0]['params'] / 1e6:.2f}",
        middle("flops_per_pixel", 1e3, 0), middle("train_seconds"), middle("predict_seconds", 1, 3),
        middle("peak_rss_bytes", 1e6, 0),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def shorter(model: str, recipe: str, seeds: int, folder: Path, *more: str) -> list[str]:
    """What training of fewer steps gives: a line each."""
    lines = ["| steps | OA % | AA % | train s |", "|---|---|---|---|"]
    for steps in SHORTER:
        own = ("--steps", str(steps), *more)
        runs = [train(model, recipe, seed, folder, *own) for seed in range(seeds)]
        cells = [f"{100 * median(run[key] for run in runs):.2f}" for key in ("oa", "aa")]
        seconds = median(run["train_seconds"] for run in runs)
        lines.append(f"| {steps} | {' | '.join(cells)} | {seconds:.1f} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", default="hsifcn,fcn8s")
    parser.add_argument("--splits", default="random:0.1,checkerboard:14:gap=3")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "main_job.md")
    given = parser.parse_args()
    start_ups = []
    for _ in range(7):
        started = time.perf_counter()
        hsifcn("--help")
        start_ups.append(time.perf_counter() - started)
    found, known, where = machine(), versions(), ("--device", given.device)
    gpu = f" with one {torch.cuda.get_device_name()}" if given.device == "cuda" else ""
    command = shlex.join(["python", "benchmarks/main_job.py", *sys.argv[1:]])
    lines = [
        f"Medians of {given.seeds} seeds (every seed in brackets; it draws the split and the "
        f"initial weights) on {found['cores']} cores of {found['processor']}{gpu}, torch "
        f"{known['torch']}; printed by `{command}`. Peak memory is that of the "
        "whole process, PyTorch's own included.",
        "",
        "| model | split | OA % | AA % | M params | kFLOP a px | train s | predict s | peak MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for recipe in given.splits.split(","):
            for model in given.models.split(","):
                runs = [
                    train(model, recipe, seed, Path(folder), *where) for seed in range(given.seeds)
                ]
                lines.append(row(model, recipe, runs))
                print(lines[-1], flush=True)
        model, recipe = given.models.split(",")[0], given.splits.split(",")[0]
        lines += ["", f"`{model}` on `{recipe}`, trained for fewer steps (`--steps`):", ""]
        lines += shorter(model, recipe, given.seeds, Path(folder), *where)
    lines += ["", f"`hsifcn --help` answers in {median(start_ups):.2f} s (median of 7)."]
    print("\n".join(lines[-2:]))
    given.out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
