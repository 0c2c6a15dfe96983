"""Labels of every kind through the commands: they lie where they should, and are read again so."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from cli_helpers import assert_refused, command, hsifcn
from io_samples import write_envi
from PIL import Image
from scenes import field_cube, field_labels
from vector_samples import DEGREES, MAP_INFO, block, write_shapes

from hsifcn.core.scene import Window
from hsifcn.data.splits import read_split
from hsifcn.io import create_raster, open_labels

NAMES = ("alder", "beech", "cedar")


def fields_of(labels):
    """Each run of pixels in a row as a polygon a little inside of them, and its class."""
    shapes, numbers = [], []
    for row, line in enumerate(labels):
        edges = np.flatnonzero(np.diff(line.astype(int), prepend=-1, append=-1))
        for start, stop in itertools.pairwise(edges):
            if line[start]:
                shapes.append(shapely.buffer(block(row, start, 1, stop - start), -2))
                numbers.append(int(line[start]))
    return shapes, numbers


@pytest.fixture
def folder(tmp_path):
    """An ENVI scene in UTM, and its labels as polygons in degrees and as a table."""
    labels = field_labels()
    cube = field_cube(labels, dtype="f4", noise=0.05)
    write_envi(tmp_path / "scene.img", cube, map_info=MAP_INFO)
    shapes, numbers = fields_of(labels)
    crops = [NAMES[number - 1] for number in numbers]
    write_shapes(tmp_path / "scene_gt.gpkg", shapes, DEGREES, crop=crops, age=numbers)
    pixels = [f"{row},{col},{NAMES[labels[row, col] - 1]}" for row, col in np.argwhere(labels)]
    (tmp_path / "pixels.csv").write_text("\n".join(["row,col,class", *pixels]))
    np.save(tmp_path / "truth.npy", labels)
    return tmp_path


def test_train_and_predict_with_polygons(folder, small_models):
    field = ["--label-field", "crop"]
    done = command(folder, "train", "scene.img", *field, "--steps", "10", "-o", "run", "--json")
    assert done.code == 0, done.err
    told = "field 'crop': classes are numbered in order of their names: 1 alder, 2 beech, 3 cedar"
    assert done.err.count("warning:") == 1
    assert told in done.err
    assert done.json["class_names"] == list(NAMES)
    truth = np.load(folder / "truth.npy")
    np.testing.assert_array_equal(read_split(folder / "run/split.npz").labels, truth)
    config = json.loads((folder / "run/config.json").read_text())
    assert (config["label_field"], config["all_touched"]) == ("crop", False)
    assert config["labels"] == [str(folder / "scene_gt.gpkg")]
    assert command(folder, "predict", "run", "scene.img", "-o", "map.img").code == 0
    found = open_labels(folder / "map.img")
    assert (found.class_names, found.grid.transform[2]) == (NAMES, 500000)
    split = ["--split", "run/split.npz"]
    again = command(folder, "evaluate", "map.img", "scene_gt.gpkg", *split, *field, "--json")
    assert (again.code, again.err) == (0, "")
    assert again.json["oa"] == done.json["oa"]


def test_all_kinds_give_one_split(folder):
    def digest(*options):
        done = command(folder, "split", "scene.img", "-o", "s.npz", "--overwrite", *options)
        assert done.code == 0, done.err
        return read_split(folder / "s.npz").digest

    wanted = digest("-l", "truth.npy")
    assert digest("--label-field", "crop", "-s", "random:0.1") == wanted
    assert digest("-l", "pixels.csv") == wanted


def test_a_fixed_split_of_polygons(folder):
    truth = np.load(folder / "truth.npy")
    left = np.indices(truth.shape)[1] < 12
    for name, labels in (("train", np.where(left, truth, 0)), ("test", np.where(left, 0, truth))):
        kept = np.where(labels == 2, 0, labels) if name == "test" else labels
        shapes, numbers = fields_of(kept)
        crops = [NAMES[number - 1] for number in numbers]
        write_shapes(folder / f"{name}.geojson", shapes, DEGREES, crop=crops)
    options = ["-s", "fixed:train.geojson,test.geojson", "-l", "pixels.csv", "-o", "s.npz"]
    done = command(folder, "split", "scene.img", *options)
    assert done.code == 0, done.err
    split = read_split(folder / "s.npz")
    assert set(np.unique(split.labels[split.test])) == {1, 3}  # numbered as the labels are
    assert (split.labels == truth)[split.train | split.test].all()


def test_info_counts_classes(folder):
    done = command(folder, "info", "scene.img", "--label-field", "crop", "--json")
    truth = np.bincount(np.load(folder / "truth.npy").ravel())[1:]
    assert done.json["classes"] == dict(zip(NAMES, truth.tolist(), strict=True))
    touched = command(folder, "info", "scene.img", "--label-field", "crop", "--all-touched", "-v")
    assert touched.code == 0


def test_a_map_and_labels_of_another_extent(folder):
    truth = np.load(folder / "truth.npy")
    write_envi(folder / "map.img", truth[:, :, None], map_info=MAP_INFO)
    moved = MAP_INFO.replace("500000.0", "500060.0")
    write_envi(folder / "part.img", truth[:, 3:, None], map_info=moved)
    done = command(folder, "evaluate", "map.img", "part.img", "-q", "--json")
    assert (done.code, done.json["oa"]) == (0, 1)
    assert np.sum(done.json["confusion"]) == np.count_nonzero(truth[:, 3:])


def test_classes_that_are_called_otherwise_are_told(folder):
    truth = np.load(folder / "truth.npy")[:, :, None]
    names = {"file_type": "ENVI Classification", "classes": 4}
    write_envi(folder / "map.img", truth, class_names="{none, oak, fir, yew}", **names)
    write_envi(folder / "gt.img", truth, class_names="{none, oak, pine, yew}", **names)
    done = command(folder, "evaluate", "map.img", "gt.img")
    assert "warning: class 2 is 'pine' in gt.img and 'fir' in map.img: taken for one" in done.err
    write_envi(folder / "moved.img", truth, class_names="{none, oak, yew, fir}", **names)
    done = command(folder, "evaluate", "map.img", "moved.img", "--json")
    assert "class 'fir' is 3 in moved.img and 2 in map.img: taken for one class" in done.err
    assert done.json["per_class"]["oak"]["recall"] == 1
    assert done.json["per_class"]["fir"]["recall"] == 0
    (folder / "names.txt").write_text("oak\nyew\nfir\n")
    for labels in ("gt.img", "moved.img"):
        done = command(folder, "evaluate", "map.img", labels, "--class-names", "names.txt")
        assert done.code == 0
        assert "class 2" not in done.err


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["-l", "scene_gt.gpkg:fields"], ["scene_gt.gpkg has no layer 'fields'", "scene_gt"]),
        (["--label-field", "kind"], ["has no field 'kind'", "crop, age"]),
        (["-l", "far.gpkg"], ["far.gpkg labels no pixel of scene.img", "the scene x 500000"]),
        (["-l", "scene_gt.gpkg", "--class-names", "names.txt"], ["a class 'cedar'", "1 alder"]),
        (["-l", "wrong.csv"], ["wrong.csv, line 2 has row 99 where the scene has 20"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_labels(folder, options, parts):
    write_shapes(folder / "far.gpkg", [block(900, 900, 3, 3)], DEGREES, crop=[1])
    (folder / "names.txt").write_text("alder\nbeech\n")
    (folder / "wrong.csv").write_text("row,col,class\n99,0,1\n")
    if "--label-field" not in options and "-l" in options:
        options = [*options, "--label-field", "crop"] if "wrong.csv" not in options else options
    assert_refused(command(folder, "split", "scene.img", *options, "-o", "s.npz", "-q"), *parts)
    assert not (folder / "s.npz").exists()


@pytest.mark.parametrize("labels", ["labels.tif", "fields.geojson"])
def test_a_crs_that_is_none_is_refused_in_one_line(folder, labels):
    """GDAL would write a line of its own."""
    cube = field_cube(field_labels(), dtype="f4")
    crs = {"coordinate_system_string": "{PROJCS[garbage}"}
    write_envi(folder / "odd.img", cube, map_info=MAP_INFO, **crs)
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(4e5, 5e6, 30, 30)}
    size = {"height": 20, "width": 24, "count": 1, "dtype": "uint8"}
    with rasterio.open(folder / "labels.tif", "w", driver="GTiff", **size, **place) as file:
        file.write(field_labels()[None])
    write_shapes(folder / "fields.geojson", [block(0, 0, 5, 5)], crs=DEGREES, **{"class": [1]})
    done = hsifcn(folder, "train", "odd.img", "-l", labels)
    assert_refused(done, labels, "'PROJCS[garbage'", "give both in one CRS")


CODES = np.array([0, 112, 311, 3301010100])


@pytest.mark.parametrize("suffix", ["img", "tif", "npy", "mat"])
def test_codes_go_through_to_the_map(folder, small_models, suffix):
    truth = np.load(folder / "truth.npy")
    np.save(folder / "coded.npy", CODES[truth])
    (folder / "names.txt").write_text("311 = wood\n112 = town\n3301010100 = wheat\n")
    labels = ["-l", "coded.npy", "--class-names", "names.txt"]
    done = command(folder, "train", "scene.img", *labels, "--steps", "9", "-o", "run", "--json")
    assert done.code == 0, done.err
    assert done.json["class_codes"] == CODES[1:].tolist()
    assert done.json["class_names"] == ["town", "wood", "wheat"]
    extra = ["--polygons", "areas.gpkg"] if suffix == "img" else []
    assert command(folder, "predict", "run", "-o", f"map.{suffix}", *extra).code == 0
    read = open_labels(folder / f"map.{suffix}")
    assert set(read.codes) <= set(CODES[1:].tolist())
    if suffix in ("img", "tif"):
        assert read.class_names == ("town", "wood", "wheat")
    if suffix == "tif":
        with rasterio.open(folder / "map.tif") as file:
            np.testing.assert_array_equal(file.read(1), read.coded())
    if extra:
        _, _, _, (codes, names) = pyogrio.raw.read(
            folder / "areas.gpkg", columns=["class", "name"], read_geometry=False
        )
        assert (
            dict(zip(codes, names, strict=True)).items()
            <= dict(zip(CODES[1:], ["town", "wood", "wheat"], strict=True)).items()
        )
    split = ["--split", "run/split.npz"]
    again = command(folder, "evaluate", f"map.{suffix}", "coded.npy", *split, "-q", "--json")
    assert again.code == 0, again.err
    assert again.json["oa"] == done.json["oa"]


@pytest.mark.parametrize("codes", [(1, 2, 4), (7, 8, 250), (1, 2, 999)])
def test_codes_with_gaps_keep_names_and_colours(tmp_path, codes):
    table = np.array([0, *codes], np.uint16)
    labels = table[field_labels()]
    for suffix in ("img", "tif"):
        path = tmp_path / f"map.{suffix}"
        with create_raster(
            path, shape=labels.shape, dtype="u2", class_names=NAMES, class_codes=codes,
            colours=[(1, 2, 3), (4, 5, 6), (7, 8, 9)],
        ) as raster:  # fmt: skip
            raster.write(Window(0, 0, *labels.shape), labels)
        read = open_labels(path)
        assert (read.codes, read.class_names) == (codes, NAMES)
        assert read.colours == ((1, 2, 3), (4, 5, 6), (7, 8, 9))
        np.testing.assert_array_equal(read.coded(), labels)
    with create_raster(
        tmp_path / "map.png", shape=labels.shape, dtype="u2", class_names=NAMES, class_codes=codes,
        colours=[(1, 2, 3), (4, 5, 6), (7, 8, 9)],
    ) as raster:  # fmt: skip
        raster.write(Window(0, 0, *labels.shape), labels)
    picture = np.asarray(Image.open(tmp_path / "map.png"))[: 20 * 25 : 25, : 24 * 25 : 25]
    row, col = np.argwhere(labels == codes[2])[0]
    assert picture[row, col].tolist() == [7, 8, 9, 255]


def test_training_on_all_labels_claims_no_accuracy(folder, small_models):
    options = ["-l", "truth.npy", "-s", "all", "--steps", "4", "-o", "run"]
    done = command(folder, "train", "scene.img", *options)
    assert done.code == 0, done.err
    assert "every labelled pixel trains and none tests" in done.out
    metrics = json.loads((folder / "run/metrics.json").read_text())
    assert metrics["oa"] is metrics["aa"] is metrics["split"]["leakage"]["test_touching"] is None
    assert metrics["split"]["n_test"] == 0


@pytest.mark.slow
def test_one_vector_file_serves_a_folder_of_scenes(folder, small_models):
    """The second scene lies east of the first; a third has no labels."""
    scenes = folder / "scenes"
    scenes.mkdir()
    truth = np.load(folder / "truth.npy")
    cube = field_cube(truth, dtype="f4", noise=0.05)
    for i, name in enumerate("abc"):
        place = MAP_INFO.replace("500000.0", str(500000.0 + 20 * 24 * i))
        write_envi(scenes / f"{name}.img", cube, map_info=place)
    shapes, numbers = fields_of(np.hstack([truth, truth]))
    write_shapes(folder / "all.gpkg", shapes, DEGREES, crop=[NAMES[n - 1] for n in numbers])
    options = ["-l", "all.gpkg", "--steps", "4", "-o", "run", "--json"]
    done = command(folder, "train", "scenes", *options)
    assert done.code == 0, done.err
    assert done.err.count("numbered in order") == 1
    assert "c.img" in done.err
    assert "trains and tests nothing" in done.err
    assert done.json["split"]["recipe"] == "features:0.3"
    n_labelled = sum(done.json["split"][key] for key in ("n_train", "n_validation", "n_test"))
    assert n_labelled == 2 * np.count_nonzero(truth)
    split = command(folder, "train", "scenes/[ab].img", *options[:-2], "run2", "-s", "scenes:0.5")
    assert split.code == 0, split.err
    assert "0.0 % of the test pixels touch" in split.out
