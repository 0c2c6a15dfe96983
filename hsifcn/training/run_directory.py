"""The directory of a run: made ready, filled, and cleared of its checkpoint."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import ExistingOutputError, HsifcnError, SettingError, UnreadableFileError
from hsifcn.data.dataset import Dataset
from hsifcn.data.splits import write_split
from hsifcn.io import write_map_picture
from hsifcn.io.files import atomic_write, make_folder, write_json
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
    make_folder(out)
    descriptor = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingError(
                f"another training works in {out}", "wait for it, or choose another folder with -o"
            ) from error
        yield
    finally:
        os.close(descriptor)


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


def write_run(
    out: Path,
    dataset: Dataset,
    trained: Trained,
    mapped: Sequence[tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]],
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
) -> None:
    """Fill a run directory; ``metrics.json`` is written last and marks it as finished.

    ``mapped`` holds the label map of each scene and its confidence.

    That of a run that is replaced goes first, so that old figures never stand beside a new model.
    """
    (out / "metrics.json").unlink(missing_ok=True)
    trained.bundle.save(out / "model.safetensors", overwrite=True)
    for old in out.glob("split-[0-9]*.npz"):  # of a run of more scenes that this one replaces
        old.unlink()
    for number, split in enumerate(dataset.splits, start=1):
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
    write_map_picture(
        out / "map.png",
        mapped[0][0],
        dataset.class_names,
        dataset.colours,
        dataset.scenes[0].grid,
        overwrite=True,
    )
    # Loads matplotlib: not before training has given its memory back.
    from hsifcn.report import MappedScene, write_run_report

    scenes = [
        MappedScene(
            scene,
            split.labels,
            labels,
            split.train + 2 * split.validation + 3 * split.test,
            confidence,
        )
        for scene, split, (labels, confidence) in zip(
            dataset.scenes, dataset.splits, mapped, strict=True
        )
    ]
    write_run_report(out / "report.html", metrics=metrics, log=trained.log, scenes=scenes)
    write_json(out / "metrics.json", metrics)
    remove_checkpoint(out)
