"""``hsifcn info``."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
from cli_helpers import assert_refused, command, small_scene, snapshot
from io_samples import write_envi

KEYS = {
    *("path", "shape", "dtype", "interleave", "wavelengths", "bad_bands", "nodata", "grid"),
    *("labels", "classes"),
}


@pytest.fixture
def folder(tmp_path):
    small_scene(tmp_path)
    return tmp_path


def test_a_matlab_scene_with_its_labels(tmp_path):
    _, labels = small_scene(tmp_path, "cube.mat")
    done = command(tmp_path, "info", "cube.mat", "--json")
    assert (done.code, done.err) == (0, "")
    facts = done.json
    assert facts.keys() >= KEYS
    assert facts["shape"] == [20, 24, 12]
    assert (facts["dtype"], facts["labels"]) == ("float32", "cube_gt.mat")
    assert list(facts["classes"].values()) == np.bincount(labels.ravel())[1:].tolist()


def test_an_envi_scene_with_all_there_is_to_tell(folder):
    cube = np.arange(4 * 5 * 3, dtype="i2").reshape(4, 5, 3)
    write_envi(
        folder / "e.img",
        cube,
        "bil",
        wavelength="{0.45, 0.55, 0.65}",
        wavelength_units="Micrometers",
        bbl="{1, 0, 1}",
        data_ignore_value=-9999,
        map_info="{UTM, 1, 1, 500000, 4100000, 20, 20, 33, North, WGS-84}",
    )
    facts = command(folder, "info", "e.hdr", "--json").json
    assert (facts["shape"], facts["dtype"], facts["interleave"]) == ([4, 5, 3], "int16", "bil")
    assert facts["wavelengths"] == pytest.approx([450, 550, 650])
    assert (facts["bad_bands"], facts["nodata"]) == ([2], -9999)
    assert facts["grid"]["transform"] == [20, 0, 500000, 0, -20, 4100000]
    assert "UTM zone 33N" in facts["grid"]["crs"]
    text = command(folder, "info", "e.img").out
    for part in ("4 rows x 5 columns x 3 bands, int16, BIL", "450.0 to 650.0 nm", "-9999", "UTM"):
        assert part in text
    assert "none found" in text


def test_what_is_odd_is_told_once(tmp_path):
    write_envi(tmp_path / "e.img", np.ones((4, 5, 1), "u1"))
    done = command(tmp_path, "info", "e.img")
    assert done.err.count("e.img has one band only: give a label map with -l") == 1


def test_what_a_scene_tells_of_its_bands_and_place(folder):
    cube = np.random.default_rng(0).integers(1, 99, (40, 50, 3)).astype("i2")
    cube[..., 1] = 7
    write_envi(
        folder / "e.img",
        cube,
        wavelength="{450, 550, 650}",
        fwhm="{8, 9, 10}",
        bbl="{0, 1, 1}",
        reflectance_scale_factor=10000,
        map_info="{UTM, 1, 1, 500000, 4100000, 20, 10, 33, North, WGS-84}",
    )
    facts = command(folder, "info", "e.img", "--json").json
    assert facts["band_faults"] == {"marked bad": [1], "flat": [2]}
    assert (facts["fwhm"], facts["scale_factor"]) == ([8, 9, 10], 10000)
    assert facts["grid"]["crs_name"] == "WGS 84 / UTM zone 33N"
    assert facts["grid"]["pixel_size"] == pytest.approx([20, 10])
    assert facts["warnings"] == []
    text = command(folder, "info", "e.img").out
    for part in ("1 marked bad; 2 flat", "8.0 to 10.0 nm", "value / 10000", "pixel 20 x 10"):
        assert part in text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"wavelength": "{650, 550, 450}"}, "the wavelengths do not increase"),
        ({"wavelength": "{450, 450, 650}"}, "the wavelengths do not increase"),
        ({"bbl": "{0, 0, 0}"}, "no band is usable"),
        ({"map_info": "{Arbitrary, 1, 1, 0, 0, 1, 1}"}, "names no coordinate system"),
    ],
)
def test_what_is_odd_is_read_rightly_with_a_warning(folder, fields, message):
    cube = np.random.default_rng(0).integers(1, 99, (40, 50, 3)).astype("i2")
    write_envi(folder / "e.img", cube, **fields)
    done = command(folder, "info", "e.img", "--json")
    assert done.code == 0
    assert any(message in warning for warning in done.json["warnings"])
    assert message in done.err
    assert done.json["shape"] == [40, 50, 3]


def test_how_wavelengths_that_are_missing_can_be_given(folder):
    assert (
        "not given; name a file of them with --wavelengths"
        in command(folder, "info", "cube.npy").out
    )


def test_axes_in_another_order_are_suspected(tmp_path):
    np.save(tmp_path / "c.npy", np.ones((3, 5, 40), "u1"))
    assert "are the axes in order?" in command(tmp_path, "info", "c.npy").err


def test_nan_as_no_data_is_no_problem_for_json(folder):
    write_envi(folder / "e.img", np.ones((4, 5, 3), "f4"), data_ignore_value="nan")
    assert command(folder, "info", "e.img", "--json").json["nodata"] is None


def test_the_text(folder):
    text = command(folder, "info", "cube.npy").out
    for part in ("20 rows x 24 columns x 12 bands, float32", "cube_gt.npy", "class 3"):
        assert part in text


def test_names_and_wavelengths_from_files(folder):
    (folder / "names.txt").write_text("corn\n:oak:\n[b]wheat[/b]\n")
    (folder / "nm.txt").write_text("\n".join(str(400 + 10 * band) for band in range(12)))
    options = ["--class-names", "names.txt", "--wavelengths", "nm.txt"]
    facts = command(folder, "info", "cube.npy", "--json", *options).json
    assert list(facts["classes"]) == ["corn", ":oak:", "[b]wheat[/b]"]
    assert facts["wavelengths"][-1] == 510
    text = command(folder, "info", "cube.npy", *options).out
    assert ":oak: " in text  # names are no markup
    assert "[b]wheat[/b] " in text


def test_a_very_long_name_hides_no_number(folder):
    (folder / "names.txt").write_text("x" * 1000)
    text = command(folder, "info", "cube.npy", "--class-names", "names.txt").out
    first = next(line for line in text.splitlines() if line.startswith(" xxx"))
    counts = command(folder, "info", "cube.npy", "--json").json["classes"]
    assert first.split()[-1] == str(counts["class 1"])


def test_labels_in_the_file_or_nowhere_or_several(folder):
    both = np.load(folder / "cube.npy")
    labels = np.load(folder / "cube_gt.npy")
    scipy.io.savemat(folder / "both.mat", {"cube": both, "truth": labels})
    scipy.io.savemat(folder / "many.mat", {"cube": both, "a": labels, "b": labels})
    np.save(folder / "lone.npy", both)
    assert command(folder, "info", "both.mat", "--json").json["labels"] == "both.mat:truth"
    assert command(folder, "info", "lone.npy", "--json").json["labels"] is None
    many = command(folder, "info", "many.mat", "-v")
    assert many.code == 0
    assert "many.mat:a, many.mat:b" in many.err
    chosen = command(folder, "info", "many.mat", "-l", "many.mat:b", "--json").json
    assert chosen["labels"] == "many.mat:b"


def test_a_variable_may_be_named(folder):
    cube = np.load(folder / "cube.npy")
    scipy.io.savemat(folder / "two.mat", {"low": cube[:, :, :4], "high": cube[:, :, 4:]})
    assert_refused(command(folder, "info", "two.mat"), "two.mat", "low", "high")
    assert command(folder, "info", "two.mat:low", "--json").json["shape"] == [20, 24, 4]
    assert_refused(command(folder, "info", "two.mat:middle"), "middle", "low", "high")


def test_labels_of_another_size_are_left_out_with_a_warning(folder):
    np.save(folder / "small_gt.npy", np.ones((3, 3), "u1"))
    done = command(folder, "info", "cube.npy", "-l", "small_gt.npy", "--json")
    assert (done.code, done.json["classes"]) == (0, None)
    assert done.err.startswith("warning: small_gt.npy is 3x3 pixels, cube.npy is 20x24")


def test_quicklook(folder):
    again = ["info", "cube.npy", "-q", "--quicklook", "look.png"]
    assert command(folder, *again).code == 0
    picture = folder / "look.png"
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    picture.write_bytes(b"mine")
    assert_refused(command(folder, *again), "look.png", "--overwrite")
    assert picture.read_bytes() == b"mine"
    assert command(folder, *again, "--overwrite").code == 0
    assert picture.read_bytes() == content


@pytest.mark.parametrize("kind", ["all NaN", "one pixel", "constant"])
def test_a_quicklook_of_nearly_nothing(tmp_path, kind):
    cube = {
        "all NaN": np.full((4, 5, 3), np.nan, "f4"),
        "one pixel": np.ones((1, 1, 3), "u2"),
        "constant": np.zeros((4, 5, 1), "u1"),
    }[kind]
    np.save(tmp_path / "c.npy", cube)
    assert command(tmp_path, "info", "c.npy", "--quicklook", "c.png").code == 0
    assert (tmp_path / "c.png").exists()


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    small_scene(folder)
    (folder / "text.mat").write_text("no cube")
    for name in ("odd.xyz", "a.gpkg", "a.safetensors", "a.hdf", "a.pkl", "a.kmz", "a.xlsx"):
        (folder / name).write_text("no cube")
    (folder / "bad.txt").write_text("400\nred\n")
    (folder / "few.txt").write_text("400\n500\n")
    (folder / "empty.txt").write_text("\n\n")
    np.save(folder / "flat.npy", np.ones((20, 24), "u1"))
    np.save(folder / "zero.npy", np.zeros((20, 24), "u1"))
    np.save(folder / "minus.npy", np.full((20, 24), -1))
    return folder


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nosuch.mat"], ["nosuch.mat does not exist"]),
        ([".", "--nodata", "0"], [". is a folder", "--nodata"]),
        (["text.mat"], ["text.mat cannot be parsed", "save it again"]),
        (["flat.npy"], ["flat.npy has 2 dimensions", "-l"]),
        (["odd.xyz"], ["odd.xyz is of no known format", ".mat"]),
        (["a.gpkg"], ["a.gpkg holds labels, not a scene", "-l"]),
        (["a.safetensors"], ["a.safetensors is a model", "hsifcn predict"]),
        (["a.hdf"], ["a.hdf is HDF4", "gdal_translate"]),
        (["a.pkl"], ["a.pkl may run code", ".npy"]),
        (["cube.npy", "-l", "a.kmz"], ["a.kmz holds shapes of a kind", "ogr2ogr"]),
        (["cube.npy", "-l", "a.xlsx"], ["a.xlsx is a spreadsheet", ".csv"]),
        (["cube.npy", "-l", "nosuch.npy"], ["nosuch.npy does not exist"]),
        (["cube.npy", "-l", "zero.npy"], ["zero.npy labels no pixel", "counted from 1"]),
        (["cube.npy", "-l", "minus.npy"], ["minus.npy holds negative labels"]),
        (["cube.npy", "--wavelengths", "bad.txt"], ["bad.txt, line 2", "'red'"]),
        (["cube.npy", "--wavelengths", "few.txt"], ["few.txt holds 2 wavelengths", "12 bands"]),
        (["cube.npy", "--wavelengths", "nosuch.txt"], ["nosuch.txt does not exist"]),
        (["cube.npy", "--class-names", "empty.txt"], ["empty.txt holds 0 class names"]),
        (["cube.npy", "--quicklook", "nosuch/q.png"], ["nosuch/q.png", "nosuch is no folder"]),
        (["cube.npy", "--quicklook", "few.txt/q.png"], ["few.txt/q.png", "few.txt is no folder"]),
        (["cube.npy", "--quicklook", "."], [". is a folder"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input(bad_folder, arguments, parts):
    before = snapshot(bad_folder)
    assert_refused(command(bad_folder, "info", *arguments, "-q"), *parts)
    assert snapshot(bad_folder) == before


def test_what_is_told_while_the_file_is_opened_is_in_the_json(tmp_path):
    """Warnings, and apart from them what only informs."""
    cube = np.random.default_rng(0).random((12, 10, 6), np.float32)
    cube[3:6, 3:6] = -9999
    raster = write_envi(tmp_path / "a.img", cube, byte_order=None)
    with open(raster, "ab") as file:
        file.write(bytes(7))
    done = command(tmp_path, "info", "a.img", "--json")
    lines = [line.removeprefix("warning: ") for line in done.err.splitlines()]
    assert done.json["warnings"] == lines
    for words in ("7 bytes more", "no 'byte order'", "are -9999, far from all others"):
        assert sum(words in line for line in lines) == 1
    sizes = {"nRow": 4.0, "nCol": 5.0}
    scipy.io.savemat(tmp_path / "b.mat", {"Y": np.random.default_rng(0).random((9, 20)), **sizes})
    done = command(tmp_path, "info", "b.mat", "--json")
    (note,) = done.json["notes"]
    assert "Y (9, 20) is read as 4 x 5 pixels" in note
    assert note in done.err.splitlines()
    assert not any("Y (9, 20)" in warning for warning in done.json["warnings"])
    assert command(tmp_path, "info", "b.mat", "--json", "-q").err == ""
