"""NumPy's files: one array (``.npy``), or a ZIP archive of several (``.npz``).

The array of an ``.npy`` file is read where it lies. One of an archive is unpacked into the cache
when it is first read, as a stream: ``numpy.load`` would hold the whole array in memory.
"""

from __future__ import annotations

import dataclasses
import io
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from hsifcn.core.errors import AmbiguousInputError, LabelError, SettingError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io import cache
from hsifcn.io.axes import axes_by_wavelengths, refuse_small_cube, turned
from hsifcn.io.cache import UnpackedArray
from hsifcn.io.formats import (
    FileScene,
    Format,
    GivenLabels,
    UnreadLabels,
    not_a_cube,
    refuse_lying_size,
    refuse_variable,
)
from hsifcn.io.raw import RawArray
from hsifcn.io.wavelengths import NAMES, listed_wavelengths
from hsifcn.io.writer import RasterSpec, RasterWriter

_HEADER_LIMIT = 2**14  # bytes; that of a plain array takes 128
_HEADER_READERS = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}
_HEADER_FAULTS = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, SyntaxError),
    *(tokenize.TokenError, RecursionError, MemoryError, OverflowError),
)
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)
_LABELS = ("gt", "label", "labels", "ground_truth", "y")
_BLOCK_BYTES = 2**20  # copied at a time


@dataclasses.dataclass(frozen=True)
class Header:
    """What a ``.npy`` file tells: shape and type of its array, where that begins, and its order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    fortran_order: bool

    @property
    def order(self) -> str:
        """Order of the axes on disk, a key of ``raw.ORDERS``."""
        return "bsq-columns" if self.fortran_order else "bip"


def open_scene(path: str, variable: str | None) -> FileScene:
    """Open the 3-D array of an ``.npy`` file as a scene."""
    refuse_variable(path, variable)
    header = _read_header(path)
    rows, cols, bands = _cube_shape(path, header)
    return _scene(path, _in_place(path, (rows, cols, bands), header), header)


def read_labels(path: str, variable: str | None) -> GivenLabels:
    """Read the 2-D array of an ``.npy`` file as labels."""
    refuse_variable(path, variable)
    header = _read_header(path)
    shape = header.shape
    if len(shape) != 2 and not (len(shape) == 3 and shape[2] == 1):
        raise LabelError(f"{path} has the shape {shape}", "a label map is (rows, cols)")
    voxels = _in_place(path, (shape[0], shape[1], 1), header)
    return GivenLabels(voxels.read(Window(0, 0, shape[0], shape[1]))[:, :, 0])


def open_archived_scene(path: str, variable: str | None) -> FileScene:
    """Open the array of an archive that was named, or else its only cube."""
    headers = _archived_headers(path)
    if variable is None:
        variable = _only(path, headers, 3)
        refuse_small_cube(path, variable, {name: header.shape for name, header in headers.items()})
    header = _named(path, headers, variable)
    shape = _cube_shape(f"{path}:{variable}", header)
    voxels = _archived(path, variable, header)
    voxels.check_room()
    scene = _scene(f"{path}:{variable}", voxels, header)
    name = next((name for name in headers if name.casefold() in NAMES), None)
    if name is None:
        return scene
    count = headers[name].shape[0] if len(headers[name].shape) == 1 else None
    axes = axes_by_wavelengths(shape, count)
    scene = turned(scene, axes) if axes else scene
    return dataclasses.replace(scene, wavelengths=_wavelengths(path, headers, scene.shape[2]))


def read_archived_labels(path: str, variable: str | None) -> GivenLabels:
    """Read the 2-D array of an archive that was named, or else its only one."""
    headers = _archived_headers(path)
    if variable is None:
        variable = _only(path, headers, 2)
    header = _named(path, headers, variable)
    if len(header.shape) != 2:
        raise LabelError(f"{path}:{variable} has the shape {header.shape}", "a map is (rows, cols)")
    rows, cols = header.shape
    return GivenLabels(UnreadLabels((rows, cols), _archived(path, variable, header).read))


def inner_labels(path: str, size: tuple[int, int]) -> list[str]:
    """Find maps of a cube's size that are called labels in an archive."""
    return [
        f"{path}:{name}"
        for name, header in _archived_headers(path).items()
        if header.shape == size and name.casefold() in _LABELS
    ]


def create(spec: RasterSpec) -> RasterWriter:
    """Write a raster as an array in C order."""
    header = io.BytesIO()
    npy_format.write_array_header_1_0(
        header,
        {
            "descr": npy_format.dtype_to_descr(spec.dtype),
            "fortran_order": False,
            "shape": spec.shape,
        },
    )
    return RasterWriter(spec, prefix=header.getvalue())


def create_archive(spec: RasterSpec) -> RasterWriter:
    """Refuse: archives are read only."""
    raise SettingError(f"{spec.path} cannot be written as .npz", "write .npy instead")


FORMAT = Format(
    name="NumPy",
    suffixes=(".npy",),
    label_suffixes=(".npy",),
    write_suffixes=(".npy",),
    open_scene=open_scene,
    read_labels=read_labels,
    create=create,
)
ARCHIVE_FORMAT = Format(
    name="NumPy archive",
    suffixes=(".npz",),
    label_suffixes=(".npz",),
    write_suffixes=(),
    open_scene=open_archived_scene,
    read_labels=read_archived_labels,
    create=create_archive,
    inner_labels=inner_labels,
)


