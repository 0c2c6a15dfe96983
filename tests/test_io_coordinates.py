"""Where the pixels of NetCDF files lie, and which axis holds the bands; GDAL tells it too."""

import json

import h5py
import netCDF4
import numpy as np
import pytest
import rasterio
from io_samples import sample_cube, sample_labels
from rasterio.crs import CRS

from hsifcn.core.scene import Window
from hsifcn.io import open_labels, open_scene
from hsifcn.io.hdf5 import _listing

WHOLE = Window(0, 0, 4, 5)
UTM = CRS.from_epsg(32633).to_wkt()
NORTHING, EASTING = 5e6 - 30 * np.arange(4), 4e5 + 30 * np.arange(5)
PLACED = (30, 0, 4e5 - 15, 0, -30, 5e6 + 15)
LATITUDE, LONGITUDE = 48.5 - 0.25 * np.arange(4), 11.0 + 0.25 * np.arange(5)


@pytest.fixture(autouse=True, scope="module")
def cache_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HSIFCN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def write(path, dims=("y", "x", "band"), *, y=NORTHING, x=EASTING, **options):
    """Write a cube ``rfl`` and labels ``gt`` with CF coordinates; options change their attributes.

    ``wkt`` is the attribute that tells the CRS, ``band`` the coordinates of the bands.
    """
    options = {"units": "m", "wkt": {"crs_wkt": UTM}, "band": None, "group": ""} | options
    order = [("y", "x", "band").index(name) for name in dims]
    with netCDF4.Dataset(path, "w") as file:
        group = file.createGroup(options["group"]) if options["group"] else file
        axes = {"y": y, "x": x, "band": options["band"]}
        for name in dims:
            group.createDimension(name, 3 if axes[name] is None else len(axes[name]))
            if axes[name] is not None:
                group.createVariable(name, axes[name].dtype, (name,))[:] = axes[name]
        for axis in "xy" if options["units"] is not None else "":
            group[axis].standard_name = f"projection_{axis}_coordinate"
            group[axis].units = options["units"]
        if options["wkt"]:
            file.createVariable("crs", "i4").setncatts(
                {"grid_mapping_name": "transverse_mercator"} | options["wkt"]
            )
        cube = sample_cube(dtype="i2")
        group.createVariable("rfl", "i2", dims)[:] = cube.transpose(order)
        gt = tuple(name for name in dims if name != "band")
        group.createVariable("gt", "u1", gt)[:] = sample_labels() if gt[0] == "y" else 1
        for name in ("rfl", "gt") if options["wkt"] else ():
            group[name].grid_mapping = "crs"
    return path


@pytest.mark.parametrize(("key", "group"), [("crs_wkt", ""), ("spatial_ref", "inner")])
@pytest.mark.parametrize("dims", [("y", "x", "band"), ("band", "y", "x"), ("y", "band", "x")])
def test_a_projected_scene_lies_where_it_is(tmp_path, key, group, dims):
    scene = open_scene(write(tmp_path / "x.nc", dims, wkt={key: UTM}, group=group))
    np.testing.assert_array_equal(scene.read(WHOLE), sample_cube(dtype="i2"))
    assert scene.grid.transform == PLACED
    assert CRS.from_wkt(scene.grid.crs) == CRS.from_epsg(32633)
    assert open_labels(tmp_path / "x.nc").grid == scene.grid


def latitudes_and_longitudes(path, x=LONGITUDE, y=LATITUDE, **attributes):
    with netCDF4.Dataset(path, "w") as file:
        for name, values in (("lat", y), ("lon", x), ("band", None)):
            file.createDimension(name, 3 if values is None else len(values))
            if values is not None:
                variable = file.createVariable(name, np.asarray(values).dtype, (name,))
                variable[:] = values
                variable.setncatts({"units": f"degrees_{'north' if name == 'lat' else 'east'}"})
        file.createVariable("rfl", "i2", ("band", "lat", "lon"))[:] = sample_cube(
            (len(y), len(x), 3), "i2"
        ).transpose(2, 0, 1)
    return path


