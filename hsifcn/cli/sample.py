"""``hsifcn sample``: a probability sample of a map, to be interpreted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hsifcn.core.scene import LabelMap, Scene


@opt.command(
    "sample map.tif -n 300 -o points.gpkg",
    "sample map.tif -n 300 --scene cube.hdr --sheet sheet.png -o pts.csv",
    "sample map.tif -n 500 --allocation equal -o points.gpkg",
)
@click.argument("map_path", metavar="MAP")
@click.option("-n", "--points", type=click.IntRange(min=2), required=True, help="Points to draw.")
@click.option(
    "--design", type=click.Choice(["stratified", "random"]), default="stratified",
    show_default=True, help="stratified: the classes of the map are the strata.",
)  # fmt: skip
@click.option(
    "--allocation", type=click.Choice(["proportional", "equal", "neyman"]),
    default="proportional", show_default=True,
    help="Of the points to the strata: by their pixels, equally, or by pixels and expected "
    "accuracies.",
)  # fmt: skip
@click.option(
    "--minimum", type=click.IntRange(min=2), metavar="N",
    help="Points of each class at least; 10 by default, where -n allows it.",
)  # fmt: skip
@click.option(
    "--expected", multiple=True, metavar="CLASS=P",
    help="User's accuracy to expect of a class, for neyman; or a file of 'train' or of "
    "'evaluate --json' that tells it.",
)  # fmt: skip
@click.option(
    "--scene", "scene_path", metavar="SCENE",
    help="The mapped scene: pixels without a measurement are left out, and the sheet shows it.",
)  # fmt: skip
@click.option(
    "--away-from", "split_path", metavar="split.npz", help="Keep clear of its training pixels."
)
@click.option(
    "--distance", type=click.IntRange(min=0), default=2, show_default=True, metavar="PIXELS",
    help="How far from them.",
)  # fmt: skip
@opt.seed
@click.option(
    "-o", "--out", required=True, callback=opt.output_file, metavar="FILE",
    help="points.gpkg or points.csv.",
)  # fmt: skip
@click.option(
    "--sheet", callback=opt.output_file, metavar="FILE.png",
    help="A picture of the surroundings of each point, to print or to read beside the table.",
)  # fmt: skip
@opt.options(opt.class_names, opt.overwrite, opt.common)
def command(
    output: opt.Output,
    map_path: str,
    points: int,
    design: str,
    allocation: str,
    minimum: int | None,
    expected: tuple[str, ...],
    scene_path: str | None,
    split_path: str | None,
    distance: int,
    seed: int,
    out: str,
    sheet: str | None,
    class_names: str | None,
    overwrite: bool,
) -> None:
    """Draw a sample of a map, to be interpreted and given to 'hsifcn evaluate'.

    Every pixel has a known chance to be drawn, so the figures hold for the whole map. Fill in the
    column 'reference' with the true class of each point; leave it empty where you cannot tell.
    Points are in random order: the first ones are a sample, too.
    """
    from hsifcn.evaluation.sampling import draw_sample
    from hsifcn.io import open_labels, open_scene
    from hsifcn.io.files import restored_on_failure
    from hsifcn.io.point_table import require_point_file

    require_point_file(Path(out))
    if sheet and not scene_path:
        raise click.UsageError("--sheet shows the scene: name it with --scene")
    mapped = open_labels(map_path, class_names=class_names)
    scene = open_scene(scene_path) if scene_path else None
    if scene is not None and scene.shape[:2] != mapped.labels.shape:
        raise click.UsageError(
            f"{scene_path} is {scene.shape[0]}x{scene.shape[1]} pixels and {map_path} "
            f"{mapped.labels.shape[0]}x{mapped.labels.shape[1]}"
        )
    allowed = allowed_pixels(mapped, scene, split_path, distance)
    if scene is None and not mapped.labels.all():
        output.message(
            f"{int((mapped.labels == 0).sum()):,} unclassified pixels are a stratum of their own; "
            "--scene leaves out those without a measurement"
        )
    sample = draw_sample(
        mapped, points, design=design, allocation=allocation, minimum=minimum,
        expected=expected_accuracies(expected), allowed=allowed, seed=seed,
    )  # fmt: skip
    strata = [
        {"stratum": name, "pixels": int(size), "points": int(n)}
        for name, size, n in zip(sample.names, sample.sizes, sample.drawn, strict=True)
    ]
    values = {"strata": strata, "seed": seed, "design": design, "out": out, "sheet": sheet}
    with restored_on_failure(map(Path, filter(None, (out, sheet)))):
        sample.write(Path(out), overwrite=overwrite)
        if sheet and scene is not None:
            from hsifcn.report.point_sheet import write_point_sheet

            write_point_sheet(Path(sheet), scene, sample.rows, sample.cols, overwrite=overwrite)
        output.result(summary(strata, out, map_path), values)


def summary(strata: Sequence[dict[str, Any]], out: str, map_path: str) -> str:
    """Pixels and points of each stratum, and what comes next."""
    import shlex

    from hsifcn.cli import tables

    rows = [(row["stratum"], f"{row['pixels']:,}", f"{row['points']:,}") for row in strata]
    after = shlex.join(["hsifcn", "evaluate", map_path, out])
    return (
        f"{tables.table(('stratum', 'pixels', 'points'), rows)}\n\n"
        f"{out}: fill in the column 'reference'\n\nnext: {after}"
    )


def allowed_pixels(
    mapped: LabelMap, scene: Scene | None, split_path: str | None, distance: int
) -> npt.NDArray[np.bool_] | None:
    """Where points may lie; None for everywhere."""
    from hsifcn.core.errors import MismatchError
    from hsifcn.data.splits import read_split
    from hsifcn.evaluation.sampling import clear_of

    allowed = None
    if scene is not None:
        from hsifcn.training.scenes import measured_pixels

        allowed = measured_pixels(scene, scene.good_bands)
    if split_path is None:
        return allowed
    split = read_split(Path(split_path))
    if split.labels.shape != mapped.labels.shape:
        raise MismatchError(
            f"{split_path} is of {split.labels.shape} pixels, the map of {mapped.labels.shape}",
            "give the split of the mapped scene",
        )
    clear = clear_of(split.train | split.validation, distance)
    return clear if allowed is None else allowed & clear


def expected_accuracies(given: Sequence[str]) -> dict[str, float]:
    """User's accuracies by class, of ``CLASS=P`` and of files with ``per_class``."""
    found: dict[str, float] = {}
    for text in given:
        name, equals, share = text.rpartition("=")
        if not equals:
            found |= expected_of_file(text)
            continue
        try:
            found[name] = float(share)
        except ValueError:
            found[name] = -1.0
        if not 0 <= found[name] <= 1:
            raise click.UsageError(f"--expected {text}: give a share from 0 to 1, as in Woods=0.9")
    return found


def expected_of_file(path: str) -> dict[str, float]:
    """User's accuracies of a ``metrics.json``, or of what ``evaluate --json`` printed."""
    from hsifcn.core.errors import UnreadableFileError
    from hsifcn.io.files import read_text

    try:
        rows = json.loads(read_text(path))["per_class"]
        known = {name: row["precision"] for name, row in rows.items()}
        return {str(name): float(share) for name, share in known.items() if share is not None}
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UnreadableFileError(
            f"{path} tells no accuracies", "give a metrics.json, or CLASS=0.9"
        ) from error
