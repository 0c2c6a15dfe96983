"""Zarr, versions 2 and 3: an array in a folder, a file a chunk. Read with the package ``zarr``.

Chunks are unpacked by codecs that the folder itself names, and one of them would execute code
(``pickle``): so only codecs for numbers are allowed.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import AmbiguousInputError, LabelError, SettingError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io.affine import unpacked
from hsifcn.io.axes import refuse_small_cube
from hsifcn.io.coordinates import plain_cube
from hsifcn.io.files import read_text
from hsifcn.io.formats import (
    FileScene,
    Format,
    GivenLabels,
    UnreadLabels,
    not_a_cube,
    refuse_lying_size,
)
from hsifcn.io.listing import Listing, axis_values
from hsifcn.io.nodata import declare_nodata
from hsifcn.io.writer import RasterSpec, RasterWriter

_CODECS = {
    *("blosc", "bytes", "crc32c", "gzip", "sharding_indexed", "shuffle", "transpose", "zstd"),
    *("bz2", "delta", "fixedscaleoffset", "lz4", "zlib"),
}
_LARGEST_CHUNK = 2**30  # bytes
_MOST_CHUNKS = 1_000_000  # that are looked for one by one
_LONGEST_AXIS = 10**6  # whose coordinates are looked at
_DEEPEST = 8  # groups within groups
_FAULTS = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class ZarrArray:
    """An array in a store, of rows, columns and bands in any order, or of (rows, cols).

    Attributes
    ----------
    path, name : str
        Of the store, absolute; of the array in it, empty where the store is the array.
    shape : tuple of int
        Rows, columns, bands.
    dtype : dtype
        Native type of the voxels.
    axes : tuple of int
        Which axes of the array rows, columns and bands are.
    """

    path: str
    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    axes: tuple[int, int, int] = (0, 1, 2)

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read all bands of a window, as ``RawArray.read`` does."""
        if (
            min(window.row, window.col, window.rows, window.cols) < 0
            or window.row_stop > self.shape[0]
            or window.col_stop > self.shape[1]
        ):
            raise ValueError(f"{window} reaches out of an array of {self.shape}")
        index = [slice(None)] * 3
        index[self.axes[0]], index[self.axes[1]] = window.slices
        try:
            array = _open(self.path, self.name)
            block = np.asarray(array[tuple(index[: array.ndim])])
        except _FAULTS as error:
            raise _unreadable(self.path, error) from error
        block = block.reshape((*block.shape, 1)[:3]).transpose(self.axes)
        return np.array(block, self.dtype, order="C")


def open_scene(path: str, variable: str | None) -> FileScene:
    """Open the array that was named, or else the only cube.

    Which axis holds the bands is told as in NetCDF, by the names of axes that xarray writes; else
    it is the last.
    """
    found = _arrays(path)
    name = _choose(path, found, variable, 3)
    array = found[name]
    if len(array.shape) != 3:
        raise not_a_cube(f"{path}:{name}" if name else path, tuple(array.shape))
    cube = plain_cube(_listing(path, found), f"/{name}")
    voxels = _voxels(path, name, array, cube.parts[0].axes)
    _warn_of_missing_chunks(voxels, array)
    fill = array.fill_value
    fill = float(fill) if fill is not None and np.isfinite(fill) and fill != 0 else None
    bands = voxels.shape[2]
    scene = FileScene(
        path=f"{path}:{name}" if name else path,
        shape=voxels.shape,
        dtype=voxels.dtype,
        interleave={2: "bip", 1: "bil", 0: "bsq"}[voxels.axes[2]],
        voxels=voxels,
        good_bands=np.ones(bands, np.bool_) if cube.good_bands is None else cube.good_bands,
        wavelengths=cube.wavelengths,
        fwhm=cube.fwhm,
        nodata=fill if cube.nodata is None else cube.nodata,
        grid=cube.grid,
        axes_told=cube.axes_told,
    )
    low, high = cube.limits
    scene = declare_nodata(scene, None, fills=cube.fills, low=low, high=high)
    return unpacked(scene, *(cube.packing or (1.0, 0.0)), cube.units)


def _listing(path: str, found: dict[str, Any]) -> Listing:
    """The arrays of a store as ``hdf5_child`` lists those of a file."""
    datasets = {}
    for name, array in found.items():
        about = dict(array.attrs)
        folder = f"/{name}".rpartition("/")[0]
        names = about.get("_ARRAY_DIMENSIONS") or getattr(array.metadata, "dimension_names", None)
        described: dict[str, Any] = {"shape": list(array.shape), "attributes": about}
        if isinstance(names, list | tuple) and len(names) == array.ndim:
            described["scales"] = [f"{folder}/{axis}" if axis else "" for axis in names]
        if array.ndim == 1 and array.dtype.kind in "iuf" and 0 < array.size <= _LONGEST_AXIS:
            described |= axis_values(_values(path, array))
        datasets[f"/{name}"] = described
    return Listing(path, {"datasets": datasets, "groups": {"/": {}}})


def _values(path: str, array: Any) -> npt.NDArray[np.float64]:
    try:
        return np.asarray(array[:], np.float64)
    except _FAULTS as error:
        raise _unreadable(path, error) from error


def read_labels(path: str, variable: str | None) -> GivenLabels:
    """Read the map that was named, or else the only 2-D array."""
    found = _arrays(path)
    name = _choose(path, found, variable, 2)
    if len(found[name].shape) != 2:
        raise LabelError(
            f"{path}:{name} has the shape {found[name].shape}", "a map is (rows, cols)"
        )
    voxels = _voxels(path, name, found[name])
    return GivenLabels(UnreadLabels(voxels.shape[:2], voxels.read))


