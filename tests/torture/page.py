"""The figures of a campaign in ``docs/reliability.md``."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path

from torture.checks import Outcome

FIGURES = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)", re.DOTALL)


def table(outcomes: Mapping[str, Outcome], share: float, seed: int, day: datetime.date) -> str:
    """Cases and breaches of each check, in Markdown."""
    cases = sum(outcome.cases for outcome in outcomes.values())
    breaches = sum(len(outcome.breaches) for outcome in outcomes.values())
    lines = [
        f"{day:%Y-%m-%d}, share {share:g}, seed {seed}: {cases:,} cases, {breaches} breaches.",
        "",
        "| check | cases | breaches | |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {title} | {outcome.cases:,} | {len(outcome.breaches)} | {outcome.note} |"
        for title, outcome in outcomes.items()
    ]
    return "\n".join(lines) + "\n"


def write_page(path: Path, outcomes: Mapping[str, Outcome], share: float, seed: int) -> None:
    """Put the table between its marks."""
    from hsifcn.core.process import machine

    text = path.read_text("utf-8")
    assert FIGURES.search(text), f"{path} has no place for figures"
    figures = table(outcomes, share, seed, datetime.date.today())
    where = machine()
    figures += f"\nOn {where['processor']}, {where['cores']} cores, {where['system']}.\n"
    path.write_text(FIGURES.sub(lambda _: figures, text), "utf-8")
