import itertools
import pickle
import warnings

import numpy as np
import pytest
import spectral
from io_samples import ENVI_TYPES, envi_fields, envi_text, sample_cube, write_envi

from hsifcn.core.errors import AmbiguousInputError, HsifcnError, SettingError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io import open_scene

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
