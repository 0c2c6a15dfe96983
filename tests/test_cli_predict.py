"""``hsifcn predict``: which model, which scene, which file; reruns; what is refused."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.io
import zarr
from cli_helpers import (
    ENVIRONMENT,
    Done,
    assert_refused,
    command,
    copy_of_finished,
    finished_folder,
    hsifcn,
    small_scene,
    snapshot,
)
from io_samples import write_envi
from PIL import Image

from hsifcn.cli.preview import preview
from hsifcn.core.scene import default_colours
from hsifcn.io import open_labels


@pytest.fixture
def folder(tmp_path):
    copy_of_finished(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def expected():
    """The map of the finished run's own scene."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.img"
        done = command(finished_folder(), "predict", "runs/cube", "cube.mat", "-o", path)
        assert done.code == 0, done.err
        return open_labels(path).labels


def test_bare_predict_maps_the_newest_run_into_itself(folder):
    older = folder / "runs/older"
    shutil.copytree(folder / "runs/cube", older)
    os.utime(older / "metrics.json", (1, 1))
    (folder / "runs/unfinished").mkdir()
    done = hsifcn(folder, "predict")
    assert done.code == 0, done.err
    model, shift, plan = done.err.splitlines()
    assert model == "model: runs/cube/model.safetensors"
    assert shift.startswith("shift: band medians differ by 0.00 spreads of the training scenes")
    assert re.fullmatch(
        r"plan: whole scene of 20x24 pixels; about \d+ MB of memory, less than a second", plan
    )
    assert "map: runs/cube/map.img" in done.out
    labels = open_labels(folder / "runs/cube/map.img")
    assert labels.labels.shape == (20, 24)
    assert labels.class_names == ("class 1", "class 2", "class 3")
    assert (folder / "runs/cube/map.hdr").exists()
    assert not (older / "map.img").exists()


def test_json(folder):
    result = command(folder, "predict", "-q", "--json").json
    assert result["map"] == "runs/cube/map.img"
    assert result["shape"] == [20, 24]
    assert sum(result["counts"]) == 20 * 24
    assert (result["unchanged"], result["probabilities"]) == (False, None)


def test_the_map_agrees_with_the_accuracy_of_the_run(expected):
    metrics = json.loads((finished_folder() / "runs/cube/metrics.json").read_text())
    with np.load(finished_folder() / "runs/cube/split.npz") as split:
        test, truth = split["test"], split["labels"]
    assert (expected == truth)[test].mean() == pytest.approx(metrics["oa"])


def test_one_argument_is_a_model_or_a_scene(folder, expected):
    shutil.copy(folder / "runs/cube/model.safetensors", folder / "mine.safetensors")
    shutil.copytree(folder / "runs/cube", folder / "mine")

    assert command(folder, "predict", "mine").code == 0
    assert (open_labels(folder / "mine/map.img").labels == expected).all()
    assert not (folder / "runs/cube/map.img").exists()

    assert command(folder, "predict", "scene.npy").code == 0
    assert (open_labels(folder / "scene_map.img").labels == expected).all()

    alone = command(folder, "predict", "mine.safetensors", "-q")
    assert_refused(alone, "does not tell its scene", "name the scene")
    assert command(folder, "predict", "mine.safetensors", "scene.npy", "-o", "a.npy").code == 0
    assert (np.load(folder / "a.npy").reshape(20, 24) == expected).all()


@pytest.mark.parametrize(
    ("options", "file"),
    [
        (["-o", "out.img"], "out.img"),
        (["-o", "out.dat", "-f", "envi"], "out.dat"),
        (["-o", "out.npy"], "out.npy"),
        (["-o", "out.tif"], "out.tif"),
        (["-f", "gtiff"], "scene_map.tif"),
        (["-o", "out.mat", "-f", "mat"], "out.mat"),
        (["-o", "out", "-f", "npy"], "out.npy"),
        (["-o", "out"], "out.img"),
        (["-o", "."], "scene_map.img"),
        (["-f", "mat"], "scene_map.mat"),
    ],
)
def test_formats(folder, expected, options, file):
    assert command(folder, "predict", "runs/cube", "scene.npy", *options).code == 0
    assert (open_labels(folder / file).labels == expected).all()


