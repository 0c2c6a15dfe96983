"""Progress bars of training and of many scenes, on stderr."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hsifcn.cli.options import Output
from hsifcn.core.formats import about

LINE_S = 10.0  # seconds between two lines, where no bar is drawn

OnStep = Callable[[int, float, float | None], None]


@contextmanager
def training_progress(output: Output, steps: int) -> Iterator[OnStep]:
    """Give a ``training_steps.Progress`` that draws a bar: loss, validation OA, time left.

    Silent with ``--quiet`` or where stderr is no terminal. Ctrl-C and SIGTERM stop between two
    steps, so that a resumed run agrees with an uninterrupted one to the byte; a second one stops at
    once.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
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
            # Between two steps here; before the first and after the last, signals act at once.
            for number, handler in before.items():
                signal.signal(number, handler if step == steps else ask)
            oa = "-" if validation_oa is None else f"{100 * validation_oa:.1f} %"
            bar.update(task, completed=step, loss=loss, oa=oa)
            if in_lines:
                output.message(f"progress {step}/{steps}")
            if asked_to_stop.is_set():
                raise KeyboardInterrupt

        try:
            yield progress
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def cause_line(entry: Mapping[str, Any]) -> str:
    """A scene of a campaign, what went wrong with it, and on which worker of a cluster."""
    cause: str = entry["cause"]
    line = cause if entry["scene"] in cause else f"{entry['scene']}: {cause}"
    worker = entry["worker"] or ""
    return f"{line} (worker {worker})" if "://" in worker else line


OnScene = Callable[[dict[str, Any], int, int], None]


@contextmanager
def scenes_progress(output: Output) -> Iterator[OnScene]:
    """Give a function to call for each scene that is finished; it draws a bar and tells failures.

    Without a terminal a line is written now and then instead; none with ``--quiet``.
    """
    shown = sys.stderr.isatty() and not output.quiet
    in_lines = os.environ.get("HSIFCN_PROGRESS") == "lines"
    started = told = time.monotonic()
    first = 0
    with Progress(
        TextColumn("scenes"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=not shown,
    ) as bar:
        task = bar.add_task("scenes", total=None, failed=0)
        failed = 0

        def on_scene(entry: dict[str, Any], count: int, total: int) -> None:
            nonlocal failed, told, first
            first = first or count
            failed += entry["status"] == "failed"
            bar.update(task, total=total, completed=count, failed=failed)
            if entry["status"] == "failed":
                output.message(f"failed: {cause_line(entry)}")
            else:
                output.detail(f"{count}/{total}: {entry['scene']}: {entry['status']}")
            if in_lines:
                output.message(f"progress {count}/{total}")
            elif not shown and time.monotonic() - told > LINE_S:
                told = time.monotonic()
                left = (total - count) * (told - started) / (count - first + 1)
                output.message(f"{count} of {total} scenes, {failed} failed; {about(left)} left")

        yield on_scene
