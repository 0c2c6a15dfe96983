"""Scenes and labels in memory: NumPy, xarray with coordinates, and the notebook of the docs."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import xarray
from cli_helpers import ENVIRONMENT, ROOT
from rasterio.transform import from_origin
from scenes import field_cube, field_labels

import hsifcn
from hsifcn.core.errors import HsifcnError, UnreadableFileError
from hsifcn.core.scene import Window


def written(path, cube):
    """A GeoTIFF in UTM with wavelengths and a no-data value."""
    rows, cols, bands = cube.shape
    place = {"crs": "EPSG:32633", "transform": from_origin(4e5, 5.2e6, 30, 30)}
    size = {"height": rows, "width": cols, "count": bands, "dtype": cube.dtype}
    with rasterio.open(path, "w", driver="GTiff", nodata=7, **size, **place) as file:
        file.write(cube.transpose(2, 0, 1))
        for band in range(1, bands + 1):
            file.update_tags(band, wavelength=str(390 + 10 * band), wavelength_units="nanometers")
    return path


@pytest.fixture
def cube():
    return np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3) + 100


def test_a_numpy_cube_is_a_scene(cube):
    scene = hsifcn.open_scene(cube)
    assert scene.shape == (4, 5, 3)
    assert (scene.read(Window(1, 2, 2, 3)) == cube[1:3, 2:5]).all()
    assert scene.grid is scene.wavelengths is None
    assert (pickle.loads(pickle.dumps(scene)).read(Window(0, 0, 4, 5)) == cube).all()


def test_there_and_back_again_nothing_is_lost(tmp_path, cube):
    scene = hsifcn.open_scene(written(tmp_path / "s.tif", cube))
    array = scene.to_xarray()
    assert array.dims == ("y", "x", "band")
    assert array.dtype == np.int16
    assert array.x.values.tolist() == [400015, 400045, 400075, 400105, 400135]
    assert array.y.values.tolist() == [5199985, 5199955, 5199925, 5199895]
    assert array.wavelength.values.tolist() == [400, 410, 420]
    crs = rasterio.crs.CRS.from_wkt(array.spatial_ref.attrs["crs_wkt"])
    assert crs.to_epsg() == 32633
    back = hsifcn.open_scene(array.transpose("band", "y", "x"))
    assert (back.read(Window(0, 0, 4, 5)) == cube).all()
    assert back.grid.transform == scene.grid.transform
    assert rasterio.crs.CRS.from_wkt(back.grid.crs).to_epsg() == 32633
    assert back.nodata == 7
    assert (back.wavelengths == scene.wavelengths).all()


@pytest.mark.parametrize(
    ("dims", "axes"),
    [
        (("wavelength", "lat", "lon"), (2, 0, 1)),
        (("row", "bands", "col"), (0, 2, 1)),
        (("a", "band", "c"), (0, 2, 1)),
        (("a", "b", "c"), (0, 1, 2)),
    ],
)
def test_dimensions_are_told_by_name(cube, dims, axes):
    array = xarray.DataArray(cube.transpose(axes), dims=dims)
    assert (hsifcn.open_scene(array).read(Window(0, 0, 4, 5)) == cube).all()


def test_wavelengths_may_be_in_micrometres(cube):
    array = xarray.DataArray(
        cube,
        {"wavelength": ("wavelength", [0.4, 0.5, 0.6], {"units": "um"})},
        ("y", "x", "wavelength"),
    )
    assert hsifcn.open_scene(array).wavelengths == pytest.approx([400, 500, 600])


def test_uneven_coordinates_give_no_place(cube):
    coords = {"x": [0, 1, 2, 3, 9], "y": [3, 2, 1, 0]}
    assert hsifcn.open_scene(xarray.DataArray(cube, coords, ("y", "x", "band"))).grid is None


@pytest.mark.parametrize(
    "array",
    [np.ones((3, 3)), np.ones((0, 3, 3)), np.ones((2, 2, 2), complex), xarray.DataArray([1])],
)
def test_what_is_no_cube_is_refused(array):
    with pytest.raises(UnreadableFileError, match="no cube"):
        hsifcn.open_scene(array)


def test_train_and_predict_take_arrays(tmp_path):
    labels = field_labels(24, 30)
    cube = field_cube(labels, dtype="f4", noise=0.05)
    trained = hsifcn.train(cube, labels, split="random:0.3", steps=4)
    hsifcn.predict(
        trained.bundle, xarray.DataArray(cube, dims=("y", "x", "band")), tmp_path / "m.npy"
    )
    assert np.load(tmp_path / "m.npy").shape == labels.shape
    assert "kept step" in trained._repr_html_()


def test_as_many_labels_as_scenes_are_asked_for(cube):
    with pytest.raises(HsifcnError, match="2 scenes and 1 label maps"):
        hsifcn.train([cube, cube], np.ones((4, 5), np.uint8))


def test_names_are_escaped_in_notebooks(tmp_path, cube):
    path = tmp_path / "a<b>.npy"
    np.save(path, cube)
    shown = hsifcn.open_scene(path)._repr_html_()
    assert "a&lt;b&gt;" in shown
    assert "<b>" not in shown


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    code = "\n".join("".join(cell["source"]) for cell in cells)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env={**os.environ, **ENVIRONMENT, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("OA ")
