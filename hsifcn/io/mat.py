"""MATLAB files, v5 (SciPy reads them) and v7.3 (HDF5).

Both libraries are C code that a damaged file can crash, and neither reads v5 window by window.
So a child process parses the file, and the variable wanted goes into the cache as raw voxels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.errors import (
    AmbiguousInputError,
    FailedError,
    LabelError,
    SettingError,
    UnreadableFileError,
)
from hsifcn.io import cache
from hsifcn.io.classes import is_integral
from hsifcn.io.formats import FileScene, Format, GivenLabels, not_a_cube
from hsifcn.io.raw import RawArray
from hsifcn.io.writer import RasterSpec, RasterWriter
from hsifcn.scene import Window

Listed = tuple[str, tuple[int, ...], str]  # name, shape, dtype or MATLAB class

_MEMORY = 2 * 2**30  # bytes of address space for the child, and
_MEMORY_PER_BYTE = 16  # more for every byte of the file, which may be compressed
_SECONDS = 60  # for the child, and
_BYTES_PER_SECOND = 5e6  # more at this rate
_VARIABLE_LIMIT = 2**31 - 1  # bytes of a variable in a v5 file
_CHILD_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # each thread reserves address space
    "HDF5_USE_FILE_LOCKING": "FALSE",  # a read-only file system has no locks
    "HDF5_PLUGIN_PRELOAD": "::",  # a file must not choose which libraries are loaded
}


@dataclass(frozen=True)
class MatArray:
    """A variable of a MATLAB file, unpacked into the cache when it is first read.

    Attributes
    ----------
    file : FileState
        The file as it was when it was opened.
    variable : str
        Its name, or ``struct.field``.
    shape : tuple of int
        Rows, columns, bands.
    dtype : dtype
        Native type of the voxels.
    """

    file: cache.FileState
    variable: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read all bands of a window, as ``RawArray.read`` does."""
        return self._unpacked().read(window)

    def check_room(self) -> None:
        """Raise UnreadableFileError where the cache neither holds the variable nor has room."""
        raw = self._raw(self._entry())
        if not cache.is_complete(Path(raw.path), raw.nbytes):
            cache.check_room(raw.nbytes, f"{self.file.path}:{self.variable}")

    def _entry(self) -> Path:
        return cache.entry(self.file, self.variable, ".bip")

    def _raw(self, entry: Path) -> RawArray:
        return RawArray(str(entry), 0, self.shape, self.dtype, "bip")

    def _unpacked(self) -> RawArray:
        entry = self._entry()
        raw = self._raw(entry)
        if cache.is_complete(entry, raw.nbytes):
            return raw
        name = f"{self.file.path}:{self.variable}"
        if not os.path.exists(self.file.path) or cache.state_of(self.file.path) != self.file:
            raise UnreadableFileError(f"{self.file.path} changed since it was opened", "run again")
        cache.check_room(raw.nbytes, name)
        with cache.writing(entry) as temporary:
            _run_child("extract", self.file, self.variable, self.dtype.name, temporary)
            if temporary.stat().st_size != raw.nbytes:
                raise UnreadableFileError(
                    f"{name} is not the {self.shape} {self.dtype} that the file announces",
                    "save it again",
                )
        return raw


def list_variables(path: str | os.PathLike[str]) -> list[Listed]:
    """List the variables of a MATLAB file, and the fields of its structs as ``struct.field``.

    Returns
    -------
    list of (name, shape, dtype)
        Axes as in MATLAB; the dtype is NumPy's name, or MATLAB's class for what is no number.

    Raises
    ------
    UnreadableFileError
        The file cannot be parsed, or refers to other files.
    """
    try:
        file = cache.state_of(os.fspath(path))
    except OSError as error:
        raise UnreadableFileError(f"{os.fspath(path)} does not exist", "check the path") from error
    entry = cache.entry(file, "", ".json")
    try:
        return _listed(json.loads(entry.read_text("ascii")))
    except (OSError, ValueError, TypeError, KeyError):
        answer = _run_child("list", file)
    with cache.writing(entry) as temporary:
        temporary.write_text(json.dumps(answer), "ascii")
    return _listed(answer)


