"""The mosaic of the maps of a campaign: overlaps, grids, names that are taken, reruns."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from cli_helpers import assert_refused, command, copy_of_finished, finished_folder, snapshot
from io_samples import write_envi
from rasterio.crs import CRS
from rasterio.transform import Affine
from scenes import random_bundle

from hsifcn.core.errors import ExistingOutputError, FailedError, HsifcnError
from hsifcn.core.scene import Grid, Window
from hsifcn.inference.campaign import mosaic as mosaic_module
from hsifcn.inference.campaign.mosaic import Mosaic, make_mosaic
from hsifcn.io import create_raster

UTM = CRS.from_epsg(32633).to_wkt()
PIXEL = 5.0


def grid(row=0.0, col=0.0, crs=UTM, pixel=PIXEL, degrees=0.0):
    place = Affine.translation(300_000 + PIXEL * col, 5_800_000 - PIXEL * row)
    return Grid(crs, tuple(place @ Affine.rotation(degrees) @ Affine.scale(pixel, -pixel))[:6])


@pytest.fixture(scope="module")
def bundle():
    return replace(random_bundle("fcn8s"), class_codes=(3, 5, 11, 300), class_names=tuple("äbcd"))


def write_map(path, bundle, labels, percent, where):
    """A map and its confidence, as the maps of a campaign; labels are numbers of classes."""
    codes = np.array((0, *bundle.class_codes), np.uint16)[labels]
    classes = {name: getattr(bundle, name) for name in ("class_names", "colours", "class_codes")}
    confidence = path.with_name(f"{path.stem}_confidence{path.suffix}")
    for file, values, nodata, more in (
        (path, codes, 0, classes),
        (confidence, np.where(labels > 0, percent, 255).astype(np.uint8), 255, {}),
    ):
        shape, dtype = values.shape, values.dtype
        with create_raster(
            file, shape=shape, dtype=dtype, grid=where, nodata=nodata, overwrite=True, **more
        ) as raster:
            raster.write(Window(0, 0, *shape), values)
    return path


def overlapping_maps(folder, bundle, suffix, seed=0):
    """Three maps that overlap, with holes; and the labels of their mosaic, worked out by hand."""
    rng = np.random.default_rng(seed)
    whole, best = np.zeros((50, 60), int), np.full((50, 60), -1)
    maps = []
    for name, row, col, rows, cols in (
        ("a", 0, 0, 30, 40),
        ("b", 10, 20, 40, 40),
        ("c", 5, 5, 20, 30),
    ):
        labels = rng.integers(0, 5, (rows, cols))
        percent = rng.integers(30, 40, (rows, cols))  # so that some are equal
        where = grid(row + 0.2 * (name == "b"), col)
        maps.append(write_map(folder / f"{name}_map{suffix}", bundle, labels, percent, where))
        for (i, j), label in np.ndenumerate(labels):
            at = row + i, col + j
            if label and percent[i, j] > best[at]:
                whole[at], best[at] = label, percent[i, j]
    return maps, whole


def make(path, maps, bundle, *, confident=True, **more):
    wanted = Mosaic(path, more.pop("campaign", "one"), **more)
    return make_mosaic(wanted, maps, bundle, confident=confident, tell=lambda text: None)


@pytest.mark.parametrize("name", ["mosaic.tif", "mosaic.vrt"])
@pytest.mark.parametrize("suffix", [".img", ".tif"])
def test_the_surest_map_counts(tmp_path, monkeypatch, bundle, suffix, name):
    monkeypatch.setattr(mosaic_module, "_BLOCK", 32)
    maps, whole = overlapping_maps(tmp_path, bundle, suffix)
    done = make(tmp_path / name, maps[::-1], bundle)
    with rasterio.open(tmp_path / name) as raster:
        codes = raster.read(1)
        assert raster.crs == CRS.from_epsg(32633)
        assert raster.transform.almost_equals(Affine(*grid().transform))
        assert raster.nodata == 0
        assert raster.colormap(1)[300][:3] == bundle.colours[3]
        if name == "mosaic.tif":
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    np.testing.assert_array_equal(codes, np.array((0, *bundle.class_codes))[whole])
    assert done["counts"][1:] == np.bincount(whole.ravel())[1:].tolist()
    assert done["hectares"][2] == pytest.approx((whole == 2).sum() * PIXEL**2 / 10_000)
    assert done["moved"] == pytest.approx(0.2)
    assert (done["maps"], done["shape"], done["left_out"]) == (3, [50, 60], [])
    # Again: it is known; and made again when a map changed, or when it is gone.
    before = snapshot(tmp_path)
    assert make(tmp_path / name, maps, bundle)["unchanged"]
    assert snapshot(tmp_path) == before
    (tmp_path / name).unlink()
    assert not make(tmp_path / name, maps, bundle)["unchanged"]
    one, two = maps[:2]
    assert make(tmp_path / name, [one, two], bundle)["maps"] == 2
    apart = write_map(tmp_path / f"z_map{suffix}", bundle, np.ones((2, 2), int), 50, grid(100))
    assert (
        make(tmp_path / name, [one, apart], bundle)["counts"][1]
        == 4 + (np.random.default_rng(0).integers(0, 5, (30, 40)) == 1).sum()
    )
    assert not list(tmp_path.glob("*overlaps*"))


def test_maps_of_other_grids_are_left_out(tmp_path, bundle):
    labels = np.ones((8, 8), int)
    grids = {
        "a": grid(),
        "b": grid(crs=CRS.from_epsg(32634).to_wkt()),
        "c": grid(pixel=5.1),
        "d": grid(degrees=10),
        "e": None,
        "f": grid(crs=None),
        "g": grid(row=4.4),
    }
    maps = [
        write_map(tmp_path / f"{name}_map.tif", bundle, labels, 50, where)
        for name, where in grids.items()
    ]
    done = make(tmp_path / "mosaic.tif", maps, bundle)
    assert done["maps"] == 2
    assert done["shape"] == [12, 8]
    told = {entry["map"][0]: entry["cause"] for entry in done["left_out"]}
    assert told == {
        **dict.fromkeys("ef", "without a georeference"),
        **dict.fromkeys("bcd", "in another CRS, pixel size or rotation"),
    }
    turned = make(tmp_path / "turned.tif", [maps[3]], bundle)
    assert turned["hectares"][1] == pytest.approx(64 * PIXEL**2 / 10_000)
    with pytest.raises(FailedError, match="none of 2 maps has a georeference"):
        make(tmp_path / "none.tif", maps[4:6], bundle)
    assert not list(tmp_path.glob("none*"))


def test_maps_without_confidence_may_not_overlap(tmp_path, bundle):
    maps, _ = overlapping_maps(tmp_path, bundle, ".img")
    assert make(tmp_path / "mosaic.tif", maps[:1], bundle, confident=False)["maps"] == 1
    before = snapshot(tmp_path)
    for name in ("mosaic.tif", "other.tif", "virtual.vrt"):
        with pytest.raises(FailedError, match="overlaps another map, and no confidence was writ"):
            make(tmp_path / name, maps, bundle, confident=False)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["mosaic.tif", "mosaic.vrt"])
def test_what_is_there_is_kept(tmp_path, bundle, name):
    maps, _ = overlapping_maps(tmp_path, bundle, ".tif")
    path = tmp_path / name
    path.write_text("mine")
    with pytest.raises(ExistingOutputError, match=f"{name} exists"):
        make(path, maps, bundle)
    assert path.read_text() == "mine"
    make(path, maps, bundle, overwrite=True)
    with pytest.raises(ExistingOutputError, match=f"{name} exists"):
        make(path, maps[:2], bundle, campaign="another")
    for taken in ("a_map.tif", "b_map_confidence.tif", "mosaic.img", "mosaic"):
        with pytest.raises(
            HsifcnError, match=r"would replace one of the maps|is no \.tif or \.vrt"
        ):
            make(tmp_path / taken, maps, bundle, overwrite=True)


# The command


def write_placed_scenes(folder):
    """Four windows of the scene of the finished run, which overlap, with a place."""
    folder.mkdir()
    cube = np.load(finished_folder() / "scene.npy")
    for name, row, col in (("a", 0, 0), ("b", 0, 12), ("c", 10, 6), ("d", 4, 4)):
        write_envi(
            folder / f"{name}.img",
            np.roll(cube, 5 * row, 1)[row : row + 14, col : col + 16],
            map_info=f"{{UTM, 1, 1, {300_000 + 5 * col}, {5_800_000 - 5 * row}, 5, 5, 33, North, "
            "WGS-84}",
        )


def surest(folder, names):
    """The mosaic of maps, pixel by pixel; rasterio reads them."""
    whole, best = np.zeros((20, 24), int), np.full((20, 24), -1)
    for name in names:
        with (
            rasterio.open(folder / f"{name}_map.img") as labels,
            rasterio.open(folder / f"{name}_map_confidence.img") as sure,
        ):
            left, top = labels.transform.c - 300_000, 5_800_000 - labels.transform.f
            found, percent = labels.read(1), sure.read(1)
        for (i, j), label in np.ndenumerate(found):
            at = i + round(top / 5), j + round(left / 5)
            if label and percent[i, j] > best[at]:
                whole[at], best[at] = label, percent[i, j]
    return whole


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--mosaic", "--shard", "1/2"], ["--mosaic joins the maps of all shards", "--assemble"]),
        (["--mosaic", "-f", "npy"], [".npy has no place for a georeference", "-f gtiff"]),
        (["--mosaic", "scenes/a.tif", "--overwrite"], ["scenes/a.tif would be replaced", "input"]),
        (["--mosaic", "maps/a_map.tif", "-f", "gtiff"], ["would replace one of the maps"]),
        (["--mosaic", "none/m.tif"], ["none is no folder"]),
        (["--mosaic", "m.png"], ["m.png is no .tif or .vrt file", "put --mosaic last"]),
        (["-o", "maps.tif", "--mosaic"], ["maps.tif is one file for many scenes"]),
    ],
)
def test_mosaics_that_are_refused_before_work(tmp_path, more, parts):
    copy_of_finished(tmp_path)
    write_placed_scenes(tmp_path / "scenes")
    (tmp_path / "scenes/a.hdr").unlink()
    (tmp_path / "scenes/a.img").rename(tmp_path / "scenes/a.tif")
    before = snapshot(tmp_path)
    done = command(tmp_path, "predict", "runs/cube", "scenes", "-o", "maps", "-q", *more)
    assert_refused(done, *parts)
    assert snapshot(tmp_path) == before


@pytest.mark.slow
def test_a_campaign_with_a_mosaic(tmp_path):
    copy_of_finished(tmp_path)
    write_placed_scenes(tmp_path / "scenes")
    (tmp_path / "scenes/e.img").write_bytes(b"cut off")
    shutil.copy(tmp_path / "scenes/a.hdr", tmp_path / "scenes/e.hdr")
    given = ("predict", "runs/cube", "scenes", "-o", "scenes", "--workers", 1)
    done = command(tmp_path, *given, "--mosaic", "--json")
    assert done.code == 1
    assert "1 of 5 scenes failed" in done.err
    told = done.json["mosaic"]
    whole = surest(tmp_path / "scenes", "abcd")
    with rasterio.open(tmp_path / "scenes/mosaic.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), whole)
    assert told["counts"][1:] == np.bincount(whole.ravel(), minlength=4)[1:].tolist()
    assert told["hectares"] == pytest.approx([count * 25 / 10_000 for count in told["counts"]])
    totals = done.json["totals"]
    assert totals["hectares"] == pytest.approx([count * 25 / 10_000 for count in totals["counts"]])
    assert sum(totals["counts"]) > sum(told["counts"])
    written = json.loads((tmp_path / "scenes/summary.json").read_text())
    assert written["mosaic"] == told
    # Again: the mosaic is no scene, and nothing is done.
    again = command(tmp_path, *given, "--mosaic")
    assert "5 of 5 scenes were dealt with before" in again.err
    assert "hectares" in again.out
    assert "it is that very one already" in again.out
    told = [line for line in again.out.splitlines() if not line.startswith("failed: ")]
    assert max(map(len, told)) <= 80
    # Of all shards, as a virtual raster.
    assembled = command(tmp_path, "predict", "--assemble", "-o", "scenes", "--mosaic", "m.vrt")
    assert assembled.code == 1
    taken = ("predict", "--assemble", "-o", "scenes", "--mosaic", "scenes/a.tif", "--overwrite")
    (tmp_path / "scenes/a.tif").hardlink_to(tmp_path / "scenes/a.img")
    assert "a.tif would be replaced, and it is an input" in command(tmp_path, *taken).err
    (tmp_path / "scenes/a.tif").unlink()
    with rasterio.open(tmp_path / "m.vrt") as raster:
        np.testing.assert_array_equal(raster.read(1), whole)
    # A map is made again when its scene changes, and so is the mosaic.
    (tmp_path / "scenes/d.img").write_bytes((tmp_path / "scenes/a.img").read_bytes())
    changed = command(tmp_path, *given, "--mosaic", "--json")
    assert not changed.json["mosaic"]["unchanged"]
    with rasterio.open(tmp_path / "scenes/mosaic.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), surest(tmp_path / "scenes", "abcd"))