def parse_header(name: str, file: IO[bytes]) -> Header:
    """Parse the header of a ``.npy`` file; nothing in it is executed.

    Raises
    ------
    UnreadableFileError
        It is none, or tells of no plain numbers.
    """
    start = io.BytesIO(file.read(_HEADER_LIMIT))
    try:
        reader = _HEADER_READERS[npy_format.read_magic(start)]
        shape, fortran_order, dtype = reader(start)
    except _HEADER_FAULTS as error:
        reason = " ".join(str(error).split())[:100]
        raise UnreadableFileError(f"{name} has no valid .npy header ({reason})") from error
    if any(type(size) is not int or size < 1 for size in shape):
        raise UnreadableFileError(f"{name} holds an empty array, {shape}")
    if dtype.kind not in "biuf" or dtype.itemsize > 8 or dtype.shape:
        raise UnreadableFileError(f"{name} holds {str(dtype)[:80]}, not plain numbers")
    return Header(shape, dtype, start.tell(), bool(fortran_order))


def _read_header(path: str) -> Header:
    with open(path, "rb") as file:
        return parse_header(path, file)


def _cube_shape(name: str, header: Header) -> tuple[int, int, int]:
    """Shape of an array that may be a scene."""
    if len(header.shape) != 3:
        raise not_a_cube(name, header.shape)
    if header.dtype.kind not in "iuf":
        raise UnreadableFileError(f"{name} holds {header.dtype}, not integers or floats")
    rows, cols, bands = header.shape
    return rows, cols, bands


def _scene(name: str, voxels: RawArray | UnpackedArray, header: Header) -> FileScene:
    return FileScene(
        path=name,
        shape=voxels.shape,
        dtype=header.dtype.newbyteorder("="),
        interleave=header.order[:3],
        voxels=voxels,
        good_bands=np.ones(voxels.shape[2], dtype=np.bool_),
        axes_told=False,
    )


def _in_place(path: str, shape: tuple[int, int, int], header: Header) -> RawArray:
    """The array of an ``.npy`` file; the file must hold all of it."""
    voxels = RawArray(os.path.abspath(path), header.offset, shape, header.dtype, header.order)
    size, needed = os.path.getsize(path), header.offset + voxels.nbytes
    if size < needed:
        raise UnreadableFileError(
            f"{path} is truncated: {size} bytes where its header asks for {needed}",
            "copy it again",
        )
    return voxels


@contextmanager
def _archive(path: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _ZIP_FAULTS as error:
        reason = " ".join(str(error).split())[:100]
        raise UnreadableFileError(
            f"{path} is no whole .npz file ({reason})", "save it anew"
        ) from error


def _archived_headers(path: str) -> dict[str, Header]:
    """The arrays of numbers in an archive."""
    headers = {}
    with _archive(path) as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as file:
                    try:
                        headers[name.removesuffix(".npy")] = parse_header(f"{path}:{name}", file)
                    except UnreadableFileError:  # objects, texts and the like stay unread
                        continue
    return headers


def _only(path: str, headers: dict[str, Header], dimensions: int) -> str:
    """Name of the only array of so many dimensions in an archive."""
    found = [name for name, header in headers.items() if len(header.shape) == dimensions]
    if not found and dimensions == 3:
        raise UnreadableFileError(f"{path} holds no cube", f"it holds {_held(headers)}")
    if not found:
        raise LabelError(f"{path} holds no label map, an array of (rows, cols)")
    if len(found) > 1:
        names = ", ".join(f"{path}:{name}" for name in found)
        what = "cubes" if dimensions == 3 else "maps"
        raise AmbiguousInputError(f"{path} holds several {what}: {names}", "name one of these")
    return found[0]


def _named(path: str, headers: dict[str, Header], name: str) -> Header:
    if name not in headers:
        raise UnreadableFileError(f"{path} has no array '{name}'", f"it holds {_held(headers)}")
    return headers[name]


def _held(headers: dict[str, Header]) -> str:
    return ", ".join(f"{name} {header.shape}" for name, header in headers.items()) or "nothing"


def _archived(path: str, name: str, header: Header) -> UnpackedArray:
    """An array of an archive, of (rows, cols, bands) or (rows, cols)."""
    rows, cols, bands = (*header.shape, 1)[:3]
    refuse_lying_size(path, rows * cols * bands * header.dtype.itemsize)
    return UnpackedArray(
        file=cache.state_of(path),
        name=name,
        content=f"npz {name}",
        shape=(rows, cols, bands),
        dtype=header.dtype,
        unpack=_unpack,
        order=header.order,
    )


def _wavelengths(
    path: str, headers: dict[str, Header], bands: int
) -> npt.NDArray[np.float64] | None:
    """Wavelengths in a list beside the cube."""
    for name, header in headers.items():
        if name.casefold() in NAMES:
            values: Any = ()
            if header.shape == (bands,):
                row = dataclasses.replace(header, shape=(1, bands))
                values = _archived(path, name, row).read_map()
            return listed_wavelengths(path, values, bands)
    return None


def _unpack(array: UnpackedArray, target: Path) -> None:
    """Copy a member without its header; it can be no longer than the array."""
    with (
        _archive(array.file.path) as archive,
        archive.open(f"{array.name}.npy") as member,
        open(target, "wb") as output,
    ):
        member.seek(parse_header(array.name, member).offset)
        left = int(np.prod(array.shape)) * array.dtype.itemsize
        while left and (block := member.read(min(left, _BLOCK_BYTES))):
            output.write(block)
            left -= len(block)
