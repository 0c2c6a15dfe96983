"""Jobs of a comparison: each a fresh process, its result a JSON file that a resumed run finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hsifcn.comparison import Plan
from hsifcn.contenders import Contender
from hsifcn.errors import FailedError
from hsifcn.inputs import Inputs
from hsifcn.run import write_json


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
            [sys.executable, "-m", "hsifcn.contender", str(path)],
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
    """
    job = {
        "scene": inputs.scenes[0].path,
        "split": str(folder / "split.npz"),
        "model": contender.model,
        "storage": contender.storage,
        "seed": seed,
        "steps": plan.steps_of(contender),
        "class_names": inputs.class_names,
        "colours": inputs.colours,
        "map": str(folder / f"{own}-map.npy"),
        "logits": str(folder / f"{own}-logits.npy"),
    }
    if contender.kind == "classical":
        return run_job({**job, "task": "classical"}, folder / own)
    if contender.weights_of is None or contender.storage == "materialised":
        bundle = str(folder / f"{own}.safetensors")
        trained = run_job({**job, "task": "train", "bundle": bundle}, folder / f"{own}-train")
    else:
        bundle = str(folder / f"{contender.weights_of}-{seed}.safetensors")
        stem = folder / f"{contender.weights_of}-{seed}-train"
        if not result_path(stem).exists():
            raise FailedError(f"there are no weights: {contender.weights_of} failed")
        trained = json.loads(result_path(stem).read_text("utf-8"))
    predicted = run_job({**job, "task": "predict", "bundle": bundle}, folder / f"{own}-predict")
    return {**trained, **predicted}
