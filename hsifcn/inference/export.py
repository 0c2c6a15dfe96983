"""A model as ONNX, checked against the original, with what other programs want to know of it."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hsifcn.core.errors import FailedError, SettingError
from hsifcn.core.process import versions
from hsifcn.core.scene import Scene, Window
from hsifcn.data.standardise import valid_pixels
from hsifcn.inference.band_matching import match_scene
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.export_metadata import centimetres_per_pixel, geoai_sidecar, onnx_metadata
from hsifcn.inference.export_network import ExportedNetwork
from hsifcn.inference.export_stac import model_item
from hsifcn.inference.predictor import Predictor
from hsifcn.io.files import atomic_write, refuse_existing, write_json
from hsifcn.models import geometry

OPSET, IR_VERSION = 17, 8  # which ONNX Runtime 1.12, the oldest that Deepness takes, reads
LARGEST_DIFFERENCE = 1e-3  # of a probability; a greater one is a fault
CHECKED_SIDE = 256  # pixels of the tile that is checked, at most
SMALLEST_TILE, LARGEST_OVERLAP = 64, 75  # pixels, per cent


@dataclass(frozen=True)
class Check:
    """The exported model against the original, on one tile.

    Attributes
    ----------
    data : str
        Of what the tile is.
    pixels : int
        That hold a measurement.
    largest_difference : float
        Of a probability.
    labels_equal : int
        Pixels.
    """

    data: str
    pixels: int
    largest_difference: float
    labels_equal: int


@dataclass(frozen=True)
class Tiling:
    """How a program that cuts scenes into squares gets the scores of the whole scene.

    Attributes
    ----------
    size : int
        Pixels a side.
    overlap : int
        Per cent of the side.
    """

    size: int
    overlap: int


def export_model(
    bundle: Bundle,
    path: str | os.PathLike[str],
    *,
    scene: Scene | None = None,
    tile: int | None = None,
    weights: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a model as ONNX, check it in ONNX Runtime, write geoai's sidecar and a STAC item.

    Parameters
    ----------
    bundle : Bundle
    path : path
        The ``.onnx`` file.
    scene : Scene, optional
        To check with, and to take no-data and pixel size from; made-up spectra otherwise.
    tile : int, optional
        Rows and columns that the model takes; any without.
    weights : Path, optional
        File of the bundle, which the STAC item names.
    overwrite : bool

    Returns
    -------
    dict
        ``files``, ``input`` and ``output`` (name, type and shape), ``tile``, ``tiles_overlap``,
        ``opset``, ``notes`` and ``check`` (the fields of ``Check``).

    Raises
    ------
    SettingError
        The tile is too small, or a package is missing.
    MismatchError
        The scene has other bands.
    FailedError
        The exported model does not say what the original does.
    """
    path = Path(path)
    sidecar, item = files_beside(path, overwrite)
    onnx, runtime = require_packages()
    if scene is not None:
        scene = match_scene(bundle, scene).scene
    tiling = choose_tiling(bundle, tile)
    network = ExportedNetwork(bundle, None if scene is None else scene.nodata).eval()
    model = to_onnx(network, len(bundle.good_bands), tile, onnx)
    metadata = onnx_metadata(bundle, scene, tiling.size, tiling.overlap)
    onnx.helper.set_model_props(model, metadata)
    content = model.SerializeToString()
    check = check_model(runtime, content, bundle, scene, tile)
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)
    write_json(sidecar, geoai_sidecar(bundle, tiling.size))
    write_json(item, model_item(bundle, path, weights, scene, tile))
    return {
        "files": [str(path), str(sidecar), str(item)],
        "input": shape_of(model.graph.input[0]),
        "output": shape_of(model.graph.output[0]),
        "tile": tiling.size,
        "tiles_overlap": tiling.overlap,
        "opset": OPSET,
        "notes": notes(bundle, scene, tile),
        "check": vars(check),
    }


def files_beside(path: Path, overwrite: bool) -> tuple[Path, Path]:
    """Geoai's sidecar and the STAC item of an ``.onnx`` file.

    Raises
    ------
    SettingError
        The file has another suffix.
    ExistingOutputError
        One of the three exists and may not be overwritten.
    """
    if path.suffix.lower() != ".onnx":
        raise SettingError(f"{path} is no .onnx file", "name it so")
    sidecar = path.with_name(f"{path.name}.json")
    item = path.with_name(f"{path.stem}.stac.json")
    for file in (path, sidecar, item):
        refuse_existing(file, overwrite)
    return sidecar, item


def notes(bundle: Bundle, scene: Scene | None, tile: int | None) -> list[str]:
    """What makes maps of Deepness differ from those of ``predict``, with what to do about it."""
    found = []
    if bundle.refinement is not None:
        found.append("the refinement chosen in training is no part of the exported network")
    if tile is None or scene is None:
        return found
    cells = geometry(bundle.spec).stride
    missing = (scene.shape[0] - tile) % cells
    if missing:
        found.append(
            f"Deepness cuts scenes of {scene.shape[0]} rows at other places than hsifcn; "
            f"--tile {tile + missing} gives the same map"
        )
    if scene.grid is None or centimetres_per_pixel(scene.grid) is None:
        found.append("the scene's pixels are not square metres: type the resolution in Deepness")
    return found


