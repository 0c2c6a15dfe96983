"""Gains and offsets of bands, applied while voxels are read; GDAL tells what they shall be."""

import pickle
import warnings

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from io_samples import sample_cube, write_envi

from hsifcn.core.errors import UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io import open_labels, open_scene
from hsifcn.io.affine import AffineVoxels, converted

GAINS = np.array([0.5, 0.25, -2.0])
OFFSETS = np.array([0.0, 100.0, 7.5])


def braces(values):
    return "{" + ", ".join(f"{value:g}" for value in values) + "}"


def write_calibrated(path, cube, **extra):
    gains = {"data_gain_values": braces(GAINS), "data_offset_values": braces(OFFSETS)}
    return write_envi(path, cube, **(gains | extra))


pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def read_whole(scene):
    return scene.read(Window(0, 0, *scene.shape[:2]))


@pytest.mark.parametrize("order", ["bip", "bil", "bsq"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", "u2"])
def test_bands_are_calibrated_as_gdal_tells(tmp_path, order, dtype):
    path = write_calibrated(tmp_path / "x.img", sample_cube(dtype=dtype), order=order)
    scene = open_scene(path)
    found = read_whole(scene)
    assert found.dtype == scene.dtype == np.float32
    with rasterio.open(path, driver="ENVI") as dataset:
        stored = dataset.read().transpose(1, 2, 0).astype("f8")
        expected = stored * dataset.scales + dataset.offsets
    assert dataset.scales == tuple(GAINS)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    part = Window(1, 2, 2, 3)
    np.testing.assert_array_equal(scene.read(part), found[part.slices])
    np.testing.assert_array_equal(read_whole(pickle.loads(pickle.dumps(scene))), found)


@pytest.mark.parametrize("given", ["data_gain_values", "data_offset_values"])
def test_one_of_the_two_is_enough(tmp_path, given):
    gone = {"data_gain_values", "data_offset_values"} - {given}
    cube = sample_cube()
    scene = open_scene(write_calibrated(tmp_path / "x.img", cube, **dict.fromkeys(gone)))
    expected = cube * GAINS if given == "data_gain_values" else cube + OFFSETS
    np.testing.assert_allclose(read_whole(scene), expected, rtol=1e-6)


def test_plain_gains_change_nothing(tmp_path):
    plain = {"data_gain_values": "{1.0, 1, 1e0}", "data_offset_values": "{0, 0, 0}"}
    path = write_envi(tmp_path / "x.img", sample_cube(), **plain, reflectance_scale_factor=1e4)
    scene = open_scene(path)
    assert (scene.dtype, scene.scale_factor) == (np.int32, 1e4)


def test_no_data_stay_no_data(tmp_path):
    cube = sample_cube(dtype="i2")
    cube[0, 0] = -99
    scene = open_scene(write_calibrated(tmp_path / "x.img", cube, data_ignore_value=-99))
    assert scene.nodata == -99
    found = read_whole(scene)
    np.testing.assert_array_equal(found[0, 0], [-99] * 3)
    np.testing.assert_allclose(found[1, 1], cube[1, 1] * GAINS + OFFSETS)


def test_no_data_beyond_float32_are_no_measurement():
    block = np.array([[[-1.7e308, 2.0]]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(converted(block, 2.0, 1.0, -1.7e308), [[[-np.inf, 5]]])


def test_a_scale_factor_beside_gains_is_not_used(tmp_path):
    path = write_calibrated(tmp_path / "x.img", sample_cube(), reflectance_scale_factor=10_000)
    with pytest.warns(UserWarning, match="x.hdr has gains or offsets of bands and a 'reflectance"):
        assert open_scene(path).scale_factor is None


@pytest.mark.parametrize(
    ("gains", "problem"),
    [
        ("{1, 2}", "has 2 values in 'data gain values' where 3 belong"),
        ("{1, 2, 0}", "has a 0 in 'data gain values'"),
        ("{1, 2, nan}", "not finite"),
        ("{1, 2, x}", "something else than a number"),
    ],
)
def test_gains_that_are_none_are_refused(tmp_path, gains, problem):
    path = write_calibrated(tmp_path / "x.img", sample_cube(), data_gain_values=gains)
    with pytest.raises(UnreadableFileError, match=problem):
        open_scene(path)


def test_labels_are_numbers_as_they_stand(tmp_path):
    labels = sample_cube(dtype="u1")[..., :1]
    path = write_envi(tmp_path / "x.img", labels, data_gain_values="{0.01}")
    found = open_labels(path)
    codes = np.array((0, *found.codes))
    np.testing.assert_array_equal(codes[found.labels], labels[..., 0])


class Stored:
    """Voxels in memory."""

    def __init__(self, cube):
        self.cube = cube

    def read(self, window):
        return self.cube[window.slices]


@given(st.integers(1, 40), st.integers(0, 10), st.integers(1, 10))
def test_windows_are_read_piece_by_piece(rows, row, piece):
    cube = np.arange((rows + row) * 4 * 3, dtype="u4").reshape(-1, 4, 3)
    voxels = AffineVoxels(Stored(cube), GAINS, OFFSETS, None, cube.dtype)
    expected = converted(cube[row:, 1:3], GAINS, OFFSETS, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hsifcn.io.affine._PIECE_VOXELS", piece * 6)
        np.testing.assert_array_equal(voxels.read(Window(row, 1, rows, 2)), expected)
