"""Results for people: tables on stdout."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from hsifcn.core import formats

WIDTH = 80  # characters of a line
GAP = 3  # between two columns
NAME_WIDTH = 16  # of the first column at least


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text within 80 columns.

    The first column stands to the left and is cut where the line would be too long; the others
    stand to the right.
    """
    texts = [columns, *rows]
    others = sum(GAP + max(map(cell_len, column)) for column in list(zip(*texts, strict=True))[1:])
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        first = number == 0
        grid.add_column(
            column,
            justify="left" if first else "right",
            max_width=max(NAME_WIDTH, WIDTH - others) if first else None,
            no_wrap=True,
        )
    for row in rows:
        grid.add_row(*row)
    text = io.StringIO()
    console = Console(file=text, width=400, color_system=None, markup=False, emoji=False)
    console.print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def facts(values: Mapping[str, str]) -> str:
    """Names and values below each other, long values wrapped."""
    width = max(len(name) for name in values) + 2
    return "\n".join(
        textwrap.fill(
            f"{name:<{width}}{value}", WIDTH, subsequent_indent=" " * width,
            break_long_words=False, break_on_hyphens=False,
        )
        for name, value in values.items()
    )  # fmt: skip


def interval(bounds: Sequence[float] | None, digits: int = 2) -> str:
    """An interval in per cent, in brackets behind its value; nothing where there is none."""
    return "" if bounds is None else f" ({formats.percent_interval(bounds, digits)})"


def per_class(
    metrics: Mapping[str, Any], intervals: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """Accuracy a class in per cent, with intervals of recall and precision where there are some.

    Codes are shown where they are not 1, 2, ...
    """
    counts: tuple[str, ...] = ("train", "test")
    if all(row["n_train"] is None for row in metrics["per_class"].values()):
        counts = ("test",)
    rows = []
    codes = metrics.get("class_codes") or ()
    counted = list(codes) == list(range(1, len(metrics["per_class"]) + 1))
    shown = {} if counted else dict(zip(metrics["per_class"], codes, strict=False))
    for name, row in metrics["per_class"].items():
        bounds = intervals[name] if intervals else {}
        rows.append(
            (
                name,
                *([str(shown.get(name, ""))] if shown else []),
                *(formats.count(row[f"n_{part}"]) for part in counts),
                *(
                    formats.percent(row[key], 1) + brackets(bounds.get(key))
                    for key in ("recall", "precision")
                ),
                *(formats.percent(row[key], 1) for key in ("f1", "iou")),
            )
        )
    columns = ("class", "code", *counts) if shown else ("class", *counts)
    return table((*columns, "recall %", "precision %", "F1 %", "IoU %"), rows)


def brackets(bounds: Sequence[float] | None) -> str:
    """``(97.8-98.6)``, an interval in per cent for a narrow column; nothing where there is none."""
    if bounds is None:
        return ""
    return f" ({formats.percent(bounds[0], 1)}-{formats.percent(bounds[1], 1)})"


def paragraph(text: str) -> str:
    """A sentence wrapped to the width of the tables."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def counts_table(
    counts: Sequence[int], class_names: Sequence[str], hectares: Sequence[float] | None = None
) -> str:
    """Pixels left unclassified, and of each class; with hectares, these too and a total."""
    total = sum(counts)
    names = ("unclassified", *class_names)
    areas = hectares or [0.0] * len(names)
    rows = [
        [name, f"{count:,}", formats.percent(count / total, 1), f"{area:,.1f}"]
        for name, count, area in zip(names, counts, areas, strict=True)
        if count
    ]
    if hectares is None:
        return table(("class", "pixels", "%"), [row[:3] for row in rows])
    rows.append(["total", f"{total:,}", "100.0", f"{sum(areas):,.1f}"])
    return table(("class", "pixels", "%", "hectares"), rows)
