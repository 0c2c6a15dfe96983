"""``hsifcn explain``: how a map was built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hsifcn.cli import options as opt
from hsifcn.core import formats

if TYPE_CHECKING:
    from hsifcn.data.split import Split
    from hsifcn.inference.bundle import Bundle
    from hsifcn.inference.explain.explain_run import ExplainTarget
    from hsifcn.propagation.source import PseudoLabelSource


def place(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Row and column of ``ROW,COL``."""
    if value is None:
        return None
    parts = value.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(f"'{value}' is no pixel; write ROW,COL, as 30,72")
    return int(parts[0]), int(parts[1])


@opt.command(
    "explain",
    "explain runs/cube --at 60,72",
    "explain runs/cube other.hdr -o other_explain",
)
@click.argument("paths", nargs=-1, metavar="[MODEL] [SCENE]")
@click.option("-o", "--out", metavar="DIR", help="Folder to write into; explain in the run.")
@click.option(
    "--at", callback=place, metavar="ROW,COL", help="Explain one pixel too, counted from 0."
)
@click.option(
    "--class", "class_name", metavar="NAME",
    help="Whose score at that pixel; the class mapped there otherwise.",
)  # fmt: skip
@opt.options(opt.wavelengths, opt.nodata, opt.overwrite, opt.common)
def command(
    output: opt.Output,
    paths: tuple[str, ...],
    out: str | None,
    at: tuple[int, int] | None,
    class_name: str | None,
    wavelengths: str | None,
    nodata: float | None,
    overwrite: bool,
) -> None:
    """Show how a map was built: a heat map for every class, and what each stage adds.

    For networks of the FCN family: the exact share of every stage in every score, accuracy after
    each skip, learned upsampling beside bilinear. For all networks: which wavelengths count, and
    how far the network sees. With --at, one pixel too, and which training pixels its pseudo-label
    came from. Writes a page, explain.json and all layers as GeoTIFF. Without
    MODEL, the newest run's; without SCENE, the scene that it was trained on.
    """
    from hsifcn.core.errors import SettingError
    from hsifcn.core.process import load_torch

    if class_name is not None and at is None:
        raise SettingError("--class needs a pixel", "add --at ROW,COL")
    load_torch()
    from hsifcn.inference.bundle import load_model
    from hsifcn.inference.explain.explain_run import choose_target, class_number, may_replace

    target = choose_target(paths, out, wavelengths, nodata)
    replace = may_replace(target.out, overwrite=overwrite)
    bundle = load_model(target.model)
    label = None if class_name is None else class_number(bundle, class_name)
    record = explain_to_folder(output, target, bundle, at, label, overwrite=replace)
    output.result(summary(record), record)


def explain_to_folder(
    output: opt.Output,
    target: ExplainTarget,
    bundle: Bundle,
    at: tuple[int, int] | None,
    label: int | None,
    *,
    overwrite: bool,
) -> dict[str, Any]:
    """Explain a scene and write page, layers and figures; gives what ``explain.json`` holds."""
    from hsifcn.inference.band_matching import match_scene
    from hsifcn.inference.explain.explain import explain
    from hsifcn.inference.explain.explain_run import (
        RECORD,
        REPORT,
        begin_folder,
        open_split,
        split_record,
    )
    from hsifcn.inference.explain.layers import write_layers, write_source
    from hsifcn.io import open_scene
    from hsifcn.io.files import write_json
    from hsifcn.report.explanation import write_explanation_report

    opened = open_scene(target.scene, wavelengths=target.wavelengths, nodata=target.nodata)
    scene = match_scene(bundle, opened).scene
    split = open_split(target, scene.shape[:2])
    explanation = explain(bundle, scene, split, at=at, label=label, tell=output.detail)
    output.message(f"model: {target.model}")
    begin_folder(target.out)
    record = explanation.record
    source, record["pseudo_labels"] = pseudo_label_source(output, target, bundle, split, at)
    field = record["receptive_field"]["allowed_px"]
    record["split"] = split_record(split, field)
    record["command"] = opt.command_line()
    record["report"] = str(target.out / REPORT)
    names = write_layers(target.out, explanation, bundle, scene.grid, overwrite=overwrite)
    record["layers"] = names
    if source is not None and at is not None:
        record["pixel"]["pseudo_label"] = source.record(at, bundle.class_names)
        names.append(
            write_source(target.out, source.ends, source.window, scene.grid, overwrite=overwrite)
        )
    write_explanation_report(
        target.out / REPORT,
        explanation=explanation,
        scene=scene,
        class_names=bundle.class_names,
        colours=bundle.colours,
        source=source,
    )
    write_json(target.out / RECORD, record)
    return record


