import errno
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import spectral
from hypothesis import given, settings
from hypothesis import strategies as st
from io_samples import ENVI_TYPES, sample_cube, sample_labels, write_envi
from PIL import Image
from scipy.io import loadmat

from hsifcn.core.errors import ExistingOutputError, FailedError, SettingError
from hsifcn.core.scene import Grid, Window
from hsifcn.io import (
    atomic_write,
    create_raster,
    open_labels,
    open_scene,
    write_map_picture,
    writer,
)

WHOLE = Window(0, 0, 4, 5)
NAMES = ("corn, no till", "wo{o}ds", "naïve = 3")
COLOURS = ((255, 0, 0), (0, 255, 0), (1, 2, 3))
SUFFIXES = [".img", ".tif", ".npy", ".mat"]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HSIFCN_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_whole(path, array, **options):
    with create_raster(path, shape=array.shape, dtype=array.dtype, **options) as raster:
        raster.write(WHOLE, array)


@pytest.mark.parametrize("dtype", ENVI_TYPES)
def test_envi_rasters_are_read_by_spectral(tmp_path, dtype):
    cube = sample_cube(dtype=dtype)
    write_whole(tmp_path / "x.img", cube, wavelengths=[400.5, 500, 600], band_names="abc")
    image = spectral.open_image(str(tmp_path / "x.hdr"))
    np.testing.assert_array_equal(np.asarray(image.open_memmap(interleave="bip")), cube)
    assert image.dtype == np.dtype(dtype)
    assert image.bands.centers == [400.5, 500, 600]
    assert image.metadata["band names"] == ["a", "b", "c"]
    np.testing.assert_array_equal(open_scene(tmp_path / "x.img").wavelengths, [400.5, 500, 600])


def test_envi_class_maps_are_read_by_spectral(tmp_path):
    labels = sample_labels()
    write_whole(tmp_path / "x.img", labels, class_names=NAMES, colours=COLOURS, nodata=0)
    image = spectral.open_image(str(tmp_path / "x.hdr"))
    np.testing.assert_array_equal(np.asarray(image.open_memmap())[:, :, 0], labels)
    assert image.metadata["file type"] == "ENVI Classification"
    assert image.metadata["classes"] == "4"
    names = ["Unclassified", "corn-no till", "wo-o-ds", "naïve = 3"]
    assert image.metadata["class names"] == names
    assert image.metadata["class lookup"] == [
        "0",
        "0",
        "0",
        "255",
        "0",
        "0",
        "0",
        "255",
        "0",
        "1",
        "2",
        "3",
    ]
    assert image.metadata["data ignore value"] == "0"
    read = open_labels(tmp_path / "x.img")
    assert read.class_names == tuple(names[1:])
    assert read.colours == COLOURS


def test_numpy_rasters_are_read_by_numpy(tmp_path):
    for array in (sample_cube(dtype="f4"), sample_labels(), sample_labels().astype("u2")):
        write_whole(tmp_path / "x.npy", array, overwrite=True)
        loaded = np.load(tmp_path / "x.npy")
        assert loaded.dtype == array.dtype
        np.testing.assert_array_equal(loaded, array)


def test_matlab_rasters_are_read_by_scipy_and_by_us(tmp_path):
    write_whole(tmp_path / "x.mat", sample_labels(), class_names=["a", "b", "c"])
    content = loadmat(tmp_path / "x.mat")
    np.testing.assert_array_equal(content["labels"], sample_labels())
    assert [str(name[0]) for name in content["class_names"].flat] == ["a", "b", "c"]
    np.testing.assert_array_equal(open_labels(tmp_path / "x.mat").labels, sample_labels())
    write_whole(tmp_path / "y.mat", sample_cube(dtype="f4"), band_names="abc")
    np.testing.assert_array_equal(loadmat(tmp_path / "y.mat")["scores"], sample_cube())
    np.testing.assert_array_equal(open_scene(tmp_path / "y.mat").read(WHOLE), sample_cube())


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    cols=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    order=st.randoms(use_true_random=False),
    suffix=st.sampled_from([".img", ".tif", ".npy"]),
)
def test_windows_in_any_order_give_the_whole(tmp_path_factory, rows, cols, order, suffix):
    path = tmp_path_factory.getbasetemp() / f"windows{suffix}"
    cube = sample_cube((sum(rows), sum(cols), 3), "u2")
    tiles = [
        Window(sum(rows[:i]), sum(cols[:j]), rows[i], cols[j])
        for i in range(len(rows))
        for j in range(len(cols))
    ]
    order.shuffle(tiles)
    with create_raster(path, shape=cube.shape, dtype="u2", overwrite=True) as raster:
        for tile in tiles:
            raster.write(tile, cube[tile.slices])
    whole = Window(0, 0, *cube.shape[:2])
    np.testing.assert_array_equal(open_scene(path).read(whole), cube)


