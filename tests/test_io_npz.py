import os
import pickle

import numpy as np
import pytest
from io_samples import sample_cube, sample_labels

from hsifcn.core.errors import AmbiguousInputError, LabelError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io import find_labels, open_labels, open_scene

WHOLE = Window(0, 0, 4, 5)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HSIFCN_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">u2", ">f4", "<f8"])
def test_voxels(tmp_path, save, order, dtype):
    cube = sample_cube(dtype=dtype)
    save(tmp_path / "x.npz", cube=np.asarray(cube, order=order), gt=sample_labels(), other=[1, 2])
    scene = pickle.loads(pickle.dumps(open_scene(tmp_path / "x.npz")))
    assert scene.path.endswith("x.npz:cube")
    assert scene.read(WHOLE).dtype == scene.dtype == cube.dtype.newbyteorder("=")
    np.testing.assert_array_equal(scene.read(WHOLE), cube)
    np.testing.assert_array_equal(scene.read(Window(1, 2, 2, 3)), cube[1:3, 2:5])
    assert find_labels(tmp_path / "x.npz").endswith("x.npz:gt")
    np.testing.assert_array_equal(open_labels(tmp_path / "x.npz").labels, sample_labels())


def test_several_arrays_are_named(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=sample_cube(), b=sample_cube() + 1, m=sample_labels(), n=sample_labels())
    with pytest.raises(AmbiguousInputError, match=f"{path}:a, {path}:b"):
        open_scene(path)
    with pytest.raises(AmbiguousInputError, match=f"{path}:m, {path}:n"):
        open_labels(path)
    np.testing.assert_array_equal(open_scene(f"{path}:b").read(WHOLE), sample_cube() + 1)
    with pytest.raises(UnreadableFileError, match="no array 'c'; it holds a"):
        open_scene(f"{path}:c")
    with pytest.raises(UnreadableFileError, match="2 dimensions"):
        open_scene(f"{path}:m")
    with pytest.raises(LabelError, match="has the shape"):
        open_labels(f"{path}:a")


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", cube=np.array([[[print]]], dtype=object))
    with pytest.raises(UnreadableFileError, match="holds no cube"):
        open_scene(tmp_path / "x.npz")


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, cube=np.random.default_rng(0).random((20, 20, 20)))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    path.write_bytes(content[:middle] + b"\x00" * 50 + content[middle + 50 :])
    with pytest.raises(UnreadableFileError, match=r"is no whole \.npz"):
        open_scene(path).read(Window(0, 0, 20, 20))
    os.truncate(path, middle)
    with pytest.raises(UnreadableFileError, match=r"is no whole \.npz"):
        open_scene(path)
