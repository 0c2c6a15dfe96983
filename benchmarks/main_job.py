"""The main job on Indian Pines: accuracy, time and memory, beside a patch CNN and an SVM.

    python -m benchmarks.main_job [--models hsifcn,fcn8s,patch15,svm7x7] [--device cpu] [--write]

Every training is a fresh process: ``hsifcn train``, or an SVM on means of 7x7 pixels. Prints the
table of the README, all figures, what shorter trainings give, and how long the commands take from
start to exit. ``--write`` puts them into ``README.md`` and ``docs/main_job.md``. Takes about five
minutes on two cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks.command import Figures, run_hsifcn
from benchmarks.measuring import CLASSICAL, accuracy_figures, classify
from benchmarks.pages import (
    DOCS,
    README,
    markdown_table,
    where_measured,
    write_figures,
    write_page,
)
from benchmarks.rasters import INDIAN_PINES, INDIAN_PINES_LABELS
from hsifcn.core.process import Stopwatch, peak_rss_bytes
from hsifcn.data.splits import make_split
from hsifcn.io import open_labels, open_scene

SPLITS = ("random:0.1", "checkerboard:14:gap=3")
SEEDS = {"patch15": 1}  # the others: as many as asked for
SHORTER = (50, 100, 200)  # steps
COMMAND_RUNS = 5
PAGE = DOCS / "main_job.md"
NAMES = {
    "hsifcn": "`hsifcn`, the default",
    "svm7x7": "SVM on means of 7x7 pixels",
    "patch15": "patch CNN, 15x15 pixels",
}


def train(model: str, recipe: str, seed: int, folder: Path, *more: str) -> Figures:
    """Train one contender; gives what ``metrics.json`` holds, and the seconds of the command."""
    if model in CLASSICAL:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context) as pool:
            return pool.submit(fit_and_map, model, recipe, seed).result()
    done = run_hsifcn(
        "train", str(INDIAN_PINES), "-l", str(INDIAN_PINES_LABELS), "-m", model, "-s", recipe,
        "--seed", str(seed), "-o", str(folder / f"{model}-{seed}"), "--overwrite", "--json", *more,
    )  # fmt: skip
    return {**done.json, "command_seconds": done.seconds}


def fit_and_map(name: str, recipe: str, seed: int) -> Figures:
    """Fit a classifier and map the scene, in a process of its own."""
    warnings.simplefilter("ignore")
    with Stopwatch() as whole:
        split = make_split(open_labels(INDIAN_PINES_LABELS).labels, recipe, seed=seed)
        labels, fitting, mapping = classify(open_scene(INDIAN_PINES), split, name, seed)
    return {
        **accuracy_figures(labels, split),
        "train_seconds": fitting,
        "predict_seconds": mapping,
        "command_seconds": whole.seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        "split": {"leakage": split.leakage()},
    }


def readme_row(model: str, recipe: str, runs: Sequence[Figures]) -> list[str]:
    """One line of the README's table: medians over the seeds."""
    touching = runs[0]["split"]["leakage"]["test_touching"]
    return [
        NAMES.get(model, f"`{model}`"),
        f"`{recipe}`",
        f"{100 * touching:.0f} %" if touching else "none",
        f"{100 * middle(runs, 'oa'):.2f}",
        f"{100 * middle(runs, 'aa'):.2f}",
        f"{middle(runs, 'train_seconds'):.0f} s",
        f"{middle(runs, 'predict_seconds'):.2f} s",
        f"{middle(runs, 'peak_rss_bytes') / 1e6:.0f} MB",
    ]


README_HEAD = [
    *("model", "split", "test pixels touching a training pixel", "OA %", "AA %"),
    *("training", "whole map", "peak memory"),
]


def page_row(model: str, recipe: str, runs: Sequence[Figures]) -> list[str]:
    """One line of the page: every seed, size and cost."""

    def values(key: str) -> str:
        return ", ".join(f"{100 * run[key]:.2f}" for run in runs)

    known = "params" in runs[0]
    return [
        model,
        recipe,
        values("oa"),
        values("aa"),
        f"{runs[0]['params'] / 1e6:.2f}" if known else "",
        f"{runs[0]['flops_per_pixel'] / 1e3:.0f}" if known else "",
        f"{middle(runs, 'train_seconds'):.1f}",
        f"{middle(runs, 'command_seconds'):.1f}",
        f"{middle(runs, 'predict_seconds'):.3f}",
        f"{middle(runs, 'peak_rss_bytes') / 1e6:.0f}",
    ]


PAGE_HEAD = [
    *("model", "split", "OA %", "AA %", "M params", "kFLOP a px"),
    *("training s", "whole command s", "map s", "peak MB"),
]


def middle(runs: Sequence[Figures], key: str) -> float:
    """Median over the seeds."""
    return float(median(run[key] for run in runs))


def shorter_rows(folder: Path, *more: str) -> list[list[str]]:
    """What trainings of fewer steps give, with seed 0."""
    rows = []
    for steps in SHORTER:
        found = train("hsifcn", SPLITS[0], 0, folder, "--steps", str(steps), *more)
        accuracy = [f"{100 * found[key]:.2f}" for key in ("oa", "aa")]
        rows.append([str(steps), *accuracy, f"{found['command_seconds']:.1f}"])
        print(rows[-1], flush=True)
    return rows


def command_seconds(folder: Path, *more: str) -> str:
    """How long commands that train nothing take, from start to exit."""
    model = str(folder / "hsifcn-0")
    runs = {
        "hsifcn --help": ["--help"],
        "hsifcn info": ["info", str(INDIAN_PINES)],
        "hsifcn predict": [
            *("predict", model, str(INDIAN_PINES), "-o", str(folder / "map.img"), "--overwrite"),
            *more,
        ],
    }
    said = []
    for name, arguments in runs.items():
        seconds = median(run_hsifcn(*arguments).seconds for _ in range(COMMAND_RUNS))
        said.append(f"`{name}` takes {seconds:.2f} s")
    return f"From start to exit, median of {COMMAND_RUNS}: {', '.join(said)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", default="hsifcn,patch15,svm7x7")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--write", action="store_true", help="write README.md and main_job.md")
    given = parser.parse_args()
    where = ("--device", given.device)
    readme, rows = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in given.models.split(","):
            for recipe in SPLITS:
                seeds = range(SEEDS.get(model, given.seeds))
                runs = [train(model, recipe, seed, folder, *where) for seed in seeds]
                readme.append(readme_row(model, recipe, runs))
                rows.append(page_row(model, recipe, runs))
                print(readme[-1], flush=True)
        shorter = shorter_rows(folder, *where)
        commands = command_seconds(folder, *where)
    readme_lines = markdown_table(README_HEAD, readme)
    lines = [
        "# The main job",
        "",
        f"Indian Pines on {where_measured()}; printed by `python -m benchmarks.main_job --write`. "
        "Every seed draws the split and the initial weights. OA and AA of every seed; medians of "
        "the other figures. Peak memory is that of the whole process, PyTorch's own included.",
        "",
        *markdown_table(PAGE_HEAD, rows),
        "",
        f"`hsifcn` on `{SPLITS[0]}`, trained for fewer steps (`--steps`), seed 0:",
        "",
        *markdown_table(["steps", "OA %", "AA %", "whole command s"], shorter),
        "",
        commands,
    ]
    print("\n".join([*readme_lines, "", *lines]))
    if given.write:
        write_figures(README, readme_lines, "main job")
        write_page(PAGE, lines)


if __name__ == "__main__":
    main()
