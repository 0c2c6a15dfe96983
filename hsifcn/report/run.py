"""The page of one training run."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hsifcn.core import formats
from hsifcn.io.files import printable
from hsifcn.report import page
from hsifcn.report.confusion import build_confusion, confusion_sentence
from hsifcn.report.figures import coverage_chart, training_charts
from hsifcn.report.quicklook import SPLIT_COLOURS, label_image, rgb_caption, rgb_quicklook
from hsifcn.report.tables import Column, Table, build_table
from hsifcn.report.viewer import MappedScene, viewer_data

Values = Mapping[str, Any]

LAYER_CAPTIONS = {
    "truth": "Ground truth; unlabelled pixels are dark",
    "map": "The map: every pixel of the scene classified",
    "split": "The split: which labelled pixels were used for what",
}

BUILT = (
    "This command writes a page with a heat map of every class at each depth of the network, what "
    "each skip adds to each score, what the learned upsampling does, which wavelengths count and "
    "how far the network sees. With --at ROW,COL it explains one pixel."
)


def write_run_report(
    path: str | os.PathLike[str],
    *,
    metrics: Values,
    log: Sequence[Values],
    scenes: Sequence[MappedScene] = (),
    run: str | os.PathLike[str] | None = None,
) -> None:
    """Write the page of one training run.

    Parameters
    ----------
    path : path
        The HTML file, replaced if it exists.
    metrics : dict
        What ``metrics.json`` holds, and optionally ``scene`` (its name), ``colours`` (a list of
        ``[red, green, blue]``, 0-255, one a class) and ``command`` (the exact command line).
        What is missing or None is left out.
    log : list of dict
        Rows with ``step``, ``loss``, ``lr``, ``validation_oa`` (a fraction, or None) and
        ``seconds``.
    scenes : sequence of MappedScene
        The scenes of the run with their maps, each shown in a viewer.
    run : path, optional
        The run directory, as commands on the page name it; the folder of the page otherwise.

    Raises
    ------
    FailedError
        The page cannot be written.
    """
    metrics = page.as_json(metrics)
    names = [page.isolated(name) for name in metrics.get("class_names") or []]
    codes, intervals = metrics.get("class_codes") or (), metrics.get("intervals") or {}
    values = {
        "metrics": metrics,
        **_maps(scenes, metrics, names),
        "headline": _headline(metrics),
        "facts": _facts(metrics),
        **_leakage(metrics),
        "interval_sentence": _interval_sentence(intervals),
        "per_class": _per_class(metrics, intervals.get("per_class") or {}),
        "confusion": build_confusion(metrics.get("confusion"), names, codes),
        "confusion_sentence": confusion_sentence(metrics.get("confusion"), names),
        "confidence": _confidence(metrics.get("calibration") or {}),
        "charts": training_charts(page.as_json(list(log))),
        "training_sentence": _training_sentence(log),
        "built": BUILT,
        "explain_command": shlex.join(
            ["hsifcn", "explain", printable(str(run or Path(path).parent))]
        ),
        "machine": _machine(metrics),
    }
    page.write_page(path, "run.html.j2", values)


def _maps(scenes: Sequence[MappedScene], metrics: Values, names: Sequence[str]) -> dict[str, Any]:
    """What the page shows of each scene: viewer, pictures and legends."""
    colours, codes = metrics.get("colours") or [], metrics.get("class_codes") or ()
    given = metrics.get("class_names") or []
    data = [viewer_data(mapped, given, colours, codes) for mapped in scenes]
    return {
        "parts": [(_name(mapped), _pictures(mapped, colours)) for mapped in scenes],
        "viewers": [page.embedded_json(one) for one in data],
        "script": page.viewer_script() if scenes else "",
        "legend": page.legend(page.with_codes(names, codes), colours),
        "split_legend": list(SPLIT_COLOURS.items()) if scenes else [],
    }


def _name(mapped: MappedScene) -> str:
    """The file name of a scene."""
    return mapped.scene.path.replace("\\", "/").rsplit("/", 1)[-1]


def _pictures(mapped: MappedScene, colours: Sequence[Sequence[int]]) -> list[page.Picture]:
    """The layers of a scene as pictures, for paper and for browsers without scripts."""
    scene = page.picture(rgb_quicklook(mapped.scene), rgb_caption(mapped.scene))
    layers = {
        "truth": label_image(mapped.truth, colours),
        "map": label_image(mapped.label_map, colours),
        "split": label_image(mapped.split, tuple(SPLIT_COLOURS.values())),
    }
    pictures = [page.picture(layers[name], caption) for name, caption in LAYER_CAPTIONS.items()]
    return [scene, *pictures]


def _headline(metrics: Values) -> list[tuple[str, str, str]]:
    """List the figures on top of the page: name, number, unit."""
    figures = [
        ("overall accuracy", formats.percent(metrics.get("oa")), "%"),
        ("average accuracy", formats.percent(metrics.get("aa")), "%"),
        ("kappa", formats.percent(metrics.get("kappa")), "%"),
        ("training", formats.seconds(metrics.get("train_seconds")), ""),
        ("prediction", formats.seconds(metrics.get("predict_seconds")), ""),
        ("peak memory", formats.size(metrics.get("peak_rss_bytes")), ""),
    ]
    return [figure for figure in figures if figure[1] != formats.NOTHING]


def _facts(metrics: Values) -> list[tuple[str, str]]:
    """Model, split and cost, each in words with its numbers."""
    split = metrics.get("split") or {}
    model = [str(metrics.get("model") or "")]
    if metrics.get("params"):
        model.append(f"{formats.count(metrics['params'])} parameters")
    if metrics.get("flops_per_pixel"):
        model.append(f"{formats.operations(metrics['flops_per_pixel'])} a pixel")
    field = (split.get("leakage") or {}).get("receptive_field_px")
    if field:
        model.append(f"receptive field {formats.count(field)} px")
    recipe = [str(split.get("recipe") or "")]
    folds = metrics.get("folds")
    if folds:
        recipe = [
            f"accuracy is of {formats.count(folds.get('n'))} folds over {folds.get('units')}, in "
            "which every label was tested once; the model has learnt all labels"
        ]
    if split.get("seed") is not None:
        recipe.append(f"seed {split['seed']}")
    for part in ("train", "validation", "test"):
        if split.get(f"n_{part}") is not None:
            name = "training" if part == "train" else part
            recipe.append(f"{formats.count(split[f'n_{part}'])} {name} pixels")
    training = [formats.seconds(metrics.get("train_seconds"))]
    if metrics.get("steps") is not None:
        training.append(f"{formats.count(metrics['steps'])} steps")
    if metrics.get("seed") is not None:
        training.append(f"seed {metrics['seed']}")
    memory = [formats.size(metrics.get("peak_rss_bytes"))]
    if metrics.get("baseline_rss_bytes") is not None:
        memory.append(f"{formats.size(metrics['baseline_rss_bytes'])} of it before the work began")
    facts = {
        "model": model,
        "split": recipe,
        "chosen from the labels": [formats.recipe_sentence(metrics.get("recipe"))],
        "training": training,
        "prediction": [formats.seconds(metrics.get("predict_seconds"))],
        "peak memory": memory,
    }
    return [
        (name, ", ".join(part for part in parts if part))
        for name, parts in facts.items()
        if parts[0] not in ("", formats.NOTHING)
    ]


def _leakage(metrics: Values) -> dict[str, Any]:
    """How near training and test pixels lie: whether to warn, a sentence and the shares."""
    leakage = (metrics.get("split") or {}).get("leakage") or {}
    return {
        "leaky": page.is_leaky(leakage),
        "leakage_sentence": page.leakage_sentence(leakage),
        "leakage": _leakage_shares(leakage),
    }


def _leakage_shares(leakage: Values) -> list[tuple[str, str]]:
    """Shares of the test pixels by what they lie near to, in per cent."""
    rows: list[tuple[str, object]] = [
        ("touch a training or validation pixel", leakage.get("test_touching"))
    ]
    for radius, share in (leakage.get("test_within") or {}).items():
        if radius == "receptive_field":
            field = leakage.get("receptive_field_px")
            extent = f" ({formats.count(field)} px)" if field else ""
            rows.append((f"have one within the receptive field{extent}", share))
        else:
            rows.append((f"have one within {radius} px", share))
    rows.append(("lie in a field that has one", leakage.get("test_in_shared_fields")))
    return [
        (text, formats.percent(share, 1))
        for text, share in rows
        if formats.finite(share) is not None
    ]


def _training_sentence(log: Sequence[Values]) -> str:
    """Say what the training curves show."""
    losses = [row["loss"] for row in log if formats.finite(row.get("loss")) is not None]
    checked = [row for row in log if formats.finite(row.get("validation_oa")) is not None]
    sentence = ""
    if len(losses) > 1:
        last = formats.count(log[-1]["step"])
        sentence = (
            f"The loss went from {formats.significant(losses[0])} to "
            f"{formats.significant(losses[-1])} by step {last}."
        )
    if checked:
        best = max(checked, key=lambda row: row["validation_oa"])
        sentence += (
            f" The highest validation accuracy, {formats.percent(best['validation_oa'])} %, "
            f"came at step {formats.count(best['step'])}."
        )
        if checked[-1] is not log[-1]:
            sentence += " The last steps learnt the validation pixels too."
    return sentence.strip()


def _confidence(calibration: Values) -> dict[str, Any] | None:
    """What the probabilities are worth: a sentence and the curve of accuracy by coverage."""
    rows = calibration.get("coverage") or []
    if len(rows) < 2:
        return None
    kept = min(rows, key=lambda row: abs(row["coverage"] - 0.9))
    return {
        "sentence": "Confidence and accuracy lie "
        f"{page.percent_of(calibration['expected_calibration_error'])} apart on average (expected "
        f"calibration error on the test pixels; temperature "
        f"{formats.significant(calibration['temperature'])}). "
        f"--min-confidence {_at_most(kept['threshold'])} leaves the most doubtful "
        f"{page.percent_of(1 - kept['coverage'])} of the test pixels unclassified; of the others "
        f"{page.percent_of(kept['accuracy'])} are right.",
        "chart": coverage_chart(rows),
    }


def _at_most(probability: float) -> str:
    """A probability rounded down: as ``--min-confidence`` it keeps every pixel that is as sure."""
    return f"{math.floor(probability * 1e6) / 1e6:.6f}".rstrip("0").rstrip(".")


def _interval_sentence(intervals: Values) -> str:
    """What the intervals are, with that of the overall accuracy; nothing where it is unknown."""
    if not intervals.get("oa"):
        return ""
    low, high = intervals["oa"]
    return (
        "The pixels of a field resemble each other, so the 95\u00a0% intervals count fields, not "
        f"pixels: OA lies between {page.percent_of(low)} and {page.percent_of(high)}. A class of "
        "few fields has a wide interval, one of a single field has none."
    )


def _per_class(metrics: Values, intervals: Values) -> Table | None:
    """Accuracy of each class, recall and precision with their 95 % intervals."""
    per_class = metrics.get("per_class") or {}
    names = [page.isolated(name) for name in per_class]
    titles = page.with_codes(names, metrics.get("class_codes") or ())
    rows = [
        {
            "title": title,
            **(figures or {}),
            **{f"{key}_interval": value for key, value in (intervals.get(name) or {}).items()},
        }
        for title, (name, figures) in zip(titles, per_class.items(), strict=True)
    ]

    def interval(measure: str) -> Column:
        return Column(
            "95 % interval",
            lambda row: formats.percent_interval(row.get(f"{measure}_interval"), 1),
            f"{measure}, per cent",
        )

    columns = [
        Column("class", lambda row: str(row["title"]), numeric=False),
        Column("training", lambda row: formats.count(row.get("n_train")), "pixels"),
        Column("test", lambda row: formats.count(row.get("n_test")), "pixels"),
        Column("value", lambda row: formats.percent(row.get("recall")), "recall, per cent"),
        interval("recall"),
        Column("value", lambda row: formats.percent(row.get("precision")), "precision, per cent"),
        interval("precision"),
        Column("F1", lambda row: formats.percent(row.get("f1")), "per cent"),
        Column("IoU", lambda row: formats.percent(row.get("iou")), "per cent"),
    ]
    return build_table(columns, [("", rows)])


def _machine(metrics: Values) -> list[tuple[str, str]]:
    """Where and with what it was run."""
    parts = {key: metrics.get(key) for key in ("device", "threads", "environment", "versions")}
    digest = (metrics.get("split") or {}).get("digest")
    return list(formats.flatten({**parts, "split digest": digest}))
