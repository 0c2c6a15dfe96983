import itertools
import os
import pickle
import warnings

import h5py
import netCDF4
import numpy as np
import pytest
from io_samples import sample_cube, sample_labels

from hsifcn.core.errors import AmbiguousInputError, LabelError, SettingError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.data.standardise import valid_pixels
from hsifcn.io import find_labels, open_labels, open_scene

WHOLE = Window(0, 0, 4, 5)
NM = np.array([400.0, 500.0, 600.0])
UTM = (
    'PROJCS["WGS 84 / UTM zone 18N",GEOGCS["WGS 84",DATUM["WGS_1984",'
    'SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],UNIT["metre",1]]'
)


@pytest.fixture(autouse=True, scope="module")
def cache_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HSIFCN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize(
    ("axes", "dtype"),
    [(axes, dtype) for axes, dtype in zip(
        itertools.cycle([(0, 1, 2), (0, 2, 1), (2, 0, 1)]),
        ["u1", ">i2", "<u2", ">i4", "<u4", "i8", ">u8", "<f4", ">f8"], strict=False)],
)  # fmt: skip
def test_voxels_whichever_axis_holds_the_bands(tmp_path, axes, dtype):
    cube = sample_cube(dtype=dtype)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a/cube", data=cube.transpose(axes), chunks=(2, 2, 2), compression=4)
        file["a/wavelength"] = NM
    scene = pickle.loads(pickle.dumps(open_scene(tmp_path / "x.h5")))
    assert scene.path.endswith("x.h5:/a/cube")
    assert (scene.shape, scene.dtype) == ((4, 5, 3), cube.dtype.newbyteorder("="))
    np.testing.assert_array_equal(scene.wavelengths, NM)
    np.testing.assert_array_equal(scene.read(WHOLE), cube)
    np.testing.assert_array_equal(scene.read(Window(1, 2, 2, 3)), cube[1:3, 2:5])


def test_a_netcdf_variable_with_its_conventions(tmp_path):
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as file:
        for name, size in (("y", 4), ("x", 5), ("band", 3)):
            file.createDimension(name, size)
        rfl = file.createVariable("rfl", "i2", ("y", "x", "band"), fill_value=-999, zlib=True)
        rfl.set_auto_maskandscale(False)
        rfl.scale_factor = 0.0001
        rfl[:] = sample_cube(dtype="i2")
        nm = file.createVariable("wavelengths", "f8", ("band",))
        nm.units, nm[:] = "um", NM / 1000
        file.createVariable("fwhm", "f8", ("band",))[:] = [0.01, 0.02, 0.03]
    scene = open_scene(tmp_path / "x.nc")
    np.testing.assert_array_equal(scene.read(WHOLE), sample_cube(dtype="i2"))
    np.testing.assert_allclose(scene.wavelengths, NM)
    np.testing.assert_allclose(scene.fwhm, [10, 20, 30])
    assert (scene.nodata, scene.scale_factor) == (-999, pytest.approx(10000))


def test_an_offset_is_applied(tmp_path):
    cube = sample_cube(dtype="i2")
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as file:
        for name, size in (("y", 4), ("x", 5), ("band", 3)):
            file.createDimension(name, size)
        rfl = file.createVariable("rfl", "i2", ("y", "x", "band"), fill_value=-999)
        rfl.scale_factor, rfl.add_offset = 0.001, 2.0
        rfl[:] = cube * 0.001 + 2  # packed by netCDF4
        rfl[0, 0] = np.ma.masked
    scene = open_scene(tmp_path / "x.nc")
    assert (scene.dtype, scene.scale_factor, scene.nodata) == (np.float32, 1, -999)
    found = scene.read(WHOLE)
    np.testing.assert_array_equal(found[0, 0], [-999] * 3)
    np.testing.assert_allclose(found[1:], cube[1:] * 0.001 + 2, rtol=1e-6)


def test_several_cubes_are_named_and_one_can_be(tmp_path):
    path = tmp_path / "x.hdf5"
    with h5py.File(path, "w") as file:
        file["low/cube"], file["high"] = sample_cube(), sample_cube() + 1
        file["map"], file["words"] = sample_labels(), "text"
    with pytest.raises(AmbiguousInputError, match=rf"{path}:/high, {path}:/low/cube"):
        open_scene(path)
    np.testing.assert_array_equal(open_scene(f"{path}:/high").read(WHOLE), sample_cube() + 1)
    np.testing.assert_array_equal(open_scene(f"{path}:low/cube").read(WHOLE), sample_cube())
    with pytest.raises(UnreadableFileError, match=r"2 dimensions.*-l"):
        open_scene(f"{path}:map")
    with pytest.raises(UnreadableFileError, match="no dataset '/none'; it holds"):
        open_scene(f"{path}:none")
    with pytest.raises(SettingError, match="no lookup table"):
        open_scene(f"{path}:high@glt")


