from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import noise_scene

from hsifcn.core.scene import Window
from hsifcn.data.standardise import (
    Scaling,
    divided_by_length,
    fit_scaling,
    read_bands,
    strips,
    valid_pixels,
)


@given(
    cuts=st.lists(st.integers(0, 50), max_size=6),
    dtype=st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"]),
    seed=st.integers(0, 99),
)
def test_pieces_give_the_statistics_of_the_whole(cuts, dtype, seed):
    spectra = np.random.default_rng(seed).uniform(0, 200, (50, 4)).astype(dtype)
    scaling = fit_scaling(np.split(spectra, sorted(cuts)))
    np.testing.assert_allclose(scaling.mean, spectra.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(scaling.std, spectra.std(0, dtype=np.float64), rtol=1e-9)


def test_small_variation_on_a_large_offset_is_kept():
    spectra = 1e6 + np.random.default_rng(0).normal(0, 0.5, (1000, 3))
    scaling = fit_scaling(np.split(spectra, 10))
    np.testing.assert_allclose(scaling.std, spectra.std(0), rtol=1e-6)


def test_a_flat_band_is_divided_by_one():
    spectra = np.array([[1, 5], [3, 5]])
    assert fit_scaling([spectra]).std.tolist() == [1, 1]
    assert fit_scaling([spectra * 2]).std.tolist() == [2, 1]


@pytest.mark.parametrize("value", [0.1, -0.3, 1.7])
def test_rounding_does_not_make_a_flat_band_vary(value):
    pieces = [np.full((n, 1), value) for n in (1000, 777, 31)]
    assert fit_scaling(pieces).std.tolist() == [1]


def test_no_spectra_give_no_bands():
    assert fit_scaling([np.zeros((0, 3))]).mean.shape == (0,)


def test_a_standardised_scene_has_mean_0_and_deviation_1():
    block = np.random.default_rng(0).integers(1000, 9000, (9, 8, 5)).astype(np.uint16)
    scaled = fit_scaling([block.reshape(-1, 5)]).apply(block, np.ones((9, 8), bool))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std((0, 1)), 1, rtol=1e-5)


def test_pixels_without_a_measurement_become_the_mean():
    block = np.full((2, 2, 3), np.nan, np.float32)
    block[0, 0] = 7
    scaling = Scaling(np.full(3, 5.0), np.full(3, 2.0))
    scaled = scaling.apply(block, valid_pixels(block, None))
    assert scaled[0, 0].tolist() == [1, 1, 1]
    assert not scaled[1].any()
    assert not scaled[0, 1].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_broken_band_makes_a_pixel_invalid(value):
    block = np.ones((2, 3, 4), np.float32)
    block[1, 2, 3] = value
    assert (~valid_pixels(block, None)).nonzero() == (np.array([1]), np.array([2]))


def test_a_pixel_with_nodata_in_a_band_is_not_valid():
    block = np.ones((1, 3, 2), np.int16)
    block[0, 0] = -999
    block[0, 1, 0] = -999
    assert valid_pixels(block, -999.0).tolist() == [[False, False, True]]
    assert valid_pixels(block, None).all()
    assert valid_pixels(block, float("nan")).all()


def test_chosen_bands_of_a_window():
    scene = noise_scene((6, 5, 4))
    chosen = np.array([True, False, True, False])
    block = read_bands(scene, Window(1, 2, 3, 2), chosen)
    assert block.flags.c_contiguous
    assert np.array_equal(block, scene.cube[1:4, 2:4][..., [0, 2]])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(1, 3000))
def test_strips_cover_the_scene_once(rows, cols, bands, voxels):
    windows = list(strips((rows, cols, bands), voxels))
    assert [window.row for window in windows] == [0, *(w.row_stop for w in windows[:-1])]
    assert windows[-1].row_stop == rows
    assert all((window.col, window.cols) == (0, cols) for window in windows)
    assert all(w.rows == 1 or w.rows * cols * bands <= voxels for w in windows)


@given(st.floats(1e-3, 1e3), st.integers(0, 99))
def test_a_gain_does_not_change_spectra_of_length_one(gain, seed):
    block = np.random.default_rng(seed).uniform(1, 5000, (4, 5, 6)).astype(np.float32)
    valid = np.ones((4, 5), bool)
    valid[1, 2] = False
    scaling = Scaling(np.full(6, 0.4), np.full(6, 0.05), unit_length=True)
    lengths = np.sqrt((block.astype(np.float64) ** 2).sum(2, keepdims=True))
    wanted = np.where(valid[..., None], (block / lengths - 0.4) / 0.05, 0)
    np.testing.assert_allclose(scaling.apply(block, valid), wanted, atol=1e-4)
    np.testing.assert_allclose(scaling.apply(block * np.float32(gain), valid), wanted, atol=1e-4)


def test_spectra_of_length_zero_stay_zero():
    block = np.zeros((1, 2, 3), np.uint16)
    block[0, 1] = 3, 0, 4
    np.testing.assert_allclose(divided_by_length(block), [[[0, 0, 0], [0.6, 0, 0.8]]], rtol=1e-6)
