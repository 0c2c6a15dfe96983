"""Small files: written whole or not at all, and text read whatever its encoding."""

from __future__ import annotations

import codecs
import glob
import json
import os
import platform
import re
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hsifcn.core.errors import (
    ExistingOutputError,
    FailedError,
    SettingError,
    UnreadableFileError,
)

_inputs: set[tuple[int, int]] | None = None  # device and inode of what a command reads
_TEXT_LIMIT = 16 * 2**20  # bytes; no header or list of names comes near


@contextmanager
def safe_inputs() -> Iterator[None]:
    """Refuse to write, in the block, over files that ``mark_input`` was told of."""
    global _inputs
    before, _inputs = _inputs, set()
    try:
        yield
    finally:
        _inputs = before


def mark_input(*paths: str | os.PathLike[str] | None) -> None:
    """Tell of files that are read; those that are not there are passed over."""
    if _inputs is None:
        return
    for path in paths:
        with suppress(OSError, ValueError, TypeError):
            status = os.stat(path)  # type: ignore[arg-type]
            _inputs.add((status.st_dev, status.st_ino))


def _refuse_input(path: Path) -> None:
    """Raise where a file that is read would be replaced."""
    if _inputs:
        status = path.stat()
        if (status.st_dev, status.st_ino) in _inputs:
            raise SettingError(
                f"{path} would be replaced, and it is an input or belongs to one",
                "choose another name",
            )


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path whose file takes the place of ``path`` when the block ends well.

    The temporary file lies beside the target and keeps its suffix. It is flushed to disk before
    it is renamed, and removed when the block raises.

    Parameters
    ----------
    path : path
        The file to write.
    overwrite : bool
        Replace a file that exists.

    Yields
    ------
    Path
        Where to write; nothing exists there yet.

    Raises
    ------
    ExistingOutputError
        ``path`` exists and ``overwrite`` is false, or it is a folder.
    FailedError
        The file cannot be written: disk full, no permission, no such folder.
    """
    target = Path(path)
    refuse_existing(target, overwrite)
    temporary = temporary_beside(target)
    try:
        yield temporary
        sync(temporary)
        refuse_existing(target, overwrite)
        temporary.replace(target)
        sync(target.parent)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        remove_temporary(temporary)


@contextmanager
def restored_on_failure(paths: Iterable[Path]) -> Iterator[None]:
    """Put files back as they were, or remove them if they were not there, where the block raises.

    Of files that are there a second name is kept meanwhile, or a copy on disks without hard links,
    so that this needs no space on a full disk.
    """
    present: list[Path] = []
    absent: list[Path] = []
    for path in paths:
        (present if path.is_file() else absent).append(path)
    kept: dict[Path, Path] = {}
    try:
        for path in present:
            kept[path] = temporary_beside(path)
            try:
                kept[path].hardlink_to(path)
            except OSError:
                shutil.copy2(path, kept[path])
        finished = False
        try:
            yield
            finished = True
        finally:
            if not finished:
                for path, second in kept.items():
                    second.replace(path)
                for path in filter(Path.is_file, absent):
                    path.unlink()
    finally:
        for second in kept.values():
            second.unlink(missing_ok=True)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise where writing ``path`` would lose something: ExistingOutputError, or SettingError."""
    if path.is_dir():
        raise ExistingOutputError(f"{path} is a folder", "name a file")
    if path.exists():
        _refuse_input(path)
    if path.exists() and not overwrite:
        raise ExistingOutputError(f"{path} exists", "add --overwrite or choose another name")


