"""``hsifcn info``: what a scene is."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt

if TYPE_CHECKING:
    from hsifcn.core.scene import Grid, LabelMap
    from hsifcn.data.dataset import Labelling
    from hsifcn.io.formats import FileScene

NO_WAVELENGTHS = "not given; name a file of them with --wavelengths"


@opt.command(
    "info cube.mat",
    "info cube.hdr -l cube_gt.mat --quicklook cube.png",
    "info fields.tif --json",
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
    """Show shape, type, wavelengths, bad bands, no-data, georeference and class counts."""
    from hsifcn.core.errors import Notice, SettingError
    from hsifcn.data.dataset import Labelling

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        scene, labels, labels_path = opened(
            scene_path,
            label_paths,
            wavelengths,
            nodata,
            Labelling(class_names, label_field, all_touched),
            output,
        )
        values = facts_of(scene, labels, labels_path)
    texts = {" ".join(str(item.message).split()): item.category for item in told}
    values["notes"] = [text for text, kind in texts.items() if issubclass(kind, Notice)]
    values["warnings"] = [text for text in texts if text not in values["notes"]] + oddities(values)
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


def opened(
    scene_path: str,
    label_paths: Sequence[str],
    wavelengths: str | None,
    nodata: float | None,
    labelling: Labelling,
    output: opt.Output,
) -> tuple[FileScene, LabelMap | None, str | None]:
    """Open the scene and, where there are any, its labels, with their path.

    Labels that do not fit the scene are told by a warning.
    """
    from hsifcn.core.errors import HsifcnError, MismatchError
    from hsifcn.io import find_labels, open_scene

    scene = open_scene(scene_path, wavelengths=wavelengths, nodata=nodata)
    path = label_paths[0] if label_paths else None
    if path is None:
        try:
            path = find_labels(scene_path)
        except HsifcnError as error:
            output.detail(str(error))
            return scene, None, None
    try:
        return scene, labelling.open(path, scene), path
    except MismatchError as error:
        warnings.warn(str(error), stacklevel=2)
        return scene, None, path


def facts_of(scene: FileScene, labels: LabelMap | None, labels_path: str | None) -> dict[str, Any]:
    """All there is to tell of a scene, for programs."""
    from hsifcn.data.bands import band_faults

    values: dict[str, Any] = {
        "path": scene.path,
        "shape": list(scene.shape),
        "dtype": scene.dtype.name,
        "interleave": scene.interleave,
        "axes_told": scene.axes_told,
        "wavelengths": None if scene.wavelengths is None else scene.wavelengths.tolist(),
        "fwhm": None if scene.fwhm is None else scene.fwhm.tolist(),
        "scale_factor": scene.scale_factor,
        "bad_bands": [int(i) + 1 for i in (~scene.good_bands).nonzero()[0]],
        "band_faults": {
            fault: [int(i) + 1 for i in bands.nonzero()[0]]
            for fault, bands in band_faults(scene).items()
        },
        "nodata": scene.nodata,
        "grid": None if scene.grid is None else grid_record(scene.grid),
        "labels": labels_path,
        "classes": None,
    }
    if labels is not None:
        values["classes"] = {
            name: int((labels.labels == number).sum())
            for number, name in enumerate(labels.class_names, start=1)
            if (labels.labels == number).any()
        }
        codes = dict(zip(labels.class_names, labels.codes, strict=True))
        values["class_codes"] = {name: codes[name] for name in values["classes"]}
        values["labels_shape"] = list(labels.labels.shape)
    return values


def grid_record(grid: Grid) -> dict[str, Any]:
    """Georeference, with the name of its CRS and the size of its pixels in units of the CRS."""
    a, b, _, d, e, _ = grid.transform
    # Well-known text names the CRS in its first quotes: PROJCS["WGS 84 / UTM zone 33N",...
    name = re.search(r'\[ *"([^"]+)"', grid.crs or "")
    return {
        "crs": grid.crs,
        "crs_name": name[1] if name else grid.crs,
        "transform": list(grid.transform),
        "pixel_size": [math.hypot(a, d), math.hypot(b, e)],
    }


def oddities(values: dict[str, Any]) -> list[str]:
    """What may be wrong with a scene that can be read."""
    found = []
    nm = values["wavelengths"]
    if nm is not None and any(after <= before for before, after in itertools.pairwise(nm)):
        found.append("the wavelengths do not increase")
    if values["grid"] is not None and values["grid"]["crs"] is None:
        found.append("the georeference names no coordinate system")
    rows, cols, bands = values["shape"]
    if bands > max(rows, cols) and not values["axes_told"]:
        found.append(f"{bands} bands and {rows} x {cols} pixels: are the axes in order?")
    faulty = set(itertools.chain.from_iterable(values["band_faults"].values()))
    if len(faulty) == bands:
        found.append("no band is usable")
    return found


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
