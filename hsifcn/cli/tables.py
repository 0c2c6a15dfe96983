"""Results for people: tables on stdout."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

NAME_WIDTH = 60  # characters of the first column


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction of 1 in per cent; a dash for none."""
    return "-" if fraction is None else f"{100 * fraction:.{digits}f}"


def megabytes(size: float | None) -> str:
    """Bytes in MB."""
    return "-" if size is None else f"{size / 1e6:,.0f}"


def seconds(value: float | None) -> str:
    """Seconds with three figures or so."""
    return "-" if value is None else f"{value:.3f}" if value < 1 else f"{value:.1f}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text: first column to the left, cut where very long, the others to the right."""
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        first = number == 0
        grid.add_column(
            column,
            justify="left" if first else "right",
            max_width=NAME_WIDTH if first else None,
            no_wrap=True,
        )
    for row in rows:
        grid.add_row(*row)
    text = io.StringIO()
    console = Console(file=text, width=400, color_system=None, markup=False, emoji=False)
    console.print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def facts(values: Mapping[str, str]) -> str:
    """Names and values below each other."""
    width = max(len(name) for name in values)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in values.items())


def interval(bounds: Sequence[float] | None, digits: int = 2) -> str:
    """An interval of fractions of 1 in per cent, in brackets behind a value; nothing for none."""
    if bounds is None:
        return ""
    low, high = (percent(bound, digits) for bound in bounds)
    return f" ({low} to {high})"


def per_class(
    metrics: Mapping[str, Any], intervals: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """Accuracy a class in per cent, with intervals of recall and precision where there are some."""
    rows = []
    for name, row in metrics["per_class"].items():
        bounds = intervals[name] if intervals else {}
        rows.append(
            (
                name,
                "-" if row["n_train"] is None else str(row["n_train"]),
                str(row["n_test"]),
                *(
                    percent(row[key], 1) + interval(bounds.get(key), 1)
                    for key in ("recall", "precision")
                ),
                *(percent(row[key], 1) for key in ("f1", "iou")),
            )
        )
    return table(("class", "train", "test", "recall %", "precision %", "F1 %", "IoU %"), rows)


def about(seconds: float) -> str:
    """A time that is expected: ``about 40 s``, ``about 5 min``."""
    if seconds < 1:
        return "less than a second"
    return f"about {seconds:.0f} s" if seconds < 180 else f"about {seconds / 60:.0f} min"