def test_a_picture_with_legend(folder, expected):
    assert command(folder, "predict", "runs/cube", "scene.npy", "-f", "png").code == 0
    assert "nothing to do" in command(folder, "predict", "scene.npy", "-f", "png").err
    picture = np.asarray(Image.open(folder / "scene_map.png"))[: 20 * 25 : 25, : 24 * 25 : 25, :3]
    colours = np.array(default_colours(3))
    np.testing.assert_array_equal(picture, colours[expected - 1])


def test_a_variable_may_be_named(folder, expected):
    cube = np.load(folder / "scene.npy")
    scipy.io.savemat(folder / "two.mat", {"other": cube[:5], "cube": cube})
    assert_refused(command(folder, "predict", "two.mat", "-q"), "two.mat", "other", "cube")
    assert command(folder, "predict", "two.mat:cube").code == 0
    assert (open_labels(folder / "two_map.img").labels == expected).all()


def test_a_zarr_folder_is_a_scene_not_a_run(folder, expected):
    cube = np.load(folder / "scene.npy")
    array = zarr.create_array(folder / "s.zarr", data=cube, chunks=(5, 6, 12))
    assert command(folder, "predict", "s.zarr").code == 0
    assert (open_labels(folder / "s_map.img").labels == expected).all()
    assert "nothing to do" in command(folder, "predict", "s.zarr").err
    array[:5, :6] = cube[:5, :6] + 1
    assert_refused(command(folder, "predict", "s.zarr", "-q"), "s_map.img exists", "--overwrite")


def test_several_scenes_go_into_a_folder(folder, expected):
    cube = np.load(folder / "scene.npy")
    write_envi(folder / "north.img", cube[:12], "bil")
    done = command(folder, "predict", "scene.npy", "north.hdr", "-o", "a/maps", "--json")
    assert done.code == 0, done.err
    assert [entry["map"] for entry in done.json["maps"]] == [
        "a/maps/scene_map.img",
        "a/maps/north_map.img",
    ]
    assert (open_labels(folder / "a/maps/scene_map.img").labels == expected).all()
    assert open_labels(folder / "a/maps/north_map.img").labels.shape == (12, 24)
    again = command(folder, "predict", "scene.npy", "north.hdr", "-o", "a/maps")
    assert again.err.count("nothing to do") == 2


def test_the_place_on_earth_goes_into_the_map(folder):
    cube = np.load(folder / "scene.npy")
    place = "{UTM, 1, 1, 500000, 4100000, 20, 20, 33, North, WGS-84}"
    write_envi(folder / "e.img", cube, map_info=place)
    assert command(folder, "predict", "e.img", "--probabilities").code == 0
    for name in ("e_map", "e_map_probabilities"):
        header = (folder / f"{name}.hdr").read_text()
        assert "500000" in header
        assert "4100000" in header
        assert "WGS-84" in header


def test_confidence_is_the_probability_of_the_class_mapped(folder, expected):
    cube = np.load(folder / "scene.npy").astype(np.float32)
    cube[2, 3] = np.nan
    np.save(folder / "hole.npy", cube)
    given = ["predict", "hole.npy", "-o", "m.tif", "--confidence", "--probabilities"]
    done = command(folder, *given, "--json")
    assert done.code == 0, done.err
    assert done.json["confidence"] == "m_confidence.tif"
    with rasterio.open(folder / "m_confidence.tif") as raster:
        found, nodata, kind = raster.read(1), raster.nodata, raster.dtypes[0]
    with rasterio.open(folder / "m_probabilities.tif") as raster:
        best = raster.read()[:3].max(0)
    assert (nodata, kind, found[2, 3]) == (255, "uint8", 255)
    known = found != 255
    assert known.sum() == found.size - 1
    np.testing.assert_array_equal(found[known], np.rint(100 * best[known]))
    assert "nothing to do" in command(folder, *given).err
    (folder / "m_confidence.tif").unlink()
    assert_refused(command(folder, *given, "-q"), "m.tif exists", "--overwrite")


