"""Accuracy of the default network on Indian Pines, on the splits of papers and on harder ones.

    python benchmarks/accuracy.py --splits DIR [--seeds 10] [--workers 1]

DIR holds the fixed splits as label rasters, ``NAME_train.npy`` and ``NAME_test.npy``, where NAME is
that of a ``fixed:NAME`` row below. Every training is a fresh process that leaves a JSON file in
``--results``, so that an interrupted run goes on where it stopped; what was measured on another
split or with other settings is measured again. ``docs/accuracy.md`` is written from those files;
rows of which there is none stay as they are.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.process import machine, versions
from hsifcn.core.scene import default_class_names, default_colours
from hsifcn.data.splits import Split, make_split
from hsifcn.evaluation.calibration import expected_calibration_error
from hsifcn.evaluation.metrics import Accuracy, confusion_matrix
from hsifcn.io import open_labels, open_scene
from hsifcn.io.files import atomic_write
from hsifcn.training.settings import Settings, default_settings

ROOT = Path(__file__).parent.parent
SCENE = ROOT / "data" / "indian_pines_corrected.mat"
LABELS = ROOT / "data" / "indian_pines_gt.mat"
CLASSICAL = ("svm", "svm7x7", "rf", "rf7x7")
NETWORKS = {"hsifcn": "hsifcn", "patch15": "patch15"}
FIELD_DRAWS = 5
FIGURES = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One protocol: its recipe, and who is measured on it."""

    title: str
    recipe: str
    contenders: tuple[str, ...]

    def draws(self, seeds: int) -> Iterator[tuple[int, int]]:
        """Seeds of the split and of the training."""
        for seed in range(seeds):
            yield (seed % FIELD_DRAWS if self.recipe.startswith("fields") else seed), seed


ROWS = (
    Row("random, 10 % a class", "random:0.1", ("hsifcn", *CLASSICAL)),
    Row("random, 5 % a class", "random:0.05", ("hsifcn", *CLASSICAL)),
    Row("random, 1 % a class, at least 3", "random:0.01", ("hsifcn", *CLASSICAL)),
    Row("fixed, SpectralFormer's", "fixed:spectralformer", ("hsifcn", *CLASSICAL)),
    Row("fixed, DASE's", "fixed:dase_fixed", ("hsifcn", *CLASSICAL)),
    Row("fixed checkerboard, gap 3", "fixed:checkerboard14_gap3", ("hsifcn", *CLASSICAL)),
    Row("whole fields held out", "fields:0.2:gap=2", ("hsifcn", "patch15", *CLASSICAL, "mlp")),
)  # fmt: skip


def split_of(recipe: str, seed: int, folder: Path) -> Split:
    """The split of one draw."""
    labels = open_labels(LABELS)
    kind, _, name = recipe.partition(":")
    if kind != "fixed":
        return make_split(labels.labels, recipe, seed=seed)
    train, test = (open_labels(folder / f"{name}_{part}.npy").labels for part in ("train", "test"))
    recipe = f"fixed:{name}_train.npy,{name}_test.npy"
    return make_split(labels.labels, recipe, seed=seed, fixed=(train, test))


def measure(contender: str, recipe: str, draw: int, seed: int, folder: Path) -> dict[str, Any]:
    """Train one contender on one draw and measure its map at the test pixels."""
    warnings.simplefilter("ignore")
    split = split_of(recipe, draw, folder)
    n_classes = int(split.labels.max())
    settings = settings_of(contender, seed)
    figures: dict[str, Any]
    if settings is not None:
        labels, confidence = map_by_network(SCENE, split, settings)
        right = (labels == split.labels)[split.test]
        error = expected_calibration_error(confidence[split.test], right)
        figures = {"expected_calibration_error": error, "settings": asdict(settings)}
    else:
        labels, figures = map_by_classifier(SCENE, split, contender, seed), {}
    truth = np.where(split.test, split.labels, 0)
    accuracy = Accuracy.from_confusion(confusion_matrix(truth, labels, n_classes))
    return {
        "oa": accuracy.oa,
        "aa": accuracy.aa,
        "kappa": accuracy.kappa,
        "digest": split.digest,
        "n_train": split.n_train + split.n_validation,
        "n_test": split.n_test,
        "leakage": split.leakage(),
        **figures,
    }


def settings_of(contender: str, seed: int) -> Settings | None:
    """Of a network; None of a classifier, which has none."""
    return default_settings(NETWORKS[contender], seed) if contender in NETWORKS else None


def map_by_network(
    path: Path, split: Split, settings: Settings
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]:
    """Map a scene with a network trained on the split: labels, and how sure it is of them."""
    from hsifcn.inference.predictor import Predictor
    from hsifcn.training.train import train

    scene = open_scene(path)
    n_classes = int(split.labels.max())
    trained = train(
        [scene],
        [split],
        settings,
        class_names=default_class_names(n_classes),
        colours=default_colours(n_classes),
    )
    return Predictor(trained.bundle).labels_and_confidence(scene)


