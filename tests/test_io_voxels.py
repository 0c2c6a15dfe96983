"""Voxels of every format in every interleave, type and byte order, written by other programs.

A voxel's value is its row, column and band in digits, so that any swapped axis shows.
"""

import itertools
import warnings

import h5py
import netCDF4
import numpy as np
import pytest
import rasterio
import scipy.io
import spectral
import zarr
from io_samples import STORED_AXES, sample_cube, write_v73

from hsifcn.core.scene import Window
from hsifcn.io import open_scene

SHAPE = (4, 5, 3)
TYPES = ["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
BYTE_ORDERS = ["<", ">"]
AXES = list(STORED_AXES.values())


@pytest.fixture(autouse=True, scope="module")
def cache_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HSIFCN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def envi(folder, cube, interleave):
    """Written by the package spectral."""
    order = "big" if cube.dtype.str.startswith(">") else "little"
    spectral.envi.save_image(
        str(folder / "x.hdr"), cube, dtype=cube.dtype.newbyteorder("="), byteorder=order,
        interleave=interleave, ext=".img",
    )  # fmt: skip
    return folder / "x.img"


def envi_by_gdal(folder, cube, interleave):
    """Written by GDAL, in the byte order of the machine."""
    rows, cols, bands = cube.shape
    shape = {"height": rows, "width": cols, "count": bands, "dtype": cube.dtype.name}
    with rasterio.open(folder / "x.dat", "w", "ENVI", INTERLEAVE=interleave, **shape) as file:
        file.write(cube.transpose(2, 0, 1))
    return folder / "x.dat"


def geotiff(folder, cube, interleave, **layout):
    rows, cols, bands = cube.shape
    order = "BIG" if cube.dtype.str.startswith(">") else "LITTLE"
    shape = {"height": rows, "width": cols, "count": bands, "dtype": cube.dtype.name}
    with rasterio.open(
        folder / "x.tif", "w", "GTiff", INTERLEAVE=interleave, ENDIANNESS=order, **shape, **layout
    ) as file:
        file.write(cube.transpose(2, 0, 1).astype(cube.dtype.newbyteorder("=")))
    return folder / "x.tif"


def npy(folder, cube, order):
    np.save(folder / "x.npy", np.asarray(cube, order=order))
    return folder / "x.npy"


def npz(folder, cube, save):
    save(folder / "x.npz", cube=cube)
    return folder / "x.npz"


def zarr_store(folder, cube, version):
    array = zarr.create_array(
        folder / "x.zarr", shape=cube.shape, dtype=cube.dtype, chunks=(3, 2, 2),
        zarr_format=version,
    )  # fmt: skip
    array[:] = cube
    return folder / "x.zarr"


def cases():
    """Each format with all its interleaves, types and byte orders."""
    in_memory_order = [
        (envi, ["bip", "bil", "bsq"]),
        (geotiff, ["PIXEL", "BAND"]),
        (npy, ["C", "F"]),
        (npz, [np.savez, np.savez_compressed]),
        (zarr_store, [2, 3]),
    ]
    for write, interleaves in in_memory_order:
        yield from ((write, *case) for case in itertools.product(interleaves, TYPES, BYTE_ORDERS))
    yield from ((envi_by_gdal, *case, "<") for case in itertools.product(STORED_AXES, TYPES))


def named(case):
    write, interleave, dtype, order = case
    name = getattr(interleave, "__name__", str(interleave)).replace(" ", "")
    return f"{write.__name__}-{name}-{order}{dtype}"


@pytest.mark.parametrize("case", [pytest.param(case, id=named(case)) for case in cases()])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_voxel_is_its_row_column_and_band(tmp_path, case):
    write, interleave, dtype, order = case
    cube = sample_cube(SHAPE, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the writers say of their own
        path = write(tmp_path, cube.astype(cube.dtype.newbyteorder(order)), interleave)
    assert_holds(open_scene(path), cube)


def assert_holds(scene, cube):
    assert (scene.shape, scene.dtype) == (SHAPE, cube.dtype)
    for window in (Window(0, 0, 4, 5), Window(1, 2, 3, 2), Window(3, 0, 1, 5), Window(0, 4, 4, 1)):
        found = scene.read(window)
        assert found.dtype.isnative
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, cube[window.slices])


CUBES = {dtype: sample_cube(SHAPE, dtype) for dtype in TYPES}


def in_byte_order(cube, order):
    return cube.astype(cube.dtype.newbyteorder(order))


def mat_v5(folder):
    scipy.io.savemat(folder / "x.mat", CUBES, do_compression=True)
    return folder / "x.mat"


def mat_v5_uncompressed(folder):
    scipy.io.savemat(folder / "x.mat", CUBES, do_compression=False)
    return folder / "x.mat"


def mat_v73(folder):
    orders = itertools.cycle(BYTE_ORDERS)
    return write_v73(
        folder / "x.mat", **{n: in_byte_order(c, next(orders)) for n, c in CUBES.items()}
    )


def turns():
    """Each type with an order of axes and a byte order, taken in turn."""
    return zip(CUBES.items(), itertools.cycle(itertools.product(AXES, BYTE_ORDERS)), strict=False)


def hdf5(folder):
    """The list of wavelengths tells which axis holds the bands."""
    with h5py.File(folder / "x.h5", "w") as file:
        for (name, cube), (axes, order) in turns():
            file.create_dataset(
                name, data=in_byte_order(cube, order).transpose(axes), chunks=(2, 2, 2),
                compression=1,
            )  # fmt: skip
        file["wavelengths"] = [400.0, 500.0, 600.0]
    return folder / "x.h5"


def netcdf(folder):
    names = ("y", "x", "band")
    with netCDF4.Dataset(folder / "x.nc", "w") as file:
        for name, size in zip(names, SHAPE, strict=True):
            file.createDimension(name, size)
        for (name, cube), (axes, order) in turns():
            endian = "big" if order == ">" else "little"
            dims = tuple(names[axis] for axis in axes)
            variable = file.createVariable(name, name, dims, endian=endian)
            variable[:] = cube.transpose(axes)
        file.createVariable("wavelength", "f8", ("band",))[:] = [400.0, 500.0, 600.0]
    return folder / "x.nc"


@pytest.mark.parametrize("write", [mat_v5, mat_v5_uncompressed, mat_v73, hdf5, netcdf])
def test_a_voxel_of_a_file_that_holds_several_cubes(tmp_path, write):
    """One file for all types: a process parses it for each that is read."""
    path = write(tmp_path)
    for name, cube in CUBES.items():
        assert_holds(open_scene(f"{path}:{name}"), cube)
