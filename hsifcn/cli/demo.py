"""``hsifcn demo``: the main job on the scene that comes with hsifcn."""

from __future__ import annotations

import warnings
from pathlib import Path

import click

from hsifcn.cli import options as opt


@opt.command(
    "demo",
    "demo -o runs/demo --seed 1 --overwrite",
)
@click.option("-o", "--out", default="runs/demo", show_default=True, metavar="DIR", help="Folder.")
@opt.options(opt.seed, opt.overwrite, opt.common)
def command(output: opt.Output, seed: int, out: str, overwrite: bool) -> None:
    """Train on the bundled scene, map it, compare with the patch CNN, write the page."""
    from hsifcn.cli.compare import summary
    from hsifcn.comparison.compare import compare
    from hsifcn.comparison.experiment import Experiment
    from hsifcn.data.indian_pines import OVERLAP, bundled_scene
    from hsifcn.models import DEFAULT_MODEL

    bundled = bundled_scene()
    warnings.filterwarnings("ignore", OVERLAP)
    experiment = Experiment(
        scene=bundled["scene"],
        labels=bundled["labels"],
        wavelengths=bundled["wavelengths"],
        class_names=bundled["class_names"],
        contenders=("patch", "cast", DEFAULT_MODEL),
        seeds=1,
        first_seed=seed,
        command=opt.command_line(),
    )
    result = compare(experiment, Path(out), say=output.message, overwrite=overwrite)
    output.result(summary(result, Path(out)), result)
