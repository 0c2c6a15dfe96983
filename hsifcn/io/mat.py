"""MATLAB files, v5 (SciPy reads them) and v7.3 (HDF5).

Both libraries are C code that a damaged file can crash, and neither reads v5 window by window.
So a child process parses the file, and the variable wanted goes into the cache as raw voxels.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import (
    AmbiguousInputError,
    LabelError,
    Notice,
    SettingError,
    UnreadableFileError,
)
from hsifcn.io import cache
from hsifcn.io.axes import axes_by_wavelengths, refuse_small_cube, turned
from hsifcn.io.cache import UnpackedArray
from hsifcn.io.child import run_child
from hsifcn.io.classes import is_integral
from hsifcn.io.formats import FileScene, Format, GivenLabels, UnreadLabels, not_a_cube
from hsifcn.io.wavelengths import NAMES, listed_wavelengths
from hsifcn.io.writer import RasterSpec, RasterWriter

Listed = tuple[str, tuple[int, ...], str]  # name, shape, dtype or MATLAB class

_CHILD = "mat"
# What numbers of rows and columns are called beside a matrix of spectra.
_SIZES = (
    *(("nrow", "ncol"), ("nrows", "ncols"), ("rows", "cols"), ("lines", "cols")),
    *(("lines", "samples"), ("height", "width"), ("h", "w"), ("rows", "columns")),
    *(("lines", "columns"), ("n_rows", "n_cols"), ("num_rows", "num_cols"), ("m", "n")),
)
_CLASS_NAMES = ("class_names", "classnames", "label_names", "labelnames")
_NO_CLASS = ("unclassified", "unlabelled", "unlabeled", "undefined", "background", "none", "0")
_VARIABLE_LIMIT = 2**31 - 1  # bytes of a variable in a v5 file


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
        answer = run_child(_CHILD, "list", file, "", "", "")
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
        matrix = _matrix_of_spectra(path, listed, cubes)
        if matrix is not None:
            return matrix
        found = _only(path, listed, cubes)
        refuse_small_cube(path, found[0], {item[0]: item[1] for item in listed})
    return _scene(path, listed, found)


def _scene(path: str, listed: list[Listed], found: Listed) -> FileScene:
    """A cube as a scene, with the wavelengths beside it, which may tell its axes."""
    voxels = _array(path, found)
    voxels.check_room()
    scene = FileScene(
        path=f"{path}:{found[0]}",
        shape=voxels.shape,
        dtype=voxels.dtype,
        interleave="bip",
        voxels=voxels,
        good_bands=np.ones(voxels.shape[2], dtype=np.bool_),
        axes_told=False,
    )
    beside = _beside(listed, found[0], NAMES)
    if beside is None:
        return scene
    count = max(beside[1]) if math.prod(beside[1]) == max(beside[1]) else None
    axes = axes_by_wavelengths(scene.shape, count)
    scene = turned(scene, axes) if axes else scene
    return dataclasses.replace(scene, wavelengths=_wavelengths(path, beside, scene.shape[2]))


def _matrix_of_spectra(path: str, listed: list[Listed], cubes: list[Listed]) -> FileScene | None:
    """A matrix of (bands, pixels) or (pixels, bands), with numbers of rows and columns beside it.

    So unmixing benchmarks are stored. Pixels are counted down the columns, as MATLAB's ``reshape``
    does. None where there is no such matrix larger than every cube.
    """
    largest = max((math.prod(item[1]) for item in cubes), default=1)
    for item in listed:
        if len(item[1]) != 2 or not _is_numeric(item) or math.prod(item[1]) <= largest:
            continue
        size = _size_beside(path, listed, item[0])
        if size is None or math.prod(size) not in item[1]:
            continue
        pixels_first = item[1][0] == math.prod(size)
        bands = item[1][1 if pixels_first else 0]
        # Stored in MATLAB's order of pixels: the columns of the scene are the slower axis.
        shape = (size[1], size[0], bands) if pixels_first else (bands, size[1], size[0])
        axes = (1, 0, 2) if pixels_first else (2, 1, 0)
        scene = turned(_scene(path, [], (item[0], shape, item[2])), axes)
        warnings.warn(
            f"{path}:{item[0]} {item[1]} is read as {size[0]} x {size[1]} pixels, counted down the "
            f"columns, with {bands} bands",
            Notice,
            stacklevel=2,
        )
        beside = _beside(listed, item[0], NAMES)
        if beside is not None:
            scene = dataclasses.replace(scene, wavelengths=_wavelengths(path, beside, bands))
        return scene
    return None


def _size_beside(path: str, listed: list[Listed], name: str) -> tuple[int, int] | None:
    """Numbers of rows and columns that lie beside a variable."""
    for names in _SIZES:
        found = [_beside(listed, name, (wanted,)) for wanted in names]
        items = [item for item in found if item is not None and math.prod(item[1]) == 1]
        if len(items) == 2:
            rows, cols = (int(_array(path, item).read_map()[0, 0]) for item in items)
            if rows > 0 and cols > 0:
                return rows, cols
    return None


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
    array = _array(path, found)
    names = _class_names(path, listed, found[0])
    return GivenLabels(UnreadLabels(array.shape[:2], array.read), names)


def _class_names(path: str, listed: list[Listed], name: str) -> dict[int, str]:
    """Names of classes in a cell array beside a map, by the codes beside it, else from 1."""
    struct = name.rpartition(".")[0]
    beside = {item[0].casefold(): item for item in listed if "." not in item[0] and not struct}
    found = next((beside[key] for key in _CLASS_NAMES if key in beside), None)
    if found is None or found[2] not in ("cell", "char"):
        return {}
    texts = run_child(_CHILD, "texts", cache.state_of(path), found[0], "", "")["texts"]
    first = 0 if texts and texts[0].casefold() in _NO_CLASS else 1
    codes = list(range(first, first + len(texts)))
    listed_codes = beside.get("class_codes")
    if listed_codes and _is_numeric(listed_codes) and math.prod(listed_codes[1]) == len(texts):
        codes = _array(path, listed_codes).read_map().ravel().astype(int).tolist()
    return {code: text for code, text in zip(codes, texts, strict=True) if code > 0 and text}


def inner_labels(path: str, size: tuple[int, int]) -> list[str]:
    """Find variables of whole numbers of a cube's size; MATLAB stores them as double by default."""
    found = []
    for item in _flat(list_variables(path)):
        if item[1][:2] == size and is_integral(_array(path, item).read_map()):
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
            content["class_codes"] = np.array(spec.class_values, dtype=np.uint32)
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


