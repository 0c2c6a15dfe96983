"""Scenes and labels, opened whatever their format."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hsifcn.core.errors import LabelError
from hsifcn.core.scene import LabelMap, Scene
from hsifcn.io import points, vectors
from hsifcn.io.alignment import Target, target_of
from hsifcn.io.arrays import NAME, array_labels, array_scene, is_array
from hsifcn.io.axes import axes_by_wavelengths, turned
from hsifcn.io.classes import read_class_names
from hsifcn.io.files import mark_input, read_text
from hsifcn.io.formats import FileScene, GivenLabels, refuse_variable, split_variable
from hsifcn.io.labels import label_map
from hsifcn.io.nodata import declare_nodata, find_nodata
from hsifcn.io.table import files_of, format_of, naming_file
from hsifcn.io.wavelengths import read_wavelengths

_VECTORS = ", ".join(suffix for suffix in vectors.SUFFIXES if suffix != ".json")


def open_scene(
    path: str | os.PathLike[str] | Any,
    *,
    wavelengths: str | os.PathLike[str] | None = None,
    nodata: float | None = None,
) -> FileScene:
    """Open a scene; its voxels are read later, window by window, but for a look at some.

    Parameters
    ----------
    path : path
        A file of one of ``FORMATS``, with ``:variable`` where it holds several arrays. Or an array
        in memory, of NumPy (rows, cols, bands) or xarray; see ``array_scene``.
    wavelengths : path, optional
        A text file with the wavelength of one band a line, in nm, or in µm if all are under 100.
        It goes before what the scene's file tells.
    nodata : float, optional
        A value that no measurement has, beside the one that the file may declare.

    Raises
    ------
    UnreadableFileError
        A file is missing, damaged, or holds no cube.
    AmbiguousInputError
        The file holds several cubes; the message names them.

    Warns
    -----
    UserWarning
        What is odd: one band only, bytes left over, wavelengths that fit no bands, fill values
        that the file does not declare.
    """
    given = is_array(path)
    file, variable = (NAME, None) if given else split_variable(path)
    if not given:
        mark_input(*files_of(file))
    with naming_file(file):
        scene = array_scene(path) if given else format_of(file).open_scene(file, variable)
        if wavelengths is not None:
            scene = _with_wavelengths(scene, wavelengths)
        if nodata is not None:
            scene = declare_nodata(scene, nodata)
        scene = find_nodata(scene)
    if scene.shape[2] == 1:
        warnings.warn(
            f"{scene.path} has one band only: give a label map with -l, not as a scene",
            stacklevel=2,
        )
    if scene.scale_factor is not None and not 0 < scene.scale_factor < np.inf:
        warnings.warn(
            f"the scale factor {scene.scale_factor:g} of {scene.path} is none: not used",
            stacklevel=2,
        )
        scene = dataclasses.replace(scene, scale_factor=None)
    elif scene.scale_factor is not None:
        # Of 1e-4 stored as float32 the reciprocal is 9999.9997: six digits are what is meant.
        scene = dataclasses.replace(scene, scale_factor=float(f"{scene.scale_factor:.6g}"))
    return scene


def _with_wavelengths(scene: FileScene, path: str | os.PathLike[str]) -> FileScene:
    """The scene with wavelengths of a text file, which may tell the axis of the bands."""
    if not scene.axes_told:
        count = sum(bool(line.strip()) for line in read_text(path).splitlines())
        axes = axes_by_wavelengths(scene.shape, count)
        scene = turned(scene, axes) if axes else scene
    return dataclasses.replace(scene, wavelengths=read_wavelengths(path, scene.shape[2]))


def open_labels(
    path: str | os.PathLike[str],
    *,
    class_names: str | os.PathLike[str] | None = None,
    like: Scene | LabelMap | None = None,
    field: str | None = None,
    all_touched: bool = False,
) -> LabelMap:
    """Read labels: a raster, polygons and points, or a table of pixels.

    Parameters
    ----------
    path : path
        A raster of one of ``FORMATS``, with ``:variable`` where it holds several maps. Whole
        numbers in any type; 0, and what the file calls no-data, is unlabelled. Or shapes
        (``.gpkg``, with ``:layer`` where it has several, ``.geojson``, ``.shp``). Or a table
        (``.csv``) with a line a pixel.
    class_names : path, optional
        A text file with the names of classes 1, 2, ..., one a line, or with lines such as
        ``311 = forest``. It goes before the names in the file; classes without a name are called
        by their code.
    like : Scene or LabelMap, optional
        The labels are put on its pixels, by the georeference where both have one, and classes
        that are given by name have the codes that a label map gives them. Shapes and tables need
        it.
    field : str, optional
        The attribute or column of shapes or table that tells the class: numbers, or names.
    all_touched : bool
        Polygons label every pixel that they touch, not only those whose centre they hold.

    Returns
    -------
    LabelMap
        Labels count the classes 1, 2, ... without gaps, as uint8, or uint16 for more than 255;
        ``codes`` tells their values in the file.

    Warns
    -----
    UserWarning
        What was guessed, moved or left out.

    Raises
    ------
    LabelError
        No labels: wrong shape, fractions, negative values, over 1000 classes, nothing labelled.
    MismatchError
        They cannot be put on the pixels of ``like``.
    UnreadableFileError
        A file is missing or damaged.
    AmbiguousInputError
        The file holds several maps, layers or fields; the message names them.
    """
    file, variable = split_variable(path)
    mark_input(*files_of(file))
    target = None if like is None else target_of(like)
    names: dict[int, str] = {}
    if class_names is not None:
        names = read_class_names(class_names)
        target = target and dataclasses.replace(target, class_names=names, names_are_complete=True)
    with naming_file(file):
        given = _read_labels(file, variable, target, field, all_touched)
    return label_map(os.fspath(path), given, names, target)


def _read_labels(
    file: str, variable: str | None, target: Target | None, field: str | None, all_touched: bool
) -> GivenLabels:
    """Read labels of any kind; of shapes and tables onto the pixels of the target."""
    kind = Path(file).suffix.lower()
    if kind not in (*vectors.SUFFIXES, *points.SUFFIXES):
        return format_of(
            file, f"labels are polygons or points ({_VECTORS}), a .csv, or one of "
        ).read_labels(file, variable)
    if target is None:
        raise LabelError(f"{file} is no raster", "it labels the pixels of a scene: name that")
    if kind in points.SUFFIXES:
        refuse_variable(file, variable)
        return points.read_labels(file, target, field)
    return vectors.read_labels(file, variable, target, field, all_touched)


def as_scene(scene: Scene | str | os.PathLike[str] | Any) -> Scene:
    """A scene, whether given as one, as a path or as an array."""
    if isinstance(scene, str | os.PathLike) or is_array(scene):
        return open_scene(scene)
    found: Scene = scene
    return found


def as_labels(labels: LabelMap | str | os.PathLike[str] | Any, like: Scene) -> LabelMap:
    """A label map, whether given as one, as a path or as an array."""
    if isinstance(labels, LabelMap):
        return labels
    return array_labels(labels) if is_array(labels) else open_labels(labels, like=like)
