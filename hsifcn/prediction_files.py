"""Which model maps which scene into which file, and whether that was done already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsifcn.errors import ExistingOutputError, SettingError, UnreadableFileError
from hsifcn.io import scene_stem
from hsifcn.io.files import atomic_write, refuse_existing
from hsifcn.predict import Predictor, write_prediction
from hsifcn.scene import Scene

RUNS = Path("runs")
MODEL = "model.safetensors"


@dataclass(frozen=True)
class Targets:
    """What to predict.

    Attributes
    ----------
    model : Path
        The bundle.
    scenes : tuple of (str, Path)
        Scenes and the maps to write of them.
    wavelengths : str or None
        Text file with the wavelengths of the scenes.
    """

    model: Path
    scenes: tuple[tuple[str, Path], ...]
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
        There is no run to take the model or the scene from.
    SettingError
        Format and suffix contradict each other.
    """
    if paths and is_model(paths[0]):
        model, scenes = model_file(Path(paths[0])), list(paths[1:])
    else:
        model, scenes = newest_run() / MODEL, list(paths)
    run = model.parent
    if not scenes:
        config = run_config(run)
        scenes = [str(path) for path in config["scenes"]]
        wavelengths = wavelengths or config["wavelengths"]
        if out is None:
            name = "map" if len(scenes) == 1 else None
            return Targets(
                model,
                tuple((s, run / f"{name or scene_stem(s)}{suffix or '.img'}") for s in scenes),
                wavelengths,
            )
    if out is None:
        maps = [Path(f"{scene_stem(scene)}_map{suffix or '.img'}") for scene in scenes]
    elif len(scenes) == 1 and not Path(out).is_dir():
        maps = [single_file(Path(out), suffix)]
    else:
        Path(out).mkdir(parents=True, exist_ok=True)
        maps = [Path(out) / f"{scene_stem(scene)}_map{suffix or '.img'}" for scene in scenes]
    if len(set(maps)) < len(maps):
        raise SettingError("two scenes have the same name", "predict them one by one with -o")
    return Targets(model, tuple(zip(scenes, maps, strict=True)), wavelengths)


def is_model(path: str) -> bool:
    """Whether a path names a model, not a scene."""
    return path.endswith(".safetensors") or (Path(path) / MODEL).exists() or Path(path).is_dir()


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
        return dict(json.loads((run / "config.json").read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise UnreadableFileError(f"{run} does not tell its scene", "name the scene") from error


def single_file(out: Path, suffix: str | None) -> Path:
    """The file to write one map to; its suffix decides the format."""
    if not out.suffix:
        return out.with_suffix(suffix or ".img")
    if suffix and out.suffix != suffix:
        raise SettingError(f"{out} is no {suffix} file", "leave -f or the suffix out")
    return out


def predict_to_file(
    predictor: Predictor,
    model: Path,
    scene: Scene,
    map_path: Path,
    *,
    probabilities: bool,
    reject: float,
    max_memory: int | None,
    overwrite: bool,
) -> dict[str, Any]:
    """Write a map with a record beside it, or find that very map there already.

    Returns
    -------
    dict
        ``map, probabilities, scene, shape, counts, tiles, seconds, unchanged`` and what the record
        compares: model, scene and options.

    Raises
    ------
    ExistingOutputError
        Another map is there, and may not be overwritten.
    """
    record = map_path.with_name(f"{map_path.stem}.json")
    request = {
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "scene": scene_identity(scene),
        "probabilities": probabilities,
        "reject": reject,
    }
    if map_path.exists() and not overwrite:
        earlier = read_record(record)
        if earlier.get("request") == request:
            return {**earlier, "unchanged": True}
        raise ExistingOutputError(f"{map_path} exists", "add --overwrite or choose another -o")
    refuse_existing(record, overwrite)
    record.unlink(missing_ok=True)
    done = write_prediction(
        predictor,
        scene,
        map_path,
        probabilities=probabilities,
        reject=reject,
        max_memory=max_memory,
        overwrite=overwrite,
    )
    result = {
        "map": str(done.map_path),
        "probabilities": done.probabilities_path and str(done.probabilities_path),
        "shape": list(done.shape),
        "counts": list(done.counts),
        "tiles": done.tiles,
        "seconds": done.seconds,
        "request": request,
        "unchanged": False,
    }
    with atomic_write(record, overwrite=True) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return result


def scene_identity(scene: Scene) -> dict[str, Any]:
    """Path, size and time of a scene's file: the same where the file was not touched."""
    file = Path(scene.path)
    while not file.exists() and ":" in file.name:
        file = file.with_name(file.name.rpartition(":")[0])
    stat = file.stat()
    return {
        "path": str(Path(scene.path).absolute()),
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
    }


def read_record(path: Path) -> dict[str, Any]:
    """The record beside a map; empty where there is none."""
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return {}
