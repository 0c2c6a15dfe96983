"""``hsifcn info``: what a scene is."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from hsifcn.cli import options as opt
from hsifcn.cli.facts import facts_of, labels_of, oddities, texts_of

NO_WAVELENGTHS = "not given; name a file of them with --wavelengths"


@opt.command(
    "info cube.mat",
    "info cube.hdr -l cube_gt.mat --quicklook cube.png",
    "info flights/ --json",
)
@click.argument("scene_path", metavar="SCENE")
@opt.options(opt.labels, opt.wavelengths, opt.nodata, opt.class_names)
@click.option(
    "--quicklook", callback=opt.output_file, metavar="PNG",
    help="Write a picture in about natural colours.",
)  # fmt: skip
@click.option(
    "--spectra", callback=opt.output_file, metavar="PNG",
    help="Draw the mean spectrum of each class.",
)  # fmt: skip
@opt.options(opt.overwrite, opt.common)
def command(
    output: opt.Output,
    scene_path: str,
    label_paths: tuple[str, ...],
    label_field: str | None,
    all_touched: bool,
    wavelengths: str | None,
    nodata: float | None,
    class_names: str | None,
    quicklook: str | None,
    spectra: str | None,
    overwrite: bool,
) -> None:
    """Show shape, type, wavelengths, bad bands, no-data, georeference and class counts.

    Of a folder it tells what each file in it is (scene, labels, model, split, ...) or why it cannot
    be read. Folders in it are not looked into. The exit code is 0 if at least one file can be read.
    """
    from hsifcn.core.errors import SettingError
    from hsifcn.data.dataset import Labelling
    from hsifcn.io import open_scene
    from hsifcn.io.formats import is_store

    if Path(scene_path).is_dir() and not is_store(scene_path):
        for_scenes = {
            **{"-l": bool(label_paths), "--wavelengths": wavelengths is not None},
            **{"--class-names": class_names is not None, "--nodata": nodata is not None},
            **{"--quicklook": quicklook is not None, "--spectra": spectra is not None},
        }
        from hsifcn.cli.folder import show_folder

        show_folder(Path(scene_path), [name for name, given in for_scenes.items() if given], output)
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        scene = open_scene(scene_path, wavelengths=wavelengths, nodata=nodata)
        labelling = Labelling(class_names, label_field, all_touched)
        labels, labels_path = labels_of(scene, scene_path, label_paths, labelling, output.detail)
        values = facts_of(scene, labels, labels_path)
    values["notes"], warned = texts_of(told)
    values["warnings"] = warned + oddities(values)
    for note in values["notes"]:
        output.message(note)
    for warning in values["warnings"]:
        output.message(f"warning: {warning}")
    if quicklook is not None:
        from hsifcn.io import write_rgb_png
        from hsifcn.report.quicklook import rgb_quicklook

        write_rgb_png(quicklook, rgb_quicklook(scene), overwrite=overwrite)
        output.message(f"quicklook: {quicklook}")
    if spectra is not None:
        from hsifcn.report.quicklook import draw_spectra

        if labels is None:
            raise SettingError("--spectra needs labels", "give them with -l")
        draw_spectra(spectra, scene, labels, overwrite=overwrite)
        output.message(f"spectra: {spectra}")
    output.result(summary(values), values)


def summary(values: dict[str, Any]) -> str:
    """The facts for people."""
    import numpy as np

    from hsifcn.cli import tables
    from hsifcn.data.bands import format_bands

    rows, cols, bands = values["shape"]
    nm, fwhm, scale = values["wavelengths"], values["fwhm"], values["scale_factor"]
    faults = {
        fault: format_bands(np.isin(np.arange(1, bands + 1), numbers))
        for fault, numbers in values["band_faults"].items()
    }
    facts = {
        "scene": values["path"],
        "size": f"{rows} rows x {cols} columns x {bands} bands, {values['dtype']}, "
        f"{values['interleave'].upper()}",
        "wavelengths": f"{nm[0]:.1f} to {nm[-1]:.1f} nm" if nm else NO_WAVELENGTHS,
        "fwhm": f"{min(fwhm):.1f} to {max(fwhm):.1f} nm" if fwhm else "not given",
        "bad bands": "; ".join(f"{bands} {fault}" for fault, bands in faults.items()) or "none",
        "scale": f"reflectance = value / {scale:g}" if scale else "not given",
        "no-data": "none" if values["nodata"] is None else f"{values['nodata']:g}",
        "georeference": "none" if values["grid"] is None else _grid(values["grid"]),
        "labels": values["labels"] or "none found",
    }
    text = tables.facts(facts)
    if values["classes"]:
        codes = values["class_codes"]
        rows = [(name, str(codes[name]), f"{n:,}") for name, n in values["classes"].items()]
        text += "\n\n" + tables.table(("class", "code", "pixels"), rows)
    return text


def _grid(grid: dict[str, Any]) -> str:
    _, _, c, _, _, f = grid["transform"]
    width, height = grid["pixel_size"]
    crs = grid["crs_name"] or "no CRS"
    return f"{crs}; upper left {c:.10g}, {f:.10g}; pixel {width:g} x {height:g}"
