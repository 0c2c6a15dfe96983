"""A run: from scenes, labels and settings to a run directory with the model and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from hsifcn.data.dataset import Inputs
from hsifcn.evaluation.record import (
    accuracy_record,
    calibration_record,
    split_record,
)
from hsifcn.inference.bundle import empty_network
from hsifcn.inference.predictor import Predictor
from hsifcn.io.files import printable
from hsifcn.models import ModelSpec
from hsifcn.models.flops import flops_per_pixel
from hsifcn.training.ensemble import train_ensemble
from hsifcn.training.memory_plan import bytes_of_maps, later_peak, less
from hsifcn.training.refinement_selection import refine_run
from hsifcn.training.run_directory import (
    removed_where_nothing_came_of_it,
    write_run,
)
from hsifcn.training.settings import Settings
from hsifcn.training.train import Trained
from hsifcn.training.training_job import Announce


def train_run(
    inputs: Inputs,
    settings: Settings,
    out: Path,
    *,
    device: str = "cpu",
    max_memory: int | None = None,
    members: int = 1,
    refine: str = "none",
    announce: Announce = lambda plan: None,
    config: Mapping[str, Any],
    **training: Any,
) -> dict[str, Any]:
    """Train, map the scenes, measure accuracy at the test pixels and fill the run directory.

    Returns what ``metrics.json`` holds; see the docs for its keys.

    Parameters
    ----------
    inputs : Inputs
    settings : Settings
    out : Path
        Of ``prepare_run_directory``.
    members : int
        Networks to train and to average.
    refine : str
        ``none``, or the back end whose weights are chosen and whose map is measured too.
    config : mapping
        What was asked for, to be stored; ``metrics.json`` comes last and marks a finished run.
    **training
        ``progress``, ``resume`` and ``start`` of ``training.train``, as the others are.
    """
    baseline = rss_bytes()
    if refine != "none":  # the validation pixels choose its weights
        settings = replace(settings, learn_validation=False)
    with removed_where_nothing_came_of_it(out):
        later = later_peak(inputs, settings, members, max_memory, refine)
        trained = train_ensemble(
            inputs.scenes,
            inputs.splits,
            settings,
            members,
            class_names=inputs.class_names,
            colours=inputs.colours,
            device=device,
            max_memory=max_memory,
            announce=lambda plan: announce(plan.at_least(later)),
            checkpoint=out / "checkpoint",
            **training,
        )
    keep_memory_together()  # what training left is given back before the scene is read again
    maps, measured = map_and_measure(inputs, trained, device, max_memory)
    metrics = {
        **model_record(trained.bundle.spec),
        **measured,
        **training_record(inputs, settings, trained),
        **process_record(baseline, device, config),
    }
    if refine != "none":
        trained, metrics["refined"] = with_refinement(inputs, trained, refine, device, max_memory)
    write_run(out, inputs, trained, maps[0], metrics, config)
    return metrics


def process_record(baseline: int, device: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the process took so far, and how it was called."""
    return {
        "peak_rss_bytes": peak_rss_bytes(),
        "baseline_rss_bytes": baseline,
        "device": device,
        "threads": torch.get_num_threads(),
        "command": config.get("command"),
    }


def map_and_measure(
    inputs: Inputs, trained: Trained, device: str, max_memory: int | None
) -> tuple[list[npt.NDArray[np.uint16]], dict[str, Any]]:
    """The map of each scene, and what the maps are worth at the test pixels."""
    predictor = Predictor(trained.bundle, device)
    with Stopwatch() as prediction:
        room = less(max_memory, bytes_of_maps(inputs))
        if room is not None:  # by a trial, which loads what scoring takes before tiles are planned
            predictor.plan(inputs.scenes[0], room)
        mapped = [predictor.labels_and_confidence(scene, room) for scene in inputs.scenes]
    maps = [labels for labels, _ in mapped]
    return maps, {
        **accuracy_record(inputs, maps),
        "calibration": calibration_record(inputs, mapped, trained.bundle.temperature),
        "predict_seconds": prediction.seconds,
    }


def with_refinement(
    inputs: Inputs, trained: Trained, method: str, device: str, max_memory: int | None
) -> tuple[Trained, dict[str, Any]]:
    """The model with the weights of a back end, and what its refined maps are worth."""
    scenes, splits = inputs.scenes, inputs.splits
    refined = refine_run(
        method, trained.bundle, scenes, splits, device=device, max_memory=max_memory
    )
    bundle = replace(trained.bundle, refinement=refined.refinement)
    return replace(trained, bundle=bundle), refined.record(accuracy_record(inputs, refined.maps))


def training_record(inputs: Inputs, settings: Settings, trained: Trained) -> dict[str, Any]:
    """What was trained on, how and with what."""
    return {
        "scene": ", ".join(printable(Path(scene.path).name) for scene in inputs.scenes),
        "colours": [list(colour) for colour in inputs.colours],
        "split": split_record(inputs, trained.bundle.spec),
        "seed": settings.seed,
        "steps": settings.steps,
        "init": trained.bundle.settings.get("init"),
        "staged": settings.staged,
        "crops": trained.bundle.settings.get("crops"),
        "ensemble": trained.bundle.spec.members,
        "best_step": trained.best_step,
        "transductive": not settings.inductive,
        "train_seconds": trained.seconds,
        "machine": machine(),
        "versions": versions(),
    }


def model_record(spec: ModelSpec) -> dict[str, Any]:
    """Name, parameters and cost of a network."""
    return {
        "model": spec.name,
        "params": sum(parameter.numel() for parameter in empty_network(spec).parameters()),
        "flops_per_pixel": flops_per_pixel(spec),
    }
