"""Which model maps which scene into which file, without predicting anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from io_samples import sample_cube, write_envi

from hsifcn.core.errors import SettingError, UnreadableFileError
from hsifcn.inference.predict import PredictOptions
from hsifcn.inference.predict_run import rasters_beside, read_record, scene_identity, sizes
from hsifcn.inference.targets import choose_targets, newest_run, raster_files, require_apart
from hsifcn.io import open_scene
from hsifcn.io.finding import likely_scenes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two scenes, and a run of each; the second is newer."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        np.save(f"{name}.npy", sample_cube())
        make_run(Path("runs") / name, [f"{name}.npy"])
    os.utime("runs/a/metrics.json", (100, 100))
    os.utime("runs/b/metrics.json", (200, 200))
    return tmp_path


def make_run(run, scenes, wavelengths=None):
    run.mkdir(parents=True)
    (run / "model.safetensors").write_bytes(b"model")
    (run / "metrics.json").write_text("{}")
    (run / "config.json").write_text(json.dumps({"scenes": scenes, "wavelengths": wavelengths}))
    return run


def chosen(*paths, out=None, suffix=None):
    targets = choose_targets(paths, out, suffix, None)
    maps = [path.as_posix() for path in targets.maps]
    return targets.model.as_posix(), list(targets.scenes), maps


def test_the_newest_run_is_the_one_finished_last(folder):
    assert newest_run() == Path("runs/b")
    os.utime("runs/a/metrics.json", (300, 300))
    assert newest_run() == Path("runs/a")
    Path("runs/a/model.safetensors").unlink()
    assert newest_run() == Path("runs/b")
    Path("runs/b/metrics.json").unlink()
    with pytest.raises(UnreadableFileError, match="runs/mistyped does not exist"):
        choose_targets(["runs/mistyped", "a.npy"], None, None, None)
    with pytest.raises(UnreadableFileError, match="no finished run under runs/"):
        newest_run()


def test_a_run_stopped_while_it_was_replaced_is_refused(folder):
    Path("runs/b/checkpoint").mkdir()
    assert chosen("runs/b")[1] == ["b.npy"]  # the old run, still whole
    Path("runs/b/metrics.json").unlink()
    with pytest.raises(UnreadableFileError, match=r"runs/b was stopped while it was written"):
        chosen("runs/b")


A, B = "runs/a/model.safetensors", "runs/b/model.safetensors"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], (B, ["b.npy"], ["runs/b/map.img"])),
        (["runs/a"], (A, ["a.npy"], ["runs/a/map.img"])),
        (["runs/a/"], (A, ["a.npy"], ["runs/a/map.img"])),
        ([A], (A, ["a.npy"], ["runs/a/map.img"])),
        (["a.npy"], (B, ["a.npy"], ["a_map.img"])),
        (["runs/a", "b.npy"], (A, ["b.npy"], ["b_map.img"])),
        ([A, "b.npy"], (A, ["b.npy"], ["b_map.img"])),
        (["a.npy", "b.npy"], (B, ["a.npy", "b.npy"], ["a_map.img", "b_map.img"])),
    ],
)
def test_models_and_scenes(folder, given, expected):
    assert chosen(*given) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"suffix": ".mat"}, "a_map.mat"),
        ({"out": "x"}, "x.img"),
        ({"out": "x", "suffix": ".npy"}, "x.npy"),
        ({"out": "x.NPY", "suffix": ".npy"}, "x.NPY"),
        ({"out": "x.bil", "suffix": ".img"}, "x.bil"),
        ({"out": "runs"}, "runs/a_map.img"),
        ({"out": "runs/x.dat"}, "runs/x.dat"),
    ],
    ids=str,
)
def test_the_file_of_one_scene(folder, options, expected):
    assert chosen("a.npy", **options)[2] == [expected]


def test_several_scenes_go_into_one_folder_which_is_not_made_yet(folder):
    maps = chosen("a.npy", "b.npy", out="x/y")[2]
    assert maps == ["x/y/a_map.img", "x/y/b_map.img"]
    assert not Path("x").exists()


def test_a_run_of_several_scenes(folder):
    make_run(Path("runs/both"), ["a.npy", "b.npy"])
    maps = ["runs/both/a_map.img", "runs/both/b_map.img"]
    assert chosen("runs/both")[1:] == (["a.npy", "b.npy"], maps)
    Path("sub").mkdir()
    np.save("sub/a.npy", sample_cube())
    make_run(Path("runs/twins"), ["a.npy", "sub/a.npy"])
    with pytest.raises(SettingError, match="two scenes have the same name"):
        chosen("runs/twins")


def test_wavelengths_of_the_run_unless_given(folder):
    make_run(Path("runs/nm"), ["a.npy"], "nm.txt")
    assert choose_targets(["runs/nm"], None, None, None).wavelengths == "nm.txt"
    assert choose_targets(["runs/nm"], None, None, "mine.txt").wavelengths == "mine.txt"
    assert choose_targets(["runs/nm", "a.npy"], None, None, None).wavelengths is None


@pytest.mark.parametrize("content", [None, "", "no json", "[]", "{}", '"scenes, wavelengths"'])
def test_a_model_outside_a_run_needs_a_scene(folder, content):
    config = Path("runs/b/config.json")
    config.unlink()
    if content is not None:
        config.write_text(content)
    with pytest.raises(UnreadableFileError, match="name the scene"):
        chosen("runs/b")
    assert chosen("runs/b", "a.npy")[1] == ["a.npy"]


def test_bad_targets(folder):
    with pytest.raises(UnreadableFileError, match=r"runs holds no model.safetensors"):
        chosen("runs")
    with pytest.raises(SettingError, match="nosuch is no folder"):
        chosen("a.npy", out="nosuch/x.img")
    with pytest.raises(SettingError, match=r"x.img is no NumPy file|x.img is no .* file"):
        chosen("a.npy", out="x.img", suffix=".npy")
    with pytest.raises(SettingError, match="would replace the scene"):
        chosen("a.npy", out="a.npy")


def test_the_files_of_a_raster(tmp_path):
    voxels = write_envi(tmp_path / "c.img", sample_cube())
    header = tmp_path / "c.hdr"
    (tmp_path / "c.txt").write_text("notes")
    np.save(tmp_path / "c.npy", sample_cube())
    assert raster_files(voxels) == raster_files(header) == [header, voxels]
    assert raster_files(tmp_path / "c.npy") == [tmp_path / "c.npy"]
    bare = write_envi(tmp_path / "d", sample_cube())
    assert raster_files(bare) == [bare, tmp_path / "d.hdr"]
    long = write_envi(tmp_path / "e.raw", sample_cube(), header=tmp_path / "e.raw.hdr")
    assert raster_files(long) == [long, tmp_path / "e.raw.hdr"]


@pytest.mark.parametrize("target", ["c.img", "c.dat", "c.raw"])
def test_a_map_keeps_off_the_scene_and_its_header(tmp_path, target):
    scene = write_envi(tmp_path / "c.img", sample_cube())
    for given in (scene, tmp_path / "c.hdr"):
        with pytest.raises(SettingError, match="would replace the scene"):
            require_apart(str(given), tmp_path / target)
        with pytest.raises(SettingError, match="would replace the scene"):
            require_apart(str(given), tmp_path / "." / target)
    require_apart(str(scene), tmp_path / "c_map.img")


def test_a_link_to_the_scene_is_the_scene(tmp_path):
    np.save(tmp_path / "c.npy", sample_cube())
    (tmp_path / "link.npy").symlink_to("c.npy")
    with pytest.raises(SettingError, match="would replace the scene"):
        require_apart(str(tmp_path / "c.npy"), tmp_path / "link.npy")


def test_a_touched_scene_is_another(tmp_path):
    for path in (write_envi(tmp_path / "c.img", sample_cube()), tmp_path / "d.npy"):
        if path.suffix == ".npy":
            np.save(path, sample_cube())
        identity = scene_identity(open_scene(path))
        assert scene_identity(open_scene(path)) == identity
        assert json.loads(json.dumps(identity)) == identity
        for file in raster_files(path):
            earlier = file.stat().st_mtime_ns
            os.utime(file, ns=(0, 0))
            assert scene_identity(open_scene(path)) != identity
            os.utime(file, ns=(0, earlier))
        assert scene_identity(open_scene(path)) == identity


def test_a_scene_is_known_by_its_variable(tmp_path):
    import scipy.io

    file = tmp_path / "two.mat"
    scipy.io.savemat(file, {"a": sample_cube(), "b": {"c": sample_cube()}})
    identities = [scene_identity(open_scene(f"{file}:{name}")) for name in ("a", "b.c")]
    assert identities[0]["bytes"] == identities[1]["bytes"] == {"two.mat": file.stat().st_size}
    assert identities[0] != identities[1]


def test_sizes_of_what_is_there(tmp_path):
    labels = write_envi(tmp_path / "m.img", sample_cube((4, 5, 1), "u1"))
    shares = write_envi(tmp_path / "m_probabilities.img", sample_cube(dtype="f4"))
    found = sizes(labels, {"probabilities": True})
    assert found.keys() == {"m.img", "m.hdr", "m_probabilities.img", "m_probabilities.hdr"}
    assert (found["m.img"], found["m_probabilities.img"]) == (20, 240)
    assert sizes(labels, {"probabilities": False}).keys() == {"m.img", "m.hdr"}
    shares.unlink()
    assert sizes(labels, {"probabilities": True}).keys() == {"m.img", "m.hdr"}


@pytest.mark.parametrize("content", [None, b"", b"[1, 2]", b"3", b"{", b"\xff", b'{"request": 1}'])
def test_records_that_are_none(tmp_path, content):
    if content is not None:
        (tmp_path / "m.json").write_bytes(content)
    assert read_record(tmp_path / "m.json") == {}


def test_no_raster_beside_a_map_is_taken_for_a_scene(tmp_path):
    """A campaign may write its maps among its scenes, and be run again."""
    beside = rasters_beside(tmp_path / "a.tif", PredictOptions(confidence=True, probabilities=True))
    assert len(beside) == 3
    scene = tmp_path / "a.img"
    assert likely_scenes([*beside, scene]) == [scene]
