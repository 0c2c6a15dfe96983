import itertools
import pickle
import warnings

import numpy as np
import pytest
import rasterio
import spectral
from affine import Affine
from io_samples import ENVI_TYPES, envi_fields, envi_text, sample_cube, write_envi
from rasterio.crs import CRS

from hsifcn.core.errors import AmbiguousInputError, HsifcnError, SettingError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io import create_raster, open_labels, open_scene

WHOLE = Window(0, 0, 4, 5)


@pytest.mark.parametrize(
    ("interleave", "dtype", "big"),
    list(itertools.product(["bip", "bil", "bsq"], ENVI_TYPES, [False, True])),
)
def test_voxels_agree_with_what_was_written_and_with_spectral(tmp_path, interleave, dtype, big):
    cube = sample_cube(dtype=dtype)
    raster = write_envi(tmp_path / "x.img", cube, interleave, big, offset=7)
    scene = open_scene(raster)
    assert (scene.shape, scene.dtype, scene.interleave) == (cube.shape, np.dtype(dtype), interleave)
    np.testing.assert_array_equal(scene.read(WHOLE), cube)
    np.testing.assert_array_equal(scene.read(Window(1, 2, 2, 3)), cube[1:3, 2:5])
    memmap = spectral.open_image(str(tmp_path / "x.hdr")).open_memmap(interleave="bip")
    np.testing.assert_array_equal(scene.read(WHOLE), np.asarray(memmap))


def test_a_scene_can_be_pickled_and_carries_no_voxels(tmp_path):
    cube = sample_cube((40, 50, 30))
    scene = open_scene(write_envi(tmp_path / "x.img", cube))
    pickled = pickle.dumps(scene)
    assert len(pickled) < 2000
    np.testing.assert_array_equal(pickle.loads(pickled).read(Window(0, 0, 40, 50)), cube)


@pytest.mark.parametrize(
    ("raster", "header", "given"),
    [
        ("x.img", "x.hdr", "x.img"),
        ("x.img", "x.hdr", "x.hdr"),
        ("x.img", "x.img.hdr", "x.img"),
        ("x.img", "x.img.hdr", "x.img.hdr"),
        ("x.IMG", "x.HDR", "x.IMG"),
        ("x.IMG", "x.HDR", "x.HDR"),
        ("x", "x.hdr", "x"),
        ("x", "x.hdr", "x.hdr"),
        ("flight_v1.2_rfl", "flight_v1.2_rfl.hdr", "flight_v1.2_rfl"),
        ("flight_v1.2_rfl", "flight_v1.2_rfl.hdr", "flight_v1.2_rfl.hdr"),
        *((f"x.{suffix}", "x.hdr", "x.hdr") for suffix in ("dat", "bil", "bip", "bsq", "raw")),
    ],
)
def test_header_and_raster_find_each_other(tmp_path, raster, header, given):
    write_envi(tmp_path / raster, sample_cube(), header=tmp_path / header)
    np.testing.assert_array_equal(open_scene(tmp_path / given).read(WHOLE), sample_cube())


def test_a_full_header_name_goes_before_a_short_one(tmp_path):
    small, large = sample_cube((2, 5, 3)), sample_cube()
    write_envi(tmp_path / "x.dat", large)
    write_envi(tmp_path / "x.img", small, header=tmp_path / "x.img.hdr")
    assert open_scene(tmp_path / "x.img").shape == small.shape
    assert open_scene(tmp_path / "x.hdr").shape == large.shape  # x.img has a header of its own


def test_a_header_of_two_rasters_is_ambiguous(tmp_path):
    write_envi(tmp_path / "x.img", sample_cube())
    write_envi(tmp_path / "x.dat", sample_cube())
    with pytest.raises(AmbiguousInputError, match=r"x\.dat.*x\.img"):
        open_scene(tmp_path / "x.hdr")
    assert open_scene(tmp_path / "x.dat").shape == (4, 5, 3)


