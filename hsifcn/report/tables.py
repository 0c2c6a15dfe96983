"""Tables: columns are declared once, numbers are lined up at the decimal point."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hsifcn.core.formats import NOTHING

Row = Mapping[str, Any]

# As wide as a digit and as a point where digits are tabular: padding that survives HTML.
FIGURE_SPACE = "\u2007"
PUNCTUATION_SPACE = "\u2008"
_PLAIN = re.compile(r"[\d,]+(\.\d+)?")


@dataclass(frozen=True)
class Column:
    """One column: its head, the text of a row's cell, and the head it shares with neighbours."""

    title: str
    cell: Callable[[Row], str]
    over: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Line:
    """One drawn row; a note replaces all cells but the first."""

    cells: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table ready to be drawn; each group is a title (may be empty) and its lines."""

    columns: tuple[Column, ...]
    groups: tuple[tuple[str, tuple[Line, ...]], ...]

    @property
    def over(self) -> list[tuple[str, int]]:
        """Heads of the upper level with the number of columns below; empty without any."""
        if not any(column.over for column in self.columns):
            return []
        spans = groupby(self.columns, key=lambda column: column.over)
        return [(title, len(list(columns))) for title, columns in spans]


def build_table(
    columns: Sequence[Column],
    groups: Sequence[tuple[str, Sequence[Row]]],
    note: Callable[[Row], str] = lambda row: "",
) -> Table | None:
    """Print all cells and line them up.

    Parameters
    ----------
    columns : sequence of Column
        Those without a single value are left out.
    groups : sequence of (title, rows)
        Rows under a common title, which may be empty.
    note : callable
        Text that stands in place of a row's figures, or nothing.

    Returns
    -------
    Table or None
        None where there is nothing to show.
    """
    rows = [row for _, group in groups for row in group]
    figures = [row for row in rows if not note(row)]
    kept = [
        column
        for number, column in enumerate(columns)
        if number == 0 or any(column.cell(row) not in ("", NOTHING) for row in figures)
    ]
    if not rows or len(kept) < 2:
        return None
    printed = [
        _align([column.cell(row) for row in rows])
        if column.numeric
        else [column.cell(row) for row in rows]
        for column in kept
    ]
    texts = zip(*printed, strict=True)
    lines = iter(Line(cells, note(row)) for cells, row in zip(texts, rows, strict=True))
    drawn = tuple((title, tuple(next(lines) for _ in group)) for title, group in groups)
    return Table(tuple(kept), drawn)


def _align(cells: Sequence[str]) -> list[str]:
    """Pad right-aligned plain numbers so that their decimal points stand below each other."""
    tails = [len(cell.partition(".")[2]) if _PLAIN.fullmatch(cell) else None for cell in cells]
    longest = max((tail for tail in tails if tail is not None), default=0)
    aligned = []
    for cell, tail in zip(cells, tails, strict=True):
        padding = "" if tail is None else FIGURE_SPACE * (longest - tail)
        point = PUNCTUATION_SPACE if longest and tail == 0 else ""
        aligned.append(cell + point + padding)
    return aligned
