"""Curves of a training for TensorBoard, written while it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsifcn.cli.progress import OnStep
from hsifcn.core.errors import SettingError

if TYPE_CHECKING:
    from hsifcn.training.settings import TrainOptions

FOLDER = "tensorboard"  # in the run directory; each training has a folder of its own in it


def summary_writer() -> Any:
    """The class that writes event files.

    Raises
    ------
    SettingError
        TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingError(
            "--tensorboard needs the package tensorboard", "pip install 'hsifcn[tensorboard]'"
        ) from error
    return SummaryWriter


@contextmanager
def tensorboard_events(
    wanted: bool, run: Path, options: TrainOptions, progress: OnStep
) -> Iterator[OnStep]:
    """Give a function to call after each step, which calls ``progress`` and writes event files.

    Loss and learning rate of each step, OA of each evaluation; in the end the accuracies of the
    test pixels and the map.
    """
    if not wanted:
        yield progress
        return
    from hsifcn.training.optimiser import learning_rate

    folder = run / FOLDER / datetime.now().strftime("%Y-%m-%dT%H-%M-%S.%f")
    writer = summary_writer()(folder)

    def on_step(step: int, loss: float, validation_oa: float | None) -> None:
        writer.add_scalar("training/loss", loss, step)
        writer.add_scalar("training/learning rate", learning_rate(step - 1, options), step)
        if validation_oa is not None and step % options.evaluate_every == 0:
            writer.add_scalar("validation/OA", validation_oa, step)
        progress(step, loss, validation_oa)

    try:
        yield on_step
        write_result(writer, run, options.steps)
    finally:
        writer.close()
        if not (run / "metrics.json").exists() and not (run / "checkpoint").is_dir():
            shutil.rmtree(folder, ignore_errors=True)  # nothing was left to go on from
            for empty in (folder.parent, run):
                with suppress(OSError):
                    empty.rmdir()


def write_result(writer: Any, run: Path, step: int) -> None:
    """The accuracies of a finished run, where pixels test, and its map."""
    import numpy as np
    from PIL import Image

    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    for name in ("oa", "aa", "kappa"):
        if metrics[name] is not None:
            writer.add_scalar(f"test/{name}", metrics[name], step)
    with Image.open(run / "map.png") as picture:
        writer.add_image("map", np.asarray(picture.convert("RGB")), step, dataformats="HWC")