def test_labels(tmp_path):
    path = tmp_path / "x.h5"
    labels = sample_labels().astype("i2")
    labels[0, 0] = -1
    with h5py.File(path, "w") as file:
        file["cube"], file["quality"] = sample_cube(), sample_labels()
        file.create_dataset("gt", data=labels).attrs["_FillValue"] = np.int16(-1)
    assert find_labels(path) == f"{path}:/gt"
    expected = np.where(labels < 0, 0, labels)
    np.testing.assert_array_equal(open_labels(f"{path}:gt").labels, expected)
    with pytest.raises(AmbiguousInputError, match=r"/gt, .*/quality"):
        open_labels(path)
    with pytest.raises(LabelError, match="no label map '/cube'"):
        open_labels(f"{path}:cube")


def emit(path):
    """A swath of 4 x 5 pixels that its lookup table places on a map of 3 x 6."""
    cube = sample_cube(dtype="f4")
    cube[2, 2] = -9999
    glt_y = np.array([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 0], [4, 0, 0, 0, 0, 1]], "i4")
    glt_x = np.array([[0, 1, 2, 3, 4, 0], [5, 4, 3, 2, 0, 0], [1, 0, 0, 0, 0, 5]], "i4")
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("downtrack", 4), ("crosstrack", 5), ("bands", 3),
                           ("ortho_y", 3), ("ortho_x", 6)):  # fmt: skip
            file.createDimension(name, size)
        file.geotransform = [-76.5, 0.5, 0.0, 39.5, 0.0, -0.25]
        file.spatial_ref = 'GEOGCS["WGS 84"]'
        swath = ("downtrack", "crosstrack", "bands")
        file.createVariable("reflectance", "f4", swath, fill_value=-9999.0, zlib=True,
                            chunksizes=(2, 5, 3))[:] = cube  # fmt: skip
        sensor, place = file.createGroup("sensor_band_parameters"), file.createGroup("location")
        sensor.createVariable("wavelengths", "f4", ("bands",))[:] = NM
        sensor.createVariable("fwhm", "f4", ("bands",))[:] = [8, 9, 10]
        sensor.createVariable("good_wavelengths", "u1", ("bands",))[:] = [1, 0, 1]
        for name, values in (("glt_y", glt_y), ("glt_x", glt_x)):
            place.createVariable(name, "i4", ("ortho_y", "ortho_x"))[:] = values
        for name in ("lat", "lon"):
            place.createVariable(name, "f8", ("downtrack", "crosstrack"))[:] = 1
    return cube, glt_y, glt_x


def test_an_emit_scene_as_a_swath(tmp_path):
    cube, _, _ = emit(tmp_path / "EMIT_L2A_RFL.nc")
    scene = open_scene(tmp_path / "EMIT_L2A_RFL.nc")
    assert scene.grid is None
    assert (scene.nodata, scene.good_bands.tolist()) == (-9999, [True, False, True])
    np.testing.assert_array_equal(scene.wavelengths, NM)
    np.testing.assert_array_equal(scene.fwhm, [8, 9, 10])
    np.testing.assert_array_equal(scene.read(WHOLE), cube)


def test_an_emit_scene_on_the_map_by_its_lookup_table(tmp_path):
    cube, glt_y, glt_x = emit(tmp_path / "e.nc")
    scene = open_scene(f"{tmp_path / 'e.nc'}:@glt")
    assert scene.path.endswith("e.nc:/reflectance@glt")
    assert open_scene(scene.path).shape == scene.shape == (3, 6, 3)
    assert scene.grid.transform == (0.5, 0, -76.5, 0, -0.25, 39.5)
    assert scene.grid.crs == 'GEOGCS["WGS 84"]'
    expected = np.where(glt_y[..., None] > 0, cube[glt_y - 1, glt_x - 1], -9999)
    np.testing.assert_array_equal(scene.read(Window(0, 0, 3, 6)), expected)


