"""One raster of all maps of a campaign; where maps overlap, the surest counts.

It is a GeoTIFF with overviews (COG), or a virtual raster over the maps (VRT). A virtual raster can
only put one map upon another, so the pixels that several maps cover are decided and written into a
GeoTIFF of their own, which lies on top.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core import formats
from hsifcn.core.errors import FailedError, SettingError
from hsifcn.core.scene import Window, codes_table, labels_of_codes
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.campaign.manifest import digest_of
from hsifcn.inference.campaign.mosaic_layout import Layout, PlacedMap, lay_out, open_map
from hsifcn.inference.map_writer import confidence_path, dissimilarity_path
from hsifcn.inference.predict_run import read_record
from hsifcn.inference.targets import raster_files, written_files
from hsifcn.io import RasterWriter, create_raster
from hsifcn.io.alignment import moved_grid
from hsifcn.io.crs import pixel_area
from hsifcn.io.files import (
    make_folder,
    printable,
    refuse_existing,
    restored_on_failure,
    write_json,
)
from hsifcn.io.vrt_writer import write_vrt
from hsifcn.io.writer import RasterSpec

NAME = "mosaic.tif"
SUFFIXES = (".tif", ".tiff", ".vrt")
PLACED = (".img", ".tif")  # default suffixes of maps that hold a georeference
_BLOCK = 1024  # rows and columns that are merged at once
_LARGEST = 2**31 - 1  # rows or columns that GDAL takes

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Mosaic:
    """A mosaic that is asked for.

    Attributes
    ----------
    path : Path
    campaign : str
        Of ``digest_of``: model and options of the maps. What the same campaign made before may be
        replaced.
    overwrite : bool
        So may be anything else.
    """

    path: Path
    campaign: str
    overwrite: bool = False

    @property
    def record(self) -> Path:
        """What is known of the mosaic, beside it."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def is_virtual(self) -> bool:
        """Whether it is a virtual raster."""
        return self.path.suffix.lower() == ".vrt"

    @property
    def overlaps(self) -> Path:
        """Beside a virtual raster: the pixels that several maps cover."""
        return self.path.with_name(f"{self.path.stem}_overlaps_map.tif")

    @property
    def rasters(self) -> tuple[Path, ...]:
        """The files that may be written, but for record and style."""
        return (self.path, self.overlaps) if self.is_virtual else (self.path,)

    def outputs(self) -> list[Path]:
        """All files that may be written."""
        return [self.record, *(file for one in self.rasters for file in written_files(one))]

    def earlier(self) -> dict[str, Any]:
        """The record of what the same campaign made here before; empty where it is not there."""
        record = read_record(self.record)
        request = record.get("request")
        if not isinstance(request, dict) or request.get("campaign") != self.campaign:
            return {}
        untouched = record["files"] == sizes(self.rasters) or not self.path.exists()
        return record if untouched or record.get("unfinished") else {}

    def require_free(self) -> None:
        """Raise where something else is there that may not be replaced, or a name cannot be."""
        if self.path.suffix.lower() not in SUFFIXES:
            raise SettingError(
                f"--mosaic {self.path} is no .tif or .vrt file",
                "put --mosaic last, or name such a file",
            )
        if printable(str(self.path.absolute())) != str(self.path.absolute()):
            raise SettingError(f"{self.path} is not UTF-8, which GDAL wants", "name another file")
        allowed = self.overwrite or bool(self.earlier())
        for path in (*self.rasters, self.record):
            refuse_existing(path, allowed)

    def require_apart(self, maps: Sequence[Path]) -> None:
        """Raise SettingError where it would replace a map, which all lie in one folder."""
        names = {
            name
            for path in maps
            for name in (path.name, confidence_path(path).name, dissimilarity_path(path).name)
        }
        names |= {f"{name}.json" for name in names}
        for path in (*self.rasters, self.record):
            if path.name in names and path.parent.resolve() == maps[0].parent.resolve():
                raise SettingError(f"{path} would replace one of the maps", "choose another name")


def is_mosaic(path: Path) -> bool:
    """Whether a mosaic of ours lies at a path, by the record beside it."""
    request = read_record(path.with_name(f"{path.name}.json")).get("request")
    return isinstance(request, dict) and "campaign" in request


