"""How many labels a given accuracy takes: points of ``suggest`` beside random and uncertain ones.

    python -m benchmarks.labelling [--scenes DIR] [--seeds 3] [--workers 2] [--write]

Labelling is simulated on scenes whose ground truth is known. Half of the labelled pixels may be
labelled, the other half test; or whole fields may be labelled and others test. It starts with three
random labels a class; then each contender asks for more, in four rounds, and the network is trained
anew after each. Measures Indian Pines and every scene ``X.tif`` of DIR that has labels
``X_gt.tif``. Prints labels needed and the curves; ``--write`` puts them into ``docs/labelling.md``
with the figure ``docs/labelling.svg``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.command import Figures
from benchmarks.measuring import (
    RESULTS,
    accuracy_at,
    add_cell_options,
    kept,
    measure_cells,
    network_settings,
    percent,
    safe_name,
    train_network,
)
from benchmarks.pages import DOCS, counted, markdown_table, where_measured, write_page
from benchmarks.scenes import scenes_with_labels
from hsifcn.core.scene import Scene
from hsifcn.data.splits import Split, make_split
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.suggest import suggest, uncertainty
from hsifcn.io import open_labels, open_scene

CONTENDERS = {
    "random": "random pixels",
    "uncertainty": "the least certain pixels",
    "suggest": "`hsifcn suggest`",
}
POOLS = {"random:0.5": "half of the pixels", "fields:0.5:gap=2": "half of the fields"}
FIRST = 3  # labels a class to begin with
ROUNDS = (1, 1, 2, 3)  # further labels, as multiples of the number of classes
STYLES = {"random": ("#777777", ":"), "uncertainty": ("#c05020", "--"), "suggest": ("#0060a8", "-")}
PAGE, FIGURE = DOCS / "labelling.md", DOCS / "labelling.svg"

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabellingCell:
    """One contender that asks for labels of one scene, with one seed."""

    scene: Path
    labels: Path
    recipe: str
    contender: str
    seed: int

    @property
    def file(self) -> Path:
        """Where its figures are kept."""
        folder = RESULTS / "labelling" / f"{self.scene.stem}_{safe_name(self.recipe)}"
        return folder / f"{self.contender}_{self.seed}.json"

    def measure(self) -> Figures:
        """Label, train and measure, round by round."""
        scene = open_scene(self.scene)
        pool = make_split(open_labels(self.labels, like=scene), self.recipe, seed=self.seed)
        return label_in_rounds(scene, pool, self.contender, self.seed)


def label_in_rounds(scene: Scene, pool: Split, contender: str, seed: int) -> Figures:
    """Accuracy at the test pixels as labels are added.

    Parameters
    ----------
    scene : Scene
    pool : Split
        Its training and validation pixels may be labelled, its test pixels measure.
    contender : str
        Of ``CONTENDERS``.
    seed : int

    Returns
    -------
    dict
        ``curve``: ``labels``, ``oa`` and ``aa`` after each round; ``oa`` and ``aa`` of the last.
    """
    may = pool.train | pool.validation
    labelled = first_labels(pool, may, seed)
    classes = len(np.unique(pool.labels[may]))
    curve = []
    for wanted in (*ROUNDS, 0):
        bundle, split = train_on(scene, pool, labelled, seed)
        curve.append({"labels": int(labelled.sum()), **accuracy(bundle, scene, split)})
        if wanted:
            room = may & ~labelled
            chosen = choose(contender, bundle, scene, room, labelled, wanted * classes, seed)
            labelled = labelled.copy()
            labelled[chosen] = True
    return {"curve": curve, "oa": curve[-1]["oa"], "aa": curve[-1]["aa"]}


def first_labels(pool: Split, may: Mask, seed: int) -> Mask:
    """A few random pixels of each class."""
    rng = np.random.default_rng([seed, 1])
    labelled = np.zeros(may.shape, bool)
    for label in np.unique(pool.labels[may]).tolist():
        pixels = np.flatnonzero(may & (pool.labels == label))
        labelled.flat[rng.permutation(pixels)[:FIRST]] = True
    return labelled


def choose(
    contender: str,
    bundle: Bundle,
    scene: Scene,
    room: Mask,
    labelled: Mask,
    n: int,
    seed: int,
) -> tuple[npt.NDArray[np.intp], ...]:
    """Rows and columns of the next pixels to label, among those in ``room``."""
    places = np.flatnonzero(room)
    if contender == "suggest":
        found = suggest(bundle, scene, n, labelled=labelled, within=room, seed=seed)
        return found.rows, found.cols
    if contender == "uncertainty":
        _, _, doubt = uncertainty(bundle, scene)
        chosen = places[np.argsort(-doubt.flat[places], kind="stable")[:n]]
    else:
        rng = np.random.default_rng([seed, 2, int(labelled.sum())])
        chosen = rng.permutation(places)[:n]
    return np.unravel_index(chosen, room.shape)


def train_on(scene: Scene, pool: Split, labelled: Mask, seed: int) -> tuple[Bundle, Split]:
    """The default network, trained on the labels so far, and the split that it was trained on."""
    nothing = np.zeros(labelled.shape, bool)
    split = Split(pool.labels, labelled, nothing, pool.test, pool.recipe, seed)
    settings = network_settings("hsifcn", seed)
    assert settings is not None
    return train_network(scene, split, settings)


def accuracy(bundle: Bundle, scene: Scene, split: Split) -> dict[str, float]:
    """OA and AA at the test pixels."""
    found = accuracy_at(Predictor(bundle).label_map(scene), split.labels, split.test)
    return {"oa": found.oa, "aa": found.aa}


@dataclass(frozen=True)
class Task:
    """A scene and what may be labelled there, with the curves of each contender, one a seed."""

    scene: str
    recipe: str
    curves: dict[str, list[list[dict[str, Any]]]]

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.scene.removesuffix('_corrected')}, {POOLS[self.recipe]}"


def collect(cells: Sequence[LabellingCell]) -> list[Task]:
    """The curves that are kept, a task a scene and pool."""
    tasks = []
    for scene, recipe in dict.fromkeys((cell.scene, cell.recipe) for cell in cells):
        curves: dict[str, list[Any]] = {name: [] for name in CONTENDERS}
        for cell in cells:
            if (cell.scene, cell.recipe) == (scene, recipe) and (found := kept(cell)):
                curves[cell.contender] += [found["curve"]] if "curve" in found else []
        if all(curves.values()):
            tasks.append(Task(scene.stem, recipe, curves))
    return tasks


def mean_curve(curves: Sequence[Sequence[dict[str, Any]]], key: str) -> npt.NDArray[np.float64]:
    """Labels, mean and standard deviation of an accuracy after each round, (rounds, 3)."""
    rows = []
    for points in zip(*curves, strict=True):
        values = [point[key] for point in points]
        spread = stdev(values) if len(values) > 1 else 0.0
        rows.append((mean(point["labels"] for point in points), mean(values), spread))
    return np.array(rows)


def labels_needed(curve: npt.NDArray[np.float64], wanted: float) -> float | None:
    """Labels at which a curve first reaches an accuracy, between two rounds by a straight line.

    None where it never does.
    """
    labels, values = curve[:, 0], curve[:, 1]
    reached = np.flatnonzero(values >= wanted)
    if not len(reached):
        return None
    i = int(reached[0])
    if i == 0:
        return float(labels[0])
    share = (wanted - values[i - 1]) / (values[i] - values[i - 1])
    return float(labels[i - 1] + share * (labels[i] - labels[i - 1]))


def needed_table(tasks: Sequence[Task]) -> list[str]:
    """Labels that each contender needs for what random labels reach in the end."""
    lines = []
    for task in tasks:
        curves = {name: mean_curve(task.curves[name], "oa") for name in CONTENDERS}
        wanted = float(curves["random"][-1, 1])
        cells = []
        for name in CONTENDERS:
            found = labels_needed(curves[name], wanted)
            cells.append(f"over {curves[name][-1, 0]:.0f}" if found is None else f"{found:.0f}")
        lines.append([task.title, f"{100 * wanted:.1f}", *cells])
    return markdown_table(["scene, and what may be labelled", "OA %", *CONTENDERS.values()], lines)


def curve_table(tasks: Sequence[Task]) -> list[str]:
    """OA of each contender after each round."""
    lines = []
    for task in tasks:
        rounds = len(task.curves["random"][0])
        for i in range(rounds):
            cells = [
                percent([curve[i]["oa"] for curve in task.curves[name]]) for name in CONTENDERS
            ]
            labels = mean(curve[i]["labels"] for curve in task.curves["random"])
            lines.append([task.title, f"{labels:.0f}", *cells])
    header = ["scene, and what may be labelled", "labels", *CONTENDERS.values()]
    return markdown_table(header, lines)


def draw(tasks: Sequence[Task], path: Path) -> None:
    """The curves, a panel a task, with one standard deviation on either side."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "labelling"  # else every figure has other identifiers
    columns = min(2, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, task in zip(axes, tasks, strict=False):
        for name, (colour, line) in STYLES.items():
            labels, oa, spread = mean_curve(task.curves[name], "oa").T
            low, middle, high = (100 * (oa + sign * spread) for sign in (-1, 0, 1))
            panel.plot(labels, middle, line, color=colour, label=name, marker="o", markersize=3)
            panel.fill_between(labels, low, high, color=colour, alpha=0.15, lw=0)
        panel.set_title(task.title, fontsize=9)
        panel.set_xlabel("labels")
        panel.set_ylabel("OA, %")
        panel.grid(alpha=0.3)
    for panel in axes[len(tasks) :]:
        panel.set_visible(False)
    axes[0].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def page(tasks: Sequence[Task], seeds: int) -> list[str]:
    """The documentation page."""
    return [
        "# Where to label next",
        "",
        "What the points of `hsifcn suggest` are worth, simulated on scenes whose ground truth is "
        f"known. Labelling starts with {FIRST} random pixels of each class. Then a contender asks "
        "for more pixels, four times, and the default network is trained anew on all labels so "
        "far: random pixels; those where the two greatest probabilities differ least; or those of "
        "`suggest`. Pixels may be labelled in one half of the labelled ones, or in one half of the "
        "fields; the others test, 2 pixels or more away where fields are halved. Every contender "
        "starts from the same labels and weights.",
        "",
        f"Means of {counted(seeds, 'seed')}. A seed draws the halves, the first labels and the "
        f"weights; {where_measured()}. Printed by `python -m benchmarks.labelling --scenes DIR "
        f"--seeds {seeds} --write`.",
        "",
        "Labels needed for the OA that random labels reach in the last round:",
        "",
        *needed_table(tasks),
        "",
        "![OA against the number of labels](labelling.svg)",
        "",
        "OA in per cent at the test pixels after each round, with the standard deviation over the "
        "seeds:",
        "",
        *curve_table(tasks),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=Path, help="folder of pairs X.tif, X_gt.tif")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} and its figure")
    add_cell_options(parser, seeds=3)
    given = parser.parse_args()
    cells = [
        LabellingCell(scene, labels, recipe, contender, seed)
        for scene, labels in scenes_with_labels(given.scenes)
        for recipe in POOLS
        if given.rows in f"{scene.stem} {recipe}"
        for seed in range(given.seeds)
        for contender in CONTENDERS
    ]
    measure_cells(cells, given)
    tasks = collect(cells)
    print("\n".join([*needed_table(tasks), "", *curve_table(tasks)]))
    if given.write:
        draw(tasks, FIGURE)
        write_page(PAGE, page(tasks, given.seeds))


if __name__ == "__main__":
    main()
