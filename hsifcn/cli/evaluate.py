"""``hsifcn evaluate``: a map against labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hsifcn.cli import options as opt
from hsifcn.core import formats


@opt.command(
    "evaluate runs/cube/map.img cube_gt.mat",
    "evaluate runs/cube/map.img cube_gt.mat --split runs/cube/split.npz",
)
@click.argument("map_path", metavar="MAP")
@click.argument("labels_path", metavar="LABELS")
@click.option("--split", "split_path", metavar="split.npz", help="Count its test pixels only.")
@opt.options(opt.label_field, opt.all_touched, opt.class_names, opt.max_memory, opt.common)
def command(
    output: opt.Output,
    map_path: str,
    labels_path: str,
    split_path: str | None,
    label_field: str | None,
    all_touched: bool,
    class_names: str | None,
    max_memory: int | None,
) -> None:
    """Measure a map: OA, AA, kappa, per class, confusion, area of each class, with intervals.

    LABELS are put on the pixels of the map, by their georeference where both have one.
    """
    from hsifcn.core.errors import MismatchError
    from hsifcn.data.dataset import Labelling
    from hsifcn.data.splits import read_split
    from hsifcn.evaluation.evaluate import evaluate
    from hsifcn.io import open_labels

    split = read_split(Path(split_path)) if split_path else None
    if split is None:
        output.message("warning: all labelled pixels are counted, training pixels included")
    predicted = open_labels(map_path, class_names=class_names)
    paths = (map_path, labels_path, split_path or "")
    try:
        truth = Labelling(class_names, label_field, all_touched).open(labels_path, predicted)
        result = evaluate(predicted, truth, split, max_memory, names=paths)
    except MismatchError as error:
        files = ", ".join(filter(None, paths))
        raise MismatchError(f"{files}: {error.message}", error.remedy) from error
    output.result(summary(result), result)


def summary(result: dict[str, Any]) -> str:
    """The measures for people."""
    from hsifcn.cli import tables

    intervals = result["intervals"]
    lines = {
        name.upper() if len(name) == 2 else name: f"{formats.percent(result[name])} %"
        f"{tables.interval(intervals[name])}"
        for name in ("oa", "aa", "kappa")
    }
    lines["OA by area"] = (
        f"{formats.percent(result['oa_area_weighted'])} %"
        f"{tables.interval(result['oa_area_weighted_interval'])}"
    )
    return "\n\n".join(
        (
            tables.per_class(result, intervals["per_class"]),
            areas(result["areas"]),
            tables.facts(lines),
            "\n".join(result["notes"]),
        )
    )


def areas(found: dict[str, Any]) -> str:
    """Areas of the classes: shares of the map, and hectares where its grid tells them."""
    from hsifcn.cli import tables

    def hectares(square_metres: float | None) -> str:
        return "-" if square_metres is None else f"{square_metres / 1e4:,.1f}"

    columns = ["class", "mapped %", "area %", "95 % interval"]
    rows = [
        [
            name,
            formats.percent(area["mapped"]),
            formats.percent(area["proportion"]),
            formats.percent_interval(area["interval"]),
        ]
        for name, area in found.items()
    ]
    if any(area["square_metres"] is not None for area in found.values()):
        columns += ["hectares", "95 % interval"]
        for row, area in zip(rows, found.values(), strict=True):
            bounds = area["square_metres_interval"]
            row.append(hectares(area["square_metres"]))
            row.append(" to ".join(map(hectares, bounds)) if bounds else "-")
    return tables.table(columns, rows)
