"""``hsifcn suggest``: where further labels would teach most."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt
from hsifcn.core import formats

if TYPE_CHECKING:
    from hsifcn.inference.bundle import Bundle
    from hsifcn.inference.explain.explain_run import ExplainTarget
    from hsifcn.inference.suggest import Suggestions

FLAGS = ("all_touched", "keep_bad_bands")  # of training


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
    from hsifcn.inference.targets import run_config
    from hsifcn.io import open_scene
    from hsifcn.io.point_table import require_point_file, write_points

    if out:
        require_point_file(Path(out))
    target = choose_target(paths, None, wavelengths, nodata)
    bundle = load_model(target.model)
    opened = open_scene(target.scene, wavelengths=target.wavelengths, nodata=target.nodata)
    scene = match_scene(bundle, opened).scene
    split = open_split(target, scene.shape[:2])
    run = target.model.parent
    config = run_config(run) if (run / "config.json").exists() else {}
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
        config.get("label_field") or "class": [None] * n,
    }
    if out:
        write_points(Path(out), found.rows, found.cols, columns, scene.grid, overwrite=overwrite)
    rows = zip(found.rows.tolist(), found.cols.tolist(), *list(columns.values())[1:4], strict=True)
    keys = ("row", "col", "predicted", "confidence", "share")
    values = {"points": [dict(zip(keys, row, strict=True)) for row in rows], "out": out}
    text = table(found, bundle)
    if out:
        field = config.get("label_field") or "class"
        after = shlex.join(["hsifcn", *next_training(config, run, target, out)])
        text += f"\n\n{out}: fill in the column '{field}'\n\nnext: {after}"
    output.result(text, values)


def next_training(
    config: Mapping[str, Any], run: Path, target: ExplainTarget, new: str
) -> list[str]:
    """The command that trains on the labels of a run and on new ones.

    Of a scene of the run, the new labels train and the test pixels stay as they were.
    """
    scenes, labels = list(config.get("scenes") or ()), list(config.get("labels") or ())
    kind, _, sides = str(config.get("split") or "").partition(":")
    if kind == "fixed":
        labels = sides.partition(":val=")[0].split(",")
    words = ["train", *scenes]
    again = target.split_path is not None
    if not again:
        words.append(target.scene)
    for path in [*labels, *(config.get("further_labels") or ()), new]:
        words += ["-l", path]
    if again:
        words += ["-s", str(run / "split.npz")]
    for name in ("label_field", "class_names", "wavelengths", "nodata", "bands"):
        if config.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", str(config[name])]
    words += [f"--{name.replace('_', '-')}" for name in FLAGS if config.get(name)]
    more = run.resolve().name if config else "run"
    return [*words, "-o", str(run.with_name(f"{more}-more"))]


def table(found: Suggestions, bundle: Bundle) -> str:
    """The points for people."""
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
    return tables.table(columns, rows)
