"""Parses one HDF5 or NetCDF-4 file, in a process that may crash or be killed.

``hsifcn.io.parser`` calls ``main``. The task ``list`` gives datasets and attributes; ``extract``
writes what a plan asks for to TARGET: rows first, bands last, in native byte order. Nothing is read
that lies in another file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import UnreadableFileError
from hsifcn.io.listing import MOST_VALUES, axis_values

_BLOCK_BYTES = 64 * 2**20  # read and written at a time, at least a row of chunks
_CHUNK_CACHE = 256 * 2**20  # bytes, so that a compressed chunk is unpacked once
_LARGEST_CHUNK = 2**30  # bytes
_MOST_MEMBERS = 10_000  # groups and datasets
_LONGEST_AXIS = 10**6  # whose coordinates are looked at


def main(task: str, path: str, plan: str = "", target: str = "") -> dict[str, Any]:
    """Do one task; see the module."""
    import h5py

    with h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE) as file:
        if task == "list":
            return _list(path, file)
        _extract(path, file, json.loads(plan), target)
    return {}


def _list(path: str, file: Any) -> dict[str, Any]:
    import h5py

    groups, datasets = {"/": _attributes(file)}, {}
    for name, member in _members(path, file):
        if isinstance(member, h5py.Dataset):
            datasets[name] = _describe(path, name, member)
        elif isinstance(member, h5py.Group):
            groups[name] = _attributes(member)
    return {"groups": groups, "datasets": datasets}


def _members(path: str, file: Any) -> Iterator[tuple[str, Any]]:
    """Everything below the root, each once; links lead nowhere else."""
    import h5py

    waiting, seen = [("", file)], {h5py.h5o.get_info(file.id).addr}
    while waiting:
        prefix, group = waiting.pop(0)
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise UnreadableFileError(
                    f"{path} holds a link to another file, '{prefix}/{name}': not followed",
                    "store the data in the file",
                )
            if not isinstance(link, h5py.HardLink):
                continue
            member = group[name]
            address = h5py.h5o.get_info(member.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > _MOST_MEMBERS:
                raise UnreadableFileError(f"{path} holds more than {_MOST_MEMBERS} things")
            yield f"{prefix}/{name}", member
            if isinstance(member, h5py.Group):
                waiting.append((f"{prefix}/{name}", member))


def _describe(path: str, name: str, dataset: Any) -> dict[str, Any]:
    if dataset.external or dataset.is_virtual:
        raise UnreadableFileError(
            f"{path}:{name} has its data in other files, which are not read",
            "store the data in the file",
        )
    shape = dataset.shape or ()
    size = int(np.prod(shape, dtype=object))
    description = {
        "shape": shape,
        "dtype": dataset.dtype.newbyteorder("=").name if dataset.shape is not None else "empty",
        "attributes": _attributes(dataset),
    }
    if dataset.shape is not None and len(shape) < 2 and size <= MOST_VALUES:
        value = _plain(dataset[()])
        if value is not None:
            description["value"] = value
    scales = _scales(dataset)
    if any(scales):
        description["scales"] = scales
    numeric = len(shape) == 1 and dataset.dtype.kind in "iuf"
    if numeric and dataset.is_scale and 2 <= size <= _LONGEST_AXIS:
        description["steps"] = axis_values(dataset[()].astype(np.float64))["steps"]
    return description


def _scales(dataset: Any) -> list[str]:
    """Path of the first scale of each axis, empty where there is none."""
    if "DIMENSION_LIST" not in dataset.attrs:
        return []
    try:
        return [str(axis[0].name or "") if len(axis) else "" for axis in dataset.dims]
    except (RuntimeError, ValueError, OSError, KeyError):  # references that lead nowhere
        return []


def _attributes(member: Any) -> dict[str, Any]:
    """Attributes that are short lists of numbers, or texts."""
    found = {}
    for name in member.attrs:
        shape = member.attrs.get_id(name).shape
        if shape is not None and np.prod(shape, dtype=object) <= MOST_VALUES:
            try:
                value = _plain(member.attrs[name])
            except (TypeError, OSError):  # a type that NumPy has not
                continue
            if value is not None:
                found[name] = value
    return found


def _plain(value: Any) -> str | float | list[float] | None:
    """A text, a number or a list of numbers; None for all else."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.ndim > 1:
        return None
    numbers: float | list[float] = array.astype(np.float64).tolist()
    return numbers


def _extract(path: str, file: Any, plan: dict[str, Any], target: str) -> None:
    """Write the parts of a plan, joined along their bands, as (rows, cols, bands)."""
    rows, cols, bands = plan["shape"]
    dtype = np.dtype(plan["dtype"])
    for part in plan["parts"]:
        _check_chunks(path, file[part["dataset"]])
    if plan["glt"] is None:
        with open(target, "wb") as output:
            for _, block in _blocks(file, plan):
                np.ascontiguousarray(block, dtype).tofile(output)
        return
    glt_rows, glt_cols = (_glt(path, file[name], (rows, cols)) for name in plan["glt"])
    placed = np.memmap(target, dtype, "w+", shape=(rows * cols, bands))
    placed[:] = plan["fill"]
    order = np.argsort(glt_rows, kind="stable")
    sorted_rows = glt_rows[order]
    for start, block in _blocks(file, plan):
        first, stop = np.searchsorted(sorted_rows, [start, start + len(block)])
        pixels = order[first:stop]
        inside = (glt_cols[pixels] >= 0) & (glt_cols[pixels] < block.shape[1])
        pixels = pixels[inside]
        placed[pixels] = block[glt_rows[pixels] - start, glt_cols[pixels]]
    placed.flush()


def _glt(path: str, dataset: Any, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """One of the two lookup tables, from 0, flat; -1 where there is nothing."""
    _check_chunks(path, dataset)
    if dataset.shape != shape:
        raise UnreadableFileError(f"{path} has lookup tables of different sizes")
    # The file counts from 1; 0 is nothing.
    return np.asarray(dataset[()]).astype(np.int64).ravel() - 1


def _blocks(file: Any, plan: dict[str, Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """First row, and (rows, cols, bands), from top to bottom, in whole chunks.

    Parts may be of the same dataset, whose rows are read once for all of them.
    """
    axes = {part["dataset"]: part["axes"] for part in plan["parts"]}
    total = file[plan["parts"][0]["dataset"]].shape[plan["parts"][0]["axes"][0]]
    row_bytes = sum(file[name].size // total * file[name].dtype.itemsize for name in axes)
    chunk_rows = max((file[name].chunks or (1, 1, 1))[turned[0]] for name, turned in axes.items())
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    step = max(step - step % chunk_rows, chunk_rows)
    for start in range(0, total, step):
        slabs = {}
        for name, turned in axes.items():
            index = [slice(None)] * file[name].ndim
            index[turned[0]] = slice(start, start + step)
            slab = file[name][tuple(index)]
            slabs[name] = slab[:, :, None] if slab.ndim == 2 else slab.transpose(turned)
        blocks = [
            slabs[part["dataset"]]
            if part["bands"] is None
            else slabs[part["dataset"]][:, :, part["bands"]]
            for part in plan["parts"]
        ]
        yield start, blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=2)


def _check_chunks(path: str, dataset: Any) -> None:
    chunk = int(np.prod(dataset.chunks or (1,), dtype=object)) * dataset.dtype.itemsize
    if chunk > _LARGEST_CHUNK:
        raise UnreadableFileError(
            f"{path}:{dataset.name} is stored in chunks of {chunk / 1e9:.1f} GB", "store it anew"
        )
