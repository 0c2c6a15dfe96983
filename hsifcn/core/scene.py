"""The types that carry a scene and its labels through the program.

Rows come before columns everywhere, bands last.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: origin and size, in pixels."""

    row: int
    col: int
    rows: int
    cols: int

    @property
    def row_stop(self) -> int:
        """First row below the window."""
        return self.row + self.rows

    @property
    def col_stop(self) -> int:
        """First column right of the window."""
        return self.col + self.cols

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window as an index into a ``(rows, cols, ...)`` array."""
        return slice(self.row, self.row_stop), slice(self.col, self.col_stop)

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """The same as an index into an array of the pixels of a window that holds this one."""
        return Window(self.row - outer.row, self.col - outer.col, self.rows, self.cols).slices

    def intersection(self, other: Window) -> Window:
        """The pixels that lie in both windows; of no or fewer rows or columns where none do."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        row_stop, col_stop = min(self.row_stop, other.row_stop), min(self.col_stop, other.col_stop)
        return Window(row, col, row_stop - row, col_stop - col)


@dataclass(frozen=True)
class Grid:
    """Where the pixels lie on the Earth.

    Attributes
    ----------
    crs : str or None
        Coordinate reference system as WKT; None where the file does not tell.
    transform : tuple of 6 float
        ``(a, b, c, d, e, f)``: the pixel corner (row, col) lies at ``x = a col + b row + c``,
        ``y = d col + e row + f``, in units of the CRS.
    """

    crs: str | None
    transform: tuple[float, float, float, float, float, float]


class Scene(Protocol):
    """One acquisition, read window by window.

    A scene is lazy (its voxels are read window by window) and can be pickled (it carries
    its path, never its array).
    """

    @property
    def path(self) -> str:
        """The path it was opened from, with ``:variable`` where one was named or found."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns, bands."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels in native byte order."""

    @property
    def interleave(self) -> str:
        """Order on disk: ``bip``, ``bil`` or ``bsq``."""

    @property
    def wavelengths(self) -> npt.NDArray[np.float64] | None:
        """(bands,) centre wavelengths in nm, or None where the file does not tell."""

    @property
    def fwhm(self) -> npt.NDArray[np.float64] | None:
        """(bands,) full widths at half maximum in nm, or None where the file does not tell."""

    @property
    def good_bands(self) -> npt.NDArray[np.bool_]:
        """(bands,) False for bands that the file marks as bad."""

    @property
    def nodata(self) -> float | None:
        """The value of voxels that hold no measurement; NaN is never one, always."""

    @property
    def scale_factor(self) -> float | None:
        """Voxels divided by it are reflectances; reading does not divide. None if unknown."""

    @property
    def grid(self) -> Grid | None:
        """Georeference, or None."""

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read all bands of a window.

        Returns
        -------
        ndarray, (window.rows, window.cols, bands), ``dtype``, C order
            A fresh array in native byte order.

        Raises
        ------
        UnreadableFileError
            The file changed or cannot be read.
        """


@dataclass(frozen=True)
class LabelMap:
    """Ground truth, or a classified map.

    Inside the program classes are always counted 1, 2, ... without gaps. ``codes`` holds the
    values that stand for them in files.

    Attributes
    ----------
    labels : ndarray, (rows, cols), integer
        0 = unlabelled, else the class, counted from 1.
    class_names : tuple of str
        Names of classes 1, 2, ...; unlabelled has none here.
    colours : tuple of (red, green, blue), 0-255
        Colours of classes 1, 2, ...
    grid : Grid or None
        Georeference.
    codes : tuple of int
        Values of classes 1, 2, ... in files; 1, 2, ... where not given.
    features : ndarray, (rows, cols), int32, or None
        Number of the polygon or point that labels a pixel, counted from 1 over the whole vector
        file; 0 where none does. None for labels that are no vectors.
    codes_given : bool
        False where the file names its classes and hsifcn has numbered them.
    """

    labels: npt.NDArray[np.integer[Any]]
    class_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    grid: Grid | None = None
    codes: tuple[int, ...] = ()
    features: npt.NDArray[np.int32] | None = None
    codes_given: bool = True

    def __post_init__(self) -> None:
        if not self.codes:
            object.__setattr__(self, "codes", tuple(range(1, len(self.class_names) + 1)))

    @property
    def n_classes(self) -> int:
        """Number of classes, unlabelled left out."""
        return len(self.class_names)

    def coded(self) -> npt.NDArray[np.integer[Any]]:
        """The labels as files hold them: codes, 0 = unlabelled; (rows, cols), unsigned."""
        coded: npt.NDArray[np.integer[Any]] = codes_table(self.codes)[self.labels]
        return coded


def codes_table(codes: tuple[int, ...]) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Codes of labels 0, 1, 2, ... to index with labels; of the smallest type that holds all."""
    values = (0, *codes)
    return np.array(values, np.min_scalar_type(max(values)))


