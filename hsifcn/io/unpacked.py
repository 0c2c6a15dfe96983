"""Arrays that are unpacked into the cache when they are first read, and read from there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io import cache
from hsifcn.io.raw import RawArray


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

    file: cache.FileState
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
        if not cache.is_complete(Path(raw.path), raw.nbytes):
            cache.check_room(raw.nbytes, f"{self.file.path}:{self.name}")

    def _entry(self) -> Path:
        return cache.entry(self.file, self.content, f".{self.order}")

    def _raw(self, entry: Path) -> RawArray:
        return RawArray(str(entry), 0, self.shape, self.dtype, self.order)

    def _unpacked(self) -> RawArray:
        entry = self._entry()
        raw = self._raw(entry)
        if cache.is_complete(entry, raw.nbytes):
            return raw
        if not os.path.exists(self.file.path) or cache.state_of(self.file.path) != self.file:
            raise UnreadableFileError(f"{self.file.path} changed since it was opened", "run again")
        name = f"{self.file.path}:{self.name}"
        cache.check_room(raw.nbytes, name)
        with cache.writing(entry) as temporary:
            self.unpack(self, temporary)
            if temporary.stat().st_size != raw.nbytes:
                raise UnreadableFileError(
                    f"{name} is not the {self.shape} {self.dtype} that the file announces",
                    "save it again",
                )
        return raw
