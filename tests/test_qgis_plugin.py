"""The QGIS plugin: how it runs the command, its zip, and, where QGIS is, its algorithms."""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import rasterio
import rasterio.features
import scipy.io
import shapely
from cli_helpers import ENVIRONMENT, ROOT, finished_folder
from pyogrio import raw
from rasterio.transform import from_origin

QGIS = ROOT / "integrations" / "qgis"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plugin = load(QGIS / "hsifcn_qgis" / "command.py")


class Feedback:
    """What QGIS hands to an algorithm; cancels once ``until`` is there."""

    def __init__(self, until=None):
        self.until, self.progress, self.lines = until, [], []

    def isCanceled(self):  # noqa: N802
        return self.until is not None and self.until.exists()

    def setProgress(self, per_cent):  # noqa: N802
        self.progress.append(per_cent)

    def pushInfo(self, text):  # noqa: N802
        self.lines.append(text)


def script(path, code):
    """An executable that runs Python code."""
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture(scope="module")
def hsifcn_command(tmp_path_factory):
    """The command, as pip would install it."""
    code = (
        f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\nos.environ.update({ENVIRONMENT!r})\n"
        "from hsifcn.cli import main\nmain()"
    )
    return script(tmp_path_factory.mktemp("bin") / "hsifcn", code)