@pytest.mark.parametrize("fields", ["Data Fields", "Data_Fields"])
def test_a_prisma_scene_joins_its_detectors_by_wavelength(tmp_path, fields):
    vnir_nm, swir_nm = [1000.0, 700.0, 450.0, 0.0], [2400.0, 990.0, 0.0]  # they overlap
    vnir, swir = sample_cube((4, 5, 4), "u2"), sample_cube((4, 5, 3), "u2") + 7
    with h5py.File(tmp_path / "p.he5", "w") as file:
        group = file.create_group(f"HDFEOS/SWATHS/PRS_L2D_HCO/{fields}")
        for name, short, cube, nm in (
            ("VNIR", "Vnir", vnir, vnir_nm), ("SWIR", "Swir", swir, swir_nm),
        ):  # fmt: skip
            group.create_dataset(f"{name}_Cube", data=cube.transpose(0, 2, 1), chunks=(2, 2, 5))
            file.attrs[f"List_Cw_{short}"] = np.array(nm, "f4")
            file.attrs[f"List_Fwhm_{short}"] = np.arange(1, len(nm) + 1, dtype="f4")
            file.attrs[f"L2Scale{short}Min"] = np.float32(0)
            file.attrs[f"L2Scale{short}Max"] = np.float32(1.5)
        file.attrs["Epsg_Code"] = np.int32(32632)
        for corner, east, north in (("UL", 500015.0, 4999985.0), ("LR", 500135.0, 4999895.0)):
            file.attrs[f"Product_{corner}corner_easting"] = east
            file.attrs[f"Product_{corner}corner_northing"] = north
    scene = open_scene(tmp_path / "p.he5")
    np.testing.assert_array_equal(scene.wavelengths, [450, 700, 990, 1000, 2400])
    np.testing.assert_array_equal(scene.fwhm, [3, 2, 2, 1, 1])
    joined = np.stack([vnir[..., 2], vnir[..., 1], swir[..., 1], vnir[..., 0], swir[..., 0]], 2)
    np.testing.assert_array_equal(scene.read(WHOLE), joined)
    assert (scene.nodata, scene.scale_factor) == (0, pytest.approx(65535 / 1.5))
    assert scene.grid.transform == pytest.approx((30, 0, 500000, 0, -30, 5000000))
    assert "UTM zone 32N" in scene.grid.crs
    named = f"{tmp_path / 'p.he5'}:HDFEOS/SWATHS/PRS_L2D_HCO/{fields}/VNIR_Cube"
    assert open_scene(named).shape == (4, 4, 5)  # as it lies in the file: bands unknown, so last


def test_a_neon_scene(tmp_path):
    with h5py.File(tmp_path / "NEON.h5", "w") as file:
        group = file.create_group("SERC/Reflectance")
        group.attrs["Band_Window_1_Nanometers"] = np.array([480, 520])
        group.attrs["Band_Window_2_Nanometers"] = np.array([1790, 1955])
        data = group.create_dataset("Reflectance_Data", data=sample_cube(dtype="i2"))
        data.attrs["Data_Ignore_Value"], data.attrs["Scale_Factor"] = -9999.0, 10000.0
        group["Metadata/Spectral_Data/Wavelength"] = NM
        group["Metadata/Spectral_Data/FWHM"] = NM / 100
        place = group.create_group("Metadata/Coordinate_System")
        place["Map_Info"] = "UTM, 1.000, 1.000, 368000.0, 4307000.0, 1.0, 1.0, 18, North, WGS-84"
        place["Coordinate_System_String"] = UTM
        group["Metadata/Ancillary_Imagery/Slope"] = sample_labels()
    scene = open_scene(tmp_path / "NEON.h5")
    np.testing.assert_array_equal(scene.read(WHOLE), sample_cube(dtype="i2"))
    np.testing.assert_array_equal(scene.wavelengths, NM)
    np.testing.assert_array_equal(scene.fwhm, NM / 100)
    assert scene.good_bands.tolist() == [True, False, True]
    assert (scene.nodata, scene.scale_factor) == (-9999, 10000)
    assert scene.grid.transform == (1, 0, 368000, 0, -1, 4307000)
    assert scene.grid.crs == UTM
    with pytest.raises(LabelError, match="no labels"):
        find_labels(tmp_path / "NEON.h5")


def external(file, folder):
    (folder / "secret").write_bytes(bytes(60))
    file.create_dataset("cube", (3, 5, 4), "u1", external=[(str(folder / "secret"), 0, 60)])


