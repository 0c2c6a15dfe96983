"""Scenes in folders, and the labels of a scene."""

from __future__ import annotations

import glob
import os
import warnings
from pathlib import Path

from hsifcn.core.errors import (
    AmbiguousInputError,
    HsifcnError,
    LabelError,
    UnreadableFileError,
)
from hsifcn.io import png, points, vectors
from hsifcn.io.addresses import is_address
from hsifcn.io.formats import is_store, split_variable
from hsifcn.io.labels import NO_SCENE_ENDINGS, labels_beside
from hsifcn.io.reading import open_scene
from hsifcn.io.table import FORMATS, format_of, naming_file

# Labels that are no rasters. A .json beside a scene is more often something else.
_TABLES = tuple(suffix for suffix in (*vectors.SUFFIXES, *points.SUFFIXES) if suffix != ".json")


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
    files = scene_files(text)
    if files is None:
        return [text]
    scenes = [str(file) for file in files if _is_scene(file)]
    if not scenes:
        raise UnreadableFileError(f"{text} holds no scene", "name a scene")
    return scenes


def scene_files(path: str) -> list[Path] | None:
    """Files of a folder or a pattern that may be scenes, told by their names; none is opened.

    Returns
    -------
    list of Path or None
        Sorted; None where the path stands for itself. In a pattern ``**`` stands for folders.
    """
    if is_address(path):
        return None
    if os.path.isdir(path) and not is_store(path):
        files = sorted(Path(path).iterdir())
    elif not os.path.exists(path) and glob.has_magic(path):
        files = sorted(Path(found) for found in glob.glob(path, recursive=True))
    else:
        return None
    return likely_scenes(files)


def likely_scenes(files: list[Path]) -> list[Path]:
    """Those of some files that may be scenes, told by their names; a pair of ENVI's counts once."""
    suffixes = tuple(
        suffix for form in FORMATS if form is not png.FORMAT for suffix in form.suffixes
    )
    files = [file for file in files if file.suffix.lower() in suffixes]
    voxels = {file.with_suffix("") for file in files if file.suffix.lower() != ".hdr"}
    voxels |= set(files)
    return [
        file
        for file in files
        if not (file.suffix.lower() == ".hdr" and file.with_suffix("") in voxels)
        and not file.stem.casefold().endswith(NO_SCENE_ENDINGS)
    ]


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
    with naming_file(file):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whoever opens the scene itself is told what is odd
            rows, cols, _ = format_of(file).open_scene(file, variable).shape
        found = format_of(file).inner_labels(file, (rows, cols))
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
