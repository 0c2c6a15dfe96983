"""One contender's training or prediction, in a process of its own: ``python -m hsifcn.contender``.

A fresh process starts without the memory of the others, so that its peak is its own. The job is a
JSON file; the result is another, written last.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.comparison.baselines import fit, spectral_features
from hsifcn.core.errors import HsifcnError
from hsifcn.core.process import Stopwatch, peak_bytes, start_peak
from hsifcn.core.scene import Scene, labels_of
from hsifcn.data.bands import with_chosen_bands
from hsifcn.data.splits import read_split
from hsifcn.io import open_scene
from hsifcn.io.files import write_json
from hsifcn.training.settings import default_settings
from hsifcn.training.train import train

Job = dict[str, Any]


def main(job_path: str) -> None:
    """Do the job described in a JSON file and write its result where the job says."""
    job = json.loads(Path(job_path).read_text("utf-8"))
    task = {"train": train_job, "predict": predict_job, "classical": classical_job}[job["task"]]
    scene = open_scene(job["scene"], wavelengths=job.get("wavelengths"))
    scene = with_chosen_bands(scene, job.get("bands"), keep_bad=job.get("keep_bad_bands", False))
    write_json(Path(job["result"]), task(job, scene))


def train_job(job: Job, scene: Scene) -> Job:
    """Train a network and save its bundle, unless it is only to show what training costs."""
    split = read_split(Path(job["split"]))
    settings = default_settings(job["model"], job["seed"], steps=job["steps"])
    # All contenders learn from the labels alone: what unlabelled pixels add is another question.
    settings = replace(settings, materialised=job["storage"] == "materialised", propagation=0.0)
    baseline = start_peak(job["device"])
    trained = train(
        [scene], [split], settings,
        class_names=job["class_names"], colours=job["colours"], device=job["device"],
        max_memory=job.get("max_memory"),
    )  # fmt: skip
    peak = peak_bytes(job["device"])
    if job["bundle"]:
        trained.bundle.save(Path(job["bundle"]), overwrite=True)
    looks = [row["seconds"] for row in trained.log if row["step"] <= trained.best_step]
    return {
        "params": sum(tensor.numel() for tensor in trained.bundle.network().parameters()),
        "train_seconds": trained.seconds,
        "train_seconds_to_best": max(looks, default=trained.seconds),
        "peak_train_bytes": peak,
        "train_baseline_bytes": baseline,
        "train_oa_curve": [[row["seconds"], row["validation_oa"]] for row in trained.log],
    }


def predict_job(job: Job, scene: Scene) -> Job:
    """Score every pixel of the scene; keep labels and logits."""
    from hsifcn.comparison.baselines import PatchPredictor
    from hsifcn.inference.bundle import load_model
    from hsifcn.inference.predictor import Predictor

    bundle, device = load_model(Path(job["bundle"])), job["device"]
    baseline = start_peak(device)
    score: Callable[[Scene], npt.NDArray[np.float32]]
    if job["storage"] == "scene":
        predictor = Predictor(bundle, device)
        score = partial(predictor.whole_scene_logits, max_memory=job.get("max_memory"))
    else:
        materialised = job["storage"] == "materialised"
        score = PatchPredictor(bundle, materialised=materialised, device=device).whole_scene_logits
    with Stopwatch() as watch:
        logits = score(scene)
    peak = peak_bytes(device)
    if job["logits"]:
        np.save(job["logits"], logits)
    np.save(job["map"], labels_of(logits.argmax(0)))
    return {
        "predict_seconds": watch.seconds,
        "peak_predict_bytes": peak,
        "baseline_bytes": baseline,
    }


def classical_job(job: Job, scene: Scene) -> Job:
    """Fit a classical reference and map the scene, measured apart; on the CPU always."""
    from hsifcn.training.scenes import read_standardised, scene_scaling, usable_bands

    split = read_split(Path(job["split"]))
    train_baseline = start_peak("cpu")
    bands = usable_bands([scene])
    cube, _ = read_standardised(scene, bands, scene_scaling([scene], [split], bands, False))
    averaged = job["model"].endswith("7x7")
    with Stopwatch() as training:
        features = spectral_features(cube[0].permute(1, 2, 0).numpy(), averaged)
        classifier = fit(job["model"].removesuffix("7x7"), features, split, job["seed"])
    train_peak = peak_bytes("cpu")
    baseline = start_peak("cpu")
    with Stopwatch() as prediction:
        features = spectral_features(cube[0].permute(1, 2, 0).numpy(), averaged)
        labels = classifier.predict(features).reshape(scene.shape[:2])
    np.save(job["map"], labels.astype(np.uint16))
    return {
        "train_seconds": training.seconds,
        "peak_train_bytes": train_peak,
        "train_baseline_bytes": train_baseline,
        "predict_seconds": prediction.seconds,
        "peak_predict_bytes": peak_bytes("cpu"),
        "baseline_bytes": baseline,
    }


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except HsifcnError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