def is_file_of(path: Path, content: bytes) -> bool:
    """Tell whether a file exists with that very content."""
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def require_folder(path: Path) -> None:
    """Raise SettingError where the folder that ``path`` is to be written into cannot take it."""
    folder = path.parent
    if not folder.is_dir():
        raise SettingError(
            f"{path} cannot be written: {folder} is no folder", "make it first or name another"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SettingError(
            f"{path} cannot be written: no permission to write into {folder}", "name another folder"
        )


def make_folder(path: Path) -> None:
    """Make a folder for outputs, and those above it; SettingError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(
            f"folder {path} cannot be made: {error.strerror or error}", "name another with -o"
        ) from error


def temporary_beside(path: Path) -> Path:
    """Give a free name in the folder of ``path``, hidden, with the same suffix.

    The name tells the computer and the process that writes. What killed processes left of the same
    file is removed.
    """
    remove_abandoned(path)
    name = f".{path.stem}.{_computer()}-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}"
    return path.with_name(name)


def remove_abandoned(path: Path) -> None:
    """Remove temporaries of ``path`` whose process on this computer no longer runs."""
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*-*-*"):
        rest = left.name.removeprefix(f".{path.stem}")
        mark = re.match(r"\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}(?:\.|$)", rest)
        if mark and mark[1] == _computer() and not _runs(int(mark[2])):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _computer() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _runs(process: int) -> bool:
    """Whether a process of that number runs; Windows cannot ask without ending it."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def remove_temporary(path: Path) -> None:
    """Remove a temporary file, and what a library left beside it under its name and more."""
    for left in path.parent.glob(f"{glob.escape(path.name)}*"):
        left.unlink()


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> FailedError:
    """Name the file that could not be written, and why."""
    return FailedError(
        f"{path} cannot be written: {error.strerror or error}",
        "check the folder, its permissions and the free space",
    )


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a small text file: UTF-8, with or without a byte order mark, else Latin-1.

    UTF-16 is read where a byte order mark tells it.

    Raises
    ------
    UnreadableFileError
        The file is missing, cannot be read, or is far too large for a text file.
    """
    mark_input(path)
    try:
        with open(path, "rb") as file:
            content = file.read(_TEXT_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from error
    if len(content) > _TEXT_LIMIT:
        raise UnreadableFileError(f"{os.fspath(path)} is too large for a text file")
    try:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content.decode("utf-16")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def cannot_read(path: str | os.PathLike[str], error: Exception) -> UnreadableFileError:
    """Name the file that could not be read, and why."""
    if isinstance(error, FileNotFoundError):
        return UnreadableFileError(f"{os.fspath(path)} does not exist", "check the path")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UnreadableFileError(f"{os.fspath(path)} cannot be read: {reason}")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON, atomically, replacing what was there."""
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", "utf-8")


@contextmanager
def plain_path(path: str, *, always: bool = False) -> Iterator[Path]:
    """Give a path to a file that GDAL and its wrappers understand.

    They take ``!`` for the mark of an archive and ``;`` for a list of files, and want names in
    UTF-8. A file with another name is linked under a plain one, in a folder of its own, and so are
    those beside it that are called after it; ``always``: every file, for drivers that write beside
    what they read.
    """
    if not always and not set("!;") & set(path) and printable(path) == path:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="hsifcn-") as folder:
        file = Path(path).absolute()
        for sibling in file.parent.glob(f"{glob.escape(file.stem)}.*"):
            Path(folder, f"file{sibling.name[len(file.stem) :]}").symlink_to(sibling)
        yield Path(folder, f"file{file.suffix}")


def printable(name: str) -> str:
    """A file's name with what is not valid UTF-8 replaced, for texts."""
    return name.encode("utf-8", "replace").decode("utf-8")


@contextmanager
def utf8_path(path: str | os.PathLike[str], beside: Sequence[str] = ()) -> Iterator[str]:
    """Give a path to a file for libraries that take no other bytes than UTF-8.

    Parameters
    ----------
    path : path
        The file. Where its path is not UTF-8, a link to it is given, in a temporary folder.
    beside : sequence of str
        What is added to its name in the names of files beside it that belong to it.
    """
    given = os.path.abspath(path)
    if printable(given) == given:
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory(prefix="hsifcn-") as folder:
        link = os.path.join(folder, f"file{printable(Path(given).suffix)}")
        for suffix in ("", *beside):
            if os.path.exists(given + suffix):
                os.symlink(given + suffix, link + suffix)
        yield link
