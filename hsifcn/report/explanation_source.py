"""The part of an explanation that tells where a pseudo-label came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hsifcn.core import formats
from hsifcn.core.scene import Scene
from hsifcn.report import page
from hsifcn.report.explanation_charts import source_chart
from hsifcn.report.quicklook import rgb_window
from hsifcn.report.tables import Column, Table, build_table

if TYPE_CHECKING:
    from hsifcn.propagation.source import PseudoLabelSource

Values = Mapping[str, Any]
MOST_ROWS = 10  # training pixels in the table


def source_part(
    source: PseudoLabelSource | None,
    scene: Scene,
    record: Values,
    legend: Sequence[tuple[str, Sequence[int]]],
) -> dict[str, Any]:
    """Sentences, a chart and a table, where a pseudo-label was traced."""
    told = (record.get("pixel") or {}).get("pseudo_label")
    if source is None or not told:
        return {"source": None}
    pixel = record["pixel"]["row"], record["pixel"]["col"]
    chart = source_chart(
        "pseudo-label",
        rgb_window(scene, source.window),
        (pixel[0] - source.window.row, pixel[1] - source.window.col),
        source,
        legend,
        "Where the walk ends: bright pixels count most. Squares are training pixels, in the colour "
        "of their class; the cross is the pixel asked for.",
    )
    return {
        "source": _source_sentences(told),
        "source_chart": chart,
        "source_tables": [_class_table(told), _training_table(told)],
    }


def _source_sentences(told: Values) -> list[str]:
    """How sure the pseudo-label was, and what made it."""
    nearest = told["training_pixels"][0]
    if nearest["distance_px"] == 0:
        return [f"This pixel is a training pixel of {page.isolated(told['class'])} itself."]
    return [
        f"Before training, this pixel got the pseudo-label {page.isolated(told['class'])} with a "
        f"probability of {page.percent_of(told['probability'])}. A random walk that starts here "
        f"ends at one of {formats.count(told['n_training_pixels'])} training pixels "
        f"{page.percent_of(told['from_training_pixels'])} of the time, and takes its class. "
        f"Otherwise it ends at a pixel whose class the spectral classifiers tell.",
        f"{formats.count(told['n_with_90_percent'])} training pixels give 90\u00a0% of what all "
        "training pixels give.",
    ]


def _class_table(told: Values) -> Table | None:
    """What training pixels and spectra give to each class."""
    columns = [
        Column("class", lambda row: page.isolated(row["class"]), numeric=False),
        Column("all", lambda row: formats.percent(row["probability"], 1), "probability, %"),
        Column(
            "from training pixels",
            lambda row: formats.percent(row["from_training_pixels"], 1),
            "probability, %",
        ),
        Column(
            "from spectra", lambda row: formats.percent(row["from_spectra"], 1), "probability, %"
        ),
    ]
    shown = [row for row in told["classes"] if row["probability"] >= 0.0005][:MOST_ROWS]
    return build_table(columns, [("", shown)])


def _training_table(told: Values) -> Table | None:
    """The training pixels that give most."""
    columns = [
        Column("training pixel", lambda row: page.isolated(row["class"]), numeric=False),
        Column("row", lambda row: str(row["row"])),
        Column("column", lambda row: str(row["col"])),
        Column("distance, px", lambda row: str(row["distance_px"])),
        Column("share, %", lambda row: formats.percent(row["share"], 1)),
    ]
    shown = [row for row in told["training_pixels"] if row["share"] >= 0.0005][:MOST_ROWS]
    return build_table(columns, [("", shown)]) if shown else None
