"""What workers do: train a network, predict with it, fit a classical reference.

Each function does one task on a scene and gives what it measured; arrays and weights go to files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax

from hsifcn.comparison.baselines import PatchPredictor, fit, spectral_features
from hsifcn.comparison.task import LEAST_GAIN, MOST_DOUBLINGS, Task
from hsifcn.core.errors import MemoryCeilingError
from hsifcn.core.process import FLOAT, Stopwatch, free_memory, peak_bytes, rss_bytes, start_peak
from hsifcn.core.scene import LabelMap, Scene, labels_of
from hsifcn.data.bands import with_chosen_bands
from hsifcn.data.dataset import Dataset, make_dataset
from hsifcn.data.splits import read_split
from hsifcn.inference.bundle import Bundle, load_model
from hsifcn.inference.predictor import Predictor
from hsifcn.io import open_scene
from hsifcn.models.plugin import add_plugin, is_plugin
from hsifcn.training.scenes import read_standardised, scene_scaling, usable_bands
from hsifcn.training.settings import TrainOptions, default_options
from hsifcn.training.train import Trained, train

MEMORY_SHARE = 0.8  # of the free memory that arrays over all pixels may take

Result = dict[str, Any]


def do_task(task: Task) -> Result:
    """Open the scene of a task and do it; gives its measurements, ready for JSON."""
    if is_plugin(task.model):
        add_plugin(task.model)
    scene = open_scene(task.scene, wavelengths=task.wavelengths, nodata=task.nodata)
    scene = with_chosen_bands(scene, task.bands, keep_bad=task.keep_bad_bands)
    work = {"train": train_task, "predict": predict_task, "classical": classical_task}[task.kind]
    return work(task, scene)


def train_task(task: Task, scene: Scene) -> Result:
    """Train a network and save its bundle, unless it is only to show what training costs."""
    split = read_split(Path(task.split))
    options = comparable_options(task)
    colours = tuple((red, green, blue) for red, green, blue in task.colours)
    labels = LabelMap(split.labels, tuple(task.class_names), colours)
    dataset = make_dataset([scene], [labels], [split])
    baseline = start_peak(task.device)
    if task.steps is None and split.validation.any():
        trained, trials, stopped_by = train_until_no_gain(dataset, options)
        peak = max(trial["peak_bytes"] for trial in trials)
    else:
        trained, trials, stopped_by = train(dataset, options), [], "steps"
        peak = peak_bytes(task.device)
    if task.bundle:
        trained.bundle.save(Path(task.bundle), overwrite=True)
    seconds = [row["seconds"] for row in trained.log if row["step"] <= trained.best_step]
    return {
        "params": sum(tensor.numel() for tensor in trained.bundle.network().parameters()),
        "steps": trained.log[-1]["step"],
        "stopped_by": stopped_by,
        "trials": trials,
        "train_seconds": trained.seconds,
        "train_search_seconds": sum(trial["seconds"] for trial in trials) or trained.seconds,
        "train_seconds_to_best": max(seconds, default=trained.seconds),
        "peak_train_bytes": peak,
        "train_baseline_bytes": baseline,
        "train_oa_curve": [[row["seconds"], row["validation_oa"]] for row in trained.log],
        "train_oa_steps": [row["step"] for row in trained.log],
    }


def comparable_options(task: Task) -> TrainOptions:
    """How a contender is trained: in the regime of all, validation pixels held back to the end."""
    options = default_options(
        task.model, task.seed, steps=task.steps, device=task.device, max_memory=task.max_memory
    )
    return replace(
        options,
        materialised=task.storage == "materialised",
        propagation=1.0 if task.regime == "pseudo-labels" else 0.0,
        learn_validation=False,
    )


def train_until_no_gain(
    dataset: Dataset, options: TrainOptions
) -> tuple[Trained, list[Result], str]:
    """Train with twice the steps as long as the loss of the validation pixels falls.

    The learning rate follows one cycle over all steps, so longer training starts afresh.

    Returns
    -------
    trained : Trained
        Of the steps that gained last.
    trials : list of dict
        ``steps``, ``validation_loss``, ``seconds`` and ``peak_bytes`` of each training.
    stopped_by : str
        ``validation`` where more steps did not gain, ``cap`` where they were not tried.
    """
    kept: Trained | None = None
    trials: list[Result] = []
    least = float("inf")
    for doubling in range(MOST_DOUBLINGS + 1):
        steps = options.steps * 2**doubling
        start_peak(options.device)
        trained = train(dataset, replace(options, steps=steps))
        peak = peak_bytes(options.device)
        loss = validation_loss(trained.bundle, dataset, options)
        trials.append(
            {
                "steps": steps,
                "validation_loss": loss,
                "seconds": trained.seconds,
                "peak_bytes": peak,
            }
        )
        if kept is not None and loss > (1 - LEAST_GAIN) * least:
            return kept, trials, "validation"
        kept, least = trained, loss
    assert kept is not None
    return kept, trials, "cap"


def validation_loss(bundle: Bundle, dataset: Dataset, options: TrainOptions) -> float:
    """Mean cross-entropy of a model at the validation pixels of the scene."""
    scene, split = dataset.scenes[0], dataset.splits[0]
    predictor = Predictor(bundle, options.device)
    logits = predictor.whole_scene_logits(scene, max_memory=options.max_memory)
    scores = logits[:, split.validation].T.astype(np.float64)
    classes = split.labels[split.validation].astype(np.int64) - 1
    return float(-log_softmax(scores, axis=1)[np.arange(len(classes)), classes].mean())


def predict_task(task: Task, scene: Scene) -> Result:
    """Score every pixel of the scene; keep labels and logits."""
    bundle = load_model(Path(task.bundle))
    baseline = start_peak(task.device)
    score: Callable[[Scene], npt.NDArray[np.float32]]
    if task.storage == "scene":
        predictor = Predictor(bundle, task.device)
        score = partial(predictor.whole_scene_logits, max_memory=task.max_memory)
    else:
        materialised = task.storage == "materialised"
        patches = PatchPredictor(bundle, materialised=materialised, device=task.device)
        rows, cols, bands = (*scene.shape[:2], bundle.spec.bands)
        copies, words = 2, "the standardised scene and its padded copy"
        if materialised:
            copies += patches.patch**2
            words = f"{rows * cols:,} patches x {patches.patch} x {patches.patch} x {bands} bands"
        require_room(copies * rows * cols * bands * FLOAT, words, task)
        score = patches.whole_scene_logits
    with Stopwatch() as watch:
        logits = score(scene)
    peak = peak_bytes(task.device)
    if task.logits:
        np.save(task.logits, logits)
    np.save(task.map, labels_of(logits.argmax(0)))
    return {
        "predict_seconds": watch.seconds,
        "peak_predict_bytes": peak,
        "baseline_bytes": baseline,
    }


def classical_task(task: Task, scene: Scene) -> Result:
    """Fit a classical reference and map the scene, measured apart; on the CPU always."""
    task = replace(task, device="cpu")
    averaged = task.model.endswith("7x7")
    rows, cols = scene.shape[:2]
    copies = 2 if averaged else 1
    words = f"the standardised scene, {copies} times"
    require_room(copies * rows * cols * int(scene.good_bands.sum()) * FLOAT, words, task)
    split = read_split(Path(task.split))
    train_baseline = start_peak("cpu")
    bands = usable_bands([scene])
    cube, _ = read_standardised(scene, bands, scene_scaling([scene], [split], bands, False))
    with Stopwatch() as training:
        features = spectral_features(cube[0].permute(1, 2, 0).numpy(), averaged)
        classifier = fit(task.model.removesuffix("7x7"), features, split, task.seed)
    train_peak = peak_bytes("cpu")
    baseline = start_peak("cpu")
    with Stopwatch() as prediction:
        features = spectral_features(cube[0].permute(1, 2, 0).numpy(), averaged)
        labels = classifier.predict(features).reshape(rows, cols)
    np.save(task.map, labels.astype(np.uint16))
    return {
        "train_seconds": training.seconds,
        "peak_train_bytes": train_peak,
        "train_baseline_bytes": train_baseline,
        "predict_seconds": prediction.seconds,
        "peak_predict_bytes": peak_bytes("cpu"),
        "baseline_bytes": baseline,
    }


def require_room(needed: int, words: str, task: Task) -> None:
    """Refuse arrays over all pixels that do not fit into memory; ``words`` says what they are.

    Raises
    ------
    MemoryCeilingError
        They take more than is left under ``max_memory``, or than a share of what is free.
    """
    free = free_bytes(task.device)
    room, given = MEMORY_SHARE * free, f"{free / 1e9:.1f} GB are free"
    if task.max_memory is not None and task.device != "cuda":
        left = max(0, task.max_memory - rss_bytes())
        if left < room:
            room, given = left, f"{left / 1e9:.1f} GB are left under the ceiling"
    if needed > room:
        raise MemoryCeilingError(f"it would take {needed / 1e9:.1f} GB ({words}), {given}")


def free_bytes(device: str) -> int:
    """Memory that is free on a device, bytes."""
    return int(torch.cuda.mem_get_info()[0]) if device == "cuda" else free_memory()
