"""``hsifcn predict``: the map of a scene, or of many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt
from hsifcn.cli.predict_options import campaign_options, map_options
from hsifcn.core import formats

if TYPE_CHECKING:
    from hsifcn.core.scene import Scene
    from hsifcn.inference.bundle import Bundle
    from hsifcn.inference.campaign.run import Ways
    from hsifcn.inference.predict import PredictOptions
    from hsifcn.inference.targets import Targets

# With the default suffix of each.
FORMATS = {"envi": ".img", "gtiff": ".tif", "npy": ".npy", "mat": ".mat", "png": ".png"}


@opt.command(
    "predict",
    "predict runs/cube other.hdr -o other_map.img --probabilities",
    "predict runs/cube 'flights/*.hdr' -o maps --max-memory 4G --mosaic",
)
@click.argument("paths", nargs=-1, metavar="[MODEL] [SCENE...]")
@click.option("-o", "--out", metavar="OUT", help="File for one scene, folder for several.")
@click.option("-f", "--format", "form", type=click.Choice(list(FORMATS)), help="Of the map.")
@map_options
@click.option("--preview", is_flag=True, help="Show the map in the terminal too.")
@click.option(
    "--polygons", is_flag=False, flag_value="", metavar="[FILE.gpkg]",
    help="Write the areas of the map as polygons too; beside the map without FILE.",
)  # fmt: skip
@click.option(
    "--min-size", type=click.IntRange(1), default=1, metavar="N",
    help="Give areas under N pixels to their neighbours among the polygons.",
)  # fmt: skip
@click.option("--stac", is_flag=True, help="Write a STAC item beside the map.")
@campaign_options
@click.option(
    "--allow-remote", is_flag=True,
    help="SCENE may be an address: https://, s3://, gs://, az://. It is copied to this computer, "
    "or to that of its worker, and removed when it is mapped. OUT is never an address.",
)  # fmt: skip
@opt.options(opt.wavelengths, opt.nodata, opt.common)
def command(
    output: opt.Output,
    paths: tuple[str, ...],
    out: str | None,
    form: str | None,
    options: PredictOptions,
    preview: bool,
    polygons: str | None,
    min_size: int,
    stac: bool,
    ways: Ways,
    assemble: bool,
    mosaic: str | None,
    allow_remote: bool,
    wavelengths: str | None,
    nodata: float | None,
) -> None:
    """Map every pixel of a scene.

    Without MODEL, the newest run's; without SCENE, the scene that it was trained on, mapped into
    the run. One argument is a model if it is a run directory or a .safetensors file, else a scene.

    SCENE may be a folder, a pattern in quotes or @list.txt, a file with a path a line. Many scenes
    are mapped side by side; those that fail are listed, and a rerun passes over what is done.
    """
    from hsifcn.cli import campaign
    from hsifcn.core.errors import SettingError
    from hsifcn.io.addresses import is_address

    if out is not None and is_address(out):
        raise SettingError("-o is an address, and maps are written to files", "name a folder")
    suffix = FORMATS[form] if form else None
    if assemble:
        campaign.assemble(output, paths, out, mosaic, overwrite=options.overwrite)
    elif mosaic is not None or campaign.is_campaign(paths, out, ways):
        asked = campaign.Asked(
            out,
            suffix,
            options,
            polygons,
            min_size,
            stac,
            wavelengths,
            nodata,
            mosaic,
            allow_remote,
        )
        if preview:
            raise click.UsageError("--preview shows one map; leave it out for many scenes")
        campaign.predict_many(output, paths, asked, ways)
    else:
        from hsifcn.inference.targets import choose_targets

        targets = choose_targets(paths, out, suffix, wavelengths, nodata, allow_remote=allow_remote)
        predict_few(output, targets, options, polygons, min_size, stac=stac, preview=preview)


def predict_few(
    output: opt.Output,
    targets: Targets,
    options: PredictOptions,
    polygons: str | None,
    min_size: int,
    *,
    stac: bool,
    preview: bool,
) -> None:
    """Map scenes one after the other, in this process; the first error ends it."""
    from hsifcn.core.process import keep_memory_together
    from hsifcn.inference.bundle import load_model
    from hsifcn.inference.export_stac import write_map_item
    from hsifcn.inference.predict_run import predict_to_file
    from hsifcn.inference.targets import choose_polygons

    polygon_paths = choose_polygons(targets.maps, polygons)
    keep_memory_together()
    bundle = load_model(targets.model)
    output.message(f"model: {targets.model}")
    tell_refinement(output, bundle, options.refine)
    results = []
    for scene, map_path, polygon_path in zip(
        open_matched(output, targets, bundle, options.resample),
        targets.maps,
        polygon_paths,
        strict=True,
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
        tell_result(output, result, scene, options.min_confidence)
        if stac:
            write_map_item(bundle, scene, result)
        if preview:
            show_preview(output, result, bundle)
        results.append(result)
    text = "\n\n".join(summary(result, bundle.class_names) for result in results)
    output.result(text, results[0] if len(results) == 1 else {"maps": results})


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
    from hsifcn.io.remote import open_scene_at

    scenes = [
        open_scene_at(path, wavelengths=targets.wavelengths, nodata=targets.nodata)
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
    from hsifcn.inference.applicability import sentence

    files = Path(result["map"]).as_posix()
    for key in ("confidence", "dissimilarity", "probabilities", "polygons", "stac"):
        if result.get(key):
            files += f", {result[key]}"
    text = tables.counts_table(result["counts"], class_names)
    if result.get("applicability"):
        text += f"\n\n{sentence(result['applicability'])}"
    return f"{text}\n\nmap: {files} ({formats.seconds(result['seconds'])})"
