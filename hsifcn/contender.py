"""One contender's training or prediction, in a process of its own: ``python -m hsifcn.contender``.

A fresh process starts without the memory of the others, so that its peak is its own. The job is a
JSON file; the result is another, written last.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hsifcn.bundle import load_bundle
from hsifcn.errors import HsifcnError
from hsifcn.io import open_scene
from hsifcn.measure import Stopwatch, peak_rss_bytes, reset_peak, rss_bytes
from hsifcn.models import MODELS, ModelSpec, build
from hsifcn.objectives import PATCH_BATCH
from hsifcn.patch_predict import PatchPredictor
from hsifcn.predict import Predictor
from hsifcn.run import read_split, write_json
from hsifcn.train import default_settings, train


def main(job_path: str) -> None:
    """Do the job described in a JSON file and write its result beside it."""
    job = json.loads(Path(job_path).read_text("utf-8"))
    task = {"train": train_job, "predict": predict_job}[job["task"]]
    scene = open_scene(job["scene"])
    baseline = rss_bytes()
    reset_peak()
    write_json(Path(job["result"]), {**task(job, scene), "baseline_bytes": baseline})


def train_job(job: dict[str, Any], scene: Any) -> dict[str, Any]:
    """Train a network and save its bundle."""
    from dataclasses import replace

    split = read_split(Path(job["split"]))
    settings = default_settings(job["model"], job["seed"], steps=job["steps"])
    settings = replace(settings, materialised=job["storage"] == "materialised")
    trained = train(
        [scene], [split], settings, class_names=job["class_names"], colours=job["colours"]
    )
    peak = peak_rss_bytes()
    trained.bundle.save(Path(job["bundle"]), overwrite=True)
    to_best = [row["seconds"] for row in trained.log if row["step"] <= trained.best_step]
    return {
        "params": sum(tensor.numel() for tensor in trained.bundle.network().parameters()),
        "train_seconds": trained.seconds,
        "train_seconds_to_best": max(to_best, default=trained.seconds),
        "peak_train_bytes": peak,
        "flops_train_step": train_step_flops(trained.bundle.spec, scene.shape[:2]),
        "train_oa_curve": [[row["seconds"], row["validation_oa"]] for row in trained.log],
    }


def predict_job(job: dict[str, Any], scene: Any) -> dict[str, Any]:
    """Score every pixel of the scene; keep labels and logits."""
    bundle = load_bundle(Path(job["bundle"]))
    predictor: Predictor | PatchPredictor
    if job["storage"] == "scene":
        predictor = Predictor(bundle)
    else:
        predictor = PatchPredictor(bundle, materialised=job["storage"] == "materialised")
    with Stopwatch() as watch:
        logits = predictor.whole_scene_logits(scene)
    peak = peak_rss_bytes()
    np.save(job["logits"], logits)
    return {
        "predict_seconds": watch.seconds,
        "peak_predict_bytes": peak,
        "patch_store_bytes": getattr(predictor, "stored_bytes", 0),
    }


def train_step_flops(spec: ModelSpec, size: tuple[int, int]) -> int:
    """FLOPs of one training step, forward and backward, by PyTorch's counter."""
    from torch.utils.flop_counter import FlopCounterMode

    patch = MODELS[spec.name].patch
    shape = (1, *size) if patch is None else (PATCH_BATCH, patch, patch)
    with torch.device("meta"):
        network = build(spec)
        x = torch.empty(shape[0], spec.bands, *shape[1:])
    with FlopCounterMode(display=False) as counter:
        network(x).sum().backward()
    return int(counter.get_total_flops())


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except HsifcnError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