def virtual(file, folder):
    layout = h5py.VirtualLayout((3, 5, 4), "u1")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "cube", (3, 5, 4))
    file.create_virtual_dataset("cube", layout)


def external_link(file, folder):
    file.create_group("a")["cube"] = h5py.ExternalLink(str(folder / "other.h5"), "/cube")


def soft_link(file, folder):
    file["cube"] = h5py.SoftLink("/elsewhere")


def lying_size(file, folder):
    file.create_dataset("cube", (10**5, 10**5, 200), "f8", chunks=(100, 100, 200))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (external, "in other files"),
        (virtual, "in other files"),
        (external_link, "link to another file, '/a/cube'"),
        (soft_link, "holds no cube"),
        (lying_size, "claims 1.6e.04 GB but has"),
    ],
)
def test_hostile_files_are_refused(tmp_path, make, message):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        make(file, tmp_path)
    with pytest.raises(UnreadableFileError, match=message):
        open_scene(tmp_path / "x.h5")


def test_chunks_beyond_memory_are_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        shape = (600, 600, 800)  # 2.3 GB in one chunk that was never written
        file.create_dataset("cube", shape, "f8", chunks=shape)
        file["padding"] = np.random.default_rng(0).random(50_000)
    with pytest.raises(UnreadableFileError, match=r"chunks of 2\.3 GB"):
        open_scene(tmp_path / "x.h5")


def test_a_group_that_holds_itself_ends(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/cube"] = sample_cube()
        file["a/again"] = file["a"]
        file["root"] = file["/"]
    assert open_scene(tmp_path / "x.h5").shape == (4, 5, 3)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + bytes(100), b"CDF\x01" + bytes(9)])
