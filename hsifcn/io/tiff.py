"""GeoTIFF: scenes and label rasters, read with rasterio; ``tiff_writer`` writes them.

Rasterio is told to use its GeoTIFF driver and no other, so that a file called ``.tif`` cannot be a
virtual raster that reads other files. GDAL is loaded when the first GeoTIFF is opened, not before.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import LabelError, Notice, UnreadableFileError
from hsifcn.core.scene import Grid, Window
from hsifcn.io.affine import unpacked
from hsifcn.io.cache import UnpackedArray, state_of
from hsifcn.io.child import run_child
from hsifcn.io.classes import unlabel
from hsifcn.io.files import utf8_path
from hsifcn.io.formats import (
    FileScene,
    Format,
    GivenLabels,
    UnreadLabels,
    refuse_lying_size,
    refuse_variable,
)
from hsifcn.io.nodata import declare_nodata
from hsifcn.io.product_xml import read_product
from hsifcn.io.tiff_classes import read_classes
from hsifcn.io.tiff_tags import read_spectrum
from hsifcn.io.tiff_writer import create

_BUFFER_BYTES = 32 * 2**20  # what a read holds besides its result and GDAL's blocks
_LEAST_CACHE = 64 * 2**20  # bytes for GDAL's blocks; each is unpacked once in a read
_MOST_CACHE = 2**30
_OFF_GRID = 0.5  # of a pixel, that ground control points may be off an even grid
_MOST_BANDS = 5000  # GDAL takes a time that grows with their square
_LARGEST_BLOCK = 2**30  # bytes of a block, which is unpacked whole
_LARGEST_LABEL_BLOCK = 2**28
_BESIDE = (".aux.xml", ".msk", ".ovr")  # files that belong to a GeoTIFF, behind its name
_BLOCKS_CHECKED = 20_000  # of a band, when a file is checked to be whole


@dataclass(frozen=True)
class TiffArray:
    """The voxels of a GeoTIFF.

    Attributes
    ----------
    path : str
        The file, absolute.
    shape : tuple of int
        Rows, columns, bands.
    dtype : dtype
        Native type of the voxels that are given.
    stored : dtype
        Native type of those in the file.
    bands : tuple of int
        Numbers of the bands in the file, from 1; an alpha band is none of them.
    nodata : float or None
        What masked pixels become: NaN in floats. None where there is no mask.
    block_rows : int
        Rows of a block on disk, which are unpacked together.
    block_bytes : int
        Unpacked to read one pixel.
    cache : int
        Bytes that GDAL may keep of unpacked blocks while it reads a window.
    """

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    stored: np.dtype[Any]
    bands: tuple[int, ...]
    nodata: float | None
    block_rows: int
    block_bytes: int
    cache: int

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read all bands of a window, as ``RawArray.read`` does."""
        rows, cols, bands = self.shape
        inside = window.row_stop <= rows and window.col_stop <= cols
        if not inside or min(window.row, window.col, window.rows, window.cols) < 0:
            raise ValueError(f"{window} reaches out of an array of {self.shape}")
        result = np.empty((window.rows, window.cols, bands), self.dtype)
        with _dataset(self.path, self.cache) as dataset:
            size = (dataset.height, dataset.width)
            found = _dtype(dataset, self.path)
            if size != (rows, cols) or dataset.count < max(self.bands) or found != self.stored:
                raise UnreadableFileError(f"{self.path} changed since it was opened", "run again")
            for part in self._parts(window):
                place = ((part.row, part.row_stop), (part.col, part.col_stop))
                target = result[part.row - window.row :][: part.rows]
                target[:] = dataset.read(list(self.bands), window=place).transpose(1, 2, 0)
                if self.nodata is not None:
                    masks = dataset.read_masks(list(self.bands), window=place)
                    target[(masks == 0).any(axis=0)] = self.nodata
        return result

    def _parts(self, window: Window) -> Iterator[Window]:
        """Cut a window into rows that fit into the buffer, where that can be at edges of blocks."""
        line = window.cols * self.shape[2] * self.dtype.itemsize
        step = max(1, _BUFFER_BYTES // max(1, line))
        step = max(step - step % self.block_rows, self.block_rows)
        row = window.row
        while row < window.row_stop:
            stop = min(row - row % self.block_rows + step, window.row_stop)
            yield Window(row, window.col, stop - row, window.cols)
            row = stop


def open_scene(path: str, variable: str | None) -> FileScene:
    """Open all bands of a GeoTIFF as a scene.

    A child opens it first, and reads a block. What crashes GDAL, or has no end, does so there.
    """
    refuse_variable(path, variable)
    run_child("tiff", "scene", state_of(path), name=path)
    return open_checked_scene(path)


def open_checked_scene(path: str) -> FileScene:
    """Open a GeoTIFF in this process."""
    with _dataset(path) as dataset:
        voxels = _voxels(dataset, path)
        spectrum = read_spectrum(dataset, voxels.bands, path)
        product = read_product(path, len(voxels.bands))
        scene = FileScene(
            path=path,
            shape=voxels.shape,
            dtype=voxels.dtype,
            interleave="bip" if _is_pixel_interleaved(dataset) else "bsq",
            voxels=voxels,
            good_bands=spectrum.good_bands,
            wavelengths=spectrum.wavelengths,
            nodata=_nodata(dataset),
            grid=_grid(dataset, path),
            fwhm=spectrum.fwhm,
        )
        chosen = np.array(voxels.bands) - 1
        gains, offsets = np.array(dataset.scales)[chosen], np.array(dataset.offsets)[chosen]
        units = dataset.units[0] or ""
        values = {value for value in dataset.nodatavals if value is not None}
    scene = declare_nodata(scene, None, fills=tuple(filter(np.isfinite, values)))
    if product is None:
        return unpacked(scene, gains, offsets, units)
    scene = dataclasses.replace(scene, wavelengths=product.wavelengths, fwhm=product.fwhm)
    if product.nodata is not None:
        scene = declare_nodata(scene, product.nodata)
    return unpacked(scene, product.gains, product.offsets, product.units)


def open_map(path: str) -> tuple[TiffArray, Grid | None]:
    """The voxels of a raster of ours, to be read in windows, and where it lies."""
    with _dataset(path) as dataset:
        return _voxels(dataset, path), _grid(dataset, path)


def read_labels(path: str, variable: str | None) -> GivenLabels:
    """Read a GeoTIFF of one band as labels, with its colour table and category names.

    A child parses it; the pixels are unpacked when they are known to be needed.
    """
    refuse_variable(path, variable)
    found = run_child("tiff", "labels", state_of(path), name=path)
    rows, cols = found["shape"]
    beside = [asdict(state_of(path + end)) for end in _BESIDE if os.path.isfile(path + end)]

    def read(window: Window) -> npt.NDArray[Any]:
        array = UnpackedArray(
            file=state_of(path),
            name="labels",
            content=json.dumps([asdict(window), beside]),
            shape=(window.rows, window.cols, 1),
            dtype=np.dtype(found["dtype"]),
            unpack=_unpack_labels,
        )
        return array.read_map()

    names, colours = read_classes(path)
    palette = {int(code): tuple(rgb) for code, rgb in found["palette"].items()}
    grid = None if found["grid"] is None else Grid(found["grid"][0], tuple(found["grid"][1]))
    return GivenLabels(UnreadLabels((rows, cols), read), names, colours or palette, grid)


def _unpack_labels(array: UnpackedArray, target: Path) -> None:
    run_child("tiff", "extract", array.file, array.content, str(target))


def describe_labels(path: str) -> dict[str, Any]:
    """Size, type, place and colours of a label raster, as JSON can hold them."""
    with _dataset(path) as dataset:
        voxels = _voxels(dataset, path)
        rows, cols, bands = voxels.shape
        if bands != 1:
            raise LabelError(f"{path} has {bands} bands", "a label map has one")
        if voxels.block_bytes > _LARGEST_LABEL_BLOCK:
            raise _too_large_blocks(path, voxels.block_bytes)
        grid = _grid(dataset, path)
        try:
            palette = dataset.colormap(1)
        except ValueError:  # it has none
            palette = {}
    return {
        "shape": (rows, cols),
        "dtype": voxels.dtype.name,
        "grid": grid and (grid.crs, grid.transform),
        "palette": {code: rgba[:3] for code, rgba in palette.items() if code > 0 and any(rgba[:3])},
    }


def read_label_window(path: str, window: Window) -> npt.NDArray[Any]:
    """Read labels in this process, (rows, cols); no-data becomes 0."""
    with _dataset(path) as dataset:
        voxels, nodata = _voxels(dataset, path), _nodata(dataset)
    labels: npt.NDArray[Any] = voxels.read(window)[:, :, 0]
    if nodata is not None:
        unlabel(labels, nodata)
    return labels


FORMAT = Format(
    name="GeoTIFF",
    suffixes=(".tif", ".tiff"),
    label_suffixes=(".tif", ".tiff"),
    write_suffixes=(".tif", ".tiff"),
    open_scene=open_scene,
    read_labels=read_labels,
    create=create,
)


@contextmanager
def _dataset(path: str, cache: int = _LEAST_CACHE) -> Iterator[Any]:
    """Open a file with GDAL's GeoTIFF driver; what GDAL finds wrong names the file."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    absolute = os.path.abspath(path)
    if absolute.startswith("/vsi"):  # a name that GDAL takes for one of its virtual file systems
        raise UnreadableFileError(f"{path} lies where GDAL looks for no file", "move it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with (
                utf8_path(absolute, _BESIDE) as readable,
                rasterio.Env(GDAL_CACHEMAX=cache),
                rasterio.open(readable, driver="GTiff") as dataset,
            ):
                yield dataset
    except RasterioError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split())[:160]
        raise UnreadableFileError(
            f"{path} cannot be read as GeoTIFF ({reason})", "copy it again"
        ) from error


def _voxels(dataset: Any, path: str) -> TiffArray:
    """Describe the voxels, and check that the file holds all of them."""
    from rasterio.enums import ColorInterp, MaskFlags

    stored = _dtype(dataset, path)
    if dataset.count > _MOST_BANDS:
        raise UnreadableFileError(f"{path} has {dataset.count} bands, more than {_MOST_BANDS}")
    bands = [
        band
        for band, meaning in enumerate(dataset.colorinterp, start=1)
        if meaning != ColorInterp.alpha or dataset.count == 1
    ]
    alpha = sorted({*range(1, dataset.count + 1)} - {*bands})
    if alpha:
        warnings.warn(
            f"band {alpha[-1]} of {path} is alpha by its header: it masks and is not read; if it "
            f"was measured, 'gdal_edit -colorinterp_{alpha[-1]} undefined' tells so",
            Notice,
            stacklevel=2,
        )
    of_bands = dataset.mask_flag_enums  # asked once: every time it is worked out for all bands
    flags = [of_bands[band - 1] for band in bands]
    masked = not all(flags) or not set().union(*flags) <= {MaskFlags.all_valid, MaskFlags.nodata}
    dtype, nodata = stored, None
    if masked:
        nodata = _nodata(dataset)
        if stored.kind == "f" or nodata is None:
            # Any integer may be a measurement; floats twice as wide hold all of them.
            dtype = stored if stored.kind == "f" else np.promote_types(stored, np.float32)
            nodata = np.nan
    shape = (dataset.height, dataset.width, len(bands))
    refuse_lying_size(path, int(np.prod(shape, dtype=object)) * stored.itemsize)
    _require_all_blocks(dataset, path)
    block_rows, block_cols = dataset.block_shapes[0]
    blocks_across = -(-shape[1] // block_cols)
    unpacked_bands = dataset.count if _is_pixel_interleaved(dataset) else 1
    block_bytes = _rows_unpacked(dataset) * block_cols * unpacked_bands * stored.itemsize
    if block_bytes > _LARGEST_BLOCK:
        raise _too_large_blocks(path, block_bytes)
    needed = 2 * block_rows * block_cols * blocks_across * unpacked_bands * stored.itemsize
    cache = min(max(needed, _LEAST_CACHE), _MOST_CACHE)
    return TiffArray(
        path=os.path.abspath(path),
        shape=shape,
        dtype=dtype,
        stored=stored,
        bands=tuple(bands),
        nodata=nodata,
        block_rows=block_rows,
        block_bytes=block_bytes,
        cache=cache,
    )


def _rows_unpacked(dataset: Any) -> int:
    """Rows that are unpacked to read one: GDAL shows a single compressed strip as many of a row."""
    rows = int(dataset.block_shapes[0][0])
    offsets = [
        dataset.get_tag_item(f"BLOCK_OFFSET_0_{row}", "TIFF", bidx=1)
        for row in (0, 1, dataset.height - 1)
    ]
    is_one_strip = dataset.compression is not None and rows == 1 and offsets[1:] == [None, None]
    return int(dataset.height) if is_one_strip and offsets[0] else rows


def _too_large_blocks(path: str, nbytes: int) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path} is stored in blocks of {nbytes / 1e9:.1f} GB",
        "write it in tiles: gdal_translate -co TILED=YES",
    )


def _dtype(dataset: Any, path: str) -> np.dtype[Any]:
    """Type of the voxels; UnreadableFileError where they are no real numbers."""
    name = str(dataset.dtypes[0])
    if name.startswith("complex") or np.dtype(name).kind not in "iuf":
        raise UnreadableFileError(
            f"{path} holds {name}, not integers or floats", "save real numbers"
        )
    return np.dtype(name)


def _require_all_blocks(dataset: Any, path: str) -> None:
    """Raise where a block of the first or last band ends behind the end of the file."""
    size = os.path.getsize(path)
    block_rows, block_cols = dataset.block_shapes[0]
    down, across = -(-dataset.height // block_rows), -(-dataset.width // block_cols)
    # The last row of blocks is among those looked at however many there are.
    step = max(1, down * across // _BLOCKS_CHECKED)
    across_step = max(1, across // _BLOCKS_CHECKED)
    for band in {1, dataset.count}:
        for row in range(down - 1, -1, -step):
            for col in range(across - 1, -1, -across_step):
                end = 0
                for item in ("OFFSET", "SIZE"):
                    name = f"BLOCK_{item}_{col}_{row}"
                    end += int(dataset.get_tag_item(name, "TIFF", bidx=band) or 0)
                if end > size:
                    raise UnreadableFileError(
                        f"{path} is truncated: {size} bytes where it tells of {end}",
                        "copy it again",
                    )


def _is_pixel_interleaved(dataset: Any) -> bool:
    structure = dataset.tags(ns="IMAGE_STRUCTURE")
    return bool(dataset.count == 1 or structure.get("INTERLEAVE") == "PIXEL")


def _nodata(dataset: Any) -> float | None:
    value = dataset.nodata
    return None if value is None or np.isnan(value) else float(value)


def _grid(dataset: Any, path: str) -> Grid | None:
    """Where the pixels lie, by the file's transform or by its ground control points.

    Warns
    -----
    UserWarning
        The points lie on no even grid, or there are only coefficients of a sensor model.
    """
    crs = dataset.crs.to_wkt() if dataset.crs else None
    transform = tuple(dataset.transform)[:6]
    if crs is not None or transform != (1, 0, 0, 0, 1, 0):
        return Grid(crs, transform)
    points, points_crs = dataset.gcps
    if not points:
        if dataset.rpcs is not None:
            _warn_of_no_grid(path, "rational polynomial coefficients (RPC) only")
        return None
    pixels = np.array([(point.col, point.row, 1.0) for point in points])
    places = np.array([(point.x, point.y) for point in points])
    solution, _, rank, _ = np.linalg.lstsq(pixels, places, rcond=None)
    (a, d), (b, e), (c, f) = solution.tolist()
    pixel = math.sqrt(abs(a * e - b * d))
    off = np.abs(pixels @ solution - places).max()
    if rank < 3 or not pixel > 0 or off > _OFF_GRID * pixel:
        _warn_of_no_grid(path, f"{len(points)} ground control points that lie on no even grid")
        return None
    return Grid(points_crs.to_wkt() if points_crs else None, (a, b, c, d, e, f))


def _warn_of_no_grid(path: str, has: str) -> None:
    warnings.warn(
        f"{path} has {has}: no georeference; gdalwarp gives it one",
        stacklevel=2,
    )