def make_mosaic(
    wanted: Mosaic, maps: Sequence[Path], bundle: Bundle, *, confident: bool, tell: Tell
) -> dict[str, Any]:
    """Write the mosaic of maps, or find that very one there.

    Where several maps classify a pixel, it has the class of the one with the highest confidence; of
    equal ones, that whose name comes first.

    Parameters
    ----------
    wanted : Mosaic
    maps : sequence of Path
        Of one model.
    bundle : Bundle
        It names the classes.
    confident : bool
        Whether each map has its confidence beside it.
    tell : callable
        Given a line for what is worth knowing.

    Returns
    -------
    dict
        ``path, overlaps`` (path or None), ``maps`` (how many), ``left_out`` (map, cause),
        ``shape``, ``moved`` (pixels, at most), ``counts`` (pixels that are covered but not
        classified, then those of each class), ``hectares`` (of ``counts``; None without a CRS in
        metres), ``unchanged``.

    Raises
    ------
    ExistingOutputError
        Something else is there.
    FailedError
        No map has a place; the disk is too small; maps overlap without confidence.
    """
    wanted.require_free()
    wanted.require_apart(maps)
    maps = sorted(maps, key=lambda path: path.name)
    request = {"campaign": wanted.campaign, "maps": digest_of_maps(maps, confident=confident)}
    earlier = wanted.earlier()
    finished = earlier and not earlier.get("unfinished") and wanted.path.exists()
    if finished and not wanted.overwrite and earlier["request"] == request:
        return {**earlier, "unchanged": True}
    layout = lay_out(maps)
    rows, cols = layout.shape
    tell(f"mosaic: maps: {len(layout.maps)}, size: {rows:,} x {cols:,} pixels")
    make_folder(wanted.path.parent)
    with restored_on_failure(wanted.outputs()):
        write_json(wanted.record, {"request": request, "files": {}, "unfinished": True})
        merger = Merger(layout, bundle, confident=confident)
        write = write_virtual if wanted.is_virtual else write_whole
        counts = write(wanted, merger, bundle)
        result = result_of(wanted, layout, counts) | {"request": request}
        write_json(wanted.record, result)
    return result


def digest_of_maps(maps: Sequence[Path], *, confident: bool) -> str:
    """A digest of names, sizes and times of the files that a mosaic is made of."""
    rasters = [*maps, *(confidence_path(path) for path in maps if confident)]
    states = []
    for path in rasters:
        if not path.is_file():
            raise FailedError(f"{path} is missing", "give the command of the maps again")
        for file in raster_files(path):
            state = file.stat()
            states.append([str(file.absolute()), state.st_size, state.st_mtime_ns])
    return digest_of({"files": states})


def sizes(paths: Sequence[Path]) -> dict[str, int]:
    """Bytes of those files that are there, by name."""
    return {path.name: path.stat().st_size for path in paths if path.is_file()}


