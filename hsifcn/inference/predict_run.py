"""A map with a record beside it, so that a command given twice knows its own work.

The record is written twice: before the work, marked unfinished, and when all files are there. So
what a killed command left behind is known as such, and the same command replaces it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import ExistingOutputError
from hsifcn.core.process import peak_rss_bytes
from hsifcn.core.scene import LabelMap, Scene, labels_of_codes
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.map_writer import (
    confidence_path,
    dissimilarity_path,
    probabilities_path,
)
from hsifcn.inference.predict import Prediction, PredictOptions, Tell, map_matched
from hsifcn.inference.refine.potentials import choose_weights
from hsifcn.inference.targets import raster_files, written_files
from hsifcn.io import open_labels
from hsifcn.io.addresses import is_address
from hsifcn.io.files import make_folder, refuse_existing, restored_on_failure, write_json
from hsifcn.io.polygons import NO_CONFIDENCE, write_polygons
from hsifcn.io.remote import copied_digest


def predict_to_file(
    bundle: Bundle,
    model: Path,
    scene: Scene,
    map_path: Path,
    options: PredictOptions,
    tell: Tell,
    *,
    polygons: Path | None = None,
    min_size: int = 1,
    write: Callable[[Bundle, Scene, Path, PredictOptions, Tell], Prediction] = map_matched,
) -> dict[str, Any]:
    """Write a map with a record beside it, or find that very map there already.

    Parameters
    ----------
    bundle : Bundle
    model : Path
        Its file.
    scene : Scene
        Matched to the model's bands.
    map_path : Path
    options : PredictOptions
    tell : callable
        Given a line of text for each thing worth knowing before the work starts.
    polygons : Path, optional
        The GeoPackage to trace the map into.
    min_size : int
        Pixels of the smallest area among the polygons.
    write : callable
        Makes the rasters.

    Returns
    -------
    dict
        ``map, confidence, dissimilarity, probabilities, polygons, shape, counts, tiles, seconds,
        planned_seconds, planned_peak_bytes, peak_rss_bytes, precision, shift, adapted, rotation,
        applicability, files, unchanged`` and, under ``request``, what a rerun is compared by:
        model, scene and options.

    Raises
    ------
    ExistingOutputError
        Another map is there, and may not be overwritten.
    """
    record = map_path.with_name(f"{map_path.name}.json")
    request = request_of(bundle, model, scene, options, polygons, min_size)
    result, options = find_earlier(map_path, request, options, polygons, tell)
    if result is not None:
        return result
    make_folder(map_path.parent)
    with restored_on_failure([record, *outputs_of(map_path, options, polygons)]):
        write_json(record, {"request": request, "files": {}, "unfinished": True})
        done = write(bundle, scene, map_path, options, tell)
        if polygons is not None:
            labels = finished_map(done, scene, bundle)
            write_polygons(
                polygons,
                labels,
                min_size=min_size,
                confidence=read_confidence(done),
                overwrite=options.overwrite,
            )
        result = result_of(done, polygons, request)
        write_json(record, result)
    return result


def find_earlier(
    map_path: Path,
    request: dict[str, Any],
    options: PredictOptions,
    polygons: Path | None,
    tell: Tell,
) -> tuple[dict[str, Any] | None, PredictOptions]:
    """The result of an earlier run, where the map is there already; see ``predict_to_file``.

    Returns
    -------
    result : dict or None
    options : PredictOptions
        They allow to overwrite what an earlier run left unfinished.
    """
    record = map_path.with_name(f"{map_path.name}.json")
    earlier = read_record(record)
    if earlier.get("unfinished") and earlier["request"] == request:
        tell(f"{map_path} was left unfinished and is made again")
        options = replace(options, overwrite=True)
    if not options.overwrite:
        if not earlier:
            refuse_existing(record, overwrite=False)
        if map_path.exists():
            return unchanged_result(map_path, earlier, request), options
        for path in (polygons, *rasters_beside(map_path, options)):
            if path is not None:
                refuse_existing(path, overwrite=False)
    return None, options


def request_of(
    bundle: Bundle,
    model: Path,
    scene: Scene,
    options: PredictOptions,
    polygons: Path | None = None,
    min_size: int = 1,
) -> dict[str, Any]:
    """What a map is made of: model, scene and the options that change it."""
    refinement = choose_weights(options.refine, bundle.refinement)
    request = {
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "scene": scene_identity(scene),
        "nodata": None if scene.nodata is None else str(scene.nodata),  # NaN is equal to nothing
        "refinement": refinement and {**asdict(refinement), "approximate": options.approximate},
        "probabilities": options.probabilities,
        "min_confidence": options.min_confidence,
        "resample": options.resample,
        "adapt": options.adapt,
        "precision": options.precision,
    }
    # Only where it was asked for, so that maps of older versions are known again.
    request |= {"confidence": True} if options.confidence else {}
    if polygons is not None:
        request |= {"polygons": str(polygons), "min_size": min_size}
    return request


def rasters_beside(map_path: Path, options: PredictOptions) -> list[Path]:
    """The rasters that are written beside a map."""
    wanted = (
        (options.confidence, confidence_path(map_path)),
        (options.confidence, dissimilarity_path(map_path)),
        (options.probabilities, probabilities_path(map_path)),
    )
    return [path for asked, path in wanted if asked]


def outputs_of(map_path: Path, options: PredictOptions, polygons: Path | None) -> list[Path]:
    """All files that are written with a map, whether or not they are there."""
    rasters = (map_path, *rasters_beside(map_path, options))
    found = [file for raster in rasters for file in written_files(raster)]
    return found if polygons is None else [*found, polygons]


def read_confidence(done: Prediction) -> npt.NDArray[np.uint8] | None:
    """The confidence that was just written, (rows, cols); None where there is none."""
    if done.confidence_path is None or not any(done.counts[1:]):
        return None
    # Read as labels are, which every format has a place for; no-data comes back as 0.
    percent = open_labels(done.confidence_path).coded()
    return np.where(percent == 0, NO_CONFIDENCE, percent).astype(np.uint8)


def result_of(done: Prediction, polygons: Path | None, request: dict[str, Any]) -> dict[str, Any]:
    """What ``predict_to_file`` gives for a map that was just written."""
    return {
        "map": str(done.map_path),
        "confidence": done.confidence_path and str(done.confidence_path),
        "dissimilarity": done.dissimilarity_path and str(done.dissimilarity_path),
        "probabilities": done.probabilities_path and str(done.probabilities_path),
        "polygons": polygons and str(polygons),
        "shape": list(done.shape),
        "counts": list(done.counts),
        "tiles": len(done.plan.tiles),
        "seconds": done.seconds,
        "planned_seconds": done.plan.seconds,
        "planned_peak_bytes": done.plan.peak_bytes,
        "peak_rss_bytes": peak_rss_bytes(),
        "precision": done.precision,
        "shift": done.shift and done.shift.record(),
        "adapted": done.adapted,
        "rotation": done.rotation and done.rotation.record(),
        "applicability": done.applicability and done.applicability.record(),
        "request": request,
        "files": sizes(done.map_path, request),
        "unchanged": False,
    }


def unchanged_result(
    map_path: Path, earlier: dict[str, Any], request: dict[str, Any]
) -> dict[str, Any]:
    """The recorded result of the map that is there; ExistingOutputError where it is another."""
    found = None if earlier.get("unfinished") else earlier.get("request")
    if found != request or earlier["files"] != sizes(map_path, request):
        raise ExistingOutputError(
            f"{map_path} exists and is another map", "add --overwrite or choose another -o"
        )
    return {**earlier, "unchanged": True}


def scene_identity(scene: Scene) -> dict[str, Any]:
    """Path of a scene, size and time of its files: the same where they were not touched."""
    if is_address(scene.path):
        return {"path": scene.path, "digest": copied_digest(scene.path)}
    parts = {
        file.name: [part.stat() for part in (file, *file.rglob("*"))]  # of a file itself alone
        for file in raster_files(scene.path)
    }
    return {
        "path": str(Path(scene.path).absolute()),
        "bytes": {name: sum(part.st_size for part in states) for name, states in parts.items()},
        "mtime_ns": {name: max(s.st_mtime_ns for s in states) for name, states in parts.items()},
    }


def finished_map(done: Prediction, scene: Scene, bundle: Bundle) -> LabelMap:
    """The map that was written; all of it may be unclassified, which no ground truth may."""
    if any(done.counts[1:]):
        labels = labels_of_codes(open_labels(done.map_path).coded(), bundle.class_codes)
    else:
        labels = np.zeros(done.shape, np.uint16)
    return LabelMap(labels, bundle.class_names, bundle.colours, scene.grid, bundle.class_codes)


def sizes(map_path: Path, request: dict[str, Any]) -> dict[str, int]:
    """Bytes of the files of a map that are there, by name."""
    rasters = [map_path]
    if request.get("confidence"):
        rasters += [confidence_path(map_path), dissimilarity_path(map_path)]
    if request["probabilities"]:
        rasters.append(probabilities_path(map_path))
    files = [file for raster in rasters if raster.exists() for file in raster_files(raster)]
    if "polygons" in request and Path(request["polygons"]).exists():
        files.append(Path(request["polygons"]))
    return {file.name: file.stat().st_size for file in files}


def read_record(path: Path) -> dict[str, Any]:
    """The record beside a map; empty where there is none."""
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and {"request", "files"} <= record.keys() else {}
