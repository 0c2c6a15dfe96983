"""Scenes and labels that are arrays in memory: NumPy's, and xarray's with their coordinates.

xarray is not imported: its arrays tell their dimensions, coordinates and attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import UnreadableFileError
from hsifcn.core.scene import Grid, LabelMap, Window
from hsifcn.io.crs import known_wkt
from hsifcn.io.formats import FileScene, GivenLabels
from hsifcn.io.labels import label_map
from hsifcn.io.wavelengths import to_nanometres

NAME = "array"  # of a scene that has no file
_BANDS = ("band", "bands", "wavelength", "wavelengths", "lambda", "spectral")
_ROWS = ("y", "rows", "row", "lat", "latitude", "northing", "line")
_COLS = ("x", "cols", "col", "lon", "longitude", "easting", "sample")
_EVEN = 1e-3  # of a step of coordinates, that it may differ from the mean step


@dataclass(frozen=True, eq=False)
class ArrayVoxels:
    """Reads windows of an array, (rows, cols, bands); a pickle holds all of it."""

    array: npt.NDArray[Any]

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read all bands of a window: (rows, cols, bands), a copy in C order."""
        return np.array(self.array[window.slices], order="C")


def is_array(value: object) -> TypeGuard[Any]:
    """Whether something is an array of NumPy or xarray, not a path and not a scene."""
    return isinstance(value, np.ndarray) or (hasattr(value, "dims") and hasattr(value, "coords"))


def array_scene(array: Any) -> FileScene:
    """A scene of an array.

    Parameters
    ----------
    array : ndarray (rows, cols, bands), or DataArray with dimensions of any order
        A DataArray's dimensions are told by their names (``band`` or ``wavelength``, ``y``, ``x``
        and others), else rows, columns, bands are taken. Its coordinates give wavelengths and
        place, its attributes ``_FillValue`` or ``nodata`` the value of no measurement.

    Raises
    ------
    UnreadableFileError
        It has not three axes, or does not hold numbers.
    """
    values = array
    if not isinstance(array, np.ndarray):
        array = array.transpose(*axes_in_order(array))
        values = np.asarray(array.values)
    if values.ndim != 3 or 0 in values.shape or values.dtype.kind not in "uif":
        raise UnreadableFileError(
            f"an array of shape {values.shape} and type {values.dtype} is no cube",
            "give numbers of rows, columns, bands",
        )
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    rows, cols, bands = values.shape
    shape = rows, cols, bands
    scene = FileScene(NAME, shape, values.dtype, "bip", ArrayVoxels(values), np.ones(bands, bool))
    return scene if isinstance(array, np.ndarray) else _with_coordinates(scene, array)


def axes_in_order(array: Any) -> list[str]:
    """Dimensions of a DataArray: rows, columns, bands."""
    dims = [str(dim) for dim in array.dims]
    if len(dims) != 3:
        raise UnreadableFileError(
            f"a DataArray with dimensions {', '.join(dims)} is no cube", "choose three of them"
        )
    band = [dim for dim in dims if dim.lower() in _BANDS]
    rows = [dim for dim in dims if dim.lower() in _ROWS]
    cols = [dim for dim in dims if dim.lower() in _COLS]
    named = [*rows[:1], *cols[:1], *band[:1]]
    if len(named) == 3:
        return named
    if len(band) == 1:
        return [*(dim for dim in dims if dim != band[0]), band[0]]
    return dims


def _with_coordinates(scene: FileScene, array: Any) -> FileScene:
    """The scene with what the coordinates and attributes of a DataArray tell; axes in order."""
    rows, cols, bands = (str(dim) for dim in array.dims)
    wavelengths = None
    for name in (bands, "wavelength", "wavelengths"):
        found = array.coords.get(name)
        is_band_number = name == bands and name.lower() in ("band", "bands")
        if found is None or found.dims != (bands,) or is_band_number:
            continue
        if np.issubdtype(found.dtype, np.number):
            units = str(found.attrs.get("units", ""))
            wavelengths = to_nanometres(found.values.astype(np.float64), units)
            break
    good = array.coords["good_bands"].values.astype(bool) if "good_bands" in array.coords else None
    told = [array.attrs.get(name) for name in ("_FillValue", "nodata")]
    nodata = next((float(value) for value in told if value is not None), None)
    return replace(
        scene,
        wavelengths=wavelengths,
        nodata=nodata,
        good_bands=scene.good_bands if good is None else good,
        grid=_grid(array, rows, cols),
        scale_factor=array.attrs.get("scale_factor_of_reflectance"),
    )


def _grid(array: Any, rows: str, cols: str) -> Grid | None:
    """The place of a DataArray whose coordinates are centres of evenly spaced pixels."""
    if rows not in array.coords or cols not in array.coords:
        return None
    steps = []
    for dim in (cols, rows):
        centres = array.coords[dim].values
        if len(centres) < 2 or not np.issubdtype(centres.dtype, np.number):
            return None
        step = (centres[-1] - centres[0]) / (len(centres) - 1)
        if not step or (abs(np.diff(centres) - step) > _EVEN * abs(step)).any():
            return None
        steps.append((float(step), float(centres[0] - step / 2)))
    (width, left), (height, top) = steps
    reference = array.coords["spatial_ref"].attrs if "spatial_ref" in array.coords else {}
    crs = reference.get("crs_wkt") or reference.get("spatial_ref")
    return Grid(known_wkt(crs) if crs else None, (width, 0.0, left, 0.0, height, top))


def array_labels(array: Any, class_names: tuple[str, ...] = ()) -> LabelMap:
    """Labels of an array, (rows, cols), 0 and NaN unlabelled."""
    values = array if isinstance(array, np.ndarray) else np.asarray(array.values)
    return label_map(NAME, GivenLabels(values), dict(enumerate(class_names, start=1)), None)
