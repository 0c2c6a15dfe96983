"""Which scenes a campaign maps, into which files; no scene is opened for that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsifcn.core.errors import SettingError, UnreadableFileError
from hsifcn.inference.targets import require_apart
from hsifcn.io import scene_stem
from hsifcn.io.addresses import is_address, parse_address, refuse_address, source_of
from hsifcn.io.files import read_text
from hsifcn.io.finding import scene_files
from hsifcn.io.remote import matching_scenes

LIST_MARK = "@"  # before the path of a list file


@dataclass(frozen=True)
class Task:
    """A scene to map.

    Attributes
    ----------
    scene : str
        Absolute path, or an address where that is allowed.
    map : str
        Absolute path of its map.
    found : bool
        It was found in a folder or by a pattern, so that it may be no scene at all.
    overwrite : bool
        Replace a map that is there.
    polygons : bool
        Trace the map into a GeoPackage beside it.
    cut : dict or None
        Of ``parts.Cut``: the scene is mapped in parts.
    part : int or None
        Which part to map; None to join them all.
    """

    scene: str
    map: str
    found: bool = False
    overwrite: bool = False
    polygons: bool = False
    cut: dict[str, Any] | None = None
    part: int | None = None

    @property
    def source(self) -> str:
        """The scene as it may be told: of an address without what signs it."""
        return source_of(self.scene)


@dataclass(frozen=True)
class Shard:
    """Every ``of``-th scene of a list, from scene ``number`` (counted from 1) on."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``I/N``; SettingError where that is none."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise SettingError(f"--shard {text} is no shard", "give I/N with I from 1 to N: 3/100")
        return cls(int(match[1]), int(match[2]))

    def of_list(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks of this shard."""
        return list(tasks[self.number - 1 :: self.of])


def expand(paths: Sequence[str], *, allow_remote: bool = False) -> list[tuple[str, bool]]:
    """Name every scene that paths stand for.

    Parameters
    ----------
    paths : sequence of str
        Scenes, folders, patterns such as ``flights/*.hdr`` (``**`` for any folders), and list
        files: ``@scenes.txt`` holds a path or a pattern a line; empty lines and those that begin
        with ``#`` are passed over.
    allow_remote : bool
        A scene may be an address, also with ``*`` in it.

    Returns
    -------
    list of (str, bool)
        Each scene, and whether it was found in a folder or by a pattern.

    Raises
    ------
    UnreadableFileError
        A folder, a pattern or a list without scenes; a list that cannot be read.
    """
    scenes: list[tuple[str, bool]] = []
    for path in paths:
        if path.startswith(LIST_MARK):
            lines = _lines_of(path.removeprefix(LIST_MARK))
            scenes += expand(lines, allow_remote=allow_remote)
            continue
        if not allow_remote:
            refuse_address(path)
        is_pattern = is_address(path) and "*" in parse_address(path).parts.path
        files = matching_scenes(path) if is_pattern else scene_files(path)
        if files is None:
            scenes.append((path, False))
        elif not files:
            raise UnreadableFileError(f"{source_of(path)} holds no scene", "name a scene")
        else:
            scenes += [(str(file), True) for file in files]
    return scenes


def _lines_of(path: str) -> list[str]:
    """The paths that a list file names; the list itself is no address."""
    refuse_address(path)
    lines = [line.strip() for line in read_text(path).splitlines()]
    named = [line for line in lines if line and not line.startswith("#")]
    if not named:
        raise UnreadableFileError(f"{path} names no scene", "write a path a line")
    if any(line.startswith(LIST_MARK) for line in named):
        raise UnreadableFileError(f"{path} names another list", "name both: @one.txt @two.txt")
    return named


def make_tasks(
    scenes: Sequence[tuple[str, bool]], folder: Path, suffix: str, *, polygons: bool = False
) -> list[Task]:
    """Give each scene the file of its map.

    Parameters
    ----------
    scenes : sequence of (str, bool)
        Of ``expand``.
    folder : Path
        Of the maps.
    suffix : str
        Of the maps; it decides their format.
    polygons : bool

    Raises
    ------
    SettingError
        Two maps would have one name, or a map would replace its scene.
    """
    tasks: dict[str, Task] = {}
    for scene, found in scenes:
        stem = Path(scene).stem
        with suppress(UnreadableFileError):  # of a scene that is not there, and fails later, alone
            stem = scene_stem(scene)
            require_apart(scene, folder / f"{stem}_map{suffix}")
        path = folder.absolute() / f"{stem}_map{suffix}"
        other = tasks.get(path.name)
        if other is not None:
            raise SettingError(
                f"two scenes have the same name: {other.source} and {source_of(scene)}",
                "map them into different folders, one command each",
            )
        scene = scene if is_address(scene) else str(Path(scene).absolute())
        tasks[path.name] = Task(scene, str(path), found, polygons=polygons)
    return list(tasks.values())
