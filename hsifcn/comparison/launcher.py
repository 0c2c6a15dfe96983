"""Jobs of a comparison: each a fresh process, its result a JSON file that a resumed run finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hsifcn.comparison.plan import Contender, Plan
from hsifcn.core.errors import FailedError
from hsifcn.data.dataset import Inputs
from hsifcn.io.files import write_json
from hsifcn.training.settings import default_settings

PROBE_STEPS = 50  # of training with materialised patches: as far as to the first validation


def result_path(stem: Path) -> Path:
    """Where the result of a job is written."""
    return stem.with_name(stem.name + ".result.json")


def run_job(job: dict[str, Any], stem: Path) -> dict[str, Any]:
    """Run one job in a fresh process, unless its result is there already.

    Raises
    ------
    FailedError
        The process failed or was killed.
    """
    result = result_path(stem)
    if not result.exists():
        path = stem.with_name(stem.name + ".job.json")
        write_json(path, {**job, "result": str(result)})
        done = subprocess.run(
            [sys.executable, "-m", "hsifcn.comparison.worker", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            reason = f"killed by signal {-done.returncode}" if done.returncode < 0 else last
            raise FailedError(reason)
    return dict(json.loads(result.read_text("utf-8")))


def run_seed(
    contender: Contender, own: str, seed: int, inputs: Inputs, plan: Plan, folder: Path
) -> dict[str, Any]:
    """Train and predict with one seed; returns what both processes measured.

    ``own`` names the files in ``folder``: ``<own>.safetensors``, ``<own>-map.npy``, ...

    Raises
    ------
    FailedError
        A process failed or was killed, or the weights to be taken are not there.
    """
    job = {
        "scene": inputs.scenes[0].path,
        "wavelengths": plan.wavelengths,
        "bands": plan.bands,
        "keep_bad_bands": plan.keep_bad_bands,
        "split": str(folder / "split.npz"),
        "model": contender.model,
        "storage": contender.storage,
        "seed": seed,
        "steps": plan.steps_of(contender),
        "device": plan.device,
        "max_memory": plan.max_memory,
        "class_names": inputs.class_names,
        "colours": inputs.colours,
        "map": str(folder / f"{own}-map.npy"),
        "logits": str(folder / f"{own}-logits.npy"),
    }
    if contender.kind == "classical":
        return run_job({**job, "task": "classical"}, folder / own)
    if contender.weights_of is None:
        bundle = folder / f"{own}.safetensors"
        trained = run_job({**job, "task": "train", "bundle": str(bundle)}, folder / f"{own}-train")
    else:
        bundle = folder / f"{contender.weights_of}-{seed}.safetensors"
        stem = folder / f"{contender.weights_of}-{seed}-train"
        if not result_path(stem).exists():
            raise FailedError(f"there are no weights: {contender.weights_of} failed")
        trained = json.loads(result_path(stem).read_text("utf-8"))
        if contender.storage == "materialised":
            trained |= run_probe(job, folder / f"{own}-train")
    predict = {**job, "task": "predict", "bundle": str(bundle)}
    return {**trained, **run_job(predict, folder / f"{own}-predict")}


def run_probe(job: dict[str, Any], stem: Path) -> dict[str, Any]:
    """What training costs with materialised patches, from its first steps.

    Its weights would be those of the windowed form, byte for byte, so it is not trained to the end:
    memory is at its peak after the first step and validation, and the seconds of the first steps
    are carried on to all of them (``train_seconds_from_steps`` says from how many).
    """
    steps = job["steps"] or default_settings(job["model"]).steps
    probe = min(PROBE_STEPS, steps)
    found = run_job({**job, "task": "train", "steps": probe, "bundle": None}, stem)
    return {
        "peak_train_bytes": found["peak_train_bytes"],
        "train_baseline_bytes": found["train_baseline_bytes"],
        "train_seconds": found["train_seconds"] * steps / probe,
        "train_seconds_from_steps": probe if probe < steps else None,
        "train_seconds_to_best": None,
        "train_oa_curve": None,
    }
