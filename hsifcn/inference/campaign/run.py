"""Maps many scenes with one model: what is left to do is done, and what was done is told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hsifcn.core.errors import FailedError, UnreadableFileError
from hsifcn.core.process import FREE_SHARE, free_memory, usable_cores
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.campaign.dask_cluster import on_cluster
from hsifcn.inference.campaign.job import UNFIT, Job, load_once, model_state, own_versions
from hsifcn.inference.campaign.manifest import (
    DONE,
    FAILED,
    LEFT_OUT,
    Entry,
    Manifest,
    digest_of,
    finished,
    merged_entries,
    open_manifest,
    require_manifests,
)
from hsifcn.inference.campaign.mosaic import Mosaic, make_mosaic
from hsifcn.inference.campaign.processes import choose_workers, in_processes
from hsifcn.inference.campaign.scene_list import Shard, Task
from hsifcn.inference.predict import PredictOptions
from hsifcn.inference.targets import raster_files
from hsifcn.io.files import mark_input, read_text, write_json
from hsifcn.io.table import naming_file

SUMMARY = "summary.json"
LOOKS = 16  # at scenes that were mapped before, at once

Tell = Callable[[str], None]
OnEntry = Callable[[Entry, int, int], None]  # an entry, how many are finished, how many there are


@dataclass(frozen=True)
class Campaign:
    """What is to be mapped, and how each scene is.

    Attributes
    ----------
    model : Path
        The bundle.
    bundle : Bundle
        Read from it.
    folder : Path
        Of the maps.
    tasks : tuple of Task
        All scenes, those of other shards included.
    options : PredictOptions
    suffix : str
        Of the maps.
    wavelengths : str or None
    nodata : float or None
        Of ``open_scene``.
    polygons : bool
    min_size : int
    stac : bool
    """

    model: Path
    bundle: Bundle
    folder: Path
    tasks: tuple[Task, ...]
    options: PredictOptions
    suffix: str = ".img"
    wavelengths: str | None = None
    nodata: float | None = None
    polygons: bool = False
    min_size: int = 1
    stac: bool = False

    def header(self) -> dict[str, Any]:
        """What the manifest says first; runs that differ in it may not be mixed."""
        options = asdict(self.options)
        for key in ("device", "max_memory", "overwrite"):  # which change no map
            del options[key]
        if self.wavelengths is not None:
            text = read_text(self.wavelengths).encode()
            options["wavelengths"] = hashlib.sha256(text).hexdigest()
        options |= {
            "nodata": None if self.nodata is None else str(self.nodata),
            "format": self.suffix,
            "polygons": self.min_size if self.polygons else 0,
            "stac": self.stac,
        }
        return {
            "model": str(self.model.absolute()),
            "model_sha256": hashlib.sha256(self.model.read_bytes()).hexdigest(),
            "class_names": list(self.bundle.class_names),
            "options": options,
        }


@dataclass(frozen=True)
class Ways:
    """How the work is run.

    Attributes
    ----------
    shard : Shard or None
        Only this part of the scenes.
    scheduler : str or None
        Address of a Dask scheduler; None for processes of this machine.
    workers : int or None
        Processes; None for what fits the machine.
    retry_failed : bool
        Try scenes again that failed before.
    """

    shard: Shard | None = None
    scheduler: str | None = None
    workers: int | None = None
    retry_failed: bool = False


def map_scenes(campaign: Campaign, ways: Ways, tell: Tell, on_entry: OnEntry) -> dict[str, Any]:
    """Map what is not mapped yet, and give the summary of all scenes of this run.

    Parameters
    ----------
    campaign : Campaign
    ways : Ways
    tell : callable
        Given a line for what is worth knowing.
    on_entry : callable
        Called for each scene that this run deals with.

    Returns
    -------
    dict
        As ``summary_of``.

    Raises
    ------
    ExistingOutputError
        The folder holds maps of another model or of other options.
    FailedError
        No worker can do the work. Scenes that fail raise nothing.
    """
    header = campaign.header()
    tasks = ways.shard.of_list(campaign.tasks) if ways.shard else list(campaign.tasks)
    overwrite = campaign.options.overwrite
    with open_manifest(campaign.folder, ways.shard, header, overwrite=overwrite) as manifest:
        manifest.expect(tasks, campaign.tasks)
        todo = what_is_left(tasks, manifest, overwrite, ways.retry_failed)
        if len(todo) < len(tasks):
            tell(f"{len(tasks) - len(todo)} of {len(tasks)} scenes were dealt with before")
        count = len(tasks) - len(todo)
        with closing(run(make_job(campaign, header, manifest), todo, ways, tell)) as entries:
            for entry in entries:
                if entry["status"] == UNFIT:
                    raise FailedError(*entry["cause"].split("; ", 1))
                manifest.add(entry)
                count += 1
                on_entry(entry, count, len(tasks))
        summary = summary_of(header, [Path(task.map).name for task in tasks], manifest.entries)
    summary["manifest"] = str(campaign.folder / manifest.path.name)
    if ways.shard is None:
        write_summary(campaign.folder, summary)
    return summary


def what_is_left(
    tasks: Sequence[Task], manifest: Manifest, overwrite: bool, retry_failed: bool
) -> list[Task]:
    """The tasks that are not finished; a map that this campaign made itself may be replaced."""
    entries = [manifest.entries.get(Path(task.map).name) for task in tasks]
    with ThreadPoolExecutor(LOOKS) as pool:  # stores and shared disks answer late
        done = pool.map(partial(finished, retry_failed=retry_failed), entries, tasks)
    left = []
    for task, entry, is_done in zip(tasks, entries, done, strict=True):
        if not is_done:
            own = entry is not None and entry["status"] == DONE
            left.append(replace(task, overwrite=overwrite or own))
    return left


def make_job(campaign: Campaign, header: dict[str, Any], manifest: Manifest) -> Job:
    """What workers are told once."""
    wavelengths = campaign.wavelengths
    return Job(
        versions=own_versions(),
        model=header["model"],
        model_sha256=header["model_sha256"],
        manifest=str(manifest.path.absolute()),
        id=manifest.id,
        options=asdict(campaign.options),
        wavelengths=wavelengths and str(Path(wavelengths).absolute()),
        nodata=campaign.nodata,
        min_size=campaign.min_size,
        stac=campaign.stac,
    )


def run(job: Job, tasks: Sequence[Task], ways: Ways, tell: Tell) -> Generator[Entry]:
    """Run tasks on a cluster, or in processes here that share cores and memory."""
    if not tasks:
        return
    if ways.scheduler is not None:
        yield from on_cluster(job, tasks, ways.scheduler, tell)
        return
    workers = ways.workers or choose_workers(len(tasks), job.options["device"])
    options = dict(job.options)
    if options["max_memory"] is None:
        options["max_memory"] = int(FREE_SHARE * free_memory()) // workers
    threads = max(1, usable_cores() // workers)
    tell(f"plan: scenes: {len(tasks)}, processes: {workers}, threads each: {threads}")
    yield from in_processes(replace(job, options=options, threads=threads), tasks, workers)


def summary_of(
    header: dict[str, Any], maps: Sequence[str], entries: dict[str, Entry]
) -> dict[str, Any]:
    """Totals of maps, and what is missing.

    Returns
    -------
    dict
        ``maps`` (results of ``predict_to_file``), ``failed`` and ``left_out`` (scene, map, cause,
        worker),
        ``missing`` (names of maps), ``warnings`` (scene, warnings), ``totals`` (scenes, mapped,
        failed, left_out, missing, pixels, counts, hectares, seconds), ``model``, ``model_sha256``,
        ``class_names``, ``options``. Hectares are those of ``counts``; None unless all maps have a
        CRS in metres.
    """
    found = [entries[name] for name in maps if name in entries]
    done = [entry for entry in found if entry["status"] == DONE]
    told = {
        status: [{key: entry[key] for key in ("scene", "map", "cause", "worker")} for entry in found
                 if entry["status"] == status]
        for status in (FAILED, LEFT_OUT)
    }  # fmt: skip
    missing = [name for name in maps if name not in entries]
    counts = np.zeros(len(header["class_names"]) + 1, np.int64)
    for entry in done:
        counts += np.array(entry["result"]["counts"], np.int64)
    return {
        "maps": [entry["result"] for entry in done],
        "failed": told[FAILED],
        "left_out": told[LEFT_OUT],
        "missing": missing,
        "warnings": [
            {key: entry[key] for key in ("scene", "warnings")}
            for entry in found
            if entry["warnings"]
        ],
        "totals": {
            "scenes": len(maps),
            "mapped": len(done),
            "failed": len(told[FAILED]),
            "left_out": len(told[LEFT_OUT]),
            "missing": len(missing),
            "pixels": int(counts.sum()),
            "counts": counts.tolist(),
            "hectares": hectares_of([entry["result"] for entry in done]),
            "seconds": sum(entry["result"]["seconds"] for entry in done),
        },
        **{key: header[key] for key in ("model", "model_sha256", "class_names", "options")},
    }


def hectares_of(results: Sequence[dict[str, Any]]) -> list[float] | None:
    """Hectares without a class, then of each class, of all maps; None where one does not tell."""
    areas = [result.get("pixel_area") for result in results]
    if not results or None in areas:
        return None
    counts = np.array([result["counts"] for result in results], np.float64)
    hectares: list[float] = (np.array(areas, np.float64) @ counts / 1e4).tolist()
    return hectares


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write a summary beside the maps; their own records hold what each gave."""
    write_json(folder / SUMMARY, {key: summary[key] for key in summary if key != "maps"})


