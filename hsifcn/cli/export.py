"""``hsifcn export``: a model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt

if TYPE_CHECKING:
    from hsifcn.core.scene import Scene


@opt.command(
    "export",
    "export runs/cube -o model.onnx",
    "export runs/cube -o for_deepness.onnx --tile 256",
)
@click.argument("paths", nargs=-1, metavar="[MODEL] [SCENE]")
@click.option(
    "-o", "--out", metavar="FILE.onnx", callback=opt.output_file,
    help="File to write; model.onnx beside the model otherwise.",
)  # fmt: skip
@click.option(
    "--tile", type=click.IntRange(1), metavar="N",
    help="Take tiles of N x N pixels only, as QGIS Deepness asks; any size otherwise.",
)  # fmt: skip
@opt.options(opt.overwrite, opt.common)
def command(
    output: opt.Output, paths: tuple[str, ...], out: str | None, tile: int | None, overwrite: bool
) -> None:
    """Write a model as ONNX, for QGIS Deepness, geoai, ONNX Runtime and others.

    It takes the scene's own values and gives probabilities. It is checked in ONNX Runtime against
    the original on a tile of SCENE, or of the scene that it was trained on. Without MODEL, the
    newest run's. Beside it are written geoai's sidecar and a STAC item.
    """
    from hsifcn.core.process import load_torch

    load_torch()
    from hsifcn.inference.bundle import load_model
    from hsifcn.inference.export import export_model
    from hsifcn.inference.targets import choose_export

    chosen = choose_export(paths)
    path = Path(out) if out else chosen.model.with_name("model.onnx")
    bundle = load_model(chosen.model)
    output.message(f"model: {chosen.model}")
    result = export_model(
        bundle,
        path,
        scene=open_known(output, chosen.scene, chosen.wavelengths, chosen.nodata, bool(paths[1:])),
        tile=tile,
        weights=chosen.model,
        overwrite=overwrite,
    )
    for note in result["notes"]:
        output.message(note)
    output.result(summary(result), result)


def open_known(
    output: opt.Output,
    scene: str | None,
    wavelengths: str | None,
    nodata: float | None,
    asked_for: bool,
) -> Scene | None:
    """The scene to check with; none where that of the run cannot be opened any more."""
    from hsifcn.core.errors import UnreadableFileError
    from hsifcn.io import open_scene

    if scene is None:
        return None
    try:
        return open_scene(scene, wavelengths=wavelengths, nodata=nodata)
    except UnreadableFileError as error:
        if asked_for:
            raise
        output.message(f"the scene of the run is not used: {error}")
        return None


def summary(result: dict[str, Any]) -> str:
    """What the model takes and gives, how it was checked, and where it is."""
    from hsifcn.cli import tables

    check = result["check"]
    sizes = " x ".join(map(str, result["input"]["shape"]))
    return tables.facts(
        {
            "takes": f"{result['input']['name']}, float32, {sizes}",
            "gives": f"{result['output']['name']}, "
            + " x ".join(map(str, result["output"]["shape"])),
            "tiles": f"{result['tile']} pixels, {result['tiles_overlap']} % overlap, where a "
            "program cuts a scene",
            "checked": f"on {check['data']}",
            "": f"largest difference of a probability {check['largest_difference']:.1e}; "
            f"labels equal {check['labels_equal']:,} of {check['pixels']:,}",
            "files": ", ".join(result["files"]),
        }
    )
