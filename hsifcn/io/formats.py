"""What a file format offers. A new format is one module that fills in a ``Format``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import NoCubeError, SettingError, UnreadableFileError
from hsifcn.core.formats import html_table
from hsifcn.core.scene import Grid, Window
from hsifcn.io.addresses import is_address, parse_address, refuse_address
from hsifcn.io.writer import RasterSpec, RasterWriter

_EXPANSION_LIMIT = 10_000


class Voxels(Protocol):
    """Where a scene's voxels come from; ``RawArray`` is one."""

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read all bands of a window, as ``Scene.read`` does."""


@dataclass(frozen=True, eq=False)
class FileScene:
    """A scene in a file; see ``hsifcn.scene.Scene`` for what its attributes mean.

    Attributes
    ----------
    voxels : Voxels
        Reads the windows. It opens the file for each, so that the scene can be pickled.
    fwhm : ndarray, (bands,), float64, or None
        Full widths at half maximum, nm.
    scale_factor : float or None
        Voxels divided by it are reflectances; reading does not divide.
    axes_told : bool
        Whether the file tells which axis holds the bands, by its format or by wavelengths.
    """

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    interleave: str
    voxels: Voxels
    good_bands: npt.NDArray[np.bool_]
    wavelengths: npt.NDArray[np.float64] | None = None
    nodata: float | None = None
    grid: Grid | None = None
    fwhm: npt.NDArray[np.float64] | None = None
    scale_factor: float | None = None
    axes_told: bool = True

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read all bands of a window: (window.rows, window.cols, bands), native, C order."""
        return self.voxels.read(window)

    def to_xarray(self) -> Any:
        """The scene as an ``xarray.DataArray``; see ``io.to_xarray``."""
        from hsifcn.io.to_xarray import to_xarray

        return to_xarray(self)

    def _repr_html_(self) -> str:
        rows, cols, bands = self.shape
        facts = {
            "scene": self.path,
            "size": f"{rows:,} rows, {cols:,} columns, {bands:,} bands of {self.dtype}",
            "no-data": "none declared" if self.nodata is None else f"{self.nodata:g}",
            "georeference": "none" if self.grid is None else "yes",
        }
        if self.wavelengths is not None:
            facts["wavelengths"] = (
                f"{self.wavelengths.min():.0f} to {self.wavelengths.max():.0f} nm"
            )
        return html_table(facts)


@dataclass(frozen=True)
class UnreadLabels:
    """Labels of known size that are unpacked only if the size is right, and no more than needed.

    Attributes
    ----------
    shape : tuple of int
        Rows, columns.
    read : callable
        Gives a window: (rows, cols) or (rows, cols, 1).
    """

    shape: tuple[int, int]
    read: Callable[[Window], npt.NDArray[Any]]

    def read_all(self) -> npt.NDArray[Any]:
        """The whole array."""
        return self.read(Window(0, 0, *self.shape))


@dataclass(frozen=True)
class GivenLabels:
    """Labels as a file gives them, not yet checked.

    Attributes
    ----------
    array : ndarray, (rows, cols) or (rows, cols, 1), or UnreadLabels
        Class codes of any numeric type; 0 and NaN are unlabelled.
    class_names, colours : mapping
        Of the classes, by code; as many as the file tells.
    features : ndarray, (rows, cols), int32, or None
    codes_given : bool
        Both as in ``LabelMap``.
    """

    array: npt.NDArray[Any] | UnreadLabels
    class_names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    grid: Grid | None = None
    features: npt.NDArray[np.int32] | None = None
    codes_given: bool = True


def no_inner_labels(path: str, size: tuple[int, int]) -> list[str]:
    """Find no labels: in most formats a file holds a cube and nothing besides."""
    return []


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes
    ----------
    name : str
        As messages call it.
    suffixes : tuple of str
        What its files end in, lower case.
    label_suffixes : tuple of str
        Those under which ``find_labels`` looks for labels.
    write_suffixes : tuple of str
        Those under which ``create_raster`` writes it.
    open_scene : callable
        ``(path, variable or None) -> FileScene``.
    read_labels : callable
        ``(path, variable or None) -> GivenLabels``.
    create : callable
        ``(spec) -> RasterWriter``.
    accepts : callable
        ``(path) -> bool`` for a file with none of the suffixes of any format.
    inner_labels : callable
        ``(path, (rows, cols)) -> paths`` of label maps of that size inside a scene's own file.
    """

    name: str
    suffixes: tuple[str, ...]
    label_suffixes: tuple[str, ...]
    write_suffixes: tuple[str, ...]
    open_scene: Callable[[str, str | None], FileScene]
    read_labels: Callable[[str, str | None], GivenLabels]
    create: Callable[[RasterSpec], RasterWriter]
    accepts: Callable[[Path], bool] = lambda path: False
    inner_labels: Callable[[str, tuple[int, int]], list[str]] = no_inner_labels


def split_variable(path: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Split ``file.mat:variable`` into file and variable; the file must exist.

    A colon in the name of an existing file is part of the name.

    Raises
    ------
    UnreadableFileError
        No such file.
    """
    text = os.fspath(path)
    if os.path.exists(text):
        if os.path.isdir(text) and not is_store(text):
            raise UnreadableFileError(f"{text} is a folder", "name a file in it")
        return text, None
    for i, character in enumerate(text):
        if character == ":" and (os.path.isfile(text[:i]) or is_store(text[:i])):
            return text[:i], text[i + 1 :]
    refuse_address(text)
    raise UnreadableFileError(f"{text} does not exist", "check the path")


def is_store(path: str) -> bool:
    """Whether a folder is one of Zarr's, which count as files."""
    return path.rstrip("/").endswith(".zarr") and os.path.isdir(path)


def scene_stem(path: str | os.PathLike[str]) -> str:
    """Give the name of a scene's file without folder, suffix and variable: what runs are called."""
    if is_address(os.fspath(path)):
        return Path(parse_address(os.fspath(path)).name).stem
    return Path(split_variable(path)[0]).stem


def refuse_variable(path: str, variable: str | None) -> None:
    """Raise where a variable is named in a file that holds one array only."""
    if variable is not None:
        raise SettingError(f"{path} holds one array without a name", f"leave out ':{variable}'")


def refuse_lying_size(path: str, nbytes: int, size: int | None = None) -> None:
    """Raise where a file says that it unpacks to more bytes than it can hold.

    Deflate packs 1032 bytes into one at most; other compressions, and blocks that were never
    written, are given ten times that. ``size`` is that of the file, where it is no plain one.
    """
    size = os.path.getsize(path) if size is None else size
    if nbytes > _EXPANSION_LIMIT * size:
        raise UnreadableFileError(
            f"{path} claims {nbytes / 1e9:.3g} GB but has {size} bytes", "copy it again"
        )


def not_a_cube(path: str, shape: tuple[int, ...]) -> UnreadableFileError:
    """Say that an array is no cube, and what it may be."""
    problem, remedy = f"{path} has {len(shape)} dimensions, {shape}", "a cube has the shape "
    remedy += "(rows, cols, bands)"
    if len(shape) == 2:
        return NoCubeError(problem, f"{remedy}; give a label map with -l")
    return UnreadableFileError(problem, remedy)