def require_packages() -> tuple[ModuleType, ModuleType]:
    """``onnx`` and ``onnxruntime``; SettingError where one is missing."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise SettingError(
            f"the package {error.name} is missing", "pip install 'hsifcn[onnx]'"
        ) from error
    onnxruntime.set_default_logger_severity(3)
    return onnx, onnxruntime


def choose_tiling(bundle: Bundle, tile: int | None) -> Tiling:
    """Side and overlap of tiles whose cores have the scores of the whole scene.

    Raises
    ------
    SettingError
        A tile of that size is too small for what the network sees.
    """
    cells, sees = geometry(bundle.spec).stride, geometry(bundle.spec).receptive_field or 1
    sides: tuple[int, ...] = (256, 512, 1024) if tile is None else (tile,)
    for side in sides:
        for overlap in range(LARGEST_OVERLAP + 1):
            pixels = side * overlap // 100
            if pixels >= sees - 1 and (side - pixels) % (2 * cells) == 0:
                if side >= SMALLEST_TILE:
                    return Tiling(side, overlap)
                break
    least = max(SMALLEST_TILE, 4 * sees // 3)
    raise SettingError(
        f"--tile {tile} does not fit {bundle.spec.name}, whose scores hang on "
        f"{sees} x {sees} pixels in cells of {cells}",
        f"choose --tile {next(s for s in (64, 128, 256, 512, 1024) if s >= least)} or more",
    )


def to_onnx(network: ExportedNetwork, bands: int, tile: int | None, onnx: ModuleType) -> Any:
    """Trace the network into an ``onnx.ModelProto``.

    By PyTorch's tracing exporter: the one over ``torch.export`` takes ten to ninety times as long
    for the same graph, and needs a package more.
    """
    side = tile or 64
    example = torch.ones(1, bands, side, side + (tile is None))
    axes = {0: "scenes"} if tile else {0: "scenes", 2: "rows", 3: "cols"}
    buffer = BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            buffer,  # type: ignore[arg-type, unused-ignore]
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_axes={"image": axes, "probabilities": axes},
        )
    model = onnx.load_from_string(buffer.getvalue())
    model.ir_version = IR_VERSION
    model.producer_name = "hsifcn"
    model.producer_version = versions()["hsifcn"]
    sizes = model.graph.output[0].type.tensor_type.shape.dim
    for size, name in zip(sizes[2:], ("rows", "cols"), strict=True):
        if tile:
            size.dim_value = tile
        else:
            size.dim_param = name
    onnx.checker.check_model(model, full_check=True)
    return model


def check_model(
    runtime: ModuleType, content: bytes, bundle: Bundle, scene: Scene | None, tile: int | None
) -> Check:
    """Run the exported model and the original on one tile.

    Raises
    ------
    FailedError
        They differ.
    """
    if scene is None:
        pixels, data = made_up_spectra(bundle, tile or 64), "made-up spectra, as no scene is known"
    else:
        window = middle(scene, tile or CHECKED_SIDE)
        pixels = scene.read(window)
        data = f"{window.rows} x {window.cols} pixels of {scene.path}"
    if tile is not None:
        missing = [(0, tile - size) for size in pixels.shape[:2]]
        pixels = np.pad(pixels, (*missing, (0, 0)), "symmetric")
    good = np.ascontiguousarray(pixels[..., bundle.good_bands])
    valid = valid_pixels(good, None if scene is None else scene.nodata)
    rows, cols, bands = good.shape
    logits, _, _ = Predictor(bundle).score_blocks(
        iter([(good.reshape(rows * cols, bands), valid.ravel())]), Window(0, 0, rows, cols)
    )
    wanted = logits.softmax(0).numpy() * valid
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    image = pixels.astype(np.float32).transpose(2, 0, 1)[None]
    found = session.run(None, {"image": np.ascontiguousarray(image)})[0][0]
    difference = float(np.abs(found - wanted).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise FailedError(
            f"a probability of the exported model is off by {difference:.2g}",
            "report it with the model",
        )
    equal = int(((found.argmax(0) == wanted.argmax(0)) & valid).sum())
    return Check(data, int(valid.sum()), difference, equal)


def middle(scene: Scene, side: int) -> Window:
    """The square in the middle of a scene, or all of a smaller scene."""
    rows, cols, _ = scene.shape
    height, width = min(side, rows), min(side, cols)
    return Window((rows - height) // 2, (cols - width) // 2, height, width)


def made_up_spectra(bundle: Bundle, side: int) -> npt.NDArray[np.float32]:
    """Spectra of the training scenes' mean and spread, (side, side, bands of the scene)."""
    scaling = bundle.scaling
    spectra = np.ones((side, side, len(bundle.good_bands)), np.float32)
    noise = np.random.default_rng(0).normal(size=(side, side, bundle.spec.bands))
    spectra[..., bundle.good_bands] = scaling.mean + noise * scaling.std
    return spectra


def shape_of(tensor: Any) -> dict[str, Any]:
    """Name, type and shape of an input or output of a graph; a size that may vary has a name."""
    sizes = tensor.type.tensor_type.shape.dim
    return {
        "name": tensor.name,
        "type": "float32",
        "shape": [size.dim_param or size.dim_value for size in sizes],
    }
