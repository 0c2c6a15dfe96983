"""Scenes at addresses: real servers of HTTP and S3, those that fail, and what is told of them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.io
from cli_helpers import assert_refused, command, copy_of_finished, finished_folder
from io_samples import sample_cube, write_envi

from hsifcn.core.errors import FailedError, HsifcnError, SettingError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.inference import tiling
from hsifcn.inference.campaign import parts
from hsifcn.inference.campaign.job import Job, map_scene
from hsifcn.inference.campaign.scene_list import Task
from hsifcn.io import open_scene, remote, stores
from hsifcn.io.addresses import parse_address, source_of, without_secrets
from hsifcn.io.remote import look_up, matching_scenes, open_scene_at, remove_copy

for package in ("aiohttp", "s3fs"):
    pytest.importorskip(package, reason="pip install -e '.[remote]'")

SECRET = "sig=s3cret"


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; paths that begin with a word of ``do_GET`` misbehave."""

    def do_HEAD(self):
        self.do_GET(head=True)

    def do_GET(self, head=False):
        path, _, query = self.path.partition("?")
        _, how, *rest = path.split("/", 2)
        self.server.asked.append(f"{self.command} {path}")
        file = Path(self.directory, *rest)
        if how in {"half", "long", "more"} and file.is_file() and not self.server.mended:
            return self.send_odd(how, file.read_bytes(), head)
        if how == "silent" and self.server.silence.wait(5):
            return None
        if how == "moved":
            return self.redirect(f"/{rest[0]}?{SECRET}&x=1")
        if how in {"file", "ftp"}:
            return self.redirect(f"{how}:///etc/{rest[0]}?{SECRET}")
        if how == "broken":
            return self.send_error(500)
        if how == "signed" and query != SECRET:
            return self.send_error(403)
        self.path = f"/{rest[0]}" if how in {"signed", "half"} else path
        return super().do_HEAD() if head else super().do_GET()

    def send_odd(self, how, content, head):
        """State another length than comes: the connection ends, or the first answer was wrong."""
        stated = len(content)
        if head:
            stated += {"half": 0, "long": 7, "more": -7}[how]
        self.send_response(200)
        self.send_header("Content-Length", str(stated))
        self.end_headers()
        if not head:
            self.wfile.write(content[: stated // 2] if how == "half" else content)

    def redirect(self, place):
        self.send_response(302)
        self.send_header("Location", place)
        self.end_headers()

    def log_message(self, *words):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server over the folder ``store``; its ``url`` ends without a slash."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    for name in ("store", "temporary"):
        (tmp_path / name).mkdir()
    handler = partial(Handler, directory=str(tmp_path / "store"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.url = f"http://127.0.0.1:{running.server_port}"
        running.folder = tmp_path / "store"
        running.asked, running.mended = [], False
        running.handle_error = lambda *who: None  # of clients that hang up
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        running.silence = threading.Event()
        yield running
        running.silence.set()
        running.shutdown()
    remove_copy()
    assert os.listdir(tmp_path / "temporary") == []


def voxels(scene):
    return scene.read(Window(0, 0, *scene.shape[:2]))


def open_at(address):
    return open_scene_at(address, wavelengths=None, nodata=None)


# Texts


@pytest.mark.parametrize(
    ("text", "source", "name"),
    [
        (f"https://me:pass@h:80/a b/x.img?{SECRET}", "https://h:80/a b/x.img", "x.img"),
        (f"https://h/x.mat:/one/two?{SECRET}", "https://h/x.mat:/one/two", "x.mat"),
        ("/vsicurl/https://h/x.img", "https://h/x.img", "x.img"),
        ("/vsis3/store/a/x.tif", "s3://store/a/x.tif", "x.tif"),
        ("/vsigs/store/x.tif", "gs://store/x.tif", "x.tif"),
        ("s3://store/x.zarr/", "s3://store/x.zarr", "x.zarr"),
        ("abfs://box@account/x.tif", "abfs://box@account/x.tif", "x.tif"),
        (f"https://me:pa'ss:word@h/x.img?{SECRET}", "https://h/x.img", "x.img"),
        (f"s3://key:se/cret@store/x.tif?{SECRET}", "s3://store/x.tif", "x.tif"),
        ("https://h:80/a@2:b/x@1.img", "https://h:80/a@2:b/x@1.img", "x@1.img"),
    ],
)
def test_addresses_are_told_without_secrets(text, source, name):
    assert source_of(text) == source
    assert parse_address(text).name == name


def test_secrets_are_taken_out_of_messages():
    text = f"403, message='No', url='https://me:p@h/x?{SECRET}' then s3://b/k?{SECRET} (again)"
    assert without_secrets(text) == "403, message='No', url='https://h/x' then s3://b/k (again)"


@pytest.mark.parametrize(
    "given",
    [
        ("predict", "https://me:pass@h/m.safetensors", "x.npy"),
        ("predict", f"https://h/m.safetensors?{SECRET}", "x.npy"),
        ("predict", f"@https://h/list.txt?{SECRET}"),
        ("predict", f"https://h/*.tif?{SECRET}"),
        ("info", f"s3://key:pass@store/x.tif?{SECRET}"),
        ("info", "x.npy", "--wavelengths", f"https://me:pass@h/w.txt?{SECRET}"),
    ],
)
def test_an_address_for_anything_else_is_refused_without_its_secrets(given, tmp_path):
    np.save(tmp_path / "x.npy", sample_cube())
    options = ["--allow-remote"] if given[0] == "predict" else []
    done = command(tmp_path, *given, *options, "-q")
    assert_refused(done, "://")
    assert SECRET not in done.err
    assert "pass@" not in done.err


@pytest.mark.parametrize(
    "text",
    [
        *("file:///etc/x.img", "ftp://h/x.img", "zip://x.img", "reference://x.json"),
        *("/vsizip/x.zip/x.img", "/vsis3_streaming/b/x.img", "/vsicurl/file:///etc/x.img"),
        *("s3://store", "https://h/a/..", "https://h/..\\x.img", "https://[h/x.img"),
    ],
)
def test_other_addresses_are_refused(text):
    with pytest.raises(UnreadableFileError) as error:
        parse_address(text)
    assert str(error.value).startswith(text)


def test_a_missing_package_is_told_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(SettingError, match=r"https:// needs .*pip install 'hsifcn\[remote\]'"):
        look_up("https://h/x.img")


# Copies


def write_tiff(path, cube, mask=None):
    rows, cols, bands = cube.shape
    profile = {"height": rows, "width": cols, "count": bands, "dtype": cube.dtype}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(path, "w", driver="GTiff", **profile) as file,
    ):
        file.write(cube.transpose(2, 0, 1))
        if mask is not None:
            file.write_mask(mask)


def test_every_format_is_read_as_the_file_is(server):
    cube = sample_cube((6, 5, 4), "i2")
    write_envi(server.folder / "pair.img", cube, wavelength="{500, 600, 700, 800}")
    write_envi(server.folder / "odd.v2", cube, header=server.folder / "odd.v2.hdr")
    write_envi(server.folder / "upper.DAT", cube, header=server.folder / "upper.HDR")
    write_tiff(server.folder / "masked.tif", cube, np.eye(6, 5, dtype=bool) == 0)
    assert (server.folder / "masked.tif.msk").exists()
    np.save(server.folder / "plain.npy", cube)
    scipy.io.savemat(server.folder / "two.mat", {"a": cube, "b": cube + 1})
    import zarr

    store = zarr.create_array(server.folder / "s.zarr", shape=cube.shape, dtype=cube.dtype)
    store[:] = cube
    names = ("pair.img", "pair.hdr", "odd.v2", "odd.v2.hdr", "upper.HDR", "masked.tif")
    for name in (*names, "plain.npy", "two.mat:b", "s.zarr"):
        given, found = open_scene(server.folder / name), open_at(f"{server.url}/{name}?{SECRET}")
        assert found.path.startswith(f"{server.url}/{name.partition(':')[0]}"), name
        assert "?" not in found.path
        assert np.array_equal(voxels(found), voxels(given), equal_nan=name == "masked.tif"), name
        assert repr(found.nodata) == repr(given.nodata)
        if given.wavelengths is not None:
            assert found.wavelengths.tolist() == given.wavelengths.tolist()
    assert len(os.listdir(tempfile.gettempdir())) == 1


def test_redirects_and_signed_addresses(server):
    cube = sample_cube()
    write_envi(server.folder / "x.img", cube)
    for address in ("moved/x.img", f"signed/x.img?{SECRET}"):
        assert np.array_equal(voxels(open_at(f"{server.url}/{address}")), cube)
    with pytest.raises(UnreadableFileError, match=r"signed/x.img may not be read"):
        open_at(f"{server.url}/signed/x.img?wrong=1")


@pytest.mark.parametrize(
    ("address", "error", "part"),
    [
        ("nosuch.img", UnreadableFileError, "nosuch.img does not exist"),
        ("half/x.img", FailedError, "x.img cannot be copied: the connection was lost;"),
        ("long/x.img", FailedError, "x.img: 240 of 247 bytes came"),
        ("more/x.npy", FailedError, "x.npy: more came than the 361 bytes stated"),
        ("file/passwd.img", FailedError, "passwd.img cannot be copied: file:///etc/passwd.img;"),
        ("ftp/x.img", FailedError, "x.img cannot be copied: ftp:///etc/x.img;"),
        ("broken/x.img", FailedError, "x.img cannot be copied: 500"),
        ("damaged.tif", UnreadableFileError, "damaged.tif"),
        ("alone.img", UnreadableFileError, "alone.img has no ENVI header beside it"),
        ("folder", UnreadableFileError, "folder is a folder or a web page"),
        ("s.zarr", UnreadableFileError, "s.zarr does not exist"),
    ],
)
def test_what_fails_is_told_in_one_line_and_leaves_nothing(server, address, error, part):
    write_envi(server.folder / "x.img", sample_cube())
    np.save(server.folder / "x.npy", sample_cube())
    (server.folder / "alone.img").write_bytes(bytes(240))
    (server.folder / "damaged.tif").write_bytes(b"II*\0 and no more")
    (server.folder / "folder").mkdir()
    with pytest.raises(error) as caught:
        open_at(f"{server.url}/{address}?{SECRET}")
    text = str(caught.value)
    assert part in text
    assert server.url in text
    assert "\n" not in text
    assert SECRET not in text
    assert tempfile.gettempdir() not in text


def test_a_server_that_says_nothing(server, monkeypatch):
    monkeypatch.setattr(stores, "READ_S", 0.1)
    with pytest.raises(FailedError, match=r"x.img cannot be copied: Timeout"):
        open_at(f"{server.url}/silent/x.img")


def test_a_server_that_is_gone(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(FailedError, match=r"x.img cannot be copied: Cannot connect.*; check"):
        open_at(f"{server.url}/x.img")


def test_a_disk_that_is_too_small(server, monkeypatch):
    write_envi(server.folder / "x.img", sample_cube())
    usage = remote.shutil.disk_usage(server.folder)
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda path: usage._replace(free=239))
    with pytest.raises(FailedError, match=r"x.img has .*TMPDIR"):
        open_at(f"{server.url}/x.img")
    assert not {"GET /x.img", "GET /x.hdr"} & set(server.asked)


def test_a_scene_is_copied_once_until_it_changes(server):
    path = write_envi(server.folder / "x.img", sample_cube())
    before = look_up(f"{server.url}/x.img").digest
    for _ in range(3):
        voxels(open_at(f"{server.url}/x.img"))
    assert server.asked.count("GET /x.img") == 1
    os.utime(path, (1e9, 1e9))
    assert look_up(f"{server.url}/x.img").digest != before
    voxels(open_at(f"{server.url}/x.img"))
    assert server.asked.count("GET /x.img") == 2


# S3


@pytest.fixture
def bucket(server, monkeypatch):
    """A bucket of an S3 server, to put objects into by another library."""
    moto = pytest.importorskip("moto.server", reason="pip install -e '.[test]'")
    import boto3
    import s3fs

    running = moto.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    for key, value in (*((key, "k") for key in keys), ("AWS_DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    store = boto3.resource("s3").create_bucket(Bucket="store")
    yield store
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


@pytest.mark.slow
def test_scenes_in_s3(bucket, tmp_path, monkeypatch):
    import zarr

    monkeypatch.setattr(stores, "BLOCK", 100)  # so that these files are large
    cube = sample_cube((6, 5, 4), "i2")
    write_envi(tmp_path / "x.img", cube)
    write_tiff(tmp_path / "y.tif", cube)
    array = zarr.create_array(tmp_path / "z.zarr", shape=cube.shape, dtype=cube.dtype)
    array[:] = cube
    files = [tmp_path / "x.img", tmp_path / "x.hdr", tmp_path / "y.tif"]
    files += [path for path in (tmp_path / "z.zarr").rglob("*") if path.is_file()]
    for path in files:
        bucket.upload_file(str(path), f"2026/{path.relative_to(tmp_path).as_posix()}")
    bucket.put_object(Key="2026/x/", Body=b"")  # a folder, which the file x would be taken for
    for name in ("x.img", "x.hdr", "y.tif", "z.zarr"):
        scene = open_at(f"s3://store/2026/{name}")
        assert np.array_equal(voxels(scene), cube)
        assert scene.path == f"s3://store/2026/{name}"
    found = matching_scenes("s3://store/2026/*")
    assert found == [f"s3://store/2026/{name}" for name in ("x.img", "y.tif", "z.zarr")]
    assert matching_scenes("/vsis3/store/20*/*.tif") == ["s3://store/2026/y.tif"]
    before = look_up("s3://store/2026/y.tif").digest
    assert look_up("s3://store/2026/y.tif").digest == before
    bucket.put_object(Key="2026/y.tif", Body=b"another")
    assert look_up("s3://store/2026/y.tif").digest != before
    bucket.put_object(Key="2026/z.zarr/../../evil.txt", Body=b"evil")
    for address, part in (
        ("s3://store/2026/z.zarr", "z.zarr names files outside of it"),
        ("s3://store/2026/none.tif", "none.tif does not exist"),
        ("s3://nosuch/x.tif", "s3://nosuch/x.tif cannot be copied: .*bucket does not exist"),
    ):
        with pytest.raises(HsifcnError, match=part):
            open_at(address)


# Maps


@pytest.fixture
def store(server, tmp_path):
    """Three scenes on the server; gives it."""
    copy_of_finished(tmp_path)
    cube = np.load(finished_folder() / "scene.npy")
    for shift in range(3):
        write_envi(server.folder / f"f{shift}.img", np.roll(cube, shift, 0))
    return server


def local_maps(folder):
    """The bytes of the maps of the files."""
    given = ["predict", "runs/cube", "store/*.img", "-o", "local", "--workers", 1, "-q"]
    assert command(folder, *given).code == 0
    return maps_in(folder / "local")


def maps_in(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*_map.img")}


def written(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_one_scene_at_an_address(store, tmp_path):
    given = ["predict", "runs/cube", f"{store.url}/signed/f0.img?{SECRET}", "-o", "map.img"]
    refused = command(tmp_path, *given, "-q")
    assert_refused(refused, f"{store.url}/signed/f0.img is an address", "--allow-remote")
    assert SECRET not in refused.err
    assert store.asked == []
    refused = command(tmp_path, *given[:3], "--allow-remote", "-o", "s3://store/maps", "-q")
    assert_refused(refused, "-o is an address", "name a folder")
    done = command(tmp_path, *given, "--allow-remote", "--stac", "--json")
    assert done.code == 0, done.err
    assert done.json["request"]["scene"]["path"] == f"{store.url}/signed/f0.img"
    assert command(tmp_path, "predict", "runs/cube", "store/f0.img", "-o", "l.img").code == 0
    assert (tmp_path / "map.img").read_bytes() == (tmp_path / "l.img").read_bytes()
    told = done.out + done.err + "".join(p.read_text() for p in tmp_path.glob("map*.*json"))
    assert SECRET not in told
    assert tempfile.gettempdir() not in told
    again = command(tmp_path, *given, "--allow-remote")
    assert "map.img is already this very map" in again.err
    os.utime(store.folder / "f0.img", (1e9, 1e9))
    assert_refused(command(tmp_path, *given, "--allow-remote", "-q"), "map.img exists", "another")
    lost = command(tmp_path, "predict", f"{store.url}/half/f0.img", "--allow-remote", "-q")
    assert_refused(lost, "half/f0.img cannot be copied", code=1)


def test_a_run_that_names_an_address_is_not_followed(store, tmp_path):
    config = tmp_path / "runs/cube/config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "scenes": [f"{store.url}/f0.img"]}))
    done = command(tmp_path, "predict", "runs/cube", "--allow-remote", "-q")
    assert_refused(done, "f0.img is an address")
    assert store.asked == []


@pytest.mark.slow
def test_a_scene_that_is_mapped_in_parts_is_copied_once(store, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_PIXELS", 20_000)
    monkeypatch.setattr(tiling, "largest_tile", lambda halo: 10_000)
    cube = np.load(tmp_path / "scene.npy")
    np.save(store.folder / "large.npy", np.tile(cube, (60, 4, 1)))
    given = ("predict", "runs/cube", "store/large.npy", "-o", "whole.img", "-q")
    assert command(tmp_path, *given, "--precision", "float32").code == 0
    (tmp_path / "manifest.jsonl").write_text('{"id": "mine"}\n')
    model = tmp_path / "runs/cube/model.safetensors"
    job = Job(
        versions={},
        model=str(model),
        model_sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        manifest=str(tmp_path / "manifest.jsonl"),
        id="mine",
        options={"precision": "float32"},
        in_parts=True,
    )
    task = Task(f"{store.url}/large.npy", str(tmp_path / "map.img"))
    cut = map_scene(job, task)["cut"]
    assert len(cut["rows"]) > 1
    for part in range(len(cut["rows"])):
        assert map_scene(job, replace(task, cut=cut, part=part))["status"] == "part"
    assert map_scene(job, replace(task, cut=cut))["status"] == "done"
    assert store.asked.count("GET /large.npy") == 1
    assert (tmp_path / "map.img").read_bytes() == (tmp_path / "whole.img").read_bytes()


@pytest.mark.slow
def test_a_campaign_over_addresses(store, tmp_path):
    expected = local_maps(tmp_path)
    names = ["f0.img", "half/f1.img", "f2.img"]
    lines = [f"{store.url}/signed/{names[0]}?{SECRET}"]
    lines += [f"{store.url}/{name}" for name in names[1:]]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    given = ["predict", "runs/cube", "@list.txt", "-o", "maps", "--workers", 2]
    assert_refused(command(tmp_path, *given, "-q"), "signed/f0.img is an address")
    done = command(tmp_path, *given, "--allow-remote", "--json")
    assert done.code == 1
    assert "error: 1 of 3 scenes failed" in done.err
    (failed,) = done.json["failed"]
    assert failed["scene"] == f"{store.url}/half/f1.img"
    assert failed["cause"].startswith(f"{store.url}/half/f1.img cannot be copied: ")
    missing = expected.pop("f1_map.img")
    assert maps_in(tmp_path / "maps") == expected

    # Again: what is done is not copied again, and the one that failed only when asked for.
    store.asked.clear()
    again = command(tmp_path, *given, "--allow-remote")
    assert "3 of 3 scenes were dealt with before" in again.err
    assert "GET /f2.img" not in store.asked
    store.mended = True
    retried = command(tmp_path, *given, "--allow-remote", "--retry-failed")
    assert retried.code == 0, retried.err
    assert "2 of 3 scenes were dealt with before" in retried.err
    assert maps_in(tmp_path / "maps") == {**expected, "f1_map.img": missing}

    # A scene that changed is mapped again.
    (store.folder / "f2.img").write_bytes((store.folder / "f0.img").read_bytes())
    os.utime(store.folder / "f2.img", (1e9, 1e9))
    changed = command(tmp_path, *given, "--allow-remote")
    assert "2 of 3 scenes were dealt with before" in changed.err
    assert (tmp_path / "maps/f2_map.img").read_bytes() == expected["f0_map.img"]
    told = written(tmp_path / "maps") + (done.out + done.err + changed.err).encode()
    assert SECRET.encode() not in told
    assert tempfile.gettempdir().encode() not in told


@pytest.mark.slow
def test_shards_and_a_pattern_in_s3(bucket, store, tmp_path):
    expected = local_maps(tmp_path)
    for path in store.folder.iterdir():
        bucket.upload_file(str(path), f"flights/{path.name}")
    given = ["predict", "runs/cube", "s3://store/flights/*", "--allow-remote", "--workers", 1]
    for shard in ("1/2", "2/2"):
        done = command(tmp_path, *given, "-o", "maps", "--shard", shard)
        assert done.code == 0, done.err
    assert command(tmp_path, "predict", "--assemble", "-o", "maps").code == 0
    assert maps_in(tmp_path / "maps") == expected
    assert_refused(
        command(tmp_path, *given[:2], "s3://store/none/*", "--allow-remote", "-q"),
        "s3://store/none/* holds no scene",
    )