@pytest.mark.parametrize(
    "grid",
    [
        Grid(None, (2.5, 0, 100.25, 0, -2.5, 1e6 / 3)),
        Grid('GEOGCS["WGS 84",DATUM["WGS_1984"]]', (1e-5, 0, 9, 0, -1e-5, 48)),
        Grid('PROJCS["WGS 84 / UTM zone 33S",GEOGCS["WGS 84"]]', (20, 0, 5e5, 0, -20, 9e6)),
        Grid('PROJCS["ETRS89 / LAEA Europe"]', (20, 0, 4e6, 0, -10, 3e6)),
        Grid(None, (np.cos(0.3), np.sin(0.3), 5, 2 * np.sin(0.3), -2 * np.cos(0.3), 7)),
    ],
)
def test_the_place_is_kept(tmp_path, grid):
    write_whole(tmp_path / "x.img", sample_labels(), grid=grid)
    read = open_labels(tmp_path / "x.img").grid
    assert read.crs == grid.crs
    assert read.transform == pytest.approx(grid.transform, rel=1e-12, abs=1e-12)


def test_map_info_names_the_projection(tmp_path):
    grid = Grid('PROJCS["WGS 84 / UTM zone 33S",GEOGCS["WGS 84"]]', (20, 0, 5e5, 0, -20, 9e6))
    write_whole(tmp_path / "x.img", sample_labels(), grid=grid)
    info = spectral.open_image(str(tmp_path / "x.hdr")).metadata["map info"]
    place = ["1", "1", "500000.0", "9000000.0", "20.0", "20.0"]
    assert info == ["UTM", *place, "33", "South", "WGS-84"]


def test_a_sheared_place_is_left_out_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="sheared"):
        write_whole(tmp_path / "x.img", sample_labels(), grid=Grid(None, (1, 0.5, 0, 0, -1, 0)))
    assert open_labels(tmp_path / "x.img").grid is None


