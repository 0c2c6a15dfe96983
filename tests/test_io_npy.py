import pickle
import warnings

import numpy as np
import pytest
from io_samples import sample_cube

from hsifcn.core.errors import HsifcnError, SettingError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io import open_labels, open_scene


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">u2", ">i4", "<f2", "<f4", ">f8", "<u8"])
@pytest.mark.parametrize("fortran", [False, True])
def test_voxels_agree_with_numpy(tmp_path, dtype, fortran):
    cube = sample_cube((6, 5, 3), dtype)
    path = tmp_path / "cube.NPY"
    with open(path, "wb") as file:
        np.save(file, np.asfortranarray(cube) if fortran else cube)
    scene = open_scene(path)
    assert scene.shape == (6, 5, 3)
    assert scene.dtype == cube.dtype.newbyteorder("=")
    assert scene.interleave == ("bsq" if fortran else "bip")
    np.testing.assert_array_equal(scene.read(Window(0, 0, 6, 5)), np.load(path))
    np.testing.assert_array_equal(scene.read(Window(1, 2, 4, 3)), cube[1:5, 2:5])


def test_a_scene_can_be_pickled(tmp_path):
    np.save(tmp_path / "cube.npy", sample_cube())
    scene = pickle.loads(pickle.dumps(open_scene(tmp_path / "cube.npy")))
    np.testing.assert_array_equal(scene.read(Window(3, 4, 1, 1)), [[[30400, 30401, 30402]]])


def test_later_header_versions_are_read(tmp_path):
    with open(tmp_path / "cube.npy", "wb") as file:
        np.lib.format.write_array(file, sample_cube(), version=(2, 0))
    assert open_scene(tmp_path / "cube.npy").shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5)), r"2 dimensions, \(4, 5\); .* give a label map with -l"),
        (np.zeros((2, 3, 4, 5)), "4 dimensions"),
        (np.zeros((4, 0, 3)), "empty array"),
        (np.zeros((4, 5, 3), complex), "complex128, not plain numbers"),
        (np.zeros((4, 5, 3), bool), "holds bool"),
        (np.zeros((4, 5, 3), "S4"), "not plain numbers"),
        (np.zeros((4, 5, 3), [("a", "u1")]), "not plain numbers"),
        (np.zeros((4, 5, 3), object), "not plain numbers"),
    ],
)
def test_what_is_no_cube_is_refused(tmp_path, array, message):
    np.save(tmp_path / "cube.npy", array, allow_pickle=True)
    with pytest.raises(UnreadableFileError, match=message):
        open_scene(tmp_path / "cube.npy")


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "cube.npy"
    np.save(path, sample_cube())
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(UnreadableFileError, match="is truncated: 367 bytes where its header asks"):
        open_scene(path)
    path.write_bytes(b"")
    with pytest.raises(UnreadableFileError, match=r"no valid \.npy header"):
        open_scene(path)
    path.write_bytes(content)
    with pytest.raises(SettingError, match="leave out"):
        open_scene(f"{path}:a")


def test_mutated_headers_never_raise_anything_else(tmp_path):
    np.save(tmp_path / "x.npy", sample_cube())
    original = np.fromfile(tmp_path / "x.npy", dtype=np.uint8)
    generator = np.random.default_rng(11)
    spare = np.frombuffer(b"0123456789,()[]{}'\" <>|=fiuObc-\n\x00\xff", dtype=np.uint8)
    opened, messages = 0, []
    for _ in range(400):
        content = original.copy()
        places = generator.integers(0, 90, generator.integers(1, 4))
        content[places] = generator.choice(spare, len(places))
        if generator.random() < 0.2:
            content = content[: generator.integers(0, len(content))]
        content.tofile(tmp_path / "x.npy")
        for function in (open_scene, open_labels):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    function(tmp_path / "x.npy")
                opened += 1
            except HsifcnError as error:
                messages.append(str(error))
    assert not any("\n" in message for message in messages)
    assert 0 < opened < 800
