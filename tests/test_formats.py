"""How numbers, tables and confusion matrices are printed."""

# ruff: noqa: RUF001  (minus and multiplication signs are what is printed)

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsifcn.core import formats
from hsifcn.report.confusion import build_confusion
from hsifcn.report.tables import Column, build_table


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (formats.percent, 0.98917, "98.92"),
        (formats.percent, None, "–"),
        (formats.percent, "0.5", "–"),
        (formats.percent, True, "–"),
        (formats.points, 0.01237, "+1.24"),
        (formats.points, -0.01237, "−1.24"),
        (formats.mean_sd, {"mean": 0.98, "std": 0.0, "values": [0.98]}, "98.00"),
        (formats.mean_sd, {"mean": 0.98, "std": 0.002, "values": [0.978, 0.982]}, "98.00 ± 0.20"),
        (formats.interval, [-0.001, 0.013], "−0.10 to +1.30"),
        (formats.interval, None, "–"),
        (formats.p_value, 0.0342, "0.034"),
        (formats.p_value, 3e-9, "< 0.001"),
        (formats.significant, 9.999, "10.0"),
        (formats.significant, 1234567, "1,230,000"),
        (formats.significant, 0.000123, "0.000123"),
        (formats.significant, 3.147e-6, "3.15 × 10⁻⁶"),
        (formats.significant, 0.0, "0"),
        (formats.seconds, 0.0341, "34.1 ms"),
        (formats.seconds, 458, "7 min 38 s"),
        (formats.seconds, 8400, "2 h 20 min"),
        (formats.seconds, 119.99, "120 s"),
        (formats.seconds, 3599.7, "1 h 00 min"),
        (formats.size, 999, "999 bytes"),
        (formats.size, 412_345_678, "412 MB"),
        (formats.size, 3.6e9, "3.60 GB"),
        (formats.operations, 309_876.0, "310 kFLOP"),
        (formats.megabytes, 61e6, "61.0"),
        (formats.giga, 6.512e9, "6.51"),
    ],
)
def test_numbers_are_printed(function: Any, value: Any, text: str) -> None:
    assert function(value) == text


@settings(deadline=None)
@given(st.floats(1e-4, 1e15))
def test_three_digits_are_kept(value: float) -> None:
    printed = float(formats.significant(value).replace(",", ""))
    assert printed == pytest.approx(value, rel=0.0051)


def test_columns_line_up_at_the_point() -> None:
    rows = [{"v": text} for text in ("1,204", "12.5", "0.034", "–")]
    columns = [Column("n", lambda row: "x", numeric=False), Column("v", lambda row: row["v"])]
    table = build_table([*columns, Column("empty", lambda row: "–")], [("", rows)])
    assert table is not None
    assert [column.title for column in table.columns] == ["n", "v"]
    cells = [line.cells[1] for line in table.groups[0][1]]
    assert [len(cell) - re.search(r"[.\u2008]", cell).start() for cell in cells[:3]] == [4, 4, 4]
    assert cells[3] == "–"


def test_confusion_of_many_classes_has_shades_only() -> None:
    names = [f"class {i}" for i in range(21)]
    matrix = build_confusion((2 * np.eye(21, dtype=int)).tolist(), names)
    assert matrix is not None
    assert {cell.text for row in matrix.rows for cell in row.cells} == {""}
    assert matrix.rows[3].cells[3].title == "class 3 mapped as class 3: 2 of 2 pixels, 100.0 %"


def test_confusion_of_a_class_without_test_pixels() -> None:
    matrix = build_confusion([[0, 0], [1, 3]], ["a", "b"])
    assert matrix is not None
    assert [cell.background for cell in matrix.rows[0].cells] == ["", ""]  # not shaded
    assert [cell.text for cell in matrix.rows[1].cells] == ["1", "3"]
