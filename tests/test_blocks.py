from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import ArrayScene, whole

from hsifcn.data.standardise import valid_pixels
from hsifcn.inference.streaming import read_blocks

BIG = float(np.finfo(np.float32).max)
VOXELS = {
    "i2": [0, 1, -7, 32767],
    "u2": [0, 1, 7, 65535],
    "f4": [0, 1, -7, BIG, -BIG, np.nan, np.inf, -np.inf],
    "f8": [0, 1, -7, 1e308, np.nan, np.inf, -np.inf],
}
NODATA = [None, 0, -7, 65535, 1e300, np.nan]


@given(st.data(), st.sampled_from(sorted(VOXELS)), st.sampled_from(NODATA))
def test_blocks_tell_which_pixels_are_valid(data, dtype, nodata):
    rows, cols, bands = (data.draw(st.integers(1, 4)) for _ in range(3))
    voxels = st.lists(
        st.sampled_from(VOXELS[dtype]), min_size=rows * cols * bands, max_size=rows * cols * bands
    )
    cube = np.array(data.draw(voxels), dtype).reshape(rows, cols, bands)
    scene = ArrayScene(cube, nodata=nodata)
    with closing(read_blocks(scene, [whole(scene)], np.ones(bands, bool))) as blocks:
        pixels, valid = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    assert np.array_equal(pixels, cube.reshape(-1, bands), equal_nan=True)
    assert np.array_equal(valid, valid_pixels(cube, nodata).ravel())


@pytest.mark.parametrize("dtype", ["i2", "u2", "f4"])
def test_blocks_come_as_they_are_stored(dtype):
    scene = ArrayScene(np.ones((3, 4, 5), dtype))
    with closing(read_blocks(scene, [whole(scene)], np.arange(5) < 2)) as blocks:
        ((pixels, _),) = blocks
    assert pixels.dtype == scene.dtype
    assert pixels.shape == (12, 2)