def create(spec: RasterSpec) -> RasterWriter:
    """Refuse: Zarr is read only."""
    raise SettingError(f"{spec.path} cannot be written as Zarr", "write .img instead")


FORMAT = Format(
    name="Zarr",
    suffixes=(".zarr",),
    label_suffixes=(),
    write_suffixes=(),
    open_scene=open_scene,
    read_labels=read_labels,
    create=create,
)


def _arrays(path: str) -> dict[str, Any]:
    """The arrays of a store by name, after a look at what would unpack them."""
    found = {}
    for folder in _folders(Path(path), 0):
        kind = _checked(folder)
        if kind == "array":
            name = folder.relative_to(path).as_posix()
            name = "" if name == "." else name
            try:
                found[name] = _open(path, name)
            except _FAULTS as error:
                raise _unreadable(path, error) from error
    if not found:
        raise UnreadableFileError(f"{path} holds no Zarr array")
    return found


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """Folders that hold metadata, from the root; chunks are not looked through."""
    if not any((folder / name).is_file() for name in (".zarray", ".zgroup", "zarr.json")):
        return
    yield folder
    if depth < _DEEPEST:
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.is_symlink():
                yield from _folders(inner, depth + 1)


def _checked(folder: Path) -> str:
    """Whether a folder is an array or a group; codecs that are not allowed are refused."""
    names = [name for name in (".zarray", "zarr.json") if (folder / name).is_file()]
    kind = "group"
    for name in names:
        try:
            metadata = json.loads(read_text(folder / name))
            is_array = name == ".zarray" or metadata["node_type"] == "array"
        except _FAULTS as error:
            raise UnreadableFileError(f"{folder / name} is no metadata of Zarr") from error
        if is_array:
            kind = "array"
            used = set(_codecs([metadata.get(key) for key in ("codecs", "compressor", "filters")]))
            for codec in sorted(used - _CODECS):
                raise UnreadableFileError(
                    f"{folder} is packed with '{codec[:40]}', which hsifcn does not unpack",
                    "store it with zstd or blosc",
                )
    return kind


def _codecs(described: Any) -> Iterator[str]:
    """Names of codecs, also those within others."""
    if isinstance(described, list):
        for item in described:
            yield from _codecs(item)
    elif isinstance(described, dict):
        if "id" in described or "name" in described:
            yield str(described.get("id", described.get("name")))
        yield from _codecs(
            [value for value in described.values() if isinstance(value, list | dict)]
        )


def _open(path: str, name: str) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise SettingError(
            f"{path} needs the package zarr", "install it: pip install 'hsifcn[zarr]'"
        ) from error
    return zarr.open_array(os.path.join(path, name) if name else path, mode="r")


def _choose(path: str, found: dict[str, Any], variable: str | None, dimensions: int) -> str:
    """The name of the array that was named, or of the only one of so many dimensions."""
    if variable is not None:
        if variable.strip("/") not in found:
            raise UnreadableFileError(
                f"{path} has no array '{variable}'", f"it holds {', '.join(found)}"
            )
        return variable.strip("/")
    if "" in found:
        return ""
    names = [name for name, array in found.items() if len(array.shape) == dimensions]
    what = "cube" if dimensions == 3 else "label map"
    if not names:
        raise UnreadableFileError(f"{path} holds no {what}", f"it holds {', '.join(found)}")
    if len(names) > 1:
        listed = ", ".join(f"{path}:{name}" for name in names)
        raise AmbiguousInputError(f"{path} holds several {what}s: {listed}", "name one of these")
    if dimensions == 3:
        numeric = {name: array.shape for name, array in found.items() if array.dtype.kind in "iuf"}
        refuse_small_cube(path, names[0], numeric)
    return names[0]


def _voxels(path: str, name: str, array: Any, axes: tuple[int, int, int] = (0, 1, 2)) -> ZarrArray:
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "iuf" or dtype.itemsize > 8 or min(array.shape) < 1:
        where = f"{path}:{name}" if name else path
        raise UnreadableFileError(f"{where} holds {dtype}, or nothing; not real numbers")
    if min(array.chunks) < 1:
        raise UnreadableFileError(f"{path} tells of chunks without a pixel", "write it again")
    chunk = int(np.prod(array.chunks, dtype=object)) * dtype.itemsize
    if chunk > _LARGEST_CHUNK:
        raise UnreadableFileError(f"{path}:{name} is stored in chunks of {chunk / 1e9:.1f} GB")
    rows, cols, bands = ((*array.shape, 1)[axis] for axis in axes)
    inside = (file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    refuse_lying_size(path, rows * cols * bands * dtype.itemsize, sum(inside))
    native = dtype.newbyteorder("=")
    return ZarrArray(os.path.abspath(path), name, (rows, cols, bands), native, axes)


def _warn_of_missing_chunks(voxels: ZarrArray, array: Any) -> None:
    """Tell of chunks without a file: of zeros as a rule, or lost while copying."""
    if array.nchunks > _MOST_CHUNKS:
        return
    missing = array.nchunks - array.nchunks_initialized
    if missing:
        warnings.warn(
            f"{missing} of {array.nchunks} chunks of {voxels.path} are not there and are read as "
            f"{array.fill_value}",
            stacklevel=2,
        )


def _unreadable(path: str, error: Exception) -> UnreadableFileError:
    reason = " ".join(str(error).split())[:160]
    return UnreadableFileError(f"{path} cannot be read as Zarr ({reason})", "copy it again")
