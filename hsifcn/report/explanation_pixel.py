"""The part of an explanation that tells of one pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hsifcn.core import formats
from hsifcn.core.scene import Scene
from hsifcn.report import page
from hsifcn.report.explanation_charts import (
    field_squares,
    importance_chart,
    share_chart,
    sight_chart,
    stride_name,
)
from hsifcn.report.quicklook import rgb_window
from hsifcn.report.tables import Column, build_table

if TYPE_CHECKING:
    from hsifcn.inference.explain.explanation import Explanation

Values = Mapping[str, Any]


def pixel_part(explanation: Explanation, scene: Scene, record: Values) -> dict[str, Any]:
    """The part of one pixel, where one was asked for."""
    told, found = record.get("pixel"), explanation.pixel_influence
    if not told or found is None:
        return {"pixel": None}
    names = {key: page.isolated(told[key] or "") for key in ("class", "mapped", "rival", "truth")}
    told = {**told, **names}
    window = explanation.pixels.window
    image = rgb_window(scene, window)
    charts = [share_chart("pixel-shares", told)] if record["stages"] else []
    charts.append(
        importance_chart(
            "pixel-bands",
            told["wavelengths"],
            f"What the probability of {told['class']} loses here without a group of bands.",
        )
    )
    charts.append(
        sight_chart(
            "pixel-sight",
            image,
            (told["row"] - window.row, told["col"] - window.col),
            found.map,
            field_squares(told["receptive_field"]),
            f"What counts here for {told['class']}.",
        )
    )
    columns = [
        Column("cells of the stage", lambda row: stride_name(row["stride"]), numeric=False),
        Column(told["class"], lambda row: formats.significant(row["share"]), "share in the score"),
        Column(
            told["rival"], lambda row: formats.significant(row["rival_share"]), "share in the score"
        ),
        Column(
            f"{told['class']}, up to here",
            lambda row: formats.percent(row["probability_up_to_here"], 1),
            "probability, %",
        ),
    ]
    table = build_table(columns, [("", told["stages"])]) if record["stages"] else None
    return {
        "pixel": told,
        "pixel_sentence": _pixel_sentence(told),
        "pixel_charts": charts,
        "pixel_table": table,
    }


def _pixel_sentence(told: Values) -> str:
    truth = f"its label is {told['truth']}" if told["truth"] else "it has no label"
    return (
        f"Mapped as {told['mapped']}; {truth}. The score of {told['class']} is "
        f"{formats.significant(told['logit'])} (probability "
        f"{page.percent_of(told['probability'])}), the next one, {told['rival']}, "
        f"{formats.significant(told['rival_logit'])}."
    )
