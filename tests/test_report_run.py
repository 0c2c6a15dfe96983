"""The page of a run, drawn from one real run and read back as a browser would."""

from __future__ import annotations

import base64
import copy
import csv
import hashlib
import io
import json
import re
import zlib

import numpy as np
import pytest
from cli_helpers import finished_folder
from page_reader import (
    CHROMIUM,
    Page,
    assert_all_shown,
    assert_needs_nothing,
    assert_sound,
    opened_in_a_browser,
    without_policy,
)
from PIL import Image
from scenes import ArrayScene

from hsifcn.core.errors import FailedError
from hsifcn.core.scene import Grid
from hsifcn.data.split import read_split
from hsifcn.inference.bundle import load_model
from hsifcn.inference.predictor import Predictor, packed_probabilities
from hsifcn.io import open_scene
from hsifcn.report import MappedScene, page, viewer, write_run_report
from hsifcn.report.viewer import viewer_data

MARKUP = ["Oats <b>&amp;</b>", "</script><script>alert(1)", "شعير"]


@pytest.fixture(scope="module")
def run():
    """Metrics, log and the mapped scene of a run of ``hsifcn train``."""
    folder = finished_folder()
    metrics = json.loads((folder / "runs/cube/metrics.json").read_text())
    with (folder / "runs/cube/log.csv").open() as file:
        log = [
            {key: float(value) if value else None for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
    scene, split = open_scene(folder / "scene.npy"), read_split(folder / "runs/cube/split.npz")
    predictor = Predictor(load_model(folder / "runs/cube/model.safetensors"))
    labels, confidence = predictor.labels_and_confidence(scene)
    odds = packed_probabilities(predictor, scene)
    codes = split.train + 2 * split.validation + 3 * split.test
    return metrics, log, MappedScene(scene, split.labels, labels, codes, confidence, odds)


def drawn(path, run, **changes):
    metrics, log, mapped = run
    write_run_report(path, metrics={**metrics, **changes}, log=log, scenes=[mapped])
    return path.read_text("utf-8")


def test_the_page_shows_the_numbers_of_the_run(tmp_path, run):
    metrics, _, _ = run
    text = Page(drawn(tmp_path / "page.html", run)).text
    expected = [f"{100 * metrics[key]:.2f} %" for key in ("oa", "aa", "kappa")]
    expected += [f"{metrics['params']:,} parameters", metrics["split"]["digest"]]
    expected += [f"{metrics['split']['n_test']:,} test pixels", metrics["versions"]["torch"]]
    expected += [metrics["command"], metrics["scene"]]
    for name, figures in metrics["per_class"].items():
        expected += [f"{100 * figures[key]:.2f}" for key in ("recall", "precision", "f1", "iou")]
        expected += [str(figures["n_train"]), str(figures["n_test"])]
        low, high = metrics["intervals"]["per_class"][name]["recall"]
        expected += [f"{100 * low:.1f} to {100 * high:.1f}"]
    expected += [str(count) for row in metrics["confusion"] for count in row if count]
    assert_all_shown(expected, text)


def test_classes_stand_with_the_codes_of_the_label_file(tmp_path, run):
    text = Page(drawn(tmp_path / "page.html", run, class_codes=[10, 20, 30])).text
    for code, name in zip((10, 20, 30), run[0]["class_names"], strict=True):
        assert text.count(f"{code} {name}") == 3  # legend, table, confusion matrix


@pytest.mark.parametrize("learnt", [False, True])
def test_it_says_whether_the_last_steps_learnt_the_validation_pixels(tmp_path, run, learnt):
    metrics, log, _ = run
    rows = copy.deepcopy(log)
    rows[0]["validation_oa"] = 0.5
    rows[-1]["validation_oa"] = None if learnt else 0.5
    write_run_report(tmp_path / "page.html", metrics=metrics, log=rows)
    text = Page((tmp_path / "page.html").read_text("utf-8")).text
    assert ("The last steps learnt the validation pixels too." in text) == learnt


def test_it_needs_nothing_and_lets_run_its_own_script_alone(tmp_path, run):
    source = drawn(tmp_path / "page.html", run)
    assert_needs_nothing(source)
    (script,) = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(v for t, name, v in Page(source).attributes if (t, name) == ("meta", "content"))
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    assert not re.search(r"\son\w+=", re.sub(r"<script.*?</script>", "", source, flags=re.DOTALL))


def test_names_are_text(tmp_path, run):
    metrics, log, mapped = copy.deepcopy(run)
    for key in ("per_class",):
        metrics[key] = dict(zip(MARKUP, metrics[key].values(), strict=True))
    metrics["class_names"] = MARKUP
    write_run_report(tmp_path / "page.html", metrics=metrics, log=log, scenes=[mapped])
    source = (tmp_path / "page.html").read_text("utf-8")
    read = Page(source)
    assert_all_shown(MARKUP, read.text)
    assert "b" not in read.tags
    assert read.tags.count("script") == 2  # the data of the viewer, and its code
    (data,) = re.findall(r'<script type="application/json" id="viewer-0">(.*?)</script>', source)
    assert json.loads(data)["names"] == MARKUP
    ids = [value for _, attribute, value in read.attributes if attribute == "id"]
    assert len(ids) == len(set(ids)) > 0


def test_what_is_missing_is_left_out(tmp_path, run):
    metrics = {**run[0], "calibration": None}  # whose chart takes long to draw
    for missing in metrics:
        kept = {key: value for key, value in metrics.items() if key != missing}
        for changed in (kept, {**metrics, missing: None}):
            write_run_report(tmp_path / "page.html", metrics=changed, log=[])
            assert_sound(Page((tmp_path / "page.html").read_text("utf-8")))
    write_run_report(tmp_path / "page.html", metrics={}, log=[])
    assert Page((tmp_path / "page.html").read_text("utf-8")).headings == []


def test_nan_is_printed_as_a_dash(tmp_path, run):
    per_class = copy.deepcopy(run[0]["per_class"])
    next(iter(per_class.values()))["precision"] = float("nan")
    assert_sound(Page(drawn(tmp_path / "page.html", run, per_class=per_class, kappa=float("nan"))))


@pytest.mark.parametrize(
    ("touching", "within_4", "warned"),
    [(0.05, 0.2, False), (0.051, 0.0, True), (0.0, 0.201, True), (None, None, False)],
)
def test_leaked_neighbours_are_warned_of(tmp_path, run, touching, within_4, warned):
    leakage = {"test_touching": touching, "test_within": {4: within_4}}
    source = drawn(tmp_path / "page.html", run, split={**run[0]["split"], "leakage": leakage})
    assert ("This accuracy rests on neighbours" in Page(source).text) is warned


def test_a_failed_write_leaves_the_old_page(tmp_path, run, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page.os, "fsync", full)
    with pytest.raises(FailedError, match=r"report\.html could not be written: No space left"):
        drawn(target, run)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_names_that_are_no_utf8_are_shown_escaped(tmp_path, run):
    assert "scene\\udcff.mat" in drawn(tmp_path / "page.html", run, scene="scene\udcff.mat")


def test_images_survive_and_large_ones_are_thinned():
    image = np.random.default_rng(0).integers(0, 256, (17, 50, 3)).astype(np.uint8)
    shown = page.picture(image, "map")
    np.testing.assert_array_equal(decoded(shown.source), image)
    assert shown.wide
    large = np.zeros((2500, 1000, 3), np.uint8)
    large[::3, ::3] = 200
    thinned = page.picture(large, "map")
    assert (decoded(thinned.source) == 200).all()
    assert "one row and column in 3" in thinned.caption


def decoded(source):
    head, _, body = source.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


def unpacked(text, dtype, shape):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype).reshape(shape)


def test_the_viewer_holds_every_pixel_and_its_spectrum(run):
    metrics, _, mapped = run
    data = viewer_data(mapped, metrics["class_names"], metrics["colours"])
    shape = mapped.truth.shape
    for key, wanted in (
        ("truth", mapped.truth),
        ("map", mapped.label_map),
        ("split", mapped.split),
    ):
        np.testing.assert_array_equal(unpacked(data[key], "<u2", shape), wanted)
    np.testing.assert_array_equal(
        unpacked(data["confidence"], np.uint8, shape), np.rint(100 * mapped.confidence)
    )
    odds = unpacked(data["probabilities"], np.uint8, (*shape, 3)).astype(int)
    assert (odds.argmax(2) + 1 == mapped.label_map).all()
    assert np.abs(odds.sum(2) - 255).max() <= 2
    assert np.abs(odds.max(2) / 2.55 - 100 * mapped.confidence).max() < 0.5
    cube = np.load(finished_folder() / "scene.npy")
    spectra = data["spectra"]
    codes = unpacked(spectra["values"], np.uint8, cube.shape).astype(float)
    values = spectra["low"] + codes / 255 * (spectra["high"] - spectra["low"])
    inside = (cube > spectra["low"]) & (cube < spectra["high"])
    assert np.abs(values - cube)[inside].max() <= (spectra["high"] - spectra["low"]) / 500
    for label, mean in enumerate(spectra["means"], start=1):
        np.testing.assert_allclose(mean, cube[mapped.truth == label].mean(0), rtol=1e-3)
    assert data["counts"][1:] == [int((mapped.label_map == k).sum()) for k in (1, 2, 3)]


def test_a_large_scene_is_an_overview_and_says_so(monkeypatch):
    monkeypatch.setattr(viewer, "LARGEST_SIDE", 30)
    monkeypatch.setattr(viewer, "SPECTRA_BYTES", 5000)
    cube = np.random.default_rng(0).normal(size=(50, 100, 70)).astype(np.float32)
    cube[0, 0] = np.nan
    labels = np.ones((50, 100), np.uint16)
    grid = Grid(None, (20.0, 0.0, 5e5, 0.0, -20.0, 5e6))
    mapped = MappedScene(
        ArrayScene(cube, grid=grid), labels, labels, labels, np.ones((50, 100), np.float32)
    )
    data = viewer_data(mapped, ("corn",), [(1, 2, 3)])
    assert (data["step"], data["rows"], data["cols"]) == (4, 13, 25)
    spectra = data["spectra"]
    rows, cols = -(-50 // spectra["step"]), -(-100 // spectra["step"])
    assert spectra["cols"] == cols
    assert len(unpacked(spectra["values"], np.uint8, -1)) == rows * cols * 16 <= 5000
    assert data["transform"] == list(grid.transform)
    assert len(json.dumps(data)) < 20_000


ACTIONS = """
<script>
setTimeout(() => {
  const v = viewers[0], told = document.createElement("pre");
  const at = (row, col) => {
    v.fit();
    const box = v.canvas.getBoundingClientRect();
    const x = box.left + (v.x + (col + .5) * v.scale) * box.width / v.canvas.width;
    const y = box.top + (v.y + (row + .5) * v.scale) * box.height / v.canvas.height;
    v.canvas.dispatchEvent(new PointerEvent("pointermove", {clientX: x, clientY: y}));
    return v.find("where").textContent;
  };
  const map = () => v.layer("Map").getContext("2d");
  const colour = (row, col) => [...map().getImageData(col, row, 1, 1).data];
  told.id = "told";
  const odds = () => [...v.root.querySelectorAll(".classes b")].map((b) => b.textContent);
  const result = {where: at(3, 7), odds: odds(), before: colour(3, 7)};
  const wheel = (deltaY) => {
    const event = new WheelEvent("wheel", {deltaY, cancelable: true});
    v.canvas.dispatchEvent(event);
    return event.defaultPrevented;
  };
  result.wheels = [wheel(1), wheel(-1), wheel(1), wheel(1)];
  v.root.querySelectorAll("input[type=checkbox]")[v.map[3 * v.data.cols + 7] - 1].click();
  result.after = colour(3, 7);
  v.root.querySelector(".classes button").click();
  result.again = colour(3, 7);
  const cell = [...document.querySelectorAll(".confusion td[title]")].find((c) => c.title);
  if (cell) cell.click();
  result.chosen = v.chosen;
  told.textContent = JSON.stringify(result);
  document.body.append(told);
}, 1000);
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")
def test_the_viewer_works_in_a_browser(tmp_path, run):
    metrics, _, mapped = run
    source = drawn(tmp_path / "report.html", run)
    shown = opened_in_a_browser(tmp_path / "report.html", tmp_path / "profile", "390,900")
    assert 'class="viewer ready"' in shown
    acted = without_policy(source).replace("</body>", ACTIONS + "</body>")
    (tmp_path / "acted.html").write_text(acted)
    shown = opened_in_a_browser(tmp_path / "acted.html", tmp_path / "profile")
    told = json.loads(re.search(r'<pre id="told">(.*?)</pre>', shown)[1])
    label = int(mapped.label_map[3, 7])
    name, percent = metrics["class_names"][label - 1], round(100 * float(mapped.confidence[3, 7]))
    assert told["where"].splitlines()[:2] == [
        "row 3, column 7",
        f"map: {label} {name}, {percent} %",
    ]
    shares = np.rint(mapped.probabilities[3, 7] / 2.55).astype(int)
    assert told["odds"] == [f"{share} %" if share else "" for share in shares]
    assert told["before"] == told["again"] == [*metrics["colours"][label - 1], 255]
    assert told["after"] == [38, 38, 38, 255]
    assert told["chosen"] == [1, 1]
    assert told["wheels"] == [False, True, True, False]  # the page scrolls past the whole scene
