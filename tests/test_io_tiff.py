import itertools
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import rasterio
from io_samples import sample_cube, sample_labels
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin

from hsifcn.core.errors import LabelError, Notice, SettingError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.data.standardise import valid_pixels
from hsifcn.io import find_labels, open_labels, open_scene

WHOLE = Window(0, 0, 4, 5)
DTYPES = ["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def write_tiff(path, cube, *, bands=(), tags=(), descriptions=(), aux="", **profile):
    """Write a cube with rasterio; ``bands`` and ``tags`` are keyword sets for update_tags."""
    rows, cols, count = cube.shape
    profile = {"height": rows, "width": cols, "count": count, "dtype": cube.dtype.name} | profile
    settings = {key: profile.pop(key) for key in ("scales", "offsets") if key in profile}
    colours = profile.pop("colours", None)
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(cube.transpose(2, 0, 1))
        for i in range(count):
            for given in bands:
                file.update_tags(i + 1, **{key: str(v(i)) if callable(v) else v
                                           for key, v in given.items()})  # fmt: skip
            if descriptions:
                file.set_band_description(i + 1, descriptions[i])
        for given in tags:
            file.update_tags(**given)
        for name, values in settings.items():
            setattr(file, name, values)
        if colours:
            file.write_colormap(1, colours)
    if aux:
        (path.parent / f"{path.name}.aux.xml").write_text(
            f'<PAMDataset><PAMRasterBand band="1">{aux}</PAMRasterBand></PAMDataset>'
        )
    return path


@pytest.mark.parametrize(
    ("interleave", "dtype", "big"),
    list(itertools.product(["PIXEL", "BAND"], DTYPES, [False, True])),
)
def test_voxels_agree_with_what_rasterio_wrote(tmp_path, interleave, dtype, big):
    cube = sample_cube(dtype=dtype)
    path = write_tiff(
        tmp_path / "x.tif", cube, interleave=interleave, ENDIANNESS="BIG" if big else "LITTLE"
    )
    scene = open_scene(path)
    stored = {"PIXEL": "bip", "BAND": "bsq"}[interleave]
    assert (scene.shape, scene.dtype, scene.interleave) == (cube.shape, cube.dtype, stored)
    whole = scene.read(WHOLE)
    assert whole.flags.c_contiguous
    assert whole.dtype.isnative
    np.testing.assert_array_equal(whole, cube)
    np.testing.assert_array_equal(scene.read(Window(1, 2, 2, 3)), cube[1:3, 2:5])


@pytest.mark.parametrize("compress", ["deflate", "lzw", "zstd"])
def test_windows_of_compressed_tiles(tmp_path, monkeypatch, compress):
    monkeypatch.setattr("hsifcn.io.tiff._BUFFER_BYTES", 3000)
    cube = sample_cube((70, 50, 6), "u2")
    path = write_tiff(
        tmp_path / "x.TIFF", cube, compress=compress, predictor=2, tiled=True,
        blockxsize=16, blockysize=32, interleave="PIXEL",
    )  # fmt: skip
    scene = pickle.loads(pickle.dumps(open_scene(path)))
    for window in (Window(0, 0, 70, 50), Window(31, 15, 34, 18), Window(69, 49, 1, 1)):
        np.testing.assert_array_equal(scene.read(window), cube[window.slices])
    with pytest.raises(ValueError, match="reaches out"):
        scene.read(Window(60, 0, 11, 1))


def test_a_scene_is_placed_on_the_earth_and_scaled(tmp_path):
    path = write_tiff(
        tmp_path / "x.tif", sample_cube(dtype="i2"), crs="EPSG:32632", nodata=-9999,
        transform=from_origin(500000, 5e6, 30, 20), scales=(0.0001,) * 3,
    )  # fmt: skip
    scene = open_scene(path)
    assert scene.grid.transform == (30, 0, 500000, 0, -20, 5e6)
    assert "UTM zone 32N" in scene.grid.crs
    assert (scene.nodata, scene.scale_factor) == (-9999, pytest.approx(10000))
    rotated = write_tiff(tmp_path / "r.tif", sample_cube(), transform=Affine(0, 2, 9, 3, 0, 8))
    assert open_scene(rotated).grid.transform == (0, 2, 9, 3, 0, 8)
    assert open_scene(rotated).grid.crs is None


@pytest.mark.parametrize("offsets", [(0, 0, 0), (0.5, 0, -1)])
def test_scales_and_offsets_of_bands_are_applied(tmp_path, offsets):
    cube, scales = sample_cube(dtype="i2"), (0.001, 0.001, 0.002)
    cube[0, 0] = -9999
    path = write_tiff(tmp_path / "x.tif", cube, nodata=-9999, scales=scales, offsets=offsets)
    scene = open_scene(path)
    assert (scene.dtype, scene.scale_factor) == (np.float32, 1)
    expected = cube * np.array(scales) + offsets
    expected[0, 0] = -9999
    np.testing.assert_allclose(scene.read(WHOLE), expected, rtol=1e-5, atol=1e-6)
    nothing = write_tiff(tmp_path / "0.tif", cube, scales=(0.0,) * 3, offsets=(np.nan,) * 3)
    np.testing.assert_array_equal(open_scene(nothing).read(WHOLE), cube)


def test_a_bare_file_tells_nothing_more(tmp_path):
    scene = open_scene(write_tiff(tmp_path / "x.tif", sample_cube(dtype="f4"), nodata=np.nan))
    assert (scene.wavelengths, scene.fwhm, scene.nodata) == (None, None, None)
    assert (scene.grid, scene.scale_factor) == (None, None)
    assert scene.good_bands.all()


SPECTRA = {
    "imagery": {
        "bands": [{"ns": "IMAGERY", "CENTRAL_WAVELENGTH_UM": lambda i: 0.4 + i / 10,
                   "FWHM_UM": "0.01"}]
    },
    "plain": {
        "bands": [{"wavelength": lambda i: 400 + 100 * i, "wavelength_units": "Nanometers",
                   "fwhm": "10"}]
    },
    "micrometres": {
        "bands": [{"wavelength": lambda i: 0.4 + i / 10, "wavelength_units": "Micrometers",
                   "fwhm": "0.01"}]
    },
    "envi": {
        "tags": [{"ns": "ENVI", "wavelength": "{0.4, 0.5, 0.6}", "fwhm": "{0.01,0.01,0.01}",
                  "wavelength_units": "Micrometers"}]
    },
    "angstroms": {
        "bands": [{"CENTER_WAVELENGTH": lambda i: 4000 + 1000 * i, "wavelength_units": "Angstrom",
                   "fwhm": "100"}]
    },
    "list": {"tags": [{"wavelengths": "400, 500, 600", "fwhm": "[10, 10, 10]"}]},
}  # fmt: skip


@pytest.mark.parametrize("given", SPECTRA.values(), ids=SPECTRA)
def test_wavelengths_by_any_convention(tmp_path, given):
    scene = open_scene(write_tiff(tmp_path / "x.tif", sample_cube(), **given))
    np.testing.assert_allclose(scene.wavelengths, [400, 500, 600])
    np.testing.assert_allclose(scene.fwhm, [10, 10, 10])


@pytest.mark.parametrize(
    ("descriptions", "expected"),
    [
        (("1 (400.5 nm)", "2 (500.5 nm)", "3 (600 nm)"), [400.5, 500.5, 600]),
        (("0.4 um", "0.5 µm", "0.6 Micrometers"), [400, 500, 600]),
        (("Band 400", "Band 500", "Band 600"), None),
        (("400 nm", "mask", "600 nm"), None),
    ],
)
def test_wavelengths_in_descriptions(tmp_path, descriptions, expected):
    path = write_tiff(tmp_path / "x.tif", sample_cube(), descriptions=descriptions)
    wavelengths = open_scene(path).wavelengths
    if expected is None:
        assert wavelengths is None
    else:
        np.testing.assert_allclose(wavelengths, expected)


def test_bad_bands_are_told_by_band_or_for_the_file(tmp_path):
    path = write_tiff(tmp_path / "x.tif", sample_cube(), bands=[{"bbl": lambda i: int(i != 1)}])
    assert open_scene(path).good_bands.tolist() == [True, False, True]
    path = write_tiff(tmp_path / "y.tif", sample_cube(), tags=[{"ns": "ENVI", "bbl": "{0,1,1}"}])
    assert open_scene(path).good_bands.tolist() == [False, True, True]


@pytest.mark.parametrize("wavelengths", ["{400, 500}", "{400, 500, nan}", "{400, 500, 0}"])
def test_wavelengths_that_are_not_one_a_band_are_not_used(tmp_path, wavelengths):
    path = write_tiff(tmp_path / "x.tif", sample_cube(), tags=[{"wavelength": wavelengths}])
    with pytest.warns(UserWarning, match="not one a band"):
        assert open_scene(path).wavelengths is None


@pytest.mark.parametrize("compress", [None, "deflate"])
@pytest.mark.parametrize("keep", [0, 8, 0.5, 0.97])
def test_a_truncated_file_is_refused(tmp_path, compress, keep):
    cube = np.random.default_rng(0).integers(0, 9000, (64, 64, 5)).astype("u2")
    path = write_tiff(tmp_path / "x.tif", cube, compress=compress)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(UnreadableFileError, match=r"x\.tif") as caught:
        open_scene(path)
    assert "\n" not in str(caught.value)


def test_a_block_that_cannot_be_unpacked_is_an_error_not_zeros(tmp_path):
    cube = np.random.default_rng(0).integers(0, 9000, (64, 64, 5)).astype("u2")
    path = write_tiff(tmp_path / "x.tif", cube, compress="deflate")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 60] = b"\xff" * 60
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"x\.tif cannot be read as GeoTIFF"):
        open_scene(path).read(Window(0, 0, 64, 64))


