"""Accuracy of the default network on Indian Pines, on the splits of papers and on harder ones.

    python -m benchmarks.accuracy --splits DIR [--seeds 10] [--workers 2] [--write]

DIR holds the fixed splits as label rasters, ``NAME_train.npy`` and ``NAME_test.npy``, where NAME is
that of a ``fixed:NAME`` row below. ``--write`` puts the table into ``docs/accuracy.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean

import numpy as np

from benchmarks.command import Figures
from benchmarks.measuring import (
    CLASSICAL,
    RESULTS,
    accuracy_figures,
    add_cell_options,
    kept,
    map_by_network,
    map_scene,
    measure_cells,
    network_settings,
    percent,
    safe_name,
)
from benchmarks.pages import DOCS, markdown_table, where_measured, write_figures
from benchmarks.rasters import INDIAN_PINES, INDIAN_PINES_LABELS
from hsifcn.data.splits import Split, make_split
from hsifcn.evaluation.calibration import expected_calibration_error
from hsifcn.io import open_labels, open_scene

PAGE = DOCS / "accuracy.md"
FIELD_DRAWS = 5
CONTENDERS = ("hsifcn", "walker", *CLASSICAL)
ROWS = {  # recipe, and what papers call it
    "random:0.1": "random, 10 % a class",
    "random:0.05": "random, 5 % a class",
    "random:0.01": "random, 1 % a class, at least 3",
    "fixed:spectralformer": "fixed, SpectralFormer's",
    "fixed:dase_fixed": "fixed, DASE's",
    "fixed:checkerboard14_gap3": "fixed checkerboard, gap 3",
    "fields:0.2:gap=2": "whole fields held out",
}


@dataclass(frozen=True)
class AccuracyCell:
    """One contender, trained with one seed on one split."""

    recipe: str
    contender: str
    seed: int
    splits: Path

    @property
    def file(self) -> Path:
        """Where its figures are kept."""
        return RESULTS / "accuracy" / f"{safe_name(self.recipe)}_{self.contender}_{self.seed}.json"

    def measure(self) -> Figures:
        """Train, map the scene, and measure the map at the test pixels."""
        scene = open_scene(INDIAN_PINES)
        draw = self.seed % FIELD_DRAWS if self.recipe.startswith("fields") else self.seed
        split = split_of(self.recipe, draw, self.splits)
        settings = network_settings(self.contender, self.seed)
        if settings is None:
            return accuracy_figures(map_scene(self.contender, scene, split, self.seed), split)
        labels, probability = map_by_network(scene, split, settings)
        right = (labels == split.labels)[split.test]
        error = expected_calibration_error(probability[split.test], right)
        return {"expected_calibration_error": error, **accuracy_figures(labels, split)}


@cache
def split_of(recipe: str, seed: int, folder: Path) -> Split:
    """The split of one draw."""
    labels = open_labels(INDIAN_PINES_LABELS).labels
    kind, _, name = recipe.partition(":")
    if kind != "fixed":
        return make_split(labels, recipe, seed=seed)
    train, test = (np.load(folder / f"{name}_{part}.npy") for part in ("train", "test"))
    recipe = f"fixed:{name}_train.npy,{name}_test.npy"
    return make_split(labels, recipe, seed=seed, fixed=(train, test))


def table(cells: Sequence[AccuracyCell]) -> list[str]:
    """The Markdown table of what has been measured."""
    header = [
        *("split", "training / test px", "test px touching a training px", "contender", "seeds"),
        *("OA %", "AA %", "calibration error %"),
    ]
    return markdown_table(header, table_rows(cells))


def table_rows(cells: Sequence[AccuracyCell]) -> Iterator[list[str]]:
    """The cells of each line."""
    for recipe, title in ROWS.items():
        for contender in CONTENDERS:
            own = [c for c in cells if (c.recipe, c.contender) == (recipe, contender)]
            runs = [figures for figures in map(kept, own) if figures]
            if not runs:
                continue
            touching = mean(run["leakage"]["test_touching"] for run in runs)
            errors = [run["expected_calibration_error"] for run in runs if contender == "hsifcn"]
            yield [
                title,
                f"{extent(runs, 'n_train')} / {extent(runs, 'n_test')}",
                f"{100 * touching:.0f} %",
                contender,
                str(len(runs)),
                percent([run["oa"] for run in runs], digits=2),
                percent([run["aa"] for run in runs], digits=2),
                percent(errors, digits=2) if errors else "",
            ]


def extent(runs: Sequence[Figures], key: str) -> str:
    """A count of pixels, least to most where draws differ."""
    counts = sorted({run[key] for run in runs})
    return f"{counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=Path, help="folder of the fixed splits")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    add_cell_options(parser, seeds=10)
    given = parser.parse_args()
    cells = [
        AccuracyCell(recipe, contender, seed, given.splits or Path())
        for recipe in ROWS
        if given.rows in recipe and (given.splits or not recipe.startswith("fixed"))
        for seed in range(given.seeds)
        for contender in CONTENDERS
    ]
    measure_cells(cells, given)
    lines = [
        f"Mean ± standard deviation over seeds, on {where_measured()}; printed by `python -m "
        f"benchmarks.accuracy --splits DIR --seeds {given.seeds} --write`. Seeds draw the split "
        f"(of whole fields: {FIELD_DRAWS} draws, which share labels) and the initial weights; the "
        "fixed splits are always the same pixels. Training pixels include the validation pixels. "
        "The calibration error is how far confidence and accuracy lie apart at the test pixels "
        "(expected calibration error).",
        "",
        *table(cells),
    ]
    print("\n".join(lines))
    if given.write:
        write_figures(PAGE, lines)


if __name__ == "__main__":
    main()
