"""The page that tells how a map was built: depths, shares, upsampling, wavelengths, sight."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hsifcn.core import formats
from hsifcn.core.scene import Scene
from hsifcn.report import page
from hsifcn.report.explanation_charts import (
    deletion_chart,
    depth_chart,
    field_squares,
    importance_chart,
    kernel_chart,
    sight_chart,
    stride_name,
)
from hsifcn.report.explanation_pictures import (
    classes_shown,
    depth_maps,
    grid_pictures,
    heat_maps,
    heat_scale,
    share_maps,
)
from hsifcn.report.explanation_pixel import pixel_part
from hsifcn.report.explanation_source import source_part
from hsifcn.report.figures import Chart
from hsifcn.report.quicklook import rgb_caption, rgb_window
from hsifcn.report.tables import Column, Table, build_table

if TYPE_CHECKING:
    from hsifcn.inference.explain.explanation import Explanation
    from hsifcn.propagation.source import PseudoLabelSource

Values = Mapping[str, Any]
FILES = {
    "shares_stride_N.tif": "share of the stage with cells of N pixels in every score",
    "probabilities_stride_N.tif": "heat map of every class by the stages up to that one",
    "map_stride_N.tif": "map by the stages up to that one",
    "logits.tif": "the scores: the sum of all shares, divided by the temperature",
    "pseudo_label_source.tif": "where the walk from the pixel asked for ends: the share of every "
    "pixel in its pseudo-label",
}


def write_explanation_report(
    path: str | os.PathLike[str],
    *,
    explanation: Explanation,
    scene: Scene,
    class_names: Sequence[str],
    colours: Sequence[Sequence[int]],
    source: PseudoLabelSource | None = None,
) -> None:
    """Write the page of an explanation.

    Parameters
    ----------
    path : path
        The HTML file, replaced if it exists.
    explanation : Explanation
    scene : Scene
        That was explained.
    class_names, colours : sequences, (n_classes,)
    source : PseudoLabelSource, optional
        Of the pixel that was asked for.

    Raises
    ------
    FailedError
        The page cannot be written.
    """
    record = page.as_json(explanation.record)
    image = page.picture(rgb_window(scene, explanation.pixels.window), rgb_caption(scene))
    names = [page.isolated(name) for name in class_names]
    legend = page.legend(names, colours)
    shown = classes_shown(explanation)
    values = {
        "record": record,
        "scene": str(record["scene"]).replace("\\", "/").rsplit("/", 1)[-1],
        "window": _window_sentence(record),
        "lead": _lead(record),
        "leakage_sentence": page.leakage_sentence((record.get("split") or {}).get("leakage")),
        "maps": [image, *depth_maps(explanation, colours, record)],
        "legend": [legend[k] for k in shown],
        **_depths(explanation, record),
        **_heats(explanation, record, shown, [legend[k] for k in shown]),
        **_upsampling(explanation, record, names),
        **_bands(record["wavelengths"]),
        "sight": _sight(explanation, scene),
        "sight_sentence": _sight_sentence(record["receptive_field"]),
        "pseudo_labels": record.get("pseudo_labels", ""),
        **pixel_part(explanation, scene, record),
        **source_part(source, scene, record, legend),
        "files": _files(record),
    }
    page.write_page(path, "explanation.html.j2", values)


def _files(record: Values) -> list[tuple[str, str]]:
    """The rasters that were written, and what they hold."""
    written = {re.sub(r"stride_\d+", "stride_N", name) for name in record.get("layers") or FILES}
    return [(name, text) for name, text in FILES.items() if name in written]


def _depths(explanation: Explanation, record: Values) -> dict[str, Any]:
    """What the skips bring, as a table and a chart."""
    return {
        "strides": explanation.strides,
        "accuracy_known": record["accuracy"]["oa"] is not None,
        "depths": _depth_table(record["stages"]),
        "depth_chart": _depth_chart(record["stages"]),
    }


def _heats(
    explanation: Explanation,
    record: Values,
    shown: Sequence[int],
    legend: Sequence[tuple[str, tuple[int, ...]]],
) -> dict[str, Any]:
    """Heat maps and shares of the classes that are shown."""
    heats, shares = heat_maps(explanation, shown), share_maps(explanation, shown)
    return {
        "scale": heat_scale(),
        "heat_heads": _heat_heads(explanation, record),
        "heat_rows": [(*entry, row) for entry, row in zip(legend, heats, strict=True)],
        "left_out": _left_out(len(explanation.logits) - len(shown)),
        "sum_error": f"within {formats.significant(record.get('largest_error_of_sum'))} of scores "
        f"up to {formats.significant(record.get('largest_logit'))}",
        "share_heads": [*(f"cells of {stride_name(s)}" for s in explanation.strides), "score"],
        "share_rows": [(*entry, row) for entry, row in zip(legend, shares, strict=True)],
    }


def _window_sentence(record: Values) -> str:
    """Which part of the scene is shown, where it is not all of it."""
    (rows, cols), (row, col, height, width) = record["shape"], record["window"]
    if (rows, cols) == (height, width):
        return ""
    return (
        f"A window of {height:,} x {width:,} pixels of a scene of {rows:,} x {cols:,}, from row "
        f"{row:,} and column {col:,}: the scene is too large to be explained whole"
    )


def _lead(record: Values) -> list[str]:
    """The answers in a few sentences, on top of the page."""
    stages = record["stages"]
    if not stages or record["accuracy"]["oa"] is None:
        return []
    first, last = stages[0]["up_to_here"], stages[-1]["up_to_here"]
    sentences = [
        f"The coarsest scores alone, in cells of {stages[0]['stride']} pixels, reach an OA of "
        f"{page.percent_of(first['oa'])}"
        + (
            f"; with all skips it is {page.percent_of(last['oa'])}."
            if len(stages) > 1
            else "; this network has no finer ones."
        )
    ]
    if len(stages) > 1 and first["boundary_oa"] is not None:
        sentences.append(
            f"Within 2 pixels of a boundary the skips raise it from "
            f"{page.percent_of(first['boundary_oa'])} to {page.percent_of(last['boundary_oa'])}."
        )
    replaced = (record.get("upsampling") or {}).get("replaced") or {}
    if replaced:
        sentences.append(
            "With bilinear kernels in place of the learned ones OA is "
            f"{page.percent_of(replaced['bilinear']['oa'])}; where cells are merely repeated it is "
            f"{page.percent_of(replaced['nearest']['oa'])}."
        )
    return sentences


def _depth_table(stages: Sequence[Values]) -> Table | None:
    """Accuracy of each stage together with the coarser ones, alone, and of all but it."""
    measure = "oa" if stages and stages[0]["alone"]["oa"] is not None else "same_as_map"
    over = "OA, %" if measure == "oa" else "pixels as in the map, %"

    def column(title: str, part: str, key: str, head: str) -> Column:
        return Column(title, lambda row: formats.percent((row[part] or {}).get(key)), head)

    columns = [
        Column("cells of the stage", lambda row: stride_name(row["stride"]), numeric=False),
        column("with all coarser ones", "up_to_here", measure, over),
        column("alone", "alone", measure, over),
        column("all stages but it", "without", measure, over),
    ]
    if measure == "oa":
        columns += [
            column("with all coarser ones", "up_to_here", "boundary_oa", "OA at boundaries, %"),
            column("all stages but it", "without", "boundary_oa", "OA at boundaries, %"),
            column("with all coarser ones", "up_to_here", "same_as_map", "pixels as in the map, %"),
        ]
    columns.append(
        Column("standard deviation", lambda row: formats.significant(row["spread"]), "share")
    )
    return build_table(columns, [("", stages)]) if stages else None


def _depth_chart(stages: Sequence[Values]) -> Chart | None:
    """Drawn where there are several depths whose accuracy is known."""
    if len(stages) < 2 or stages[0]["up_to_here"]["oa"] is None:
        return None
    return depth_chart(stages)


def _left_out(number: int) -> str:
    if number <= 0:
        return ""
    return f"{number} classes that are rarer here are left out; the rasters have them."


def _heat_heads(explanation: Explanation, record: Values) -> list[str]:
    if not record["stages"]:
        return ["the map"]
    return [
        f"{'' if number == 0 else '+ '}cells of {stride_name(stride)}"
        for number, stride in enumerate(explanation.strides)
    ]


def _upsampling(
    explanation: Explanation, record: Values, class_names: Sequence[str]
) -> dict[str, Any]:
    """Kernels beside bilinear ones, what replacing them changes, and the dotted grid."""
    told = record.get("upsampling") or {}
    if not told:
        return {"kernels": [], "patterns": []}
    kernels = [
        kernel_chart(
            f"kernel{number}",
            kernel,
            f"From cells of {layer['from_stride']} px to {layer['to_stride']} px: the bilinear "
            "kernel, the mean of the learned ones, and their difference.",
        )
        for number, (kernel, layer) in enumerate(
            zip(explanation.kernels, told["layers"], strict=True)
        )
    ]
    rows = [{"name": name, **figures} for name, figures in told["replaced"].items()]
    titles = {"learned": "learned", "bilinear": "bilinear", "nearest": "every cell repeated"}
    columns = [
        Column("kernels", lambda row: titles[row["name"]], numeric=False),
        Column("all", lambda row: formats.percent(row["oa"]), "OA, %"),
        Column("boundaries", lambda row: formats.percent(row["boundary_oa"]), "OA, %"),
        Column("pixels as in the map, %", lambda row: formats.percent(row["same_as_map"])),
    ]
    largest = max(layer["largest_difference_to_bilinear"] for layer in told["layers"])
    return {
        "kernels": kernels,
        "replaced": build_table(columns, [("", rows)]),
        "kernel_sentence": "No learned weight differs from its bilinear one by more than "
        f"{formats.significant(largest, 2)}. Below, all kernels are replaced and the map is made "
        "again from the same scores.",
        "patterns": grid_pictures(explanation, class_names),
        "pattern_sentence": _pattern_sentence(told["grid"]),
    }


def _pattern_sentence(grid: Sequence[Values]) -> str:
    """How strong the dotted grid of the learned kernels is."""
    told = ", ".join(
        f"{page.percent_of(entry['relative_spread'])} from cells of {stride_name(entry['stride'])}"
        for entry in grid
    )
    return (
        "A pixel gets its scores from the cells around it by weights that depend on where in the "
        "cell it lies. Bilinear weights add up to 1 everywhere; learned ones need not, and then an "
        "even area comes out as a regular pattern of dots, the checkerboard of transposed "
        f"convolutions. Its standard deviation here, as a part of the score: {told} (mean over "
        "classes). The finer stages that are added later can even it out. The pictures show it "
        "for the class where it is strongest, with its contrast stretched."
    )


def _bands(told: Values) -> dict[str, Any]:
    """Importance of groups of bands, and what its two checks say."""
    groups = told.get("groups") or []
    if not groups:
        return {"bands": []}
    best = max(groups, key=lambda group: group["importance"])
    least = min(groups, key=lambda group: group["importance"])
    distance = told["distance_to_training_px"]
    where = f"{formats.count(told['pixels'])} "
    if told["target"] == "labels":
        where += "test pixels"
        where += f" more than {distance} px away from every training pixel" if distance else ""
    else:
        where += "pixels, for which the map itself counts as right, as there are no test labels"
    sentences = [
        f"The bands fall into {len(groups)} contiguous groups. In turn the values of each are "
        "replaced by values from elsewhere in the scene. What the probability of the mapped class "
        f"loses is the group's importance, measured at {where}. Neighbouring bands tell much the "
        "same, so a group that looks unimportant may only be told by its neighbours too.",
        f"Most is lost without {_range(best)} ({formats.percent(best['importance'], 1)} points), "
        f"least without {_range(least)} ({formats.percent(least['importance'], 1)} points).",
        _check_sentence(told),
    ]
    warning = ""
    if told["survives_shuffled_weights"]:
        warning = (
            "This importance is worthless as an explanation: a network with shuffled weights ranks "
            "the wavelengths alike, so the ranking tells of the spectra, not of what was learnt."
        )
    elif not told["deletion_agrees"]:
        warning = "Take this ranking with caution: the deletion test does not confirm it."
    charts = [
        importance_chart(
            "importance",
            groups,
            "Importance of each group; whiskers are the standard deviation over repetitions.",
        ),
        deletion_chart(told["deletion"]),
    ]
    return {"bands": charts, "band_sentences": sentences, "band_warning": warning}


def _range(group: Values) -> str:
    """``400 nm to 550 nm``."""
    return f"{group['first']} to {group['last']}"


def _check_sentence(told: Values) -> str:
    """What deletion and shuffled weights say of the ranking."""
    area, correlations = told["deletion_area"], told["rank_correlation_with_shuffled_weights"]
    mean = sum(correlations) / len(correlations)
    verdict = "so it depends on what was learnt"
    if told["survives_shuffled_weights"]:
        verdict = "so it does not depend on what was learnt"
    return (
        "Two checks. Deletion: replacing groups one after the other leaves on average "
        f"{page.percent_of(area['important first'])} of the pixels right if important ones go "
        f"first, {page.percent_of(area['random'])} in random order, "
        f"{page.percent_of(area['important last'])} if they go last. Shuffled weights: the ranks "
        f"of networks with the weights of each layer shuffled correlate with these by "
        f"{mean:.2f}".replace("-", formats.MINUS)
        + f" on average, {verdict}."
    )


def _sight(explanation: Explanation, scene: Scene) -> Chart:
    """The mean influence over the middle of the scene."""
    image = rgb_window(scene, explanation.pixels.window)
    rows, cols = image.shape[:2]
    found = explanation.influence
    return sight_chart(
        "sight",
        image,
        (rows // 2, cols // 2),
        found.map,
        field_squares(found.record()),
        "Influence of the pixels around one on its score, drawn to scale over the scene.",
    )


def _sight_sentence(told: Values) -> str:
    sides = told["sides_px"]
    return (
        f"The layers let a square of {told['allowed_px']} x {told['allowed_px']} pixels change a "
        f"score (the receptive field). What truly counts is less: half of the influence lies "
        f"within {sides['0.5']} x {sides['0.5']} pixels, 90 % within {sides['0.9']} x "
        f"{sides['0.9']}, 99 % within {sides['0.99']} x {sides['0.99']} (mean over "
        f"{told['pixels']} pixels). A patch of 15 x 15 pixels, as a patch CNN takes, holds "
        f"{page.percent_of(told['within_patch_15'])}."
    )
