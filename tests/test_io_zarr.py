import json
import pickle
import sys

import numpy as np
import pytest
from io_samples import sample_cube, sample_labels

from hsifcn.core.errors import AmbiguousInputError, LabelError, SettingError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io import open_labels, open_scene, scene_stem

zarr = pytest.importorskip("zarr")
WHOLE = Window(0, 0, 4, 5)


def write(path, cube, version=3, **options):
    return zarr.create_array(
        str(path), data=cube, chunks=(2, 3, 2)[: cube.ndim], zarr_format=version, **options
    )


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">u2", "i4", ">f4", "<f8"])
def test_voxels(tmp_path, version, dtype):
    cube = sample_cube(dtype=dtype)
    array = write(tmp_path / "x.zarr", cube, version)
    array.attrs["wavelengths"] = [0.4, 0.5, 0.6]
    scene = pickle.loads(pickle.dumps(open_scene(tmp_path / "x.zarr")))
    assert (scene.shape, scene.dtype) == ((4, 5, 3), cube.dtype.newbyteorder("="))
    np.testing.assert_allclose(scene.wavelengths, [400, 500, 600])
    np.testing.assert_array_equal(scene.read(WHOLE), cube)
    block = scene.read(Window(1, 2, 2, 3))
    assert block.flags.c_contiguous
    assert block.dtype.isnative
    np.testing.assert_array_equal(block, cube[1:3, 2:5])
    assert scene_stem(tmp_path / "x.zarr") == "x"


def test_arrays_in_groups(tmp_path):
    path = tmp_path / "x.zarr"
    group = zarr.open_group(str(path), mode="w")
    group.create_array("a/cube", data=sample_cube())
    group.create_array("gt", data=sample_labels())
    assert open_scene(path).path == f"{path}:a/cube"
    np.testing.assert_array_equal(open_scene(f"{path}:a/cube").read(WHOLE), sample_cube())
    np.testing.assert_array_equal(open_labels(path).labels, sample_labels())
    with pytest.raises(LabelError, match="has the shape"):
        open_labels(f"{path}:a/cube")
    with pytest.raises(UnreadableFileError, match="no array 'none'"):
        open_scene(f"{path}:none")
    group.create_array("b", data=sample_cube())
    with pytest.raises(AmbiguousInputError, match=f"{path}:a/cube, {path}:b"):
        open_scene(path)


@pytest.mark.parametrize("key", ["compressor", "filters"])
def test_a_codec_that_executes_code_is_refused(tmp_path, key):
    write(tmp_path / "x.zarr", sample_cube(), 2)
    file = tmp_path / "x.zarr" / ".zarray"
    metadata = json.loads(file.read_text())
    metadata[key] = {"id": "pickle"} if key == "compressor" else [{"id": "pickle"}]
    file.write_text(json.dumps(metadata))
    with pytest.raises(UnreadableFileError, match="packed with 'pickle'"):
        open_scene(tmp_path / "x.zarr")


def test_what_is_no_zarr_is_refused_in_one_line(tmp_path):
    path = tmp_path / "x.zarr"
    path.mkdir()
    with pytest.raises(UnreadableFileError, match="holds no Zarr array"):
        open_scene(path)
    (path / "zarr.json").write_text("{")
    with pytest.raises(UnreadableFileError, match="no metadata of Zarr"):
        open_scene(path)
    write(tmp_path / "y.zarr", sample_cube())
    for chunk in (tmp_path / "y.zarr" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    with pytest.raises(UnreadableFileError, match="cannot be read as Zarr") as caught:
        open_scene(tmp_path / "y.zarr").read(WHOLE)
    assert "\n" not in str(caught.value)


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    write(tmp_path / "x.zarr", sample_cube())
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(SettingError, match=r"pip install 'hsifcn\[zarr\]'"):
        open_scene(tmp_path / "x.zarr")


def test_wavelengths_beside_the_array_and_its_scale(tmp_path):
    """As xarray writes a dataset of a cube with a coordinate of its bands."""
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    cube = group.create_array("reflectance", data=sample_cube())
    cube.attrs.update({"scale_factor": 0.0001, "_FillValue": -9999})
    group.create_array("wavelength", data=np.array([0.4, 0.5, 0.6])).attrs["units"] = "um"
    scene = open_scene(tmp_path / "x.zarr")
    np.testing.assert_allclose(scene.wavelengths, [400, 500, 600])
    assert (scene.scale_factor, scene.nodata) == (pytest.approx(10000), -9999)
    cube.attrs["add_offset"] = -0.5
    shifted = open_scene(tmp_path / "x.zarr")
    assert (shifted.scale_factor, shifted.dtype) == (1, np.float32)
    np.testing.assert_allclose(shifted.read(WHOLE), sample_cube() * 0.0001 - 0.5, rtol=1e-5)
    cube.attrs["scale_factor"] = "much"
    assert open_scene(tmp_path / "x.zarr").scale_factor is None


def test_chunks_that_are_not_there_are_told(tmp_path):
    write(tmp_path / "x.zarr", sample_cube() + 1)
    (tmp_path / "x.zarr/c/1/1/0").unlink()
    with pytest.warns(UserWarning, match="1 of 8 chunks of .* are not there and are read as 0"):
        scene = open_scene(tmp_path / "x.zarr")
    expected = sample_cube() + 1
    expected[2:, 3:, :2] = 0
    np.testing.assert_array_equal(scene.read(WHOLE), expected)
