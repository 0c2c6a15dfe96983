"""Rasters written window by window, visible under their name only once they are whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import FailedError
from hsifcn.core.scene import Grid, Window, default_colours
from hsifcn.io.files import (
    cannot_write,
    is_file_of,
    refuse_existing,
    remove_temporary,
    sync,
    temporary_beside,
)


@dataclass(frozen=True)
class RasterSpec:
    """A raster that is to be written.

    Attributes
    ----------
    path : Path
        Its suffix told the format.
    shape : tuple of int
        (rows, cols) or (rows, cols, bands).
    dtype : dtype
        Type of the voxels, in native byte order.
    overwrite : bool
        Replace a raster that exists.
    grid : Grid or None
        Georeference.
    nodata : float or None
        The value of voxels that hold nothing.
    class_names : tuple of str
        Names of classes 1, 2, ...: the raster is a classified map, if there are any.
    colours : tuple of (red, green, blue), 0-255
        Their colours.
    class_codes : tuple of int
        Values that stand for them in the file; 1, 2, ... where not given.
    band_names : tuple of str
        Names of the bands.
    wavelengths : tuple of float
        Wavelengths of the bands, nm.
    ramp : tuple of float, or None
        Values that QGIS shows as the two ends of a ramp of colours, of the last band.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    overwrite: bool = False
    grid: Grid | None = None
    nodata: float | None = None
    class_names: tuple[str, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    class_codes: tuple[int, ...] = ()
    band_names: tuple[str, ...] = ()
    wavelengths: tuple[float, ...] = ()
    ramp: tuple[float, float] | None = None

    @property
    def bands(self) -> int:
        """Number of bands; 1 for a raster without a band axis."""
        return self.shape[2] if len(self.shape) == 3 else 1

    @property
    def class_colours(self) -> tuple[tuple[int, int, int], ...]:
        """One colour a class name: those given, then the default ones."""
        n_classes = len(self.class_names)
        return (*self.colours, *default_colours(n_classes)[len(self.colours) :])[:n_classes]

    @property
    def class_values(self) -> tuple[int, ...]:
        """The value of each class in the file."""
        return self.class_codes or tuple(range(1, len(self.class_names) + 1))

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels."""
        return self.shape[0] * self.shape[1] * self.bands * self.dtype.itemsize


class RasterWriter:
    """Writes the windows of one raster, bands last, at their place in the file.

    Used as a context manager. Everything goes into a temporary file beside the target. When the
    block ends without an error, that file is checked, flushed and renamed, and what belongs to it
    follows; on an error nothing stays.

    Parameters
    ----------
    spec : RasterSpec
        The raster.
    prefix : bytes
        What stands in the file before the first voxel.
    companions : sequence of (Path, bytes)
        Files beside the raster (a header, a style), and their content.
    stale : sequence of Path
        Files that belong to the raster that is replaced; removed before it is.
    convert : callable or None
        ``(raw, target)``: turns the file of voxels into one of the wanted format. It may leave a
        second file, of the name of ``target`` and ``.aux.xml``.

    Raises
    ------
    ExistingOutputError
        The raster, a stale file or a companion of other content exists and may not be overwritten.
    """

    def __init__(
        self,
        spec: RasterSpec,
        *,
        prefix: bytes = b"",
        companions: Sequence[tuple[Path, bytes]] = (),
        stale: Sequence[Path] = (),
        convert: Callable[[Path, Path], None] | None = None,
    ) -> None:
        self._spec = spec
        self._prefix = prefix
        self._companions = companions
        self._stale = stale
        self._convert = convert
        self._raw = temporary_beside(spec.path)
        self._temporaries = [self._raw]
        self._file: BinaryIO | None = None
        self._pixels = 0
        self._refuse_existing()

    @property
    def path(self) -> Path:
        """Where the raster will be."""
        return self._spec.path

    def __enter__(self) -> RasterWriter:
        try:
            self._file = open(self._raw, "xb", buffering=0)
            self._put(0, memoryview(self._prefix))
        except OSError as error:
            self._discard()
            raise cannot_write(self.path, error) from error
        return self

    def write(self, window: Window, block: npt.NDArray[Any]) -> None:
        """Write one window.

        Parameters
        ----------
        window : Window
            Where it lies in the raster. All windows together must cover it.
        block : ndarray, (window.rows, window.cols) or (window.rows, window.cols, bands)
            Its pixels, of a type whose values the raster's type can hold.

        Raises
        ------
        FailedError
            The disk is full or fails.
        ValueError
            The block is of another size than the window, or the window is out of the raster.
        """
        rows, cols = self._spec.shape[:2]
        voxels = self._voxels(window, block)
        pixel = self._spec.bands * self._spec.dtype.itemsize
        if window.cols == cols:
            voxels = voxels.reshape(1, -1)
        if min(window.row, window.col) < 0 or window.row_stop > rows or window.col_stop > cols:
            raise ValueError(f"{window} reaches out of a raster of {rows} x {cols} pixels")
        try:
            for i, run in enumerate(voxels):
                start = ((window.row + i) * cols + window.col) * pixel
                self._put(len(self._prefix) + start, memoryview(run.reshape(-1).view(np.uint8)))
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._pixels += window.rows * window.cols

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._commit()
        except OSError as failure:
            raise cannot_write(self.path, failure) from failure
        finally:
            self._discard()

    def _voxels(self, window: Window, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring a block to (rows, cols x bands) in the raster's type."""
        expected = (window.rows, window.cols, *self._spec.shape[2:])
        if block.shape not in (expected, (*expected, 1)[:3]):
            raise ValueError(f"a block of {block.shape} for a window of {expected}")
        voxels = np.ascontiguousarray(block, dtype=self._spec.dtype)
        integers = np.issubdtype(self._spec.dtype, np.integer)
        if integers and voxels.dtype != block.dtype and not np.array_equal(voxels, block):
            raise ValueError(f"a block of {block.dtype} does not fit into {self._spec.dtype}")
        return voxels.reshape(window.rows, -1)

    def _put(self, position: int, content: memoryview) -> None:
        assert self._file is not None, "write() belongs inside the with block"
        self._file.seek(position)
        while content:
            content = content[self._file.write(content) :]

    def _commit(self) -> None:
        assert self._file is not None
        self._file.close()
        self._check_complete()
        raster = self._raw
        if self._convert is not None:
            raster = self._new_temporary(self.path)
            self._convert(self._raw, raster)
        moves = [(raster, self.path)]
        auxiliary = raster.with_name(f"{raster.name}.aux.xml")
        if auxiliary.exists():
            moves.append((auxiliary, self.path.with_name(f"{self.path.name}.aux.xml")))
        for companion, content in self._companions:
            temporary = self._new_temporary(companion)
            temporary.write_bytes(content)
            moves.append((temporary, companion))
        for temporary, _ in moves:
            sync(temporary)
        self._refuse_existing()
        # A raster without a header cannot be read; one with the wrong header can, wrongly.
        for old in self._stale:
            old.unlink(missing_ok=True)
        for temporary, target in moves:
            temporary.replace(target)
        sync(self.path.parent)

    def _check_complete(self) -> None:
        rows, cols = self._spec.shape[:2]
        size = self._raw.stat().st_size
        if self._pixels < rows * cols or size != len(self._prefix) + self._spec.nbytes:
            raise FailedError(
                f"{self.path} was not written: {self._pixels} of {rows * cols} pixels came",
                "this is a bug in the program that writes it",
            )

    def _refuse_existing(self) -> None:
        refuse_existing(self.path, self._spec.overwrite)
        for old in self._stale:
            refuse_existing(old, self._spec.overwrite)
        for companion, content in self._companions:
            if not is_file_of(companion, content):
                refuse_existing(companion, self._spec.overwrite)

    def _new_temporary(self, path: Path) -> Path:
        temporary = temporary_beside(path)
        self._temporaries.append(temporary)
        return temporary

    def _discard(self) -> None:
        if self._file is not None:
            self._file.close()
        for temporary in self._temporaries:
            remove_temporary(temporary)
