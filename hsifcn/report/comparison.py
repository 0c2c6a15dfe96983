"""The page that sets several contenders on one scene side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core import formats
from hsifcn.report import page
from hsifcn.report.confusion import Confusion, build_confusion
from hsifcn.report.costs import (
    EXTRAPOLATED,
    above_baseline,
    cost_charts,
    cost_summary,
    growth,
    learning_charts,
    operations,
)
from hsifcn.report.differences import build_differences
from hsifcn.report.quicklook import DIFFERENCE_COLOURS
from hsifcn.report.tables import Column, Table, build_table

Values = Mapping[str, Any]
Images = Mapping[str, npt.NDArray[np.uint8]]


def write_comparison_report(
    path: str | os.PathLike[str], *, comparison: Values, images: Images
) -> None:
    """Write the page of a comparison.

    Parameters
    ----------
    path : path
        The HTML file, replaced if it exists.
    comparison : dict
        What ``comparison.json`` holds. Peak bytes include the baseline, which is taken off here.
        Optional beyond that: ``interval_note`` (str, how the intervals were made) and
        ``patch_store`` (``n_patches``, ``patch``, ``bands``, ``bytes_per_value`` and
        ``measured_bytes``). What is missing or None is left out.
    images : dict
        Any of ``quicklook``, ``truth``, ``map/SPLIT/CONTENDER``, ``difference/SPLIT``:
        (rows, cols, 3) uint8. A difference map has the colours of
        ``hsifcn.quicklook.DIFFERENCE_COLOURS``, a and b being those of the split's first row in
        ``differences``.

    Raises
    ------
    FailedError
        The page cannot be written.
    """
    comparison = page.as_json(comparison)
    contenders = comparison.get("contenders") or []
    splits = _splits(comparison)
    names, codes = comparison.get("class_names") or [], comparison.get("class_codes") or ()
    done = [row for row in contenders if row.get("status", "done") == "done"]
    values = {
        "comparison": comparison,
        "scene": _scene_name(comparison.get("scene")),
        "table": _table(contenders, splits),
        "notes": _notes(done, comparison),
        "overview": [
            page.picture(images[name], caption)
            for name, caption in (
                ("quicklook", "The scene"),
                ("truth", "Ground truth; unlabelled pixels are dark"),
            )
            if name in images
        ],
        "maps": [
            _maps(split, done, comparison.get("differences") or [], images) for split in splits
        ],
        "legend": page.legend(page.with_codes(names, codes), comparison.get("colours") or []),
        "learning_charts": learning_charts(done, labels_of(contenders), splits),
        "cost_charts": cost_charts(done, splits),
        "cost_summary": cost_summary(done, splits),
        "operations": operations(done, splits),
        "growth": growth(comparison.get("scaling") or {}, labels_of(contenders)),
        "patch_store": comparison.get("patch_store"),
        "differences": build_differences(
            comparison.get("differences") or [], labels_of(contenders), splits
        ),
        "per_class": [_per_class(split, done) for split in splits],
        "confusions": _confusions(done, names, codes),
        "machine": _machine(comparison, splits),
    }
    page.write_page(path, "comparison.html.j2", values)


def labels_of(contenders: Sequence[Values]) -> dict[str, str]:
    """Name each contender for people, in the order of the table."""
    return {row["name"]: row.get("label") or row["name"] for row in contenders}


def _splits(comparison: Values) -> list[Values]:
    """List the splits, and stand-ins for those that only the contenders name."""
    splits = {split["name"]: split for split in comparison.get("splits") or []}
    for row in comparison.get("contenders") or []:
        splits.setdefault(row["split"], {"name": row["split"]})
    return list(splits.values())


def _scene_name(scene: object) -> str:
    if isinstance(scene, Mapping):
        return str(scene.get("name") or scene.get("path") or "")
    return str(scene or "")


def _split_title(split: Values) -> str:
    """Recipe, size and leakage of a split: what its accuracies must be read with."""
    name, recipe = split["name"], split.get("recipe")
    title = f"{name} ({recipe})" if recipe and recipe != name else name
    if split.get("n_train") is not None and split.get("n_test") is not None:
        title += (
            f": {formats.count(split['n_train'])} training and "
            f"{formats.count(split['n_test'])} test pixels"
        )
    if split.get("learns_from"):
        title += f". Networks learn from {split['learns_from']}"
    return f"{title}. {page.leakage_sentence(split.get('leakage'))}".strip()


def _note(row: Values) -> str:
    """Why a contender has no figures, or nothing."""
    status = row.get("status", "done")
    return "" if status == "done" else f"{status}: {row.get('reason') or 'no reason given'}"


def _table(contenders: Sequence[Values], splits: Sequence[Values]) -> Table | None:
    memory = "peak memory above baseline, MB"
    columns = [
        Column("contender", lambda row: row.get("label") or row["name"], numeric=False),
        Column("OA", lambda row: formats.mean_sd(row.get("oa")), "accuracy, %"),
        Column("AA", lambda row: formats.mean_sd(row.get("aa")), "accuracy, %"),
        Column("kappa", lambda row: formats.mean_sd(row.get("kappa")), "accuracy, %"),
        Column("parameters", lambda row: formats.count(row.get("params"))),
        Column("steps", lambda row: formats.count(row.get("steps"))),
        Column("training", _training_seconds, "time, s"),
        Column(
            "to best state",
            lambda row: formats.significant(row.get("train_seconds_to_best")),
            "time, s",
        ),
        Column(
            "prediction", lambda row: formats.significant(row.get("predict_seconds")), "time, s"
        ),
        Column("pixels/s", lambda row: formats.count(row.get("pixels_per_second"))),
        Column(
            "training",
            lambda row: formats.megabytes(above_baseline(row, "peak_train_bytes")),
            memory,
        ),
        Column(
            "prediction",
            lambda row: formats.megabytes(above_baseline(row, "peak_predict_bytes")),
            memory,
        ),
        Column(
            "patches of all pixels, by arithmetic",
            lambda row: formats.megabytes(row.get("patch_store_bytes")),
            memory,
        ),
    ]
    groups = [
        (_split_title(split), [row for row in contenders if row["split"] == split["name"]])
        for split in splits
    ]
    return build_table(columns, [group for group in groups if group[1]], _note)


def _training_seconds(row: Values) -> str:
    mark = EXTRAPOLATED if row.get("train_seconds_from_steps") else ""
    return formats.significant(row.get("train_seconds")) + mark


def _notes(done: Sequence[Values], comparison: Values) -> list[str]:
    """What the figures of the table are, and which of them were not measured as the others."""
    if not done:
        return []
    cuda = (comparison.get("environment") or {}).get("device") == "cuda"
    meter = "PyTorch's allocator on the GPU" if cuda else "resident memory"
    notes = [
        "Every contender trains and predicts in fresh processes on the same pixels. Memory is the "
        f"peak of {meter} in that process, less what it held after its imports. Time, memory: "
        "median of the seeds. Training leaves reading the scene out, prediction does not. "
        "To best state: until the evaluation of the validation pixels whose weights were kept."
    ]
    if isinstance(comparison.get("steps"), str):
        notes.append(comparison["steps"])
    labels = labels_of(done)
    first: dict[str, Values] = {}
    for row in done:
        first.setdefault(row["name"], row)
    for row in first.values():
        if row.get("train_seconds_from_steps"):
            notes.append(
                f"{EXTRAPOLATED} {labels[row['name']]}: extrapolated from its first "
                f"{row['train_seconds_from_steps']} steps, not measured to the end."
            )
        if row.get("kind") == "cast":
            notes.append(
                f"{labels[row['name']]}: not trained; it takes the weights of the windowed form, "
                "whose training its row repeats."
            )
        if row.get("accuracy_of"):
            other = labels.get(row["accuracy_of"], row["accuracy_of"])
            notes.append(
                f"{labels[row['name']]}: its weights are those of {other} by construction, so are "
                f"its accuracies here; its own map of the first seed has the same label at "
                f"{formats.count(row.get('labels_equal'))} of "
                f"{formats.count(row.get('labels_compared'))} pixels."
            )
    if any(row.get("kind") == "classical" for row in done):
        where = " and run on the CPU" if cuda else ""
        notes.append(
            "The classical references train on the validation pixels too, choose C and gamma by "
            f"cross-validation within their time{where}; their FLOPs are not counted."
        )
    return notes


def _maps(
    split: Values, done: Sequence[Values], differences: Sequence[Values], images: Images
) -> dict[str, Any]:
    """Show the maps of one split, and its difference map with what a and b are in it."""
    name = split["name"]
    labels = labels_of(done)
    pictures = [
        page.picture(
            images[f"map/{name}/{row['name']}"],
            f"{labels[row['name']]}: OA {formats.mean_sd(row.get('oa'))} %",
        )
        for row in done
        if row["split"] == name and f"map/{name}/{row['name']}" in images
    ]
    pair = next((row for row in differences if row["split"] == name), None)
    legend: list[tuple[str, tuple[int, ...]]] = []
    if f"difference/{name}" in images:
        caption = "Where the two agree with the ground truth"
        if pair:
            a, b = (labels.get(pair[side], pair[side]) for side in "ab")
            caption = f"Where a = {a} and b = {b} agree with the ground truth"
        pictures.append(page.picture(images[f"difference/{name}"], caption))
        legend = list(DIFFERENCE_COLOURS.items())
    return {"title": name, "pictures": pictures, "difference_legend": legend}


def _per_class(split: Values, done: Sequence[Values]) -> dict[str, Any]:
    """Mean recall of each class by contender, for one split."""
    rows = [row for row in done if row["split"] == split["name"] and row.get("per_class_recall")]
    classes = list(dict.fromkeys(name for row in rows for name in row["per_class_recall"]))
    columns = [
        Column("class", lambda row: row["class"], numeric=False),
        *(Column(row.get("label") or row["name"], _recall(row["name"])) for row in rows),
    ]
    lines = [
        {"class": name} | {row["name"]: row["per_class_recall"].get(name) for row in rows}
        for name in classes
    ]
    return {"title": split["name"], "table": build_table(columns, [("", lines)])}


def _recall(contender: str) -> Callable[[Values], str]:
    return lambda line: formats.percent(line[contender])


def _confusions(
    done: Sequence[Values], names: Sequence[str], codes: Sequence[int]
) -> list[tuple[str, Confusion]]:
    built = [
        (f"{row.get('label') or row['name']}, {row['split']}",
         build_confusion(row.get("confusion"), names, codes))
        for row in done
    ]  # fmt: skip
    return [(title, confusion) for title, confusion in built if confusion]


def _machine(comparison: Values, splits: Sequence[Values]) -> list[tuple[str, str]]:
    """Where and with what it was run, and the digests that identify the splits."""
    parts: dict[str, Any] = {"seeds": comparison.get("seeds")}
    parts |= comparison.get("environment") or {}
    parts |= {f"split {split['name']}, digest": split.get("digest") for split in splits}
    return list(formats.flatten(parts))
