"""What a file of many arrays holds, and which of them are read as a scene.

HDF5, NetCDF-4 and Zarr are told apart no further than this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import Grid

Numbers = npt.NDArray[np.float64]


MOST_VALUES = 4096  # of a list that is listed; no sensor has so many bands
_FILLS = ("_FillValue", "missing_value", "Data_Ignore_Value", "nodata", "no_data_value")


@dataclass(frozen=True)
class Part:
    """A dataset, or some of its bands.

    Attributes
    ----------
    dataset : str
        Its path in the file.
    axes : tuple of int
        Which of its axes are rows, columns and bands.
    bands : tuple of int or None
        Those taken, in this order; None for all.
    """

    dataset: str
    axes: tuple[int, int, int]
    bands: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Cube:
    """What is read as a scene: parts joined along their bands, and what is known of them.

    Attributes as in ``FileScene``; ``glt`` names the lookup tables of rows and columns that place
    the pixels on ``glt_grid``; ``packing`` is what voxels are multiplied by and then added (CF
    conventions, section 8.1), None where ``scale_factor`` tells, and ``units`` are those of the
    product. ``fills`` are no measurements either, nor are values beyond ``limits``.
    """

    parts: tuple[Part, ...]
    wavelengths: Numbers | None = None
    fwhm: Numbers | None = None
    good_bands: npt.NDArray[np.bool_] | None = None
    nodata: float | None = None
    scale_factor: float | None = None
    packing: tuple[float, float] | None = None
    units: str = ""
    fills: tuple[float, ...] = ()
    limits: tuple[float, float] = (-np.inf, np.inf)
    axes_told: bool = True
    grid: Grid | None = None
    glt: tuple[str, str] | None = None
    glt_grid: Grid | None = None


class Listing:
    """The datasets and attributes of a file, as ``hdf5_child`` lists them."""

    def __init__(self, path: str, answer: dict[str, Any]) -> None:
        self.path = path
        self.datasets: dict[str, dict[str, Any]] = answer["datasets"]
        self.groups: dict[str, dict[str, Any]] = answer["groups"]

    def numbers(self, value: Any) -> Numbers | None:
        """A list of finite numbers, or None."""
        if not isinstance(value, list) or not value:
            return None
        array = np.array(value, np.float64)
        return array if np.isfinite(array).all() else None

    def values(self, dataset: str, count: int) -> Numbers | None:
        """A short dataset of ``count`` numbers, or None."""
        found = self.numbers(self.datasets.get(dataset, {}).get("value"))
        return found if found is not None and len(found) == count else None

    def text(self, dataset: str) -> str:
        """A dataset that is a text, or one number; empty where there is none."""
        return str(self.datasets.get(dataset, {}).get("value", ""))

    def number(self, attributes: dict[str, Any], name: str) -> float | None:
        """An attribute that is one finite number, or None."""
        value = attributes.get(name)
        found = isinstance(value, int | float) and np.isfinite(value)
        return float(value) if found else None  # type: ignore[arg-type]

    def dtype(self, dataset: str) -> np.dtype[Any]:
        """Type of a dataset's numbers.

        ``_Unsigned`` makes integers unsigned that are stored as signed (NetCDF Users Guide,
        "Attribute Conventions").
        """
        dtype = np.dtype(self.datasets[dataset]["dtype"])
        return np.dtype(f"u{dtype.itemsize}") if self._unsigned(dataset) else dtype

    def _unsigned(self, dataset: str) -> bool:
        described = self.datasets[dataset]
        told = str(described["attributes"].get("_Unsigned", "")).casefold() == "true"
        return told and np.dtype(described["dtype"]).kind == "i"

    def _as_read(self, dataset: str, value: float) -> float:
        """A value of an attribute in the type in which voxels are read."""
        wraps = value < 0 and self._unsigned(dataset)
        return value + 2.0 ** (8 * self.dtype(dataset).itemsize) if wraps else value

    def fills(self, dataset: str) -> tuple[float, ...]:
        """What a dataset's attributes declare as no measurement, the value of CF first."""
        attributes = self.datasets[dataset]["attributes"]
        found: list[float] = []
        for name in _FILLS:
            value = attributes.get(name)
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and np.isfinite(number):
                    found.append(self._as_read(dataset, float(number)))
        return tuple(dict.fromkeys(found))

    def limits(self, dataset: str) -> tuple[float, float]:
        """Between which values a dataset's measurements lie (CF conventions, section 2.5.1)."""
        attributes = self.datasets[dataset]["attributes"]
        low, high = self.number(attributes, "valid_min"), self.number(attributes, "valid_max")
        both = self.numbers(attributes.get("valid_range"))
        if both is not None and len(both) == 2:
            low, high = both.tolist()
        low, high = (
            bound if bound is None else self._as_read(dataset, bound) for bound in (low, high)
        )
        return -np.inf if low is None else low, np.inf if high is None else high


def axis_values(values: Numbers) -> dict[str, Any]:
    """What a listing tells of a coordinate.

    Parameters
    ----------
    values : ndarray, (size,), float64

    Returns
    -------
    dict
        ``value``, all of them, if they are no more than a sensor may have bands; ``steps``: the
        first, the mean step, and how far they are off a straight line at most.
    """
    about: dict[str, Any] = {}
    if len(values) <= MOST_VALUES:
        about["value"] = values.tolist()
    if len(values) >= 2:
        line = np.linspace(values[0], values[-1], len(values))
        step = (values[-1] - values[0]) / (len(values) - 1)
        about["steps"] = float(values[0]), float(step), float(np.abs(values - line).max())
    return about
