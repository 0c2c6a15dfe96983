"""``hsifcn suggest``: where further labels would teach most."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsifcn.cli import options as opt
from hsifcn.core import formats

if TYPE_CHECKING:
    from hsifcn.inference.bundle import Bundle
    from hsifcn.inference.suggest import Suggestions


@opt.command(
    "suggest -n 20",
    "suggest runs/cube -n 50 -o next.gpkg",
    "suggest runs/cube other.tif -n 50 -o next.csv",
)
@click.argument("paths", nargs=-1, metavar="[MODEL] [SCENE]")
@click.option("-n", "--points", type=click.IntRange(min=1), required=True, help="Points to label.")
@click.option(
    "--measure", type=click.Choice(["margin", "entropy"]), default="margin", show_default=True,
    help="Of uncertainty.",
)  # fmt: skip
@click.option(
    "--distance", type=click.IntRange(min=0), default=3, show_default=True, metavar="PIXELS",
    help="Least distance of two points, and of a point and a label.",
)  # fmt: skip
@opt.seed
@click.option(
    "-o", "--out", callback=opt.output_file, metavar="FILE", help="next.gpkg or next.csv."
)
@opt.options(opt.wavelengths, opt.nodata, opt.max_memory, opt.device, opt.overwrite, opt.common)
def command(
    output: opt.Output,
    paths: tuple[str, ...],
    points: int,
    measure: str,
    distance: int,
    seed: int,
    out: str | None,
    wavelengths: str | None,
    nodata: float | None,
    max_memory: int | None,
    device: str,
    overwrite: bool,
) -> None:
    """Tell where further labels would teach a model most.

    Points are where the model is unsure and much of the scene looks alike, spread over spectra
    and over the scene, away from the labels at hand; the most useful comes first. Without MODEL,
    the newest run's; without SCENE, the scene that it was trained on.
    """
    from hsifcn.core.process import load_torch

    load_torch()
    from hsifcn.inference.band_matching import match_scene
    from hsifcn.inference.bundle import load_model
    from hsifcn.inference.explain.explain_run import choose_target, open_split
    from hsifcn.inference.suggest import suggest
    from hsifcn.io import open_scene
    from hsifcn.io.point_table import require_point_file, write_points

    if out:
        require_point_file(Path(out))
    target = choose_target(paths, None, wavelengths, nodata)
    bundle = load_model(target.model)
    opened = open_scene(target.scene, wavelengths=target.wavelengths, nodata=target.nodata)
    scene = match_scene(bundle, opened).scene
    split = open_split(target, scene.shape[:2])
    found = suggest(
        bundle, scene, points, labelled=None if split is None else split.labels > 0,
        distance=distance, measure=measure, seed=seed, device=opt.choose_device(device),
        max_memory=max_memory,
    )  # fmt: skip
    output.message(f"model: {target.model}; scene: {target.scene}")
    if len(found.rows) < points:
        output.message(f"warning: only {len(found.rows)} points lie far enough apart")
    n = len(found.rows)
    columns = {
        "point": list(range(1, n + 1)),
        "predicted": [bundle.class_names[label - 1] for label in found.labels],
        "confidence": found.confidence.round(4).tolist(),
        "share": found.share.round(4).tolist(),
        "class": [None] * n,
    }
    if out:
        write_points(Path(out), found.rows, found.cols, columns, scene.grid, overwrite=overwrite)
    rows = zip(found.rows.tolist(), found.cols.tolist(), *list(columns.values())[1:4], strict=True)
    keys = ("row", "col", "predicted", "confidence", "share")
    values = {"points": [dict(zip(keys, row, strict=True)) for row in rows], "out": out}
    output.result(summary(found, bundle, out, target.scene), values)


def summary(found: Suggestions, bundle: Bundle, out: str | None, scene: str) -> str:
    """The points as a table, and what comes next."""
    from hsifcn.cli import tables

    rows = [
        (
            str(i + 1),
            str(found.rows[i]),
            str(found.cols[i]),
            bundle.class_names[found.labels[i] - 1],
            formats.percent(found.confidence[i], 1),
            formats.percent(found.share[i], 1),
        )
        for i in range(len(found.rows))
    ]
    columns = ("point", "row", "col", "predicted", "confidence %", "looks alike %")
    text = tables.table(columns, rows)
    if not out:
        return text
    after = shlex.join(["hsifcn", "train", scene, "-l", out, "--label-field", "class"])
    return f"{text}\n\n{out}: fill in the column 'class'\n\nnext: {after}"
