"""Exported models in ONNX Runtime against the maps and scores of the original."""

from __future__ import annotations

import json
import math
import urllib.request
from dataclasses import replace

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pystac.validation
import pytest
import rasterio
from cli_helpers import assert_refused, command, copy_of_finished, finished_folder
from rasterio.transform import from_origin
from referencing import Registry
from referencing.jsonschema import DRAFT7
from scenes import ArrayScene, random_bundle

from hsifcn.core.errors import FailedError, SettingError
from hsifcn.core.scene import Grid
from hsifcn.data.standardise import Scaling
from hsifcn.inference import export
from hsifcn.inference.export import choose_tiling, export_model
from hsifcn.inference.export_stac import map_item, model_item
from hsifcn.inference.predictor import Predictor
from hsifcn.io.crs import known_wkt
from hsifcn.models import MODELS

pytestmark = pytest.mark.usefixtures("small_models_in_module")
BETWEEN = {"fcn16s", "fcn4s", "fcn2s"}  # layers as in fcn32s, fcn8s and fcn1s
KINDS = [name for name, model in MODELS.items() if model.patch in (None, 5, 15)]
KINDS = [name for name in KINDS if name not in BETWEEN]


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(path, cube):
    """Probabilities, (classes, rows, cols), of a (rows, cols, bands) cube."""
    image = np.ascontiguousarray(cube.astype(np.float32).transpose(2, 0, 1)[None])
    return session(path).run(None, {"image": image})[0][0]


def labels_in(probabilities):
    """Labels as ``predict`` writes them: 0 where nothing was measured."""
    return np.where(probabilities.max(0) > 0, probabilities.argmax(0) + 1, 0)