def labels_of_codes(
    coded: npt.NDArray[np.integer[Any]], codes: tuple[int, ...]
) -> npt.NDArray[np.uint16]:
    """Labels 1, 2, ... of an array of codes; codes that are not among ``codes`` become 0."""
    order = np.argsort(codes)
    ascending = np.array(codes, np.int64)[order]
    place = np.clip(np.searchsorted(ascending, coded), 0, len(codes) - 1)
    return np.where(ascending[place] == coded, order[place] + 1, 0).astype(np.uint16)


WAVELENGTH_TOLERANCE = 0.25  # of the spacing of bands; calibrations drift by less


def shifted_band(
    wanted: npt.NDArray[np.float64] | None, found: npt.NDArray[np.float64] | None
) -> int | None:
    """The band (from 0) whose wavelength is farthest off, None where all agree or are unknown.

    Parameters
    ----------
    wanted, found : ndarray, (bands,), float64, or None
        Wavelengths in nm of two scenes with the same number of bands.
    """
    if wanted is None or found is None:
        return None
    shift = np.abs(wanted - found)
    worst = int(shift.argmax())
    return worst if shift[worst] > wavelength_tolerance(wanted) else None


def wavelength_tolerance(wavelengths: npt.NDArray[np.float64]) -> float:
    """How far off a wavelength may be, nm: a quarter of the median spacing of the bands."""
    spacing = np.diff(np.sort(wavelengths))
    return WAVELENGTH_TOLERANCE * (float(np.median(spacing)) if len(spacing) else 1.0)


def class_targets(labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Classes counted from 0 as networks want them; unlabelled becomes -1.

    The only place where labels are shifted down; ``labels_of`` shifts them back.
    """
    return labels.astype(np.int64) - 1


def labels_of(classes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint16]:
    """Labels counted from 1, of classes counted from 0; the inverse of ``class_targets``."""
    return (classes + 1).astype(np.uint16)


def default_class_name(code: int) -> str:
    """``class 311`` for a class without a name whose value in its file is 311."""
    return f"class {code}"


def default_class_names(n_classes: int) -> tuple[str, ...]:
    """``class 1`` to ``class n``, for labels without names."""
    return tuple(default_class_name(code) for code in range(1, n_classes + 1))


# The colours of Okabe and Ito (2008, jfly.uni-koeln.de/color) but for black, and 17 more: each the
# one farthest from those before, in CIELAB, as normal, protanopic and deuteranopic eyes see it
# (Machado et al. 2009, doi:10.1109/TVCG.2009.113). The first 16 are 17 apart, all 24 are 13 apart.
PALETTE = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167), (0, 0, 255), (109, 109, 255), (255, 218, 182), (0, 255, 255), (145, 218, 109),
    (0, 72, 0), (218, 36, 72), (109, 36, 109), (72, 0, 182), (218, 0, 182), (0, 109, 109),
    (72, 36, 145), (109, 145, 255), (182, 145, 72), (255, 109, 145), (0, 72, 255), (255, 109, 218),
)  # fmt: skip


def default_colours(n_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Colours that colour-blind readers tell apart; beyond 24, hues a golden angle apart."""
    colours = list(PALETTE[:n_classes])
    for i in range(len(PALETTE), n_classes):
        rgb = colorsys.hls_to_rgb((i * 0.618034) % 1.0, (0.5, 0.35, 0.68)[i % 3], 0.75)
        red, green, blue = (round(255 * channel) for channel in rgb)
        colours.append((red, green, blue))
    return tuple(colours)
