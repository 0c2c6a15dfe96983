import warnings

import numpy as np
import pytest
from io_samples import sample_cube, sample_labels, write_envi, write_v73
from scipy.io import savemat

from hsifcn.core.errors import (
    AmbiguousInputError,
    LabelError,
    MismatchError,
    SettingError,
    UnreadableFileError,
)
from hsifcn.core.scene import Window, default_colours
from hsifcn.io import (
    create_raster,
    find_labels,
    find_scenes,
    open_labels,
    open_scene,
    write_rgb_png,
)
from hsifcn.io.files import safe_inputs


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HSIFCN_CACHE", str(tmp_path_factory.mktemp("cache")))


def saved(path, array):
    if path.suffix == ".mat":
        savemat(path, {"map": array})
    elif path.suffix == ".npy":
        np.save(path, array)
    else:
        write_envi(path, array[:, :, None])
    return path


@pytest.mark.parametrize("suffix", [".mat", ".npy", ".img"])
@pytest.mark.parametrize("dtype", ["u1", "i4", "f8"])
def test_labels_come_as_small_integers(tmp_path, suffix, dtype):
    read = open_labels(saved(tmp_path / f"gt{suffix}", sample_labels(dtype=dtype)))
    assert read.labels.dtype == np.uint8
    np.testing.assert_array_equal(read.labels, sample_labels())
    assert read.class_names == ("class 1", "class 2", "class 3")
    assert read.colours == default_colours(3)
    assert read.n_classes == 3


def test_other_shapes_and_types(tmp_path):
    for array in (
        sample_labels()[:, :, None],
        np.asfortranarray(sample_labels(dtype=">i2")),
        sample_labels().astype(float),
    ):
        np.save(tmp_path / "gt.npy", array)
        np.testing.assert_array_equal(open_labels(tmp_path / "gt.npy").labels, sample_labels())
    np.save(tmp_path / "gt.npy", sample_labels() > 0)
    assert open_labels(tmp_path / "gt.npy").n_classes == 1
    np.save(tmp_path / "gt.npy", np.arange(301).reshape(7, 43) * 2.0)
    read = open_labels(tmp_path / "gt.npy")
    assert (read.labels.dtype, read.n_classes) == (np.uint16, 300)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(5), r"shape \(5,\); a label map is"),
        (np.ones((4, 5, 2)), r"shape \(4, 5, 2\)"),
        (np.full((4, 5), 1.5), "no whole numbers"),
        (np.full((4, 5), np.nan), "labels no pixel"),
        (np.full((4, 5), np.inf), "no whole numbers"),
        (sample_labels(dtype="i2") - 1, "negative labels; 0 must mean unlabelled"),
        (np.full((4, 5), -1), "negative labels"),
        (np.zeros((4, 5), "u1"), "labels no pixel"),
        (np.arange(1200).reshape(30, 40), "holds 1199 different values"),
        (np.full((4, 5), 2**63, "u8"), "labels up to 9223372036854775808"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path, array, message):
    np.save(tmp_path / "gt.npy", array)
    with pytest.raises(LabelError, match=message) as caught:
        open_labels(tmp_path / "gt.npy")
    assert "gt.npy" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fill", "dtype"),
    [("gt.npy", -9999, "i2"), ("gt.mat", -128, "f8"), ("gt.npy", -3.4028234663852886e38, "f4")],
)
def test_one_negative_fill_value_is_unlabelled(tmp_path, name, fill, dtype):
    labels = sample_labels().astype(dtype)
    labels[labels == 2] = fill
    with pytest.warns(UserWarning, match="in 5 pixels: taken as unlabelled"):
        read = open_labels(saved(tmp_path / name, labels))
    np.testing.assert_array_equal(read.coded() == 0, np.isin(sample_labels(), (0, 2)))


