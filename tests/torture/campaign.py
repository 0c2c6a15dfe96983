"""Run the campaign: ``python tests/torture [--share 0.1] [--seed 0] [--only kills] [--write]``.

Outcomes are kept in ``runs/torture``, one file a check, so that an interrupted campaign goes on
where it stopped; ``--again`` removes them first. ``--write`` puts the figures into
``docs/reliability.md``. It ends with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from torture import kills, mutations, repeats, resources
from torture.checks import Check, Outcome, kept_file, read_kept, run_check
from torture.page import write_page

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "runs" / "torture"


def every_check() -> list[Check]:
    """All checks, the longest first."""
    return [
        *kills.checks(), *repeats.checks(), *resources.checks(), *mutations.checks(),
    ]  # fmt: skip


def do(title: str, share: float, seed: int, results: Path) -> Outcome:
    """Run one check by its title, in a folder of its own."""
    check = next(check for check in every_check() if check.title == title)
    work = Path(tempfile.mkdtemp(prefix="hsifcn-torture-"))
    try:
        return run_check(check, results, share, seed, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser("tests/torture", description=__doc__.split("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of a full campaign")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="parts or checks, as kills or mutations/npz")
    parser.add_argument("--workers", type=int, default=2, help="checks side by side")
    parser.add_argument("--again", action="store_true", help="forget the outcomes that are kept")
    parser.add_argument("--write", action="store_true", help="put figures into docs/reliability.md")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None, results: Path = RESULTS) -> int:
    """Run what is not kept yet, print outcomes; gives the exit code."""
    given = parse(words)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    results.mkdir(parents=True, exist_ok=True)
    only = [name for name in given.only.split(",") if name]
    chosen = [c for c in every_check() if not only or {c.part, c.title} & set(only)]
    files = {check.title: kept_file(results, check, given.share, given.seed) for check in chosen}
    if given.again:
        for path in files.values():
            path.unlink(missing_ok=True)
    waiting = [title for title, path in files.items() if read_kept(path) is None]
    failed = []
    spawned = get_context("spawn")
    with ProcessPoolExecutor(given.workers, mp_context=spawned, max_tasks_per_child=1) as pool:
        running = {pool.submit(do, t, given.share, given.seed, results): t for t in waiting}
        for future in as_completed(running):
            try:
                _tell(running[future], future.result())
            except Exception as error:  # a check that cannot be run is told, the others go on
                failed.append(running[future])
                print(f"{running[future]}: not run: {type(error).__name__}: {error}", flush=True)
    outcomes = {title: read_kept(path) for title, path in files.items()}
    done = {title: outcome for title, outcome in outcomes.items() if outcome is not None}
    breaches = [breach for outcome in done.values() for breach in outcome.breaches]
    print(f"{sum(o.cases for o in done.values()):,} cases, {len(breaches)} breaches")
    if given.write:
        write_page(ROOT / "docs" / "reliability.md", done, given.share, given.seed)
    return 1 if breaches or failed else 0


def _tell(title: str, outcome: Outcome) -> None:
    print(f"{title}: {outcome.cases} cases, {len(outcome.breaches)} breaches, "
          f"{outcome.seconds:.0f} s {outcome.note}", flush=True)  # fmt: skip
    for breach in outcome.breaches[:20]:
        print(f"  {breach}", flush=True)
