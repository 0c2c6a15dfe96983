"""A run: from scenes, labels and settings to a run directory with the model and its figures."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hsifcn.core.errors import ExistingOutputError, HsifcnError, UnreadableFileError
from hsifcn.core.process import (
    Stopwatch,
    keep_memory_together,
    machine,
    peak_rss_bytes,
    rss_bytes,
    versions,
)
from hsifcn.data.dataset import Inputs
from hsifcn.data.splits import Split
from hsifcn.evaluation.calibration import coverage_curve, expected_calibration_error
from hsifcn.evaluation.metrics import Accuracy, confusion_matrix
from hsifcn.inference.bundle import empty_network
from hsifcn.inference.predictor import Predictor
from hsifcn.io import write_label_png
from hsifcn.io.files import atomic_write, make_folder
from hsifcn.models import ModelSpec, geometry
from hsifcn.models.flops import flops_per_pixel
from hsifcn.report.quicklook import SPLIT_COLOURS, label_image, rgb_quicklook
from hsifcn.training.ensemble import train_ensemble
from hsifcn.training.refinement_selection import refine_run
from hsifcn.training.run_memory import bytes_of_maps, later_peak, less
from hsifcn.training.settings import Settings
from hsifcn.training.train import Trained
from hsifcn.training.training_job import Announce

LOG_COLUMNS = ("step", "loss", "lr", "validation_oa", "seconds")
CHECKPOINT_FILES = (
    "state.safetensors",
    "model.safetensors",
    "member-*.safetensors",
    "member-*.json",
)  # all that is ever put there


def prepare_run_directory(out: Path, *, overwrite: bool, resume: bool) -> bool:
    """Make a run directory ready; True where it holds a finished run to be left as it is.

    A ``checkpoint/`` of ours marks a run as unfinished. What an overwritten run left stays until
    its successor is done.

    Raises
    ------
    ExistingOutputError
        It holds a finished run, or things that are no run, and may not be overwritten.
    SettingError
        It cannot be made.
    """
    if out.exists() and not out.is_dir():
        raise ExistingOutputError(f"{out} is a file", "name a folder with -o")
    unfinished = is_checkpoint(out / "checkpoint")
    if resume and not unfinished and (out / "metrics.json").exists():
        return True
    if out.is_dir() and any(out.iterdir()) and not (overwrite or unfinished):
        raise ExistingOutputError(
            f"{out} exists", "add --overwrite, or choose another folder with -o"
        )
    if not resume:
        remove_checkpoint(out)
    make_folder(out / "checkpoint")
    return False


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds nothing but what an unfinished run leaves; never the user's own."""
    return folder.is_dir() and all(
        any(file.match(pattern) for pattern in (*CHECKPOINT_FILES, ".*.safetensors", ".*.json"))
        for file in folder.iterdir()
    )


def remove_checkpoint(out: Path) -> None:
    """Remove the checkpoint of a run, and with it the folders that are empty then."""
    folder = out / "checkpoint"
    if is_checkpoint(folder):
        shutil.rmtree(folder)
    with suppress(OSError):  # it holds a run
        out.rmdir()


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


@contextmanager
def removed_where_nothing_came_of_it(out: Path) -> Iterator[None]:
    """Remove a run directory whose training ended before it left anything to go on from."""
    try:
        yield
    except (HsifcnError, KeyboardInterrupt):
        if not any((out / "checkpoint").glob("*")):
            remove_checkpoint(out)
        raise


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


def split_record(inputs: Inputs, spec: ModelSpec) -> dict[str, Any]:
    """What the split was and how much leaks across it, all scenes together."""
    splits = inputs.splits
    field = geometry(spec).receptive_field
    return {
        "recipe": splits[0].recipe,
        "seed": splits[0].seed,
        "digest": "+".join(split.digest for split in splits),
        "n_train": sum(split.n_train for split in splits),
        "n_validation": sum(split.n_validation for split in splits),
        "n_test": sum(split.n_test for split in splits),
        "leakage": pooled_leakage(splits, field),
    }


def pooled_leakage(splits: Sequence[Split], receptive_field: int | None) -> dict[str, Any]:
    """Leakage over all scenes: shares weighted by test pixels."""
    reports = [split.leakage(receptive_field) for split in splits]
    weights = np.array([split.n_test for split in splits], float)
    weights /= weights.sum()

    def pool(values: Sequence[float]) -> float:
        return float(np.dot(weights, values))

    return {
        "test_touching": pool([report["test_touching"] for report in reports]),
        "test_within": {
            reach: pool([report["test_within"][reach] for report in reports])
            for reach in reports[0]["test_within"]
        },
        "test_in_shared_fields": pool([report["test_in_shared_fields"] for report in reports]),
        "receptive_field_px": receptive_field,
    }


