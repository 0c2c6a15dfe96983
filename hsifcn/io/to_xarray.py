"""A scene as an array of xarray.

The place is written as CF and rioxarray do, in a coordinate ``spatial_ref``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import Scene, Window


def to_xarray(scene: Scene) -> Any:
    """A scene as an ``xarray.DataArray`` (y, x, band), in memory.

    Coordinates are ``wavelength`` (nm) and ``good_bands``, and of scenes with a place ``x``, ``y``
    and ``spatial_ref``, which rioxarray reads. A scene that is turned has no ``x`` and ``y``.

    Raises
    ------
    SettingError
        The package xarray is missing.
    """
    try:
        import xarray
    except ImportError as error:
        raise SettingError(
            "the package xarray is missing", "pip install 'hsifcn[xarray]'"
        ) from error
    rows, cols, bands = scene.shape
    coords: dict[str, Any] = {
        "band": np.arange(1, bands + 1),
        "good_bands": ("band", scene.good_bands),
    }
    if scene.wavelengths is not None:
        coords["wavelength"] = ("band", scene.wavelengths, {"units": "nm"})
    if scene.grid is not None:
        a, b, c, d, e, f = scene.grid.transform
        if not b and not d:
            coords["x"] = c + a * (np.arange(cols) + 0.5)
            coords["y"] = f + e * (np.arange(rows) + 0.5)
        transform = " ".join(map(str, (c, a, b, f, d, e)))
        reference = {"GeoTransform": transform}
        if scene.grid.crs:
            reference["crs_wkt"] = scene.grid.crs
        coords["spatial_ref"] = ((), 0, reference)
    attributes: dict[str, Any] = {}
    if scene.nodata is not None:
        attributes["_FillValue"] = scene.nodata
    if scene.scale_factor is not None:
        attributes["scale_factor_of_reflectance"] = scene.scale_factor
    return xarray.DataArray(
        scene.read(Window(0, 0, rows, cols)), coords, ("y", "x", "band"), "scene", attributes
    )
