"""Files that must not be read wrongly: each fault, in every format that can have it.

A faulty file ends in the right cube, maybe with a warning, or in one line that names file, cause
and remedy.
"""

from __future__ import annotations

import json
import shutil
import warnings

import h5py
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.warp
import scipy.io
import zarr
from cli_helpers import assert_refused, command
from io_samples import sample_cube, sample_labels, write_envi, write_v73
from rasterio.transform import from_origin
from scenes import field_cube, field_labels
from vector_samples import DEGREES, MAP_INFO, UTM, block, write_shapes

from hsifcn.core.errors import HsifcnError
from hsifcn.core.scene import Window
from hsifcn.data.standardise import valid_pixels
from hsifcn.io import open_labels, open_scene

RIGHT = None  # read, and read rightly
CUBE = sample_cube((6, 5, 3), "i2") + 1
WHOLE = Window(0, 0, 6, 5)
NM = [400.0, 500.0, 600.0]
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(autouse=True, scope="module")
def cache_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HSIFCN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def envi(path, cube=CUBE, order="bsq", **fields):
    return write_envi(path / "x.img", cube, order, **fields)


def header(folder, change):
    """An ENVI raster whose header's text is changed."""
    path = envi(folder)
    text = path.with_suffix(".hdr").read_text()
    path.with_suffix(".hdr").write_bytes(change(text))
    return path


def tiff(folder, cube=CUBE, tags=(), **profile):
    rows, cols, bands = cube.shape
    shape = {"height": rows, "width": cols, "count": bands, "dtype": cube.dtype.name}
    scales = profile.pop("scales", None)
    with rasterio.open(folder / "x.tif", "w", "GTiff", **shape, **profile) as file:
        file.write(cube.transpose(2, 0, 1))
        file.update_tags(**dict(tags))
        if scales:
            file.scales = scales
    return folder / "x.tif"


def hdf5(folder, cube=CUBE, nm=NM, **attributes):
    with h5py.File(folder / "x.h5", "w") as file:
        file["cube"], file["wavelengths"] = cube, nm
        file["cube"].attrs.update(attributes)
    return folder / "x.h5"


def neon(folder, cube=CUBE, nm=NM, **attributes):
    with h5py.File(folder / "x.h5", "w") as file:
        file["SITE/Reflectance/Reflectance_Data"] = cube
        file["SITE/Reflectance/Metadata/Spectral_Data/Wavelength"] = nm
        file["SITE/Reflectance/Reflectance_Data"].attrs.update(attributes)
    return folder / "x.h5"


def zarr_store(folder, cube=CUBE, nm=NM, **attributes):
    array = zarr.create_array(folder / "x.zarr", data=cube, chunks=(3, 5, 3)[: cube.ndim])
    array.attrs.update({"wavelengths": list(nm), **attributes})
    return folder / "x.zarr"


def npy(folder, cube=CUBE):
    np.save(folder / "x.npy", cube)
    return folder / "x.npy"


def npz(folder, **arrays):
    np.savez(folder / "x.npz", **arrays or {"cube": CUBE})
    return folder / "x.npz"


def mat(folder, **arrays):
    scipy.io.savemat(folder / "x.mat", arrays or {"cube": CUBE})
    return folder / "x.mat"


def v73(folder, **arrays):
    return write_v73(folder / "x.mat", **arrays or {"cube": CUBE})