@pytest.mark.parametrize("suffix", [".img", ".npy", ".mat", ".png"])
def test_confidence_in_each_format(folder, suffix):
    given = ["predict", "scene.npy", "-o", f"m{suffix}", "--confidence"]
    assert command(folder, *given).code == 0
    command(folder, "predict", "scene.npy", "-o", "wanted.tif", "--confidence")
    with rasterio.open(folder / "wanted_confidence.tif") as raster:
        wanted = raster.read(1)
    path = folder / f"m_confidence{suffix}"
    if suffix == ".png":  # brighter where the map is surer
        grey = np.asarray(Image.open(path).convert("L")).astype(int)[::25, ::25]
        order = np.argsort(wanted, axis=None)
        assert (np.diff(grey.flat[order]) >= -1).all()
    elif suffix == ".npy":
        np.testing.assert_array_equal(np.load(path), wanted)
    elif suffix == ".mat":
        values = next(v for k, v in scipy.io.loadmat(path).items() if not k.startswith("_"))
        np.testing.assert_array_equal(values, wanted)
    else:
        found = np.fromfile(path, np.uint8).reshape(wanted.shape)
        np.testing.assert_array_equal(found, wanted)
        assert (folder / "m_confidence.qml").exists()


def test_polygons_tell_their_mean_confidence(folder):
    from pyogrio import raw

    given = ["predict", "scene.npy", "-o", "m.npy", "--confidence", "--polygons"]
    assert command(folder, *given).code == 0
    meta, _, _, values = raw.read(folder / "m.gpkg", layer="m")
    fields = dict(zip(meta["fields"], values, strict=True))
    sure, labels = np.load(folder / "m_confidence.npy"), np.load(folder / "m.npy")
    weighted = (fields["confidence"] * fields["pixels"]).sum() / fields["pixels"].sum()
    assert weighted == pytest.approx(sure[labels > 0].mean())


def test_a_preview_in_the_terminal(folder, expected):
    done = command(folder, "predict", "scene.npy", "--preview")
    assert done.code == 0
    lines = done.err.splitlines()
    start = next(i for i, line in enumerate(lines) if re.fullmatch("[123]{24}", line))
    shown = lines[start : start + 10]  # a character is two rows high
    assert shown == ["".join(map(str, row)) for row in expected[1::2].tolist()]
    assert "1 class 1   2 class 2   3 class 3" in done.err
    assert "\x1b" not in done.err
    assert "no preview" in command(folder, "predict", "scene.npy", "-f", "png", "--preview").err


def test_a_preview_in_colour_fits_80_columns():
    labels = np.random.default_rng(0).integers(0, 4, (501, 900))
    colours = ((1, 2, 3), (40, 50, 60), (7, 8, 9))
    text = preview(labels, ("a", "b\x1b[2J", "c"), colours, in_colour=True)
    plain = re.sub("\x1b\\[[0-9;]*m", "", text)
    assert max(map(len, plain.splitlines())) <= 80
    assert "\x1b[38;2;40;50;60m" in text
    assert "\x1b[2J" not in text


def test_probabilities_belong_to_the_labels(folder, expected):
    done = command(folder, "predict", "scene.npy", "-o", "m.npy", "--probabilities", "--json")
    assert done.json["probabilities"] == "m_probabilities.npy"
    bands = np.load(folder / "m_probabilities.npy")
    assert (bands.shape, bands.dtype) == ((20, 24, 4), np.float32)
    shares, margin = bands[..., :3], bands[..., 3]
    np.testing.assert_allclose(shares.sum(2), 1, atol=1e-5)
    assert (shares.argmax(2) + 1 == expected).all()
    ordered = np.sort(shares, axis=2)
    np.testing.assert_allclose(margin, ordered[..., 2] - ordered[..., 1], atol=1e-6)