def map_by_classifier(path: Path, split: Split, name: str, seed: int) -> npt.NDArray[np.uint16]:
    """Map a scene with a classifier of spectra."""
    from hsifcn.comparison.baselines import fit, spectral_features
    from hsifcn.training.scenes import read_standardised, scene_scaling, usable_bands

    scene = open_scene(path)
    bands = usable_bands([scene])
    cube, _ = read_standardised(scene, bands, scene_scaling([scene], [split], bands, False))
    features = spectral_features(cube[0].permute(1, 2, 0).numpy(), name.endswith("7x7"))
    classifier = fit(name.removesuffix("7x7"), features, split, seed)
    labels = classifier.predict(features).reshape(scene.shape[:2])
    return np.asarray(labels, np.uint16)


def work(job: tuple[str, str, int, int, Path, Path, int]) -> str:
    """Do one measurement and write its file; in a process of its own."""
    import torch

    contender, recipe, draw, seed, folder, result, threads = job
    torch.set_num_threads(threads)
    figures = measure(contender, recipe, draw, seed, folder)
    with atomic_write(result, overwrite=True) as temporary:
        temporary.write_text(json.dumps({**figures, "threads": threads}), "utf-8")
    return f"{recipe:28s} {contender:8s} seed {seed}: OA {100 * figures['oa']:.2f}"


def result_file(folder: Path, contender: str, recipe: str, seed: int) -> Path:
    """Where a measurement is kept."""
    return folder / f"{recipe.replace(':', '-')}_{contender}_{seed}.json"


def kept(
    file: Path, contender: str, recipe: str, draw: int, seed: int, folder: Path
) -> dict[str, Any] | None:
    """A measurement that is kept; None if of another split, by other settings, or not yet made."""
    if not file.exists():
        return None
    figures: dict[str, Any] = json.loads(file.read_text("utf-8"))
    settings = settings_of(contender, seed)
    if settings is not None and figures.get("settings") != asdict(settings):
        return None
    return figures if figures["digest"] == split_of(recipe, draw, folder).digest else None


def table(results: Path, folder: Path, seeds: int, page: str) -> list[str]:
    """The Markdown table of what has been measured, other rows as they stand on the page."""
    known = {tuple(line.split(" | ")[0:4:3]): line for line in page.splitlines()}
    lines = [
        "| split | training / test px | test px touching a training px | contender | seeds | OA % "
        "| AA % | calibration error % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        for contender in row.contenders:
            found = [
                kept(
                    result_file(results, contender, row.recipe, seed),
                    *(contender, row.recipe, draw, seed, folder),
                )
                for draw, seed in row.draws(seeds)
            ]
            runs = [figures for figures in found if figures is not None]
            if not runs:
                lines += filter(None, [known.get((f"| {row.title}", contender))])
                continue
            touching = mean(run["leakage"]["test_touching"] for run in runs)
            cells = (
                row.title,
                f"{extent(runs, 'n_train')} / {extent(runs, 'n_test')}",
                f"{100 * touching:.0f} %",
                contender,
                str(len(runs)),
                spread([run["oa"] for run in runs]),
                spread([run["aa"] for run in runs]),
                spread([run["expected_calibration_error"] for run in runs])
                if contender in NETWORKS
                else "",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def extent(runs: list[dict[str, Any]], key: str) -> str:
    """A count of pixels, least to most where draws differ."""
    counts = sorted({run[key] for run in runs})
    return f"{counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")


def spread(values: list[float]) -> str:
    """Mean and standard deviation in per cent."""
    deviation = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1, help="processes beside each other")
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "accuracy")
    parser.add_argument("--only", default="", help="contenders, with commas between")
    parser.add_argument("--splits-like", default="", help="recipes that hold this text")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "accuracy.md")
    given = parser.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // given.workers)
    jobs = [
        (contender, row.recipe, draw, seed, given.splits, file, threads)
        for row in ROWS
        if given.splits_like in row.recipe
        for contender in row.contenders
        if not given.only or contender in given.only.split(",")
        for draw, seed in row.draws(given.seeds)
        if not kept(
            file := result_file(given.results, contender, row.recipe, seed),
            *(contender, row.recipe, draw, seed, given.splits),
        )
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.workers, context, max_tasks_per_child=1) as pool:
        for line in pool.map(work, jobs):
            print(line, flush=True)
    found, known = machine(), versions()
    page = given.out.read_text("utf-8")
    lines = [
        f"Mean ± standard deviation over seeds, on {found['cores']} cores of "
        f"{found['processor']}, torch {known['torch']}; printed by `python benchmarks/accuracy.py "
        f"--splits DIR --workers {given.workers}`. Seeds draw the split (of whole fields: "
        f"{FIELD_DRAWS} draws, which share labels) and the initial weights; the fixed splits are "
        "always the same pixels. Training pixels include those that a network holds back for "
        "validation, at first or to the end. Of networks, too, how far confidence and accuracy lie "
        "apart at the test pixels (expected calibration error).",
        "",
        *table(given.results, given.splits, given.seeds, page),
    ]
    print("\n".join(lines))
    given.out.write_text(FIGURES.sub(lambda _: "\n".join(lines) + "\n", page), "utf-8")


if __name__ == "__main__":
    main()
