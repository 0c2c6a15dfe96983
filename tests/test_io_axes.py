"""Cubes whose axes are in another order than rows, columns and bands."""

import warnings

import h5py
import numpy as np
import pytest
import scipy.io
from cli_helpers import command
from io_samples import sample_cube, write_envi, write_v73

from hsifcn.core.errors import AmbiguousInputError, Notice
from hsifcn.core.scene import Window
from hsifcn.io import open_scene

zarr = pytest.importorskip("zarr")

CUBE = sample_cube((4, 5, 7))
NM = np.linspace(400, 1000, 7)
WHOLE = Window(0, 0, 4, 5)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HSIFCN_CACHE", str(tmp_path / "cache"))


def save_h5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def save_zarr(path, **arrays):
    group = zarr.open_group(str(path), mode="w")
    for name, array in arrays.items():
        group.create_array(name, data=np.asarray(array))


SAVE = {
    "x.npz": lambda path, **arrays: np.savez(path, **arrays),
    "x.mat": lambda path, **arrays: scipy.io.savemat(path, arrays),
    "v73.mat": lambda path, **arrays: write_v73(path, **arrays),
    "x.h5": save_h5,
    "x.zarr": save_zarr,
}


def assert_is_the_cube(scene):
    assert scene.shape == (4, 5, 7)
    np.testing.assert_array_equal(scene.read(WHOLE), CUBE)
    block = scene.read(Window(1, 2, 2, 3))
    np.testing.assert_array_equal(block, CUBE[1:3, 2:5])
    assert block.flags.c_contiguous


@pytest.mark.parametrize("name", SAVE)
@pytest.mark.parametrize("axes", [(2, 0, 1), (0, 2, 1), (0, 1, 2)])
def test_wavelengths_beside_the_cube_tell_the_axis_of_the_bands(tmp_path, name, axes):
    nm = NM[None] if name.endswith(".mat") else NM
    SAVE[name](tmp_path / name, data=CUBE.transpose(axes).copy(), wavelength=nm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scene = open_scene(tmp_path / name)
    assert_is_the_cube(scene)
    np.testing.assert_allclose(scene.wavelengths, NM)
    assert scene.axes_told


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axes", [(2, 0, 1), (0, 2, 1), (0, 1, 2)])
def test_a_file_of_wavelengths_tells_it(tmp_path, order, axes):
    np.save(tmp_path / "x.npy", np.asarray(CUBE.transpose(axes), order=order))
    (tmp_path / "nm.txt").write_text("\n".join(map(str, NM)))
    assert_is_the_cube(open_scene(tmp_path / "x.npy", wavelengths=tmp_path / "nm.txt"))


def test_the_last_axis_is_meant_where_several_are_as_long(tmp_path):
    cube = sample_cube((7, 5, 7))
    np.savez(tmp_path / "x.npz", cube=cube, wavelengths=NM)
    np.testing.assert_array_equal(open_scene(tmp_path / "x.npz").read(Window(0, 0, 7, 5)), cube)


def test_wavelengths_of_another_length_tell_nothing(tmp_path):
    np.savez(tmp_path / "x.npz", cube=CUBE, wavelengths=NM[:6])
    with pytest.warns(UserWarning, match="not one a band"):
        assert open_scene(tmp_path / "x.npz").shape == (4, 5, 7)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (("wavelength", "y", "x"), (2, 0, 1)),
        (("band", "lat", "lon"), (2, 0, 1)),
        (("time", "latitude", "longitude"), (2, 0, 1)),
        (("y", "x", "band"), (0, 1, 2)),
        (("northing", "b", "easting"), (0, 2, 1)),
        (("bands", "lines", "samples"), (2, 0, 1)),
        (("row", "channel", "col"), (0, 2, 1)),
    ],
)
@pytest.mark.parametrize("coordinates", [False, True])
def test_names_of_axes_in_zarr(tmp_path, version, names, axes, coordinates):
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=version)
    arrays = {"cube": (CUBE.transpose(axes).copy(), names)}
    for axis, name in enumerate(names) if coordinates else ():
        arrays[name] = (np.arange(arrays["cube"][0].shape[axis]) * 10.0 + 500, (name,))
    for name, (values, dimensions) in arrays.items():
        options = {"dimension_names": dimensions} if version == 3 else {}
        array = group.create_array(name, data=values, **options)
        if version == 2:
            array.attrs["_ARRAY_DIMENSIONS"] = list(dimensions)
    scene = open_scene(tmp_path / "x.zarr")
    assert_is_the_cube(scene)
    if coordinates and "wavelength" in names:
        np.testing.assert_allclose(scene.wavelengths, 500 + 10 * np.arange(7))


