"""What the benchmarks share: contenders that map a scene, and measurements that are kept.

A measurement is a ``Cell`` of a table: it has a file of its own, so that an interrupted benchmark
goes on where it stopped. Remove the file, or name the contender with ``--again``, to measure anew.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.command import Figures
from benchmarks.pages import ROOT
from benchmarks.rasters import LabelImage
from hsifcn.core.errors import HsifcnError
from hsifcn.core.process import Stopwatch, ask_for_huge_pages, spin_briefly, usable_cores
from hsifcn.core.scene import LabelMap, Scene, default_class_names, default_colours
from hsifcn.data.dataset import make_dataset
from hsifcn.data.splits import Split, read_split
from hsifcn.evaluation.metrics import Accuracy, confusion_matrix
from hsifcn.io import open_scene
from hsifcn.io.files import atomic_write
from hsifcn.training.settings import TrainOptions, default_options

if TYPE_CHECKING:
    from hsifcn.inference.bundle import Bundle

RESULTS = ROOT / "runs" / "benchmarks"

CLASSICAL = ("svm", "rf", "svm7x7", "rf7x7")

Standardised = npt.NDArray[np.float32]


class Cell(Protocol):
    """One measurement of a table.

    Attributes
    ----------
    file : Path
        Where its figures are kept.
    contender : str
        Who is measured.
    """

    @property
    def file(self) -> Path:  # noqa: D102
        ...

    @property
    def contender(self) -> str:  # noqa: D102
        ...

    def measure(self) -> Figures:
        """Measure it; figures are plain values for JSON."""
        ...


C = TypeVar("C", bound=Cell)


def open_run(run: Path) -> tuple[Bundle, Scene, Split]:
    """The model of a finished run, its first scene and that scene's split."""
    from hsifcn.inference.bundle import load_model
    from hsifcn.inference.targets import run_config

    config = run_config(run)
    scene = open_scene(config["scenes"][0], wavelengths=config["wavelengths"])
    return load_model(run / "model.safetensors"), scene, read_split(run / "split.npz")


def network_settings(contender: str, seed: int) -> TrainOptions | None:
    """How a contender is trained, if it is a network; None otherwise.

    ``labels`` is the default network trained on labels alone, ``fcn1s`` the five-stage FCN of the
    paper with skips down to single pixels, on labels alone too.
    """
    from dataclasses import replace

    if contender in ("hsifcn", "patch15"):
        return default_options(contender, seed)
    if contender == "labels":
        return replace(default_options("hsifcn", seed), propagation=0.0)
    if contender == "fcn1s":
        return replace(default_options("fcn1s", seed), propagation=0.0)
    return None


def map_scene(contender: str, scene: Scene, split: Split, seed: int) -> LabelImage:
    """Map a scene with a contender that learnt from its training and validation pixels."""
    settings = network_settings(contender, seed)
    if settings is not None:
        return map_by_network(scene, split, settings)[0]
    if contender == "walker":
        return map_by_walker(scene, split)
    return map_by_classifier(scene, split, contender, seed)


def map_by_network(
    scene: Scene, split: Split, settings: TrainOptions
) -> tuple[LabelImage, npt.NDArray[np.float32]]:
    """Map a scene with a network: labels as the split numbers them, and the probability of each."""
    from hsifcn.inference.predictor import Predictor

    bundle, _ = train_network(scene, split, settings)
    found, probability = Predictor(bundle).labels_and_confidence(scene)
    # A network numbers the classes that it was trained on without gaps.
    names = default_class_names(int(split.labels.max()))
    numbers = np.array([0, *(names.index(name) + 1 for name in bundle.class_names)], np.uint16)
    return numbers[found], probability


def train_network(scene: Scene, split: Split, settings: TrainOptions) -> tuple[Bundle, Split]:
    """Train a network; gives its model, and the split that it was trained on."""
    from hsifcn.training.train import train

    classes = int(split.labels.max())
    labels = LabelMap(split.labels, default_class_names(classes), default_colours(classes))
    dataset = make_dataset([scene], [labels], [split])
    return train(dataset, settings).bundle, dataset.splits[0]


def map_by_walker(scene: Scene, split: Split) -> LabelImage:
    """Map a scene with label propagation alone: the most probable class of each pixel."""
    import torch

    from hsifcn.training.pseudo_labelling import propagate_labels
    from hsifcn.training.scenes import label_scene, scene_scaling, usable_bands

    bands = usable_bands([scene])
    labelled = label_scene(scene, split, bands, inductive=False)
    scaling = scene_scaling([scene], [split], bands, False)
    classes = int(split.labels.max())
    found = propagate_labels([labelled], bands, scaling, classes, None, torch.device("cpu"))
    [whole] = found.all_labels
    return np.asarray(whole.classes + 1, np.uint16)


def map_by_classifier(scene: Scene, split: Split, name: str, seed: int) -> LabelImage:
    """Map a scene with a classifier of spectra, or of their means over 7x7 pixels."""
    return classify(scene, split, name, seed)[0]