def test_what_is_no_hdf5_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "x.nc").write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"x\.nc") as caught:
        open_scene(tmp_path / "x.nc")
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["cube"] = sample_cube((40, 50, 30))
    os.truncate(tmp_path / "x.h5", os.path.getsize(tmp_path / "x.h5") // 2)
    with pytest.raises(UnreadableFileError, match="cannot be parsed"):
        open_scene(tmp_path / "x.h5")


@pytest.mark.parametrize("variable", ["radiance", "mask"])
def test_any_variable_of_a_swath_is_placed_by_the_lookup_table(tmp_path, variable):
    cube, glt_y, glt_x = emit(tmp_path / "e.nc")
    with h5py.File(tmp_path / "e.nc", "r+") as file:
        file.move("reflectance", variable)
    scene = open_scene(f"{tmp_path / 'e.nc'}:{variable}@glt")
    assert (scene.shape, scene.scale_factor) == ((3, 6, 3), None)
    expected = np.where(glt_y[..., None] > 0, cube[glt_y - 1, glt_x - 1], -9999)
    np.testing.assert_array_equal(scene.read(Window(0, 0, 3, 6)), expected)
    if variable == "radiance":
        np.testing.assert_array_equal(open_scene(tmp_path / "e.nc").wavelengths, NM)


STRUCTURE = """GROUP=GridStructure
\tGROUP=GRID_1
\t\tGridName="HYP"
\t\tUpperLeftPointMtrs=(400000.000000,4500000.000000)
\t\tLowerRightMtrs=(400150.000000,4499880.000000)
\tEND_GROUP=GRID_1
END_GROUP=GridStructure
END
"""


@pytest.mark.parametrize("kind", ["SWATHS", "GRIDS"])
@pytest.mark.parametrize("name", ["surface_reflectance", "toa_radiance"])
def test_a_tanager_scene(tmp_path, kind, name):
    cube = sample_cube(dtype="f4")
    with h5py.File(tmp_path / "t.h5", "w") as file:
        group = file.create_group(f"HDFEOS/{kind}/HYP")
        data = group.create_dataset(f"Data Fields/{name}", data=cube.transpose(2, 0, 1))
        data.attrs.update({"wavelengths": NM, "fwhm": [5.0, 6.0, 7.0], "_FillValue": -9999.0})
        data.attrs["good_wavelengths"] = np.array([1, 1, 0])
        group[f"Data Fields/{name}_uncertainty"] = cube.transpose(2, 0, 1)
        group["Data Fields/beta_cloud_mask"] = np.zeros((4, 5), "u1")
        if kind == "GRIDS":
            group.attrs["epsg_code"] = np.int64(32618)
            file["HDFEOS INFORMATION/StructMetadata.0"] = np.bytes_(STRUCTURE)
    scene = open_scene(tmp_path / "t.h5")
    assert scene.path.endswith(f"Data Fields/{name}")
    np.testing.assert_array_equal(scene.read(WHOLE), cube)
    np.testing.assert_array_equal(scene.wavelengths, NM)
    np.testing.assert_array_equal(scene.fwhm, [5, 6, 7])
    assert scene.good_bands.tolist() == [True, True, False]
    assert (scene.nodata, scene.axes_told) == (-9999, True)
    if kind == "GRIDS":
        assert scene.grid.transform == (30, 0, 400000, 0, -30, 4500000)
        assert "UTM zone 18N" in scene.grid.crs
    else:
        assert scene.grid is None


@pytest.mark.parametrize(
    ("names", "dataset"),
    [
        (("blue_wavelength", "red_wavelength", "SWIR_wavelength"), "rhot_red"),
        (("wavelength", "wavelength_3d"), "rhos"),
    ],
)
def test_wavelengths_of_pace(tmp_path, names, dataset):
    cube = sample_cube((4, 5, 7), "f4")
    cube = cube.transpose(2, 0, 1) if dataset == "rhot_red" else cube
    nm = np.linspace(600, 890, 7)
    with h5py.File(tmp_path / "p.nc", "w") as file:
        file[f"observation_data/{dataset}"] = cube
        for i, name in enumerate(names):
            values = (
                nm if name in {"red_wavelength", "wavelength_3d"} else np.arange(300.0, 310 + i)
            )
            file[f"sensor_band_parameters/{name}"] = values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scene = open_scene(tmp_path / "p.nc")
    assert scene.shape == (4, 5, 7)
    np.testing.assert_array_equal(scene.wavelengths, nm)


def test_all_that_attributes_declare_is_no_measurement(tmp_path):
    cube = np.random.default_rng(0).uniform(0.1, 0.9, (20, 20, 3)).astype("f4")
    cube[0, 1], cube[2, 3, 1], cube[4, 5, 0], cube[6, 7, 2] = -1, 0.5, 0.95, 0.05
    with h5py.File(tmp_path / "a.nc", "w") as file:
        data = file.create_dataset("cube", data=cube)
        data.attrs.update({"_FillValue": np.float32(-1), "missing_value": np.float32(0.5)})
        data.attrs["valid_range"] = np.array([0.1, 0.9], "f4")
    scene = open_scene(tmp_path / "a.nc")
    valid = valid_pixels(scene.read(Window(0, 0, 20, 20)), scene.nodata)
    assert np.argwhere(~valid).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize("bits", [8, 16])
def test_integers_that_are_unsigned_by_an_attribute(tmp_path, bits):
    """``_Unsigned``: NetCDF 3 knew signed integers only; the fill value is stored as signed too."""
    largest = 2**bits - 1
    cube = np.random.default_rng(0).integers(1, largest, (20, 20, 3))
    cube[0, 1] = largest
    with h5py.File(tmp_path / "a.nc", "w") as file:
        data = file.create_dataset("cube", data=cube.astype(f"u{bits // 8}").view(f"i{bits // 8}"))
        data.attrs.update({"_Unsigned": "true", "_FillValue": np.array(-1, f"i{bits // 8}")})
    scene = open_scene(tmp_path / "a.nc")
    assert (scene.dtype, scene.nodata) == (f"u{bits // 8}", largest)
    np.testing.assert_array_equal(scene.read(Window(0, 0, 20, 20)), cube)


def test_float_labels_with_nan(tmp_path):
    """They are labels where they are named, or where no map of whole numbers is there."""
    labels = sample_labels().astype("f4")
    labels[labels == 0] = np.nan
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["gt"] = labels
        file["cube"] = sample_cube()
    for path in ("a.h5", "a.h5:gt"):
        np.testing.assert_array_equal(open_labels(tmp_path / path).labels, sample_labels())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["classes"] = sample_labels()[::-1]
    np.testing.assert_array_equal(open_labels(tmp_path / "a.h5").labels, sample_labels()[::-1])
    np.testing.assert_array_equal(open_labels(tmp_path / "a.h5:gt").labels, sample_labels())


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_a_scale_is_what_is_meant_whatever_its_type(tmp_path, kind):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        data = file.create_dataset("cube", data=sample_cube(dtype="i2"))
        data.attrs["scale_factor"] = np.array(0.0001, kind)
    assert open_scene(tmp_path / "a.nc").scale_factor == 10000
