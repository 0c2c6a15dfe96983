"""``hsifcn evaluate``: a map against labels, or against an interpreted sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hsifcn.cli import options as opt
from hsifcn.core import formats


@opt.command(
    "evaluate runs/cube/map.img cube_gt.mat",
    "evaluate runs/cube/map.img cube_gt.mat --split runs/cube/split.npz",
    "evaluate map.tif points.csv --against older_map.tif",
)
@click.argument("map_path", metavar="MAP")
@click.argument("labels_path", metavar="LABELS")
@click.option("--split", "split_path", metavar="split.npz", help="Count its test pixels only.")
@click.option("--against", metavar="MAP", help="Compare with a second map of the same pixels.")
@opt.options(opt.label_field, opt.all_touched, opt.class_names, opt.max_memory, opt.common)
def command(
    output: opt.Output,
    map_path: str,
    labels_path: str,
    split_path: str | None,
    against: str | None,
    label_field: str | None,
    all_touched: bool,
    class_names: str | None,
    max_memory: int | None,
) -> None:
    """Measure a map: OA, AA, kappa, per class, confusion, area of each class, with intervals.

    LABELS are put on the pixels of the map, by their georeference where both have one. An
    interpreted sample of 'hsifcn sample' is recognised by its columns: the figures then hold for
    the whole map.
    """
    from hsifcn.core.errors import MismatchError
    from hsifcn.data.dataset import Labelling
    from hsifcn.data.splits import read_split
    from hsifcn.evaluation.evaluate import evaluate
    from hsifcn.evaluation.evaluate_sample import evaluate_sample
    from hsifcn.evaluation.sample_file import is_sample
    from hsifcn.io import open_labels

    predicted = open_labels(map_path, class_names=class_names)
    other = open_labels(against, class_names=class_names) if against else None
    if is_sample(labels_path):
        if split_path:
            raise click.UsageError("a sample is measured at all its points: leave out --split")
        found = evaluate_sample(predicted, labels_path, other, names=(map_path, against or ""))
        output.result(sample_summary(found), found)
        return
    split = read_split(Path(split_path)) if split_path else None
    if split is None:
        output.message("warning: all labelled pixels are counted, training pixels included")
    paths = (map_path, labels_path, split_path or "", against or "")
    try:
        truth = Labelling(class_names, label_field, all_touched).open(labels_path, predicted)
        result = evaluate(predicted, truth, split, max_memory, other, names=paths)
    except MismatchError as error:
        files = ", ".join(filter(None, paths))
        raise MismatchError(f"{files}: {error.message}", error.remedy) from error
    output.result(summary(result), result)


def summary(result: dict[str, Any]) -> str:
    """The measures against labels, for people."""
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
    lines |= difference_fact(result["difference"])
    return "\n\n".join(
        (
            tables.paragraph(result["use"]),
            tables.per_class(result, intervals["per_class"]),
            areas(result["areas"]),
            tables.facts(lines),
            "\n".join(map(tables.paragraph, result["notes"])),
        )
    )


def sample_summary(result: dict[str, Any]) -> str:
    """The measures by a sample, for people."""
    from hsifcn.cli import tables

    intervals = result["intervals"]
    rows = []
    for name, row in result["per_class"].items():
        bounds = intervals["per_class"][name]
        user, producer = (
            formats.percent(row[key], 1) + tables.brackets(bounds[key])
            for key in ("precision", "recall")
        )
        mapped, true = formats.count(row["n_mapped"]), formats.count(row["n_test"])
        rows.append((name, mapped, user, true, producer))
    columns = ("class", "mapped", "user's %", "true", "producer's %")
    oa = f"{formats.percent(result['oa'])} %{tables.interval(intervals['oa'])}"
    strata = result["strata"].values()
    points = sum(stratum["interpreted"] for stratum in strata)
    sampled = f"{points:,} points in {len(strata)} strata"
    return "\n\n".join(
        (
            tables.paragraph(result["use"]),
            tables.table(columns, rows),
            areas(result["areas"]),
            tables.facts({"OA": oa, **difference_fact(result["difference"]), "sample": sampled}),
            "\n".join(map(tables.paragraph, result["notes"])),
        )
    )


def difference_fact(found: dict[str, Any] | None) -> dict[str, str]:
    """How much better the map is than the second one; nothing where there is none."""
    if found is None:
        return {}
    text = f"{formats.points(found['oa_difference'])} points"
    if found["interval"]:
        text += f" ({formats.interval(found['interval'])})"
    return {"OA less that of the second map": text}


def areas(found: dict[str, Any]) -> str:
    """Areas of the classes: shares of the map, and hectares where its grid tells them."""
    from hsifcn.cli import tables

    def hectares(square_metres: float | None) -> str:
        return formats.NOTHING if square_metres is None else f"{square_metres / 1e4:,.1f}"

    columns = ["class", "mapped %", "area %", "95 % interval"]
    rows = [
        [
            name,
            formats.percent(area["mapped"]),
            formats.percent(area["proportion"]),
            with_width(formats.percent_interval(area["interval"])),
        ]
        for name, area in found.items()
    ]
    if any(area["square_metres"] is not None for area in found.values()):
        columns += ["hectares", "95 % interval"]
        for row, area in zip(rows, found.values(), strict=True):
            bounds = area["square_metres_interval"]
            row.append(hectares(area["square_metres"]))
            row.append(with_width(" to ".join(map(hectares, bounds)) if bounds else ""))
    return tables.table(columns, rows)


def with_width(interval: str) -> str:
    """An interval as text; a dash where both ends are printed alike."""
    low, _, high = interval.partition(" to ")
    return interval if low != high and high else formats.NOTHING