def counts(rows, cols, bands=6, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(100, 9000, (rows, cols, bands)).astype(np.uint16)


def realistic_bundle(name, *, unit_length=False):
    """Six bands, one of them bad, counts of thousands, a temperature."""
    scaling = Scaling(np.linspace(3000, 6000, 5), np.linspace(1500, 2500, 5))
    if unit_length:
        scaling = Scaling(np.linspace(0.3, 0.5, 5), np.linspace(0.1, 0.2, 5), unit_length=True)
    return replace(
        random_bundle(name, scaling=scaling),
        good_bands=np.array([True, True, False, True, True, True]),
        wavelengths=np.linspace(400, 900.1, 6),
        class_names=("Mais", "Grünland", "草 <b>", 'd"'),
        class_codes=(1, 7, 112, 311),
        temperature=1.7,
    )


@pytest.mark.parametrize("name", KINDS)
def test_every_network_says_the_same_at_any_size(tmp_path, name):
    bundle = realistic_bundle(name)
    path = tmp_path / "m.onnx"
    export_model(bundle, path)
    for size in ((1, 1), (5, 40), (33, 18)):
        cube = counts(*size)
        wanted = Predictor(bundle).whole_scene_logits(ArrayScene(cube))
        exponents = np.exp(wanted - wanted.max(0))
        np.testing.assert_allclose(run(path, cube), exponents / exponents.sum(0), atol=1e-5)


@pytest.mark.parametrize("unit_length", [False, True])
@pytest.mark.parametrize("nodata", [None, 0.0, -9999.0, math.nan, 1e38])
def test_pixels_without_a_measurement_are_those_of_predict(tmp_path, nodata, unit_length):
    bundle = realistic_bundle("hsifcn", unit_length=unit_length)
    cube = counts(20, 21).astype(np.float32)
    cube[3, 4:9, 1] = 0 if nodata is None else nodata
    cube[8, 2:5] = 0 if nodata is None else nodata
    cube[12, 12, 5], cube[13, 13, 0] = np.nan, np.inf
    cube[15, 15, 2] = np.nan  # a bad band, which nobody looks at
    scene = ArrayScene(cube, nodata=nodata)
    result = export_model(bundle, tmp_path / "m.onnx", scene=scene)
    found = run(tmp_path / "m.onnx", cube)
    assert (labels_in(found) == Predictor(bundle).label_map(scene)).all()
    assert labels_in(found)[12, 12] == labels_in(found)[13, 13] == 0
    assert labels_in(found)[15, 15] > 0
    assert result["check"]["labels_equal"] == result["check"]["pixels"]
    # Deepness divides by 255 and the standard deviation that it is told.
    meta = metadata(tmp_path / "m.onnx")
    std = np.float32(meta["standardization_std"])
    again = (np.float32(cube * 1.0 / 255.0) - np.float32(meta["standardization_mean"])) / std
    assert (labels_in(run(tmp_path / "m.onnx", again)) == labels_in(found)).all()


def metadata(path):
    properties = onnx.load(path).metadata_props
    return {entry.key: json.loads(entry.value) for entry in properties}


def test_the_file_holds_all_and_old_runtimes_read_it(tmp_path):
    export_model(realistic_bundle("segnet"), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    # What ONNX Runtime 1.12 reads: onnxruntime.ai/docs/reference/compatibility.html
    assert model.ir_version <= 8
    assert model.opset_import[0].version <= 17
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("m.onnx", "m.onnx.json", "m.stac.json")
    ]


def utm(rows=20, cols=24, metres=2.5):
    grid = Grid(known_wkt("EPSG:32633"), (metres, 0.0, 4e5, 0.0, -metres, 5.2e6))
    return ArrayScene(counts(rows, cols), nodata=0.0, grid=grid)


def test_metadata_tells_what_a_user_needs(tmp_path):
    bundle = realistic_bundle("hsifcn")
    export_model(bundle, tmp_path / "m.onnx", scene=utm(), tile=64)
    meta = metadata(tmp_path / "m.onnx")
    # The keys of github.com/PUTvision/qgis-plugin-deepness, processing/models/model_base.py
    assert meta["model_type"] == "Segmentor"
    assert meta["class_names"] == {"0": "Mais", "1": "Grünland", "2": "草 <b>", "3": 'd"'}
    assert meta["resolution"] == 250
    assert meta["tile_size"] == meta["tiles_size"] == 64
    assert meta["seg_thresh"] == meta["seg_small_segment"] == 0
    assert len(meta["standardization_mean"]) == len(meta["standardization_std"]) == 6
    overlap = 64 * meta["tiles_overlap"] // 100
    assert overlap >= 32  # the default network sees 33 pixels
    assert meta["class_codes"] == [1, 7, 112, 311]
    assert meta["class_colours"] == [list(colour) for colour in bundle.colours]
    assert meta["wavelengths_nm"] == pytest.approx(np.linspace(400, 900.1, 6))
    assert meta["nodata"] == 0
    assert "training scenes" in meta["units"]
    assert meta["version"]
    taken, given = (
        session(tmp_path / "m.onnx").get_inputs(),
        session(tmp_path / "m.onnx").get_outputs(),
    )
    assert [tensor.shape[1:] for tensor in (*taken, *given)] == [[6, 64, 64], [4, 64, 64]]


def test_geoai_finds_its_sidecar(tmp_path):
    export_model(realistic_bundle("hsifcn"), tmp_path / "m.onnx", tile=96)
    sidecar = json.loads((tmp_path / "m.onnx.json").read_text("utf-8"))
    assert sidecar["task"] == "semantic-segmentation"
    assert {int(key): name for key, name in sidecar["id2label"].items()}[1] == "Grünland"
    assert sidecar["input_height"] == sidecar["input_width"] == 96


def test_tiles_put_together_are_the_whole_scene(tmp_path):
    bundle = realistic_bundle("hsifcn")
    side, overlap_percent = 64, export_model(bundle, tmp_path / "m.onnx", tile=64)["tiles_overlap"]
    overlap = side * overlap_percent // 100
    stride, half = side - overlap, overlap // 2
    size = side + 2 * stride
    cube = counts(size, size)
    whole = Predictor(bundle).label_map(ArrayScene(cube))
    for row in range(0, size - side + 1, stride):
        for col in range(0, size - side + 1, stride):
            tile = labels_in(run(tmp_path / "m.onnx", cube[row : row + side, col : col + side]))
            core = np.s_[half : side - half, half : side - half]
            assert (tile[core] == whole[row : row + side, col : col + side][core]).mean() > 0.999


@pytest.mark.parametrize(("name", "tile"), [("hsifcn", 30), ("fcn8s", 256), ("hsifcn", 40)])
def test_a_tile_that_is_too_small_is_refused_with_one_that_fits(name, tile):
    bundle = random_bundle(name)
    with pytest.raises(SettingError, match="--tile") as refused:
        choose_tiling(bundle, tile)
    proposed = int(refused.value.remedy.split()[2])
    assert choose_tiling(bundle, proposed).size == proposed > tile


def test_a_model_that_says_something_else_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(FailedError, match="off by"):
        export_model(realistic_bundle("hsifcn"), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports_the_map_of_predict(tmp_path):
    run_folder = copy_of_finished(tmp_path)
    done = command(tmp_path, "export", "-o", "m.onnx", "--json")
    assert done.code == 0, done.err
    assert done.json["check"]["largest_difference"] < 1e-4
    command(tmp_path, "predict", "-o", "map.npy", "-q")
    cube = np.load(finished_folder() / "scene.npy")
    found = run(tmp_path / "m.onnx", cube)
    assert (labels_in(found) == np.load(tmp_path / "map.npy")).all()
    assert_refused(command(tmp_path, "export", "-o", "m.onnx", "-q"), "m.onnx exists")
    assert command(tmp_path, "export", run_folder, "-o", "m.onnx", "--overwrite").code == 0


def test_a_model_alone_is_checked_on_made_up_spectra(tmp_path):
    run_folder = copy_of_finished(tmp_path)
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run_folder / "model.safetensors").read_bytes())
    done = command(tmp_path, "export", alone, "-o", "m.onnx")
    assert done.code == 0, done.err
    assert "made-up spectra" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "m.pt"], "no .onnx file"),
        (["-o", "none/m.onnx"], "no folder"),
        (["none.safetensors", "-o", "m.onnx"], "does not exist"),
        (["runs/cube", "wide.npy", "-o", "m.onnx"], "bands"),
        (["a", "b", "c"], "3 paths"),
    ],
)
def test_bad_input_gets_one_line(tmp_path, arguments, said):
    copy_of_finished(tmp_path)
    np.save(tmp_path / "wide.npy", np.ones((9, 9, 40), np.float32))
    assert_refused(command(tmp_path, "export", *arguments, "-q"), said)


