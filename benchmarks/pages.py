"""Pages of the documentation that a benchmark writes: whole, or between two marks of a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hsifcn.core.process import machine, versions

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]


def where_measured() -> str:
    """The machine and the versions that figures depend on."""
    found, known = machine(), versions()
    return f"{found['cores']} cores of {found['processor']}, torch {known['torch']}"


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 seed, 5 seeds."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def write_page(page: Path, lines: Sequence[str]) -> None:
    """Write a whole page."""
    page.write_text("\n".join(lines) + "\n", "utf-8")


def write_figures(page: Path, lines: Sequence[str], name: str = "figures") -> None:
    """Write lines between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` of a page."""
    text = "\n".join(lines) + "\n"
    page.write_text(_place(name).sub(lambda _: text, page.read_text("utf-8")), "utf-8")


def read_figures(page: Path, name: str = "figures") -> str:
    """What stands there now.

    Raises
    ------
    ValueError
        The page does not have these two marks once.
    """
    (text,) = _place(name).findall(page.read_text("utf-8"))
    return str(text)


def _place(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name} -->\n).*(?=<!-- end of {name} -->)", re.DOTALL)