def write_until_interrupted(path, **options):
    with create_raster(path, shape=(4, 5), dtype="u1", **options) as raster:
        raster.write(WHOLE, sample_labels() + 1)
        raise KeyboardInterrupt


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_leaves_nothing(tmp_path, suffix):
    with pytest.raises(KeyboardInterrupt):
        write_until_interrupted(tmp_path / f"x{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_leaves_the_old_raster(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    write_whole(path, sample_labels())
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        write_until_interrupted(path, overwrite=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_visible_before_the_end(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    with create_raster(path, shape=(4, 5), dtype="u1") as raster:
        raster.write(WHOLE, sample_labels())
        assert [file.name[0] for file in tmp_path.iterdir()] == ["."]
    assert path.exists()
    assert not any(file.name.startswith(".") for file in tmp_path.iterdir())


def test_a_raster_with_a_hole_is_not_kept(tmp_path):
    with (
        pytest.raises(FailedError, match=r"x\.img was not written: 15 of 20 pixels came"),
        create_raster(tmp_path / "x.img", shape=(4, 5), dtype="u1") as raster,
    ):
        raster.write(Window(1, 0, 3, 5), sample_labels()[1:])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_rasters_are_refused(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    write_whole(path, sample_labels())
    with pytest.raises(ExistingOutputError, match=f"x{suffix} exists; add --overwrite"):
        create_raster(path, shape=(4, 5), dtype="u1")
    write_whole(path, sample_labels() + 1, overwrite=True)
    np.testing.assert_array_equal(open_labels(path).labels, sample_labels() + 1)


def test_no_header_of_an_old_raster_survives(tmp_path):
    write_envi(tmp_path / "x.img", sample_cube(), header=tmp_path / "x.img.hdr")
    with pytest.raises(ExistingOutputError, match=r"x\.img exists"):
        create_raster(tmp_path / "x.img", shape=(4, 5), dtype="u1")
    write_whole(tmp_path / "x.img", sample_labels(), overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.hdr", "x.img"]
    np.testing.assert_array_equal(open_labels(tmp_path / "x.img").labels, sample_labels())


def test_a_header_of_another_raster_is_never_replaced(tmp_path):
    write_envi(tmp_path / "x.dat", sample_cube())
    with pytest.raises(ExistingOutputError, match=r"x\.hdr describes .*x\.dat"):
        create_raster(tmp_path / "x.img", shape=(4, 5), dtype="u1", overwrite=True)


def test_on_overwrite_the_old_header_goes_first_and_the_new_one_comes_last(tmp_path, monkeypatch):
    write_whole(tmp_path / "x.img", sample_labels())
    raster = create_raster(tmp_path / "x.img", shape=(4, 5), dtype="u1", overwrite=True)
    events = []
    path_type = type(tmp_path)
    replace, unlink = path_type.replace, path_type.unlink
    monkeypatch.setattr(
        path_type, "replace", lambda self, to: (events.append(("to", to.name)), replace(self, to))
    )
    monkeypatch.setattr(
        path_type, "unlink", lambda self, **k: (events.append(("rm", self.name)), unlink(self, **k))
    )
    with raster:
        raster.write(WHOLE, sample_labels())
    assert events.index(("rm", "x.hdr")) < events.index(("to", "x.img"))
    assert events.index(("to", "x.img")) < events.index(("to", "x.hdr"))


class FullDisk:
    def __init__(self, file, room):
        self.file, self.room = file, room

    def seek(self, position):
        self.file.seek(position)

    def write(self, content):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = self.file.write(content[: self.room])  # a full disk first writes less than asked
        self.room -= count
        return count

    def close(self):
        self.file.close()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, suffix):
    def write(path):
        with create_raster(path, shape=(4, 5), dtype="u1") as raster:
            raster._file = FullDisk(raster._file, room=7)
            raster.write(WHOLE, sample_labels())

    with pytest.raises(FailedError, match=rf"x\{suffix} cannot be written: No space left"):
        write(tmp_path / f"x{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_at_the_end_leaves_nothing(tmp_path, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(writer, "sync", fail)
    with pytest.raises(FailedError, match=r"x\.img cannot be written: Input/output error"):
        write_whole(tmp_path / "x.img", sample_labels())
    assert list(tmp_path.iterdir()) == []


def test_impossible_rasters_are_refused(tmp_path):
    for name, shape, dtype, message in (
        ("x.gif", (4, 5), "u1", r"suffix of no raster format; use one of \.img"),
        ("x.tif", (4, 5), "f2", "cannot hold float16"),
        ("x.hdr", (4, 5), "u1", "suffix of no raster format"),
        ("x.img", (4, 5), "i1", "cannot hold int8"),
        ("x.mat", (4, 5), "f2", "cannot hold float16"),
        ("x.mat", (70_000, 70_000), "u1", "2 GiB at most"),
        ("x.npy", (4,), "u1", "cannot have the shape"),
        ("x.npy", (0, 5), "u1", "cannot have the shape"),
    ):
        with pytest.raises(SettingError, match=message):
            create_raster(tmp_path / name, shape=shape, dtype=dtype)
    with (
        pytest.raises(FailedError, match="No such file"),
        create_raster(tmp_path / "none" / "x.img", shape=(4, 5), dtype="u1"),
    ):
        pass


@pytest.mark.parametrize(
    ("window", "block", "message"),
    [
        (WHOLE, np.zeros((5, 4), "u1"), "a block of"),
        (WHOLE, np.zeros((4, 5, 2), "u1"), "a block of"),
        (WHOLE, np.full((4, 5), 256), "does not fit into uint8"),
        (WHOLE, np.full((4, 5), 0.5), "does not fit into uint8"),
        (Window(2, 0, 4, 5), np.zeros((4, 5), "u1"), "reaches out"),
    ],
)
def test_blocks_must_fit(tmp_path, window, block, message):
    with (
        pytest.raises(ValueError, match=message),
        create_raster(tmp_path / "x.img", shape=(4, 5), dtype="u1") as raster,
    ):
        raster.write(window, block)


def test_permissions_are_the_usual_ones(tmp_path):
    write_whole(tmp_path / "x.img", sample_labels())
    (tmp_path / "plain").touch()
    modes = {os.stat(file).st_mode for file in tmp_path.iterdir()}
    assert len(modes) == 1


def test_atomic_write_replaces_at_the_end(tmp_path):
    path = tmp_path / "a.json"
    with atomic_write(path) as temporary:
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    with pytest.raises(ExistingOutputError, match=r"a\.json exists"), atomic_write(path):
        raise AssertionError("must not get here")

    def replace_until_interrupted():
        with atomic_write(path, overwrite=True) as temporary:
            temporary.write_text("newer")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_until_interrupted()
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = tmp_path / "a.json"
    with atomic_write(path) as mine:
        mine.write_text("1")
        computer, process, token = mine.name.split(".")[2].split("-")
        assert int(process) == os.getpid()
        left = tmp_path / f".a.{computer}-{ended.pid}-{token}.json"
        kept = [
            tmp_path / f".a.{'0' * 8}-{ended.pid}-{token}.json",  # of another computer
            tmp_path / f".b.{computer}-{ended.pid}-{token}.json",  # of another file
            tmp_path / ".a.mine-1-2.json",
        ]
        for file in (left, left.with_name(f"{left.name}.aux.xml"), *kept):
            file.touch()
        with atomic_write(path) as second:
            second.write_text("2")
        assert mine.exists()
        assert not list(tmp_path.glob(f"{left.name}*"))
        path.unlink()
    assert sorted(tmp_path.iterdir()) == sorted([*kept, path])


def test_atomic_write_names_what_it_cannot_write(tmp_path):
    with (
        pytest.raises(FailedError, match=r"none/a cannot be written: No such file"),
        atomic_write(tmp_path / "none" / "a") as temporary,
    ):
        temporary.write_text("x")
    with pytest.raises(ExistingOutputError, match="is a folder"), atomic_write(tmp_path):
        raise AssertionError("must not get here")


def test_a_reader_never_sees_half_a_file(tmp_path):
    path, stop, seen = tmp_path / "a", threading.Event(), set()
    path.write_text("0" * 10_000)

    def read():
        while not stop.is_set():
            seen.add(len(set(path.read_text())) == 1 and len(path.read_text()) == 10_000)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(30):
        with atomic_write(path, overwrite=True) as temporary:
            temporary.write_text(str(i % 10) * 10_000)
    stop.set()
    reader.join()
    assert seen == {True}


def picture_colours(path):
    """The colours in a picture of a map, as many as it has."""
    with Image.open(path) as image:
        return {colour[:3] for _, colour in image.convert("RGB").getcolors(1 << 24)}


def test_pictures_have_the_colours_of_the_classes(tmp_path):
    names = [f"class {i}" for i in range(1, len(COLOURS) + 1)]
    write_map_picture(tmp_path / "x.png", sample_labels(), names, COLOURS)
    drawn = {tuple(COLOURS[label - 1]) for label in np.unique(sample_labels()) if label}
    assert drawn <= picture_colours(tmp_path / "x.png")
    with pytest.raises(ExistingOutputError):
        write_map_picture(tmp_path / "x.png", sample_labels(), names, COLOURS)


def test_pictures_of_many_classes(tmp_path):
    labels = np.arange(301, dtype=np.uint16).reshape(7, 43)
    colours = [(i % 256, i // 256, 7) for i in range(1, 301)]
    write_map_picture(tmp_path / "x.png", labels, [str(i) for i in range(1, 301)], colours)
    assert set(colours) <= picture_colours(tmp_path / "x.png")
