"""NumPy's archives of several arrays, ``.npz``: a zip of ``.npy`` files.

An array is unpacked into the cache when it is first read.
"""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import AmbiguousInputError, LabelError, SettingError, UnreadableFileError
from hsifcn.io import cache
from hsifcn.io.formats import FileScene, Format, GivenLabels, not_a_cube, refuse_lying_size
from hsifcn.io.npy import Header, parse_header
from hsifcn.io.unpacked import UnpackedArray
from hsifcn.io.wavelengths import NAMES, listed_wavelengths
from hsifcn.io.writer import RasterSpec, RasterWriter

_NAMES = ("gt", "label", "labels", "ground_truth", "y")
_BLOCK_BYTES = 2**20  # copied at a time
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)


def open_scene(path: str, variable: str | None) -> FileScene:
    """Open the array that was named, or else the only cube in the archive."""
    headers = _headers(path)
    if variable is None:
        cubes = [name for name, header in headers.items() if len(header.shape) == 3]
        if not cubes:
            raise UnreadableFileError(f"{path} holds no cube", f"it holds {_held(headers)}")
        if len(cubes) > 1:
            names = ", ".join(f"{path}:{name}" for name in cubes)
            raise AmbiguousInputError(f"{path} holds several cubes: {names}", "name one of these")
        variable = cubes[0]
    header = _named(path, headers, variable)
    if len(header.shape) != 3:
        raise not_a_cube(f"{path}:{variable}", header.shape)
    if header.dtype.kind not in "iuf":
        raise UnreadableFileError(f"{path}:{variable} holds {header.dtype}, not numbers")
    voxels = _array(path, variable, header)
    voxels.check_room()
    return FileScene(
        path=f"{path}:{variable}",
        shape=voxels.shape,
        dtype=header.dtype.newbyteorder("="),
        interleave=voxels.order[:3],
        voxels=voxels,
        good_bands=np.ones(voxels.shape[2], dtype=np.bool_),
        wavelengths=_wavelengths(path, headers, voxels.shape[2]),
    )


def read_labels(path: str, variable: str | None) -> GivenLabels:
    """Read the 2-D array that was named, or else the only one in the archive."""
    headers = _headers(path)
    if variable is None:
        maps = [name for name, header in headers.items() if len(header.shape) == 2]
        if not maps:
            raise LabelError(f"{path} holds no label map, an array of (rows, cols)")
        if len(maps) > 1:
            names = ", ".join(f"{path}:{name}" for name in maps)
            raise AmbiguousInputError(f"{path} holds several maps: {names}", "name one of these")
        variable = maps[0]
    header = _named(path, headers, variable)
    if len(header.shape) != 2:
        raise LabelError(f"{path}:{variable} has the shape {header.shape}", "a map is (rows, cols)")
    return GivenLabels(_array(path, variable, header).read_map())


def inner_labels(path: str, size: tuple[int, int]) -> list[str]:
    """Find maps of a cube's size that are called labels."""
    return [
        f"{path}:{name}"
        for name, header in _headers(path).items()
        if header.shape == size and name.casefold() in _NAMES
    ]


def create(spec: RasterSpec) -> RasterWriter:
    """Refuse: archives are read only."""
    raise SettingError(f"{spec.path} cannot be written as .npz", "write .npy instead")


FORMAT = Format(
    name="NumPy archive",
    suffixes=(".npz",),
    label_suffixes=(".npz",),
    write_suffixes=(),
    open_scene=open_scene,
    read_labels=read_labels,
    create=create,
    inner_labels=inner_labels,
)


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


def _headers(path: str) -> dict[str, Header]:
    """The arrays of numbers in the archive."""
    headers = {}
    with _archive(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            with archive.open(member) as file:
                try:
                    header = parse_header(f"{path}:{member.filename}", file)
                except UnreadableFileError:  # objects, texts and the like stay unread
                    continue
            headers[member.filename.removesuffix(".npy")] = header
    return headers


def _named(path: str, headers: dict[str, Header], name: str) -> Header:
    if name not in headers:
        raise UnreadableFileError(f"{path} has no array '{name}'", f"it holds {_held(headers)}")
    return headers[name]


def _held(headers: dict[str, Header]) -> str:
    return ", ".join(f"{name} {header.shape}" for name, header in headers.items()) or "nothing"


def _array(path: str, name: str, header: Header) -> UnpackedArray:
    rows, cols = header.shape[:2]
    bands = header.shape[2] if len(header.shape) == 3 else 1
    size = (rows, cols, bands)
    refuse_lying_size(path, rows * cols * bands * header.dtype.itemsize)
    order = "bsq-columns" if header.fortran_order else "bip"
    file = cache.state_of(path)
    return UnpackedArray(file, name, f"npz {name}", size, header.dtype, _unpack, order)


def _wavelengths(
    path: str, headers: dict[str, Header], bands: int
) -> npt.NDArray[np.float64] | None:
    """Wavelengths in a list beside the cube."""
    for name, header in headers.items():
        if name.casefold() in NAMES:
            values: Any = ()
            if header.shape == (bands,):
                row = dataclasses.replace(header, shape=(1, bands))
                values = _array(path, name, row).read_map()
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
