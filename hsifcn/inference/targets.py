"""Which model maps which scene into which file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsifcn.core.errors import HsifcnError, SettingError, UnreadableFileError
from hsifcn.io import FORMATS, find_labels, find_scenes, scene_stem
from hsifcn.io.addresses import is_address, refuse_address
from hsifcn.io.envi import FORMAT as ENVI
from hsifcn.io.files import mark_input, require_folder
from hsifcn.io.formats import is_store, split_variable

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
    nodata : float or None
        Of ``open_scene``.
    """

    model: Path
    scenes: tuple[str, ...]
    maps: tuple[Path, ...]
    wavelengths: str | None
    nodata: float | None = None


def choose_targets(
    paths: Sequence[str],
    out: str | None,
    suffix: str | None,
    wavelengths: str | None,
    nodata: float | None = None,
    *,
    allow_remote: bool = False,
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
    nodata : float or None
    allow_remote : bool
        A scene that is given may be an address.

    Raises
    ------
    UnreadableFileError
        A scene is not there, or no run to take the model or the scene from.
    SettingError
        Format and suffix contradict each other, a map cannot be written where it should be, or
        would replace another one or a scene.
    """
    if paths and is_model(paths[0]):
        scenes = [scene for path in paths[1:] for scene in find_scenes(path)]
    else:
        scenes = [scene for path in paths for scene in _scenes_of(path)]
        for scene in scenes:
            if not is_address(scene):
                split_variable(scene)  # that it is not there, told before that there is no run
    if not allow_remote:
        for scene in scenes:
            refuse_address(scene)
    model = choose_model(paths)
    folder = Path(out or ".")
    name = None
    if not scenes:
        config = run_config(model.parent)
        scenes = config["scenes"]
        for scene in scenes:
            refuse_address(scene)  # a file may not lead to one
        wavelengths = wavelengths or config["wavelengths"]
        nodata = config.get("nodata") if nodata is None else nodata
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
    mark_inputs_of(model, scenes)
    return Targets(model, tuple(scenes), tuple(maps), wavelengths, nodata)


def choose_model(paths: Sequence[str]) -> Path:
    """The bundle that the first of some paths names, else the newest run's."""
    if not paths or not is_model(paths[0]):
        return newest_run() / MODEL
    refuse_address(paths[0])
    return model_file(Path(paths[0]))


@dataclass(frozen=True)
class ExportTargets:
    """Which model to export, and the scene to check it with; see ``Targets``."""

    model: Path
    scene: str | None = None
    wavelengths: str | None = None
    nodata: float | None = None


def choose_export(paths: Sequence[str]) -> ExportTargets:
    """Make out model and scene: as given, else the newest run's and the scene of its run.

    Raises
    ------
    UnreadableFileError
        There is no model.
    SettingError
        Too many paths.
    """
    if len(paths) > 2:
        raise SettingError(f"{len(paths)} paths for one model and one scene", "name two at most")
    model = model_file(Path(paths[0])) if paths else newest_run() / MODEL
    mark_inputs_of(model, paths[1:])
    if paths[1:]:
        return ExportTargets(model, paths[1])
    try:
        config = run_config(model.parent)
    except UnreadableFileError:  # a model alone, which is as good
        return ExportTargets(model)
    return ExportTargets(model, config["scenes"][0], config["wavelengths"], config.get("nodata"))


def _scenes_of(path: str) -> list[str]:
    """The scenes of a path that is no model."""
    try:
        return find_scenes(path)
    except UnreadableFileError as error:
        if not Path(path).is_dir():
            raise
        raise UnreadableFileError(
            f"{path} holds no {MODEL} and no scene", "name a run directory, a model or a scene"
        ) from error


def mark_inputs_of(model: Path, scenes: Sequence[str]) -> None:
    """Tell of the model and of what it was trained from, and of labels beside the scenes."""
    mark_input(model)
    with suppress(HsifcnError):
        config = run_config(model.parent)
        for path in [*config["scenes"], *config.get("labels", []), config.get("class_names")]:
            with suppress(HsifcnError):
                mark_input(path and split_variable(path)[0])
    for scene in scenes:
        with suppress(HsifcnError):
            mark_input(split_variable(find_labels(scene))[0])


def is_model(path: str) -> bool:
    """Whether a path names a model, not a scene."""
    if is_address(path):
        path = path.partition("?")[0]
    return path.endswith(".safetensors") or (Path(path, MODEL).is_file() and not is_store(path))


def model_file(path: Path) -> Path:
    """The bundle of a run directory, or the bundle itself.

    Raises
    ------
    UnreadableFileError
        The folder holds no model, or a run that was stopped while it replaced another.
    """
    if not path.is_dir():
        return path
    if not (path / MODEL).exists():
        raise UnreadableFileError(f"{path} holds no {MODEL}", "name a run directory or a model")
    if (path / "checkpoint").is_dir() and not (path / "metrics.json").exists():
        raise UnreadableFileError(
            f"{path} was stopped while it was written", "finish it: hsifcn train with --resume"
        )
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

    Of Zarr the one folder is given; of an address nothing, as it has no files here.
    """
    if is_address(str(path)):
        return []
    file = Path(split_variable(path)[0])
    if file.is_dir():
        return [file]
    for form in FORMATS:
        if file.suffix.lower() in form.suffixes or form.accepts(file):
            beside = (file.with_suffix(suffix) for suffix in ("", *form.suffixes))
            return sorted({f for f in (file, *beside, Path(f"{file}.hdr")) if f.is_file()})
    return [file]


def written_files(raster: Path) -> list[Path]:
    """All files that writing a raster may make or remove, whether or not they are there."""
    beside = [raster.with_name(raster.name + end) for end in (".aux.xml", ".msk", ".ovr")]
    header = [raster.with_suffix(".hdr")] if raster.suffix.lower() in ENVI.write_suffixes else []
    return [raster, raster.with_suffix(".qml"), *beside, *header]


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
