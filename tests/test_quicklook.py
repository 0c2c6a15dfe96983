from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hsifcn.core.errors import LabelError
from hsifcn.core.scene import Grid, Window, default_colours
from hsifcn.report import quicklook
from hsifcn.report.quicklook import (
    DIFFERENCE_COLOURS,
    SPLIT_COLOURS,
    UNLABELLED,
    label_image,
    rgb_bands,
    rgb_quicklook,
)

VISIBLE = np.array([400.0, 450.0, 500.0, 550.0, 600.0, 650.0, 700.0])


@dataclass
class CubeScene:
    """A scene in memory that remembers which windows were read."""

    cube: np.ndarray
    wavelengths: np.ndarray | None = None
    good_bands: np.ndarray = field(default_factory=lambda: np.ones(0, bool))
    nodata: float | None = None
    grid: Grid | None = None
    path: str = "cube"
    interleave: str = "bip"
    windows: list[Window] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.good_bands.size:
            self.good_bands = np.ones(self.cube.shape[2], bool)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.cube.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.cube.dtype

    def read(self, window: Window) -> np.ndarray:
        self.windows.append(window)
        return self.cube[window.slices].copy()


def ramp(rows: int, cols: int, bands: int, dtype: Any = np.uint16) -> np.ndarray:
    values = np.arange(rows * cols).reshape(rows, cols, 1) + 1000 * np.arange(bands)
    return values.astype(dtype)


def test_bands_nearest_to_red_green_blue() -> None:
    assert rgb_bands(CubeScene(ramp(2, 2, 7), VISIBLE)) == (5, 3, 1)


def test_bad_bands_are_not_shown() -> None:
    good = np.array([True, False, True, True, True, False, True])
    assert rgb_bands(CubeScene(ramp(2, 2, 7), VISIBLE, good)) == (4, 3, 0)


def test_thirds_where_wavelengths_are_unknown() -> None:
    assert rgb_bands(CubeScene(ramp(2, 2, 9))) == (7, 4, 1)
    good = np.arange(12) >= 3
    assert rgb_bands(CubeScene(ramp(2, 2, 12), None, good)) == (10, 7, 4)


def test_thirds_where_nothing_is_visible() -> None:
    infrared = np.linspace(1000, 2500, 9)
    assert rgb_bands(CubeScene(ramp(2, 2, 9), infrared)) == (7, 4, 1)


@pytest.mark.parametrize("bands", [1, 2])
def test_few_bands_are_repeated(bands: int) -> None:
    scene = CubeScene(ramp(4, 5, bands), np.array([550.0, 650.0])[:bands])
    assert set(rgb_bands(scene)) == set(range(bands))
    assert rgb_quicklook(scene).shape == (4, 5, 3)


def test_all_bands_bad_still_shows_something() -> None:
    assert rgb_bands(CubeScene(ramp(2, 2, 9), None, np.zeros(9, bool))) == (7, 4, 1)


def test_stretch_between_percentiles() -> None:
    scene = CubeScene(ramp(1, 101, 3))
    image = rgb_quicklook(scene)
    expected = np.rint(255 * np.clip((np.arange(101) - 2) / 96, 0, 1))
    np.testing.assert_array_equal(image[0, :, 0], expected)
    np.testing.assert_array_equal(image[0, :, 0], image[0, :, 2])


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_nodata_is_black_and_does_not_stretch(dtype: Any) -> None:
    cube = ramp(10, 10, 3, dtype)
    clean = rgb_quicklook(CubeScene(cube[1:]))
    cube[0] = 30_000
    cube[0, 5, 1] = 7
    image = rgb_quicklook(CubeScene(cube, nodata=30_000.0))
    assert (image[0] == 0).all()
    np.testing.assert_array_equal(image[1:], clean)


@pytest.mark.parametrize("gap", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("nodata", [None, -1e308])
def test_what_is_not_finite_is_black(gap: float, nodata: float | None) -> None:
    cube = ramp(10, 10, 3, np.float64)
    cube[3, 4, 2] = gap
    image = rgb_quicklook(CubeScene(cube, nodata=nodata))
    assert (image[3, 4] == 0).all()
    assert np.count_nonzero((image == 0).all(axis=-1)) <= 4


def test_nodata_beyond_the_range_of_float32_warns_of_nothing(
    recwarn: pytest.WarningsRecorder,
) -> None:
    image = rgb_quicklook(CubeScene(ramp(4, 4, 3, np.float32), nodata=-1.7976931348623157e308))
    assert image.any()
    assert not recwarn.list


def test_scene_without_valid_pixels_is_black() -> None:
    image = rgb_quicklook(CubeScene(np.full((3, 4, 5), np.nan, np.float32)))
    assert image.shape == (3, 4, 3)
    assert not image.any()


def test_channel_without_contrast_is_grey() -> None:
    image = rgb_quicklook(CubeScene(np.full((3, 4, 5), 9, np.uint16)))
    assert (image == quicklook.CONSTANT_CHANNEL).all()


def test_large_scene_is_thinned_and_rows_between_are_not_read() -> None:
    scene = CubeScene(ramp(50, 23, 4))
    image = rgb_quicklook(scene, max_size=16)
    assert image.shape == (13, 6, 3)
    assert [(window.row, window.rows) for window in scene.windows] == [
        (row, 1) for row in range(0, 50, 4)
    ]
    np.testing.assert_array_equal(image, rgb_quicklook(CubeScene(scene.cube[::4, ::4])))


def test_strips_keep_memory_low(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rgb_quicklook(CubeScene(ramp(50, 23, 4)))
    monkeypatch.setattr(quicklook, "STRIP_BYTES", 23 * 4 * 2 * 7)
    scene = CubeScene(ramp(50, 23, 4))
    np.testing.assert_array_equal(rgb_quicklook(scene), whole)
    assert [window.rows for window in scene.windows] == [7] * 7 + [1]


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 6), st.integers(1, 50), st.data()
)  # fmt: skip
def test_any_scene_gives_an_image(
    rows: int, cols: int, bands: int, max_size: int, data: st.DataObject
) -> None:
    dtype = data.draw(st.sampled_from([np.uint8, np.int16, np.uint16, np.float32]))
    cube = ramp(rows, cols, bands, dtype)
    image = rgb_quicklook(CubeScene(cube, nodata=0), max_size=max_size)
    step = -(-max(rows, cols) // max_size)
    assert image.dtype == np.uint8
    assert image.shape == (-(-rows // step), -(-cols // step), 3)
    assert max(image.shape[:2]) <= max_size


@settings(deadline=None)
@given(
    arrays(
        st.sampled_from([np.uint8, np.uint16, np.int64]),
        array_shapes(min_dims=2, max_dims=2),
        elements=st.integers(0, 5),
    )
)
def test_each_label_has_its_colour(labels: np.ndarray) -> None:
    colours = default_colours(5)
    image = label_image(labels, [list(colour) for colour in colours])
    assert image.dtype == np.uint8
    assert image.shape == (*labels.shape, 3)
    for label, colour in enumerate((UNLABELLED, *colours)):
        assert (image[labels == label] == colour).all()


@pytest.mark.parametrize("label", [-1, 4, 255])
def test_label_without_colour_is_an_error(label: int) -> None:
    labels = np.array([[0, 1], [2, label]], np.int16)
    with pytest.raises(LabelError, match=f"label {label} has no colour, there are 3"):
        label_image(labels, default_colours(3))


def test_colours_of_splits_and_differences_are_distinct() -> None:
    for colours in (SPLIT_COLOURS, DIFFERENCE_COLOURS):
        assert len({UNLABELLED, *colours.values()}) == len(colours) + 1