def test_min_confidence_leaves_the_doubtful_out(folder, expected):
    command(folder, "predict", "scene.npy", "-o", "p.npy", "--probabilities")
    best = np.load(folder / "p_probabilities.npy")[..., :3].max(2)
    limit = float(np.median(best))
    asked = ["predict", "scene.npy", "-o", "r.npy", "--min-confidence", limit]
    done = command(folder, *asked, "--json")
    assert command(folder, *asked[:-2], "--reject", limit, "--json").json["unchanged"]
    labels = np.load(folder / "r.npy").reshape(20, 24)
    assert done.json["counts"][0] == (labels == 0).sum()
    clear = np.abs(best - limit) > 1e-6
    assert (labels == np.where(best >= limit, expected, 0))[clear].all()


def test_an_empty_map_is_warned_of(folder):
    cube = np.load(folder / "scene.npy").astype(np.float32)
    cube[..., 3] = np.nan
    np.save(folder / "lost.npy", cube)
    done = command(folder, "predict", "lost.npy", "-o", "lost_map.npy")
    assert done.code == 0
    assert "warning: lost_map.npy is empty: no pixel of lost.npy holds a measurement" in done.err
    done = command(folder, "predict", "lost.npy", "-o", "none.npy", "--min-confidence", "1")
    assert "or none is as sure as --min-confidence 1" in done.err


def test_the_same_again_says_so_and_touches_nothing(folder):
    first = command(folder, "predict", "--probabilities")
    before = snapshot(folder)
    again = command(folder, "predict", "--probabilities")
    assert (again.code, again.out) == (0, first.out)
    assert "runs/cube/map.img is already this very map; nothing to do" in again.err
    assert command(folder, "predict", "--probabilities", "--json").json["unchanged"] is True
    assert snapshot(folder) == before


@pytest.mark.parametrize("change", ["option", "model", "scene", "map", "header", "probabilities"])
def test_anything_else_is_refused_unless_told(folder, change):
    cube = np.load(folder / "scene.npy")
    write_envi(folder / "e.img", cube)
    given = ["predict", "e.hdr", "-o", "m.img", "--probabilities"]
    assert command(folder, *given).code == 0
    if change == "option":
        given += ["--reject", "0.5"]
    elif change == "model":
        small_scene(folder)
        options = ["-l", "cube_gt.npy", "--steps", "1", "-o", "runs/cube", "--overwrite"]
        assert command(folder, "train", "cube.npy", *options).code == 0
    elif change == "scene":  # the voxels, not the header that was named
        write_envi(folder / "e.img", cube + 1, header=folder / "other.hdr")
        (folder / "other.hdr").unlink()
    elif change == "map":
        (folder / "m.img").write_bytes(b"cut short")
    elif change == "header":
        (folder / "m.hdr").unlink()
    else:
        (folder / "m_probabilities.img").unlink()
    before = snapshot(folder)
    assert_refused(command(folder, *given, "-q"), "m.img exists", "--overwrite")
    assert snapshot(folder) == before
    assert command(folder, *given, "--overwrite").code == 0
    assert "nothing to do" in command(folder, *given).err


def test_a_map_of_somebody_else_is_kept(folder):
    (folder / "m.npy").write_bytes(b"mine")
    (folder / "n.npy.json").write_text('["mine"]')
    for name, exists in (("m.npy", "m.npy"), ("n.npy", "n.npy.json")):
        before = snapshot(folder)
        done = command(folder, "predict", "scene.npy", "-o", name, "-q")
        assert_refused(done, f"{exists} exists", "--overwrite")
        assert snapshot(folder) == before