def test_results_messages_and_progress_come_through(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/of/qgis")
    code = (
        "import json, os, sys\n"
        "for line in ('progress 1/4', 'scene: a', 'progress 4/4'): print(line, file=sys.stderr)\n"
        "print(json.dumps({'given': sys.argv[1:], 'home': os.environ.get('PYTHONHOME')}))"
    )
    # PYTHONHOME would keep the script itself from starting, had it been passed on.
    feedback = Feedback()
    result = plugin.run_command(script(tmp_path / "c", code), ["train", "a b.tif"], feedback)
    assert result == {"given": ["train", "a b.tif", "--json"], "home": None}
    assert feedback.progress == [25, 100]
    assert feedback.lines == ["scene: a"]


def test_training_tells_its_progress(tmp_path, hsifcn_command):
    feedback = Feedback()
    arguments = ["train", str(finished_folder() / "cube.mat"), "-o", str(tmp_path / "r")]
    metrics = plugin.run_command(hsifcn_command, [*arguments, "--steps", "4"], feedback)
    assert metrics["steps"] == 4
    assert feedback.progress == [25, 50, 75, 100]


def test_an_error_is_the_line_of_the_command(hsifcn_command):
    with pytest.raises(plugin.CommandError, match=r"^error: .*none.tif does not exist"):
        plugin.run_command(hsifcn_command, ["predict", "none.tif"], Feedback())


def test_cancel_ends_the_process_and_leaves_no_half_file(tmp_path):
    started = tmp_path / "started"
    code = (
        f"import os, pathlib, time\npathlib.Path({str(started)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(60)"
    )
    began = time.monotonic()
    with pytest.raises(plugin.CancelledError):
        plugin.run_command(script(tmp_path / "c", code), [], Feedback(until=started))
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_a_deaf_process_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin, "PATIENCE", 0.2)
    started = tmp_path / "started"
    code = (
        "import os, pathlib, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(started)!r}).write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    with pytest.raises(plugin.CancelledError):
        plugin.run_command(script(tmp_path / "c", code), [], Feedback(until=started))
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_the_command_is_found_as_named_or_on_the_path(tmp_path, monkeypatch):
    monkeypatch.delenv("HSIFCN_COMMAND", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert plugin.find_command() is None
    path = script(tmp_path / "hsifcn", "")
    assert plugin.find_command() == path
    assert plugin.find_command("/no/such/hsifcn") is None
    other = script(tmp_path / "other", "")
    assert plugin.find_command(f" {other} ") == other


def test_the_zip_is_what_plugins_qgis_org_asks_for(tmp_path):
    path = load(QGIS / "build.py").build(tmp_path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        metadata = configparser.ConfigParser(interpolation=None)
        metadata.read_string(archive.read("hsifcn_qgis/metadata.txt").decode())
    assert {name.split("/")[0] for name in names} == {"hsifcn_qgis"}
    assert {"hsifcn_qgis/__init__.py", "hsifcn_qgis/LICENSE"} <= set(names)
    # docs.qgis.org, PyQGIS cookbook, "Releasing your plugin": metadata that is required
    required = {
        *("name", "qgisMinimumVersion", "description", "about", "version", "author", "email"),
        *("repository", "tracker"),
    }
    assert {key.lower() for key in required} <= set(metadata["general"])
    assert metadata["general"]["hasProcessingProvider"] == "yes"


PROCESS = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
needs_qgis = pytest.mark.skipif(PROCESS is None, reason="qgis_process is not installed")


@pytest.fixture(scope="module")
def qgis(tmp_path_factory, hsifcn_command):
    """Runs an algorithm through ``qgis_process`` with the plugin enabled in a fresh profile."""
    profile = tmp_path_factory.mktemp("profile")
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_PLUGINPATH": str(QGIS),
        "QGIS_CUSTOM_CONFIG_PATH": str(profile),
        "XDG_RUNTIME_DIR": str(profile),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HSIFCN_COMMAND": hsifcn_command,
    }

    def call(*words, **changed):
        done = subprocess.run(
            [PROCESS, *map(str, words)],
            env={**environment, **changed},
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )
        return done.returncode, done.stdout + done.stderr

    call("plugins", "enable", "hsifcn_qgis")
    return call


def a_place(folder):
    """A GeoTIFF of a small scene and polygons of its fields."""
    cube = np.load(finished_folder() / "scene.npy")
    labels = scipy.io.loadmat(finished_folder() / "cube_gt.mat")["cube_gt"]
    rows, cols, bands = cube.shape
    transform = from_origin(4e5, 5.2e6, 30, 30)
    size = {"height": rows, "width": cols, "count": bands, "dtype": cube.dtype}
    with rasterio.open(
        folder / "s.tif", "w", driver="GTiff", crs="EPSG:32633", transform=transform, **size
    ) as file:
        file.write(cube.transpose(2, 0, 1))
    found = [
        (shapely.geometry.shape(shape), f"crop {int(label)}")
        for shape, label in rasterio.features.shapes(labels, labels > 0, transform=transform)
    ]
    shapes, names = zip(*found, strict=True)
    raw.write(
        folder / "fields.gpkg",
        geometry=shapely.to_wkb(np.array(shapes)),
        field_data=[np.array(names, object)],
        fields=["crop"],
        geometry_type="Polygon",
        crs="EPSG:32633",
        driver="GPKG",
    )


@pytest.mark.qgis
@pytest.mark.slow
@needs_qgis
def test_from_polygons_to_a_map_in_qgis(tmp_path, qgis):
    a_place(tmp_path)
    run, scene = tmp_path / "run", f"SCENE={tmp_path / 's.tif'}"
    labels = [f"LABELS={tmp_path / 'fields.gpkg'}", "FIELD=crop"]
    code, said = qgis("run", "hsifcn:train", "--", scene, *labels, "STEPS=30", f"RUN={run}")
    assert code == 0, said
    assert (run / "report.html").exists()
    code, said = qgis(
        *("run", "hsifcn:predict", "--", f"MODEL={run / 'model.safetensors'}", scene),
        f"MAP={tmp_path / 'map.tif'}",
    )
    assert code == 0, said
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs.to_epsg() == 32633
        assert file.colormap(1)[1] != file.colormap(1)[2]
    code, said = qgis(
        *("run", "hsifcn:evaluate", "--", f"MAP={tmp_path / 'map.tif'}", *labels),
        f"RESULT={tmp_path / 'result.json'}",
    )
    assert code == 0, said
    assert json.loads((tmp_path / "result.json").read_text("utf-8"))["oa"] > 0.9


@pytest.mark.qgis
@pytest.mark.slow
@needs_qgis
def test_qgis_without_the_command_says_how_to_get_it(tmp_path, qgis):
    a_place(tmp_path)
    arguments = [f"MODEL={tmp_path}/m.safetensors", f"SCENE={tmp_path}/s.tif", "MAP=map.tif"]
    code, said = qgis("run", "hsifcn:predict", "--", *arguments, HSIFCN_COMMAND="/no/hsifcn")
    assert code != 0
    assert "pip install hsifcn" in said
    assert "Traceback" not in said
