"""What a campaign has done: a file of JSON lines in the folder of the maps, a line a scene.

The first line tells model and options. A line is written at once, when a scene is finished; a line
that was cut off by a crash is passed over, so its scene is done again. Shards have a file each, and
every run reads all of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from hsifcn.core.errors import ExistingOutputError, FailedError, HsifcnError
from hsifcn.inference.campaign.scene_list import Shard, Task
from hsifcn.inference.targets import raster_files
from hsifcn.io.addresses import is_address
from hsifcn.io.files import cannot_write, make_folder
from hsifcn.io.remote import look_up

NAME = "manifest.jsonl"
_SHARD_NAME = re.compile(r"manifest-(\d+)-of-(\d+)\.jsonl")
_SAMPLE = 2**16  # bytes read at the start, in the middle and at the end of a file

Entry = dict[str, Any]  # of a scene: status, scene, digest, cause, warnings, worker, result
DONE, FAILED, LEFT_OUT = "done", "failed", "left out"


@dataclass
class Record:
    """What a manifest file says.

    Attributes
    ----------
    path : Path
    header : dict
        ``id, model, model_sha256, options, shard, started``.
    scenes : tuple of str
        Names of the maps that the last run into it was to make.
    list_sha256 : str
        Of the names of all maps of that run, other shards' included.
    entries : dict of Entry
        By the name of the map; the last of each.
    """

    path: Path
    header: dict[str, Any]
    scenes: tuple[str, ...] = ()
    list_sha256: str = ""
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def shard(self) -> Shard | None:
        """Which part of the list of scenes it is of; None for all."""
        match = _SHARD_NAME.fullmatch(self.path.name)
        return Shard(int(match[1]), int(match[2])) if match else None


def digest_of(values: Mapping[str, Any]) -> str:
    """A digest of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def manifest_name(shard: Shard | None) -> str:
    """The name of the manifest of all scenes, or of a shard."""
    if shard is None:
        return NAME
    width = len(str(shard.of))
    return f"manifest-{shard.number:0{width}d}-of-{shard.of}.jsonl"


def read_record(path: Path) -> Record | None:
    """Read a manifest; None where it holds not even a header."""
    record: Record | None = None
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return None
    for line in lines:
        try:
            values = json.loads(line)
        except ValueError:
            continue  # cut off by a crash
        if record is None:
            if not isinstance(values, dict) or "model_sha256" not in values:
                return None
            record = Record(path, values)
        elif "maps" in values:
            record.scenes, record.list_sha256 = tuple(values["maps"]), values["list_sha256"]
        elif "map" in values:
            record.entries[values["map"]] = values
    return record


def read_records(folder: Path) -> list[Record]:
    """All manifests of a folder."""
    names = [folder / NAME, *sorted(folder.glob("manifest-*-of-*.jsonl"))]
    paths = [path for path in names if path.name == NAME or _SHARD_NAME.fullmatch(path.name)]
    return [record for path in paths if (record := read_record(path)) is not None]


def merged_entries(records: Sequence[Record]) -> dict[str, Entry]:
    """The last entry of each map in several manifests."""
    merged: dict[str, Entry] = {}
    for record in records:
        for name, entry in record.entries.items():
            if name not in merged or merged[name]["time"] <= entry["time"]:
                merged[name] = entry
    return merged


class Manifest:
    """The manifest that a run writes.

    Attributes
    ----------
    path : Path
    id : str
        Told to workers, so that they know this very folder.
    entries : dict of Entry
        By the name of the map, of all manifests in the folder.
    """

    def __init__(self, file: BinaryIO, path: Path, entries: dict[str, Entry], id: str) -> None:
        self._file = file
        self.path = path
        self.entries = entries
        self.id = id

    def add(self, entry: Entry) -> None:
        """Write the entry of a scene, with the time."""
        entry = {**entry, "time": now()}
        self.entries[entry["map"]] = entry
        _append(self._file, self.path, entry)

    def expect(self, tasks: Sequence[Task], all_tasks: Sequence[Task]) -> None:
        """Write which maps this run makes, so that it can be told later what is missing."""
        names = [Path(task.map).name for task in tasks]
        everything = "\n".join(Path(task.map).name for task in all_tasks)
        digest = hashlib.sha256(everything.encode("utf-8", "surrogateescape")).hexdigest()
        _append(self._file, self.path, {"maps": names, "list_sha256": digest})


