"""``hsifcn explain``: which model and scene, the files, the page, reruns, what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import rasterio
import torch
from cli_helpers import assert_refused, command, copy_of_finished, hsifcn, snapshot
from page_reader import (
    CHROMIUM,
    Page,
    assert_accessible,
    assert_needs_nothing,
    assert_sound,
    opened_in_a_browser,
)
from scenes import field_scene, random_bundle

from hsifcn.core.scene import Grid, Window
from hsifcn.data.split import read_split
from hsifcn.data.splits import make_split
from hsifcn.inference.bundle import load_model
from hsifcn.inference.explain.explain import explain
from hsifcn.inference.explain.layers import grid_of_window, write_layers
from hsifcn.io import open_scene
from hsifcn.report.explanation import write_explanation_report
from hsifcn.training.pseudo_labelling import propagate_labels
from hsifcn.training.scenes import label_scene, scene_scaling


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """A finished run that was explained, with one pixel."""
    folder = tmp_path_factory.mktemp("explained")
    copy_of_finished(folder)
    done = hsifcn(folder, "explain", "--at", "6,8", "--json")
    assert done.code == 0, done.err
    return folder, done


def bands_of(path):
    with rasterio.open(path) as raster:
        return raster.read(), raster.descriptions


def test_bare_explain_takes_the_newest_run_and_its_split(explained):
    folder, done = explained
    record = json.loads(done.out)
    assert json.loads((folder / "runs/cube/explain/explain.json").read_text()) == record
    metrics = json.loads((folder / "runs/cube/metrics.json").read_text())
    assert record["accuracy"]["oa"] == pytest.approx(metrics["oa"])
    assert record["stages"][-1]["up_to_here"]["oa"] == pytest.approx(metrics["oa"])
    assert record["split"]["digest"] == metrics["split"]["digest"]
    assert record["split"]["leakage"] == metrics["split"]["leakage"]
    assert record["pixel"]["row"] == 6


def test_the_rasters_add_up(explained):
    folder = explained[0] / "runs/cube/explain"
    logits, names = bands_of(folder / "logits.tif")
    shares = [bands_of(folder / f"shares_stride_{stride}.tif")[0] for stride in (4, 2, 1)]
    np.testing.assert_allclose(np.sum(shares, axis=0), logits, rtol=1e-4, atol=1e-4)
    assert names == ("class 1", "class 2", "class 3")
    final, _ = bands_of(folder / "map_stride_1.tif")
    assert np.array_equal(final[0], logits.argmax(0) + 1)
    heat, _ = bands_of(folder / "probabilities_stride_1.tif")
    np.testing.assert_allclose(heat.sum(0), 1, rtol=1e-5)
    coarse, _ = bands_of(folder / "probabilities_stride_4.tif")
    odds = np.exp(shares[0] - shares[0].max(0))
    np.testing.assert_allclose(coarse, odds / odds.sum(0), rtol=1e-4, atol=1e-6)


def test_the_page_is_sound_and_needs_nothing(explained):
    source = (explained[0] / "runs/cube/explain/report.html").read_text("utf-8")
    assert_needs_nothing(source)
    read = Page(source)
    assert_sound(read)
    record = json.loads(explained[1].out)
    for stage in record["stages"]:
        assert f"{100 * stage['up_to_here']['oa']:.2f}" in read.text
    assert "The pixel in row 6, column 8" in read.text
    assert "Where its pseudo-label came from" in read.text


def test_the_pseudo_label_of_the_pixel_is_that_of_training(explained):
    folder, done = explained
    run = folder / "runs/cube"
    told = json.loads(done.out)["pixel"]["pseudo_label"]
    scene, split = open_scene(folder / "scene.npy"), read_split(run / "split.npz")
    bundle = load_model(run / "model.safetensors")
    labelled = label_scene(scene, split, bundle.good_bands, inductive=False)
    scaling = scene_scaling([scene], [split], bundle.good_bands, inductive=False)
    device = torch.device("cpu")
    sets = propagate_labels([labelled], bundle.good_bands, scaling, 3, None, device)
    assert not labelled.training[6, 8]
    assert told["class"] == bundle.class_names[sets.training[0].classes[6, 8]]
    assert told["from_training_pixels"] + told["from_spectra"] == pytest.approx(1, abs=1e-6)
    assert told["n_training_pixels"] == np.count_nonzero(labelled.training)
    ends, _ = bands_of(run / "explain/pseudo_label_source.tif")
    assert ends.sum() == pytest.approx(1, abs=1e-5)
    first, *others = told["training_pixels"]
    assert ends[0, first["row"], first["col"]] == pytest.approx(first["share"], rel=1e-5)
    assert bundle.class_names[split.labels[first["row"], first["col"]] - 1] == first["class"]
    assert all(first["share"] >= other["share"] for other in others)
    taught = sum(pixel["from_training_pixels"] for pixel in told["classes"])
    assert taught == pytest.approx(ends[0][labelled.training > 0].sum(), rel=1e-5)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")
def test_the_page_opens_in_a_browser(explained, tmp_path):
    page = explained[0] / "runs/cube/explain/report.html"
    assert "How this map was built" in opened_in_a_browser(page, tmp_path / "profile", "390,900")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")
@pytest.mark.slow
@pytest.mark.parametrize(("dark", "size"), [(False, "390,900"), (True, "1300,1000")])
@pytest.mark.parametrize("page", ["report.html", "explain/report.html"])
def test_everybody_can_read_the_pages(explained, tmp_path, page, dark, size):
    assert_accessible(explained[0] / "runs/cube" / page, tmp_path, dark=dark, size=size)


def test_a_rerun_is_refused_and_an_unfinished_one_is_done_again(explained, tmp_path):
    shutil.copytree(explained[0], tmp_path, dirs_exist_ok=True)
    before = snapshot(tmp_path)
    assert_refused(command(tmp_path, "explain"), "runs/cube/explain exists", "--overwrite")
    assert snapshot(tmp_path) == before
    record = tmp_path / "runs/cube/explain/explain.json"
    record.write_text('{"unfinished": true}')
    done = command(tmp_path, "explain", "-q")
    assert done.code == 0, done.err
    assert "stages" in json.loads(record.read_text())
    assert command(tmp_path, "explain", "-q", "--overwrite").code == 0


def test_files_of_others_are_left_alone(explained, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    run = str(explained[0] / "runs/cube")
    assert_refused(command(tmp_path, "explain", run, "-o", "mine"), "mine exists")
    (tmp_path / "file").write_text("mine")
    assert_refused(command(tmp_path, "explain", run, "-o", "file"), "file is a file")


def test_another_scene_is_explained_without_labels(explained, tmp_path):
    scene = np.load(explained[0] / "scene.npy")
    np.save(tmp_path / "other.npy", scene[:15, :17])
    done = command(tmp_path, "explain", str(explained[0] / "runs/cube"), "other.npy")
    assert done.code == 0, done.err
    assert "pixels as in the map" in done.out
    record = json.loads((tmp_path / "other_explain/explain.json").read_text())
    assert record["accuracy"]["oa"] is None
    assert record["wavelengths"]["target"] == "map"
    assert record["split"] is None
    assert "Only scenes that a run was trained on have pseudo-labels" in record["pseudo_labels"]
    assert_sound(Page((tmp_path / "other_explain/report.html").read_text("utf-8")))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--class", "class 1"], ["--class needs a pixel"]),
        (["--at", "5"], ["write ROW,COL"]),
        (["--at", "500,2"], ["--at 500,2 lies outside"]),
        (["--at", "1,2", "--class", "Corn"], ["no class 'Corn'", "class 1"]),
        (["missing.npy"], ["missing.npy does not exist"]),
        (["scene.npy", "cube.mat"], ["one scene is explained at a time"]),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(explained, arguments, parts):
    folder = explained[0]
    assert_refused(command(folder, "explain", *arguments, "-o", "never"), *parts)
    assert not (folder / "never").exists()


def test_layers_lie_where_the_window_lies(tmp_path):
    grid = Grid("EPSG:32633", (20.0, 0.0, 5e5, 0.0, -20.0, 5e6))
    scene, labels = field_scene(24, 28, bands=5, classes=4)
    bundle = random_bundle("patch5")
    explanation = explain(bundle, scene, make_split(labels, "random:0.2"))
    assert write_layers(tmp_path, explanation, bundle, grid, overwrite=False) == ["logits.tif"]
    with rasterio.open(tmp_path / "logits.tif") as raster:
        assert raster.crs.to_epsg() == 32633
        assert tuple(raster.transform)[:6] == grid.transform
    moved = grid_of_window(grid, Window(10, 3, 5, 5))
    assert moved.transform == (20.0, 0.0, 5e5 + 60, 0.0, -20.0, 5e6 - 200)


@pytest.mark.usefixtures("small_models")
@pytest.mark.parametrize("name", ["fcn1s", "fcn32s", "segnet", "patch5"])
def test_the_page_of_every_kind_of_model_is_sound(tmp_path, name):
    scene, labels = field_scene(24, 28, bands=5, classes=4)
    split = make_split(labels, "random:0.2")
    explanation = explain(random_bundle(name), scene, split, at=(3, 3))
    names = ["Oats <b>&amp;</b>", "</script><script>alert(1)", "شعير", "d"]
    write_explanation_report(
        tmp_path / "report.html",
        explanation=explanation,
        scene=scene,
        class_names=names,
        colours=random_bundle(name).colours,
    )
    source = (tmp_path / "report.html").read_text("utf-8")
    assert_needs_nothing(source)
    read = Page(source)
    assert_sound(read)
    assert "script" not in read.tags
    assert all(name in read.text for name in names)


def test_the_page_of_200_classes_shows_the_most_frequent_and_stays_small(tmp_path):
    scene, _ = field_scene(60, 60, bands=5)
    bundle = random_bundle("hsifcn", classes=200)
    explanation = explain(bundle, scene)
    write_explanation_report(
        tmp_path / "report.html",
        explanation=explanation,
        scene=scene,
        class_names=bundle.class_names,
        colours=bundle.colours,
    )
    text = Page((tmp_path / "report.html").read_text("utf-8")).text
    assert "180 classes that are rarer here are left out" in text
    assert (tmp_path / "report.html").stat().st_size < 8e6
