"""``hsifcn`` in a fresh process: what it prints, and what it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pages import ROOT
from hsifcn.core.errors import FailedError

Figures = dict[str, Any]

# The peak of the whole process, report and all, behind what it writes on stderr.
PROGRAM = """
import sys
from hsifcn.cli import main
code = 0
try:
    main(sys.argv[1:])
except SystemExit as end:
    code = end.code
from hsifcn.core.process import peak_rss_bytes
print(peak_rss_bytes(), file=sys.stderr)
sys.exit(code)
"""


@dataclass(frozen=True)
class Finished:
    """A command that succeeded.

    Attributes
    ----------
    out : str
        What it printed.
    told : list of str
        Lines on stderr.
    seconds : float
        From start to exit.
    peak : int
        Peak of the process's resident memory, bytes.
    """

    out: str
    told: list[str]
    seconds: float
    peak: int

    @property
    def json(self) -> Figures:
        """What it printed with ``--json``."""
        return dict(json.loads(self.out))


def run_hsifcn(
    *arguments: str,
    folder: Path | None = None,
    before: str = "",
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run the command in a fresh process.

    Parameters
    ----------
    *arguments : str
        Its own.
    folder : Path, optional
        The process's current folder.
    before : str
        Python code that runs before the command.
    environment : dict, optional
        Further variables of the environment.

    Raises
    ------
    FailedError
        With the last line that it says.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", before + PROGRAM, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
    )
    seconds = time.perf_counter() - started
    *told, last = done.stderr.splitlines() or [""]
    if done.returncode:
        said = [line for line in (*told, last) if line and not line.isdecimal()]
        raise FailedError(
            f"hsifcn {arguments[0]}: {said[-1] if said else f'exit code {done.returncode}'}"
        )
    return Finished(done.stdout, told, seconds, int(last))