def pseudo_label_source(
    output: opt.Output,
    target: ExplainTarget,
    bundle: Bundle,
    split: Split | None,
    at: tuple[int, int] | None,
) -> tuple[PseudoLabelSource | None, str]:
    """Where the pseudo-label of a pixel came from, and what else is known of pseudo-labels."""
    from hsifcn.core.errors import HsifcnError
    from hsifcn.data.split import read_split, split_path
    from hsifcn.inference.explain.explain_run import chosen_sentence, why_untraced
    from hsifcn.inference.targets import run_config
    from hsifcn.io import open_scene
    from hsifcn.training.pseudo_labelling import trace_pseudo_label

    why = why_untraced(target, bundle, split, at)
    chosen = chosen_sentence(target.model.parent) if target.number else ""
    if why or at is None or target.number is None:
        return None, f"{why} {chosen}".strip()
    output.detail("where its pseudo-label came from")
    run = target.model.parent
    config = run_config(run)
    try:
        scenes = [
            open_scene(path, wavelengths=target.wavelengths, nodata=target.nodata)
            for path in config["scenes"]
        ]
        splits = [
            read_split(split_path(run / "split.npz", number + 1)) for number in range(len(scenes))
        ]
        source = trace_pseudo_label(scenes, splits, bundle, target.number - 1, at)
    except HsifcnError as error:
        return None, f"Where the pseudo-label came from is not known: {error}. {chosen}"
    if source is None:
        chosen = f"No window that labels were propagated over holds this pixel. {chosen}"
    return source, chosen


def summary(record: dict[str, Any]) -> str:
    """Accuracy after each stage, what upsampling does, which bands count, for people."""
    from hsifcn.cli import tables
    from hsifcn.data.split import leakage_sentence

    parts = []
    if record["stages"]:
        parts.append(stage_table(record["stages"]))
    lines = {}
    if record["split"]:
        lines["leakage"] = leakage_sentence(record["split"]["leakage"])
    if record["note"]:
        lines["stages"] = record["note"]
    replaced = (record.get("upsampling") or {}).get("replaced")
    if replaced and replaced["bilinear"]["oa"] is not None:
        lines["upsampling"] = (
            f"learned {formats.percent(replaced['learned']['oa'])} % OA, bilinear "
            f"{formats.percent(replaced['bilinear']['oa'])} %, cells repeated "
            f"{formats.percent(replaced['nearest']['oa'])} %"
        )
    groups = sorted(record["wavelengths"]["groups"], key=lambda group: -group["importance"])
    if groups:
        named = "; ".join(f"{group['first']} to {group['last']}" for group in groups[:3])
        worth = "worthless: shuffled weights rank them alike"
        if not record["wavelengths"]["survives_shuffled_weights"]:
            agrees = record["wavelengths"]["deletion_agrees"]
            worth = f"the deletion test {'agrees' if agrees else 'does not agree'}"
        lines["wavelengths"] = f"{named} count most ({worth})"
    field = record["receptive_field"]
    lines["sight"] = (
        f"layers allow {field['allowed_px']} px; 90 % of the influence lies within "
        f"{field['sides_px']['0.9']} px"
    )
    if "pixel" in record:
        lines["pixel"] = pixel_line(record["pixel"], len(record["stages"]))
        lines |= source_fact(record["pixel"].get("pseudo_label"))
    lines["report"] = f"{record['report']} ({formats.seconds(record['seconds'])})"
    parts.append(tables.facts(lines))
    return "\n\n".join(parts)


def source_fact(told: dict[str, Any] | None) -> dict[str, str]:
    """The pseudo-label of the pixel and what it came from; nothing where it was not traced."""
    if not told:
        return {}
    nearest = told["training_pixels"][0]
    if nearest["distance_px"] == 0:
        return {"pseudo-label": f"none: it is a training pixel of {told['class']}"}
    return {
        "pseudo-label": f"{told['class']}, {formats.percent(told['probability'], 1)} %: "
        f"{formats.percent(told['from_training_pixels'], 1)} % from training pixels, most from "
        f"row {nearest['row']}, column {nearest['col']} ({nearest['class']}, "
        f"{formats.percent(nearest['share'], 1)} %), "
        f"{formats.percent(told['from_spectra'], 1)} % from spectral classifiers"
    }


def stage_table(stages: list[dict[str, Any]]) -> str:
    """Accuracy of each stage, or agreement with the map where there are no test pixels."""
    from hsifcn.cli import tables

    known = stages[0]["up_to_here"]["oa"] is not None
    key = "oa" if known else "same_as_map"
    columns = ["cells", "so far", "boundaries", "alone", "without it"]
    rows = [
        [
            f"{stage['stride']} px",
            formats.percent(stage["up_to_here"][key]),
            formats.percent(stage["up_to_here"]["boundary_oa"]),
            formats.percent(stage["alone"][key]),
            formats.percent((stage["without"] or {}).get(key)),
        ]
        for stage in stages
    ]
    head = "OA %" if known else "pixels as in the map, %"
    return f"{head}, by stages from coarse to fine\n{tables.table(columns, rows)}"


def pixel_line(pixel: dict[str, Any], n_stages: int) -> str:
    """The score of a class at one pixel, and the shares of the stages where there are some."""
    shares = " + ".join(
        f"{formats.significant(stage['share'])} (cells of {stage['stride']} px)"
        for stage in pixel["stages"]
    )
    return (
        f"row {pixel['row']}, column {pixel['col']}: {pixel['class']} "
        f"{formats.percent(pixel['probability'], 1)} %, score {formats.significant(pixel['logit'])}"
        f"{f' = {shares}' if n_stages else ''}; next {pixel['rival']} "
        f"{formats.significant(pixel['rival_logit'])}"
    )