def test_coordinates_of_zarr_place_a_scene(tmp_path):
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    group.create_array("cube", data=CUBE, dimension_names=("lat", "lon", "band"))
    for name, values in (("lat", 50 - 0.5 * np.arange(4)), ("lon", 8 + 0.25 * np.arange(5))):
        array = group.create_array(name, data=values, dimension_names=(name,))
        array.attrs["units"] = "degrees_north" if name == "lat" else "degrees_east"
    grid = open_scene(tmp_path / "x.zarr").grid
    assert grid.transform == (0.25, 0, 7.875, 0, -0.5, 50.25)
    assert "WGS 84" in grid.crs


SPECTRA = CUBE.transpose(1, 0, 2).reshape(20, 7)  # pixels down the columns, as in MATLAB


@pytest.mark.parametrize(
    ("name", "rows", "cols", "pixels_first"),
    [
        ("x.mat", "nRow", "nCol", False),
        ("x.mat", "lines", "cols", True),
        ("v73.mat", "H", "W", True),
        ("v73.mat", "nRow", "nCol", False),
        ("x.mat", "Lines", "Columns", True),
        ("x.mat", "M", "N", False),
    ],
)
def test_a_matrix_of_spectra(tmp_path, name, rows, cols, pixels_first):
    matrix = SPECTRA if pixels_first else SPECTRA.T
    sizes = {rows: np.array([[4.0]]), cols: np.array([[5.0]])}
    extra = {"S_GT": np.ones((4, 5, 3)), "GT": np.ones((3, 7)), "wavelengths": NM[None]}
    SAVE[name](tmp_path / name, Y=matrix.astype("f8"), **sizes, **extra)
    with pytest.warns(Notice, match=r"Y .* is read as 4 x 5 pixels"):
        scene = open_scene(tmp_path / name)
    assert scene.path.endswith(f"{name}:Y")
    assert_is_the_cube(scene)
    np.testing.assert_allclose(scene.wavelengths, NM)
    assert open_scene(f"{tmp_path / name}:S_GT").shape == (4, 5, 3)


def test_lists_of_wavelengths_have_many_names(tmp_path):
    """And in HDF5 that MATLAB did not write they have one axis."""
    for name, key in (("x.mat", "lambda"), ("x.npz", "wvl"), ("x.h5", "center_wavelengths")):
        SAVE[name](tmp_path / name, cube=CUBE.transpose(2, 0, 1), **{key: NM})
        assert_is_the_cube(open_scene(tmp_path / name))
    save_h5(tmp_path / "y.mat", cube=CUBE, wavelength=NM)
    scene = open_scene(tmp_path / "y.mat")
    assert_is_the_cube(scene)
    np.testing.assert_allclose(scene.wavelengths, NM)


@pytest.mark.parametrize("name", SAVE)
def test_a_small_cube_beside_a_larger_array_is_not_taken_for_the_scene(tmp_path, name):
    larger = np.ones((7, 400)) if name != "x.h5" else np.ones((1, 2, 4, 5, 7))
    SAVE[name](tmp_path / name, preview=np.ones((4, 5, 3)), data=larger)
    with pytest.raises(AmbiguousInputError, match=r"holds one cube, /?preview .* but /?data"):
        open_scene(tmp_path / name)
    assert open_scene(f"{tmp_path / name}:preview").shape == (4, 5, 3)


def test_the_order_of_axes_is_asked_for_only_where_it_is_not_told(tmp_path):
    tall = sample_cube((3, 4, 9))
    nm = np.linspace(400, 1000, 9)
    np.save(tmp_path / "a.npy", tall)
    np.savez(tmp_path / "b.npz", cube=tall)
    scipy.io.savemat(tmp_path / "c.mat", {"cube": tall})
    for name in ("a.npy", "b.npz", "c.mat"):
        assert "are the axes in order?" in command(tmp_path, "info", name).err
    (tmp_path / "nm.txt").write_text("\n".join(map(str, nm)))
    write_envi(tmp_path / "d.img", tall)
    scipy.io.savemat(tmp_path / "e.mat", {"cube": tall, "wavelengths": nm})
    told = (("a.npy", "--wavelengths", "nm.txt"), ("d.img",), ("e.mat",))
    for asked in told:
        assert "axes" not in command(tmp_path, "info", *asked).err