def cut(path, share=0.75):
    """Keep the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def without_chunk(path):
    (path / "c/1/0/0").unlink()
    return path


def claiming(path, shape):
    """A Zarr array whose metadata tell of another shape than was written."""
    text = (path / "zarr.json").read_text()
    old = '"shape": [\n    6,\n    5,\n    3\n  ]'
    assert old in text
    (path / "zarr.json").write_text(text.replace(old, f'"shape": {list(shape)}'))
    return path


def told(path, **values):
    """A Zarr array whose metadata are others."""
    metadata = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps(metadata | values))
    return path


def no_chunks(path):
    grid = {"name": "regular", "configuration": {"chunk_shape": [0, 5, 3]}}
    return told(path, chunk_grid=grid)


def claiming_npy(folder, shape):
    with (folder / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": shape}
        )
        file.write(bytes(800))
    return folder / "x.npy"


def claiming_npz(folder, shape):
    import zipfile

    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.write(claiming_npy(folder, shape), "cube.npy")
    return folder / "x.npz"


def claiming_hdf5(path, shape):
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", shape, "f8", chunks=(100, 100, 200))
    return path


def elsewhere(path, kind):
    """An HDF5 file whose cube lies in another file."""
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["cube"] = CUBE
    (path.with_name("raw")).write_bytes(bytes(180))
    with h5py.File(path, "w") as file:
        if kind == "external":
            where = [(str(path.with_name("raw")), 0, 180)]
            file.create_dataset("cube", CUBE.shape, "i2", external=where)
        elif kind == "virtual":
            layout = h5py.VirtualLayout(CUBE.shape, "i2")
            layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "cube", CUBE.shape)
            file.create_virtual_dataset("cube", layout)
        else:
            file["cube"] = h5py.ExternalLink(str(path.with_name("other.h5")), "/cube")
    return path


def virtual_raster(folder, name):
    source = tiff(folder)
    path = folder / name
    with rasterio.open(source) as dataset:
        rasterio.shutil.copy(dataset, folder / "v.vrt", driver="VRT")
    shutil.move(folder / "v.vrt", path)
    return path


HUGE = (10**5, 10**5, 200)
LATIN = "ü".encode("latin-1")
FAULTS = {
    "truncated": [
        *((lambda f, o=o: cut(envi(f, order=o)), "x.img is truncated") for o in ("bip", "bil")),
        (lambda f: cut(envi(f)), "x.img is truncated"),
        (lambda f: cut(tiff(f), 0.9), "x.tif"),
        (lambda f: cut(tiff(f, compress="deflate")), "x.tif"),
        (lambda f: cut(hdf5(f)), "x.h5 cannot be parsed"),
        (lambda f: cut(mat(f)), "x.mat cannot be parsed"),
        (lambda f: cut(v73(f)), "x.mat cannot be parsed"),
        (lambda f: cut(npy(f)), "x.npy is truncated"),
        (lambda f: cut(npz(f)), "x.npz is no whole .npz file"),
    ],
    "compressed": [
        (lambda f: envi(f, file_compression=1), "x.hdr says that the raster is compressed"),
        (lambda f: tiff(f, compress="lzw"), RIGHT),
    ],
    "header": [
        (lambda f: envi(f, interleave="xyz"), "x.hdr has the unknown interleave 'xyz'"),
        (lambda f: envi(f, interleave=None), "x.hdr has no 'interleave'"),
        (lambda f: envi(f, data_type=None), "x.hdr has no 'data type'"),
        (lambda f: envi(f, byte_order=2), "x.hdr has the unknown byte order 2"),
        (lambda f: header(f, lambda text: text.encode() + b"sensor = " + LATIN), RIGHT),
        (lambda f: header(f, lambda text: b"\xef\xbb\xbf" + text.encode()), RIGHT),
        (lambda f: header(f, lambda t: t.replace("lines = 6", "lines = 6.0").encode()), RIGHT),
        (lambda f: header(f, lambda text: text.replace("\n", "\r\n").encode()), RIGHT),
    ],
    "count of wavelengths": [
        (lambda f: envi(f, wavelength="{400, 500}"), "x.hdr has 2 values in 'wavelength'"),
        (lambda f: envi(f, bbl="{1, 1, 1, 0}"), "x.hdr has 4 values in 'bbl'"),
        (lambda f: envi(f, fwhm="{1}"), "x.hdr has 1 values in 'fwhm'"),
        (lambda f: tiff(f, tags={"wavelength": "{400, 500}"}), "x.tif are not one a band"),
        (lambda f: hdf5(f, nm=NM[:2]), "x.h5 are not one a band"),
        (lambda f: neon(f, nm=NM[:2]), "x.h5 are not one a band"),
        (lambda f: zarr_store(f, nm=NM[:2]), "x.zarr are not one a band"),
        (lambda f: npz(f, cube=CUBE, wavelengths=NM[:2]), "x.npz are not one a band"),
        (lambda f: mat(f, cube=CUBE, wavelength=NM[:2]), "x.mat are not one a band"),
        (lambda f: v73(f, s={"cube": CUBE, "wl": np.array([NM * 3])}), "x.mat are not one a band"),
    ],
    "claimed size": [
        (lambda f: envi(f, lines=10**9), "x.img is truncated"),
        (lambda f: claiming_hdf5(f / "x.h5", HUGE), "x.h5 claims 1.6e+04 GB"),
        (lambda f: claiming_hdf5(f / "x.mat", HUGE), "x.mat:cube would take 16000.0 GB"),
        (lambda f: claiming(zarr_store(f), HUGE), "x.zarr claims 4e+03 GB"),
        (lambda f: claiming_npy(f, HUGE), "x.npy is truncated"),
        (lambda f: claiming_npz(f, HUGE), "x.npz claims 1.6e+04 GB"),
    ],
    "other files": [
        *((lambda f, k=k: elsewhere(f / "x.h5", k), "x.h5") for k in ("external", "virtual", "")),
        *((lambda f, k=k: elsewhere(f / "x.mat", k), "x.mat") for k in ("external", "virtual", "")),
        (lambda f: virtual_raster(f, "v.tif"), "v.tif cannot be read as GeoTIFF"),
        (lambda f: virtual_raster(f, "v.img"), "v.img has no ENVI header"),
        (lambda f: virtual_raster(f, "v.vrt"), "v.vrt is a virtual raster"),
    ],
    "scale of nothing": [
        (lambda f: envi(f, reflectance_scale_factor=0), "the scale factor 0 of"),
        (lambda f: neon(f, Scale_Factor=-1.0), "the scale factor -1 of"),
    ],
    "a number out of range": [
        (lambda f: told(zarr_store(f), fill_value=2**70), "x.zarr cannot be read as Zarr"),
        (lambda f: no_chunks(zarr_store(f)), "x.zarr tells of chunks without a pixel"),
    ],
    "missing part": [(lambda f: without_chunk(zarr_store(f)), "1 of 2 chunks")],
    "two cubes": [
        (lambda f: npz(f, a=CUBE, b=CUBE), "x.npz:a"),
        (lambda f: mat(f, a=CUBE, b=CUBE), "x.mat:a"),
        (lambda f: v73(f, a=CUBE, b=CUBE), "x.mat:a"),
        (lambda f: mat(f, s={"a": CUBE, "b": CUBE}), "x.mat:s.a"),
    ],
    "a map as a cube": [
        (lambda f: npy(f, sample_labels()), "x.npy has 2 dimensions, (4, 5); a cube has the shape"),
        (lambda f: npz(f, cube=sample_labels()), "x.npz holds no cube"),
        (lambda f: mat(f, gt=sample_labels()), "x.mat holds no cube"),
        (lambda f: v73(f, gt=sample_labels()), "x.mat holds no cube"),
        (lambda f: hdf5(f, cube=sample_labels()), "x.h5 holds no cube"),
        (lambda f: zarr_store(f, cube=sample_labels()), "x.zarr has 2 dimensions"),
        (lambda f: envi(f, file_type="ENVI Classification"), "x.img is a classified map"),
        (lambda f: envi(f, CUBE[..., :1]), "x.img has one band only"),
        (lambda f: tiff(f, CUBE[..., :1]), "x.tif has one band only"),
    ],
}
CASES = [
    pytest.param(make, expected, id=f"{fault}-{number}")
    for fault, rows in FAULTS.items()
    for number, (make, expected) in enumerate(rows)
]


@pytest.mark.parametrize(("make", "expected"), CASES)
def test_a_faulty_file_is_read_rightly_or_refused_in_one_line(tmp_path, make, expected):
    path = make(tmp_path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            scene = open_scene(path)
            found = scene.read(Window(0, 0, *scene.shape[:2]))
        except HsifcnError as error:
            message = str(error)
        else:
            message = " ".join(str(warning.message) for warning in told) if told else RIGHT
            kept = found.any(axis=2)  # a chunk that is missing is 0
            np.testing.assert_array_equal(found[kept], CUBE[..., : found.shape[2]][kept])
    if expected is RIGHT:
        assert message is RIGHT
    else:
        assert message is not RIGHT
        assert expected in message
        assert "\n" not in message


NODATA = {
    "envi": lambda f, c: envi(f, c, data_ignore_value="-9999"),
    "tiff": lambda f, c: tiff(f, c, nodata=-9999),
    "hdf5": lambda f, c: hdf5(f, c, _FillValue=np.int16(-9999)),
    "neon": lambda f, c: neon(f, c, Data_Ignore_Value=-9999.0),
    "zarr": lambda f, c: zarr_store(f, c, _FillValue=-9999),
}


@pytest.mark.parametrize("make", NODATA.values(), ids=NODATA)
def test_the_value_of_no_data_is_applied(tmp_path, make):
    cube = CUBE.copy()
    cube[2, 3] = -9999
    cube[4, 1, 0] = -9999  # one band only
    scene = open_scene(make(tmp_path, cube))
    assert scene.nodata == -9999
    expected = np.ones((6, 5), bool)
    expected[2, 3] = expected[4, 1] = False
    np.testing.assert_array_equal(valid_pixels(scene.read(WHOLE), scene.nodata), expected)


SCALES = {
    "envi": lambda f: envi(f, reflectance_scale_factor=10000),
    "tiff": lambda f: tiff(f, scales=(0.0001,) * 3),
    "hdf5": lambda f: hdf5(f, scale_factor=0.0001),
    "neon": lambda f: neon(f, Scale_Factor=10000.0),
    "zarr": lambda f: zarr_store(f, scale_factor=0.0001),
}


@pytest.mark.parametrize("make", SCALES.values(), ids=SCALES)
def test_the_scale_factor_is_told_and_voxels_stay_as_stored(tmp_path, make):
    scene = open_scene(make(tmp_path))
    assert scene.scale_factor == pytest.approx(10000)
    np.testing.assert_array_equal(scene.read(WHOLE), CUBE)


BESIDE = {
    "npz": lambda f, nm: npz(f, cube=CUBE, wavelengths=nm),
    "mat": lambda f, nm: mat(f, cube=CUBE, wavelength=nm),
    "mat struct": lambda f, nm: mat(f, s={"cube": CUBE, "Wavelength": nm}, wavelength=[1.0]),
    "v73": lambda f, nm: v73(f, cube=CUBE, wl=np.array([nm]).T),
    "zarr": lambda f, nm: zarr_store(f, nm=nm),
    "hdf5": lambda f, nm: hdf5(f, nm=nm),
    "tiff": lambda f, nm: tiff(f, tags={"wavelength": f"{{{nm[0]}, {nm[1]}, {nm[2]}}}"}),
    "envi": lambda f, nm: envi(f, wavelength=f"{{{nm[0]}, {nm[1]}, {nm[2]}}}"),
}


@pytest.mark.parametrize("make", BESIDE.values(), ids=BESIDE)
def test_wavelengths_in_the_file_and_band_numbers_in_their_place(tmp_path, make):
    np.testing.assert_allclose(open_scene(make(tmp_path, [0.4, 0.5, 0.6])).wavelengths, NM)
    shutil.rmtree(tmp_path / "x.zarr", ignore_errors=True)
    assert open_scene(make(tmp_path, [1.0, 2.0, 3.0])).wavelengths is None


def test_a_file_of_band_numbers_is_no_file_of_wavelengths(tmp_path):
    (tmp_path / "nm.txt").write_text("1\n2\n3\n")
    with pytest.raises(HsifcnError, match=r"nm\.txt holds band numbers; give wavelengths"):
        open_scene(npy(tmp_path), wavelengths=tmp_path / "nm.txt")


@pytest.mark.parametrize("make", [envi, hdf5, neon, zarr_store], ids=lambda make: make.__name__)
def test_wavelengths_that_do_not_increase(tmp_path, make):
    """They stay with their bands, info tells, and a range of wavelengths finds the right ones."""
    from hsifcn.data.bands import with_chosen_bands

    nm = [600.0, 400.0, 500.0]
    path = make(tmp_path, **({"wavelength": f"{{{nm}}}"} if make is envi else {"nm": nm}))
    if make is envi:
        text = path.with_suffix(".hdr").read_text().replace("{[", "{").replace("]}", "}")
        path.with_suffix(".hdr").write_text(text)
    scene = open_scene(path)
    np.testing.assert_allclose(scene.wavelengths, nm)
    chosen = with_chosen_bands(scene, "450nm-700nm").good_bands
    assert chosen.tolist() == [True, False, True]
    assert "the wavelengths do not increase" in command(tmp_path, "info", path).err


def test_wavelengths_that_are_missing(tmp_path):
    path = npy(tmp_path)
    assert "wavelengths   not given" in command(tmp_path, "info", path).out
    np.save(tmp_path / "x_gt.npy", sample_labels((6, 5)))
    done = command(tmp_path, "train", path, "--bands", "400nm-500nm", "-q")
    assert_refused(done, "--bands 400nm-500nm needs wavelengths", "--wavelengths")


@pytest.fixture
def placed(tmp_path):
    """A scene in UTM and its true labels."""
    labels = field_labels()
    write_envi(tmp_path / "s.img", field_cube(labels), map_info=MAP_INFO)
    return tmp_path, labels


def labels_as_tiff(path, labels, crs, transform):
    rows, cols = labels.shape
    shape = {"height": rows, "width": cols, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", "GTiff", crs=crs, transform=transform, **shape) as file:
        file.write(labels, 1)
    return path


def test_labels_in_another_crs_are_sampled_with_a_warning(placed):
    folder, labels = placed
    scene = open_scene(folder / "s.img")
    fine = labels.repeat(4, 0).repeat(4, 1)
    path = labels_as_tiff(folder / "l.tif", fine, UTM, from_origin(500000, 5300000, 5, 5))
    with rasterio.open(path) as dataset:
        transform, cols, rows = rasterio.warp.calculate_default_transform(
            UTM, DEGREES, dataset.width, dataset.height, *dataset.bounds, resolution=3e-5
        )
        moved = np.zeros((rows, cols), "u1")
        rasterio.warp.reproject(
            rasterio.band(dataset, 1), moved, dst_transform=transform, dst_crs=DEGREES
        )
    path = labels_as_tiff(folder / "d.tif", moved, DEGREES, transform)
    with pytest.warns(UserWarning, match=r"d\.tif"):
        found = open_labels(path, like=scene).labels
    np.testing.assert_array_equal(found, labels)


def test_labels_in_a_crs_that_cannot_be_reprojected(placed):
    folder, labels = placed
    local = 'LOCAL_CS["site grid",UNIT["metre",1]]'
    path = labels_as_tiff(folder / "l.tif", labels, local, from_origin(0, 0, 2, 2))
    done = command(folder, "train", "s.img", "-l", path, "-q")
    assert_refused(done, "l.tif", "labels no pixel of s.img", "the CRS of both")
    write_shapes(folder / "p.gpkg", [block(0, 0, 5, 5)], crs=None, crop=["oak"])
    with pytest.warns(UserWarning, match=r"p\.gpkg has no CRS: that of .*s\.img is assumed"):
        open_labels(folder / "p.gpkg", like=open_scene(folder / "s.img"))


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp"])
def test_polygons_outside_of_the_scene(placed, suffix):
    folder, _ = placed
    path = folder / f"p{suffix}"
    write_shapes(path, [block(500, 0, 5, 5), block(0, 900, 5, 5)], crop=["oak", "ash"])
    done = command(folder, "train", "s.img", "-l", path, "-q")
    assert_refused(done, f"p{suffix}", "s.img")
    write_shapes(path, [block(0, 0, 5, 5), block(0, 900, 5, 5)], crop=["oak", "ash"])
    with pytest.warns(UserWarning, match=r"1 of 2 shapes of .* lie outside of .*s\.img"):
        open_labels(path, like=open_scene(folder / "s.img"))


def test_classes_without_names_are_called_by_their_number(placed):
    folder, labels = placed
    np.save(folder / "l.npy", labels)
    found = open_labels(folder / "l.npy", like=open_scene(folder / "s.img"))
    assert found.class_names == ("class 1", "class 2", "class 3")
    fields = {"class_names": "{Unclassified, oak}", "file_type": "ENVI Classification"}
    write_envi(folder / "l.img", labels[..., None], **fields)
    assert open_labels(folder / "l.img").class_names == ("oak", "class 2", "class 3")
    (folder / "names.txt").write_bytes(b"\xef\xbb\xbfoak\r\nash\r\n")
    found = open_labels(folder / "l.npy", class_names=folder / "names.txt")
    assert found.class_names == ("oak", "ash", "class 3")
