"""The directory of a run: made ready, filled, and cleared of its checkpoint."""

from __future__ import annotations

import csv
import ctypes
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import ExistingOutputError, HsifcnError, SettingError, UnreadableFileError
from hsifcn.data.dataset import Dataset
from hsifcn.data.splits import write_split
from hsifcn.io import write_map_picture
from hsifcn.io.files import (
    atomic_write,
    cannot_write,
    make_folder,
    remove_abandoned,
    sync,
    temporary_beside,
    write_json,
)
from hsifcn.training.train import Trained

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOG_COLUMNS = ("step", "loss", "lr", "validation_oa", "seconds")
CHECKPOINT_FILES = (
    "state.safetensors",
    "model.safetensors",
)  # all that is ever put there

RUN_FILES = (
    *("metrics.json", "model.safetensors", "split.npz", "split-[0-9]*.npz", "config.json"),
    *("log.csv", "map.png", "report.html", "checkpoint"),
)  # what a run consists of; all else in its directory is the user's
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's fcntl.h and fs.h

FIGURES = {
    *("model", "params", "flops_per_pixel", "split", "oa", "aa", "kappa", "per_class"),
    *("train_seconds", "predict_seconds", "peak_rss_bytes"),
}  # that metrics.json of a finished run holds at least


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
    remove_abandoned(out.resolve())
    unfinished = is_checkpoint(out / "checkpoint")
    if resume and not unfinished and (out / "metrics.json").exists():
        return True
    if out.is_dir() and any(out.iterdir()) and not (overwrite or unfinished):
        raise ExistingOutputError(
            f"{out} exists", "add --overwrite, or choose another folder with -o"
        )
    if unfinished and not resume:
        shutil.rmtree(out / "checkpoint")  # the folder above stays: the lock is on it
    make_folder(out / "checkpoint")
    return False


@contextmanager
def lock_run_directory(out: Path) -> Iterator[None]:
    """Keep other trainings out of a run directory, which is made where there is none.

    The lock is the system's (``flock``), so it ends with the process, however that ends.

    Raises
    ------
    SettingError
        Another training works in the directory, or it cannot be made.
    """
    if fcntl is None or (out.exists() and not out.is_dir()):
        yield
        return
    descriptor = _lock(out)
    while not (out.is_dir() and os.path.samestat(os.fstat(descriptor), os.stat(out))):
        os.close(descriptor)  # a training that failed removed the folder meanwhile
        descriptor = _lock(out)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(out: Path) -> int:
    """Make a folder where there is none, and lock it; gives its descriptor."""
    make_folder(out)
    descriptor = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SettingError(
            f"another training works in {out}", "wait for it, or choose another folder with -o"
        ) from error
    return descriptor


def read_metrics(out: Path) -> dict[str, Any]:
    """The figures of a finished run.

    Raises
    ------
    UnreadableFileError
        The file is damaged.
    """
    path = out / "metrics.json"
    try:
        metrics = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableFileError(f"{path} is damaged", "start anew with --overwrite") from error
    if not isinstance(metrics, dict) or not metrics.keys() >= FIGURES:
        raise UnreadableFileError(f"{path} is damaged", "start anew with --overwrite")
    return metrics


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


@contextmanager
def remove_if_nothing_was_left(out: Path) -> Iterator[None]:
    """Remove a run directory whose training ended before it left anything to go on from."""
    try:
        yield
    except (HsifcnError, KeyboardInterrupt):
        if not any((out / "checkpoint").glob("*")):
            remove_checkpoint(out)
        raise


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """All that the files of a run are written from.

    Attributes
    ----------
    dataset : Dataset
    trained : Trained
    mapped : sequence of (ndarray, ndarray)
        Label map (rows, cols), uint16, and confidence (rows, cols), float32, of each scene.
    metrics, config : mapping
        Of ``metrics.json`` and ``config.json``.
    """

    dataset: Dataset
    trained: Trained
    mapped: Sequence[tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]]
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]


def write_run(out: Path, run: FinishedRun) -> None:
    """Fill a run directory; ``metrics.json`` is written last and marks it as finished.

    A finished run that is replaced stays whole until this one is.
    """
    with folder_to_fill(out) as folder:
        write_model_and_splits(folder, run)
        write_figures(folder, run, name=out)
        write_json(folder / "metrics.json", run.metrics)
    remove_checkpoint(out)


@contextmanager
def folder_to_fill(out: Path) -> Iterator[Path]:
    """Give the run directory; or, where it holds a finished run, one that takes its place.

    Both are exchanged in one step where the system can, so that a process that is killed leaves the
    old run or the new one. What the user put beside the old run is in both.
    """
    if not (out / "metrics.json").exists():
        yield out
        return
    target = out.resolve()
    staged = temporary_beside(target)
    try:
        shutil.copytree(
            target, staged, copy_function=link_or_copy, symlinks=True,
            ignore=lambda folder, names: [
                name for name in names
                if Path(folder) == target and any(Path(name).match(own) for own in RUN_FILES)
            ],
        )  # fmt: skip
        yield staged
        exchange(staged, target)
        sync(target.parent)
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def link_or_copy(source: str, target: str) -> None:
    """Make a hard link, or a copy where there are none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def exchange(staged: Path, target: Path) -> None:
    """Put one folder in the place of another; the old one is then where the new one was.

    Systems other than Linux cannot do so in one step: there the old one is moved away first.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        paths = os.fsencode(staged), os.fsencode(target)
        done = libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE)
        if done == 0:
            return
    old = staged.with_name(f"{staged.name}.old")
    target.rename(old)
    staged.rename(target)
    shutil.rmtree(old)


def write_model_and_splits(folder: Path, run: FinishedRun) -> None:
    """Write model, splits, settings and log."""
    run.trained.bundle.save(folder / "model.safetensors", overwrite=True)
    for old in folder.glob("split-[0-9]*.npz"):  # of an unfinished run of more scenes
        old.unlink()
    for number, split in enumerate(run.dataset.splits, start=1):
        name = "split.npz" if number == 1 else f"split-{number}.npz"
        write_split(folder / name, split, overwrite=True)
    write_json(folder / "config.json", {**run.config, "settings": run.trained.bundle.settings})
    with (
        atomic_write(folder / "log.csv", overwrite=True) as temporary,
        temporary.open("w", newline="") as file,
    ):
        writer = csv.DictWriter(file, LOG_COLUMNS)
        writer.writeheader()
        writer.writerows(run.trained.log)


def write_figures(folder: Path, run: FinishedRun, name: Path) -> None:
    """Write the picture of the map and the page, which calls the run directory by ``name``."""
    from hsifcn.inference.predictor import Predictor, packed_probabilities

    # Loads matplotlib: not before training has given its memory back.
    from hsifcn.report import MappedScene, write_run_report

    dataset = run.dataset
    write_map_picture(
        folder / "map.png",
        run.mapped[0][0],
        dataset.class_names,
        dataset.colours,
        dataset.scenes[0].grid,
        overwrite=True,
    )
    predictor = Predictor(run.trained.bundle)
    scenes = [
        MappedScene(
            scene,
            split.labels,
            labels,
            split.train + 2 * split.validation + 3 * split.test,
            confidence,
            packed_probabilities(predictor, scene),
        )
        for scene, split, (labels, confidence) in zip(
            dataset.scenes, dataset.splits, run.mapped, strict=True
        )
    ]
    write_run_report(
        folder / "report.html", metrics=run.metrics, log=run.trained.log, scenes=scenes, run=name
    )
