"""Files: scenes and labels in, rasters out.

``FORMATS`` is the one table of formats. A new one is a module with a ``FORMAT`` and a line here.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import (
    AmbiguousInputError,
    HsifcnError,
    LabelError,
    SettingError,
    UnreadableFileError,
)
from hsifcn.core.scene import Grid, LabelMap, Scene
from hsifcn.io import envi, hdf5, mat, npy, png, points, tiff, vectors, zarr_store
from hsifcn.io.alignment import Target, target_of
from hsifcn.io.axes import axes_by_wavelengths, turned
from hsifcn.io.classes import read_class_names
from hsifcn.io.files import atomic_write, cannot_read, mark_input, read_text
from hsifcn.io.formats import (
    FileScene,
    Format,
    GivenLabels,
    is_store,
    refuse_variable,
    scene_stem,
    split_variable,
)
from hsifcn.io.labels import NO_SCENE_ENDINGS, label_map, labels_beside
from hsifcn.io.mat import list_variables
from hsifcn.io.nodata import declare_nodata, find_nodata
from hsifcn.io.png import write_label_png, write_rgb_png
from hsifcn.io.wavelengths import read_wavelengths
from hsifcn.io.writer import RasterSpec, RasterWriter

__all__ = [
    "FORMATS",
    "RasterWriter",
    "atomic_write",
    "create_raster",
    "find_labels",
    "find_scenes",
    "list_variables",
    "open_labels",
    "open_scene",
    "scene_stem",
    "split_variable",
    "write_label_png",
    "write_rgb_png",
]

FORMATS: tuple[Format, ...] = (
    envi.FORMAT,
    mat.FORMAT,
    npy.FORMAT,
    npy.ARCHIVE_FORMAT,
    tiff.FORMAT,
    hdf5.FORMAT,
    zarr_store.FORMAT,
    png.FORMAT,
)
# Labels that are no rasters. A .json beside a scene is more often something else.
_VECTORS = ", ".join(suffix for suffix in vectors.SUFFIXES if suffix != ".json")
_TABLES = tuple(suffix for suffix in (*vectors.SUFFIXES, *points.SUFFIXES) if suffix != ".json")


def open_scene(
    path: str | os.PathLike[str],
    *,
    wavelengths: str | os.PathLike[str] | None = None,
    nodata: float | None = None,
) -> FileScene:
    """Open a scene; its voxels are read later, window by window, but for a look at some.

    Parameters
    ----------
    path : path
        A file of one of ``FORMATS``, with ``:variable`` where it holds several arrays.
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
    file, variable = split_variable(path)
    mark_input(*_files_of(file))
    with _reading(file):
        scene = _format_of(file).open_scene(file, variable)
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
    mark_input(*_files_of(file))
    target = None if like is None else target_of(like)
    names: dict[int, str] = {}
    if class_names is not None:
        names = read_class_names(class_names)
        target = target and dataclasses.replace(target, class_names=names, names_are_complete=True)
    with _reading(file):
        given = _read_labels(file, variable, target, field, all_touched)
    return label_map(os.fspath(path), given, names, target)


def _read_labels(
    file: str, variable: str | None, target: Target | None, field: str | None, all_touched: bool
) -> GivenLabels:
    """Read labels of any kind; of shapes and tables onto the pixels of the target."""
    kind = Path(file).suffix.lower()
    if kind not in (*vectors.SUFFIXES, *points.SUFFIXES):
        return _format_of(
            file, f"labels are polygons or points ({_VECTORS}), a .csv, or one of "
        ).read_labels(file, variable)
    if target is None:
        raise LabelError(f"{file} is no raster", "it labels the pixels of a scene: name that")
    if kind in points.SUFFIXES:
        refuse_variable(file, variable)
        return points.read_labels(file, target, field)
    return vectors.read_labels(file, variable, target, field, all_touched)


def find_scenes(path: str | os.PathLike[str]) -> list[str]:
    """Find the scenes that a path stands for.

    Parameters
    ----------
    path : path
        A scene; or a folder, for all scenes in it; or a pattern such as ``flights/*.tif``. Left
        out are labels and maps, told by their names or their one band, and what is no scene.

    Raises
    ------
    UnreadableFileError
        A folder or a pattern without scenes.
    """
    text = os.fspath(path)
    if os.path.isdir(text) and not is_store(text):
        files = sorted(Path(text).iterdir())
    elif not os.path.exists(text) and glob.has_magic(text):
        files = sorted(Path(found) for found in glob.glob(text))
    else:
        return [text]
    suffixes = tuple(
        suffix for form in FORMATS if form is not png.FORMAT for suffix in form.suffixes
    )
    files = [file for file in files if file.suffix.lower() in suffixes]
    voxels = {file.stem for file in files if file.suffix.lower() != ".hdr"}
    voxels |= {file.name for file in files}
    scenes = [
        str(file)
        for file in files
        if not (file.suffix.lower() == ".hdr" and file.stem in voxels)
        and not file.stem.casefold().endswith(NO_SCENE_ENDINGS)
        and _is_scene(file)
    ]
    if not scenes:
        raise UnreadableFileError(f"{text} holds no scene", "name a scene")
    return scenes