def result_of(wanted: Mosaic, layout: Layout, counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    """What ``make_mosaic`` gives for a mosaic that was just written."""
    square_metres = pixel_area(layout.grid)
    overlaps = wanted.overlaps if wanted.is_virtual and wanted.overlaps.exists() else None
    return {
        "path": str(wanted.path),
        "overlaps": overlaps and str(overlaps),
        "maps": len(layout.maps),
        "left_out": [{"map": path.name, "cause": cause} for path, cause in layout.left_out],
        "shape": list(layout.shape),
        "moved": layout.shift,
        "counts": counts.tolist(),
        "hectares": None if square_metres is None else (counts * square_metres / 1e4).tolist(),
        "files": sizes(wanted.rasters),
        "unchanged": False,
    }


def write_whole(wanted: Mosaic, merger: Merger, bundle: Bundle) -> npt.NDArray[np.int64]:
    """Write the mosaic as GeoTIFF; gives its counts."""
    layout = merger.layout
    require_room(wanted.path, layout.shape, merger.dtype)
    with create_raster(
        wanted.path,
        shape=layout.shape,
        dtype=merger.dtype,
        overwrite=True,  # as require_free allowed
        grid=layout.grid,
        nodata=0,
        class_names=bundle.class_names,
        colours=bundle.colours,
        class_codes=bundle.class_codes,
    ) as raster:
        return merger.merge_into(raster, Window(0, 0, *layout.shape))


def write_virtual(wanted: Mosaic, merger: Merger, bundle: Bundle) -> npt.NDArray[np.int64]:
    """Write the mosaic as a virtual raster, and what is decided beside it; gives its counts."""
    layout = merger.layout
    sources = [(one.path, one.place) for one in layout.maps]
    area = merger.shared()
    if area is None:
        counts = merger.merge_into(None, Window(0, 0, 0, 0))
    else:
        require_room(wanted.overlaps, (area.rows, area.cols), merger.dtype)
        with create_raster(
            wanted.overlaps,
            shape=(area.rows, area.cols),
            dtype=merger.dtype,
            overwrite=True,
            grid=moved_grid(layout.grid, area),
            nodata=0,
        ) as raster:
            counts = merger.merge_into(raster, area, shared_only=True)
            wanted.path.unlink(missing_ok=True)  # it knows other overlaps
        sources.append((wanted.overlaps, area))
    spec = RasterSpec(
        path=wanted.path,
        shape=layout.shape,
        dtype=merger.dtype,
        overwrite=True,
        grid=layout.grid,
        nodata=0,
        class_names=bundle.class_names,
        colours=bundle.colours,
        class_codes=bundle.class_codes,
    )
    write_vrt(spec, sources)
    if area is None:
        wanted.overlaps.unlink(missing_ok=True)
    return counts


def require_room(path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
    """Raise FailedError where a raster is larger than GDAL takes, or than the disk."""
    rows, cols = shape
    size = f"{path} has {rows:,} x {cols:,} pixels"
    remedy = "map scenes that lie together by a command of their own"
    if max(shape) > _LARGEST:
        raise FailedError(f"{size}, more than GDAL takes", remedy)
    needed, free = rows * cols * dtype.itemsize, shutil.disk_usage(path.parent).free
    if needed > free:
        raise FailedError(
            f"{size}, which take {formats.size(needed)} while it is written, and "
            f"{formats.size(free)} of disk are free",
            remedy,
        )


class Merger:
    """Merges maps block by block.

    Parameters
    ----------
    layout : Layout
    bundle : Bundle
    confident : bool
        Whether each map has its confidence beside it.

    Attributes
    ----------
    dtype : dtype
        Of the codes of the classes.
    """

    def __init__(self, layout: Layout, bundle: Bundle, *, confident: bool) -> None:
        self.layout = layout
        self.dtype = codes_table(bundle.class_codes).dtype
        self._codes = bundle.class_codes
        self._sure = {
            m.path: open_map(confidence_path(m.path)).voxels for m in layout.maps if confident
        }
        self._places = np.array(
            [(m.place.row, m.place.row_stop, m.place.col, m.place.col_stop) for m in layout.maps]
        )

    def overlapping(self, window: Window) -> list[PlacedMap]:
        """The maps that cover pixels of a window."""
        row, row_stop, col, col_stop = self._places.T
        found = (row < window.row_stop) & (row_stop > window.row)
        found &= (col < window.col_stop) & (col_stop > window.col)
        return [self.layout.maps[i] for i in np.flatnonzero(found)]

    def shared(self) -> Window | None:
        """The rectangle round all pixels that several maps cover; None where there are none."""
        parts = [
            one.place.intersection(other.place)
            for one in self.layout.maps
            for other in self.overlapping(one.place)
            if other is not one
        ]
        if not parts:
            return None
        row, col = min(part.row for part in parts), min(part.col for part in parts)
        row_stop = max(part.row_stop for part in parts)
        col_stop = max(part.col_stop for part in parts)
        return Window(row, col, row_stop - row, col_stop - col)

    def merge_into(
        self, raster: RasterWriter | None, area: Window, *, shared_only: bool = False
    ) -> npt.NDArray[np.int64]:
        """Merge all maps, and write an area of the mosaic.

        Parameters
        ----------
        raster : RasterWriter or None
            Of the size of ``area``.
        area : Window
        shared_only : bool
            Leave pixels 0 that one map alone covers.

        Returns
        -------
        ndarray, (classes + 1,), int64
            Covered pixels without a class, then pixels of each class, of the whole mosaic.
        """
        counts = np.zeros(len(self._codes) + 1, np.int64)
        for block in blocks(self.layout.shape):
            codes, covering = self._merge(block)
            labels = labels_of_codes(codes[covering > 0], self._codes)
            counts += np.bincount(labels, minlength=len(counts))
            part = block.intersection(area)
            if raster is not None and part.rows > 0 and part.cols > 0:
                values = np.where(covering > 1, codes, 0) if shared_only else codes
                place = Window(part.row - area.row, part.col - area.col, part.rows, part.cols)
                raster.write(place, values[part.slices_in(block)])
        return counts

    def _merge(self, block: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint16]]:
        """Codes of a block, and how many maps cover each pixel."""
        codes = np.zeros((block.rows, block.cols), self.dtype)
        best = np.zeros(codes.shape, np.uint8)
        covering = np.zeros(codes.shape, np.uint16)
        maps = self.overlapping(block)
        for one in maps:
            part = one.place.intersection(block)
            at, local = part.slices_in(block), moved(part, one.place)
            found = one.voxels.read(local)[..., 0]
            better, rival = found != 0, codes[at] != 0
            if self._sure and len(maps) > 1:
                percent = self._sure[one.path].read(local)[..., 0]
                better &= ~rival | (percent > best[at])
                best[at] = np.where(better, percent, best[at])
            elif (better & rival).any():
                raise FailedError(
                    f"{one.path} overlaps another map, and no confidence was written to decide",
                    "map the scenes again with --mosaic and --overwrite",
                )
            codes[at] = np.where(better, found, codes[at])
            covering[at] += 1
        return codes, covering


def blocks(shape: tuple[int, int]) -> Iterator[Window]:
    """Cut a raster into blocks."""
    rows, cols = shape
    for row in range(0, rows, _BLOCK):
        for col in range(0, cols, _BLOCK):
            yield Window(row, col, min(_BLOCK, rows - row), min(_BLOCK, cols - col))


def moved(window: Window, outer: Window) -> Window:
    """A window counted from the first pixel of another one."""
    return Window(window.row - outer.row, window.col - outer.col, window.rows, window.cols)
