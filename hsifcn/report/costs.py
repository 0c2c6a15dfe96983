"""Time and memory of the contenders, and how both grow with patch and scene."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hsifcn.core import formats
from hsifcn.report.figures import Chart, Curve, Point, bar_chart, growth_chart, learning_chart
from hsifcn.report.tables import Column, Table, build_table

Values = Mapping[str, Any]

EXTRAPOLATED = "\u2020"  # marks seconds that were not measured to the end

BY_PATCH = (
    ("train_seconds", "training time (s, log scale)", "Training time"),
    ("predict_seconds", "prediction time (s, log scale)", "Time to predict the scene"),
    (
        "peak_train_bytes",
        "memory above baseline (MB, log scale)",
        "Peak memory in training, above the process's baseline,",
    ),
    ("oa", "OA (%)", "Overall accuracy"),
)
BY_SCENE = (
    ("predict_seconds", "prediction time (s, log scale)", "Time to predict the scene"),
    (
        "peak_predict_bytes",
        "memory above baseline (MB, log scale)",
        "Peak memory in prediction, above the process's baseline,",
    ),
)


def above_baseline(row: Values, key: str) -> float | None:
    """Peak memory of a contender, in bytes, without what its process held before the work."""
    peak = formats.finite(row.get(key))
    baseline = formats.finite(row.get("baseline_bytes"))
    if key == "peak_train_bytes" and row.get("train_baseline_bytes") is not None:
        baseline = formats.finite(row["train_baseline_bytes"])  # its process had one of its own
    return None if peak is None else peak - (baseline or 0.0)


def _first_split(done: Sequence[Values], splits: Sequence[Values]) -> tuple[str, list[Values]]:
    """Costs hardly depend on the split: one is shown, the table has all."""
    for split in splits:
        rows = [row for row in done if row["split"] == split["name"]]
        if rows:
            return split["name"], rows
    return "", []


def cost_charts(done: Sequence[Values], splits: Sequence[Values]) -> list[Chart]:
    """Bars of time and memory of the first split's contenders."""
    split, rows = _first_split(done, splits)
    labels = [row.get("label") or row["name"] for row in rows]
    times = {
        part: [formats.finite(row.get(key)) for row in rows]
        for part, key in (("training", "train_seconds"), ("prediction", "predict_seconds"))
    }
    peaks = {
        part: [above_baseline(row, key) for row in rows]
        for part, key in (("training", "peak_train_bytes"), ("prediction", "peak_predict_bytes"))
    }
    memory = {
        part: [None if peak is None or peak <= 0 else peak / formats.MEGA for peak in column]
        for part, column in peaks.items()
    }
    charts = []
    if any(value for column in times.values() for value in column):
        printed = {part: [formats.seconds(value) for value in times[part]] for part in times}
        marks = [EXTRAPOLATED if row.get("train_seconds_from_steps") else "" for row in rows]
        printed["training"] = list(map(str.__add__, printed["training"], marks))
        charts.append(
            bar_chart(
                "times", "time (s, log scale)", labels, times, printed, f"Time, split {split}."
            )
        )
    if any(value for column in memory.values() for value in column):
        printed = {part: [formats.size(value) for value in peaks[part]] for part in peaks}
        unit = "peak memory above baseline (MB, log scale)"
        charts.append(bar_chart("memory", unit, labels, memory, printed, f"Memory, split {split}."))
    return charts


def cost_summary(done: Sequence[Values], splits: Sequence[Values]) -> str:
    """Name the extremes of time and memory, each in one sentence."""
    _, rows = _first_split(done, splits)
    sentences = []
    for verb, key, show in (
        ("Training took", "train_seconds", formats.seconds),
        ("Predicting the scene took", "predict_seconds", formats.seconds),
        ("Training needed", "peak_train_bytes", formats.size),
    ):
        known = [(value, row) for row in rows if (value := _quantity(row, key) or 0.0) > 0]
        if len(known) > 1:
            least, most = min(known, key=lambda one: one[0]), max(known, key=lambda one: one[0])
            sentences.append(
                f"{verb} {show(least[0])} with {least[1].get('label') or least[1]['name']} and "
                f"{show(most[0])} with {most[1].get('label') or most[1]['name']}, "
                f"{formats.significant(most[0] / least[0])} times as much."
            )
    return " ".join(sentences)


def operations(done: Sequence[Values], splits: Sequence[Values]) -> Table | None:
    """FLOPs, which do not depend on the split."""
    _, rows = _first_split(done, splits)
    columns = [Column("contender", lambda row: row.get("label") or row["name"], numeric=False)]
    columns += [
        Column("a training step", _giga("flops_train_step"), "GFLOP"),
        Column("the whole training", _giga("flops_train"), "GFLOP"),
        Column("prediction of the scene", _giga("flops_predict"), "GFLOP"),
    ]
    known = [row for row in rows if formats.finite(row.get("flops_predict")) is not None]
    return build_table(columns, [("", known)] if known else [])


