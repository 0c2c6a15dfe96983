"""Every model on Indian Pines, and what ``--init`` and ``--staged`` give: ``docs/models.md``.

    python benchmarks/models.py [--models segnet,deeplab] [--at-most 3]

Every training is a fresh process whose run directory stays under ``runs/benchmarks/models``; what
is finished there is not run again, so the command may be stopped, or told to do ``--at-most`` so
many trainings. Remove the folder to measure anew. The tables hold what is there by then.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hsifcn.core.process import machine, versions
from hsifcn.models import MODELS, default_spec, geometry
from hsifcn.training.run import model_record

ROOT = Path(__file__).parent.parent
SCENE = ROOT / "data" / "indian_pines_corrected.mat"
LABELS = ROOT / "data" / "indian_pines_gt.mat"
RUNS = ROOT / "runs" / "benchmarks" / "models"
PAGE = ROOT / "docs" / "models.md"
SEED = 100
SPLITS = {"random": "random:0.1", "checkerboard": "checkerboard:14:gap=3"}
FIGURES = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)", re.DOTALL)


@dataclass(frozen=True)
class Job:
    """One training: a model, how it starts, the split."""

    model: str
    start: str
    split: str

    @property
    def folder(self) -> Path:
        """Its run directory."""
        name = "-".join(part for part in (self.model, self.start, self.split) if part)
        return RUNS / name

    @property
    def metrics(self) -> dict[str, Any] | None:
        """What the finished run found; None before."""
        path = self.folder / "metrics.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    def options(self) -> list[str]:
        """Of the command, for how it starts."""
        if self.start.startswith("patch"):
            return ["--init", str(Job(self.start, "", self.split).folder)]
        return ["--staged"] if self.start else []

    def run(self) -> None:
        """Train, or go on where an earlier run was stopped."""
        command = [
            *(sys.executable, "-m", "hsifcn", "train", str(SCENE), "-l", str(LABELS), "-q"),
            *("-m", self.model, "-s", SPLITS[self.split], "--seed", str(SEED), "--device", "cpu"),
            *("-o", str(self.folder), "--resume", *self.options()),
        ]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


FAMILY = [*(name for name in MODELS if MODELS[name].patch is None), "patch5", "patch15", "patch31"]
PLAIN = [Job(name, "", split) for name in FAMILY for split in SPLITS]
STARTED = [  # the default shares no layer's width with the patch CNN
    Job(model, start, split)
    for model, start in (
        ("hsifcn", "staged"),
        *product(("fcn8s", "fcn1s"), ("staged", "patch15")),
    )
    for split in SPLITS
]


def accuracy(job: Job) -> str:
    """OA and AA in percent."""
    found = job.metrics
    return "" if found is None else f"{100 * found['oa']:.2f} / {100 * found['aa']:.2f}"


def seconds(jobs: list[Job]) -> str:
    """Training time of the first of some jobs that is done."""
    done = [job.metrics["train_seconds"] for job in jobs if job.metrics]
    return f"{done[0]:.0f}" if done else ""


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]


def family_row(name: str) -> list[str]:
    """Size, cost and figures of a model on Indian Pines: 200 bands, 16 classes."""
    spec = default_spec(name, 200, 16)
    known = model_record(spec)
    size = [
        f"{geometry(spec).receptive_field}",
        f"{known['params'] / 1e3:,.0f}",
        f"{known['flops_per_pixel'] / 1e3:,.0f}",
    ]
    jobs = [Job(name, "", split) for split in SPLITS]
    return [f"`{name}`", MODELS[name].summary, *size, *map(accuracy, jobs), seconds(jobs)]


def start_row(model: str, start: str) -> list[str]:
    jobs = [Job(model, start, split) for split in SPLITS]
    option = f"--init {start}" if start.startswith("patch") else "--staged" if start else "as it is"
    found = next((job.metrics for job in jobs if job.metrics), None)
    taken = f"{found['init']['weights'] / 1e3:,.0f}" if found and found["init"] else ""
    return [f"`{model}`", option, taken, *map(accuracy, jobs), seconds(jobs)]


def figures() -> str:
    """Both tables, as far as their runs are done."""
    found, known = machine(), versions()
    splits = [f"{recipe}, OA / AA %" for recipe in SPLITS.values()]
    header = ["model", "what it is, for whom", "sees px", "k weights", "kFLOP a px", *splits]
    lines = [
        f"Seed {SEED} (of split and training), {found['cores']} cores of {found['processor']}, "
        f"torch {known['torch']}; printed by `python benchmarks/models.py`.",
        "",
        *table([*header, "train s"], [family_row(name) for name in FAMILY]),
        "",
        *table(
            ["model", "start", "k weights taken", *splits, "train s"],
            [
                start_row(model, start)
                for model in dict.fromkeys(job.model for job in STARTED)
                for start in ("", *dict.fromkeys(j.start for j in STARTED if j.model == model))
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(FAMILY))
    parser.add_argument("--at-most", type=int, default=len(PLAIN) + len(STARTED))
    given = parser.parse_args()
    wanted = given.models.split(",")
    todo = [job for job in (*PLAIN, *STARTED) if job.model in wanted and job.metrics is None]
    for job in todo[: given.at_most]:
        print(job.folder.name, flush=True)
        job.run()
    page = PAGE.read_text("utf-8")
    PAGE.write_text(FIGURES.sub(lambda _: figures(), page), "utf-8")
    print(figures())


if __name__ == "__main__":
    main()
