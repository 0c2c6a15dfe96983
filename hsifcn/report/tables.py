"""Tables: columns are declared once, numbers are lined up at the decimal point."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hsifcn.core.formats import NOTHING, percent

Row = Mapping[str, Any]

# As wide as a digit and as a point where digits are tabular: padding that survives HTML.
FIGURE_SPACE = "\u2007"
PUNCTUATION_SPACE = "\u2008"
_PLAIN = re.compile(r"[\d,]+(\.\d+)?")

# More classes than this and the counts no longer fit into the cells of a confusion matrix.
MAX_CLASSES_WITH_COUNTS = 20


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


@dataclass(frozen=True)
class ConfusionCell:
    """One cell: its count and colour (empty for none), its share of the row in words.

    ``light`` tells that white letters stand out better on its colour than black ones.
    """

    text: str
    title: str
    background: str
    light: bool


@dataclass(frozen=True)
class ConfusionRow:
    """One true class: its name, its pixels in words, its cells by mapped class, its recall."""

    name: str
    total: str
    cells: tuple[ConfusionCell, ...]
    recall: float


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix ready to be drawn: rows are true classes, columns mapped classes."""

    rows: tuple[ConfusionRow, ...]
    counts: bool

    @property
    def scale(self) -> list[tuple[str, str, str]]:
        """Samples of the shades: share, colour of right pixels, colour of wrong ones."""
        shares = (0.01, 0.05, 0.2, 0.5, 1.0)
        return [
            (percent(share, 0), css(_shade(share, True)), css(_shade(share, False)))
            for share in shares
        ]


def build_confusion(counts: object, class_names: Sequence[str]) -> Confusion | None:
    """Colour a confusion matrix by the share that each cell has of its row.

    Parameters
    ----------
    counts : list of list of int, (n_classes, n_classes)
        Test pixels by true class (rows) and mapped class (columns).
    class_names : sequence of str
        One a class.

    Returns
    -------
    Confusion or None
        None without counts, or without the names of their classes.
    """
    if not isinstance(counts, list) or not counts or len(class_names) != len(counts):
        return None
    with_counts = len(counts) <= MAX_CLASSES_WITH_COUNTS
    rows = []
    for true, (name, row) in enumerate(zip(class_names, counts, strict=True)):
        total = sum(row)
        cells = tuple(
            _confusion_cell(
                value, total, true == mapped, f"{name} mapped as {class_names[mapped]}", with_counts
            )
            for mapped, value in enumerate(row)
        )
        recall = row[true] / total if total else 1.0
        rows.append(ConfusionRow(name, f"{total:,}", cells, round(recall, 6)))
    return Confusion(tuple(rows), with_counts)


def _confusion_cell(
    value: int, total: int, right: bool, words: str, with_counts: bool
) -> ConfusionCell:
    share = value / total if total else 0.0
    text = f"{value:,}" if value and with_counts else ""
    title = f"{words}: {value:,} of {total:,} pixels, {percent(share, 1)} %" if value else ""
    shade = _shade(share, right)
    return ConfusionCell(text, title, css(shade) if value else "", light_ink(shade))


def css(colour: Sequence[int]) -> str:
    """A colour of three numbers from 0 to 255, as style sheets write it."""
    return "rgb({},{},{})".format(*colour)


def light_ink(colour: Sequence[float]) -> bool:
    """Whether white letters have more contrast with a colour (0-255) than black ones (WCAG 2)."""
    parts = [channel / 255 for channel in colour]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05


def _shade(share: float, right: bool) -> tuple[int, int, int]:
    """White to blue for right pixels, to vermilion for wrong ones, by the root of the share.

    The root makes a confusion of one per cent visible beside a class that is nearly right.
    """
    full = (0, 84, 147) if right else (190, 74, 0)
    weight = float(share) ** 0.5
    red, green, blue = (round(255 + (channel - 255) * weight) for channel in full)
    return red, green, blue
