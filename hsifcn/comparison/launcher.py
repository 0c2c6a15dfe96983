"""Starts the workers of a comparison: one fresh process a task, its result a JSON file.

A worker starts without the memory of the others, so that its peak is its own. It runs isolated: no
module is imported from the folder that the command was given in, and it ends when its parent does.
A result that is there already is taken up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hsifcn.comparison.experiment import Case, Contender, Experiment
from hsifcn.comparison.task import INTERRUPTED, NO_ROOM, Task
from hsifcn.core.errors import FailedError, MemoryCeilingError
from hsifcn.data.dataset import Dataset
from hsifcn.io.child import module_folders
from hsifcn.io.files import write_json
from hsifcn.training.settings import default_options

PROBE_STEPS = 50  # of training with materialised patches: as far as to the first evaluation


@dataclass(frozen=True)
class OpenCase:
    """A case of an experiment with its data set, and the folder of its tasks."""

    case: Case
    experiment: Experiment
    dataset: Dataset
    folder: Path


def result_path(stem: Path) -> Path:
    """Where the result of a task is written."""
    return stem.with_name(stem.name + ".result.json")


def run_task(task: Task, stem: Path) -> dict[str, Any]:
    """Run one task in a worker, unless its result is there already.

    Raises
    ------
    MemoryCeilingError
        The task does not fit into memory.
    FailedError
        The worker failed or was killed.
    """
    result = result_path(stem)
    if not result.exists():
        path = stem.with_name(stem.name + ".task.json")
        write_json(path, {"task": asdict(task), "result": str(result.absolute())})
        code, messages = run_worker(path.absolute())
        last = (messages.strip().splitlines() or ["no message"])[-1]
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code == NO_ROOM:
            raise MemoryCeilingError(last)
        if code:
            raise FailedError(f"killed by signal {-code}" if code < 0 else last)
    return dict(json.loads(result.read_text("utf-8")))


def run_worker(task_file: Path) -> tuple[int, str]:
    """Run a worker to its end; gives its exit code and what it wrote to stderr.

    The worker reads from a pipe that nobody writes to. When this process ends, however it ends, the
    pipe closes and the worker ends too.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(prefix="hsifcn-worker-") as empty:
        try:
            with subprocess.Popen(
                [sys.executable, "-P", "-m", "hsifcn.comparison.worker", str(task_file)],
                cwd=empty,
                env={**os.environ, "PYTHONPATH": module_folders()},
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            ) as worker:
                os.close(reading)
                try:
                    _, messages = worker.communicate()
                finally:
                    os.close(writing)  # ends a worker that is still at work
        except OSError as error:
            raise FailedError(f"no process could be started: {error}") from error
    return worker.returncode, messages


def run_seed(
    contender: Contender, name: str, seed: int, opened: OpenCase, steps: int | None
) -> dict[str, Any]:
    """Train and predict with one seed; gives what both workers measured.

    The contender whose weights it takes, if any, must have run before. Without ``steps`` it trains
    until there is no gain. Files in the case's folder are called ``<name>.safetensors``,
    ``<name>-map.npy``, ...

    Raises
    ------
    MemoryCeilingError
        A task does not fit into memory.
    FailedError
        A worker failed or was killed.
    """
    experiment, dataset, folder = opened.experiment, opened.dataset, opened.folder.absolute()
    task = Task(
        kind="predict",
        scene=str(Path(dataset.scenes[0].path).absolute()),
        storage=contender.storage,
        device=experiment.device,
        model=contender.model,
        split=str(folder / "split.npz"),
        map=str(folder / f"{name}-map.npy"),
        logits=str(folder / f"{name}-logits.npy"),
        seed=seed,
        regime=opened.case.regime,
        steps=steps,
        max_memory=experiment.max_memory,
        wavelengths=experiment.wavelengths and str(Path(experiment.wavelengths).absolute()),
        nodata=experiment.nodata,
        bands=experiment.bands,
        keep_bad_bands=experiment.keep_bad_bands,
        class_names=tuple(dataset.measured_names),
        colours=tuple(dataset.label_colours),
    )
    if contender.kind == "classical":
        return run_task(replace(task, kind="classical"), folder / name)
    source = f"{contender.weights_of}-{seed}" if contender.weights_of else name
    task = replace(task, bundle=str(folder / f"{source}.safetensors"))
    stem = folder / f"{source}-train"
    if contender.weights_of is None:
        trained = run_task(replace(task, kind="train"), stem)
    else:
        trained = json.loads(result_path(stem).read_text("utf-8"))
    if contender.storage == "materialised":
        task = replace(task, steps=trained["steps"])
        trained |= run_probe(task, folder / f"{name}-train")
    return {**trained, **run_task(task, folder / f"{name}-predict")}


def run_probe(task: Task, stem: Path) -> dict[str, Any]:
    """What training costs with materialised patches, from its first steps.

    Its weights would be those of the windowed form, byte for byte, so it is not trained to the end:
    memory is at its peak after the first step and evaluation, and the seconds of the first steps
    are extrapolated to all (``train_seconds_from_steps`` says from how many).
    """
    steps = task.steps or default_options(task.model).steps
    probe = min(PROBE_STEPS, steps)
    found = run_task(replace(task, kind="train", steps=probe, bundle=""), stem)
    return {
        "peak_train_bytes": found["peak_train_bytes"],
        "train_baseline_bytes": found["train_baseline_bytes"],
        "train_seconds": found["train_seconds"] * steps / probe,
        "train_seconds_from_steps": probe if probe < steps else None,
        "train_seconds_to_best": None,
        "train_oa_curve": None,
        "train_oa_steps": None,
    }