@pytest.mark.parametrize("text", ["-3.4028235e+38", "-3.40282e+38", "-3.4028234663852886e+38"])
def test_declared_floats_agree_to_six_digits(tmp_path, text):
    labels = sample_labels(dtype="f4")
    labels[labels == 2] = np.finfo("f4").min
    raster = write_envi(tmp_path / "gt.img", labels[:, :, None], data_ignore_value=text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_labels(raster).codes == (1, 3)


@pytest.mark.parametrize("code", [99, 254, 999, 9999, 255])
def test_a_code_that_often_means_unlabelled_is_told(tmp_path, code):
    labels = sample_labels(dtype="u2")
    labels[:2] = code
    np.save(tmp_path / "gt.npy", labels)
    with pytest.warns(UserWarning, match=f"holds {code} in 10 pixels, which is taken for a class"):
        assert open_labels(tmp_path / "gt.npy").codes == (1, 2, 3, code)


CODES = (112, 311, 3301010100)


@pytest.mark.parametrize("suffix", [".mat", ".npy", ".img"])
@pytest.mark.parametrize("dtype", ["u4", "i8", "f8"])
def test_classes_are_the_codes_that_occur(tmp_path, suffix, dtype):
    if suffix == ".img" and dtype == "i8":
        pytest.skip("written by no program")
    coded = np.array((0, *CODES))[sample_labels()].astype(dtype)
    read = open_labels(saved(tmp_path / f"gt{suffix}", coded))
    assert (read.codes, read.labels.dtype) == (CODES, np.uint8)
    assert read.class_names == ("class 112", "class 311", "class 3301010100")
    np.testing.assert_array_equal(read.labels, sample_labels())


@pytest.mark.parametrize("suffix", [".mat", ".npy", ".img"])
def test_nan_is_unlabelled(tmp_path, suffix):
    labels = sample_labels()
    blank = np.where(labels == 0, np.nan, labels)
    read = open_labels(saved(tmp_path / f"gt{suffix}", blank))
    np.testing.assert_array_equal(read.labels, labels)


@pytest.mark.parametrize(("dtype", "fill"), [("u1", 255), ("u2", 65535), ("i2", 32767)])
def test_a_code_that_looks_like_no_data_is_told(tmp_path, dtype, fill):
    labels = sample_labels(dtype=dtype)
    n = int((labels == 0).sum())
    np.save(tmp_path / "gt.npy", np.where(labels == 0, fill, labels))
    with pytest.warns(UserWarning, match=rf"gt\.npy holds {fill} in {n} pixels, which is taken"):
        assert open_labels(tmp_path / "gt.npy").codes == (1, 2, 3, fill)
    np.save(tmp_path / "gt.npy", (labels > 1).astype(dtype) * fill)  # a mask
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_labels(tmp_path / "gt.npy").codes == (fill,)


def test_names_by_code_from_a_file(tmp_path):
    coded = np.array((0, *CODES))[sample_labels()]
    names = tmp_path / "names.txt"
    names.write_text("311 = forest\n112: town, dense\n")
    read = open_labels(saved(tmp_path / "gt.npy", coded), class_names=names)
    assert read.class_names == ("town, dense", "forest", "class 3301010100")
    names.write_text("311 = forest\n311 = wood\n")
    with pytest.raises(LabelError, match="a class code twice"):
        open_labels(tmp_path / "gt.npy", class_names=names)


def test_envi_class_maps_keep_names_colours_and_place(tmp_path):
    raster = write_envi(
        tmp_path / "gt.img",
        sample_labels()[:, :, None],
        file_type="ENVI Classification",
        classes=5,
        class_names="{Unclassified,\n corn , woods,grass, town}",
        class_lookup="{0,0,0, 1,2,3, 4,5,6, 7,8,9}",
        map_info="{Arbitrary, 1, 1, 0, 0, 2, 2}",
    )
    read = open_labels(raster)
    assert read.class_names == ("corn", "woods", "grass", "town")
    assert read.colours == ((1, 2, 3), (4, 5, 6), (7, 8, 9), default_colours(4)[3])
    assert read.grid.transform == (2, 0, 0, 0, -2, 0)
    np.testing.assert_array_equal(read.labels, sample_labels())


def test_no_data_is_unlabelled(tmp_path):
    labels = sample_labels(dtype="i2")
    raster = write_envi(
        tmp_path / "gt.img",
        np.where(labels == 0, -9999, labels).astype("i2")[:, :, None],
        data_ignore_value=-9999,
    )
    np.testing.assert_array_equal(open_labels(raster).labels, labels)


def test_envi_rasters_of_several_bands_are_no_labels(tmp_path):
    with pytest.raises(LabelError, match="has 3 bands"):
        open_labels(write_envi(tmp_path / "gt.img", sample_cube()))
    raster = write_envi(tmp_path / "y.img", sample_labels()[:, :, None], class_lookup="{1, 2}")
    with pytest.raises(UnreadableFileError, match="class lookup"):
        open_labels(raster)


def test_names_from_a_file(tmp_path):
    path = saved(tmp_path / "gt.npy", sample_labels())
    names = tmp_path / "names.txt"
    names.write_bytes("\ufeffcorn\r\n\r\n Wälder \n".encode())
    assert open_labels(path, class_names=names).class_names == ("corn", "Wälder", "class 3")
    names.write_bytes("a\nb\nc\nWälder\n".encode("latin-1"))
    assert open_labels(path, class_names=names).n_classes == 4
    for text in ("# codes\n0 = none\n1 = a\n2 = b\n3 = c\n", "1 a\n2\tb\n3  c\n"):
        names.write_text(text)
        assert open_labels(path, class_names=names).class_names == ("a", "b", "c")
    names.write_text("\n")
    with pytest.raises(LabelError, match=r"names\.txt holds 0 class names"):
        open_labels(path, class_names=names)
    with pytest.raises(UnreadableFileError, match=r"none\.txt does not exist"):
        open_labels(path, class_names=tmp_path / "none.txt")


def test_missing_labels(tmp_path):
    with pytest.raises(UnreadableFileError, match=r"gt\.mat does not exist"):
        open_labels(tmp_path / "gt.mat")


@pytest.mark.parametrize(
    ("scene", "labels"),
    [
        ("x.mat", "x_gt.mat"),
        ("x.npy", "x_labels.npy"),
        ("Pines_corrected.mat", "Pines_gt.mat"),
        ("Pines_corrected.mat", "Pines_corrected_gt.mat"),
        ("PaviaU.npy", "paviau_GT.npy"),
        ("a_cube.img", "a_labels.img"),
        ("a_cube.npy", "a_gt.dat"),
    ],
)
def test_labels_are_found_beside_a_scene(tmp_path, scene, labels):
    for name in ("unrelated_gt.npy", "x_gt2.npy", "gt.npy"):
        np.save(tmp_path / name, sample_labels())
    path = tmp_path / scene
    if path.suffix == ".img":
        write_envi(path, sample_cube())
    else:
        saved(path, sample_cube())
    saved(tmp_path / labels, sample_labels())
    found = find_labels(path)
    assert found.startswith(str((tmp_path / labels).with_suffix("")))
    np.testing.assert_array_equal(open_labels(found).labels, sample_labels())


def test_labels_are_found_beside_an_envi_scene_by_its_header(tmp_path):
    write_envi(tmp_path / "x.img", sample_cube(), header=tmp_path / "x.img.hdr")
    saved(tmp_path / "x_gt.npy", sample_labels())
    assert find_labels(tmp_path / "x.img.hdr") == str(tmp_path / "x_gt.npy")


@pytest.mark.parametrize(("save", "dtype"), [(savemat, "f8"), (write_v73, "u1")])
def test_labels_in_the_scene_file_come_first(tmp_path, save, dtype):
    content = {
        "cube": sample_cube(),
        "gt": sample_labels(dtype=dtype),
        "mean": sample_cube().mean(axis=2) / 7,  # of the cube's size, but no labels
        "other": sample_labels((5, 4)),
    }
    path = tmp_path / "x.mat"
    save(path, content) if save is savemat else save(path, **content)
    saved(tmp_path / "x_gt.npy", sample_labels())
    assert find_labels(path) == f"{path}:gt"
    assert find_labels(f"{path}:cube") == f"{path}:gt"


def test_none_or_several_labels_are_told(tmp_path):
    path = saved(tmp_path / "x.npy", sample_cube())
    with pytest.raises(LabelError, match=r"no labels for .*x\.npy"):
        find_labels(path)
    saved(tmp_path / "x_gt.npy", sample_labels())
    saved(tmp_path / "x_labels.img", sample_labels())
    with pytest.raises(AmbiguousInputError, match=r"x_gt\.npy, .*x_labels\.hdr; name one with -l"):
        find_labels(path)
    savemat(tmp_path / "y.mat", {"c": sample_cube(), "a": sample_labels(), "b": sample_labels()})
    with pytest.raises(AmbiguousInputError, match=r"y\.mat:a, .*y\.mat:b"):
        find_labels(tmp_path / "y.mat")


def test_wavelengths_from_a_file(tmp_path):
    path = saved(tmp_path / "x.npy", sample_cube())
    text = tmp_path / "w.txt"
    text.write_bytes(b"\xef\xbb\xbf400.5\r\n500\r\n\r\n6.5e2\r\n")
    np.testing.assert_array_equal(open_scene(path, wavelengths=text).wavelengths, [400.5, 500, 650])
    text.write_text("0.4\n0.5\n2.5\n")
    np.testing.assert_allclose(open_scene(path, wavelengths=text).wavelengths, [400, 500, 2500])
    text.write_text("500\n400\n600\n")
    with pytest.warns(UserWarning, match="do not increase"):
        open_scene(path, wavelengths=text)
    for content, message in (
        ("400\n500\n", "holds 2 wavelengths but the scene has 3 bands"),
        ("400\nband\n500", r"line 2, is no wavelength: 'band'"),
        ("400\n-1\n500", "line 2"),
        ("400\nnan\n500", "line 2"),
    ):
        text.write_text(content)
        with pytest.raises(UnreadableFileError, match=message):
            open_scene(path, wavelengths=text)
    with pytest.raises(UnreadableFileError, match="does not exist"):
        open_scene(path, wavelengths=tmp_path / "none.txt")


def test_wavelengths_from_a_file_go_before_those_of_the_scene(tmp_path):
    raster = write_envi(tmp_path / "x.img", sample_cube(), wavelength="{1, 2, 3}", bbl="{1, 0, 1}")
    (tmp_path / "w.txt").write_text("400\n500\n600\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scene = open_scene(raster, wavelengths=tmp_path / "w.txt")
    assert scene.wavelengths.tolist() == [400, 500, 600]
    assert scene.good_bands.tolist() == [True, False, True]


def test_scenes_of_a_folder_and_of_a_pattern(tmp_path):
    for name in ("b.npy", "a.mat", "c.img"):
        path = tmp_path / name
        if path.suffix == ".img":
            write_envi(path, sample_cube())
        else:
            saved(path, sample_cube())
    saved(tmp_path / "a_gt.mat", sample_labels())
    saved(tmp_path / "b_map.npy", sample_labels())
    saved(tmp_path / "other.npy", sample_labels()[:, :, None])
    (tmp_path / "broken.tif").write_bytes(b"none")
    (tmp_path / "notes.txt").write_text("none")
    wanted = [str(tmp_path / name) for name in ("a.mat", "b.npy", "c.img")]
    assert find_scenes(tmp_path) == wanted
    assert find_scenes(str(tmp_path / "?.*[yt]")) == wanted[:2]
    assert find_scenes(str(tmp_path / "c.*")) == wanted[2:]
    assert find_scenes(wanted[1]) == wanted[1:2]
    (tmp_path / "empty").mkdir()
    for none in (tmp_path / "empty", tmp_path / "*.nc"):
        with pytest.raises(UnreadableFileError, match="holds no scene"):
            find_scenes(none)


@pytest.mark.parametrize("suffix", [".npy", ".mat", ".img"])
def test_inputs_are_not_written_over(tmp_path, suffix):
    """Within a command; a Python user may read a map and make it again."""
    path = saved(tmp_path / f"x_gt{suffix}", sample_labels())

    def write(target):
        with create_raster(target, shape=(4, 5), dtype="u1", overwrite=True) as raster:
            raster.write(Window(0, 0, 4, 5), sample_labels())

    with safe_inputs():
        open_labels(path)
        (tmp_path / "link").symlink_to(tmp_path)
        for same in (path, tmp_path / "link" / path.name):
            with pytest.raises(SettingError, match=rf"x_gt\{suffix} would be replaced"):
                write(same)
        if suffix == ".img":  # its header too
            with pytest.raises(SettingError, match=r"x_gt\.hdr would be replaced"):
                write_rgb_png(tmp_path / "x_gt.hdr", np.zeros((2, 2, 3), np.uint8), overwrite=True)
        write(tmp_path / f"other{suffix}")
        write(tmp_path / f"other{suffix}")
    write(path)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_packed_labels_of_another_size_are_not_unpacked(tmp_path, suffix, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("HSIFCN_CACHE", str(cache))
    scene = open_scene(saved(tmp_path / "x.npy", sample_cube()))
    path = tmp_path / f"gt{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, gt=np.ones((3000, 2000), np.uint8))
    else:
        savemat(path, {"gt": np.ones((3000, 2000), np.uint8)}, do_compression=True)
    with pytest.raises(MismatchError, match=rf"gt\{suffix} is 3000x2000 pixels, .*x\.npy is 4x5"):
        open_labels(path, like=scene)
    assert sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) < 10**5