def check_mlm(item):
    """Rules of github.com/stac-extensions/mlm v1.5.2, json-schema/schema.json, that concern us."""
    text = {"type": "string", "minLength": 1}
    shape = {"type": "array", "items": {"type": "integer", "minimum": -1}, "minItems": 1}
    structure = {
        "required": ["shape", "dim_order", "data_type"],
        "properties": {"shape": shape, "data_type": {"enum": ["float32"]}},
    }
    tasks = {"type": "array", "minItems": 1, "items": {"enum": ["semantic-segmentation"]}}
    properties = {
        "required": [
            *("mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output", "bands")
        ],
        "properties": {
            "mlm:name": {"pattern": r"^[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]$"},
            "mlm:architecture": text,
            "mlm:tasks": tasks,
            "mlm:input": {
                "items": {"required": ["name", "input"], "properties": {"input": structure}}
            },
            "mlm:output": {
                "items": {
                    "required": ["name", "tasks", "result"],
                    "properties": {"result": structure, "tasks": tasks},
                }
            },
        },
    }
    jsonschema.validate(item["properties"], properties)
    names = [band["name"] for band in item["properties"]["bands"]]
    assert item["properties"]["mlm:input"][0]["bands"] == names
    # A type of artifact and the role of a model come together, or not at all.
    assert item["assets"]
    for asset in item["assets"].values():
        assert bool(asset.get("mlm:artifact_type")) == ("mlm:model" in asset["roles"])


CLASS = {  # github.com/stac-extensions/classification v1.1.0
    "required": ["value", "name", "description"],
    "properties": {
        "value": {"type": "integer"},
        "name": {"pattern": "^[0-9A-Za-z-_]+$"},
        "color_hint": {"pattern": "^([0-9A-Fa-f]{6})$"},
    },
}


