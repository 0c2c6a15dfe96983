"""What an exported model says of itself: keys of ONNX metadata, and geoai's sidecar.

Deepness is a QGIS plugin that runs ONNX files; the keys that it reads are those of its
``model_base.py`` (github.com/PUTvision/qgis-plugin-deepness). geoai (github.com/opengeos/geoai)
reads ``model.onnx.json``.
"""

from __future__ import annotations

import json
import math
from typing import Any

from hsifcn.core.process import versions
from hsifcn.core.scene import Grid, Scene
from hsifcn.inference.bundle import Bundle
from hsifcn.io.crs import known_wkt, metres_per_unit
from hsifcn.models import geometry

_SQUARE = 1e-3  # relative; sides of a pixel that differ by less are the same


def onnx_metadata(bundle: Bundle, scene: Scene | None, tile: int, overlap: int) -> dict[str, str]:
    """Everything that is not in the graph; each value is JSON.

    Parameters
    ----------
    bundle : Bundle
    scene : Scene or None
        Where no-data and pixel size come from.
    tile, overlap : int
        Side of a tile in pixels, and how far tiles lie over each other, per cent of the side.
    """
    return {key: json.dumps(value) for key, value in _values(bundle, scene, tile, overlap).items()}


def _values(bundle: Bundle, scene: Scene | None, tile: int, overlap: int) -> dict[str, Any]:
    values = deepness_keys(bundle, tile, overlap)
    resolution = None if scene is None else centimetres_per_pixel(scene.grid)
    if resolution is not None:
        values["resolution"] = resolution
    return {
        **values,
        "class_codes": bundle.class_codes,
        "class_colours": bundle.colours,
        "wavelengths_nm": None if bundle.wavelengths is None else bundle.wavelengths.tolist(),
        "good_bands": bundle.good_bands.tolist(),
        "units": units(bundle),
        "scale_factor": bundle.scale_factor,
        "nodata": None if scene is None or scene.nodata is None else _number(scene.nodata),
        "unmeasured": "all probabilities are 0 where a band used is NaN, infinite or no-data",
        "temperature": bundle.temperature,
        "architecture": bundle.spec.name,
        "receptive_field_px": geometry(bundle.spec).receptive_field,
        "split": bundle.split,
        "version": versions()["hsifcn"],
    }


def deepness_keys(bundle: Bundle, tile: int, overlap: int) -> dict[str, Any]:
    """What Deepness reads.

    It divides voxels by 255, subtracts the mean and divides by the standard deviation. With 0 and
    1/255 the model gets the voxels themselves, as it does everywhere else.
    """
    bands = len(bundle.good_bands)
    return {
        "model_type": "Segmentor",
        "class_names": {str(index): name for index, name in enumerate(bundle.class_names)},
        "tile_size": tile,
        "tiles_size": tile,
        "tiles_overlap": overlap,
        "standardization_mean": [0.0] * bands,
        "standardization_std": [1 / 255] * bands,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }


def geoai_sidecar(bundle: Bundle, tile: int) -> dict[str, Any]:
    """What geoai's ``ONNXGeoModel`` reads beside a model."""
    return {
        "model_id": f"hsifcn {bundle.spec.name}",
        "task": "semantic-segmentation",
        "input_height": tile,
        "input_width": tile,
        "input_channels": len(bundle.good_bands),
        "num_labels": bundle.spec.classes,
        "id2label": {str(index): name for index, name in enumerate(bundle.class_names)},
    }


def units(bundle: Bundle) -> str:
    """What the voxels are that the model takes, in words."""
    if bundle.scale_factor is not None:
        return f"reflectance x {bundle.scale_factor:g}"
    if bundle.scaling.unit_length:
        return "as in the training scenes, in any scale: spectra are divided by their length"
    return "as in the training scenes"


def centimetres_per_pixel(grid: Grid | None) -> float | None:
    """Side of the pixels; None where they are not square, or no CRS in metres tells."""
    wkt = known_wkt(grid.crs) if grid and grid.crs else None
    metres = metres_per_unit(wkt) if wkt else None
    if grid is None or metres is None:
        return None
    a, b, _, d, e, _ = grid.transform
    width, height = math.hypot(a, d) * metres, math.hypot(b, e) * metres
    return width * 100 if abs(width - height) <= _SQUARE * width else None


def _number(value: float) -> float | str:
    """A number that JSON can hold."""
    return value if math.isfinite(value) else str(value)