def test_the_header_tells_bands_and_place(tmp_path):
    raster = write_envi(
        tmp_path / "x.img",
        sample_cube(),
        wavelength="{0.4,\n 0.5 ,\n; a comment, with a comma\n 0.6}",
        wavelength_units="Micrometers",
        fwhm="{0.01, 0.01, 0.02}",
        bbl="{1, 0, 1.0}",
        data_ignore_value="-9999",
        reflectance_scale_factor="10000",
        map_info="{UTM, 2.0, 3.0, 5000.0, 8000.0, 20, 10, 16, South, WGS-84, units=Meters}",
    )
    scene = open_scene(raster)
    np.testing.assert_allclose(scene.wavelengths, [400, 500, 600])
    np.testing.assert_allclose(scene.fwhm, [10, 10, 20])
    assert scene.good_bands.tolist() == [True, False, True]
    assert scene.nodata == -9999
    assert scene.scale_factor == 10000
    assert scene.grid.transform == pytest.approx((20, 0, 4980, 0, -10, 8020))
    assert "UTM zone 16S" in scene.grid.crs


def test_the_place_may_be_rotated_and_have_a_coordinate_system(tmp_path):
    raster = write_envi(
        tmp_path / "x.img",
        sample_cube(),
        map_info="{Arbitrary, 1, 1, 100, 200, 2, 2, 0, North, rotation=90}",
        coordinate_system_string='{PROJCS["somewhere",GEOGCS["x"]]}',
    )
    grid = open_scene(raster).grid
    assert grid.transform == pytest.approx((0, 2, 100, 2, 0, 200), abs=1e-12)
    assert grid.crs == 'PROJCS["somewhere",GEOGCS["x"]]'


def test_a_bare_header_tells_nothing_more(tmp_path):
    scene = open_scene(write_envi(tmp_path / "x.img", sample_cube()))
    assert scene.wavelengths is None
    assert scene.nodata is None
    assert scene.grid is None
    assert scene.good_bands.all()


@pytest.mark.parametrize(
    ("units", "values", "expected"),
    [
        ("Nanometers", "{50, 60, 70}", [50, 60, 70]),
        ("Unknown", "{0.4, 0.5, 0.6}", [400, 500, 600]),
        (None, "{400, 500, 600}", [400, 500, 600]),
        ("Angstroms", "{4000, 5000, 6000}", [400, 500, 600]),
        ("Meters", "{4e-7, 5e-7, 6e-7}", [400, 500, 600]),
        ("Millimeters", "{0.0004, 0.0005, 0.0006}", [400, 500, 600]),
        ("Index", "{1, 2, 3}", None),
        ("Wavenumber", "{900, 800, 700}", None),
    ],
)
def test_units_of_wavelengths(tmp_path, units, values, expected):
    raster = write_envi(
        tmp_path / "x.img", sample_cube(), wavelength=values, wavelength_units=units
    )
    wavelengths = open_scene(raster).wavelengths
    if expected is None:
        assert wavelengths is None
    else:
        np.testing.assert_allclose(wavelengths, expected)


def test_headers_of_other_programs(tmp_path):
    cube = sample_cube()
    raster = write_envi(tmp_path / "x.img", cube)
    fields = envi_fields(cube) | {"samples": "5.0", "BANDS": "3.", "interleave": "BSQ"}
    del fields["bands"]
    text = envi_text(fields | {"description": "{\n  Zürich,\n ; no\n 20 °C }", "; lines": 999})
    for content in (
        text.encode("latin-1"),
        b"\xef\xbb\xbf" + text.encode(),
        text.replace("\n", "\r\n").encode(),
        text.replace("description = ", "description =\n").encode(),
        text.replace("lines = 4", "lines   =  4  ; rows").encode(),
    ):
        (tmp_path / "x.hdr").write_bytes(content)
        np.testing.assert_array_equal(open_scene(raster).read(WHOLE), cube)


