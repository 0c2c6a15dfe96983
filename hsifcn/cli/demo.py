"""``hsifcn demo``: the main job on the scene that comes with hsifcn."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path
from typing import Any

import click

from hsifcn.cli import options as opt

RECIPE = "random:0.1"


@opt.command(
    "demo",
    "demo -o runs/demo --seed 1 --overwrite",
)
@click.option("-o", "--out", default="runs/demo", show_default=True, metavar="DIR", help="Folder.")
@opt.options(opt.seed, opt.overwrite, opt.common)
def command(output: opt.Output, seed: int, out: str, overwrite: bool) -> None:
    """Train on the bundled scene, map it, compare with the patch CNN, write the pages.

    The folder is a finished run, which 'hsifcn predict' takes next; the comparison lies in it.
    """
    from hsifcn.cli.compare import summary as comparison_summary
    from hsifcn.cli.training_text import summary as run_summary
    from hsifcn.comparison.compare import compare
    from hsifcn.comparison.experiment import DEFAULT_SPLITS, Experiment
    from hsifcn.data.indian_pines import OVERLAP, bundled_scene
    from hsifcn.models import DEFAULT_MODEL
    from hsifcn.training.run_directory import lock_run_directory, prepare_run_directory

    bundled, folder = bundled_scene(), Path(out)
    warnings.filterwarnings("ignore", OVERLAP)
    with lock_run_directory(folder):
        prepare_run_directory(folder, overwrite=overwrite, resume=False)
        metrics = train_on_bundled_scene(output, bundled, folder, seed)
    experiment = Experiment(
        scene=bundled["scene"],
        labels=bundled["labels"],
        wavelengths=bundled["wavelengths"],
        class_names=bundled["class_names"],
        splits={"disjoint": DEFAULT_SPLITS["disjoint"]},
        contenders=("patch", "cast", DEFAULT_MODEL),
        seeds=1,
        first_seed=seed,
        fixed_steps=True,  # with one split, so that it takes less than five minutes
        command=opt.command_line(),
    )
    beside = folder / "comparison"
    comparison = compare(experiment, beside, say=output.message, overwrite=overwrite)
    text = f"{comparison_summary(comparison, beside)}\n\n{run_summary(metrics, folder)}"
    output.result(f"{text}\nreport: {folder / 'report.html'}", {**comparison, "run": metrics})


def train_on_bundled_scene(
    output: opt.Output, bundled: dict[str, str], folder: Path, seed: int
) -> dict[str, Any]:
    """Train the default model into a run directory; gives its metrics."""
    from hsifcn.cli.progress import training_progress
    from hsifcn.cli.training_text import plan_message
    from hsifcn.data.dataset import Labelling, open_dataset
    from hsifcn.training.run import train_run
    from hsifcn.training.settings import default_options

    dataset = open_dataset(
        [bundled["scene"]],
        [bundled["labels"]],
        RECIPE,
        seed,
        wavelengths=bundled["wavelengths"],
        labelling=Labelling(bundled["class_names"]),
    )
    options = default_options(seed=seed)
    # The command that trains the same run, so that the run can be reproduced.
    words = ["hsifcn", "train", bundled["scene"], "-l", bundled["labels"], "-s", RECIPE]
    words += ["--seed", str(seed), "--wavelengths", bundled["wavelengths"]]
    words += ["--class-names", bundled["class_names"], "-o", str(folder)]
    config = {
        "command": shlex.join(words),
        "scenes": [bundled["scene"]],
        "labels": [bundled["labels"]],
        "split": RECIPE,
        "wavelengths": bundled["wavelengths"],
        "class_names": bundled["class_names"],
    }
    with training_progress(output, options.steps) as progress:
        return train_run(
            dataset,
            options,
            folder,
            progress=progress,
            announce=lambda plan: output.message(plan_message(plan)),
            config=config,
        )
