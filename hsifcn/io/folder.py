"""The data sets in a folder of mixed files: each once, without what belongs to others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hsifcn.io import envi
from hsifcn.io.formats import is_store

# What belongs to a file is called after its whole name, or after its name without the suffix.
_AFTER_NAME = (".json", ".xml", "-wal", "-shm", "-journal", ".lock")
_AFTER_NAME_OR_STEM = (
    *(".aux.xml", ".ovr", ".msk", ".prj", ".shx", ".dbf", ".cpg", ".qpj", ".sbn", ".sbx", ".qix"),
    *(".qml", ".qmd", ".sld", ".tfw", ".tifw", ".tfwx", ".wld", ".jgw", ".pgw", ".gfs", ".xsd"),
    *(".enp", ".sta", ".rpb", ".idm"),
)
_METADATA = re.compile(r"(.+)-METADATA\.XML", re.IGNORECASE)  # of EnMAP and DESIS


@dataclass(frozen=True)
class FolderContent:
    """What lies in a folder, sorted by name; hidden files are left out.

    Attributes
    ----------
    data : list of Path
        Files, and stores of Zarr, each of which is a data set of its own; or no data at all.
    folders : list of Path
        Other folders.
    """

    data: list[Path]
    folders: list[Path]


def list_folder(folder: Path) -> FolderContent:
    """List a folder: of an ENVI raster its file of voxels, of a shapefile its ``.shp``, and so on.

    Folders in it are not looked into.
    """
    found = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    inner = [path for path in found if path.is_dir() and not is_store(str(path))]
    files = [path for path in found if path not in set(inner)]
    names = {path.name.casefold() for path in files}
    stems = {path.stem.casefold() for path in files if not _has_side_ending(path.name)}
    data = [path for path in files if not _belongs_to_other(path, names, stems)]
    return FolderContent(data, inner)


def _has_side_ending(name: str) -> bool:
    return name.casefold().endswith((*_AFTER_NAME_OR_STEM, ".hdr"))


def _belongs_to_other(path: Path, names: Iterable[str], stems: Iterable[str]) -> bool:
    """Whether a file is no data set of its own; ``names`` and ``stems`` are those of all files."""
    name = path.name.casefold()
    if name.endswith(".hdr"):
        return envi.describes_raster(path)
    metadata = _METADATA.fullmatch(name)
    if metadata and any(other.startswith(f"{metadata[1]}-spectral_image") for other in names):
        return True
    return any(
        name.endswith(ending)
        and (
            name.removesuffix(ending) in names
            or (ending in _AFTER_NAME_OR_STEM and name.removesuffix(ending) in stems)
        )
        for ending in (*_AFTER_NAME_OR_STEM, *_AFTER_NAME)
    )
