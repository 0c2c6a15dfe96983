"""``hsifcn info``: what a scene is."""

from __future__ import annotations

from typing import Any

import click

from hsifcn.cli import options as opt


@click.command(epilog="Example: hsifcn info cube.hdr -l cube_gt.mat --quicklook cube.png")
@click.argument("scene_path", metavar="SCENE")
@opt.options(opt.labels, opt.wavelengths, opt.class_names)
@click.option(
    "--quicklook", callback=opt.output_file, metavar="PNG",
    help="Write a picture in about natural colours.",
)  # fmt: skip
@opt.options(opt.overwrite, opt.common)
def command(
    output: opt.Output,
    scene_path: str,
    label_paths: tuple[str, ...],
    label_field: str | None,
    all_touched: bool,
    wavelengths: str | None,
    class_names: str | None,
    quicklook: str | None,
    overwrite: bool,
) -> None:
    """Show shape, type, wavelengths, bad bands, no-data, georeference and class counts."""
    from hsifcn.errors import HsifcnError, MismatchError
    from hsifcn.inputs import Labelling
    from hsifcn.io import find_labels, open_scene

    scene = open_scene(scene_path, wavelengths=wavelengths)
    labels_path = label_paths[0] if label_paths else None
    if labels_path is None:
        try:
            labels_path = find_labels(scene_path)
        except HsifcnError as error:
            output.detail(str(error))
    labels = None
    if labels_path is not None:
        try:
            labels = Labelling(class_names, label_field, all_touched).open(labels_path, scene)
        except MismatchError as error:
            output.message(f"warning: {error}")
    if quicklook is not None:
        from hsifcn.io import write_rgb_png
        from hsifcn.quicklook import rgb_quicklook

        write_rgb_png(quicklook, rgb_quicklook(scene), overwrite=overwrite)
        output.message(f"quicklook: {quicklook}")
    values: dict[str, Any] = {
        "path": scene.path,
        "shape": list(scene.shape),
        "dtype": scene.dtype.name,
        "interleave": scene.interleave,
        "wavelengths": None if scene.wavelengths is None else scene.wavelengths.tolist(),
        "bad_bands": [int(i) + 1 for i in (~scene.good_bands).nonzero()[0]],
        "nodata": scene.nodata,
        "grid": None
        if scene.grid is None
        else {"crs": scene.grid.crs, "transform": list(scene.grid.transform)},
        "labels": labels_path,
        "classes": None,
    }
    if labels is not None:
        values["classes"] = {
            name: int((labels.labels == number).sum())
            for number, name in enumerate(labels.class_names, start=1)
        }
        values["labels_shape"] = list(labels.labels.shape)
    output.result(summary(values), values)


def summary(values: dict[str, Any]) -> str:
    """The facts for people."""
    from hsifcn.cli import tables

    rows, cols, bands = values["shape"]
    nm = values["wavelengths"]
    bad = values["bad_bands"]
    facts = {
        "scene": values["path"],
        "size": f"{rows} rows x {cols} columns x {bands} bands, {values['dtype']}, "
        f"{values['interleave'].upper()}",
        "wavelengths": f"{nm[0]:.1f} to {nm[-1]:.1f} nm" if nm else "not given",
        "bad bands": ", ".join(map(str, bad)) if bad else "none marked",
        "no-data": "none" if values["nodata"] is None else f"{values['nodata']:g}",
        "georeference": "none" if values["grid"] is None else _grid(values["grid"]),
        "labels": values["labels"] or "none found",
    }
    text = tables.facts(facts)
    if values["classes"]:
        counts = values["classes"].items()
        text += "\n\n" + tables.table(("class", "pixels"), [(n, f"{c:,}") for n, c in counts])
    return text


def _grid(grid: dict[str, Any]) -> str:
    a, _, c, _, e, f = grid["transform"]
    crs = (grid["crs"] or "no CRS").split(",")[0]
    return f"{crs}; upper left {c:g}, {f:g}; pixel {a:g} x {abs(e):g}"