def test_a_file_that_claims_more_than_it_can_hold_is_refused(tmp_path):
    path = tmp_path / "x.tif"
    shape = {"height": 200_000, "width": 200_000, "count": 3, "dtype": "float32"}
    with rasterio.open(path, "w", driver="GTiff", SPARSE_OK=True, BIGTIFF="YES", tiled=True,
                       blockxsize=4096, blockysize=4096, **shape):  # fmt: skip
        pass
    with pytest.raises(UnreadableFileError, match="claims 480 GB but has"):
        open_scene(path)


def test_a_virtual_raster_by_that_name_is_not_followed(tmp_path):
    write_tiff(tmp_path / "secret.tif", sample_cube())
    (tmp_path / "x.tif").write_text(
        '<VRTDataset rasterXSize="5" rasterYSize="4"><VRTRasterBand dataType="Int32" band="1">'
        "<SimpleSource><SourceFilename>secret.tif</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(UnreadableFileError, match=r"x\.tif cannot be read as GeoTIFF"):
        open_scene(tmp_path / "x.tif")


def test_what_is_no_real_number_is_refused(tmp_path):
    path = write_tiff(tmp_path / "x.tif", sample_cube().astype("c8"))
    with pytest.raises(UnreadableFileError, match="complex64"):
        open_scene(path)
    with pytest.raises(SettingError, match="leave out ':band'"):
        open_scene(f"{path}:band")


def test_labels_have_colours_and_names_and_no_nodata(tmp_path):
    labels = sample_labels()[..., None]
    labels[0, 0] = 255
    colours = {1: (10, 20, 30, 255), 2: (40, 50, 60, 255), 3: (70, 80, 90, 255)}
    names = "".join(f"<Category>{name}</Category>" for name in ("none", "maïs", "", "soya"))
    path = write_tiff(
        tmp_path / "x.tif", labels, nodata=255, crs="EPSG:32616", colours=colours,
        transform=from_origin(0, 9, 2, 2), aux=f"<CategoryNames>{names}</CategoryNames>",
    )  # fmt: skip
    found = open_labels(path)
    expected = np.where(labels[..., 0] == 255, 0, labels[..., 0])
    np.testing.assert_array_equal(found.labels, expected)
    assert found.class_names == ("maïs", "class 2", "soya")
    assert found.colours == ((10, 20, 30), (40, 50, 60), (70, 80, 90))
    assert "UTM zone 16N" in found.grid.crs


def test_classes_in_a_raster_attribute_table(tmp_path):
    fields = "".join(
        f"<FieldDefn><Name>f{usage}</Name><Usage>{usage}</Usage></FieldDefn>"
        for usage in (5, 0, 2, 6, 7, 8)
    )
    rows = "".join(
        f"<Row><F>{v}</F><F>9</F><F>{name}</F><F>{v}</F><F>2</F><F>{v + 3}</F></Row>"
        for v, name in ((0, "none"), (2, "soya"), (1, "corn"), (3, "oats"))
    )
    table = f"<GDALRasterAttributeTable>{fields}{rows}</GDALRasterAttributeTable>"
    path = write_tiff(tmp_path / "x.tif", sample_labels()[..., None], aux=table)
    found = open_labels(path)
    assert found.class_names == ("corn", "soya", "oats")
    assert found.colours == ((1, 2, 4), (2, 2, 5), (3, 2, 6))


def test_float_labels_and_faults_of_labels(tmp_path):
    labels = sample_labels(dtype="f4")[..., None]
    labels[1, 1], labels[2, 2] = np.nan, -9999
    path = write_tiff(tmp_path / "x.tif", labels, nodata=-9999)
    found = open_labels(path).labels
    assert (found[1, 1], found[2, 2]) == (0, 0)
    with pytest.raises(LabelError, match="3 bands"):
        open_labels(write_tiff(tmp_path / "y.tif", sample_cube()))
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><PAMDataset/>'
    (tmp_path / "x.tif.aux.xml").write_text(bomb)
    with pytest.raises(UnreadableFileError, match="entities"):
        open_labels(path)
    (tmp_path / "x.tif.aux.xml").write_text("no xml")
    with pytest.raises(UnreadableFileError, match=r"aux\.xml is no XML"):
        open_labels(path)


def test_labels_beside_a_scene_are_found(tmp_path):
    write_tiff(tmp_path / "x.tif", sample_cube())
    write_tiff(tmp_path / "x_gt.tif", sample_labels()[..., None])
    assert find_labels(tmp_path / "x.tif") == str(tmp_path / "x_gt.tif")


def test_gdal_is_loaded_with_the_first_geotiff_only(tmp_path):
    np.save(tmp_path / "x.npy", sample_cube())
    code = (
        "import sys, hsifcn.io as io; io.open_scene(sys.argv[1]); print('rasterio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x.npy"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.strip() == "False"


def masked_tiff(path, cube, mask, *, internal=True, nodata=None, alpha=False):
    """Write a cube whose mask tells what was measured: in the file, beside it, or as a band."""
    rows, cols, count = cube.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(
            *(path, "w"),
            driver="GTiff",
            **{"width": cols, "height": rows, "count": count + alpha, "dtype": cube.dtype.name},
            **({"nodata": nodata} if nodata is not None else {}),
            **({"alpha": "YES"} if alpha else {}),
        ) as file,
    ):
        file.write(cube.transpose(2, 0, 1), list(range(1, count + 1)))
        if alpha:
            file.colorinterp = [ColorInterp.undefined] * count + [ColorInterp.alpha]
            file.write(np.where(mask, np.iinfo(cube.dtype).max, 0).astype(cube.dtype), count + 1)
        else:
            file.write_mask(mask)
    return path


@pytest.mark.parametrize(
    ("how", "dtype"),
    [
        *itertools.product(
            [{}, {"internal": False}, {"nodata": 7}], ["u1", "i2", "u2", "u4", "f4", "f8"]
        ),
        *itertools.product([{"alpha": True}], ["u1", "u2"]),
    ],
)
def test_masked_pixels_are_not_measured(tmp_path, how, dtype):
    cube = sample_cube((6, 5, 3), dtype) + np.dtype(dtype).type(8)
    mask = np.ones((6, 5), bool)
    mask[1, 2:], mask[5, 0] = False, False
    path = masked_tiff(tmp_path / "a.tif", cube, mask, **how)
    assert (tmp_path / "a.tif.msk").exists() == (how == {"internal": False})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        scene = pickle.loads(pickle.dumps(open_scene(path)))
    assert [item.category for item in told] == [Notice] * how.get("alpha", False)
    assert all("band 4 of" in str(item.message) for item in told)
    assert scene.shape == (6, 5, 3)
    for window in (Window(0, 0, 6, 5), Window(1, 1, 5, 3)):
        block = scene.read(window)
        assert block.dtype == scene.dtype
        np.testing.assert_array_equal(valid_pixels(block, scene.nodata), mask[window.slices])
        kept = mask[window.slices]
        np.testing.assert_array_equal(block[kept], cube[window.slices][kept])


def test_no_data_values_that_differ_from_band_to_band(tmp_path):
    cube = sample_cube((6, 5, 3), "u2") + np.uint16(8)
    cube[2, 3] = 0, 65535, 0
    path = write_tiff(tmp_path / "a.tif", cube)
    with rasterio.open(path, "r+") as file:
        file.update_tags(NODATA_VALUES="0 65535 0")
    scene = open_scene(path)
    valid = valid_pixels(scene.read(Window(0, 0, 6, 5)), scene.nodata)
    assert np.argwhere(~valid).tolist() == [[2, 3]]


def test_masked_pixels_of_a_label_map_are_unlabelled(tmp_path):
    labels = sample_labels()[..., None] + np.uint8(1)
    mask = np.ones((4, 5), bool)
    mask[0] = False
    for alpha in (False, True):
        path = masked_tiff(tmp_path / f"{alpha}.tif", labels, mask, alpha=alpha)
        found = open_labels(path).labels
        np.testing.assert_array_equal(found, np.where(mask, labels[..., 0], 0))


@pytest.mark.parametrize("dtype", ["complex_int16", "complex64", "complex128"])
def test_complex_voxels_are_refused(tmp_path, dtype):
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=8, height=8, count=3, dtype=dtype
    ):
        pass
    with pytest.raises(UnreadableFileError, match=f"holds {dtype}, not integers or floats"):
        open_scene(tmp_path / "a.tif")


