"""Jobs of a comparison: each a fresh process, its result a JSON file that a resumed run finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hsifcn.errors import FailedError
from hsifcn.run import write_json


def result_path(stem: Path) -> Path:
    """Where the result of a job is written."""
    return stem.with_name(stem.name + ".result.json")


def run_job(job: dict[str, Any], stem: Path) -> dict[str, Any]:
    """Run one job in a fresh process, unless its result is there already.

    Raises
    ------
    FailedError
        The process failed or was killed.
    """
    result = result_path(stem)
    if not result.exists():
        path = stem.with_name(stem.name + ".job.json")
        write_json(path, {**job, "result": str(result)})
        done = subprocess.run(
            [sys.executable, "-m", "hsifcn.contender", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            reason = f"killed by signal {-done.returncode}" if done.returncode < 0 else last
            raise FailedError(reason)
    return dict(json.loads(result.read_text("utf-8")))