def accuracy_record(inputs: Inputs, maps: Sequence[npt.NDArray[np.integer[Any]]]) -> dict[str, Any]:
    """Accuracy at the test pixels of all scenes."""
    n_classes = len(inputs.class_names)
    confusion = sum(
        confusion_matrix(np.where(split.test, split.labels, 0), labels, n_classes)
        for split, labels in zip(inputs.splits, maps, strict=True)
    )
    n_train = np.sum([split.n_train_per_class(n_classes) for split in inputs.splits], axis=0)
    return Accuracy.from_confusion(np.asarray(confusion)).as_dict(
        inputs.class_names, n_train.tolist()
    )


def calibration_record(
    inputs: Inputs,
    mapped: Sequence[tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]],
    temperature: float,
) -> dict[str, Any]:
    """How far the probabilities can be relied on, at the test pixels of all scenes."""
    confidence = [sure[split.test] for (_, sure), split in zip(mapped, inputs.splits, strict=True)]
    correct = [
        (labels == split.labels)[split.test]
        for (labels, _), split in zip(mapped, inputs.splits, strict=True)
    ]
    sure, right = np.concatenate(confidence), np.concatenate(correct)
    return {
        "temperature": temperature,
        "expected_calibration_error": expected_calibration_error(sure, right),
        "coverage": coverage_curve(sure, right),
    }


def write_run(
    out: Path,
    inputs: Inputs,
    trained: Trained,
    label_map: npt.NDArray[np.uint16],
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
) -> None:
    """Fill a run directory; ``metrics.json`` is written last."""
    trained.bundle.save(out / "model.safetensors", overwrite=True)
    for old in out.glob("split-[0-9]*.npz"):  # of a run of more scenes that this one replaces
        old.unlink()
    for number, split in enumerate(inputs.splits, start=1):
        name = "split.npz" if number == 1 else f"split-{number}.npz"
        write_split(out / name, split, overwrite=True)
    write_json(out / "config.json", {**config, "settings": trained.bundle.settings})
    with (
        atomic_write(out / "log.csv", overwrite=True) as temporary,
        temporary.open("w", newline="") as file,
    ):
        writer = csv.DictWriter(file, LOG_COLUMNS)
        writer.writeheader()
        writer.writerows(trained.log)
    write_label_png(out / "map.png", label_map, inputs.colours, overwrite=True)
    # Loads matplotlib: not before training has given its memory back.
    from hsifcn.report import write_run_report

    split = inputs.splits[0]
    write_run_report(
        out / "report.html",
        metrics=metrics,
        log=trained.log,
        images={
            "quicklook": rgb_quicklook(inputs.scenes[0]),
            "truth": label_image(split.labels, inputs.colours),
            "map": label_image(label_map, inputs.colours),
            "split": label_image(
                split.train + 2 * split.validation + 3 * split.test, tuple(SPLIT_COLOURS.values())
            ),
        },
    )
    write_json(out / "metrics.json", metrics)
    remove_checkpoint(out)


def write_split(path: Path, split: Split, *, overwrite: bool) -> None:
    """Write the masks, labels and recipe of a split as ``.npz``."""
    with atomic_write(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            train=split.train,
            validation=split.validation,
            test=split.test,
            labels=split.labels,
            recipe=np.array(split.recipe),
            seed=np.array(split.seed),
        )


def read_split(path: Path) -> Split:
    """Read a split that ``write_split`` wrote.

    Raises
    ------
    UnreadableFileError
        It is missing, damaged or no split.
    SplitError
        Its masks contradict each other.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Split(
                labels=arrays["labels"].astype(np.uint16),
                train=arrays["train"].astype(bool),
                validation=arrays["validation"].astype(bool),
                test=arrays["test"].astype(bool),
                recipe=str(arrays["recipe"]),
                seed=int(arrays["seed"]),
            )
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path} does not exist", "check the path") from error
    except (
        *(OSError, ValueError, TypeError, KeyError, EOFError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise UnreadableFileError(f"{path} is no split", "make one: hsifcn split") from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON, atomically, replacing what was there."""
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", "utf-8")


def printable(name: str) -> str:
    """A file's name with what is not valid UTF-8 replaced, for texts."""
    return name.encode("utf-8", "replace").decode("utf-8")