REFUSED = {
    "no lines": ({"lines": None}, "has no 'lines'"),
    "no samples": ({"samples": None}, "has no 'samples'"),
    "no bands": ({"bands": None}, "has no 'bands'"),
    "no data type": ({"data_type": None}, "has no 'data type'"),
    "no interleave": ({"interleave": None}, "has no 'interleave'"),
    "unknown interleave": ({"interleave": "xyz"}, "unknown interleave 'xyz'"),
    "complex": ({"data_type": 6}, "complex data type 6"),
    "unknown type": ({"data_type": 99}, "unknown data type 99"),
    "byte order": ({"byte_order": 2}, "unknown byte order 2"),
    "compressed": ({"file_compression": 1}, "compressed"),
    "frame offsets": ({"major_frame_offsets": "{4, 0}"}, "major frame offsets"),
    "fraction": ({"lines": "4.5"}, "impossible 'lines'"),
    "nothing": ({"lines": "0"}, "impossible 'lines'"),
    "negative": ({"header_offset": "-1"}, "impossible 'header offset'"),
    "infinite": ({"bands": "1e999"}, "impossible 'bands'"),
    "word": ({"samples": "five"}, "something else than a number in 'samples'"),
    "truncated": ({"lines": 5}, "is truncated: 240 bytes where"),
    "wavelengths": ({"wavelength": "{400, 500}"}, "2 values in 'wavelength' where 3 belong"),
    "bbl": ({"bbl": "{1, 1, 1, 0}"}, "4 values in 'bbl' where 3 belong"),
    "nan": ({"wavelength": "{400, nan, 500}"}, "not finite"),
    "zero": ({"wavelength": "{0, 400, 500}"}, "not positive"),
    "brace": ({"wavelength": "{400, 500, 600"}, "does not close the brace of 'wavelength'"),
    "next list": ({"z_plot_titles": "{a, b", "fwhm": "{1, 2, 3}"}, "brace of 'z plot titles'"),
    "no pixel size": ({"map_info": "{UTM, 1, 1, 5, 5, 0, 1, 33, North}"}, "pixels of size 0"),
    "map info": ({"map_info": "{UTM, 1, 1}"}, "incomplete 'map info'"),
    "map number": ({"map_info": "{UTM, 1, 1, a, 0, 1, 1}"}, "number in 'map info'"),
    "twice": ({"LINES": 3}, "gives 'lines' twice"),
    "meta file": ({"file_type": "ENVI Meta"}, "describes other files"),
    "class map": ({"file_type": "ENVI Classification"}, "is a classified map"),
}


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_rightly_is_refused_in_one_line(tmp_path, fields, message):
    raster = write_envi(tmp_path / "x.img", sample_cube(), **fields)
    with pytest.raises(UnreadableFileError) as caught:
        open_scene(raster)
    assert message in str(caught.value)
    assert str(tmp_path / "x.") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_may_be_wrong_is_read_with_a_warning(tmp_path):
    raster = write_envi(tmp_path / "x.img", sample_cube(), byte_order=None)
    with pytest.warns(UserWarning, match="no 'byte order'"):
        assert open_scene(raster).read(WHOLE)[3, 4, 2] == 30402
    raster = write_envi(tmp_path / "x.img", sample_cube(), lines=3)
    with pytest.warns(UserWarning, match="60 bytes more"):
        assert open_scene(raster).shape == (3, 5, 3)


def test_missing_files(tmp_path):
    with pytest.raises(UnreadableFileError, match="does not exist"):
        open_scene(tmp_path / "x.img")
    (tmp_path / "x.img").write_bytes(b"")
    with pytest.raises(UnreadableFileError, match="no ENVI header beside"):
        open_scene(tmp_path / "x.img")
    (tmp_path / "y.hdr").write_text("ENVI\n")
    with pytest.raises(UnreadableFileError, match="no raster beside"):
        open_scene(tmp_path / "y.hdr")
    write_envi(tmp_path / "z.img", sample_cube()).with_suffix(".hdr").write_text("no header")
    with pytest.raises(UnreadableFileError, match="first line is not 'ENVI'"):
        open_scene(tmp_path / "z.img")
    with pytest.raises(UnreadableFileError, match="is a folder"):
        open_scene(tmp_path)
    (tmp_path / "z.doc").write_bytes(b"")
    with pytest.raises(UnreadableFileError, match="of no known format"):
        open_scene(tmp_path / "z.doc")
    with pytest.raises(SettingError, match="leave out ':band'"):
        open_scene(f"{tmp_path / 'z.img'}:band")


