"""The one table of formats. A new format is a module with a ``FORMAT`` and a line here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hsifcn.core.errors import SettingError, UnreadableFileError
from hsifcn.io import envi, hdf5, mat, npy, png, tiff, vectors, zarr_store
from hsifcn.io.files import cannot_read
from hsifcn.io.formats import Format

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


_CONVERT = "convert it: gdal_translate -of GTiff"
# What files are that are often given and not read, by suffix, and what to do.
_OTHERS = {
    **dict.fromkeys((*vectors.SUFFIXES, ".csv"), ("holds labels, not a scene", "give it with -l")),
    ".safetensors": ("is a model, not a scene", "hsifcn predict takes it"),
    **dict.fromkeys((".hdf", ".hdf4"), ("is HDF4, which hsifcn does not read", _CONVERT)),
    ".vrt": ("is a virtual raster, which reads other files", _CONVERT),
    **dict.fromkeys(
        (".jp2", ".ntf", ".ers", ".asc", ".lan", ".pix", ".rst"),
        ("is a raster of a kind that hsifcn does not read", _CONVERT),
    ),
    **dict.fromkeys(
        (".kmz", ".gpx", ".tab", ".mif", ".dxf", ".parquet", ".topojson"),
        ("holds shapes of a kind that hsifcn does not read", "convert it: ogr2ogr labels.gpkg"),
    ),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), ("is a spreadsheet", "save the table as .csv")),
    **dict.fromkeys((".jpg", ".jpeg", ".gif"), ("is a picture", "give the scene or the map")),
    **dict.fromkeys(
        (".pkl", ".pickle", ".pt", ".pth"),
        ("may run code when it is read, so hsifcn does not", "save the array as .npy"),
    ),
    **dict.fromkeys((".zip", ".gz", ".tar", ".7z", ".rar"), ("is packed", "unpack it first")),
}


def format_of(file: str, remedy: str = "a scene or label map is one of ") -> Format:
    """Tell the format of a file by its suffix, else by what lies beside it."""
    path = Path(file)
    for form in FORMATS:
        if path.suffix.lower() in form.suffixes:
            return form
    for form in FORMATS:
        if form.accepts(path):
            return form
    refuse_other(file)
    readable = (form for form in FORMATS if form is not png.FORMAT)
    known = ", ".join(suffix for form in readable for suffix in form.suffixes)
    raise UnreadableFileError(
        f"{file} is of no known format and has no ENVI header beside it", f"{remedy}{known}"
    )


def refuse_other(file: str) -> None:
    """Raise UnreadableFileError for a file of a kind that is known but no raster, saying which."""
    what, remedy = _OTHERS.get(Path(file).suffix.lower(), ("", ""))
    if what:
        raise UnreadableFileError(f"{file} {what}", remedy)


def is_raster(file: str) -> bool:
    """Whether a file is of one of the formats, by its suffix or what lies beside it."""
    path = Path(file)
    suffix = path.suffix.lower()
    return any(suffix in form.suffixes or form.accepts(path) for form in FORMATS)


def writing_format(path: Path) -> Format:
    """Tell the format to write by the suffix."""
    for form in FORMATS:
        if path.suffix.lower() in form.write_suffixes:
            return form
    known = ", ".join(suffix for form in FORMATS for suffix in form.write_suffixes)
    raise SettingError(f"{path} has a suffix of no raster format", f"use one of {known}")


def files_of(file: str) -> list[Path]:
    """A file and those beside it that are read with it."""
    path = Path(file)
    beside = [Path(f"{file}.aux.xml")]
    if path.suffix.lower() == ".shp":
        beside += [path.with_suffix(suffix) for suffix in vectors.BESIDE_SHAPEFILE]
    elif path.suffix.lower() in envi.FORMAT.suffixes or envi.FORMAT.accepts(path):
        suffixes = (".hdr", *envi.FORMAT.suffixes)
        beside += [Path(f"{file}.hdr"), *(path.with_suffix(suffix) for suffix in suffixes)]
    return [path, *beside]


@contextmanager
def naming_file(file: str) -> Iterator[None]:
    """Turn what the system refuses into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise cannot_read(file, error) from error