def test_a_deleted_map_is_simply_written_again(folder):
    assert command(folder, "predict", "scene.npy", "-o", "m.npy").code == 0
    (folder / "m.npy").unlink()
    assert command(folder, "predict", "scene.npy", "-o", "m.npy").code == 0
    assert (folder / "m.npy").exists()


def test_labels_are_never_replaced(folder):
    small_scene(folder, "other.npy")
    before = snapshot(folder)
    for arguments in (["other.npy", "-o", "other_gt.npy"], ["other.npy", "-o", "./other_gt.npy"]):
        done = command(folder, "predict", *arguments, "--overwrite", "-q")
        assert_refused(done, "other_gt.npy would be replaced, and it is an input")
    assert snapshot(folder) == before


def test_two_formats_side_by_side(folder):
    for suffix in ("img", "tif", "npy", "mat"):
        assert command(folder, "predict", "scene.npy", "-o", f"m.{suffix}").code == 0
    again = command(folder, "predict", "scene.npy", "-o", "m.img")
    assert "nothing to do" in again.err


@pytest.mark.parametrize("scene", ["s.npy", "s.img", "s.hdr"])
def test_the_scene_is_never_replaced(folder, scene):
    cube = np.load(folder / "scene.npy")
    if scene == "s.npy":
        np.save(folder / "s.npy", cube)
        targets = ["s.npy"]
    else:
        write_envi(folder / "s.img", cube)
        targets = ["s.img", "s.dat", "./s.img"]
    before = snapshot(folder)
    for target in targets:
        done = command(folder, "predict", scene, "-o", target, "--overwrite", "-q")
        assert_refused(done, "would replace the scene", "-o")
    assert snapshot(folder) == before


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (40, 3)], ids=str)
def test_scenes_of_any_size(folder, shape):
    cube = np.load(folder / "scene.npy")
    np.save(folder / "s.npy", np.resize(cube, (*shape, 12)))
    assert command(folder, "predict", "s.npy", "-f", "npy").code == 0
    labels = np.load(folder / "s_map.npy").reshape(shape)
    assert ((labels >= 1) & (labels <= 3)).all()


def test_a_scene_without_any_measurement(folder):
    np.save(folder / "s.npy", np.full((4, 5, 12), np.nan, "f4"))
    done = command(folder, "predict", "s.npy", "--json")
    assert done.json["counts"] == [20, 0, 0, 0]


def long_scene(folder):
    """An ENVI scene of 40 million pixels that takes no room on the disk."""
    header = write_envi(folder / "long.img", np.zeros((1, 400, 12), "f4")).with_suffix(".hdr")
    header.write_text(re.sub(r"lines *= *1\b", "lines = 100000", header.read_text()))
    os.truncate(folder / "long.img", 100_000 * 400 * 12 * 4)
    return "long.hdr"


def test_a_plan_within_the_ceiling_comes_first(folder):
    np.save(folder / "s.npy", np.resize(np.load(folder / "scene.npy"), (1200, 500, 12)))
    ceiling = ["--max-memory", "600M", "--device", "cpu"]
    done = hsifcn(folder, "predict", "s.npy", *ceiling, "--json")
    assert done.code == 0, done.err
    plan = re.search(r"plan: (\d+) tiles of .* halo 16; about (\d+) MB of memory", done.err)
    assert int(plan[1]) == done.json["tiles"] > 1
    assert round(done.json["planned_peak_bytes"] / 1e6) == int(plan[2]) <= 600
    assert 0.85 < done.json["planned_peak_bytes"] / done.json["peak_rss_bytes"] < 1.15


