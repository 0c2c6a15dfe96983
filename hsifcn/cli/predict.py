"""``hsifcn predict``: the map of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt
from hsifcn.core import formats

if TYPE_CHECKING:
    from hsifcn.core.scene import Scene
    from hsifcn.inference.predict_run import Targets
    from hsifcn.inference.predictor import Predictor
    from hsifcn.inference.refine.potentials import Refinement
    from hsifcn.inference.tiling import Plan

# With the default suffix of each.
FORMATS = {"envi": ".img", "gtiff": ".tif", "npy": ".npy", "mat": ".mat", "png": ".png"}


@opt.command(
    "predict",
    "predict runs/cube other.hdr -o other_map.img --probabilities",
    "predict runs/cube other.tif -o other_map.tif --max-memory 4G",
)
@click.argument("paths", nargs=-1, metavar="[MODEL] [SCENE...]")
@click.option("-o", "--out", metavar="OUT", help="File for one scene, folder for several.")
@click.option("-f", "--format", "form", type=click.Choice(list(FORMATS)), help="Of the map.")
@click.option(
    "--probabilities", is_flag=True, help="Write the probability of every class, and the margin."
)
@click.option(
    "--reject", type=float, default=0.0, metavar="P",
    help="Leave pixels under this probability unclassified.",
)  # fmt: skip
@opt.refine
@click.option("--approximate", is_flag=True, help="Allow what is not exact in tiles.")
@click.option(
    "--resample", is_flag=True, help="Mix the bands of another sensor to those of the model."
)
@click.option(
    "--polygons", is_flag=False, flag_value="", metavar="[FILE.gpkg]",
    help="Write the areas of the map as polygons too; beside the map without FILE.",
)  # fmt: skip
@click.option(
    "--min-size", type=click.IntRange(1), default=1, metavar="N",
    help="Give areas under N pixels to their neighbours among the polygons.",
)  # fmt: skip
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
    resample: bool,
    polygons: str | None,
    min_size: int,
    max_memory: int | None,
    device: str,
    wavelengths: str | None,
    overwrite: bool,
) -> None:
    """Map every pixel of a scene.

    Without MODEL, the newest run's; without SCENE, the scene that it was trained on, mapped into
    the run. One argument is a model if it is a run directory or a .safetensors file, else a scene.
    """
    from hsifcn.core.process import ask_for_huge_pages, keep_memory_together

    ask_for_huge_pages()  # before PyTorch is loaded
    from hsifcn.core.errors import SettingError
    from hsifcn.inference.predict_run import choose_polygons, choose_targets, predict_to_file

    if not 0 <= reject <= 1:
        raise SettingError(f"--reject {reject:g} is no probability", "give 0 to 1")
    targets = choose_targets(paths, out, FORMATS[form] if form else None, wavelengths)
    polygon_paths = choose_polygons(targets.maps, polygons)
    keep_memory_together()
    predictor = load_predictor(output, targets.model, device, refine, approximate)
    scenes = open_matched(output, targets, predictor, resample)
    results = []
    for scene, map_path, polygon_path in zip(scenes, targets.maps, polygon_paths, strict=True):
        results.append(
            predict_to_file(
                predictor,
                targets.model,
                scene,
                map_path,
                probabilities=probabilities,
                reject=reject,
                resample=resample,
                polygons=polygon_path,
                min_size=min_size,
                max_memory=max_memory,
                overwrite=overwrite,
                announce=lambda plan: output.message(plan_message(plan)),
            )
        )
        if not any(results[-1]["counts"][1:]):
            cause = "" if not reject else f", or none is as sure as --reject {reject:g}"
            output.message(
                f"warning: {map_path} is empty: no pixel of {scene.path} holds a measurement in "
                f"every band of the model{cause}"
            )
        if results[-1]["unchanged"]:
            output.message(f"{map_path} is already this very map; nothing to do")
    text = "\n\n".join(summary(result, predictor.bundle.class_names) for result in results)
    output.result(text, results[0] if len(results) == 1 else {"maps": results})


def load_predictor(
    output: opt.Output, model: Path, device: str, refine: str, approximate: bool
) -> Predictor:
    """Load a model and choose its back end, and tell which."""
    from hsifcn.inference.bundle import load_model
    from hsifcn.inference.predictor import Predictor
    from hsifcn.inference.refine.potentials import choose_weights

    bundle = load_model(model)
    refinement = choose_weights(refine, bundle.refinement)
    predictor = Predictor(bundle, opt.choose_device(device), refinement, approximate)
    output.message(f"model: {model}")
    if refinement is not None:
        output.message(refinement_message(refinement, refinement == bundle.refinement))
    return predictor


def open_matched(
    output: opt.Output, targets: Targets, predictor: Predictor, resample: bool
) -> list[Scene]:
    """Open the scenes and bring them to the bands and units of the model, telling how."""
    from hsifcn.inference.band_matching import match_scene
    from hsifcn.io import open_scene

    scenes = [open_scene(path, wavelengths=targets.wavelengths) for path in targets.scenes]
    matches = [match_scene(predictor.bundle, scene, resample=resample) for scene in scenes]
    for match in matches:
        if match.note:
            output.message(match.note)
    return [match.scene for match in matches]


def summary(result: dict[str, Any], class_names: tuple[str, ...]) -> str:
    """The pixels of each class, and where the map is."""
    from hsifcn.cli import tables

    total = sum(result["counts"])
    names = ("unclassified", *class_names)
    text = tables.table(
        ("class", "pixels", "%"),
        [
            (name, f"{count:,}", formats.percent(count / total, 1))
            for name, count in zip(names, result["counts"], strict=True)
            if count
        ],
    )
    files = Path(result["map"]).as_posix()
    if result["probabilities"]:
        files += f", {result['probabilities']}"
    if result["polygons"]:
        files += f", {result['polygons']}"
    return f"{text}\n\nmap: {files} ({formats.seconds(result['seconds'])})"


def plan_message(plan: Plan) -> str:
    """How the scene will be mapped, with what memory, and about how long it will take."""
    largest = max((tile.read for tile in plan.tiles), key=lambda read: read.rows * read.cols)
    how = f"whole scene of {largest.rows}x{largest.cols} pixels"
    if len(plan.tiles) > 1:
        how = (
            f"{len(plan.tiles)} tiles of up to {largest.rows}x{largest.cols} pixels, "
            f"halo {plan.halo}"
        )
    memory, time = formats.megabytes(plan.peak_bytes), formats.about(plan.seconds)
    return f"plan: {how}; about {memory} MB of memory, {time}"


def refinement_message(refinement: Refinement, chosen: bool) -> str:
    """Which weights the back end takes, and whether validation pixels chose them."""
    if not refinement.strength:
        return f"{refinement.method}: no refinement, as the validation pixels spoke for none"
    weights = f"strength {refinement.strength:g}, width {refinement.spectral_width:g}"
    origin = (
        "chosen in training" if chosen else f"default; choose: train --refine {refinement.method}"
    )
    return f"{refinement.method}: {weights} ({origin})"
