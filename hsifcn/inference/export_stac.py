"""STAC items: of a model (Machine Learning Model extension 1.5), and of a map.

The extensions: github.com/stac-extensions/mlm, /classification, /projection, /raster.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hsifcn.core.process import versions
from hsifcn.core.scene import Grid, Scene
from hsifcn.inference.bundle import Bundle
from hsifcn.io.crs import known_wkt, parse_crs, reprojected
from hsifcn.io.files import write_json
from hsifcn.models import MODELS

EXTENSIONS = "https://stac-extensions.github.io"
MLM = f"{EXTENSIONS}/mlm/v1.5.2/schema.json"
CLASSIFICATION = f"{EXTENSIONS}/classification/v1.1.0/schema.json"
PROJECTION = f"{EXTENSIONS}/projection/v2.0.0/schema.json"
_WORLD = (-180.0, -90.0, 180.0, 90.0)
_EDGE_POINTS = 8  # along each side of a scene, as sides are no straight lines in degrees


def model_item(
    bundle: Bundle, onnx_path: Path, weights: Path | None, scene: Scene | None, tile: int | None
) -> dict[str, Any]:
    """The STAC item of a model, with its ONNX file and, if named, its weights as assets."""
    bands = band_objects(bundle)
    properties = {
        "description": f"{MODELS[bundle.spec.name].summary}; trained by hsifcn",
        **written_now(),
        "bands": bands,
        "mlm:name": f"hsifcn-{bundle.spec.name}-{bundle.spec.classes}-classes",
        "mlm:architecture": bundle.spec.name,
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "PyTorch",
        "mlm:framework_version": bundle.versions.get("torch", versions()["torch"]),
        "mlm:total_parameters": sum(tensor.numel() for tensor in bundle.weights.values()),
        "mlm:pretrained": True,
        "mlm:pretrained_source": None,
        "mlm:accelerator": None,
        "mlm:input": [input_object(bundle, tile or -1)],
        "mlm:output": [output_object(bundle, tile or -1)],
    }
    names = [{"name": band["name"]} for band in bands]  # without, the item may have none
    assets = {"model": onnx_asset(onnx_path) | {"bands": names}}
    if weights is not None:
        assets["weights"] = weights_asset(weights, onnx_path) | {"bands": names}
    return {
        **item(onnx_path.stem, scene),
        "stac_extensions": [MLM, CLASSIFICATION],
        "properties": properties,
        "assets": assets,
    }


def input_object(bundle: Bundle, side: int) -> dict[str, Any]:
    """What the model takes; ``side`` is that of a tile, -1 for any."""
    return {
        "name": "image",
        "bands": [band["name"] for band in band_objects(bundle)],
        "input": {
            "shape": [-1, len(bundle.good_bands), side, side],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": None,
        "resize_type": None,
        "description": "values as in the scene's file; scaling is part of the network",
    }


def output_object(bundle: Bundle, side: int) -> dict[str, Any]:
    """What the model gives; ``side`` is that of a tile, -1 for any."""
    return {
        "name": "probabilities",
        "tasks": ["semantic-segmentation"],
        "result": {
            "shape": [-1, bundle.spec.classes, side, side],
            "dim_order": ["batch", "class", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": classes_of(bundle, range(bundle.spec.classes)),
        "post_processing_function": None,
    }


def onnx_asset(path: Path) -> dict[str, Any]:
    """The file that other programs run."""
    return {
        "href": f"./{path.name}",
        "title": "ONNX",
        "type": "application/octet-stream; framework=onnx",
        "roles": ["mlm:model", "data"],
        "mlm:artifact_type": "onnx",
    }


def weights_asset(weights: Path, onnx_path: Path) -> dict[str, Any]:
    """The file that hsifcn reads; by its name where it lies beside the other."""
    same_folder = weights.absolute().parent == onnx_path.absolute().parent
    return {
        "href": f"./{weights.name}" if same_folder else weights.absolute().as_uri(),
        "title": "weights and settings, read by hsifcn",
        "type": "application/octet-stream; application=safetensors",
        "roles": ["mlm:model", "mlm:weights", "data"],
        "mlm:artifact_type": "safetensors.torch.save_file",
    }


def map_item(bundle: Bundle, scene: Scene, map_path: Path, files: list[Path]) -> dict[str, Any]:
    """The STAC item of a map, with its place and its classes.

    Parameters
    ----------
    bundle : Bundle
    scene : Scene
        That was mapped.
    map_path : Path
    files : list of Path
        All that belongs to it; the map first.
    """
    grid = scene.grid
    properties: dict[str, Any] = {
        "title": f"classes of {Path(scene.path).name}",
        **written_now(),
        "description": f"mapped by hsifcn {versions()['hsifcn']}",
    }
    extensions = [CLASSIFICATION]
    if grid is not None:
        extensions.append(PROJECTION)
        properties["proj:shape"] = list(scene.shape[:2])
        properties["proj:transform"] = list(grid.transform)
        properties |= crs_properties(grid)
    unclassified = {
        "value": 0,
        "name": "unclassified",
        "description": "unclassified",
        "nodata": True,
    }
    assets: dict[str, dict[str, Any]] = {
        file.name: {"href": f"./{file.name}", "roles": ["metadata"]} for file in files
    }
    assets[map_path.name] |= {
        "roles": ["data"],
        "type": media_type(map_path),
        "classification:classes": [unclassified, *classes_of(bundle, bundle.class_codes)],
    }
    return {
        **item(map_path.stem, scene),
        "stac_extensions": extensions,
        "properties": properties,
        "assets": assets,
    }


def write_map_item(bundle: Bundle, scene: Scene, result: dict[str, Any]) -> None:
    """Write the STAC item of a map; it is made anew, as it holds nothing but what is known."""
    path = Path(result["map"])
    result["stac"] = str(path.with_name(f"{path.stem}.stac.json"))
    others = [path.with_name(name) for name in result["files"] if name != path.name]
    write_json(Path(result["stac"]), map_item(bundle, scene, path, [path, *others]))


def item(name: str, scene: Scene | None) -> dict[str, Any]:
    """What every item has; without a place it has no geometry."""
    grid = None if scene is None else scene.grid
    outline = None
    if scene is not None and grid is not None:
        outline = outline_in_degrees(grid, scene.shape[:2])
    base: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        "geometry": None,
        "links": [],
    }
    if outline is None:
        return base
    xs, ys = zip(*outline, strict=True)
    base["geometry"] = {"type": "Polygon", "coordinates": [[list(point) for point in outline]]}
    base["bbox"] = [min(xs), min(ys), max(xs), max(ys)]
    return base


def written_now() -> dict[str, Any]:
    """Dates of an item: that of writing, as few files of scenes tell when they were taken."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"datetime": now, "created": now}