def test_a_colon_may_belong_to_the_name(tmp_path):
    raster = write_envi(tmp_path / "x:1.img", sample_cube())
    assert open_scene(raster).shape == (4, 5, 3)


def test_mutated_headers_never_raise_anything_else(tmp_path):
    cube = sample_cube()
    raster = write_envi(
        tmp_path / "x.img",
        cube,
        wavelength="{400, 500, 600}",
        wavelength_units="nm",
        bbl="{1, 1, 0}",
        map_info="{UTM, 1, 1, 5, 8, 20, 10, 16, North, WGS-84, rotation=3}",
        class_lookup="{0, 0, 0, 1, 2, 3}",
    )
    original = (tmp_path / "x.hdr").read_bytes()
    generator = np.random.default_rng(7)
    spare = np.frombuffer(b"0123456789.-+eE{}=,;\n \xe9\xff\x00nai", dtype=np.uint8)
    opened, messages = 0, []
    for _ in range(400):
        content = np.frombuffer(original, dtype=np.uint8).copy()
        places = generator.integers(0, len(content), generator.integers(1, 5))
        content[places] = generator.choice(spare, len(places))
        if generator.random() < 0.2:
            content = content[: generator.integers(0, len(content))]
        (tmp_path / "x.hdr").write_bytes(content.tobytes())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                scene = open_scene(raster)
                assert scene.read(Window(0, 0, *scene.shape[:2])).shape == scene.shape
            opened += 1
        except HsifcnError as error:
            messages.append(str(error))
    assert not any("\n" in message for message in messages)
    assert 0 < opened < 400


@pytest.mark.parametrize(
    "key",
    [
        "wavelength units",
        "data ignore value",
        "bbl",
        "coordinate system string",
        "sensor type",
        "x",
    ],
)
@pytest.mark.parametrize("blank", ["", "\n", " ; none"])
def test_a_blank_value_takes_no_other_line(tmp_path, key, blank):
    cube = sample_cube()
    raster = write_envi(tmp_path / "x.img", cube, big=True)
    header = raster.with_suffix(".hdr")
    order = f"{key} ={blank}\nbyte order = 1\nmap info = {{Arbitrary, 1, 1, 5, 8, 2, 2}}\n"
    header.write_text(header.read_text().replace("byte order = 1\n", order))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scene = open_scene(raster)
    np.testing.assert_array_equal(scene.read(WHOLE), cube)
    assert scene.grid.transform == (2, 0, 5, 0, -2, 8)
    assert (scene.nodata, scene.wavelengths) == (None, None)


def test_a_list_may_begin_some_lines_below(tmp_path):
    raster = write_envi(tmp_path / "x.img", sample_cube(), wavelength="\n\n {400, 500,\n 600}")
    np.testing.assert_array_equal(open_scene(raster).wavelengths, [400, 500, 600])


@pytest.mark.parametrize(
    ("units", "values", "taken"),
    [("Nanometers", "{0.4, 0.5, 0.6}", "µm"), ("Micrometers", "{400, 500, 600}", "nm")],
)
def test_units_that_cannot_be_are_told(tmp_path, units, values, taken):
    raster = write_envi(
        tmp_path / "x.img", sample_cube(), wavelength=values, wavelength_units=units
    )
    with pytest.warns(UserWarning, match=f"{units} are no wavelengths of light: taken as {taken}"):
        np.testing.assert_allclose(open_scene(raster).wavelengths, [400, 500, 600])


@pytest.mark.parametrize(
    ("names", "wavelengths"),
    [
        ("Band 1 (400.0 Nanometers), Band 2 (500.5 Nanometers), Band 3 (600 Nanometers)", True),
        ("400 nm, 500.5nm, 600 nanometres", True),
        ("a:Band 1 (0.4000 Micrometers), a:Band 2 (0.5005 um), b (0.6 µm)", True),
        ("400, 500.5, 600", True),
        ("0.4, 0.5005, 0.6", True),
        ("Band 1 (400.0), Band 2 (500.5), Band 3 (600.0)", True),
        ("395-405 nm, 495.5 - 505.5 nm, 590-610 nm", True),
        ("X4e2.Nanometers, X500.5.Nanometers, X6.0e2.Nanometers", True),
        ("1, 2, 3", False),
        ("400, 500.5, 500", False),
        ("S1 (1), S2 (2), S3 (3)", False),
        ("400 nm, 500.5 nm, red", False),
        ("Band 1, Band 2, Band 3", False),
        ("400 nm, 500.5 nm", False),
    ],
)
def test_wavelengths_in_names_of_bands(tmp_path, names, wavelengths):
    raster = write_envi(tmp_path / "x.img", sample_cube(), band_names=f"{{{names}}}")
    found = open_scene(raster).wavelengths
    if wavelengths:
        np.testing.assert_allclose(found, [400, 500.5, 600])
    else:
        assert found is None