def mark_scenes(model: str | Path, scenes: Iterable[str]) -> None:
    """Tell of a model and of scenes, so that no mosaic takes their place."""
    mark_input(model)
    for scene in scenes:
        with suppress(UnreadableFileError):  # which is told when it is mapped
            mark_input(*raster_files(scene))


def wanted_mosaic(path: Path, header: Mapping[str, Any], *, overwrite: bool) -> Mosaic:
    """The mosaic of a campaign whose header or summary is given."""
    campaign = digest_of({key: header[key] for key in ("model_sha256", "options")})
    return Mosaic(path, campaign, overwrite)


def add_mosaic(
    summary: dict[str, Any], folder: Path, path: Path, *, overwrite: bool, tell: Tell
) -> None:
    """Make the mosaic of the maps of a summary, and tell of it there and in ``summary.json``.

    Raises
    ------
    HsifcnError
        There is no mosaic; see ``make_mosaic``.
    """
    maps = [folder / Path(result["map"]).name for result in summary["maps"]]
    if not maps:
        raise FailedError("there is no mosaic: no scene is mapped", "see what is told above")
    model = summary["model"]
    others = [entry["scene"] for name in ("failed", "left_out") for entry in summary[name]]
    mapped = [result["request"]["scene"]["path"] for result in summary["maps"]]
    mark_scenes(model, [*others, *mapped])
    with naming_file(model):
        bundle = load_once(model, summary["model_sha256"], model_state(model))
    done = make_mosaic(
        wanted_mosaic(path, summary, overwrite=overwrite),
        maps,
        bundle,
        confident=bool(summary["options"].get("confidence")),
        tell=tell,
    )
    summary["mosaic"] = {key: done[key] for key in done if key not in ("request", "files")}
    write_summary(folder, summary)


def assemble(folder: Path) -> dict[str, Any]:
    """Join the manifests of shards into one summary, ``summary.json``.

    Parameters
    ----------
    folder : Path
        Of the maps.

    Returns
    -------
    dict
        As ``summary_of``, and ``missing_shards``: numbers of those that left no manifest.

    Raises
    ------
    FailedError
        There are no manifests, or they are of two campaigns.
    """
    records = require_manifests(folder)
    newest = max(records, key=lambda record: str(record.header["started"]))
    of = newest.shard.of if newest.shard else 0
    parts = [record for record in records if (record.shard.of if record.shard else 0) == of]
    if len({record.list_sha256 for record in parts}) > 1:
        raise FailedError(
            f"the shards in {folder} were given different lists of scenes",
            "run them again with one list, or with --overwrite",
        )
    maps = [name for record in parts for name in record.scenes]
    summary = summary_of(newest.header, maps, merged_entries(records))
    there = {record.shard.number for record in parts if record.shard}
    summary["missing_shards"] = [number for number in range(1, of + 1) if number not in there]
    write_summary(folder, summary)
    return summary