def _giga(key: str) -> Callable[[Values], str]:
    return lambda row: formats.giga(row.get(key))


def learning_charts(
    done: Sequence[Values], labels: Mapping[str, str], splits: Sequence[Values]
) -> list[Chart]:
    """Draw validation accuracy against training time, where it was recorded."""
    styles = {name: number for number, name in enumerate(labels)}
    charts = []
    for number, split in enumerate(splits):
        curves = []
        for row in done:
            points = [
                Point(second, 100 * accuracy)
                for second, accuracy in row.get("train_oa_curve") or []
                if (formats.finite(second) or 0) > 0 and formats.finite(accuracy) is not None
            ]
            if row["split"] == split["name"] and len(points) > 1:
                curves.append(Curve(labels[row["name"]], styles[row["name"]], points))
        if curves:
            charts.append(
                learning_chart(
                    f"learning-{number}", curves,
                    f"Validation accuracy by training time, split {split['name']}, first seed.",
                )
            )  # fmt: skip
    return charts


def growth(scaling: Values, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Charts and table of the growth with the patch and with the scene."""
    by_patch, by_scene = scaling.get("by_patch") or [], scaling.get("by_scene") or []
    unlisted = {row["contender"]: row["contender"] for row in [*by_patch, *by_scene]}
    labels = dict(labels) | {name: name for name in unlisted if name not in labels}
    order = list(labels)
    by_patch, by_scene = (
        sorted(rows, key=lambda row: order.index(row["contender"])) for rows in (by_patch, by_scene)
    )
    parts = [
        {
            "title": "with the patch",
            "charts": _growth_charts(by_patch, labels, "patch", BY_PATCH),
            "table": _growth_table(by_patch, labels),
        },
        {
            "title": "with the scene",
            "charts": _growth_charts(by_scene, labels, "pixels", BY_SCENE),
            "table": _growth_table(by_scene, labels),
        },
    ]
    return [part for part in parts if part["table"]]


def _growth_charts(
    rows: Sequence[Values],
    labels: Mapping[str, str],
    along: str,
    quantities: Sequence[tuple[str, str, str]],
) -> list[Chart]:
    charts = []
    order = list(labels)
    by_scene = along == "pixels"
    for key, ylabel, caption in quantities:
        factor = 1 / formats.MEGA if key.endswith("_bytes") else 100.0 if key == "oa" else 1.0
        curves = []
        for name in dict.fromkeys(row["contender"] for row in rows):
            points = [
                Point(row[along], factor * value, bool(row.get("measured")))
                for row in rows
                if row["contender"] == name
                and row.get(along)
                and (value := _quantity(row, key) or 0.0) > 0
            ]
            if points:
                curves.append(Curve(labels[name], order.index(name), points))
        if curves:
            xlabel = "scene size (pixels, log scale)" if by_scene else "patch width (pixels)"
            charts.append(
                growth_chart(
                    f"{along}-{key}", curves, xlabel, ylabel,
                    f"{caption} against {'scene size' if by_scene else 'patch width'}.",
                    log_x=by_scene, log_y=key != "oa",
                )
            )  # fmt: skip
    return charts


def _quantity(row: Values, key: str) -> float | None:
    return above_baseline(row, key) if key.endswith("_bytes") else formats.finite(row.get(key))


def _growth_table(rows: Sequence[Values], labels: Mapping[str, str]) -> Table | None:
    columns = [
        Column("contender", lambda row: labels[row["contender"]], numeric=False),
        Column("patch, px", lambda row: formats.count(row.get("patch"))),
        Column("rows", lambda row: formats.count(row.get("rows")), "scene"),
        Column("columns", lambda row: formats.count(row.get("cols")), "scene"),
        Column("pixels", lambda row: formats.count(row.get("pixels")), "scene"),
        Column("training", lambda row: formats.significant(row.get("train_seconds")), "time, s"),
        Column(
            "prediction", lambda row: formats.significant(row.get("predict_seconds")), "time, s"
        ),
        Column(
            "training",
            lambda row: formats.megabytes(above_baseline(row, "peak_train_bytes")),
            "peak memory above baseline, MB",
        ),
        Column(
            "prediction",
            lambda row: formats.megabytes(above_baseline(row, "peak_predict_bytes")),
            "peak memory above baseline, MB",
        ),
        Column("patch store, MB", lambda row: formats.megabytes(row.get("patch_store_bytes"))),
        Column("OA", lambda row: formats.percent(row.get("oa")), "accuracy, %"),
        Column("AA", lambda row: formats.percent(row.get("aa")), "accuracy, %"),
        Column("", lambda row: "measured" if row.get("measured") else "fitted", numeric=False),
    ]
    return build_table(columns, [("", rows)] if rows else [])
