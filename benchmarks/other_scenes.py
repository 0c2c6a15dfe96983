"""The recipe on scenes that it was not made for: other sizes, bands, classes, units and labels.

    python -m benchmarks.other_scenes [--seeds 3] [--workers 2]

Scenes are made of fields (``benchmarks/made_fields.py``) and mapped by the default network, by the
same with half and twice its learning rate, and by classifiers of spectra. Writes
``docs/other_scenes.md``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from benchmarks.accuracy import map_by_classifier, map_by_network
from benchmarks.made_fields import UNLABELLED, Labels, made_scene
from hsifcn.core.process import machine, versions
from hsifcn.data.splits import make_split
from hsifcn.training.settings import default_settings

OUT = Path(__file__).parent.parent / "docs" / "other_scenes.md"
RATES = {"half the learning rate": 0.5, "twice": 2.0}  # times that of the recipe
CLASSIFIERS = ("svm", "svm7x7", "rf7x7")


@dataclass(frozen=True)
class Kind:
    """Scenes of one kind."""

    side: int
    bands: int
    classes: int
    width: int  # of fields, in pixels
    counts: bool  # integers in the thousands; reflectances if not
    recipe: str

    def write(self, path: Path, seed: int) -> Labels:
        """Write one such scene and return its labels."""
        cube, labels = made_scene(
            self.width, seed, side=self.side, bands=self.bands, classes=self.classes
        )
        reflectance = 0.3 + 0.03 * cube
        counts = (1e4 * reflectance).round().astype(np.int16)
        np.save(path, counts if self.counts else reflectance.astype(np.float32))
        return labels


KINDS = (
    Kind(50, 48, 3, 7, False, "per-class:5"),
    Kind(100, 48, 3, 7, False, "per-class:5"),
    Kind(100, 100, 8, 10, True, "random:0.01"),
    Kind(100, 60, 12, 10, False, "random:0.1"),
    Kind(140, 250, 20, 14, True, "per-class:10"),
    Kind(150, 100, 5, 25, True, "fields:0.3"),
)


def measure(job: tuple[Kind, int, int]) -> list[float]:
    """On one scene, in a process apart: leakage; OA of the recipe, other rates and classifiers."""
    import torch

    kind, seed, threads = job
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    recipe = default_settings(seed=seed)
    rates = [recipe.learning_rate * times for times in (1.0, *RATES.values())]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.npy"
        split = make_split(kind.write(path, seed), kind.recipe, seed=seed)
        maps = [
            map_by_network(path, split, replace(recipe, learning_rate=rate))[0] for rate in rates
        ]
        maps += [map_by_classifier(path, split, name, seed) for name in CLASSIFIERS]
    found = [float((labels == split.labels)[split.test].mean()) for labels in maps]
    return [split.leakage()["test_touching"], *found]


def row(kind: Kind, found: list[list[float]]) -> str:
    """One line of the table, from what was measured with every seed."""
    touching, recipe, *others = 100 * np.transpose(found)
    cells = [
        f"{kind.side} x {kind.side} x {kind.bands}",
        "counts" if kind.counts else "reflectance",
        str(kind.classes),
        f"{kind.width} px",
        f"`{kind.recipe}`",
        f"{mean(touching):.0f} %",
        f"{mean(recipe):.1f}",
    ]
    for rate in others[: len(RATES)]:
        cells.append(f"{mean(rate - recipe):+.2f} ± {stdev(rate - recipe):.2f}")
    cells += [f"{mean(classifier):.1f}" for classifier in others[len(RATES) :]]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="scenes of each kind, at least 2")
    parser.add_argument("--workers", type=int, default=2, help="processes beside each other")
    given = parser.parse_args()
    titles = (
        "scene",
        "unit",
        "classes",
        "width of fields",
        "split",
        "test px touching a training px",
        "hsifcn",
    )
    lines = [
        "# Scenes of other kinds",
        "",
        "The recipe, with nothing set for any of them, on scenes made of fields, "
        f"{100 * UNLABELLED:.0f} % of them without a label: OA in per cent, {given.seeds} scenes a "
        f"row, on {machine()['cores']} cores of {machine()['processor']}, torch "
        f"{versions()['torch']}; printed by `python -m benchmarks.other_scenes`. Behind it how far "
        "it is above or below that with other learning rates (mean and standard deviation over "
        "scenes), and what classifiers of single spectra and of means of 7x7 pixels reach.",
        "",
        f"| {' | '.join((*titles, *RATES, *CLASSIFIERS))} |",
        "|---" * (len(titles) + len(RATES) + len(CLASSIFIERS)) + "|",
    ]
    threads = max(1, (os.cpu_count() or 1) // given.workers)
    jobs = [(kind, seed, threads) for kind in KINDS for seed in range(given.seeds)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.workers, context, max_tasks_per_child=1) as pool:
        found = iter(pool.map(measure, jobs))
        for kind in KINDS:
            lines.append(row(kind, [next(found) for _ in range(given.seeds)]))
            print(lines[-1], flush=True)
    OUT.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
