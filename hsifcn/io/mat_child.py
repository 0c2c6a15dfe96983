"""Parses one MATLAB file, in a process that may crash or be killed.

``hsifcn.io.parser`` calls ``main``. The task ``list`` gives the variables; ``texts`` the texts of a
cell or character array of v5; ``extract`` writes a variable to TARGET, rows first, bands last, in
native byte order.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from hsifcn.core.errors import UnreadableFileError

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HDF5_OFFSETS = (0, 512, 1024, 2048, 4096)  # MATLAB puts 512 bytes of its own before
_MOST_TEXTS = 4096
_BLOCK_BYTES = 64 * 2**20  # written at a time
_CHUNK_CACHE = 256 * 2**20  # bytes, so that a compressed chunk is unpacked once
_MATLAB_DTYPES = {"double": "float64", "single": "float32", "logical": "bool"}

Listed = tuple[str, tuple[int, ...], str]  # name, shape, dtype or MATLAB class


def main(task: str, path: str, variable: str, dtype: str, target: str) -> dict[str, Any]:
    """Do one task; see the module."""
    if task == "list":
        return {"variables": _list_hdf5(path) if _is_hdf5(path) else _list_v5(path)}
    if task == "texts":
        return {"texts": [] if _is_hdf5(path) else _texts(_load_v5(path, variable))}
    extract = _extract_hdf5 if _is_hdf5(path) else _extract_v5
    with open(target, "wb") as file:
        extract(path, variable, np.dtype(dtype), file)
    return {}


def _is_hdf5(path: str) -> bool:
    with open(path, "rb") as file:
        for offset in _HDF5_OFFSETS:
            file.seek(offset)
            if file.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE:
                return True
    return False


def _texts(value: Any) -> list[str]:
    """The texts of a cell or character array; none where it holds anything else."""
    cells = [np.asarray(cell).ravel() for cell in np.asarray(value).ravel()[:_MOST_TEXTS]]
    if any(cell.size > 1 or (cell.size and cell.dtype.kind != "U") for cell in cells):
        return []
    return [str(cell[0]).strip() if cell.size else "" for cell in cells]


def _list_v5(path: str) -> list[Listed]:
    from scipy.io import whosmat

    listed: list[Listed] = []
    for name, shape, kind in whosmat(path, appendmat=False):
        if kind == "struct":
            listed += _list_fields(name, _load_v5(path, name))
        else:
            listed.append((name, tuple(map(int, shape)), _MATLAB_DTYPES.get(kind, kind)))
    return listed


def _list_fields(name: str, value: Any) -> list[Listed]:
    """Name the arrays in a struct; those in structs within, or in an array of structs, stay out."""
    listed: list[Listed] = []
    if isinstance(value, np.ndarray) and value.dtype.names and value.size == 1:
        for field in value.dtype.names:
            inner = value.flat[0][field]
            if isinstance(inner, np.ndarray) and inner.dtype.names is None:
                listed.append((f"{name}.{field}", inner.shape, inner.dtype.newbyteorder("=").name))
    return listed


def _load_v5(path: str, name: str) -> Any:
    from scipy.io import loadmat

    return loadmat(path, variable_names=[name], appendmat=False)[name]


def _extract_v5(path: str, variable: str, dtype: np.dtype[Any], file: BinaryIO) -> None:
    name, _, field = variable.partition(".")
    value = _load_v5(path, name)
    if field:
        value = value.flat[0][field]
    if value.dtype.kind not in "biuf":
        raise UnreadableFileError(f"{path}:{variable} holds {value.dtype}, not real numbers")
    # Whole numbers of class double may be stored in fewer bytes: ``dtype`` is that of the class.
    step = _rows_at_once(value.shape, dtype)
    for row in range(0, value.shape[0], step):
        np.ascontiguousarray(value[row : row + step], dtype=dtype).tofile(file)


def _rows_at_once(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    row = dtype.itemsize
    for size in shape[1:]:
        row *= size
    return max(1, _BLOCK_BYTES // max(1, row))


def _list_hdf5(path: str) -> list[Listed]:
    import h5py

    listed: list[Listed] = []
    with h5py.File(path, "r") as file:
        for name in _members(path, file):
            member = file[name]
            if isinstance(member, h5py.Group):
                for field in _members(path, member):
                    inner = member[field]
                    if isinstance(inner, h5py.Dataset):
                        listed.append(_describe(path, f"{name}.{field}", inner))
            elif isinstance(member, h5py.Dataset):
                listed.append(_describe(path, name, member))
    return listed


def _members(path: str, group: Any) -> list[str]:
    """Names in a group, none of which may lead to another place; MATLAB's own are left out."""
    import h5py

    names = [name for name in group if not name.startswith("#")]
    for name in names:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise UnreadableFileError(
                f"{path} holds a link, '{name}', which is not followed",
                "store the data in the file",
            )
    return names


def _describe(path: str, name: str, dataset: Any) -> Listed:
    if dataset.external or dataset.is_virtual:
        raise UnreadableFileError(
            f"{path}:{name} has its data in other files, which are not read",
            "store the data in the file",
        )
    shape = dataset.shape or ()
    matlab = _matlab_class(dataset)
    if "MATLAB_empty" in dataset.attrs or dataset.shape is None:
        return name, (), "empty"
    if matlab:
        shape = shape[::-1]
    if matlab == "logical":
        return name, shape, "bool"
    if matlab in {"char", "cell", "struct", "function_handle"}:
        return name, shape, matlab
    return name, shape, dataset.dtype.newbyteorder("=").name


def _matlab_class(dataset: Any) -> str:
    """Class of a variable that MATLAB wrote, its axes reversed; empty for all others."""
    value = dataset.attrs.get("MATLAB_class", "")
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _extract_hdf5(path: str, variable: str, dtype: np.dtype[Any], file: BinaryIO) -> None:
    import h5py

    with h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE) as source:
        dataset = source[variable.replace(".", "/")]
        _, shape, _ = _describe(path, variable, dataset)
        reversed_axes = bool(_matlab_class(dataset))
        step = _rows_at_once(shape, dtype)
        chunk_rows = (dataset.chunks or (1,))[-1 if reversed_axes else 0]
        step = max(step - step % chunk_rows, min(step, chunk_rows))
        for row in range(0, shape[0], step):
            rows = slice(row, row + step)
            block = dataset[..., rows].T if reversed_axes else dataset[rows]
            np.ascontiguousarray(block, dtype=dtype).tofile(file)
