import json
import os
import pickle
import subprocess
import sys
import time
import zlib

import h5py
import numpy as np
import pytest
from io_samples import sample_cube, sample_labels, write_v73
from scipy.io import loadmat, savemat

from hsifcn.core.errors import AmbiguousInputError, HsifcnError, LabelError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.data.indian_pines import bundled_file
from hsifcn.io import cache, child, list_variables, mat, open_labels, open_scene

WHOLE = Window(0, 0, 4, 5)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("HSIFCN_CACHE", str(folder))
    return folder


@pytest.fixture
def no_child(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a child was started")

    return lambda: monkeypatch.setattr(mat, "run_child", refuse)


def write_v5(path, **variables):
    savemat(path, variables, do_compression=True)
    return path


@pytest.mark.parametrize("write", [write_v5, write_v73])
@pytest.mark.parametrize("dtype", ["u1", "f8"])
def test_voxels_agree_with_what_was_written(tmp_path, write, dtype):
    cube = sample_cube(dtype=dtype)
    scene = open_scene(write(tmp_path / "x.mat", cube=cube, name=np.array([[1.0]])))
    assert scene.path == f"{tmp_path}/x.mat:cube"
    assert (scene.shape, scene.dtype, scene.interleave) == ((4, 5, 3), np.dtype(dtype), "bip")
    np.testing.assert_array_equal(scene.read(WHOLE), cube)
    np.testing.assert_array_equal(scene.read(Window(1, 2, 3, 2)), cube[1:4, 2:4])


def test_the_bundled_scene():
    path = bundled_file("indian_pines_corrected.mat")
    scene = open_scene(path, wavelengths=bundled_file("wavelengths_nm.txt"))
    block = scene.read(Window(10, 20, 30, 40))
    np.testing.assert_array_equal(block, loadmat(path)["indian_pines_corrected"][10:40, 20:60])
    assert scene.wavelengths[0] == 400.02
    labels = open_labels(
        bundled_file("indian_pines_gt.mat"), class_names=bundled_file("class_names.txt")
    )
    assert np.count_nonzero(labels.labels) == 10249
    assert labels.class_names[13] == "Woods"


def test_a_larger_v73_cube_is_unpacked_in_blocks(tmp_path):
    cube = np.arange(90 * 100 * 1000, dtype="f8").reshape(90, 100, 1000)  # 72 MB: two blocks
    scene = open_scene(write_v73(tmp_path / "x.mat", cube=cube))
    np.testing.assert_array_equal(scene.read(Window(0, 0, 90, 100)), cube)


def test_an_hdf5_array_that_matlab_did_not_write_keeps_its_axes(tmp_path):
    with h5py.File(tmp_path / "x.mat", "w") as file:
        file["cube"] = sample_cube(dtype=">i4")
    np.testing.assert_array_equal(open_scene(tmp_path / "x.mat").read(WHOLE), sample_cube())


def test_whole_doubles_in_few_bytes_are_doubles(tmp_path):
    """MATLAB stores small whole numbers of class double as integers; SciPy shows those."""
    path = tmp_path / "x.mat"
    savemat(path, {"cube": np.arange(24, dtype="u1").reshape(2, 3, 4)})
    content = bytearray(path.read_bytes())
    # Array flags: tag (8 bytes) of the variable, tag of the flags, then the class; 9 is uint8.
    assert content[128 + 16] == 9
    content[128 + 16] = 6
    path.write_bytes(content)
    scene = open_scene(path)
    assert scene.dtype == np.float64
    np.testing.assert_array_equal(scene.read(Window(0, 0, 2, 3)), np.arange(24.0).reshape(2, 3, 4))


@pytest.mark.parametrize("write", [write_v5, write_v73])
def test_cubes_in_structs_are_found_and_can_be_named(tmp_path, write):
    path = write(tmp_path / "x.mat", data={"cube": sample_cube(), "map": sample_labels()})
    assert open_scene(path).path.endswith("x.mat:data.cube")
    np.testing.assert_array_equal(open_scene(f"{path}:data.cube").read(WHOLE), sample_cube())
    np.testing.assert_array_equal(open_labels(f"{path}:data.map").labels, sample_labels())


@pytest.mark.parametrize("write", [write_v5, write_v73])
def test_several_cubes_are_listed(tmp_path, write):
    path = write(tmp_path / "x.mat", a=sample_cube(), b=sample_cube(dtype="f4"))
    with pytest.raises(AmbiguousInputError, match=f"{path}:a, {path}:b"):
        open_scene(path)
    assert open_scene(f"{path}:b").dtype == np.float32


@pytest.mark.parametrize("write", [write_v5, write_v73])
def test_what_is_no_cube_is_refused(tmp_path, write):
    path = write(tmp_path / "x.mat", gt=sample_labels(), mask=np.ones((4, 5, 2), bool))
    with pytest.raises(UnreadableFileError, match=r"holds no cube.*gt \(4, 5\) uint8"):
        open_scene(path)
    with pytest.raises(UnreadableFileError, match=r"x\.mat:gt has 2 dimensions.*-l"):
        open_scene(f"{path}:gt")
    with pytest.raises(UnreadableFileError, match=r"no variable 'cube'; it holds gt"):
        open_scene(f"{path}:cube")
    with pytest.raises(UnreadableFileError, match="mask is bool"):
        open_scene(f"{path}:mask")


def test_complex_cubes_are_refused(tmp_path):
    path = write_v5(tmp_path / "x.mat", cube=sample_cube().astype(complex))
    with pytest.raises(UnreadableFileError, match="complex128, not real numbers"):
        open_scene(path)


@pytest.mark.parametrize("write", [write_v5, write_v73])
def test_variables_are_listed(tmp_path, write):
    path = write(tmp_path / "x.mat", cube=sample_cube(), gt=sample_labels().astype("f8"))
    assert sorted(list_variables(path)) == [("cube", (4, 5, 3), "int32"), ("gt", (4, 5), "float64")]


@pytest.mark.parametrize("write", [write_v5, write_v73])
def test_labels(tmp_path, write):
    path = write(tmp_path / "x.mat", map=sample_labels(), counts=np.ones((1, 3)), c=sample_cube())
    np.testing.assert_array_equal(open_labels(path).labels, sample_labels())
    np.testing.assert_array_equal(open_labels(f"{path}:counts").labels, [[1, 1, 1]])
    with pytest.raises(LabelError, match=r"x\.mat:c is int32 of the shape"):
        open_labels(f"{path}:c")
    several = write(tmp_path / "y.mat", a=sample_labels(), b=sample_labels())
    with pytest.raises(AmbiguousInputError, match=f"{several}:a, {several}:b"):
        open_labels(several)
    with pytest.raises(LabelError, match="no label map"):
        open_labels(write(tmp_path / "z.mat", c=sample_cube()))


def test_names_of_classes_beside_a_map(tmp_path):
    """As hsifcn writes them, with codes; and as others do, from class 1 or from no class."""
    labels = sample_labels()
    names = np.array(["Corn", "Öl", "Pea"], object)
    for extra, codes in (
        ({"class_names": names, "class_codes": np.array([1, 2, 3])}, (1, 2, 3)),
        ({"classNames": np.array(["background", *names], object)}, (1, 2, 3)),
        ({"label_names": np.array(["Corn", "Öl", "Pea"])}, (1, 2, 3)),
        ({"class_names": names, "class_codes": np.array([2, 3, 9])}, (1, 2, 3, 9)),
    ):
        write_v5(tmp_path / "m.mat", gt=labels, **extra)
        read = open_labels(tmp_path / "m.mat:gt")
        assert read.codes == codes
        expected = ("Corn", "Öl", "Pea") if len(codes) == 3 else ("class 1", *names)
        assert read.class_names == expected
    write_v5(tmp_path / "m.mat", gt=labels, class_names=np.array([1.0, 2.0], object))
    assert open_labels(tmp_path / "m.mat:gt").class_names == ("class 1", "class 2", "class 3")


def test_a_second_open_starts_no_child(tmp_path, no_child):
    path = write_v5(tmp_path / "x.mat", cube=sample_cube())
    open_scene(path).read(WHOLE)
    no_child()
    np.testing.assert_array_equal(open_scene(path).read(WHOLE), sample_cube())


def test_a_cube_is_unpacked_once(tmp_path, cache_folder):
    path = write_v5(tmp_path / "x.mat", cube=sample_cube())
    open_scene(path)
    (unpacked,) = cache_folder.glob("*.bip")
    first = unpacked.stat()
    open_scene(path).read(WHOLE)
    assert unpacked.stat().st_ino == first.st_ino


def test_a_changed_file_is_read_anew(tmp_path, cache_folder):
    path = write_v5(tmp_path / "x.mat", cube=sample_cube())
    old = open_scene(path)
    for unpacked in cache_folder.glob("*.bip"):
        unpacked.unlink()
    write_v5(path, cube=sample_cube() + 1)
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(open_scene(path).read(WHOLE), sample_cube() + 1)
    with pytest.raises(UnreadableFileError, match="changed since it was opened"):
        old.read(WHOLE)


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_read_anew(tmp_path):
    path, other = tmp_path / "x.mat", tmp_path / "y.mat"
    savemat(path, {"cube": sample_cube()}, do_compression=False)  # so that sizes are equal
    status = path.stat()
    open_scene(path).read(WHOLE)
    savemat(other, {"cube": sample_cube() + 1}, do_compression=False)
    assert other.stat().st_size == status.st_size
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    np.testing.assert_array_equal(open_scene(path).read(WHOLE), sample_cube() + 1)


def test_a_scene_can_be_pickled_and_outlives_its_cache(tmp_path, cache_folder):
    scene = open_scene(write_v5(tmp_path / "x.mat", cube=sample_cube()))
    pickled = pickle.dumps(scene)
    for _ in range(2):
        np.testing.assert_array_equal(pickle.loads(pickled).read(WHOLE), sample_cube())
        for entry in cache_folder.iterdir():
            entry.unlink()


def test_a_damaged_cache_is_made_anew(tmp_path, cache_folder):
    path = write_v5(tmp_path / "x.mat", cube=sample_cube())
    open_scene(path).read(WHOLE)
    for entry in cache_folder.iterdir():
        entry.write_bytes(b"[1")
    np.testing.assert_array_equal(open_scene(path).read(WHOLE), sample_cube())


def test_the_oldest_entries_make_room(tmp_path, cache_folder, monkeypatch):
    raw_bytes = sample_cube().nbytes
    monkeypatch.setattr(cache, "LIMIT", 2 * raw_bytes + 200)
    cache_folder.mkdir()
    (cache_folder / "mine.txt").write_bytes(b"x" * 10_000)
    scenes = []
    for name in "abc":
        scenes.append(open_scene(write_v5(tmp_path / f"{name}.mat", cube=sample_cube())))
        scenes[-1].read(WHOLE)
        time.sleep(0.01)
    kept = [os.path.exists(scene.voxels._entry()) for scene in scenes]
    assert kept == [False, True, True]
    assert (cache_folder / "mine.txt").exists()
    np.testing.assert_array_equal(scenes[0].read(WHOLE), sample_cube())


def test_without_a_cache_folder_a_temporary_one_serves(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("HSIFCN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="cannot be written"):
        scene = open_scene(write_v5(tmp_path / "x.mat", cube=sample_cube()))
    np.testing.assert_array_equal(scene.read(WHOLE), sample_cube())


def external(file, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(60))
    file.create_dataset("cube", (3, 5, 4), "u1", external=[(str(tmp_path / "secret"), 0, 60)])


def virtual(file, tmp_path):
    layout = h5py.VirtualLayout((3, 5, 4), "u1")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "cube", (3, 5, 4))
    file.create_virtual_dataset("cube", layout)


def soft_link(file, tmp_path):
    file["cube"] = h5py.SoftLink("/elsewhere")


def external_link(file, tmp_path):
    file["cube"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/cube")


def link_in_struct(file, tmp_path):
    file.create_group("data")["cube"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/cube")


@pytest.mark.parametrize("make", [external, virtual, soft_link, external_link, link_in_struct])
def test_an_hdf5_file_may_not_read_other_files(tmp_path, make):
    with h5py.File(tmp_path / "x.mat", "w") as file:
        make(file, tmp_path)
    with pytest.raises(UnreadableFileError, match=r"x\.mat.*(other files|a link)"):
        open_scene(tmp_path / "x.mat")


def test_a_small_file_may_not_fill_the_disk(tmp_path):
    with h5py.File(tmp_path / "x.mat", "w") as file:
        file.create_dataset("cube", (10**5, 10**5, 200), "f8", chunks=(100, 100, 200))
    assert os.path.getsize(tmp_path / "x.mat") < 10_000
    with pytest.raises(UnreadableFileError, match=r"would take 16000\.0 GB"):
        open_scene(tmp_path / "x.mat")


def test_a_small_file_may_not_fill_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "x.mat"
    packer = zlib.compressobj(1)
    size = 100_000 * 1000 * 4
    flags = np.array([6, 8, 9, 0], "<u4").tobytes()  # class uint8
    shape = np.array([5, 12, 100_000, 1000, 4, 0], "<i4").tobytes()
    name = np.array([1, 1, 97, 0], "<u4").tobytes()
    head = flags + shape + name + np.array([2, size], "<u4").tobytes()
    body = packer.compress(np.array([14, len(head) + size], "<u4").tobytes() + head)
    body += b"".join(packer.compress(bytes(size // 100)) for _ in range(100)) + packer.flush()
    header = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"
    path.write_bytes(header + np.array([15, len(body)], "<u4").tobytes() + body)
    assert path.stat().st_size < 4_000_000
    monkeypatch.setattr(child, "MEMORY", 200 * 2**20)
    with pytest.raises(UnreadableFileError, match="cannot be parsed"):
        open_scene(path)


@pytest.mark.parametrize(
    ("code", "seconds", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", 60, "killed by signal 11"),
        ("import sys; sys.exit('Trace\\nValueError: b\\x07d')", 60, r"\(ValueError: b\?d\)"),
        ("print('no JSON')", 60, "no reason given"),
        ("import time; time.sleep(30)", 0, "it took too long"),
    ],
)
def test_a_child_that_dies_is_one_line(tmp_path, monkeypatch, code, seconds, reason):
    original = subprocess.Popen

    def start(command, **options):
        return original([sys.executable, "-c", code], **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(child, "_idle", [])
    monkeypatch.setattr(child, "SECONDS", seconds)
    with pytest.raises(UnreadableFileError, match=rf"x\.mat cannot be parsed .*{reason}") as caught:
        list_variables(write_v5(tmp_path / "x.mat", cube=sample_cube()))
    assert "\n" not in str(caught.value)


def test_the_child_is_light_and_takes_no_module_from_the_working_folder(tmp_path):
    (tmp_path / "numpy.py").write_text("raise SystemExit('wrong numpy')")
    path = write_v5(tmp_path / "x.mat", cube=sample_cube())
    code = (
        "import sys; sys.path.remove('') if '' in sys.path else None; import json, hsifcn.io;"
        "heavy = {'torch', 'scipy', 'h5py', 'spectral', 'PIL', 'matplotlib'} & set(sys.modules);"
        f"print(json.dumps([sorted(heavy), hsifcn.io.open_scene({str(path)!r}).shape]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == [[], [4, 5, 3]]


@pytest.mark.slow
def test_mutated_files_never_raise_anything_else(tmp_path):
    generator, messages = np.random.default_rng(5), []
    for i, write in enumerate([write_v5, write_v73] * 6):
        path = write(tmp_path / f"x{i}.mat", cube=sample_cube(dtype="u2"))
        content = np.fromfile(path, dtype=np.uint8)
        places = generator.integers(100, len(content), 1 + len(content) // 40)
        content[places] = generator.integers(0, 256, len(places))
        content[: generator.integers(len(content) // 2, 2 * len(content))].tofile(path)
        try:
            scene = open_scene(path)
            scene.read(Window(0, 0, *scene.shape[:2]))
        except HsifcnError as error:
            messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)


def test_what_is_no_matlab_file_is_refused(tmp_path):
    for content in (b"", b"hello", bytes(200), b"\x89HDF\r\n\x1a\n" + bytes(100)):
        (tmp_path / "x.mat").write_bytes(content)
        with pytest.raises(UnreadableFileError, match=r"x\.mat (cannot be parsed|holds no cube)"):
            open_scene(tmp_path / "x.mat")
    with pytest.raises(UnreadableFileError, match="does not exist"):
        open_scene(tmp_path / "y.mat")
    with pytest.raises(UnreadableFileError, match="does not exist"):
        list_variables(tmp_path / "y.mat")