def test_listed_wavelengths_go_before_names_of_bands(tmp_path):
    raster = write_envi(
        tmp_path / "x.img",
        sample_cube(),
        wavelength="{410, 510, 610}",
        band_names="{400 nm, 500 nm, 600 nm}",
    )
    np.testing.assert_array_equal(open_scene(raster).wavelengths, [410, 510, 610])


UTM = "UTM, 1, 1, 500000, 4400000, 1, 1, 13, North"
DEGREES = "Geographic Lat/Lon, 1, 1, -89.4, 43.3, 0.01, 0.01"


@pytest.mark.parametrize(
    ("words", "epsg"),
    [
        (f"{UTM}, WGS-84, units=Meters", 32613),
        (f"{UTM}, WGS84", 32613),
        (f"{UTM}, wgs_1984, units=Meters", 32613),
        ("UTM, 1, 1, 500000, 4400000, 1, 1, 13, South, WGS-84", 32713),
        (f"{UTM}, WGS-72", 32213),
        (f"{UTM}, North America 1983, units=Meters", 26913),
        (f"{UTM}, NAD83", 26913),
        (f"{UTM}, NAD27, units=Meters", 26713),
        ("UTM, 1, 1, 500000, 5400000, 1, 1, 32, North, European 1950", 23032),
        (f"{DEGREES}, WGS-84", 4326),
        (f"{DEGREES}, WGS84, units=Degrees", 4326),
        (f"{DEGREES}, NAD83", 4269),
        ("State Plane (NAD 83), 1, 1, 2e6, 5e5, 1, 1, 405, North America 1983", 26945),
    ],
)
def test_datums_of_map_info(tmp_path, words, epsg):
    raster = write_envi(tmp_path / "x.img", sample_cube(), map_info=f"{{{words}}}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CRS.from_wkt(open_scene(raster).grid.crs) == CRS.from_epsg(epsg)


@pytest.mark.parametrize(
    ("words", "said", "epsg"),
    [
        (UTM, "names no datum", 32613),
        (f"{UTM}, units=Meters", "names no datum", 32613),
        (DEGREES, "names no datum", 4326),
        (f"{UTM}, Atlantis 1900", "the datum 'Atlantis 1900'", 32613),
    ],
)
def test_a_datum_that_is_guessed_is_told(tmp_path, words, said, epsg):
    raster = write_envi(tmp_path / "x.img", sample_cube(), map_info=f"{{{words}}}")
    with pytest.warns(UserWarning, match=said):
        assert CRS.from_wkt(open_scene(raster).grid.crs) == CRS.from_epsg(epsg)


@pytest.mark.parametrize(
    "words", ["Arbitrary, 1, 1, 0, 0, 1, 1, 0, North", "Moon, 1, 1, 0, 0, 1, 1"]
)
def test_a_place_without_a_known_projection(tmp_path, words):
    grid = open_scene(write_envi(tmp_path / "x.img", sample_cube(), map_info=f"{{{words}}}")).grid
    assert (grid.crs, grid.transform) == (None, (1, 0, 0, 0, -1, 0))


@pytest.mark.parametrize(
    "transform",
    [
        Affine(10, 0, 5e5, 0, 10, 54e5),
        Affine(10, 0, 5e5, 0, -10, 54e5),
        Affine.translation(5e5, 54e5) * Affine.rotation(30) * Affine.scale(10, -10),
    ],
)
def test_places_agree_with_gdal_both_ways(tmp_path, transform):
    with rasterio.open(
        *(tmp_path / "a.img", "w"),
        driver="ENVI",
        width=5,
        height=4,
        count=1,
        dtype="uint8",
        crs="EPSG:32632",
        transform=transform,
    ) as dataset:
        dataset.write(np.ones((1, 4, 5), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one band
        grid = open_scene(tmp_path / "a.img").grid
    assert grid.transform == pytest.approx(tuple(transform)[:6], abs=1e-9)
    with create_raster(tmp_path / "b.img", shape=(4, 5), dtype="u1", grid=grid) as raster:
        raster.write(WHOLE, np.ones((4, 5), np.uint8))
    with rasterio.open(tmp_path / "b.img") as dataset:
        assert tuple(dataset.transform)[:6] == pytest.approx(tuple(transform)[:6], abs=1e-9)
        assert dataset.crs == CRS.from_epsg(32632)


@pytest.mark.parametrize(
    "name", ["x.bin", "x.rfl", "x.cube", "x", "x.v1.bin", "x_rfl.BIN", "x.slc"]
)
def test_rasters_of_any_suffix(tmp_path, name):
    raster = write_envi(tmp_path / name, sample_cube())
    (tmp_path / "x.txt").write_text("notes")
    for path in (raster, raster.with_suffix(".hdr")):
        np.testing.assert_array_equal(open_scene(path).read(WHOLE), sample_cube())


def test_class_names_without_that_of_unclassified_are_told(tmp_path):
    labels = np.tile(np.array([1, 2, 3], "u1"), (4, 1))[:, :, None]
    for names, told in (("{Corn, Oil, Pea}", True), ("{None, Corn, Oil, Pea}", False)):
        write_envi(tmp_path / "x.img", labels, class_names=names)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            open_labels(tmp_path / "x.img")
        assert bool(found) == told


@pytest.mark.parametrize(
    ("fields", "said", "crs"),
    [
        ({"map_info": f"{{{UTM.replace('13', '99')}, WGS-84}}"}, None, ""),
        (
            {"map_info": f"{{{UTM}, WGS-84}}", "coordinate_system_string": "{unknown}"},
            "'map info' is used instead",
            "UTM zone 13N",
        ),
        ({"geo_points": "{1, 1, 47, 8}"}, "has 'geo points' only", None),
        ({"rpc_info": "{1, 2, 3}"}, "has 'rpc info' only", None),
    ],
)
def test_places_that_are_none(tmp_path, fields, said, crs):
    raster = write_envi(tmp_path / "x.img", sample_cube(), **fields)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        grid = open_scene(raster).grid
    assert [said in str(item.message) for item in told] == ([True] if said else [])
    assert (grid is None) == (crs is None)
    assert crs in grid.crs if crs else not (grid and grid.crs)


def test_what_lies_beside_a_raster_is_not_taken_for_it(tmp_path):
    write_envi(tmp_path / "x.img", sample_cube())
    (tmp_path / "x.bin").write_bytes(bytes(1000))
    assert open_scene(tmp_path / "x.hdr").shape == (4, 5, 3)
    for name in ("x.bin", "x.txt"):
        (tmp_path / name).write_bytes(bytes(1000))
        with pytest.raises(UnreadableFileError, match="is of no known format"):
            open_scene(tmp_path / name)


def test_rasters_of_other_programs_are_named(tmp_path):
    (tmp_path / "x.img").write_bytes(b"EHFA_HEADER_TAG" + bytes(100))
    with pytest.raises(UnreadableFileError, match=r"ERDAS Imagine.*gdal_translate"):
        open_scene(tmp_path / "x.img")
    (tmp_path / "y.bil").write_bytes(bytes(100))
    (tmp_path / "y.hdr").write_text("BYTEORDER I\nLAYOUT BIL\nNROWS 10\nNCOLS 10\nNBANDS 1\n")
    with pytest.raises(UnreadableFileError, match="header of ESRI"):
        open_scene(tmp_path / "y.bil")
    library = write_envi(tmp_path / "z.sli", sample_cube(), file_type="ENVI Spectral Library")
    with pytest.raises(UnreadableFileError, match="spectral library"):
        open_scene(library)