@pytest.mark.parametrize("scene", [None, utm()], ids=["no place", "UTM"])
def test_the_item_of_a_model_is_valid(tmp_path, scene):
    weights = tmp_path / "model.safetensors"
    item = model_item(realistic_bundle("hsifcn"), tmp_path / "m.onnx", weights, scene, None)
    check_core(item)
    check_mlm(item)
    classes = item["properties"]["mlm:output"][0]["classification:classes"]
    jsonschema.validate(classes, {"items": CLASS})
    assert [entry["value"] for entry in classes] == [0, 1, 2, 3]
    assert [entry["description"] for entry in classes][1] == "Grünland"


def published(uri):
    """A schema as its extension publishes it; skips the test where there is no network."""
    try:
        with urllib.request.urlopen(uri.rstrip("#"), timeout=10) as answer:
            return DRAFT7.create_resource(json.load(answer))
    except OSError as error:
        pytest.skip(f"the published schema {uri} cannot be fetched: {error}")


@pytest.mark.slow
def test_items_are_valid_by_the_published_schemas_in_full(tmp_path):
    bundle, scene = realistic_bundle("hsifcn"), utm()
    weights = tmp_path / "model.safetensors"
    items = [
        model_item(bundle, tmp_path / "m.onnx", weights, scene, None),
        map_item(bundle, scene, tmp_path / "m.tif", [tmp_path / "m.tif"]),
    ]
    registry = Registry(retrieve=published)
    for item in items:
        assert item["stac_extensions"]
        for uri in item["stac_extensions"]:
            schema = registry.get_or_retrieve(uri).value.contents
            jsonschema.Draft7Validator(schema, registry=registry).validate(item)


def test_stac_model_reads_the_item(tmp_path):
    schema = pytest.importorskip(
        "stac_model.schema", reason="stac-model is not installed: pip install stac-model"
    )
    item = model_item(realistic_bundle("hsifcn"), tmp_path / "m.onnx", None, utm(), 64)
    fields = {key: value for key, value in item["properties"].items() if key.startswith("mlm:")}
    told = schema.MLModelProperties(**fields)
    assert told.name == "hsifcn-hsifcn-4-classes"
    assert told.output[0].result.shape == [-1, 4, 64, 64]


def check_core(item):
    """The core schema of STAC 1.1, which pystac ships."""
    pystac.validation.validate_dict({**item, "stac_extensions": []})


def test_predict_writes_the_item_of_a_map(tmp_path):
    copy_of_finished(tmp_path)
    cube = np.load(tmp_path / "scene.npy")
    rows, cols, bands = cube.shape
    place = {"crs": "EPSG:32633", "transform": from_origin(4e5, 5.2e6, 30, 30)}
    size = {"height": rows, "width": cols, "count": bands, "dtype": cube.dtype}
    with rasterio.open(tmp_path / "s.tif", "w", driver="GTiff", **size, **place) as file:
        file.write(cube.transpose(2, 0, 1))
    done = command(tmp_path, "predict", "runs/cube", "s.tif", "-o", "m.tif", "--stac", "--json")
    assert done.code == 0, done.err
    item = json.loads((tmp_path / "m.stac.json").read_text("utf-8"))
    check_core(item)
    assert item["properties"]["proj:code"] == "EPSG:32633"
    assert item["properties"]["proj:shape"] == [rows, cols]
    with rasterio.open(tmp_path / "m.tif") as file:
        bounds = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
        written = set(np.unique(file.read(1)))
    assert item["bbox"] == pytest.approx(bounds, abs=1e-5)
    classes = item["assets"]["m.tif"]["classification:classes"]
    jsonschema.validate(classes, {"items": CLASS})
    assert written <= {entry["value"] for entry in classes}
    assert all((tmp_path / asset["href"]).exists() for asset in item["assets"].values())


def test_the_item_of_a_map_without_a_place_is_valid(tmp_path):
    scene = ArrayScene(counts(4, 5))
    item = map_item(realistic_bundle("hsifcn"), scene, tmp_path / "m.npy", [tmp_path / "m.npy"])
    check_core(item)
    assert item["geometry"] is None
