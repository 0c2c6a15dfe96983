"""Small files that would take much: refused, or read no further than is needed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pytest
import rasterio
from cli_helpers import ENVIRONMENT
from io_samples import sample_cube, write_envi
from rasterio.transform import from_origin
from rasterio.windows import Window
from vector_samples import EAST, MAP_INFO, NORTH, UTM, block, write_shapes

from hsifcn.core.errors import HsifcnError, MismatchError, UnreadableFileError
from hsifcn.core.process import peak_rss_bytes
from hsifcn.io import child, open_labels, open_scene

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SIDE = 40_000  # 1.6 GB of labels


@pytest.fixture
def scene(tmp_path):
    return open_scene(write_envi(tmp_path / "x.img", sample_cube((10, 12, 3)), map_info=MAP_INFO))


def label_bomb(path, **profile):
    """A label raster of zeros that are not stored, but for one block; what follows is idle."""
    shape = {"height": SIDE, "width": SIDE, "count": 1, "dtype": "uint8"}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True}
    with rasterio.open(path, "w", "GTiff", compress="deflate", **shape, **tiles, **profile) as file:
        file.write(np.full((1, 512, 512), 3, np.uint8), window=Window(0, 0, 512, 512))
    with path.open("ab") as file:
        file.write(bytes(1_000_000))
    assert path.stat().st_size < 2_000_000
    return path


def test_labels_of_another_size_are_not_unpacked(tmp_path, scene):
    path, before = label_bomb(tmp_path / "l.tif"), peak_rss_bytes()
    with pytest.raises(MismatchError, match=r"l\.tif is 40000x40000 pixels"):
        open_labels(path, like=scene)
    assert peak_rss_bytes() < before + 300e6


def test_of_a_label_raster_of_a_country_the_part_at_the_scene_is_read(tmp_path, scene):
    place = {"crs": UTM, "transform": from_origin(EAST - 40, NORTH + 40, 20, 20)}
    before = peak_rss_bytes()
    found = open_labels(label_bomb(tmp_path / "l.tif", **place), like=scene)
    assert found.labels.shape == (10, 12)
    assert found.codes == (3,)
    assert (found.coded() == 3).all()
    assert peak_rss_bytes() < before + 300e6
    away = {"crs": UTM, "transform": from_origin(EAST + 1000, NORTH, 20, 20)}
    with pytest.raises(HsifcnError, match="labels no pixel of"):
        open_labels(label_bomb(tmp_path / "a.tif", **away), like=scene)


SPARSE = {"sparse_ok": True, "tiled": True, "blockxsize": 16, "blockysize": 16}
STRIP = {"width": 17_000, "height": 17_000, "compress": "deflate", "blockysize": 17_000}


@pytest.mark.parametrize(
    ("read", "profile", "reason"),
    [
        (open_scene, {"width": 2, "height": 2, "count": 65_000}, "65000 bands"),
        (open_scene, {"width": 12_000_000, "height": 1, "count": 2, **SPARSE}, None),
        (open_labels, {"count": 1, **STRIP}, r"blocks of 0\.3 GB"),
    ],
)
def test_a_geotiff_of_unlikely_form_does_not_take_long(tmp_path, read, profile, reason):
    with rasterio.open(tmp_path / "x.tif", "w", "GTiff", dtype="uint8", **profile):
        pass
    used = sum(os.times()[:4])
    refused = pytest.raises(UnreadableFileError, match=reason) if reason else nullcontext()
    with refused:
        read(tmp_path / "x.tif")
    child._end_all()  # so that its time counts
    assert sum(os.times()[:4]) - used < 3


def views(path, name, layer):
    """A GeoPackage one of whose tables is a query without end."""
    write_shapes(path, [block(0, 0, 4, 5)], UTM, layer="v", label=[1])
    with sqlite3.connect(path) as database:
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({name})")]
        database.execute(f"DROP TABLE {name}")
        row = ", ".join("1" for _ in columns)
        database.execute(
            f"CREATE VIEW {name}({', '.join(columns)}) AS WITH RECURSIVE t AS (SELECT {row} UNION "
            f"ALL SELECT {row} FROM t) SELECT * FROM t"
        )
    return f"{path}:{layer}" if layer else str(path)


@pytest.mark.parametrize("name", ["v", "gpkg_contents", "gpkg_geometry_columns"])
@pytest.mark.parametrize("layer", [None, "v"])
def test_views_without_end_are_refused(tmp_path, scene, name, layer):
    path = views(tmp_path / "v.gpkg", name, layer)
    start = time.perf_counter()
    with pytest.raises(UnreadableFileError, match="is no table"):
        open_labels(path, like=scene)
    assert time.perf_counter() - start < 10


def test_what_ends_the_parser_is_refused_and_the_next_file_is_read(tmp_path, scene, monkeypatch):
    path = write_shapes(tmp_path / "v.gpkg", [block(0, 0, 4, 5)], UTM, label=[1])
    open_labels(path, like=scene)
    os.kill(child._idle[0]._process.pid, signal.SIGSEGV)
    with pytest.raises(UnreadableFileError, match=r"v\.gpkg cannot be parsed .*signal 11"):
        open_labels(path, like=scene)
    assert open_labels(path, like=scene).codes == (1,)


def test_the_parser_ends_with_the_process_that_asked(tmp_path):
    path = write_shapes(tmp_path / "v.gpkg", [block(0, 0, 4, 5)], UTM, label=[1])
    code = (
        "import os, signal, sys; from hsifcn.io import child, vectors;"
        f"vectors.parsed('labels', {str(path)!r}, None);"
        "parser = child._idle[0]._process.pid;"
        "print(parser, os.listdir(f'/proc/{parser}/cwd'), flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    python = [sys.executable, "-c", code]
    done = subprocess.run(python, env=ENVIRONMENT, capture_output=True, text=True)
    parser, _, beside = done.stdout.partition(" ")
    assert beside.strip() == "[]", done.stderr
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{parser}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{parser}")