def outline_in_degrees(grid: Grid, shape: tuple[int, ...]) -> list[tuple[float, float]] | None:
    """Closed outline, longitudes and latitudes, anticlockwise; None where the CRS is unknown."""
    import numpy as np

    if not grid.crs or known_wkt(grid.crs) is None:
        return None
    rows, cols = shape
    t = np.linspace(0, 1, _EDGE_POINTS, endpoint=False)
    col = np.concatenate([0 * t, t, 0 * t + 1, 1 - t]) * cols
    row = np.concatenate([t, 0 * t + 1, 1 - t, 0 * t]) * rows
    a, b, c, d, e, f = grid.transform
    xs, ys = a * col + b * row + c, d * col + e * row + f
    longitudes, latitudes = reprojected(xs, ys, grid.crs, known_wkt("EPSG:4326"), "the scene")
    points = [
        (round(float(x), 7), round(float(y), 7)) for x, y in zip(longitudes, latitudes, strict=True)
    ]
    if not all(math.isfinite(value) for point in points for value in point):
        return None
    return [*points, points[0]]


def crs_properties(grid: Grid) -> dict[str, Any]:
    """The CRS by its EPSG code where it has one, else as PROJJSON or WKT."""
    wkt = known_wkt(grid.crs) if grid.crs else None
    if wkt is None:
        return {}
    code = parse_crs(wkt).to_epsg()
    return {"proj:code": f"EPSG:{code}"} if code else {"proj:code": None, "proj:wkt2": wkt}


def band_objects(bundle: Bundle) -> list[dict[str, Any]]:
    """A name a band, and the wavelength in micrometres where it is known."""
    names: list[dict[str, Any]] = [
        {"name": f"B{number}"} for number in range(1, len(bundle.good_bands) + 1)
    ]
    if bundle.wavelengths is not None:
        for band, wavelength in zip(names, bundle.wavelengths, strict=True):
            band["description"] = f"{wavelength:g} nm"
    return names


def classes_of(bundle: Bundle, values: Any) -> list[dict[str, Any]]:
    """Classes with value, a name of plain letters, their own name as description, and colour."""
    return [
        {
            "value": value,
            "name": plain_name(name, value),
            "description": name,
            "color_hint": "{:02X}{:02X}{:02X}".format(*colour),
        }
        for value, name, colour in zip(values, bundle.class_names, bundle.colours, strict=True)
    ]


def plain_name(name: str, value: int) -> str:
    """Letters, digits, hyphens and underscores only, as the extension asks."""
    return re.sub(r"[^0-9A-Za-z_-]+", "_", name).strip("_") or f"class_{value}"


def media_type(path: Path) -> str:
    """Of a raster file."""
    kinds = {".tif": "image/tiff; application=geotiff", ".png": "image/png"}
    return kinds.get(path.suffix.lower(), "application/octet-stream")