@contextlib.contextmanager
def open_manifest(
    folder: Path, shard: Shard | None, header: Mapping[str, Any], *, overwrite: bool
) -> Iterator[Manifest]:
    """Open the manifest of a run for writing, so that no other run writes it meanwhile.

    Parameters
    ----------
    folder : Path
        Of the maps; made if need be.
    shard : Shard or None
    header : mapping
        ``model, model_sha256, options``.
    overwrite : bool
        Begin anew, and remove the manifests of other models and options.

    Raises
    ------
    ExistingOutputError
        The maps in the folder are of another model or of other options; or another run writes.
    """
    make_folder(folder)
    path = folder / manifest_name(shard)
    records = read_records(folder)
    others = [record for record in records if difference(record, header)]
    binding = [record for record in others if record.entries]
    if binding and not overwrite:
        raise ExistingOutputError(
            f"{binding[0].path} is of {difference(binding[0], header)}",
            "choose another folder with -o, or make all maps anew with --overwrite",
        )
    try:
        path.touch()
    except OSError as error:
        raise cannot_write(path, error) from error
    with open(path, "a+b", buffering=0) as file:
        lock(file, path)
        for record in records if overwrite else []:
            if record.path != path and (shard is None or record in others):
                record.path.unlink(missing_ok=True)
        own = read_record(path)  # again, as it may have grown
        if overwrite or own is None or difference(own, header):
            file.truncate(0)
            whole = {"id": uuid.uuid4().hex, **header, "started": now()}
            _append(file, path, whole)
            id = str(whole["id"])
        else:
            _end_line(file)
            id = str(own.header["id"])
        yield Manifest(file, path, {} if overwrite else merged_entries(records), id)


def difference(record: Record, header: Mapping[str, Any]) -> str:
    """In what a manifest is of another campaign; empty where it is not."""
    if record.header["model_sha256"] != header["model_sha256"]:
        return f"another model ({record.header['model']})"
    then, now_ = record.header["options"], header["options"]
    other = sorted(key for key in then.keys() | now_.keys() if then.get(key) != now_.get(key))
    return f"other options ({', '.join(other)})" if other else ""


def lock(file: BinaryIO, path: Path) -> None:
    """Keep other runs from a manifest until it is closed; ExistingOutputError if one writes."""
    try:
        import fcntl
    except ImportError:  # Windows has none
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ExistingOutputError(
            f"{path} is written by another run", "wait for it, or choose another folder with -o"
        ) from error
    except OSError:  # a file system without locks
        return


def _append(file: BinaryIO, path: Path, values: Mapping[str, Any]) -> None:
    try:
        file.write(json.dumps(values).encode() + b"\n")
        os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def _end_line(file: BinaryIO) -> None:
    """End the last line of a file that a crash cut off."""
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.write(b"\n")


def lost_entry(task: Task, cause: str) -> Entry:
    """The entry of a scene that no worker lived to answer for."""
    return {
        "map": Path(task.map).name,
        "scene": task.source,
        "worker": None,
        "digest": None,
        "status": FAILED,
        "cause": cause,
        "warnings": [],
    }


def now() -> str:
    """The time, for records."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def finished(entry: Entry | None, task: Task, *, retry_failed: bool) -> bool:
    """Whether nothing is left to do for a scene.

    It was dealt with, is what it was then, and its map is there. A failed one is left alone too,
    unless ``retry_failed``.
    """
    if entry is None or (entry["status"] == FAILED and retry_failed):
        return False
    try:
        if entry["digest"] != scene_digest(task.scene):
            return False
    except (HsifcnError, OSError):
        return entry["status"] == FAILED and entry["digest"] is None
    if entry["status"] != DONE:
        return True
    folder = Path(task.map).parent
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in entry["result"]["files"].items()
    )


def scene_digest(scene: str) -> str:
    """A digest of the files of a scene: names, sizes, times of change, and samples of the bytes.

    Of each file the first, the middle and the last 64 KiB are read; of a folder (Zarr) names,
    sizes and times alone. Of an address it is what the store tells of its files.

    Raises
    ------
    OSError, HsifcnError
        They cannot be read.
    """
    if is_address(scene):
        return look_up(scene).digest
    digest = hashlib.sha256()
    for file in raster_files(scene):
        for part in (file, *sorted(file.rglob("*"))):  # of a file itself alone
            state = part.stat()
            told = f"{part.relative_to(file.parent)}\0{state.st_size}\0{state.st_mtime_ns}\0"
            digest.update(told.encode("utf-8", "surrogateescape"))
        if file.is_file():
            size = file.stat().st_size
            with open(file, "rb") as content:
                for start in sorted({0, max(0, size // 2 - _SAMPLE // 2), max(0, size - _SAMPLE)}):
                    content.seek(start)
                    digest.update(content.read(_SAMPLE))
    return digest.hexdigest()


def require_manifests(folder: Path) -> list[Record]:
    """The manifests of a folder of maps, all of one model and one set of options.

    Raises
    ------
    FailedError
        There are none, or they are not of one campaign.
    """
    records = read_records(folder)
    if not records:
        raise FailedError(f"{folder} holds no manifest", "name the folder of the maps with -o")
    for record in records[1:]:
        found = difference(record, records[0].header)
        if found:
            raise FailedError(
                f"{record.path} is of {found}, {records[0].path.name} is not",
                "remove the one that is not wanted",
            )
    return records
