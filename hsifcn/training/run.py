"""A run: from a data set and options to a run directory with the model and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from hsifcn.core.process import (
    Stopwatch,
    keep_memory_together,
    machine,
    peak_rss_bytes,
    rss_bytes,
    versions,
)
from hsifcn.data.dataset import Dataset
from hsifcn.evaluation.record import (
    accuracy_record,
    calibration_record,
    interval_record,
    map_digest,
    split_record,
)
from hsifcn.inference.predictor import Predictor
from hsifcn.io.files import printable
from hsifcn.models import ModelSpec, empty_network
from hsifcn.models.flops import flops_per_pixel
from hsifcn.training.loop import Progress, no_progress
from hsifcn.training.memory_plan import bytes_of_maps, less
from hsifcn.training.refinement_selection import refine_run
from hsifcn.training.run_directory import FinishedRun, remove_if_nothing_was_left, write_run
from hsifcn.training.settings import TrainOptions
from hsifcn.training.train import Announce, Trained, train

LabelsAndConfidence: TypeAlias = tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]


def train_run(
    dataset: Dataset,
    options: TrainOptions,
    out: Path,
    *,
    progress: Progress = no_progress,
    announce: Announce = lambda plan: None,
    resume: bool = False,
    config: Mapping[str, Any],
    folds: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train, map the scenes, measure accuracy at the test pixels and fill the run directory.

    Returns what ``metrics.json`` holds; see the docs for its keys. Of several ranks the first does
    so; the others take part in the training alone and return nothing.

    Parameters
    ----------
    dataset : Dataset
    options : TrainOptions
    out : Path
        Of ``prepare_run_directory``.
    progress, announce, resume
        Of ``train``.
    config : mapping
        What was asked for, to be stored; ``metrics.json`` comes last and marks a finished run.
    folds : mapping, optional
        Of ``folds.cross_validate``: the accuracy to tell of a model that learns from all labels.
    """
    if not options.ranks.first:
        train(dataset.training_scenes(), options)
        return {}
    baseline = rss_bytes()
    with remove_if_nothing_was_left(out):
        trained = train(
            dataset.training_scenes(),
            options,
            progress=progress,
            announce=announce,
            checkpoint=out / "checkpoint",
            resume=resume,
            maps_too=True,
        )
    keep_memory_together()  # gives back what training freed, before the scenes are read again
    mapped, measured = map_and_measure(dataset, trained, options)
    metrics = {
        **model_record(trained.bundle.spec),
        **measured,
        **training_record(dataset, options, trained),
        **process_record(baseline, options, config),
    }
    if folds is not None:
        metrics = of_folds(metrics, folds)
    if options.refine != "none":
        trained, metrics["refined"] = with_refinement(dataset, trained, options)
    write_run(out, FinishedRun(dataset, trained, mapped, metrics, config))
    return metrics


def map_and_measure(
    dataset: Dataset, trained: Trained, options: TrainOptions
) -> tuple[list[LabelsAndConfidence], dict[str, Any]]:
    """The map of each scene with its confidence, and the accuracy at the test pixels."""
    predictor = Predictor(trained.bundle, options.device)
    with Stopwatch() as prediction:
        room = less(options.max_memory, bytes_of_maps(dataset))
        mapped = [predictor.labels_and_confidence(scene, room) for scene in dataset.scenes]
    maps = [labels for labels, _ in mapped]
    return mapped, {
        **accuracy_record(dataset, maps),
        "intervals": interval_record(dataset, maps),
        "calibration": calibration_record(dataset, mapped, trained.bundle.temperature),
        "map_digests": [map_digest(labels) for labels in maps],
        "predict_seconds": prediction.seconds,
    }


def of_folds(metrics: Mapping[str, Any], folds: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a run with the accuracy of its cross-validation."""
    tested = sum(row["n_test"] for row in folds["per_class"].values())
    split = {**metrics["split"], "n_test": tested, "leakage": folds["leakage"]}
    per_class = {
        name: {**row, "n_train": metrics["per_class"][name]["n_train"]}
        for name, row in folds["per_class"].items()
    }
    measured = {key: value for key, value in folds.items() if key != "leakage"}
    return {**metrics, **measured, "per_class": per_class, "split": split}


def with_refinement(
    dataset: Dataset, trained: Trained, options: TrainOptions
) -> tuple[Trained, dict[str, Any]]:
    """The model with the weights of a refinement, and the accuracy of its refined maps."""
    refined = refine_run(
        options.refine,
        trained.bundle,
        dataset.scenes,
        dataset.splits,
        device=options.device,
        max_memory=options.max_memory,
    )
    bundle = replace(trained.bundle, refinement=refined.refinement)
    return replace(trained, bundle=bundle), refined.record(accuracy_record(dataset, refined.maps))


def model_record(spec: ModelSpec) -> dict[str, Any]:
    """Name, parameters and cost of a network."""
    return {
        "model": spec.name,
        "params": sum(parameter.numel() for parameter in empty_network(spec).parameters()),
        "flops_per_pixel": flops_per_pixel(spec),
    }


def training_record(dataset: Dataset, options: TrainOptions, trained: Trained) -> dict[str, Any]:
    """What was trained on, how and with what."""
    return {
        "scene": ", ".join(printable(Path(scene.path).name) for scene in dataset.scenes),
        "colours": [list(colour) for colour in dataset.label_colours],
        "class_codes": list(dataset.class_codes),
        "split": split_record(dataset, trained.bundle.spec),
        "seed": options.seed,
        "steps": options.steps,
        "init": trained.bundle.settings.get("init"),
        "crops": trained.bundle.settings.get("crops"),
        "best_step": trained.best_step,
        "transductive": not options.inductive,
        "recipe": trained.evidence and trained.evidence.record(),
        "train_seconds": trained.seconds,
        "machine": machine(),
        "versions": versions(),
    }


def process_record(
    baseline: int, options: TrainOptions, config: Mapping[str, Any]
) -> dict[str, Any]:
    """What the process took so far, and how it was called."""
    return {
        "peak_rss_bytes": peak_rss_bytes(),
        "baseline_rss_bytes": baseline,
        "device": options.device,
        "threads": torch.get_num_threads(),
        "ranks": options.ranks.size,
        "command": config.get("command"),
    }
