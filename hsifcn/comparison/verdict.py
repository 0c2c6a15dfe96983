"""What a comparison comes to, in two sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hsifcn.core import formats
from hsifcn.report.page import TOUCHING_LIMIT

Row = Mapping[str, Any]


def verdict(rows: Sequence[Row], differences: Sequence[Row], splits: Sequence[Row]) -> list[str]:
    """Two sentences with the numbers that the page shows; none where nothing was compared.

    Parameters
    ----------
    rows, differences, splits : sequences of dict
        ``contenders``, ``differences`` and ``splits`` of ``comparison.json``.
    """
    if not differences:
        return []
    by_name = {(row["name"], row["split"]): row for row in rows}
    leakage = {split["name"]: split["leakage"] for split in splits}
    first = differences[0]
    fcn, patch = by_name[first["a"], first["split"]], by_name[first["b"], first["split"]]
    gains = [gain(row, leakage[row["split"]]) for row in differences]
    return [
        f"Accuracy, {fcn['label']} minus {patch['label']}: {'; '.join(gains)}.",
        f"Cost on split {first['split']}: {fcn['label']} maps every pixel in "
        f"{against(fcn, patch, 'predict_seconds')}, takes {memory(fcn)} against {memory(patch)} "
        "above the process's baseline for it, and trains in "
        f"{against(fcn, patch, 'train_seconds')}.",
    ]


def gain(difference: Row, leakage: Row) -> str:
    """What is gained on one split in OA and AA, and how far that can be trusted."""
    oa, aa = difference["interval"], difference["aa_interval"]
    text = (
        f"on split {difference['split']}, OA {points(difference['oa_difference'], oa)} and "
        f"AA {points(difference['aa_difference'], aa)}"
    )
    unsure = [name for name, bounds in (("OA", oa), ("AA", aa)) if includes_zero(bounds)]
    if unsure:
        verb = "includes" if len(unsure) == 1 else "include"
        noun = "interval" if len(unsure) == 1 else "intervals"
        text += f", where the {noun} of {' and '.join(unsure)} {verb} 0: not told apart"
    if leakage["test_touching"] > TOUCHING_LIMIT:
        text += (
            f", a figure that rests on leaked neighbours ({100 * leakage['test_touching']:.0f} % "
            "of the test pixels touch a training pixel)"
        )
    return text


def includes_zero(bounds: Sequence[float] | None) -> bool:
    """Whether an interval leaves open which of the two is better."""
    return bounds is not None and bounds[0] <= 0 <= bounds[1]


def points(value: float, bounds: Sequence[float] | None) -> str:
    """``+1.20 points (95 % interval +0.31 to +2.04)``, from fractions of 1."""
    known = "no interval: too few fields"
    if bounds is not None:
        known = f"95 % interval {formats.interval(bounds)}"
    return f"{formats.points(value)} points ({known})"


def against(ours: Row, theirs: Row, key: str) -> str:
    """``34.1 ms against 16.4 s``."""
    return f"{formats.seconds(ours[key])} against {formats.seconds(theirs[key])}"


def memory(row: Row) -> str:
    """Peak of predicting above its baseline."""
    return formats.size(row["peak_predict_bytes"] - row["baseline_bytes"])
