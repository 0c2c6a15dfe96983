"""``hsifcn predict``: the map of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt

if TYPE_CHECKING:
    from hsifcn.refinement import Refinement

FORMATS = {"envi": ".img", "npy": ".npy", "mat": ".mat"}  # and what a map is called by default


@click.command(
    epilog="Example: hsifcn predict runs/cube other.hdr -o other_map.img --probabilities"
)
@click.argument("paths", nargs=-1, metavar="[MODEL] [SCENE...]")
@click.option("-o", "--out", metavar="OUT", help="File for one scene, folder for several.")
@click.option("-f", "--format", "form", type=click.Choice(list(FORMATS)), help="Of the map.")
@click.option("--probabilities", is_flag=True, help="Write the probability of every class too.")
@click.option(
    "--reject", type=float, default=0.0, metavar="P",
    help="Leave pixels under this probability unclassified.",
)  # fmt: skip
@opt.refine
@click.option("--approximate", is_flag=True, help="Allow what is not exact in tiles.")
@opt.options(opt.max_memory, opt.device, opt.wavelengths, opt.overwrite, opt.common)
def command(
    output: opt.Output,
    paths: tuple[str, ...],
    out: str | None,
    form: str | None,
    probabilities: bool,
    reject: float,
    refine: str,
    approximate: bool,
    max_memory: int | None,
    device: str,
    wavelengths: str | None,
    overwrite: bool,
) -> None:
    """Map every pixel of a scene.

    Without MODEL, the newest run's; without SCENE, the scene that it was trained on, mapped into
    the run. One argument is a model if it is a run directory or a .safetensors file, else a scene.
    """
    from hsifcn.bundle import load_model
    from hsifcn.errors import SettingError
    from hsifcn.io import open_scene
    from hsifcn.prediction import Predictor, check_scene
    from hsifcn.prediction_files import choose_targets, predict_to_file
    from hsifcn.refinement import choose_weights

    if not 0 <= reject <= 1:
        raise SettingError(f"--reject {reject:g} is no probability", "give 0 to 1")
    targets = choose_targets(paths, out, FORMATS[form] if form else None, wavelengths)
    bundle = load_model(targets.model)
    refinement = choose_weights(refine, bundle.refinement)
    predictor = Predictor(bundle, opt.choose_device(device), refinement, approximate)
    output.message(f"model: {targets.model}")
    if refinement is not None:
        output.message(refinement_message(refinement, refinement == bundle.refinement))
    scenes = [open_scene(path, wavelengths=targets.wavelengths) for path in targets.scenes]
    for scene in scenes:
        check_scene(predictor.bundle, scene)
    results = []
    for scene, map_path in zip(scenes, targets.maps, strict=True):
        results.append(
            predict_to_file(
                predictor,
                targets.model,
                scene,
                map_path,
                probabilities=probabilities,
                reject=reject,
                max_memory=max_memory,
                overwrite=overwrite,
            )
        )
        if results[-1]["unchanged"]:
            output.message(f"{map_path} is already this very map; nothing to do")
    text = "\n\n".join(summary(result, predictor.bundle.class_names) for result in results)
    output.result(text, results[0] if len(results) == 1 else {"maps": results})


def summary(result: dict[str, Any], class_names: tuple[str, ...]) -> str:
    """The pixels of each class, and where the map is."""
    from hsifcn.cli import tables

    total = sum(result["counts"])
    names = ("unclassified", *class_names)
    text = tables.table(
        ("class", "pixels", "%"),
        [
            (name, f"{count:,}", tables.percent(count / total, 1))
            for name, count in zip(names, result["counts"], strict=True)
            if count
        ],
    )
    files = Path(result["map"]).as_posix()
    if result["probabilities"]:
        files += f", {result['probabilities']}"
    return f"{text}\n\nmap: {files} ({tables.seconds(result['seconds'])} s)"


def refinement_message(refinement: Refinement, chosen: bool) -> str:
    """Which weights the back end takes, and whether validation pixels chose them."""
    if not refinement.strength:
        return f"{refinement.method}: no refinement, as the validation pixels spoke for none"
    weights = f"strength {refinement.strength:g}, width {refinement.spectral_width:g}"
    origin = (
        "chosen in training" if chosen else f"default; choose: train --refine {refinement.method}"
    )
    return f"{refinement.method}: {weights} ({origin})"
