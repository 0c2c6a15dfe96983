"""Which model maps which scene into which file, and whether that was done already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hsifcn.core.errors import ExistingOutputError, SettingError, UnreadableFileError
from hsifcn.core.process import peak_rss_bytes
from hsifcn.core.scene import LabelMap, Scene
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.map_writer import probabilities_path
from hsifcn.inference.predictor import Prediction, Predictor, write_prediction
from hsifcn.inference.tiling import Plan
from hsifcn.io import FORMATS, open_labels, scene_stem
from hsifcn.io.envi import FORMAT as ENVI
from hsifcn.io.files import atomic_write, make_folder, refuse_existing, require_folder
from hsifcn.io.formats import is_store, split_variable
from hsifcn.io.polygons import write_polygons

RUNS = Path("runs")
MODEL = "model.safetensors"


@dataclass(frozen=True)
class Targets:
    """What to predict.

    Attributes
    ----------
    model : Path
        The bundle.
    scenes : tuple of str
    maps : tuple of Path
        The map to write of each scene.
    wavelengths : str or None
        Text file with the wavelengths of the scenes.
    """

    model: Path
    scenes: tuple[str, ...]
    maps: tuple[Path, ...]
    wavelengths: str | None


def choose_targets(
    paths: Sequence[str], out: str | None, suffix: str | None, wavelengths: str | None
) -> Targets:
    """Make out model, scenes and maps from what was given.

    Parameters
    ----------
    paths : sequence of str
        A model first, if its path is a run directory or a ``.safetensors`` file; then scenes.
    out : str or None
        File for one scene, folder for several.
    suffix : str or None
        Of the format asked for.
    wavelengths : str or None

    Raises
    ------
    UnreadableFileError
        A scene is not there, or no run to take the model or the scene from.
    SettingError
        Format and suffix contradict each other, a map cannot be written where it should be, or
        would replace another one or a scene.
    """
    if paths and is_model(paths[0]):
        model, scenes = model_file(Path(paths[0])), list(paths[1:])
    else:
        scenes = list(paths)
        for scene in scenes:
            split_variable(scene)  # that it is not there, told before that there is no run
        model = newest_run() / MODEL
    folder = Path(out or ".")
    name = None
    if not scenes:
        config = run_config(model.parent)
        scenes = config["scenes"]
        wavelengths = wavelengths or config["wavelengths"]
        if out is None:
            folder, name = model.parent, "map" if len(scenes) == 1 else None
    if out and len(scenes) == 1 and not folder.is_dir():
        maps = [single_file(folder, suffix)]
    else:
        names = [name or f"{scene_stem(scene)}_map" for scene in scenes]
        maps = [folder / f"{name}{suffix or '.img'}" for name in names]
    if len(set(maps)) < len(maps):
        raise SettingError("two scenes have the same name", "predict them one by one with -o")
    for scene, map_path in zip(scenes, maps, strict=True):
        require_apart(scene, map_path)
    return Targets(model, tuple(scenes), tuple(maps), wavelengths)


def is_model(path: str) -> bool:
    """Whether a path names a model, not a scene."""
    return path.endswith(".safetensors") or (Path(path).is_dir() and not is_store(path))


def model_file(path: Path) -> Path:
    """The bundle of a run directory, or the bundle itself.

    Raises
    ------
    UnreadableFileError
        The folder holds no model.
    """
    if not path.is_dir():
        return path
    if not (path / MODEL).exists():
        raise UnreadableFileError(f"{path} holds no {MODEL}", "name a run directory or a model")
    return path / MODEL


def newest_run() -> Path:
    """The run directory under ``runs/`` that was finished last.

    Raises
    ------
    UnreadableFileError
        There is none.
    """
    finished = [
        path.parent for path in RUNS.glob("*/metrics.json") if (path.parent / MODEL).exists()
    ]
    if not finished:
        raise UnreadableFileError(
            f"there is no finished run under {RUNS}/", "train one: hsifcn train SCENE"
        )
    return max(finished, key=lambda run: (run / "metrics.json").stat().st_mtime_ns)


def run_config(run: Path) -> dict[str, Any]:
    """What a run was asked for.

    Raises
    ------
    UnreadableFileError
        The model does not lie in a run directory.
    """
    try:
        config = json.loads((run / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableFileError(f"{run} does not tell its scene", "name the scene") from error
    if not isinstance(config, dict) or not {"scenes", "wavelengths"} <= config.keys():
        raise UnreadableFileError(f"{run / 'config.json'} is of no run", "name the scene")
    return config


def single_file(out: Path, suffix: str | None) -> Path:
    """The file to write one map to; its suffix decides the format.

    Raises
    ------
    SettingError
        It has the suffix of another format than ``suffix``, or its folder is missing.
    """
    require_folder(out)
    if not out.suffix:
        return out.with_suffix(suffix or ".img")
    for form in FORMATS:
        if suffix in form.write_suffixes and out.suffix.lower() not in form.write_suffixes:
            raise SettingError(f"{out} is no {form.name} file", "leave -f or the suffix out")
    return out


def raster_files(path: str | Path) -> list[Path]:
    """The files that make up a raster: its own, in ENVI's format the header and the voxels.

    Of Zarr the one folder is given.
    """
    file = Path(split_variable(path)[0])
    if file.is_dir():
        return [file]
    for form in FORMATS:
        if file.suffix.lower() in form.suffixes or form.accepts(file):
            beside = (file.with_suffix(suffix) for suffix in ("", *form.suffixes))
            return sorted({f for f in (file, *beside, Path(f"{file}.hdr")) if f.is_file()})
    return [file]


def require_apart(scene: str, map_path: Path) -> None:
    """Raise SettingError where a map, or its header, would replace the scene it is made of."""
    written = {map_path.resolve()}
    if map_path.suffix.lower() in ENVI.write_suffixes:
        written.add(map_path.with_suffix(".hdr").resolve())
    if any(file.resolve() in written for file in raster_files(scene)):
        raise SettingError(f"{map_path} would replace the scene {scene}", "choose another -o")


def choose_polygons(maps: Sequence[Path], polygons: str | None) -> list[Path | None]:
    """The file for the polygons of each map: none, the one named, or one beside the map.

    Raises
    ------
    SettingError
        The one named is no GeoPackage, its folder is missing, there are several maps, or the maps
        are pictures.
    """
    if polygons is not None and any(path.suffix.lower() == ".png" for path in maps):
        raise SettingError("--polygons are traced from a map, not from a picture", "add -f gtiff")
    if not polygons:
        return [None if polygons is None else path.with_suffix(".gpkg") for path in maps]
    path = Path(polygons)
    if path.suffix.lower() != ".gpkg":
        raise SettingError(
            f"--polygons {path} is no .gpkg file", "put --polygons last, or name a .gpkg file"
        )
    if len(maps) > 1:
        raise SettingError(f"--polygons {path} is one file for {len(maps)} maps", "name none")
    require_folder(path)
    return [path]


def predict_to_file(
    predictor: Predictor,
    model: Path,
    scene: Scene,
    map_path: Path,
    *,
    probabilities: bool,
    reject: float,
    resample: bool = False,
    polygons: Path | None = None,
    min_size: int = 1,
    max_memory: int | None,
    overwrite: bool,
    announce: Callable[[Plan], None] = lambda plan: None,
) -> dict[str, Any]:
    """Write a map with a record beside it, or find that very map there already.

    ``polygons`` is the GeoPackage to trace the map into, if any, and ``min_size`` the pixels of its
    smallest area; ``resample`` tells how the scene was matched; ``announce`` is told the plan.

    Returns
    -------
    dict
        ``map, probabilities, polygons, shape, counts, tiles, seconds, planned_seconds,
        planned_peak_bytes, peak_rss_bytes, files, unchanged`` and, under ``request``, what a rerun
        is compared by: model, scene and options.

    Raises
    ------
    ExistingOutputError
        Another map is there, and may not be overwritten.
    """
    record = map_path.with_name(f"{map_path.name}.json")
    request = request_of(predictor, model, scene)
    request |= {"probabilities": probabilities, "reject": reject, "resample": resample}
    if polygons is not None:
        request |= {"polygons": str(polygons), "min_size": min_size}
    earlier = None if overwrite else earlier_result(record, map_path, polygons, request)
    if earlier is not None:
        return earlier
    make_folder(map_path.parent)
    record.unlink(missing_ok=True)
    done = write_prediction(
        predictor,
        scene,
        map_path,
        probabilities=probabilities,
        reject=reject,
        max_memory=max_memory,
        overwrite=overwrite,
        announce=announce,
    )
    if polygons is not None:
        labels = finished_map(done, scene, predictor.bundle)
        write_polygons(polygons, labels, min_size=min_size, overwrite=overwrite)
    result = result_of(done, polygons, request)
    with atomic_write(record, overwrite=True) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return result


def request_of(predictor: Predictor, model: Path, scene: Scene) -> dict[str, Any]:
    """What a map is made of: model, scene and back end."""
    return {
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "scene": scene_identity(scene),
        "refinement": refinement_request(predictor),
    }


def earlier_result(
    record: Path, map_path: Path, polygons: Path | None, request: dict[str, Any]
) -> dict[str, Any] | None:
    """The recorded result where that very map is there, None where nothing is in the way."""
    earlier = read_record(record)
    if not earlier:
        refuse_existing(record, overwrite=False)
    if map_path.exists():
        return unchanged_result(map_path, earlier, request)
    if polygons is not None:
        refuse_existing(polygons, overwrite=False)
    return None


def result_of(done: Prediction, polygons: Path | None, request: dict[str, Any]) -> dict[str, Any]:
    """What ``predict_to_file`` gives for a map that was just written."""
    return {
        "map": str(done.map_path),
        "probabilities": done.probabilities_path and str(done.probabilities_path),
        "polygons": polygons and str(polygons),
        "shape": list(done.shape),
        "counts": list(done.counts),
        "tiles": len(done.plan.tiles),
        "seconds": done.seconds,
        "planned_seconds": done.plan.seconds,
        "planned_peak_bytes": done.plan.peak_bytes,
        "peak_rss_bytes": peak_rss_bytes(),
        "request": request,
        "files": sizes(done.map_path, request),
        "unchanged": False,
    }


def refinement_request(predictor: Predictor) -> dict[str, Any] | None:
    """The back end that a map is made with, and whether it may be approximate."""
    if predictor.refinement is None:
        return None
    return {**asdict(predictor.refinement), "approximate": predictor.approximate}


def unchanged_result(
    map_path: Path, earlier: dict[str, Any], request: dict[str, Any]
) -> dict[str, Any]:
    """The recorded result of the map that is there; ExistingOutputError where it is another."""
    if earlier.get("request") != request or earlier["files"] != sizes(map_path, request):
        raise ExistingOutputError(
            f"{map_path} exists and is another map", "add --overwrite or choose another -o"
        )
    return {**earlier, "unchanged": True}


def scene_identity(scene: Scene) -> dict[str, Any]:
    """Path of a scene, size and time of its files: the same where they were not touched."""
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
        labels = open_labels(done.map_path).labels
    else:
        labels = np.zeros(done.shape, np.uint8)
    return LabelMap(labels, bundle.class_names, bundle.colours, scene.grid)


def sizes(map_path: Path, request: dict[str, Any]) -> dict[str, int]:
    """Bytes of the files of a map that are there, by name."""
    rasters = [map_path]
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
