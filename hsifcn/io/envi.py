"""ENVI rasters: a file of voxels, and a text header beside it.

The header format is described in the ENVI documentation, "ENVI Header Files". Of its ways to tell
what voxels mean, ``data gain values`` and ``data offset values`` (physical value = gain * voxel +
offset, band by band) are applied, because they differ between scenes of one sensor;
``reflectance scale factor`` is kept beside the voxels.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import (
    AmbiguousInputError,
    ExistingOutputError,
    LabelError,
    NoCubeError,
    SettingError,
    UnreadableFileError,
)
from hsifcn.core.scene import Grid, Window
from hsifcn.io.affine import calibrated
from hsifcn.io.classes import unlabel
from hsifcn.io.envi_header import EnviHeader, format_header, read_header
from hsifcn.io.envi_map import map_fields, read_grid
from hsifcn.io.formats import FileScene, Format, GivenLabels, refuse_variable
from hsifcn.io.qgis_style import raster_style
from hsifcn.io.raw import RawArray
from hsifcn.io.wavelengths import are_wavelengths, named_wavelengths, to_nanometres
from hsifcn.io.writer import RasterSpec, RasterWriter

_RASTER_SUFFIXES = (".img", ".dat", ".bil", ".bip", ".bsq", ".raw")
_DTYPES = {
    **{1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8"},
    **{12: "u2", 13: "u4", 14: "i8", 15: "u8"},
}
_TYPE_CODES = {np.dtype(name): code for code, name in _DTYPES.items()}
_CLASSIFICATION = "envi classification"
_LIBRARY = "envi spectral library"
_ERDAS = b"EHFA_HEADER_TAG"  # begins an .img file of ERDAS Imagine
# What may lie beside a header under its name and is no file of voxels.
_NO_RASTERS = {
    *(
        ".hdr",
        ".xml",
        ".txt",
        ".csv",
        ".json",
        ".md",
        ".pdf",
        ".log",
        ".sta",
        ".ovr",
        ".msk",
        ".tfw",
    ),
    *(
        ".tif",
        ".tiff",
        ".png",
        ".jpg",
        ".jpeg",
        ".mat",
        ".npy",
        ".npz",
        ".h5",
        ".he5",
        ".hdf",
        ".nc",
    ),
    *(".zarr", ".gpkg", ".geojson", ".shp", ".shx", ".dbf", ".prj", ".cpg", ".kml", ".qml", ".zip"),
}
_NOT_RASTERS = ("envi meta", "envi virtual mosaic")

_UNNAMED = "-"  # stands in a list for a code that is no class
_LARGEST_LISTED = 1000  # code; up to it names are listed by their place, as ENVI does


def open_scene(path: str, variable: str | None) -> FileScene:
    """Open a raster as a scene, from its header or its file of voxels."""
    refuse_variable(path, variable)
    header, voxels = _open(Path(path))
    if header.text("file type").lower() == _CLASSIFICATION:
        raise NoCubeError(f"{path} is a classified map, not a cube", "give it with -l")
    bands = voxels.shape[2]
    units = header.text("wavelength units")
    wavelengths = header.numbers("wavelength", bands)
    fwhm = header.numbers("fwhm", bands)
    if wavelengths is None and len(header.words("band names")) == bands:
        wavelengths, units = named_wavelengths(header.words("band names")), "nm"
    if wavelengths is not None and not are_wavelengths(wavelengths, units):
        wavelengths = fwhm = None
    if wavelengths is not None:
        if np.any(wavelengths <= 0):
            raise header.fault("has a wavelength that is not positive")
        in_nanometres = to_nanometres(wavelengths, units)
        # Widths have the units of the wavelengths; by their size they could not be told.
        fwhm = fwhm * (in_nanometres[0] / wavelengths[0]) if fwhm is not None else None
        wavelengths = in_nanometres
    good = header.numbers("bbl", bands)
    nodata = header.number("data ignore value")
    scene = FileScene(
        path=path,
        shape=voxels.shape,
        dtype=voxels.dtype.newbyteorder("="),
        interleave=voxels.interleave,
        voxels=voxels,
        good_bands=np.ones(bands, dtype=np.bool_) if good is None else good > 0,
        wavelengths=wavelengths,
        nodata=None if nodata is None or np.isnan(nodata) else nodata,
        grid=read_grid(header),
        fwhm=fwhm,
        scale_factor=header.number("reflectance scale factor"),
    )
    return _calibrated(scene, header)


def open_map(path: str) -> tuple[RawArray, Grid | None]:
    """The voxels of a raster, classified or not, to be read in windows, and where it lies."""
    header, voxels = _open(Path(path))
    return voxels, read_grid(header)


def read_labels(path: str, variable: str | None) -> GivenLabels:
    """Read a classified map, or any raster of one band, as labels."""
    refuse_variable(path, variable)
    header, voxels = _open(Path(path))
    rows, cols, bands = voxels.shape
    if bands != 1:
        raise LabelError(f"{path} has {bands} bands", "a label map has one")
    labels = voxels.read(Window(0, 0, rows, cols))[:, :, 0]
    nodata = header.number("data ignore value")
    if nodata is not None:
        unlabel(labels, nodata)
    listed = header.words("class names")
    if listed and "class values" not in header.fields and (labels == len(listed)).any():
        warnings.warn(
            f"{path} holds class {len(listed)}, and its header names classes 0, {listed[0]!r}, to "
            f"{len(listed) - 1}, {listed[-1]!r}: is the name of 0, unclassified, missing?",
            stacklevel=2,
        )
    return GivenLabels(
        array=labels,
        class_names=_class_names(header),
        colours=_class_colours(header),
        grid=read_grid(header),
    )


def create(spec: RasterSpec) -> RasterWriter:
    """Write a raster as BIP, with its header under the same name."""
    if spec.dtype not in _TYPE_CODES:
        raise SettingError(f"an ENVI raster cannot hold {spec.dtype}", "write .npy instead")
    header = spec.path.with_suffix(".hdr")
    if header.is_file():
        others = [file for file in _rasters_of(header) if file.name != spec.path.name]
        if others:
            raise ExistingOutputError(f"{header} describes {others[0]}", "choose another name")
    # GDAL keeps statistics and overviews of a raster in files beside it.
    beside = (f"{spec.path.name}{suffix}" for suffix in (".hdr", ".aux.xml", ".ovr"))
    return RasterWriter(
        spec,
        companions=((header, format_header(_fields(spec))), *raster_style(spec)),
        stale=(header, *(spec.path.with_name(name) for name in beside)),
    )


def accepts(path: Path) -> bool:
    """Tell whether a file of any suffix has an ENVI header beside it."""
    return _header_of(path) is not None


def describes_raster(header: Path) -> bool:
    """Tell whether a header has a raster beside it."""
    return bool(_rasters_of(header))


FORMAT = Format(
    name="ENVI",
    suffixes=(".hdr", *_RASTER_SUFFIXES),
    label_suffixes=(".hdr",),
    write_suffixes=_RASTER_SUFFIXES,
    open_scene=open_scene,
    read_labels=read_labels,
    create=create,
    accepts=accepts,
)


def _open(path: Path) -> tuple[EnviHeader, RawArray]:
    """Find the two files of a raster, and check that they fit together."""
    if path.suffix.lower() == ".hdr":
        header_path, rasters = path, _rasters_of(path)
        if not rasters:
            raise UnreadableFileError(
                f"{path} has no raster beside it", f"name it {path.stem} with .img, .dat or .raw"
            )
        if len(rasters) > 1:
            names = ", ".join(str(raster) for raster in rasters)
            raise AmbiguousInputError(f"{path} may describe {names}", "name one of these")
        raster = rasters[0]
    else:
        found = _header_of(path)
        if found is None:
            with open(path, "rb") as file:
                if file.read(len(_ERDAS)) == _ERDAS:
                    raise UnreadableFileError(
                        f"{path} is a raster of ERDAS Imagine, which hsifcn does not read",
                        "convert it: gdal_translate -of GTiff",
                    )
            raise UnreadableFileError(
                f"{path} has no ENVI header beside it", f"put {path.name}.hdr there"
            )
        header_path, raster = found, path
    header = read_header(header_path)
    return header, _voxels(header, raster)


def _voxels(header: EnviHeader, raster: Path) -> RawArray:
    """Where the voxels lie in the file, by the header."""
    if header.text("file type").lower() == _LIBRARY:
        raise header.fault("describes a spectral library, not a scene", "give a scene")
    if header.text("file type").lower() in _NOT_RASTERS:
        raise header.fault("describes other files, not voxels", "give one of those")
    if header.count("file compression", default=0):
        raise header.fault("says that the raster is compressed", "save it without compression")
    for key in ("major frame offsets", "minor frame offsets"):
        if any(word not in {"0", "0.0"} for word in header.words(key)):
            raise header.fault(f"has '{key}', which hsifcn does not read", "save it without")
    shape = tuple(header.count(key, least=1) for key in ("lines", "samples", "bands"))
    code = header.count("data type")
    if code not in _DTYPES:
        kind = "complex" if code in {6, 9} else "unknown"
        raise header.fault(f"has the {kind} data type {code}", "save real numbers")
    if "interleave" not in header.fields:
        raise header.fault("has no 'interleave'", "add a line 'interleave = bsq', bil or bip")
    interleave = header.text("interleave").lower()
    if interleave not in {"bip", "bil", "bsq"}:
        raise header.fault(f"has the unknown interleave {interleave[:40]!r}", "use bip, bil or bsq")
    dtype = np.dtype(_DTYPES[code]).newbyteorder(_byte_order(header, code))
    rows, cols, bands = shape
    offset = header.count("header offset", default=0)
    voxels = RawArray(os.path.abspath(raster), offset, (rows, cols, bands), dtype, interleave)
    size, needed = raster.stat().st_size, offset + voxels.nbytes
    if size < needed:
        raise UnreadableFileError(
            f"{raster} is truncated: {size} bytes where {header.path} asks for {needed}",
            "copy it again, or correct the header",
        )
    if size > needed:
        warnings.warn(
            f"{raster} holds {size - needed} bytes more than its header tells of", stacklevel=2
        )
    return voxels


def _calibrated(scene: FileScene, header: EnviHeader) -> FileScene:
    """The scene with the gains and offsets of its bands applied, where it has any."""
    bands = scene.shape[2]
    gains = header.numbers("data gain values", bands)
    offsets = header.numbers("data offset values", bands)
    gains = np.ones(bands) if gains is None else gains
    offsets = np.zeros(bands) if offsets is None else offsets
    if not gains.all():
        raise header.fault("has a 0 in 'data gain values'")
    if np.all(gains == 1) and not offsets.any():
        return scene
    if scene.scale_factor is not None:
        warnings.warn(
            f"{header.path} has gains or offsets of bands and a 'reflectance scale factor': the "
            "former are applied, the latter is not used",
            stacklevel=2,
        )
    return calibrated(scene, gains, offsets, scale_factor=None)


def _byte_order(header: EnviHeader, code: int) -> Literal["<", ">"]:
    if "byte order" not in header.fields and code != 1:
        warnings.warn(f"{header.path} has no 'byte order'; 0 is assumed", stacklevel=2)
    order = header.count("byte order", default=0)
    if order not in {0, 1}:
        raise header.fault(f"has the unknown byte order {order}", "use 0 or 1")
    return ">" if order else "<"


def _header_of(raster: Path) -> Path | None:
    """Find the header of a raster: ``x.img.hdr`` before ``x.hdr``.

    The latter describes a raster of any suffix unless one of the usual suffixes is there.
    """
    beside = _files_beside(raster)
    headers = {file.stem: file for file in beside if file.suffix.lower() == ".hdr"}
    if raster.name in headers:
        return headers[raster.name]
    described = [
        file.name
        for file in beside
        if file.stem == raster.stem and _has_usual_suffix(file) and file.name not in headers
    ]
    odd = raster.suffix.lower() in _NO_RASTERS or (described and not _has_usual_suffix(raster))
    return None if odd else headers.get(raster.stem)


def _rasters_of(header: Path) -> list[Path]:
    """Find the rasters that a header describes: one, where the folder is in order."""
    base = header.stem
    return [
        file
        for file in _files_beside(header)
        if base in {file.name, file.stem}
        and (found := _header_of(file)) is not None
        and found.name == header.name
    ]


def _has_usual_suffix(path: Path) -> bool:
    return path.suffix.lower() in _RASTER_SUFFIXES


def _files_beside(path: Path) -> list[Path]:
    """Files in its folder whose names begin as its own does, sorted."""
    names = sorted(name for name in os.listdir(path.parent) if name.startswith(path.stem))
    return [path.parent / name for name in names if (path.parent / name).is_file()]


def _lookup(header: EnviHeader) -> tuple[tuple[int, int, int], ...]:
    """Colours of classes 0, 1, ... of a classified map."""
    n_values = len(header.words("class lookup"))
    values = header.numbers("class lookup", 3 * (n_values // 3))
    if values is None:
        return ()
    channels: npt.NDArray[np.int64] = np.clip(values, 0, 255).astype(np.int64)
    return tuple((int(r), int(g), int(b)) for r, g, b in channels.reshape(-1, 3))


def _class_values(header: EnviHeader, count: int) -> list[int]:
    """Codes of the classes that a header lists: 0, 1, ..., or as its own field tells."""
    values = header.numbers("class values", count)
    return list(range(count)) if values is None else [int(value) for value in values]


def _class_names(header: EnviHeader) -> dict[int, str]:
    """Names of the classes by code; blank ones and that of 0, unclassified, left out."""
    names = header.words("class names")
    named = zip(_class_values(header, len(names)), names, strict=True)
    return {code: name for code, name in named if code > 0 and name not in ("", _UNNAMED)}


def _class_colours(header: EnviHeader) -> dict[int, tuple[int, int, int]]:
    """Colours of the classes by code."""
    colours = _lookup(header)
    values = _class_values(header, len(colours))
    return {code: rgb for code, rgb in zip(values, colours, strict=True) if code > 0}


def _file_type(spec: RasterSpec) -> str:
    """A classification counts its classes from 0 without gaps; other maps are plain rasters."""
    listed = spec.class_names and max(spec.class_values) <= _LARGEST_LISTED
    return "ENVI Classification" if listed else "ENVI Standard"


def _class_fields(spec: RasterSpec) -> dict[str, str | int | float | tuple[object, ...]]:
    """Fields that name the classes: by their place in the list, or where codes are large by value.

    The field ``class values`` is hsifcn's own; other programs pass over it.
    """
    shown = zip(spec.class_names, spec.class_colours, strict=True)
    by_code = dict(zip(spec.class_values, shown, strict=True))
    listed = [0, *by_code] if max(by_code) > _LARGEST_LISTED else range(max(by_code) + 1)
    classes = {code: by_code.get(code, (_UNNAMED, (0, 0, 0))) for code in listed}
    classes[0] = ("Unclassified", (0, 0, 0))
    fields: dict[str, str | int | float | tuple[object, ...]] = {
        "classes": len(classes),
        "class names": tuple(name for name, _ in classes.values()),
        "class lookup": tuple(v for _, colour in classes.values() for v in colour),
    }
    return fields if listed == range(len(classes)) else fields | {"class values": tuple(listed)}


def _fields(spec: RasterSpec) -> dict[str, str | int | float | tuple[object, ...]]:
    """Fields of the header of a new raster."""
    fields: dict[str, str | int | float | tuple[object, ...]] = {
        "samples": spec.shape[1],
        "lines": spec.shape[0],
        "bands": spec.bands,
        "header offset": 0,
        "file type": _file_type(spec),
        "data type": _TYPE_CODES[spec.dtype],
        "interleave": "bip",
        "byte order": int(sys.byteorder == "big"),
    }
    if spec.class_names:
        fields |= _class_fields(spec)
    if spec.nodata is not None:
        fields["data ignore value"] = f"{spec.nodata:.17g}"
    if spec.band_names:
        fields["band names"] = spec.band_names
    if spec.wavelengths:
        fields["wavelength units"] = "Nanometers"
        fields["wavelength"] = spec.wavelengths
    fields.update(map_fields(spec.grid))
    return fields