def test_ctrl_c_stops_soon_and_leaves_nothing(folder):
    scene = long_scene(folder)
    before = {path.name for path in folder.iterdir()}
    process = subprocess.Popen(
        [sys.executable, "-m", "hsifcn", "predict", "runs/cube", scene],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        while "plan: " not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (130, "interrupted")
    assert {path.name for path in folder.iterdir()} == before


def with_small_files(folder, limit, *arguments):
    """Run a command that cannot write files larger than so many bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "hsifcn", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_disk_that_fills_is_one_line_and_leaves_nothing(folder):
    np.save(folder / "s.npy", np.resize(np.load(folder / "scene.npy"), (700, 500, 12)))
    before = snapshot(folder)
    failed = with_small_files(folder, 10**6, "predict", "s.npy", "-q", "--probabilities")
    assert_refused(failed, "s_map_probabilities.img cannot be written", "free space", code=1)
    assert snapshot(folder) == before


@pytest.mark.slow
def test_polygons_that_cannot_be_written_leave_all_as_it_was(folder):
    """The rasters are written before; a GeoPackage takes about 100 kB."""
    given = ["predict", "scene.npy", "-o", "m.tif", "--confidence", "--polygons", "-q"]
    before = snapshot(folder)
    assert_refused(with_small_files(folder, 40_000, *given), "m.gpkg cannot be written", code=1)
    assert snapshot(folder) == before
    assert command(folder, *given).code == 0
    before = snapshot(folder)
    other = [*given, "--min-confidence", "0.9", "--overwrite"]
    assert_refused(with_small_files(folder, 40_000, *other), "m.gpkg cannot be written", code=1)
    assert snapshot(folder) == before


def test_polygons_of_the_map(folder, expected):
    from pyogrio import raw

    given = ["predict", "scene.npy", "-o", "m.tif", "--polygons"]
    done = command(folder, *given, "--json")
    assert done.json["polygons"] == "m.gpkg"
    meta, _, _, values = raw.read(folder / "m.gpkg")
    fields = dict(zip(meta["fields"], values, strict=True))
    for label in (1, 2, 3):
        assert fields["pixels"][fields["class"] == label].sum() == (expected == label).sum()
    assert "nothing to do" in command(folder, *given).err
    (folder / "m.gpkg").unlink()
    assert_refused(command(folder, *given, "-q"), "m.tif exists")
    done = command(folder, *given, "p.gpkg", "--min-size", 4, "--overwrite")
    assert "m.tif, p.gpkg" in done.out
    assert raw.read(folder / "p.gpkg")[3][3].min() >= 4


def test_the_bands_of_another_scene_are_matched(folder):
    nm = np.linspace(400, 950, 12)
    np.savetxt(folder / "nm.txt", nm)
    cube = np.load(folder / "scene.npy")
    np.save(folder / "scene_gt.npy", scipy.io.loadmat(folder / "cube_gt.mat")["cube_gt"])
    options = ["-l", "scene_gt.npy", "--steps", "30", "-o", "nm", "-q", "--wavelengths", "nm.txt"]
    assert command(folder, "train", "scene.npy", *options).code == 0
    assert command(folder, "predict", "nm", "-o", "own.npy").code == 0
    more = np.concatenate([cube[:, :, ::-1], cube[:, :, :1] * 0], axis=2)
    write_envi(folder / "o.img", more, wavelength=f"{{{', '.join(map(str, [*nm[::-1], 1000]))}}}")
    done = command(folder, "predict", "nm", "o.img", "-o", "o.npy")
    assert "o.img: the model's 12 bands were found by wavelength among the scene's 13" in done.err
    own = np.load(folder / "own.npy")
    assert (np.load(folder / "o.npy") == own).all()
    done = command(folder, "predict", "nm", "o.img", "-o", "r.tif", "--resample")
    assert "its 13 bands were resampled to the model's 12" in done.err
    assert (open_labels(folder / "r.tif").labels == own).all()


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    run = copy_of_finished(folder)
    cube = np.load(folder / "scene.npy")
    np.save(folder / "short.npy", cube[:, :, :5])
    np.save(folder / "flat.npy", cube[:, :, 0])
    (folder / "text.npy").write_text("no cube")
    (folder / "bad.txt").write_text("400\nred\n")
    (folder / "empty").mkdir()
    (folder / "cut.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:999])
    shutil.copy(folder / "scene.npy", folder / "fake.safetensors")
    shutil.copytree(run, folder / "odd")
    (folder / "odd/config.json").write_text("[1]")
    (folder / "sub").mkdir()
    np.save(folder / "sub/cube.npy", cube)
    np.save(folder / "sub/scene.npy", cube)
    return folder


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nosuch.npy"], ["nosuch.npy does not exist"]),
        (["runs/nosuch"], ["runs/nosuch does not exist"]),
        (["nosuch.safetensors", "scene.npy"], ["nosuch.safetensors does not exist"]),
        (["cut.safetensors", "scene.npy"], ["cut.safetensors is damaged"]),
        (["fake.safetensors", "scene.npy"], ["fake.safetensors is damaged or no model"]),
        (
            ["empty", "scene.npy"],
            ["empty holds no model.safetensors", "run directory"],
        ),
        (["odd"], ["odd/config.json", "name the scene"]),
        (["short.npy"], ["short.npy has 5 bands", "12", "same sensor"]),
        (["flat.npy"], ["flat.npy has 2 dimensions"]),
        (["text.npy"], ["text.npy"]),
        (["scene.npy", "short.npy", "-o", "maps"], ["short.npy has 5 bands"]),
        (["scene.npy", "nosuch.npy", "-o", "maps"], ["nosuch.npy does not exist"]),
        (["scene.npy", "sub/scene.npy", "-o", "maps"], ["same name", "-o"]),
        (["scene.npy", "sub/cube.npy", "-o", "bad.txt"], ["folder bad.txt cannot be made", "-o"]),
        (["scene.npy", "sub/cube.npy", "-o", "bad.txt/maps"], ["bad.txt/maps cannot be made"]),
        (["scene.npy", "-o", "nosuch/m.img"], ["nosuch/m.img", "nosuch is no folder"]),
        (["scene.npy", "-o", "bad.txt/m.img"], ["bad.txt/m.img", "bad.txt is no folder"]),
        (["scene.npy", "-o", "m.xyz"], ["m.xyz", "suffix", ".img"]),
        (["scene.npy", "-o", "m.npy", "-f", "envi"], ["m.npy is no ENVI file", "-f"]),
        (["scene.npy", "--min-confidence", "1.5"], ["--min-confidence 1.5", "0 to 1"]),
        (["--polygons", "scene.npy"], ["no .gpkg file", "--polygons last"]),
        (["scene.npy", "sub/cube.npy", "--polygons", "p.gpkg"], ["p.gpkg is one file"]),
        (["scene.npy", "-o", "m.png", "--polygons"], ["not from a picture", "gtiff"]),
        (
            ["scene.npy", "-o", "m.png", "--probabilities"],
            ["m_probabilities.png", "of classes only"],
        ),
        (["scene.npy", "--reject", "nan"], ["--min-confidence nan"]),
        (["scene.npy", "--max-memory", "1K"], ["scene.npy", "--max-memory"]),
        (["scene.npy", "--wavelengths", "bad.txt"], ["bad.txt, line 2"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input(bad_folder, arguments, parts):
    before = snapshot(bad_folder)
    assert_refused(command(bad_folder, "predict", *arguments, "-q"), *parts)
    assert snapshot(bad_folder) == before


def test_without_any_run(tmp_path):
    small_scene(tmp_path)
    for arguments in ([], ["cube.npy"]):
        done = command(tmp_path, "predict", *arguments, "-q")
        assert_refused(done, "no finished run under runs/", "hsifcn train")


def test_the_scene_of_the_run_is_gone(folder):
    config = folder / "runs/cube/config.json"
    config.write_text(config.read_text().replace("cube.mat", "gone.mat"))
    assert_refused(command(folder, "predict", "-q"), "gone.mat does not exist", "path")


def test_counts_and_reflectances_of_one_scene_give_one_map(tmp_path):
    """Each is mapped by the model of the other; scale factors in ENVI headers tell them apart."""
    cube, labels = small_scene(tmp_path)
    counts = np.round(cube).astype("i2")
    wavelength = "{" + ", ".join(f"{nm:.0f}" for nm in np.linspace(450, 900, cube.shape[2])) + "}"
    scenes = {"counts": (counts, 10_000), "reflectance": ((counts / 10_000).astype("f4"), 1.0)}
    for name, (voxels, scale) in scenes.items():
        extra = {"reflectance_scale_factor": scale, "wavelength": wavelength}
        write_envi(tmp_path / f"{name}.img", voxels, **extra)
        options = ["-l", "cube_gt.npy", "--steps", 12, "-o", f"runs/{name}"]
        assert command(tmp_path, "train", f"{name}.img", *options).code == 0
    for model in scenes:
        maps = []
        for name in scenes:
            out = f"{name}_by_{model}.npy"
            done = command(tmp_path, "predict", f"runs/{model}", f"{name}.img", "-o", out)
            assert done.code == 0, done.err
            assert ("multiplied by" in done.err) == (name != model)
            maps.append(np.load(tmp_path / out))
        np.testing.assert_array_equal(*maps)
        assert (maps[0] == labels)[labels > 0].mean() > 0.6


KILLED = """
import os, signal, sys
from pathlib import Path

rename = Path.replace
left, kind = int(sys.argv.pop(1)), signal.Signals[sys.argv.pop(1)]


def replace(source, target):
    global left
    rename(source, target)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), kind)


