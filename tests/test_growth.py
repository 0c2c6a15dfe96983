from __future__ import annotations

import numpy as np
import pytest
from scenes import field_scene

from hsifcn.comparison.growth import Mosaic, extrapolate
from hsifcn.core.scene import Window
from hsifcn.io import open_scene


def rows(*pairs):
    return [
        {"pixels": size, "measured": value is not None}
        | ({} if value is None else {"predict_seconds": value})
        for size, value in pairs
    ]


def extrapolated(given):
    extrapolate(given, {"predict_seconds": None}, lambda row: float(row["pixels"]))
    return [row.get("predict_seconds") for row in given]


def test_a_line_through_what_was_measured_is_extrapolated():
    assert extrapolated(rows((10, 3.0), (20, 5.0), (40, None))) == pytest.approx([3, 5, 9])


def test_one_measured_row_is_extrapolated_in_proportion():
    assert extrapolated(rows((10, 3.0), (40, None))) == pytest.approx([3, 12])


def test_a_falling_or_negative_line_is_not_believed():
    assert extrapolated(rows((10, 1.0), (20, 4.0), (40, None)))[2] == pytest.approx(40 * 90 / 500)
    assert extrapolated(rows((10, 4.0), (20, 3.0), (40, None)))[2] > 0


def test_memory_grows_above_the_baseline():
    measured = {"pixels": 10, "measured": True, "peak": 130.0, "base": 100.0}
    given = [measured, {"pixels": 40, "measured": False}]
    extrapolate(given, {"peak": "base"}, lambda row: float(row["pixels"]))
    assert given[1]["peak"] == pytest.approx(100 + 30 * 4)


def test_nothing_is_extrapolated_from_nothing():
    assert extrapolated(rows((10, None), (40, None))) == [None, None]


def test_measured_rows_stay_measured_and_the_others_not():
    given = rows((10, 3.0), (20, 6.0), (40, None))
    extrapolated(given)
    assert [row["measured"] for row in given] == [True, True, False]


@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_a_mosaic_repeats_the_scene(tmp_path, repeat):
    scene, _ = field_scene()
    mosaic = Mosaic(scene, repeat, tmp_path)
    opened = open_scene(mosaic.file())
    assert opened.shape == mosaic.shape
    wanted = np.tile(scene.cube, (repeat, repeat, 1))
    assert np.array_equal(opened.read(Window(0, 0, *mosaic.shape[:2])), wanted)
    mosaic.remove()
    assert not list(tmp_path.iterdir())