def _is_scene(file: Path) -> bool:
    """Whether a file holds a cube of several bands."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return open_scene(file).shape[2] > 1
        except HsifcnError:
            return False


def find_labels(scene: str | os.PathLike[str]) -> str:
    """Find the labels of a scene.

    They are an array of whole numbers of the cube's size in its own file, or else the one file
    beside it that is named after it: its name, with ``_corrected`` or ``_cube`` left out or not,
    then ``_gt`` or ``_labels``.

    Returns
    -------
    str
        A path that ``open_labels`` takes.

    Raises
    ------
    LabelError
        There are none.
    AmbiguousInputError
        There are several; the message names them.
    """
    file, variable = split_variable(scene)
    with _reading(file):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whoever opens the scene itself is told what is odd
            rows, cols, _ = _format_of(file).open_scene(file, variable).shape
        found = _format_of(file).inner_labels(file, (rows, cols))
        if not found:
            found = labels_beside(
                file,
                [*(suffix for form in FORMATS for suffix in form.suffixes), *_TABLES],
                [*(suffix for form in FORMATS for suffix in form.label_suffixes), *_TABLES],
            )
    if not found:
        raise LabelError(
            f"no labels for {os.fspath(scene)} were found in it or beside it", "name them with -l"
        )
    if len(found) > 1:
        raise AmbiguousInputError(
            f"{os.fspath(scene)} may have its labels in {', '.join(found)}", "name one with -l"
        )
    return found[0]


def create_raster(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int] | tuple[int, int, int],
    dtype: npt.DTypeLike,
    overwrite: bool = False,
    grid: Grid | None = None,
    nodata: float | None = None,
    class_names: Sequence[str] | None = None,
    colours: Sequence[tuple[int, int, int]] | None = None,
    class_codes: Sequence[int] | None = None,
    band_names: Sequence[str] | None = None,
    wavelengths: Sequence[float] | npt.NDArray[np.float64] | None = None,
) -> RasterWriter:
    """Begin a raster that is written window by window; the suffix decides the format.

    What a format has no place for (an ``.npy`` file: all but the voxels) is left out.

    Parameters
    ----------
    path : path
        The file.
    shape, dtype, overwrite, grid, nodata, class_names, colours, class_codes, band_names,
    wavelengths
        Of ``RasterSpec``.

    Returns
    -------
    RasterWriter
        A context manager; the file appears when its block ends.

    Raises
    ------
    ExistingOutputError
        The raster or its header exists, or the header belongs to another raster.
    SettingError
        No format of that suffix, or it cannot hold such voxels.
    FailedError
        From the block: disk full, no permission.
    """
    target = Path(path)
    if len(shape) not in {2, 3} or min(shape) < 1:
        raise SettingError(f"{target} cannot have the shape {shape}", "give rows, cols, bands")
    spec = RasterSpec(
        path=target,
        shape=tuple(shape),
        dtype=np.dtype(dtype).newbyteorder("="),
        overwrite=overwrite,
        grid=grid,
        nodata=nodata,
        class_names=tuple(class_names or ()),
        colours=tuple(colours or ()),
        class_codes=tuple(class_codes or ()),
        band_names=tuple(band_names or ()),
        wavelengths=() if wavelengths is None else tuple(float(value) for value in wavelengths),
    )
    return _writing_format(target).create(spec)


def _writing_format(path: Path) -> Format:
    """Tell the format to write by the suffix."""
    for form in FORMATS:
        if path.suffix.lower() in form.write_suffixes:
            return form
    known = ", ".join(suffix for form in FORMATS for suffix in form.write_suffixes)
    raise SettingError(f"{path} has a suffix of no raster format", f"use one of {known}")


def _files_of(file: str) -> list[Path]:
    """A file and those beside it that are read with it."""
    path = Path(file)
    beside = [Path(f"{file}.aux.xml")]
    if path.suffix.lower() == ".shp":
        beside += [path.with_suffix(suffix) for suffix in vectors.BESIDE_SHAPEFILE]
    elif path.suffix.lower() in envi.FORMAT.suffixes or envi.FORMAT.accepts(path):
        suffixes = (".hdr", *envi.FORMAT.suffixes)
        beside += [Path(f"{file}.hdr"), *(path.with_suffix(suffix) for suffix in suffixes)]
    return [path, *beside]


def _format_of(file: str, remedy: str = "a scene or label map is one of ") -> Format:
    """Tell the format of a file by its suffix, else by what lies beside it."""
    path = Path(file)
    for form in FORMATS:
        if path.suffix.lower() in form.suffixes:
            return form
    for form in FORMATS:
        if form.accepts(path):
            return form
    readable = (form for form in FORMATS if form is not png.FORMAT)
    known = ", ".join(suffix for form in readable for suffix in form.suffixes)
    raise UnreadableFileError(
        f"{file} is of no known format and has no ENVI header beside it", f"{remedy}{known}"
    )


@contextmanager
def _reading(file: str) -> Iterator[None]:
    """Turn what the system refuses into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise cannot_read(file, error) from error
