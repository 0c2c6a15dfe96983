"""Paired differences between contenders: chart, table, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hsifcn.core import formats
from hsifcn.core.formats import MINUS
from hsifcn.report.figures import Chart, Difference, forest_chart
from hsifcn.report.tables import Column, Table, build_table

Values = Mapping[str, Any]

MEASURES = (("OA", "oa_difference", "interval"), ("AA", "aa_difference", "aa_interval"))


def build_differences(
    rows: Sequence[Values], labels: Mapping[str, str], splits: Sequence[Values]
) -> dict[str, Any] | None:
    """Chart, table, sentence and per-class tables; None without any difference."""
    rows = [row for row in rows if formats.finite(row.get("oa_difference")) is not None]
    if not rows:
        return None
    return {
        "charts": _charts(rows, labels),
        "table": _table(rows, labels, splits),
        "sentence": _sentence(rows, labels),
        "per_class": [
            (_pair(row, labels) + f", {row['split']}", _per_class(row["per_class"]))
            for row in rows
            if row.get("per_class")
        ],
    }


def _pair(row: Values, labels: Mapping[str, str]) -> str:
    return f"{labels.get(row['a'], row['a'])} {MINUS} {labels.get(row['b'], row['b'])}"


def _bounds(row: Values, key: str) -> tuple[float, float] | None:
    bounds = row.get(key)
    if not isinstance(bounds, list) or None in map(formats.finite, bounds):
        return None
    return bounds[0], bounds[1]


def _charts(rows: Sequence[Values], labels: Mapping[str, str]) -> list[Chart]:
    drawn = []
    for row in rows:
        values = {}
        for measure, difference, interval in MEASURES:
            bounds = _bounds(row, interval)
            if bounds and formats.finite(row.get(difference)) is not None:
                values[measure] = (100 * row[difference], 100 * bounds[0], 100 * bounds[1])
        if values:
            drawn.append(Difference(f"{_pair(row, labels)}, {row['split']}", values))
    return [forest_chart(drawn)] if drawn else []


def _sentence(rows: Sequence[Values], labels: Mapping[str, str]) -> str:
    """How many differences in OA are told apart from none."""
    known = [(row, bounds) for row in rows if (bounds := _bounds(row, "interval"))]
    if not known:
        return ""
    apart = [row for row, (low, high) in known if low > 0 or high < 0]
    which = "None" if not apart else "All" if len(apart) == len(known) else str(len(apart))
    if len(known) == 1:
        does = "excludes" if apart else "includes"
        return f"The interval of the difference in OA {does} zero."
    verb = "excludes" if len(apart) == 1 else "exclude"
    return f"{which} of the {len(known)} intervals of the difference in OA {verb} zero."


def _table(
    rows: Sequence[Values], labels: Mapping[str, str], splits: Sequence[Values]
) -> Table | None:
    columns = [
        Column(f"a {MINUS} b", lambda row: _pair(row, labels), numeric=False),
        Column("difference", lambda row: formats.points(row.get("oa_difference")), "OA, points"),
        Column("interval", lambda row: formats.interval(row.get("interval")), "OA, points"),
        Column("difference", lambda row: formats.points(row.get("aa_difference")), "AA, points"),
        Column("interval", lambda row: formats.interval(row.get("aa_interval")), "AA, points"),
        Column(
            "assumes independent pixels",
            lambda row: formats.p_value(row.get("mcnemar_p")),
            "McNemar p",
        ),
    ]
    groups = [
        (split["name"], [row for row in rows if row["split"] == split["name"]]) for split in splits
    ]
    return build_table(columns, [group for group in groups if group[1]])


def _per_class(per_class: Values) -> Table | None:
    columns = [
        Column("class", lambda row: row["class"], numeric=False),
        Column("difference", lambda row: formats.points(row.get("difference")), "recall, points"),
        Column("interval", lambda row: formats.interval(row.get("interval")), "recall, points"),
    ]
    return build_table(
        columns, [("", [{"class": name, **figures} for name, figures in per_class.items()])]
    )
