"""What a worker of a campaign does: it loads the model once and maps a scene a task.

Jobs, tasks and answers are plain values, so that they travel as JSON and between releases. Workers
are given paths, never arrays.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import threading
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hsifcn.core.errors import FailedError, HsifcnError, MismatchError, Notice
from hsifcn.core.process import keep_memory_together
from hsifcn.core.scene import Scene
from hsifcn.inference.band_matching import match_scene
from hsifcn.inference.bundle import Bundle, load_model
from hsifcn.inference.campaign.manifest import DONE, FAILED, LEFT_OUT, Entry, scene_digest
from hsifcn.inference.campaign.parts import Cut, cut_scene, join_parts, map_part, remove_parts
from hsifcn.inference.campaign.scene_list import Task
from hsifcn.inference.export_stac import write_map_item
from hsifcn.inference.predict import PredictOptions, map_matched
from hsifcn.inference.predict_run import find_earlier, predict_to_file, request_of
from hsifcn.inference.targets import mark_inputs_of
from hsifcn.io.crs import pixel_area
from hsifcn.io.files import safe_inputs
from hsifcn.io.remote import open_scene_at, remove_copy

# Status of answers that are no entries: this worker can do no task, this scene is to be mapped in
# parts, this part is mapped.
UNFIT, SPLIT, PART = "unfit", "split", "part"
_one_at_a_time = threading.Lock()  # scenes in a process: memory is planned for one


@dataclass(frozen=True)
class Job:
    """What holds for every scene of a campaign.

    Attributes
    ----------
    versions : dict
        Of what the maps depend on; a worker must have the same.
    model : str
        Absolute path of the bundle.
    model_sha256 : str
        Of that file, which may not change meanwhile.
    manifest, id : str
        The manifest in the folder of the maps and its id, for workers to know the folder by.
    options : dict
        Of ``PredictOptions``.
    wavelengths : str or None
    nodata : float or None
        Of ``open_scene``.
    min_size : int
        Of polygons.
    stac : bool
        Write a STAC item beside each map.
    threads : int or None
        Of PyTorch in a worker; None leaves them as they are.
    in_parts : bool
        Have large scenes mapped in parts.
    """

    versions: dict[str, str]
    model: str
    model_sha256: str
    manifest: str
    id: str
    options: dict[str, Any]
    wavelengths: str | None = None
    nodata: float | None = None
    min_size: int = 1
    stac: bool = False
    threads: int | None = None
    in_parts: bool = False


def own_versions() -> dict[str, str]:
    """Versions that must be the same on every worker."""
    from importlib.metadata import version

    return {"hsifcn": version("hsifcn"), "torch": version("torch")}


def unfit(job: Job) -> str | None:
    """Why this process cannot do a job, and the remedy; None where it can."""
    own = own_versions()
    for package, wanted in job.versions.items():
        if own.get(package) != wanted:
            return (
                f"it has {package} {own.get(package)}, not {wanted}; "
                f"install {package}=={wanted} there"
            )
    try:
        load_once(job.model, job.model_sha256, model_state(job.model))
    except (HsifcnError, OSError) as error:
        return f"the model cannot be taken: {error}"
    if not sees_manifest(job.manifest, job.id):
        return (
            f"it does not see the folder of the maps, {Path(job.manifest).parent}; "
            "mount it there under the same path"
        )
    return None


def model_state(path: str) -> tuple[int, int]:
    """Size and time of a model, which tell whether it changed since it was loaded."""
    state = os.stat(path)
    return state.st_size, state.st_mtime_ns


@functools.lru_cache(maxsize=1)
def load_once(path: str, sha256: str, state: tuple[int, int]) -> Bundle:
    """Load a model, once for all scenes; MismatchError where it is not the one meant."""
    if hashlib.sha256(Path(path).read_bytes()).hexdigest() != sha256:
        raise MismatchError(
            f"{path} is not the model that the command was started with",
            "put that model back, or start again with --overwrite",
        )
    return load_model(path)


@functools.lru_cache(maxsize=1)
def sees_manifest(path: str, id: str) -> bool:
    """Whether the manifest at a path is the one meant, so that its folder is too."""
    try:
        with open(path, "rb") as file:
            return bool(json.loads(file.readline()).get("id") == id)
    except (OSError, ValueError, AttributeError):
        return False


def map_scene(job: Job, task: Task) -> Entry:
    """Map a scene; what goes wrong with it is told in the answer.

    Returns
    -------
    dict
        The entry of the manifest, but for its time. ``status`` is ``done``, ``failed``,
        ``left out`` (no scene), or one that is no entry's: ``unfit``, ``split`` (with ``cut``), or
        ``part`` (with ``seconds``).
    """
    entry: Entry = {
        "map": Path(task.map).name,
        "scene": task.source,
        "worker": f"{platform.node()}:{os.getpid()}",
        "digest": None,
    }
    with _one_at_a_time, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if job.threads is not None:
            torch.set_num_threads(job.threads)
        cause = unfit(job)
        if cause is not None:
            return {**entry, "status": UNFIT, "cause": cause}
        try:
            entry["digest"] = scene_digest(task.scene)
            entry |= _map_scene(job, task, entry["digest"])
        except HsifcnError as error:
            entry |= {"status": FAILED, "cause": str(error)}
        except (OSError, MemoryError, RuntimeError) as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            entry |= {"status": FAILED, "cause": text}
        if entry["status"] not in {SPLIT, PART}:
            remove_copy()
    entry["warnings"] = [
        " ".join(str(warning.message).split())
        for warning in caught
        if issubclass(warning.category, UserWarning | RuntimeWarning)
        and not issubclass(warning.category, Notice)
    ]
    return entry


def _map_scene(job: Job, task: Task, digest: str) -> Entry:
    """Open, match and map a scene, or a part of it; see ``map_scene``."""
    bundle = load_once(job.model, job.model_sha256, model_state(job.model))
    options = replace(PredictOptions(**job.options), overwrite=task.overwrite)
    path = Path(task.map)
    cut = Cut(**task.cut) if task.cut else None
    with safe_inputs():
        scene = open_scene_at(task.scene, wavelengths=job.wavelengths, nodata=job.nodata)
        if task.found and scene.shape[2] == 1 < len(bundle.good_bands):
            return {"status": LEFT_OUT, "cause": "it has one band"}
        mark_inputs_of(Path(job.model), [task.scene])
        matched = match_scene(bundle, scene, resample=options.resample).scene
        if cut is not None and cut.digest != digest:
            raise FailedError(
                f"{task.source} changed while it was mapped", "give the command again"
            )
        if cut is not None and task.part is not None:
            return {
                "status": PART,
                "seconds": map_part(bundle, matched, path, options, cut, task.part),
            }
        if cut is None and job.in_parts:
            cut = plan_parts(job, task, bundle, matched, options, digest)
            if cut is not None:
                return {"status": SPLIT, "cut": asdict(cut)}
        return {"status": DONE, "result": _write(job, task, bundle, matched, options, cut)}


def plan_parts(
    job: Job, task: Task, bundle: Bundle, scene: Scene, options: PredictOptions, digest: str
) -> Cut | None:
    """How a scene is cut; None where it is not, as it is small or its map is there already.

    Raises
    ------
    ExistingOutputError
        Another map is there.
    """
    path = Path(task.map)
    polygons = polygons_of(task)
    request = request_of(bundle, Path(job.model), scene, options, polygons, job.min_size)
    result, _ = find_earlier(path, request, options, polygons, lambda text: None)
    if result is not None:
        return None
    return cut_scene(bundle, scene, options, digest)


def polygons_of(task: Task) -> Path | None:
    """The file of a map's polygons, where they are wanted."""
    return Path(task.map).with_suffix(".gpkg") if task.polygons else None


def _write(
    job: Job, task: Task, bundle: Bundle, scene: Scene, options: PredictOptions, cut: Cut | None
) -> dict[str, Any]:
    """Map a scene, or join its parts."""
    keep_memory_together()
    path = Path(task.map)
    result = predict_to_file(
        bundle,
        Path(job.model),
        scene,
        path,
        options,
        lambda text: None,
        polygons=polygons_of(task),
        min_size=job.min_size,
        write=map_matched if cut is None else functools.partial(join_parts, cut=cut),
    )
    remove_parts(path)  # not before: a scene may be cut a second time, when a worker is lost
    if job.stac:
        write_map_item(bundle, scene, result)
    return {**result, "pixel_area": pixel_area(scene.grid)}