def test_gdal_puts_the_scenes_at_the_same_place(tmp_path):
    projected = write(tmp_path / "p.nc", ("band", "y", "x"))
    geographic = latitudes_and_longitudes(tmp_path / "g.nc")
    for path in (projected, geographic):
        grid = open_scene(path).grid
        with rasterio.open(f"netcdf:{path}:rfl", driver="netCDF") as dataset:
            np.testing.assert_allclose(grid.transform, tuple(dataset.transform)[:6], rtol=1e-12)
            if dataset.crs:
                assert CRS.from_wkt(grid.crs) == dataset.crs
            for row, col in ((0, 0), (3, 4)):
                a, b, c, d, e, f = grid.transform
                place = (
                    a * (col + 0.5) + b * (row + 0.5) + c,
                    d * (col + 0.5) + e * (row + 0.5) + f,
                )
                found = next(iter(dataset.sample([place])))
                np.testing.assert_array_equal(found, sample_cube(dtype="i2")[row, col])


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_latitudes_and_longitudes_are_on_wgs_84(tmp_path, dtype):
    lat, lon = (50 - np.arange(40) / 3600).astype(dtype), (200 + np.arange(50) / 3600).astype(dtype)
    grid = open_scene(latitudes_and_longitudes(tmp_path / "x.nc", lon, lat)).grid
    assert CRS.from_wkt(grid.crs) == CRS.from_epsg(4326)
    a, b, c, d, e, f = grid.transform
    assert (b, d) == (0, 0)
    np.testing.assert_allclose((a, e), (1 / 3600, -1 / 3600), rtol=1e-3)
    np.testing.assert_allclose((c, f), (-160 - a / 2, 50 - e / 2), atol=0.05 * a)


def test_rows_may_run_northward_or_along_x(tmp_path):
    northward = open_scene(write(tmp_path / "n.nc", y=NORTHING[::-1])).grid
    assert northward.transform == (30, 0, 4e5 - 15, 0, 30, 5e6 - 105)
    turned = open_scene(write(tmp_path / "t.nc", ("x", "y", "band")))
    assert turned.shape == (5, 4, 3)
    assert turned.grid.transform == (0, 30, 4e5 - 15, -30, 0, 5e6 + 15)


def test_kilometres_are_made_metres(tmp_path):
    path = write(tmp_path / "x.nc", y=NORTHING / 1000, x=EASTING / 1000, units="km")
    np.testing.assert_allclose(open_scene(path).grid.transform, PLACED, rtol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"y": np.array([9.0, 8, 7, 5])},
        {"x": np.array([1.0, 1, 1, 1, 1])},
        {"x": np.array([1.0, 2, np.nan, 4, 5])},
        {"units": "rad"},
    ],
    ids=str,
)
def test_coordinates_without_a_place_are_told(tmp_path, options):
    path = write(tmp_path / "x.nc", **options)
    with pytest.warns(UserWarning, match="x.nc:/rfl are not in even steps of a known unit"):
        assert open_scene(path).grid is None


def test_numbers_of_pixels_are_no_place(tmp_path):
    path = write(tmp_path / "x.nc", y=np.arange(4), x=np.arange(5), units=None, wkt=None)
    assert open_scene(path).grid is None
    without = write(tmp_path / "y.nc", wkt=None)
    assert (open_scene(without).grid.crs, open_scene(without).grid.transform) == (None, PLACED)


@pytest.mark.parametrize("dims", [("band", "y", "x"), ("y", "band", "x")])
def test_bands_are_the_axis_that_is_no_place(tmp_path, dims):
    """Of the name of a dimension alone, too; without it the last axis would be taken."""
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as file:
        for name, size in (("y", 3), ("x", 3), ("band", 3)):
            file.createDimension(name, size)
        cube = sample_cube((3, 3, 3))
        order = [("y", "x", "band").index(name) for name in dims]
        file.createVariable("rfl", "i4", dims)[:] = cube.transpose(order)
    scene = open_scene(tmp_path / "x.nc")
    np.testing.assert_array_equal(scene.read(Window(0, 0, 3, 3)), cube)
    assert scene.grid is None


@pytest.mark.parametrize("units", ["nm", "um", "micrometers"])
def test_coordinates_of_bands_are_wavelengths(tmp_path, units):
    nm = np.array([450.0, 550, 650])
    path = write(tmp_path / "x.nc", ("band", "y", "x"), band=nm if units == "nm" else nm / 1000)
    with netCDF4.Dataset(path, "a") as file:
        file["band"].units = units
    scene = open_scene(path)
    np.testing.assert_allclose(scene.wavelengths, nm)
    np.testing.assert_array_equal(scene.read(WHOLE), sample_cube(dtype="i2"))


def test_numbers_of_bands_are_no_wavelengths(tmp_path):
    path = write(tmp_path / "x.nc", ("band", "y", "x"), band=np.array([1, 2, 3]))
    assert open_scene(path).wavelengths is None


def test_scales_that_lead_nowhere_are_left_alone(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        cube = file.create_dataset("cube", data=sample_cube())
        file["y"] = NORTHING
        file["y"].make_scale("y")
        cube.dims[0].attach_scale(file["y"])
        del file["y"]
    scene = open_scene(tmp_path / "x.h5")
    assert scene.grid is None
    np.testing.assert_array_equal(scene.read(WHOLE), sample_cube())
    json.dumps(_listing(str(tmp_path / "x.h5")).datasets, allow_nan=False)
