from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import Window
from hsifcn.core.tiles import Tile, crop, plan_tiles

SIZES = st.one_of(st.just(1), st.integers(1, 90))


@settings(deadline=None, derandomize=True, max_examples=200)
@given(SIZES, SIZES, st.integers(1, 60), st.integers(0, 40), st.sampled_from([1, 2, 3, 8, 32]))
def test_plans(rows: int, cols: int, tile: int, halo: int, stride: int) -> None:
    plan = plan_tiles(rows, cols, tile=(tile, tile), halo=halo, stride=stride)

    covered = np.zeros((rows, cols), int)
    for part in plan:
        covered[part.core.slices] += 1
    assert (covered == 1).all()
    origins = [(part.core.row, part.core.col) for part in plan]
    assert origins == sorted(origins)

    side = -(-tile // stride) * stride
    for part in plan:
        core, read = part.core, part.read
        assert core.rows == min(side, rows - core.row)
        assert core.cols == min(side, cols - core.col)
        for first, start, stop, last, end in (
            (read.row, core.row, core.row_stop, read.row_stop, rows),
            (read.col, core.col, core.col_stop, read.col_stop, cols),
        ):
            assert first % stride == 0
            assert last % stride == 0 or last == end
            assert 0 <= first <= max(0, start - halo)
            assert min(end, stop + halo) <= last <= end
            # No more is read than rounding outwards asks for.
            assert first > start - halo - stride
            assert last < stop + halo + stride


@settings(deadline=None, derandomize=True, max_examples=100)
@given(SIZES, SIZES, st.integers(1, 60), st.integers(0, 40), st.sampled_from([1, 4, 32]))
def test_cropped_tiles_make_up_the_scene(
    rows: int, cols: int, tile: int, halo: int, stride: int
) -> None:
    scene = np.arange(rows * cols).reshape(rows, cols)
    mosaic = np.full((rows, cols), -1)
    for part in plan_tiles(rows, cols, tile=(tile, tile), halo=halo, stride=stride):
        mosaic[part.core.slices] = scene[part.read.slices][crop(part)]
    assert np.array_equal(mosaic, scene)


def test_a_tile_in_numbers() -> None:
    plan = plan_tiles(100, 70, tile=(30, 30), halo=10, stride=8)
    assert len(plan) == 4 * 3
    assert plan[4] == Tile(core=Window(32, 32, 32, 32), read=Window(16, 16, 64, 54))
    assert crop(plan[4]) == (slice(16, 48), slice(16, 48))


def test_a_tile_as_large_as_the_scene_is_the_scene() -> None:
    (only,) = plan_tiles(145, 145, tile=(145, 145), halo=96, stride=32)
    assert only.core == only.read == Window(0, 0, 145, 145)


@pytest.mark.parametrize(
    "wrong", [{"tile": 0}, {"halo": -1}, {"stride": 0}, {"rows": 0}, {"cols": -3}]
)
def test_sizes_without_meaning_are_refused(wrong: dict[str, int]) -> None:
    sizes = {"rows": 10, "cols": 10, "tile": 4, "halo": 1, "stride": 2, **wrong}
    with pytest.raises(SettingError, match="cannot cut"):
        plan_tiles(
            sizes["rows"],
            sizes["cols"],
            tile=(sizes["tile"], 4),
            halo=sizes["halo"],
            stride=sizes["stride"],
        )