def open_scene(path: str, variable: str | None) -> FileScene:
    """Open the variable that was named, or else the only cube in the file."""
    listed = list_variables(path)
    cubes = [
        item for item in listed if len(item[1]) == 3 and _is_numeric(item) and item[2] != "bool"
    ]
    if variable is not None:
        found = _named(path, listed, variable)
        if len(found[1]) != 3:
            raise not_a_cube(f"{path}:{variable}", found[1])
        if found not in cubes:
            raise UnreadableFileError(f"{path}:{variable} is {found[2]}, or empty; not numbers")
    else:
        found = _only(path, listed, cubes)
    voxels = _array(path, found)
    voxels.check_room()
    return FileScene(
        path=f"{path}:{found[0]}",
        shape=voxels.shape,
        dtype=voxels.dtype,
        interleave="bip",
        voxels=voxels,
        good_bands=np.ones(voxels.shape[2], dtype=np.bool_),
    )


def read_labels(path: str, variable: str | None) -> GivenLabels:
    """Read the variable that was named, or else the only label map in the file."""
    listed = list_variables(path)
    if variable is not None:
        found = _named(path, listed, variable)
        if found not in _flat(listed):
            raise LabelError(
                f"{path}:{variable} is {found[2]} of the shape {found[1]}",
                "a label map is (rows, cols) and holds numbers",
            )
    else:
        maps = _flat(listed)
        # Beside a map there may be counts and other vectors; a map of one row may stand alone.
        found = _only_map(path, [item for item in maps if min(item[1][:2]) > 1] or maps)
    rows, cols = found[1][:2]
    return GivenLabels(_array(path, found).read(Window(0, 0, rows, cols))[:, :, 0])


def inner_labels(path: str, size: tuple[int, int]) -> list[str]:
    """Find variables of whole numbers of a cube's size; MATLAB stores them as double by default."""
    found = []
    for item in _flat(list_variables(path)):
        if item[1][:2] == size:
            values = _array(path, item).read(Window(0, 0, *size))
            if is_integral(values):
                found.append(f"{path}:{item[0]}")
    return found


def create(spec: RasterSpec) -> RasterWriter:
    """Write a raster as a v5 file with the variable ``labels`` (2-D) or ``scores`` (3-D)."""
    if spec.dtype.kind not in "iuf" or spec.dtype.itemsize not in {1, 2, 4, 8}:
        raise SettingError(f"a .mat file cannot hold {spec.dtype}", "write .npy instead")
    if spec.dtype == np.float16:
        raise SettingError("a .mat file cannot hold float16", "write .npy instead")
    if spec.nbytes > _VARIABLE_LIMIT:
        raise SettingError(
            f"{spec.path} would hold {spec.nbytes / 1e9:.1f} GB, and a .mat file 2 GiB at most",
            "write .img instead",
        )

    def convert(raw: Path, target: Path) -> None:
        from scipy.io import savemat

        array = np.fromfile(raw, dtype=spec.dtype).reshape(spec.shape)
        content: dict[str, Any] = {"labels" if array.ndim == 2 else "scores": array}
        if spec.class_names:
            content["class_names"] = np.array(spec.class_names, dtype=object)
        if spec.band_names:
            content["band_names"] = np.array(spec.band_names, dtype=object)
        savemat(target, content, appendmat=False, do_compression=True)

    return RasterWriter(spec, convert=convert)


FORMAT = Format(
    name="MATLAB",
    suffixes=(".mat",),
    label_suffixes=(".mat",),
    write_suffixes=(".mat",),
    open_scene=open_scene,
    read_labels=read_labels,
    create=create,
    inner_labels=inner_labels,
)


