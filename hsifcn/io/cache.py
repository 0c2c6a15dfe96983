"""What was taken out of files that cannot be read window by window, kept on disk.

An entry is named after the file's path, inode, size and times of change: a file that changes, or
is replaced by another of the same size and time, gets a new one. The folder is ``$HSIFCN_CACHE``
or ``~/.cache/hsifcn``; deleting it costs nothing but time.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io.files import atomic_write
from hsifcn.io.raw import RawArray

LIMIT = 20 * 2**30  # bytes of all entries; the oldest go first
_NAME = "entry-"  # begins the name of every entry, so that nothing else is ever removed


@dataclass(frozen=True)
class FileState:
    """One state of a file: absolute path, bytes, inode, times of change in ns.

    ``mtime_ns`` is copied by many programs, ``ctime_ns`` is set by the system.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def state_of(path: str) -> FileState:
    """Give the present state of a file."""
    status = os.stat(path)
    return FileState(
        path=os.path.abspath(path),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
    )


def entry(file: FileState, content: str, suffix: str) -> Path:
    """Name the entry for some content of a file; it need not exist."""
    times = (file.mtime_ns, file.ctime_ns)
    key = "\0".join([file.path, *map(str, (file.size, *times, file.inode)), content])
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:40]
    return folder() / f"{_NAME}{digest}{suffix}"


def is_complete(path: Path, size: int) -> bool:
    """Tell whether an entry exists with its right size, and mark it as used."""
    try:
        complete = path.stat().st_size == size
        if complete:
            os.utime(path)
    except OSError:
        return False
    return complete


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path that becomes the entry; the oldest entries make room afterwards."""
    with atomic_write(path, overwrite=True) as temporary:
        yield temporary
    _evict(keep=path)


def check_room(size: int, what: str) -> None:
    """Raise UnreadableFileError where an entry of ``size`` bytes cannot be kept."""
    free = shutil.disk_usage(folder()).free
    if size > free:
        raise UnreadableFileError(
            f"{what} would take {size / 1e9:.1f} GB in {folder()}, where {free / 1e9:.1f} are free",
            "make room, or set HSIFCN_CACHE to another folder",
        )


def folder() -> Path:
    """Give the folder of the cache, or a temporary one where it cannot be written."""
    chosen = os.environ.get("HSIFCN_CACHE") or os.path.expanduser("~/.cache/hsifcn")
    path = Path(os.path.abspath(chosen))
    with suppress(OSError):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(path, os.W_OK | os.X_OK):
            return path
    return Path(_temporary_folder(str(path)).name)


@functools.cache
def _temporary_folder(instead_of: str) -> tempfile.TemporaryDirectory[str]:
    warnings.warn(
        f"{instead_of} cannot be written; files are unpacked again for every run", stacklevel=2
    )
    return tempfile.TemporaryDirectory(prefix="hsifcn-", ignore_cleanup_errors=True)


def _evict(keep: Path) -> None:
    """Remove the entries that were used longest ago until all fit under ``LIMIT``."""
    entries = []
    for path in keep.parent.glob(f"{_NAME}*"):
        with suppress(FileNotFoundError):  # another process may be evicting too
            status = path.stat()
            entries.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= LIMIT:
            return
        if path != keep:
            path.unlink(missing_ok=True)
            total -= size


@dataclass(frozen=True)
class UnpackedArray:
    """An array of a file that cannot be read window by window, or only slowly.

    Attributes
    ----------
    file : FileState
        The file as it was when it was opened.
    name : str
        What of it is meant, for messages.
    content : str
        The same in all detail, for ``unpack``; entries of the cache are told apart by it.
    shape : tuple of int
        Rows, columns, bands.
    dtype : dtype
        Type of the unpacked voxels.
    unpack : callable
        ``(array, target)``: writes the voxels to ``target``; a function of a module, so that it
        can be pickled.
    order : str
        Of the unpacked axes, a key of ``raw.ORDERS``.
    """

    file: FileState
    name: str
    content: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    unpack: Callable[[UnpackedArray, Path], None]
    order: str = "bip"

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read all bands of a window, as ``RawArray.read`` does."""
        return self._unpacked().read(window)

    def read_map(self) -> npt.NDArray[Any]:
        """Read the only band, (rows, cols)."""
        rows, cols, _ = self.shape
        return self.read(Window(0, 0, rows, cols))[:, :, 0]

    def check_room(self) -> None:
        """Raise UnreadableFileError where the cache neither holds the array nor has room."""
        raw = self._raw(self._entry())
        if not is_complete(Path(raw.path), raw.nbytes):
            check_room(raw.nbytes, f"{self.file.path}:{self.name}")

    def _entry(self) -> Path:
        return entry(self.file, self.content, f".{self.order}")

    def _raw(self, kept: Path) -> RawArray:
        return RawArray(str(kept), 0, self.shape, self.dtype, self.order)

    def _unpacked(self) -> RawArray:
        kept = self._entry()
        raw = self._raw(kept)
        if is_complete(kept, raw.nbytes):
            return raw
        if not os.path.exists(self.file.path) or state_of(self.file.path) != self.file:
            raise UnreadableFileError(f"{self.file.path} changed since it was opened", "run again")
        name = f"{self.file.path}:{self.name}"
        check_room(raw.nbytes, name)
        with writing(kept) as temporary:
            self.unpack(self, temporary)
            if temporary.stat().st_size != raw.nbytes:
                raise UnreadableFileError(
                    f"{name} is not the {self.shape} {self.dtype} that the file announces",
                    "save it again",
                )
        return raw
