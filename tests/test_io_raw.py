import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from io_samples import sample_cube

from hsifcn.core.errors import UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io import raw
from hsifcn.io.raw import ORDERS, RawArray


def stored(path, cube, order, offset=0):
    path.write_bytes(b"x" * offset + np.ascontiguousarray(cube.transpose(ORDERS[order])).tobytes())
    return RawArray(str(path), offset, cube.shape, cube.dtype, order)


@st.composite
def windows(draw, rows, cols):
    row, col = draw(st.integers(0, rows)), draw(st.integers(0, cols))
    return Window(row, col, draw(st.integers(0, rows - row)), draw(st.integers(0, cols - col)))


@pytest.mark.parametrize("gap", [0, 4, raw._GAP_BYTES])
@settings(deadline=None, max_examples=120)
@given(
    data=st.data(),
    order=st.sampled_from(sorted(ORDERS)),
    dtype=st.sampled_from(["u1", "<u2", ">i2", ">f4", "<f8", ">f8"]),
    buffer=st.sampled_from([1, 40, 2**20]),
    pixel=st.sampled_from([8, 16, 128]),
    threaded=st.booleans(),
)
def test_any_window_is_a_slice_of_the_whole(
    tmp_path_factory, gap, data, order, dtype, buffer, pixel, threaded
):
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)))
    window = data.draw(windows(*shape[:2]))
    cube = sample_cube(shape, dtype)
    array = stored(
        tmp_path_factory.getbasetemp() / "raw", cube, order, data.draw(st.integers(0, 9))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "_GAP_BYTES", gap)
        patch.setattr(raw, "_BUFFER_BYTES", {"bil": buffer, "bsq": buffer})
        patch.setattr(raw, "_PIXEL_BYTES", pixel)
        patch.setattr(raw, "_LARGE_BYTES", 0 if threaded else 2**30)
        block = array.read(window)
    np.testing.assert_array_equal(block, cube[window.slices])
    assert block.dtype == cube.dtype.newbyteorder("=")
    assert block.dtype.isnative
    assert block.flags.c_contiguous
    assert block.flags.owndata or block.base is None or block.size == 0


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 4, 3), (4, 1, 3), (4, 5, 3), (4, 5, 1)])
def test_single_pixels(tmp_path, order, shape):
    cube = sample_cube(shape)
    array = stored(tmp_path / "raw", cube, order)
    for row, col in np.ndindex(shape[:2]):
        np.testing.assert_array_equal(array.read(Window(row, col, 1, 1))[0, 0], cube[row, col])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("gap", [0, raw._GAP_BYTES])
@pytest.mark.parametrize("pixel_bytes", [8, 12, 128])
def test_a_read_larger_than_the_buffer_comes_in_parts(
    tmp_path, order, gap, pixel_bytes, monkeypatch
):
    cube = sample_cube((9, 8, 5))
    array = stored(tmp_path / "raw", cube, order)
    monkeypatch.setattr(raw, "_GAP_BYTES", gap)
    monkeypatch.setattr(raw, "_BUFFER_BYTES", {"bil": 320, "bsq": 320})
    monkeypatch.setattr(raw, "_PIXEL_BYTES", pixel_bytes)
    np.testing.assert_array_equal(array.read(Window(1, 2, 7, 5)), cube[1:8, 2:7])


@pytest.mark.parametrize(
    ("order", "full_width", "part"),
    [
        ("bip", [3 * 5 * 4], [2 * 4] * 3),
        ("bil", [3 * 5 * 4], [2] * 4 * 3),
        ("bsq", [3 * 5] * 4, [2] * 3 * 4),
        ("bsq-columns", [3] * 5 * 4, [3] * 2 * 4),
    ],
)
def test_no_more_is_read_than_the_window_and_in_few_pieces(
    tmp_path, order, full_width, part, monkeypatch
):
    array = stored(tmp_path / "raw", sample_cube((6, 5, 4), "u1"), order)
    sizes, preadv, bands = [], os.preadv, slice(0, 4)

    def counting(file, targets, position):
        sizes.extend(map(len, targets))
        return preadv(file, targets, position)

    monkeypatch.setattr(os, "preadv", counting)
    with open(array.path, "rb") as file:
        for window, expected in ((Window(2, 0, 3, 5), full_width), (Window(2, 1, 3, 2), part)):
            sizes.clear()
            buffer = array._buffer(window, bands, np.empty(0, "u1"))
            array._read_stored(file, window, bands, *buffer)
            assert sizes == expected


