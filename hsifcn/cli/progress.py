"""The progress bar of training, on stderr."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hsifcn.cli.options import Output

OnStep = Callable[[int, float, float | None], None]


@contextmanager
def training_progress(output: Output, steps: int) -> Iterator[OnStep]:
    """Give a ``training_steps.Progress`` that draws a bar: loss, validation OA, time left.

    Silent with ``--quiet`` or where stderr is no terminal. Ctrl-C stops between two steps, so that
    a resumed run agrees with an uninterrupted one to the byte; a second Ctrl-C stops at once.
    """
    before = signal.getsignal(signal.SIGINT)
    asked_to_stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked_to_stop.is_set():
            raise KeyboardInterrupt
        asked_to_stop.set()

    shown = sys.stderr.isatty() and not output.quiet
    in_lines = os.environ.get("HSIFCN_PROGRESS") == "lines"  # for programs, as the QGIS plugin
    with Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  validation OA {task.fields[oa]}"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=not shown,
    ) as bar:
        task = bar.add_task("training", total=steps, loss=float("nan"), oa="-")

        def progress(step: int, loss: float, validation_oa: float | None) -> None:
            # Between two steps here; before the first and after the last, Ctrl-C acts at once.
            signal.signal(signal.SIGINT, before if step == steps else ask)
            oa = "-" if validation_oa is None else f"{100 * validation_oa:.1f} %"
            bar.update(task, completed=step, loss=loss, oa=oa)
            if in_lines:
                output.message(f"progress {step}/{steps}")
            if asked_to_stop.is_set():
                raise KeyboardInterrupt

        try:
            yield progress
        finally:
            signal.signal(signal.SIGINT, before)