def _array(path: str, item: Listed) -> MatArray:
    name, shape, dtype = item
    bands = shape[2] if len(shape) == 3 else 1
    return MatArray(cache.state_of(path), name, (shape[0], shape[1], bands), np.dtype(dtype))


def _is_numeric(item: Listed) -> bool:
    _, shape, kind = item
    numeric = kind in {"bool", "float16", "float32", "float64"} or kind.strip("u") in {
        f"int{bits}" for bits in (8, 16, 32, 64)
    }
    return numeric and min(shape, default=0) > 0


def _flat(listed: list[Listed]) -> list[Listed]:
    """Variables that may be label maps."""
    return [
        item
        for item in listed
        if _is_numeric(item) and (len(item[1]) == 2 or (len(item[1]) == 3 and item[1][2] == 1))
    ]


def _named(path: str, listed: list[Listed], variable: str) -> Listed:
    for item in listed:
        if item[0] == variable:
            return item
    raise UnreadableFileError(f"{path} has no variable {variable!r}", f"it holds {_names(listed)}")


def _only(path: str, listed: list[Listed], cubes: list[Listed]) -> Listed:
    if not cubes:
        raise UnreadableFileError(
            f"{path} holds no cube, an array of (rows, cols, bands)", f"it holds {_names(listed)}"
        )
    if len(cubes) > 1:
        names = ", ".join(f"{path}:{name}" for name, _, _ in cubes)
        raise AmbiguousInputError(f"{path} holds several cubes: {names}", "name one of these")
    return cubes[0]


def _only_map(path: str, maps: list[Listed]) -> Listed:
    if not maps:
        raise LabelError(f"{path} holds no label map, an array of (rows, cols)")
    if len(maps) > 1:
        names = ", ".join(f"{path}:{name}" for name, _, _ in maps)
        raise AmbiguousInputError(f"{path} holds several label maps: {names}", "name one of these")
    return maps[0]


def _names(listed: list[Listed]) -> str:
    shown = [f"{name} {shape} {kind}" for name, shape, kind in listed[:12]]
    return ", ".join(shown) + (", ..." if len(listed) > 12 else "") or "nothing"


def _listed(answer: dict[str, Any]) -> list[Listed]:
    return [
        (str(name), tuple(int(size) for size in shape), str(kind))
        for name, shape, kind in answer["variables"]
    ]


def _run_child(
    task: str, file: cache.FileState, variable: str = "", dtype: str = "", target: Path = Path()
) -> dict[str, Any]:
    """Run ``hsifcn.io.mat_child`` and give its answer; whatever ends it is the file's fault."""
    memory = int(_MEMORY + _MEMORY_PER_BYTE * file.size)
    seconds = int(_SECONDS + file.size / _BYTES_PER_SECOND)
    arguments = [task, str(memory), str(seconds), file.path, variable, dtype, str(target)]
    # The child sees the modules that this process sees, and none in the working directory.
    modules = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", "hsifcn.io.mat_child", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2 * seconds,
            env={**os.environ, **_CHILD_ENVIRONMENT, "PYTHONPATH": modules},
        )
    except subprocess.TimeoutExpired as error:
        raise _unparsable(file.path, "it took too long") from error
    except (OSError, ValueError) as error:
        raise FailedError(f"{file.path} cannot be parsed: {error}") from error
    if child.returncode < 0:
        raise _unparsable(file.path, f"killed by signal {-child.returncode}")
    try:
        if child.returncode > 0:
            raise ValueError("no answer")
        answer: dict[str, Any] = json.loads(child.stdout)
    except ValueError as error:
        lines = child.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise _unparsable(file.path, lines[-1][:160]) from error
    if "error" in answer:
        raise UnreadableFileError(answer["error"], answer["remedy"])
    return answer


def _unparsable(path: str, reason: str) -> UnreadableFileError:
    printable = "".join(c if c.isprintable() else "?" for c in reason)
    return UnreadableFileError(f"{path} cannot be parsed ({printable})", "save it again")