def points_of(transform, bend=0.0):
    return [
        GroundControlPoint(row, col, *(transform * (col + bend * row * row, row)))
        for row, col in itertools.product((0, 2, 4), (0, 3, 5))
    ]


def test_ground_control_points_on_an_even_grid_place_a_scene(tmp_path):
    transform = Affine.translation(4e5, 5e6) * Affine.rotation(20) * Affine.scale(30, -30)
    path = write_tiff(
        tmp_path / "a.tif", sample_cube(), gcps=points_of(transform), crs="EPSG:32633"
    )
    grid = open_scene(path).grid
    assert grid.transform == pytest.approx(tuple(transform)[:6], abs=1e-6)
    assert "UTM zone 33N" in grid.crs


def test_ground_control_points_on_no_even_grid_are_told(tmp_path):
    transform = Affine.translation(4e5, 5e6) * Affine.scale(30, -30)
    points = points_of(transform, bend=1.0)
    path = write_tiff(tmp_path / "a.tif", sample_cube(), gcps=points, crs="EPSG:32633")
    with pytest.warns(UserWarning, match=r"9 ground control points .* gdalwarp"):
        assert open_scene(path).grid is None


@pytest.mark.parametrize(
    "name", ["a!b.tif", "a b.tif", "ä.tif", os.fsdecode(b"\xff\xfe.tif"), "a;b'c.tif", "a%20.tif"]
)
def test_any_name_is_read(tmp_path, name):
    write_tiff(tmp_path / "plain.tif", sample_cube())
    os.replace(tmp_path / "plain.tif", tmp_path / name)
    np.testing.assert_array_equal(open_scene(tmp_path / name).read(WHOLE), sample_cube())


@pytest.mark.parametrize(
    ("units", "gain", "scale"),
    [("", 0.0001, 10000), ("1", 0.0001, 10000), ("%", 0.01, 10000), ("W/(m2 sr um)", 0.01, None)],
)
def test_only_values_without_units_are_reflectances(tmp_path, units, gain, scale):
    cube = sample_cube(dtype="u2")
    path = write_tiff(tmp_path / "a.tif", cube, scales=(gain,) * 3)
    with rasterio.open(path, "r+") as file:
        file.units = [units] * 3
    scene = open_scene(path)
    assert scene.scale_factor == scale
    factor = gain if scale is None else 1
    np.testing.assert_allclose(scene.read(WHOLE), cube * factor, rtol=1e-6)
