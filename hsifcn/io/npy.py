"""NumPy's own files: one array, after a short header."""

from __future__ import annotations

import io
import os
import tokenize
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from hsifcn.core.errors import LabelError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io.formats import FileScene, Format, GivenLabels, not_a_cube, refuse_variable
from hsifcn.io.raw import RawArray
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


@dataclass(frozen=True)
class Header:
    """What a ``.npy`` file tells: shape and type of its array, where that begins, and its order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    fortran_order: bool


def open_scene(path: str, variable: str | None) -> FileScene:
    """Open a 3-D array as a scene."""
    refuse_variable(path, variable)
    header = _read_header(path)
    shape, dtype = header.shape, header.dtype
    if len(shape) != 3:
        raise not_a_cube(path, shape)
    if dtype.kind not in "iuf":
        raise UnreadableFileError(f"{path} holds {dtype}, not integers or floats")
    voxels = _voxels(path, (shape[0], shape[1], shape[2]), header)
    return FileScene(
        path=path,
        shape=voxels.shape,
        dtype=dtype.newbyteorder("="),
        interleave=voxels.interleave,
        voxels=voxels,
        good_bands=np.ones(voxels.shape[2], dtype=np.bool_),
    )


def read_labels(path: str, variable: str | None) -> GivenLabels:
    """Read a 2-D array as labels."""
    refuse_variable(path, variable)
    header = _read_header(path)
    shape = header.shape
    if len(shape) != 2 and not (len(shape) == 3 and shape[2] == 1):
        raise LabelError(f"{path} has the shape {shape}", "a label map is (rows, cols)")
    voxels = _voxels(path, (shape[0], shape[1], 1), header)
    return GivenLabels(voxels.read(Window(0, 0, shape[0], shape[1]))[:, :, 0])


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


FORMAT = Format(
    name="NumPy",
    suffixes=(".npy",),
    label_suffixes=(".npy",),
    write_suffixes=(".npy",),
    open_scene=open_scene,
    read_labels=read_labels,
    create=create,
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


def _voxels(path: str, shape: tuple[int, int, int], header: Header) -> RawArray:
    order = "bsq-columns" if header.fortran_order else "bip"
    voxels = RawArray(os.path.abspath(path), header.offset, shape, header.dtype, order)
    size, needed = os.path.getsize(path), header.offset + voxels.nbytes
    if size < needed:
        raise UnreadableFileError(
            f"{path} is truncated: {size} bytes where its header asks for {needed}",
            "copy it again",
        )
    return voxels