def _array(path: str, item: Listed) -> UnpackedArray:
    name, shape, dtype = item
    shape = (1, 1, *shape)[-2:] if len(shape) < 2 else shape  # of HDF5 that MATLAB did not write
    bands = shape[2] if len(shape) == 3 else 1
    return UnpackedArray(
        file=cache.state_of(path),
        name=name,
        content=name,
        shape=(shape[0], shape[1], bands),
        dtype=np.dtype(dtype),
        unpack=_unpack,
    )


def _beside(listed: list[Listed], name: str, wanted: tuple[str, ...]) -> Listed | None:
    """The variable of one of some names that lies beside another, or in the same struct."""
    struct = name.rpartition(".")[0]
    for item in listed:
        place, _, last = item[0].rpartition(".")
        if place == struct and last.casefold() in wanted and _is_numeric(item):
            return item
    return None


def _wavelengths(path: str, item: Listed, bands: int) -> npt.NDArray[np.float64] | None:
    fits = len(item[1]) <= 2 and math.prod(item[1]) == bands
    return listed_wavelengths(path, _array(path, item).read_map() if fits else (), bands)


def _unpack(array: UnpackedArray, target: Path) -> None:
    run_child(_CHILD, "extract", array.file, array.content, array.dtype.name, str(target))


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
