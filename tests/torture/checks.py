"""What the parts of the campaign share: checks, their outcomes, and where these are kept."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Context:
    """What a check works with: an empty folder, a share of its cases, and a seed."""

    folder: Path
    share: float
    seed: int

    def count(self, full: int) -> int:
        """How many of so many cases are tried."""
        return max(1, round(self.share * full))

    def generator(self, *key: int) -> np.random.Generator:
        """Random numbers of a case, the same however many others were tried."""
        return np.random.default_rng([self.seed, *key])


@dataclass
class Outcome:
    """How many cases were tried, and what broke a promise."""

    cases: int = 0
    breaches: list[str] = field(default_factory=list)
    note: str = ""
    seconds: float = 0.0

    def case(self, *faults: str) -> None:
        """Count a case, and what was wrong with it."""
        self.cases += 1
        self.breaches += [fault[:400] for fault in faults if fault]


@dataclass(frozen=True)
class Check:
    """One check of the campaign.

    Attributes
    ----------
    part, name : str
        Of which part it is, and what it is called: ``mutations``, ``envi``.
    run : callable
        ``(context) -> Outcome``.
    """

    part: str
    name: str
    run: Callable[[Context], Outcome]

    @property
    def title(self) -> str:
        """Part and name."""
        return f"{self.part}/{self.name}"


def kept_file(folder: Path, check: Check, share: float, seed: int) -> Path:
    """Where the outcome of a check is kept."""
    return folder / f"{check.part}-{check.name}-{share:g}-{seed}.json"


def read_kept(path: Path) -> Outcome | None:
    """An outcome that was kept; None where there is none."""
    try:
        return Outcome(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def run_check(check: Check, folder: Path, share: float, seed: int, work: Path) -> Outcome:
    """Run a check in an empty folder and keep its outcome, written whole or not at all."""
    start = time.perf_counter()
    key = zlib.crc32(check.title.encode())
    outcome = check.run(Context(work, share, seed * 2**32 + key))
    outcome.seconds = round(time.perf_counter() - start, 1)
    path = kept_file(folder, check, share, seed)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(asdict(outcome), indent=1), "utf-8")
    temporary.replace(path)
    return outcome
