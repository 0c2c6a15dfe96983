"""The confusion matrix of a page: its cells with their colours, and a sentence on it.

``confusion`` in ``templates/parts.html.j2`` writes it as HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hsifcn.core.formats import percent
from hsifcn.report.page import codes_of, percent_of

# More classes than this and the counts no longer fit into the cells of a confusion matrix.
MAX_CLASSES_WITH_COUNTS = 20


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
    """One true class: code, name, pixels in words, cells by mapped class, recall."""

    code: int | str
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


def build_confusion(
    counts: object, class_names: Sequence[str], class_codes: Sequence[int] = ()
) -> Confusion | None:
    """Colour a confusion matrix by the share that each cell has of its row.

    Parameters
    ----------
    counts : list of list of int, (n_classes, n_classes)
        Test pixels by true class (rows) and mapped class (columns).
    class_names : sequence of str
        One a class.
    class_codes : sequence of int, optional
        Their values in label files, where these are not 1, 2, ...

    Returns
    -------
    Confusion or None
        None without counts, or without the names of their classes.
    """
    if not isinstance(counts, list) or not counts or len(class_names) != len(counts):
        return None
    with_counts = len(counts) <= MAX_CLASSES_WITH_COUNTS
    rows, codes = [], codes_of(class_codes, len(class_names))
    for true, (name, row) in enumerate(zip(class_names, counts, strict=True)):
        total = sum(row)
        cells = tuple(
            _confusion_cell(
                value, total, true == mapped, f"{name} mapped as {class_names[mapped]}", with_counts
            )
            for mapped, value in enumerate(row)
        )
        recall = row[true] / total if total else 1.0
        rows.append(ConfusionRow(codes[true], name, f"{total:,}", cells, round(recall, 6)))
    return Confusion(tuple(rows), with_counts)


def _confusion_cell(
    value: int, total: int, right: bool, words: str, with_counts: bool
) -> ConfusionCell:
    share = value / total if total else 0.0
    text = f"{value:,}" if value and with_counts else ""
    title = f"{words}: {value:,} of {total:,} pixels, {percent(share, 1)} %" if value else ""
    shade = _shade(share, right)
    return ConfusionCell(text, title, css(shade) if value else "", light_ink(shade))


def confusion_sentence(confusion: object, names: Sequence[str]) -> str:
    """Name the most frequent confusion; empty where `build_confusion` gives none."""
    if not isinstance(confusion, list) or not confusion or len(names) != len(confusion):
        return ""
    counts = np.array(confusion)
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.any():
        return "Not one test pixel is wrong."
    true, mapped = divmod(int(wrong.argmax()), len(counts))
    number, total = int(wrong[true, mapped]), int(counts[true].sum())
    return (
        f"{int(wrong.sum()):,} of {int(counts.sum()):,} test pixels are wrong. The most frequent "
        f"confusion: {number:,} of {total:,} pixels of {names[true]} "
        f"({percent_of(number / total)}) are mapped as {names[mapped]}."
    )


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
