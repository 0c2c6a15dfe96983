"""The default recipe on several scenes and splits, beside what else could be done.

    python -m benchmarks.scenes --scenes DIR [--seeds 5] [--workers 2] [--only hsifcn,svm]

Measures Indian Pines and every scene ``X.tif`` of DIR that has labels ``X_gt.tif``. Rows are scenes
and splits; contenders are the default network, an SVM and a random forest on single spectra and on
means of 7x7 pixels, the random walker alone, the default network on labels alone, and the plain
five-stage FCN (``fcn1s``) on labels alone. Prints the table, the row where the default does worst
against the best of SVM and random forest, and the mean over the rows of each group of scenes.
``--write`` puts all that into ``docs/scenes.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean

from benchmarks.command import Figures
from benchmarks.measuring import (
    CLASSICAL,
    RESULTS,
    accuracy_figures,
    add_cell_options,
    kept,
    map_scene,
    measure_cells,
    oa_and_aa,
    percent,
    safe_name,
)
from benchmarks.pages import DOCS, counted, markdown_table, where_measured, write_page
from benchmarks.rasters import INDIAN_PINES, INDIAN_PINES_LABELS
from hsifcn.core.errors import SplitError
from hsifcn.data.splits import Split, make_split
from hsifcn.io import open_labels, open_scene

RECIPES = (
    "random:0.01",
    "random:0.05",
    "per-class:5",
    "per-class:30",
    "checkerboard:14:gap=2",
    "fields:0.2:gap=2",
)
CONTENDERS = ("hsifcn", *CLASSICAL, "walker", "labels", "fcn1s")
TOLD = {  # what the page says of those that are measured
    "walker": "`walker` is the random walker alone. ",
    "labels": "`labels` is the default network, trained on labels alone. ",
    "fcn1s": "`fcn1s` is a five-stage FCN, trained on labels alone. ",
}
LEAST_GAIN = -0.5  # points against the best of SVM and random forest: what is asked of every row
PAGE = DOCS / "scenes.md"


@dataclass(frozen=True)
class SceneCell:
    """One contender, trained with one seed on one split of one scene."""

    scene: Path
    labels: Path
    recipe: str
    contender: str
    seed: int

    @property
    def file(self) -> Path:
        """Where its figures are kept."""
        folder = RESULTS / "scenes" / f"{self.scene.stem}_{safe_name(self.recipe)}"
        return folder / f"{self.contender}_{self.seed}.json"

    def measure(self) -> Figures:
        """Train, map the scene, and measure the map at the test pixels."""
        split = split_of(self.scene, self.labels, self.recipe, self.seed)
        learnt = set(split.labels[split.train | split.validation].tolist())
        if len(learnt) < 2:
            raise SplitError(f"{self.recipe} leaves training pixels of {len(learnt)} class only")
        labels = map_scene(self.contender, open_scene(self.scene), split, self.seed)
        return accuracy_figures(labels, split)


@cache
def split_of(scene: Path, labels: Path, recipe: str, seed: int) -> Split:
    """The split of the labels of a scene."""
    found = open_labels(labels, like=open_scene(scene))
    return make_split(found.labels, recipe, seed=seed)


def scenes_with_labels(folder: Path | None) -> Iterator[tuple[Path, Path]]:
    """Indian Pines, then the scenes of a folder, each with its labels."""
    yield INDIAN_PINES, INDIAN_PINES_LABELS
    for scene in sorted(folder.glob("*.tif")) if folder else []:
        labels = scene.with_name(f"{scene.stem}_gt.tif")
        if labels.exists():
            yield scene, labels


@dataclass(frozen=True)
class Row:
    """A scene and a split: the figures of every contender, a dict a seed.

    Attributes
    ----------
    skipped : str
        Why there are none; empty where there are some.
    """

    scene: str
    recipe: str
    figures: dict[str, list[Figures]]
    skipped: str = ""

    def means(self, contenders: Sequence[str], key: str) -> list[float]:
        """Mean of OA or AA over the seeds, of those of some contenders that were measured."""
        return [
            mean(run[key] for run in self.figures[name])
            for name in contenders
            if self.figures.get(name)
        ]

    def gain(self, key: str, contender: str = "hsifcn") -> float | None:
        """Points of OA or AA above the best of SVM and random forest; None if not measured."""
        own, others = self.means([contender], key), self.means(CLASSICAL, key)
        return 100 * (own[0] - max(others)) if own and others else None


def collect(cells: Sequence[SceneCell]) -> list[Row]:
    """Rows of what has been measured."""
    rows = []
    for scene, recipe in dict.fromkeys((cell.scene, cell.recipe) for cell in cells):
        figures: dict[str, list[Figures]] = {name: [] for name in CONTENDERS}
        reasons = set()
        for cell in cells:
            if (cell.scene, cell.recipe) == (scene, recipe) and (found := kept(cell)):
                if "skipped" in found:
                    reasons.add(f"{cell.contender}: {found['skipped']}")
                else:
                    figures[cell.contender].append(found)
        reason = "; ".join(sorted(reasons))
        rows.append(Row(scene.stem, recipe, figures, reason))
    return rows


def table(rows: Sequence[Row]) -> list[str]:
    """A line a row: OA / AA of every contender, and what the default gains."""
    measured = [name for name in CONTENDERS if any(row.figures[name] for row in rows)]
    header = ["scene", "split", "train / test px", *measured, "gain"]
    lines = []
    for row in rows:
        runs = [run for found in row.figures.values() for run in found]
        if not runs:
            continue
        sizes = (f"{mean(run[key] for run in runs):,.0f}" for key in ("n_train", "n_test"))
        cells = [row.scene.removesuffix("_corrected"), f"`{row.recipe}`", " / ".join(sizes)]
        cells += [oa_and_aa(row.figures[name]) for name in measured]
        lines.append([*cells, pair(row.gain("oa"), row.gain("aa"))])
    return markdown_table(header, lines)


def pair(oa: float | None, aa: float | None) -> str:
    """Two differences in points."""
    return "" if oa is None or aa is None else f"{oa:+.1f} / {aa:+.1f}"


def verdict(rows: Sequence[Row]) -> list[str]:
    """The worst row of each accuracy, the mean gain of each group of scenes, rows that fail."""
    lines = []
    for key in ("oa", "aa"):
        gains = {row: gain for row in range(len(rows)) if (gain := rows[row].gain(key)) is not None}
        if not gains:
            continue
        worst = min(gains, key=lambda row: gains[row])
        short = sum(gain < LEAST_GAIN for gain in gains.values())
        lines.append(
            f"- Worst row by {key.upper()}: {rows[worst].scene} `{rows[worst].recipe}`, "
            f"{gains[worst]:+.1f} points against the best of SVM and random forest; "
            f"{short} of {len(gains)} rows are below {LEAST_GAIN}."
        )
    for title, own in (("Indian Pines", True), ("the other scenes", False)):
        chosen = [row for row in rows if (row.scene == INDIAN_PINES.stem) == own]
        for name in ("hsifcn", "walker", "labels", "fcn1s"):
            oa, aa = (
                [gain for row in chosen if (gain := row.gain(key, name)) is not None]
                for key in ("oa", "aa")
            )
            if oa:
                lines.append(f"- Mean gain of `{name}` on {title}: {pair(mean(oa), mean(aa))}.")
    skipped = [f"{row.scene} `{row.recipe}` ({row.skipped})" for row in rows if row.skipped]
    return lines + ([f"- Left out: {', '.join(skipped)}."] if skipped else [])


def spread_lines(rows: Sequence[Row]) -> list[str]:
    """Standard deviations over the seeds, of the default."""
    found = [
        [row.scene.removesuffix("_corrected"), f"`{row.recipe}`", *(
            percent([run[key] for run in row.figures["hsifcn"]]) for key in ("oa", "aa")
        )]
        for row in rows
        if row.figures["hsifcn"]
    ]  # fmt: skip
    return markdown_table(["scene", "split", "OA %", "AA %"], found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=Path, help="folder of pairs X.tif, X_gt.tif")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    add_cell_options(parser)
    given = parser.parse_args()
    cells = [
        SceneCell(scene, labels, recipe, contender, seed)
        for scene, labels in scenes_with_labels(given.scenes)
        for recipe in RECIPES
        if given.rows in f"{scene.stem} {recipe}"
        for seed in range(given.seeds)
        for contender in CONTENDERS
    ]
    measure_cells(cells, given)
    rows = collect(cells)
    print("\n".join([*table(rows), "", *verdict(rows), "", *spread_lines(rows)]))
    if given.write:
        write_page(PAGE, page(rows, given.seeds))


def page(rows: Sequence[Row], seeds: int) -> list[str]:
    """The documentation page."""
    contenders = [text for name, text in TOLD.items() if any(row.figures[name] for row in rows)]
    return [
        "# Several scenes",
        "",
        f"OA / AA in per cent at the test pixels, means of {counted(seeds, 'seed')}. A seed draws "
        f"the split and the initial weights; {where_measured()}. Printed by `python -m "
        f"benchmarks.scenes --scenes DIR --seeds {seeds} --write`. SVM (`svm`) and random forest "
        "(`rf`) learn from single spectra, or from their means over 7x7 pixels. "
        f"{''.join(contenders)}The gain is that of `hsifcn` over the best of SVM and random "
        "forest, OA and AA each.",
        "",
        *table(rows),
        "",
        *verdict(rows),
        "",
        "The default, with the standard deviation over the seeds:",
        "",
        *spread_lines(rows),
    ]


if __name__ == "__main__":
    main()
