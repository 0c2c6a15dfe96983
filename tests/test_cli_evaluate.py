"""``hsifcn evaluate``."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from cli_helpers import assert_refused, command, copy_of_finished, snapshot

MEASURES = {"oa", "aa", "kappa", "per_class", "confusion", "class_names", "areas", "intervals"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run with its map, and labels to hold against it; no test changes them."""
    folder = tmp_path_factory.mktemp("evaluate")
    run = copy_of_finished(folder)
    assert command(folder, "predict", "runs/cube", "scene.npy", "-o", "map.img").code == 0
    with np.load(run / "split.npz") as split:
        labels, test = split["labels"], split["test"]
    np.save(folder / "gt.npy", labels)
    np.save(folder / "small.npy", labels[:5])
    np.save(folder / "zero.npy", labels * 0)
    np.save(folder / "cube.npy", np.ones((20, 24, 12)))
    changed = labels.copy()
    changed[np.nonzero(test)[0][0], np.nonzero(test)[1][0]] = 9
    np.save(folder / "changed.npy", changed)
    (folder / "twice.txt").write_text("corn\ncorn\n")
    np.savez(folder / "odd.npz", train=[True], recipe="random:0.1")
    return folder


def test_on_the_test_pixels_it_is_the_accuracy_of_the_run(folder):
    options = ["--split", "runs/cube/split.npz", "--json"]
    done = command(folder, "evaluate", "map.img", "gt.npy", *options)
    assert (done.code, done.err) == (0, "")
    metrics = json.loads((folder / "runs/cube/metrics.json").read_text())
    for key in ("oa", "aa", "kappa", "confusion", "per_class"):
        assert done.json[key] == metrics[key], key
    assert done.json["split"]["digest"] == metrics["split"]["digest"]


def test_without_a_split_all_labels_count_and_it_says_so(folder):
    done = command(folder, "evaluate", "map.img", "gt.npy", "--json")
    assert done.code == 0
    assert done.err == "warning: all labelled pixels are counted, training pixels included\n"
    assert done.json.keys() >= MEASURES
    assert np.sum(done.json["confusion"]) == np.count_nonzero(np.load(folder / "gt.npy"))
    assert done.json["split"] is None


def test_intervals_hold_the_estimate_and_areas_sum_to_one(folder):
    result = command(folder, "evaluate", "map.img", "gt.npy", "-q", "--json").json
    for name in ("oa", "aa", "kappa"):
        low, high = result["intervals"][name]
        assert low <= result[name] <= high
    low, high = result["oa_area_weighted_interval"]
    assert low <= result["oa_area_weighted"] <= high
    shares = [area["proportion"] for area in result["areas"].values()]
    assert sum(shares) == pytest.approx(1)
    assert list(result["areas"]) == result["class_names"]


def test_a_map_of_0_and_1_is_told(folder):
    truth = (np.load(folder / "gt.npy") == 1).astype(np.uint8)
    np.save(folder / "binary.npy", truth)
    np.save(folder / "binary_map.npy", np.ones_like(truth))
    done = command(folder, "evaluate", "binary_map.npy", "binary.npy")
    assert "one class only, class 1: 0 is unlabelled" in done.out


def test_names_of_the_map_are_kept_and_codes_told(folder):
    codes = np.array([0, 112, 311, 523], np.uint16)
    labels = np.load(folder / "gt.npy")
    np.save(folder / "coded.npy", codes[labels])
    (folder / "coded.txt").write_text("112 = town\n311 = wood\n523 = sea\n600 = none\n")
    write_classes(folder / "coded.tif", codes[labels], {112: "town", 311: "wood", 523: "sea"})
    for options in (["coded.tif", "coded.npy"], ["coded.npy", "coded.tif"]):
        result = command(folder, "evaluate", *options, "-q", "--json").json
        assert result["class_names"] == ["town", "wood", "sea"]
        assert (result["class_codes"], result["oa"]) == ([112, 311, 523], 1)
    both = ["coded.npy", "coded.npy", "--class-names", "coded.txt"]
    assert command(folder, "evaluate", *both, "-q", "--json").json["class_names"][1] == "wood"


def write_classes(path, labels, names):
    """A GeoTIFF whose classes are named in a raster attribute table without usages."""
    with rasterio.open(
        path, "w", driver="GTiff", height=len(labels), width=len(labels[0]), count=1, dtype="uint16"
    ) as file:
        file.write(labels, 1)
    rows = "".join(f"<Row><F>{c}</F><F>9</F><F>{name}</F></Row>" for c, name in names.items())
    fields = "".join(
        f"<FieldDefn><Name>{name}</Name><Type>{kind}</Type><Usage>0</Usage></FieldDefn>"
        for name, kind in (("Value", 0), ("Count", 0), ("LABEL3", 2))
    )
    table = f"<GDALRasterAttributeTable>{fields}{rows}</GDALRasterAttributeTable>"
    path.with_name(f"{path.name}.aux.xml").write_text(
        f"<PAMDataset><PAMRasterBand band='1'>{table}</PAMRasterBand></PAMDataset>"
    )


def test_a_map_against_itself_is_perfect(folder):
    result = command(folder, "evaluate", "map.img", "map.img", "-q", "--json").json
    assert (result["oa"], result["aa"], result["kappa"]) == (1, 1, 1)


def test_the_text(folder):
    options = ["--split", "runs/cube/split.npz", "--class-names", "names.txt"]
    (folder / "names.txt").write_text("corn\noak\nhay\n")
    done = command(folder, "evaluate", "map.img", "gt.npy", *options)
    for part in ("OA", "AA", "kappa", "corn", "area %", "95 %", "Leakage: ", "Olofsson"):
        assert part in done.out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nosuch.img", "gt.npy"], ["nosuch.img does not exist"]),
        (["map.img", "nosuch.npy"], ["nosuch.npy does not exist"]),
        (["runs/cube", "gt.npy"], ["runs/cube is a folder"]),
        (["cube.npy", "gt.npy"], ["cube.npy", "label map"]),
        (["map.img", "zero.npy"], ["zero.npy labels no pixel"]),
        (["map.img", "small.npy"], ["map.img, small.npy: small.npy is 5x24 pixels", "20x24"]),
        (["map.img", "gt.npy", "--class-names", "twice.txt"], ["twice.txt", "name of its own"]),
        (["map.img", "gt.npy", "--split", "nosuch.npz"], ["nosuch.npz does not exist"]),
        (["map.img", "gt.npy", "--split", "gt.npy"], ["gt.npy is no split", "hsifcn split"]),
        (["map.img", "gt.npy", "--split", "odd.npz"], ["odd.npz is no split"]),
        (["map.img", "gt.npy", "--split", "map.img"], ["map.img is no split"]),
        (["map.img", "gt.npy", "--split", "runs"], ["runs is no split"]),
        (
            ["small.npy", "small.npy", "--split", "runs/cube/split.npz"],
            ["small.npy", "split.npz", "(20, 24)", "made of"],
        ),
        (
            ["map.img", "changed.npy", "--split", "runs/cube/split.npz"],
            ["changed.npy", "split.npz", "1 of ", "made of"],
        ),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input(folder, arguments, parts):
    before = snapshot(folder)
    assert_refused(command(folder, "evaluate", *arguments, "-q"), *parts)
    assert snapshot(folder) == before