Path.replace = replace
from hsifcn.cli import main

main()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills with a signal")
@pytest.mark.parametrize(
    ("suffix", "kind", "code"),
    [
        (".img", "SIGKILL", -signal.SIGKILL),
        (".tif", "SIGKILL", -signal.SIGKILL),
        (".img", "SIGINT", 130),
        (".mat", "SIGINT", 130),
    ],
)
def test_stopped_between_renames_it_is_made_again(folder, suffix, kind, code):
    given = ["predict", "scene.npy", "-o", f"m{suffix}", "--confidence", "--probabilities", "-q"]
    before = snapshot(folder)
    for number in range(1, 20):
        process = subprocess.run(
            [sys.executable, "-c", KILLED, str(number), kind, *given], cwd=folder, env=ENVIRONMENT
        )
        if process.returncode != code:
            break
        again = command(folder, *given)
        assert again.code == 0, again.err
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        assert (open_labels(folder / f"m{suffix}").labels > 0).all()
        for path in folder.glob("m*"):
            path.unlink()
        assert snapshot(folder) == before
    assert number > 3
    assert process.returncode == 0


def test_another_command_keeps_what_was_left_unfinished(folder):
    given = ["predict", "scene.npy", "-o", "m.npy"]
    assert command(folder, *given).code == 0
    record = json.loads((folder / "m.npy.json").read_text())
    unfinished = {"request": record["request"], "files": {}, "unfinished": True}
    (folder / "m.npy.json").write_text(json.dumps(unfinished))
    assert_refused(command(folder, *given, "--probabilities", "-q"), "m.npy exists", "--overwrite")
    done = command(folder, *given, "--json")
    assert "m.npy was left unfinished and is made again" in done.err
    assert done.json["unchanged"] is False
    assert command(folder, *given, "--json").json["unchanged"] is True


def test_a_failure_keeps_the_earlier_map_and_its_record(folder):
    given = ["predict", "scene.npy", "-o", "m.npy"]
    assert command(folder, *given).code == 0
    before = [(folder / name).read_bytes() for name in ("m.npy", "m.npy.json")]
    failed = command(folder, *given, "--overwrite", "--max-memory", "1K", "-q")
    assert_refused(failed, "--max-memory")
    assert [(folder / name).read_bytes() for name in ("m.npy", "m.npy.json")] == before
    assert "nothing to do" in command(folder, *given).err