def classify(scene: Scene, split: Split, name: str, seed: int) -> tuple[LabelImage, float, float]:
    """Map a scene with a classifier; gives the map, and the seconds to fit and to map."""
    from hsifcn.comparison.baselines import fit, spectral_features

    cube, _ = standardised(scene, split)
    features = spectral_features(cube, name.endswith("7x7"))
    with Stopwatch() as fitting:
        classifier = fit(name.removesuffix("7x7"), features, split, seed)
    with Stopwatch() as mapping:
        found = classifier.predict(features)
    labels = np.asarray(found.reshape(scene.shape[:2]), np.uint16)
    return labels, fitting.seconds, mapping.seconds


def standardised(scene: Scene, split: Split) -> tuple[Standardised, npt.NDArray[np.bool_]]:
    """A scene as classifiers see it, (rows, cols, bands), and which pixels hold a measurement."""
    from hsifcn.training.scenes import read_standardised, scene_scaling, usable_bands

    bands = usable_bands([scene])
    cube, valid = read_standardised(scene, bands, scene_scaling([scene], [split], bands, False))
    return np.ascontiguousarray(cube[0].permute(1, 2, 0).numpy()), valid


def accuracy_at(
    labels: npt.NDArray[Any], truth: npt.NDArray[Any], where: npt.NDArray[np.bool_]
) -> Accuracy:
    """Accuracy of a map (rows, cols) against the truth, at some pixels."""
    classes = max(int(truth.max()), int(labels.max()))
    return Accuracy.from_confusion(confusion_matrix(np.where(where, truth, 0), labels, classes))


def accuracy_figures(labels: LabelImage, split: Split) -> Figures:
    """Accuracy at the test pixels, and of which split."""
    found = accuracy_at(labels, split.labels, split.test)
    return {
        "oa": found.oa,
        "aa": found.aa,
        "kappa": found.kappa,
        "digest": split.digest,
        "n_train": split.n_train + split.n_validation,
        "n_test": split.n_test,
        "leakage": split.leakage(),
    }


def add_cell_options(parser: argparse.ArgumentParser, seeds: int = 5) -> None:
    """Options of every benchmark of cells."""
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--workers", type=int, default=1, help="processes side by side")
    parser.add_argument("--only", default="", help="contenders, with commas between")
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    parser.add_argument("--again", default="", help="contenders to measure anew")


def measure_cells(cells: Iterable[Cell], given: argparse.Namespace) -> None:
    """Measure what is asked for and not kept yet; prints a line for each."""
    todo = cells_to_measure(cells, given)
    ask_for_huge_pages()
    spin_briefly()
    threads = max(1, usable_cores() // given.workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of the processes, started below
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.workers, context, initializer=start) as pool:
        for done, line in enumerate(pool.map(measure_and_keep, todo), 1):
            print(f"[{done} of {len(todo)}] {line}", flush=True)


def cells_to_measure(cells: Iterable[C], given: argparse.Namespace) -> list[C]:
    """Those of the contenders asked for that are not kept, or that are to be measured again."""
    only, again = ([name for name in text.split(",") if name] for text in (given.only, given.again))
    return [
        cell
        for cell in cells
        if (not only or cell.contender in only)
        and (cell.contender in again or not cell.file.exists())
    ]


def start() -> None:
    """Prepare a process that measures."""
    warnings.simplefilter("ignore")


def measure_and_keep(cell: Cell) -> str:
    """Measure a cell and write its file; a cell that cannot be measured keeps the reason."""
    started = time.perf_counter()
    try:
        figures = cell.measure()
    except HsifcnError as error:
        figures = {"skipped": error.message}
    figures["seconds"] = time.perf_counter() - started
    cell.file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(cell.file, overwrite=True) as temporary:
        temporary.write_text(json.dumps(figures, indent=1), "utf-8")
    said = figures.get("skipped") or f"OA {percent([figures['oa']])}, AA {percent([figures['aa']])}"
    return f"{cell.file.parent.name}/{cell.file.stem}: {said}, {figures['seconds']:.0f} s"


def kept(cell: Cell) -> Figures | None:
    """The figures of a cell; None before it is measured."""
    if not cell.file.exists():
        return None
    figures: Figures = json.loads(cell.file.read_text("utf-8"))
    return figures


def percent(values: Sequence[float], digits: int = 1) -> str:
    """Mean, and standard deviation where there are several, in per cent."""
    deviation = f" ± {100 * stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.{digits}f}{deviation}"


def oa_and_aa(runs: Sequence[Figures]) -> str:
    """Both accuracies, means over the seeds."""
    return " / ".join(f"{100 * mean(run[key] for run in runs):.1f}" for key in ("oa", "aa") if runs)


def safe_name(text: str) -> str:
    """A recipe as part of a file's name."""
    return text.replace(":", "-").replace("=", "").replace(",", "+").replace("/", "_")
