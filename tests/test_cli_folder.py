"""``hsifcn info FOLDER``: what each file of a mixed folder is."""

from __future__ import annotations

import json

import numpy as np
import pyogrio
import pytest
import rasterio
import scipy.io
import shapely
from cli_helpers import assert_refused, command, small_scene
from io_samples import sample_cube, sample_labels, write_envi
from scenes import random_bundle

from hsifcn.io.folder import list_folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A folder with a file or two of each kind, good ones and bad ones."""
    folder = tmp_path_factory.mktemp("mixed")
    small_scene(folder)
    place = "{UTM, 1, 1, 500000, 4100000, 20, 20, 33, North, WGS-84}"
    write_envi(folder / "flight.img", sample_cube(), map_info=place, wavelength="{450, 550, 650}")
    write_envi(folder / "plain", sample_cube((6, 7, 2)))
    names = "{Unclassified, corn, oak, wheat}"
    labels = sample_labels()[:, :, None]
    write_envi(folder / "map.dat", labels, file_type="ENVI Classification", class_names=names)
    with rasterio.open(
        folder / "height.tif", "w", driver="GTiff", height=4, width=5, count=1, dtype="float32"
    ) as raster:
        raster.write(np.linspace(0, 1, 20, dtype="f4").reshape(1, 4, 5))
    scipy.io.savemat(folder / "both.mat", {"cube": sample_cube(), "truth": sample_labels()})
    squares = shapely.to_wkb(np.array([shapely.box(i, 0, i + 1, 1) for i in range(3)]))
    for name in ("fields.shp", "fields.gpkg"):
        pyogrio.raw.write(
            folder / name, squares, [np.array([1, 2, 2])], ["crop"], geometry_type="Polygon",
            crs="EPSG:32633",
        )  # fmt: skip
    (folder / "points.csv").write_text("row;col;class\n1;2;oak\n3;3;fir\n")
    random_bundle("fcn1s").save(folder / "model.safetensors")
    assert command(folder, "split", "cube.npy", "-o", "split.npz", "-q").code == 0
    for name in ("map.dat.aux.xml", "map.qml", "flight.img.json", ".hidden.npy", "nm.txt"):
        (folder / name).write_text("400\n410.5\n")
    for name in ("bad.mat", "empty.tif", "readme.md", "lone.hdr", "metrics.json"):
        (folder / name).write_text("")
    np.save(folder / "ratio.npy", np.full((4, 5), 0.5))
    np.savez(folder / "two.npz", a=sample_cube(), b=sample_cube())
    (folder / "run" / "checkpoint").mkdir(parents=True)
    (folder / "older").mkdir()
    return folder


def test_each_data_set_of_a_mixed_folder_once(mixed):
    done = command(mixed, "info", ".", "--json")
    assert done.code == 0
    assert done.err == "folders in . are not looked into: older\n"
    entries = {entry["file"]: entry for entry in done.json}
    assert list(entries) == sorted(entries)
    kinds = {name: entry["kind"] for name, entry in entries.items()}
    assert kinds == {
        **{"cube.npy": "scene", "flight.img": "scene", "plain": "scene", "both.mat": "scene"},
        **{"height.tif": "scene", "cube_gt.npy": "label raster", "map.dat": "label raster"},
        **{"fields.shp": "shapes", "fields.gpkg": "shapes", "points.csv": "table"},
        **{"model.safetensors": "model", "split.npz": "split", "run": "run", "nm.txt": "other"},
        **dict.fromkeys(("bad.mat", "empty.tif", "readme.md", "lone.hdr"), "unreadable"),
        **dict.fromkeys(("metrics.json", "ratio.npy", "two.npz"), "unreadable"),
    }
    one = command(mixed, "info", "flight.img", "--json").json
    assert all(entry.keys() >= one.keys() for entry in entries.values())
    assert {key: entries["flight.img"][key] for key in one} == one
    assert entries["map.dat"]["classes"] == {"corn": 5, "oak": 5, "wheat": 5}
    assert (entries["map.dat"]["shape"], entries["map.dat"]["dtype"]) == ([4, 5, 1], "uint8")
    assert entries["both.mat"]["labels"] == "both.mat:truth"
    assert "one band only" in entries["height.tif"]["warnings"][0]
    for name, words in (
        ("fields.gpkg", "3 polygons, fields crop, WGS 84 / UTM zone 33N"),
        ("points.csv", "2 rows; columns row, col, class"),
        ("model.safetensors", "fcn1s, 5 bands to 4 classes"),
        ("split.npz", "random:0.1, seed 0; 20 rows x 24 columns"),
        ("nm.txt", "list of 2 numbers"),
    ):
        assert words in entries[name]["description"]
    for name, words in (
        ("two.npz", "two.npz:a, two.npz:b"),
        ("ratio.npy", "no whole numbers"),
        ("lone.hdr", "lone.hdr"),
        ("readme.md", "no file of scenes"),
    ):
        assert words in entries[name]["error"]
        assert entries[name]["description"] is None


def test_the_text_tells_the_same(mixed):
    lines = command(mixed, "info", mixed).out.splitlines()
    at = lines.index("flight.img")
    assert lines[at + 1] == (
        "  scene: 4 rows x 5 columns x 3 bands, int32; 450 to 650 nm; WGS 84 / UTM zone 33N, "
        "pixel 20 x 20"
    )
    assert lines[lines.index("bad.mat") + 1].startswith("  cannot be read: ")
    assert "5 scenes, 2 label rasters, 2 files of shapes" in lines[-1]
    assert lines[-1].endswith("7 that cannot be read")


def test_folders_without_anything_to_tell(tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(command(tmp_path, "info", "empty"), "empty holds no file")
    (tmp_path / "empty" / "a.mat").write_text("no cube")
    done = command(tmp_path, "info", "empty", "--json")
    assert done.code == 2
    assert [entry["kind"] for entry in json.loads(done.out)] == ["unreadable"]
    assert done.err == "error: no file in empty can be read; the list says why\n"
    assert_refused(command(tmp_path, "info", "empty", "--nodata", "0"), "--nodata", "one scene")
    (tmp_path / "empty" / "config.json").write_text("{}")
    assert_refused(command(tmp_path, "info", "empty"), "empty is a run", "report.html")


def test_what_belongs_to_another_file_is_no_data_set(tmp_path):
    scene = "ENMAP01-SPECTRAL_IMAGE.TIF"
    data = ["a.img", "b.bil", "f.shp", "lone.prj", "m.tif", scene, "x.json"]
    beside = ["a.img.hdr", "b.hdr", "b.prj", "f.SHX", "f.dbf", "f.cpg", "f.shp.xml", "m.tif.ovr"]
    beside += ["m.tif.aux.xml", "m.tfw", "m.qml", "a.img.json", "ENMAP01-METADATA.XML", "b.aux.xml"]
    for name in data + beside:
        (tmp_path / name).touch()
    (tmp_path / "z.zarr").mkdir()
    found = list_folder(tmp_path)
    assert [path.name for path in found.data] == sorted([*data, "z.zarr"])
    assert found.folders == []