@pytest.mark.parametrize("large", [0, 2**30])
def test_a_file_that_ends_too_early_is_told_by_every_thread(tmp_path, monkeypatch, large):
    array = stored(tmp_path / "raw", sample_cube((9, 8, 5)), "bil")
    with open(array.path, "r+b") as file:
        file.truncate(array.offset + array.nbytes - 1)
    monkeypatch.setattr(raw, "_LARGE_BYTES", large)
    with pytest.raises(UnreadableFileError, match="ends too early"):
        array.read(Window(0, 0, 9, 8))


def test_reads_that_stop_short_go_on(tmp_path, monkeypatch):
    cube, preadv = sample_cube(), os.preadv
    array = stored(tmp_path / "raw", cube, "bsq")
    monkeypatch.setattr(os, "preadv", lambda file, to, place: preadv(file, [to[0][:3]], place))
    np.testing.assert_array_equal(array.read(Window(0, 0, 4, 5)), cube)


@pytest.mark.parametrize(
    ("order", "wide"),
    [("bip", (2, 1, 3, 2)), ("bil", (2, 0, 3, 5)), ("bsq", (2, 0, 3, 5)),
     ("bsq-columns", (0, 1, 6, 2))],
)  # fmt: skip
def test_small_gaps_between_lines_are_read_and_large_ones_skipped(
    tmp_path, order, wide, monkeypatch
):
    array = stored(tmp_path / "raw", sample_cube((6, 5, 4), "u1"), order)
    window = Window(2, 1, 3, 2)
    if order != "bip":  # which is read right into the result
        assert array._whole_lines(window) == Window(*wide)
    monkeypatch.setattr(raw, "_GAP_BYTES", 2)
    assert array._whole_lines(window) == window


@pytest.mark.parametrize(("cols", "dtype"), [(512, "u1"), (256, ">u2"), (64, "f8"), (255, "<i2")])
@pytest.mark.parametrize("order", ORDERS)
def test_lines_that_share_places_of_the_cache(tmp_path, cols, dtype, order):
    cube = sample_cube((5, cols, 7), dtype)
    array = stored(tmp_path / "raw", cube, order)
    for window in (Window(0, 0, 5, cols), Window(1, 3, 3, 40), Window(2, 2, 0, 3)):
        np.testing.assert_array_equal(array.read(window), cube[window.slices])


@pytest.mark.parametrize("dtype", ["u1", "f8"])
@pytest.mark.parametrize("order", ["bsq", "bsq-columns"])
@pytest.mark.parametrize("side", [8, 63, 64])
def test_bands_do_not_share_places_of_the_cache(tmp_path, order, side, dtype):
    array = stored(tmp_path / "raw", sample_cube((side, side, 3), dtype), order)
    memory = np.empty(0, dtype)
    apart = array._buffer(Window(0, 0, side, side), slice(0, 3), memory)[1].strides[0]
    assert apart >= side * side * array.dtype.itemsize
    assert apart % 128 == 64


@pytest.mark.parametrize("order", ["bip", "bil", "bsq", "bsq-columns"])
def test_a_read_holds_little_besides_its_result(tmp_path, order, monkeypatch):
    monkeypatch.setattr(raw, "_BUFFER_BYTES", {"bil": 2**18, "bsq": 2**18})
    array = stored(tmp_path / "raw", sample_cube((100, 100, 100), "u2"), order)
    tracemalloc.start()
    block = array.read(Window(0, 0, 100, 100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert block.nbytes == 2_000_000
    assert peak < block.nbytes + 2**19


def test_a_file_that_shrinks_or_goes_is_an_error(tmp_path):
    array = stored(tmp_path / "raw", sample_cube(), "bsq")
    os.truncate(array.path, 10)
    with pytest.raises(UnreadableFileError, match="ends too early"):
        array.read(Window(0, 0, 4, 5))
    os.remove(array.path)
    with pytest.raises(UnreadableFileError, match="does not exist"):
        array.read(Window(0, 0, 4, 5))


@pytest.mark.parametrize("window", [Window(-1, 0, 1, 1), Window(0, 4, 1, 2), Window(3, 0, 2, 1)])
def test_a_window_must_lie_inside(tmp_path, window):
    with pytest.raises(ValueError, match="reaches out"):
        stored(tmp_path / "raw", sample_cube(), "bip").read(window)
