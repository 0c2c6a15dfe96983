"""``hsifcn predict``: the map of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt
from hsifcn.core import formats

if TYPE_CHECKING:
    from hsifcn.core.scene import Scene
    from hsifcn.inference.bundle import Bundle
    from hsifcn.inference.targets import Targets

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
    "--adapt", is_flag=True,
    help="Undo light and instrument of a new scene, as far as they differ from the training's.",
)  # fmt: skip
@click.option(
    "--confidence", is_flag=True,
    help="Write the probability of the class of each pixel, in per cent.",
)  # fmt: skip
@click.option("--preview", is_flag=True, help="Show the map in the terminal too.")
@click.option(
    "--probabilities", is_flag=True, help="Write the probability of every class, and the margin."
)
@click.option(
    "--min-confidence", "--reject", "min_confidence", type=float, default=0.0, metavar="P",
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
@click.option("--stac", is_flag=True, help="Write a STAC item beside the map.")
@click.option(
    "--precision", type=click.Choice(["auto", "float32"]), default="auto", show_default=True,
    help="auto: bfloat16 where the processor multiplies it and the labels stay the same.",
)  # fmt: skip
@opt.options(opt.max_memory, opt.device, opt.wavelengths, opt.nodata, opt.overwrite, opt.common)
def command(
    output: opt.Output,
    paths: tuple[str, ...],
    out: str | None,
    form: str | None,
    adapt: bool,
    confidence: bool,
    preview: bool,
    probabilities: bool,
    min_confidence: float,
    refine: str,
    approximate: bool,
    resample: bool,
    polygons: str | None,
    min_size: int,
    stac: bool,
    precision: str,
    max_memory: int | None,
    device: str,
    wavelengths: str | None,
    nodata: float | None,
    overwrite: bool,
) -> None:
    """Map every pixel of a scene.

    Without MODEL, the newest run's; without SCENE, the scene that it was trained on, mapped into
    the run. One argument is a model if it is a run directory or a .safetensors file, else a scene.
    """
    from hsifcn.core.process import ask_for_huge_pages, keep_memory_together, load_torch

    ask_for_huge_pages()  # before PyTorch is loaded
    load_torch()
    from hsifcn.inference.bundle import load_model
    from hsifcn.inference.predict import PredictOptions
    from hsifcn.inference.predict_run import predict_to_file
    from hsifcn.inference.targets import choose_polygons, choose_targets

    options = PredictOptions(
        device=opt.choose_device(device),
        refine=refine,
        approximate=approximate,
        resample=resample,
        adapt=adapt,
        precision=precision,
        confidence=confidence,
        probabilities=probabilities,
        min_confidence=min_confidence,
        max_memory=max_memory,
        overwrite=overwrite,
    )
    targets = choose_targets(paths, out, FORMATS[form] if form else None, wavelengths, nodata)
    polygon_paths = choose_polygons(targets.maps, polygons)
    keep_memory_together()
    bundle = load_model(targets.model)
    output.message(f"model: {targets.model}")
    tell_refinement(output, bundle, refine)
    results = []
    for scene, map_path, polygon_path in zip(
        open_matched(output, targets, bundle, resample), targets.maps, polygon_paths, strict=True
    ):
        result = predict_to_file(
            bundle,
            targets.model,
            scene,
            map_path,
            options,
            output.message,
            polygons=polygon_path,
            min_size=min_size,
        )
        tell_result(output, result, scene, min_confidence)
        if stac:
            write_map_item(bundle, scene, result)
        if preview:
            show_preview(output, result, bundle)
        results.append(result)
    text = "\n\n".join(summary(result, bundle.class_names) for result in results)
    output.result(text, results[0] if len(results) == 1 else {"maps": results})


def write_map_item(bundle: Bundle, scene: Scene, result: dict[str, Any]) -> None:
    """Write the STAC item of a map; it is made anew, as it holds nothing but what is known."""
    from hsifcn.inference.export_stac import map_item
    from hsifcn.io.files import write_json

    path = Path(result["map"])
    result["stac"] = str(path.with_name(f"{path.stem}.stac.json"))
    others = [path.with_name(name) for name in result["files"] if name != path.name]
    write_json(Path(result["stac"]), map_item(bundle, scene, path, [path, *others]))


def tell_refinement(output: opt.Output, bundle: Bundle, method: str) -> None:
    """Tell which weights the back end takes, and whether validation pixels chose them."""
    from hsifcn.inference.refine.potentials import choose_weights

    refinement = choose_weights(method, bundle.refinement)
    if refinement is None:
        return
    if not refinement.strength:
        output.message(f"{method}: no refinement, as the validation pixels spoke for none")
        return
    chosen = refinement == bundle.refinement
    origin = "chosen in training" if chosen else f"default; choose: train --refine {method}"
    output.message(
        f"{method}: strength {refinement.strength:g}, width {refinement.spectral_width:g} "
        f"({origin})"
    )


def open_matched(
    output: opt.Output, targets: Targets, bundle: Bundle, resample: bool
) -> list[Scene]:
    """Open the scenes and bring them to the bands and units of the model, telling how."""
    from hsifcn.inference.band_matching import match_scene
    from hsifcn.io import open_scene

    scenes = [
        open_scene(path, wavelengths=targets.wavelengths, nodata=targets.nodata)
        for path in targets.scenes
    ]
    matches = [match_scene(bundle, scene, resample=resample) for scene in scenes]
    for match in matches:
        if match.note:
            output.message(match.note)
    return [match.scene for match in matches]


def tell_result(
    output: opt.Output, result: dict[str, Any], scene: Scene, min_confidence: float
) -> None:
    """Tell where a map is empty, or was there already."""
    if not any(result["counts"][1:]):
        cause = ""
        if min_confidence:
            cause = f", or none is as sure as --min-confidence {min_confidence:g}"
        output.message(
            f"warning: {result['map']} is empty: no pixel of {scene.path} holds a measurement in "
            f"every band of the model{cause}"
        )
    if result["unchanged"]:
        output.message(f"{result['map']} is already this very map; nothing to do")


def show_preview(output: opt.Output, result: dict[str, Any], bundle: Bundle) -> None:
    """Draw the map on stderr, which is the terminal where the result goes into a file."""
    from hsifcn.cli.preview import preview
    from hsifcn.core.scene import labels_of_codes
    from hsifcn.io import open_labels

    if Path(result["map"]).suffix.lower() == ".png":
        output.message("no preview: the map is a picture")
    elif any(result["counts"][1:]) and not output.quiet:
        labels = labels_of_codes(open_labels(result["map"]).coded(), bundle.class_codes)
        click.echo(preview(labels, bundle.class_names, bundle.colours), err=True)


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
    if result.get("confidence"):
        files += f", {result['confidence']}"
    if result["probabilities"]:
        files += f", {result['probabilities']}"
    if result["polygons"]:
        files += f", {result['polygons']}"
    if "stac" in result:
        files += f", {result['stac']}"
    return f"{text}\n\nmap: {files} ({formats.seconds(result['seconds'])})"
