"""Fill values and broken voxels that no header tells of."""

import warnings

import numpy as np
import pytest
from cli_helpers import command
from io_samples import write_envi

from hsifcn.core.scene import Window
from hsifcn.data.standardise import valid_pixels
from hsifcn.io import find_labels, open_scene

ROWS, COLS, BANDS = 40, 50, 12
WHOLE = Window(0, 0, ROWS, COLS)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HSIFCN_CACHE", str(tmp_path / "cache"))


def spectra(dtype="f4", scale=1.0, bands=BANDS):
    """Three materials and a little noise, all values between 0.15 and 0.95 of the scale."""
    rng = np.random.default_rng(0)
    material = (np.arange(ROWS)[:, None] // 10 + np.arange(COLS) // 10) % 3
    cube = rng.uniform(0.2, 0.9, (3, bands))[material] + rng.uniform(
        -0.05, 0.05, (ROWS, COLS, bands)
    )
    return (cube * scale).astype(dtype)


def opened(tmp_path, cube, **options):
    np.save(tmp_path / "cube.npy", cube)
    return open_scene(tmp_path / "cube.npy", **options)


def measured(scene):
    return valid_pixels(scene.read(WHOLE), scene.nodata)


@pytest.mark.parametrize(
    ("dtype", "scale", "fill"),
    [
        ("f4", 1.0, -9999.0),
        ("f4", 1.0, -3.4028234663852886e38),
        ("f8", 1.0, 1e20),
        ("f4", 1.0, 9.969209968386869e36),
        ("f4", 1.0, -1.0),
        ("f4", 1.0, 0.0),
        ("f4", 1e4, 123456.0),
        ("i2", 1e4, -9999),
        ("i2", 1e4, -32768),
        ("i2", 1e4, -1),
        ("u2", 1e4, 0),
        ("u2", 4000, 65535),
        ("u1", 100, 255),
    ],
)
@pytest.mark.parametrize("where", [np.s_[:, :6], np.s_[12:20, 12:20], np.s_[:4]])
def test_a_fill_value_that_nobody_declared(tmp_path, dtype, scale, fill, where):
    cube = spectra(dtype, scale)
    expected = np.ones((ROWS, COLS), bool)
    expected[where] = False
    cube[where] = fill
    with pytest.warns(UserWarning, match="taken as no-data"):
        scene = opened(tmp_path, cube)
    np.testing.assert_array_equal(measured(scene), expected)
    np.testing.assert_array_equal(scene.read(WHOLE)[expected], cube[expected])


@pytest.mark.parametrize("dtype", ["f4", "i2"])
def test_a_fill_value_in_some_bands(tmp_path, dtype):
    cube = spectra(dtype, 1000)
    cube[5:9, 5:9, 3:] = -9999
    with pytest.warns(UserWarning, match="-9999"):
        scene = opened(tmp_path, cube)
    expected = np.ones((ROWS, COLS), bool)
    expected[5:9, 5:9] = False
    np.testing.assert_array_equal(measured(scene), expected)


def test_several_fill_values_beside_a_declared_one(tmp_path):
    cube = spectra("i2", 10_000)
    cube[:, :4], cube[:, 46:], cube[:3] = -32768, -9999, 32767
    raster = write_envi(tmp_path / "x.img", cube, data_ignore_value="-32768")
    with pytest.warns(UserWarning, match="-9999") as told:
        scene = open_scene(raster)
    assert len(told) == 2
    expected = np.zeros((ROWS, COLS), bool)
    expected[3:, 4:46] = True
    np.testing.assert_array_equal(measured(scene), expected)


@pytest.mark.parametrize("value", [1e20, -1e20, 1e10, 300.0, np.inf])
def test_one_broken_voxel(tmp_path, value):
    cube = spectra()
    cube[7, 9, 4] = value
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        scene = opened(tmp_path, cube)
    assert bool(told) == np.isfinite(value)
    expected = np.ones((ROWS, COLS), bool)
    expected[7, 9] = False
    np.testing.assert_array_equal(measured(scene), expected)


def test_one_broken_voxel_of_a_small_scene_of_integers(tmp_path):
    cube = spectra("u2", 1000)[:4, :5]
    cube[2, 3, 4] = 65535
    with pytest.warns(UserWarning, match="as extreme as 65535"):
        scene = opened(tmp_path, cube)
    valid = valid_pixels(scene.read(Window(0, 0, 4, 5)), scene.nodata)
    assert np.argwhere(~valid).tolist() == [[2, 3]]


@pytest.mark.parametrize("place", [(0, 0), (333, 777), (999, 999)])
def test_a_broken_voxel_of_a_large_scene_is_found_wherever_it_is(tmp_path, place):
    cube = np.random.default_rng(0).random((1000, 1000, 3), np.float32)
    cube[(*place, 1)] = 1e10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may be outside of the windows that are looked at
        scene = opened(tmp_path, cube)
    valid = valid_pixels(scene.read(Window(0, 0, 1000, 1000)), scene.nodata)
    assert np.argwhere(~valid).tolist() == [list(place)]


def test_a_border_of_a_large_scene(tmp_path):
    cube = np.random.default_rng(0).random((1000, 1000, 3), np.float32) + 0.1
    cube[np.indices((1000, 1000)).sum(0) < 300] = 0
    with pytest.warns(UserWarning, match="are 0, far from all others"):
        assert opened(tmp_path, cube).nodata == 0


@pytest.mark.parametrize(
    ("dtype", "scale", "fill"), [("i2", 1000, 0), ("f4", 1.0, 0.0), ("u2", 40_000, 14_000)]
)
def test_a_border_amid_the_range_of_values(tmp_path, dtype, scale, fill):
    """Of zeros beside bands of noise round zero, as in absorption bands; or of another value."""
    cube = spectra("f8", scale)
    if fill == 0:
        cube[..., 4:6] = np.random.default_rng(1).normal(0, 0.01 * scale, (ROWS, COLS, 2))
    cube = cube.astype(dtype)
    cube[np.indices((ROWS, COLS)).sum(0) < 20] = fill
    whole = (cube == fill).all(axis=2)
    with pytest.warns(UserWarning, match=f"are {fill:g}, which fills pixels up to the border"):
        found = ~measured(opened(tmp_path, cube))
    assert (found >= whole).all()
    assert found.sum() <= whole.sum() + 0.02 * ROWS * COLS
    # Other flat pixels: a scene of such spectra.
    cube[3::7, ::9], cube[5::7, ::9] = fill + 0.5 * scale, fill + 0.6 * scale
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert opened(tmp_path, cube).nodata is None


def test_a_declared_value_that_no_voxel_can_have_is_no_placeholder(tmp_path):
    """Zeros stay measurements where the header says -9999 of unsigned voxels filled with 65535."""
    cube = spectra("u2", 4000)
    cube[..., 3] = 0
    cube[5, 5, 3] = 1
    cube[:4] = 65535
    write_envi(tmp_path / "a.img", cube, data_ignore_value=-9999)
    with pytest.warns(UserWarning, match="65535, far from all others"):
        scene = open_scene(tmp_path / "a.img")
    assert scene.nodata == 65535
    assert measured(scene).sum() == (ROWS - 4) * COLS


def saturated(cube):
    cube[cube > np.quantile(cube, 0.98)] = cube.max()
    return cube


def clipped(cube):
    cube[..., :3][cube[..., :3] < np.quantile(cube, 0.3)] = 0
    return cube


def dark(cube):
    cube[10:20, 10:20, ::2] = 0
    return cube


def one_band_of_other_units(cube):
    cube[..., 5] *= 1000
    return cube


def glints(cube):
    cube[::7, ::9] *= 4
    return cube


@pytest.mark.parametrize("change", [saturated, clipped, dark, one_band_of_other_units, glints])
@pytest.mark.parametrize(("dtype", "scale"), [("f4", 1.0), ("u2", 1000)])
def test_extremes_that_are_measurements_stay(tmp_path, change, dtype, scale):
    cube = change(spectra("f8", scale)).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scene = opened(tmp_path, cube)
    np.testing.assert_array_equal(scene.read(WHOLE), cube)
    assert scene.nodata is None
    assert measured(scene).all()


def test_a_declared_value_is_no_measurement_in_any_band(tmp_path):
    cube = spectra("i2", 1000)
    cube[5, 6, 2], cube[7, 8, :] = -9999, -9999
    scene = open_scene(write_envi(tmp_path / "x.img", cube, data_ignore_value="-9999"))
    assert np.argwhere(~measured(scene)).tolist() == [[5, 6], [7, 8]]


def test_a_declared_zero_may_be_a_measurement_in_less_than_half_of_the_bands(tmp_path):
    cube = spectra("u2", 1000)
    cube[5, 6, :5], cube[7, 8, :6], cube[9, 9] = 0, 0, 0
    scene = open_scene(write_envi(tmp_path / "x.img", cube, data_ignore_value="0"))
    assert np.argwhere(~measured(scene)).tolist() == [[7, 8], [9, 9]]


@pytest.mark.parametrize("declared", [None, "-1"])
def test_a_value_that_the_user_declares(tmp_path, declared):
    cube = spectra("i2", 1000)
    cube[3:5, 3:5], cube[8, 8] = 555, -1
    extra = {"data_ignore_value": declared} if declared else {}
    scene = open_scene(write_envi(tmp_path / "x.img", cube, **extra), nodata=555)
    expected = ~(cube == 555).any(axis=2)
    expected[8, 8] = declared is None
    np.testing.assert_array_equal(measured(scene), expected)


def test_a_value_that_the_user_declares_is_that_which_is_stored(tmp_path):
    cube = spectra("i2", 1000)
    cube[3:5, 3:5] = 777
    raster = write_envi(
        tmp_path / "x.img", cube, data_gain_values=f"{{{', '.join(['0.5'] * BANDS)}}}"
    )
    scene = open_scene(raster, nodata=777)
    np.testing.assert_array_equal(measured(scene), ~(cube == 777).any(axis=2))
    np.testing.assert_allclose(scene.read(WHOLE), np.where(cube == 777, 777, cube * 0.5))


def test_fill_values_under_gains_are_those_that_are_stored(tmp_path):
    cube = spectra("i2", 1000)
    cube[:, :5] = -9999
    gains = ", ".join(str(0.1 + i) for i in range(BANDS))
    with pytest.warns(UserWarning, match="-9999"):
        scene = open_scene(write_envi(tmp_path / "x.img", cube, data_gain_values=f"{{{gains}}}"))
    assert np.flatnonzero(~measured(scene).any(axis=0)).tolist() == [0, 1, 2, 3, 4]


def test_looking_for_labels_reads_no_voxels(tmp_path):
    cube = spectra()
    cube[:, :6] = -9999
    np.save(tmp_path / "cube.npy", cube)
    np.save(tmp_path / "cube_gt.npy", np.ones((ROWS, COLS), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_labels(tmp_path / "cube.npy").endswith("cube_gt.npy")


def test_the_option_of_the_commands(tmp_path):
    cube = spectra()
    cube[10:15, 10:15] = 0.5
    labels = ((np.arange(ROWS)[:, None] // 10 + np.arange(COLS) // 10) % 3 + 1).astype("u1")
    labels[10:15, 10:15] = 0
    np.save(tmp_path / "cube.npy", cube)
    np.save(tmp_path / "cube_gt.npy", labels)
    assert command(tmp_path, "info", "cube.npy", "--json").json["nodata"] is None
    done = command(tmp_path, "info", "cube.npy", "--json", "--nodata", "0.5")
    assert done.json["nodata"] == 0.5
    done = command(tmp_path, "train", "cube.npy", "--nodata", "0.5", "--steps", "2", "-o", "run")
    assert done.code == 0, done.err
    # The run's own scene is read as it was trained on, another one as the option says.
    for asked in ((), ("cube.npy", "--nodata", "0.5")):
        done = command(tmp_path, "predict", "run", *asked, "-o", "map.npy", "--overwrite")
        assert done.code == 0, done.err
        assert np.argwhere(np.load(tmp_path / "map.npy") == 0).size == 2 * 25
    done = command(tmp_path, "predict", "run", "cube.npy", "-o", "map.npy", "--overwrite")
    assert (np.load(tmp_path / "map.npy") > 0).all()


def test_too_few_pixels_tell_nothing(tmp_path):
    cube = np.array([[[0, 1], [100, 101], [20000, 20001]]], "u2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(opened(tmp_path, cube).read(Window(0, 0, 1, 3)), cube)
