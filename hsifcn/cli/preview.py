"""A label map as characters: coloured blocks in a terminal, letters elsewhere."""

from __future__ import annotations

import os
import string
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.cli.tables import WIDTH
from hsifcn.core.formats import shown

ROWS = 40  # of characters at most
LETTERS = string.digits[1:] + string.ascii_uppercase + string.ascii_lowercase
UPPER_HALF = "\N{UPPER HALF BLOCK}"
UNCLASSIFIED = (38, 38, 38)


def preview(
    labels: npt.NDArray[np.integer[Any]],
    names: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
    *,
    in_colour: bool | None = None,
) -> str:
    """Draw a map of at most 80 characters across.

    Parameters
    ----------
    labels : ndarray, (rows, cols), integer
        0 = unclassified, else the class, counted from 1.
    names, colours : sequences
        Of classes 1, 2, ...
    in_colour : bool, optional
        Blocks of 24-bit colours, two rows a line, or letters; by default what stderr can show.
    """
    if in_colour is None:
        in_colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    rows, cols = labels.shape
    # A character is about twice as high as wide.
    step = max(1.0, cols / (WIDTH - 2), rows / (2 * ROWS))
    across = _places(cols, step)
    if in_colour:
        thinned = labels[_places(rows, step)][:, across]
        lines = _blocks(thinned, colours)
    else:
        thinned = labels[_places(rows, 2 * step)][:, across]
        lines = ["".join(_letter(label) for label in line) for line in thinned.tolist()]
    return "\n".join([*lines, "", *_legend(thinned, names, colours, in_colour)])


def _places(length: int, step: float) -> npt.NDArray[np.intp]:
    """Every so many rows or columns, from the middle of the first step."""
    return np.minimum(np.arange(step / 2, max(length, step), step).astype(np.intp), length - 1)


def _blocks(
    labels: npt.NDArray[np.integer[Any]], colours: Sequence[tuple[int, int, int]]
) -> list[str]:
    """Two rows a line: the upper one in the colour of the letter, the lower as background."""
    palette = [UNCLASSIFIED, *colours]
    if len(labels) % 2:
        labels = np.concatenate([labels, np.zeros_like(labels[:1])])
    return [
        "".join(
            "\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m".format(*palette[top], *palette[bottom])
            + UPPER_HALF
            for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True)
        )
        + "\x1b[0m"
        for upper, lower in zip(labels[::2], labels[1::2], strict=True)
    ]


def _letter(label: int) -> str:
    """The sign of a class; classes beyond the letters share one."""
    if not label:
        return "."
    return LETTERS[label - 1] if label <= len(LETTERS) else "#"


def _legend(
    labels: npt.NDArray[np.integer[Any]],
    names: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
    in_colour: bool,
) -> list[str]:
    """The classes on the preview, in lines of at most 80 characters."""
    lines, used = [""], 0
    for label in np.unique(labels[labels > 0]).tolist():
        mark = _letter(label)
        if in_colour:
            mark = "\x1b[38;2;{};{};{}m".format(*colours[label - 1]) + "\N{FULL BLOCK}\x1b[0m"
        name = shown(names[label - 1])
        length = len(name) + 5
        if used and used + length > WIDTH:
            lines.append("")
            used = 0
        lines[-1] += f"{mark} {name}   "
        used += length
    return [line.rstrip() for line in lines]
