"""Probability samples of a map: which pixels are to be interpreted.

Every pixel has a known chance to be drawn, so that `evaluate` can tell accuracy and areas of the
whole map from the few pixels (Olofsson et al. 2014, doi:10.1016/j.rse.2014.02.015, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import Grid, LabelMap
from hsifcn.io.point_table import write_points

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

UNCLASSIFIED = "unclassified"
WHOLE = "all"  # the stratum of a simple random sample
# That make a table a sample; of ten letters at most, for shapefiles.
COLUMNS = ("stratum", "stratum_px", "stratum_n", "reference")
DEFAULT_MINIMUM = 10  # points a stratum, where N allows it
LEAST = 2  # points from which a standard error can be told
_EXPECTED_UNCLASSIFIED = 0.5  # accuracy where nothing is known


@dataclass(frozen=True, eq=False)
class Sample:
    """Pixels drawn from a map.

    Attributes
    ----------
    rows, cols : ndarray, (points,), int64
        In random order, so that the first of them are a sample too.
    strata : ndarray, (points,), int64
        Number of the stratum of each point, from 0.
    names : tuple of str
        Of the strata.
    sizes, drawn : ndarray, (strata,), int64
        Pixels and points of each stratum.
    grid : Grid or None
        Georeference.
    """

    rows: Counts
    cols: Counts
    strata: Counts
    names: tuple[str, ...]
    sizes: Counts
    drawn: Counts
    grid: Grid | None

    def write(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the points as ``.gpkg`` or ``.csv``; see ``point_table.write_points``.

        Columns: ``point`` from 1, ``row``, ``col``, ``stratum``, ``stratum_px`` (its pixels),
        ``stratum_n`` (its points), ``inclusion`` (chance of a pixel of it to be drawn), and
        ``reference``, empty, for the true class.
        """
        n = len(self.rows)
        columns = {
            "point": list(range(1, n + 1)),
            "stratum": [self.names[stratum] for stratum in self.strata],
            "stratum_px": self.sizes[self.strata].tolist(),
            "stratum_n": self.drawn[self.strata].tolist(),
            "inclusion": (self.drawn / self.sizes)[self.strata].tolist(),
            "reference": [None] * n,
        }
        write_points(path, self.rows, self.cols, columns, self.grid, overwrite=overwrite)


def draw_sample(
    mapped: LabelMap,
    n: int,
    *,
    design: str = "stratified",
    allocation: str = "proportional",
    minimum: int | None = None,
    expected: Mapping[str, float] | None = None,
    allowed: Mask | None = None,
    seed: int = 0,
) -> Sample:
    """Draw pixels of a map at random, without replacement.

    Parameters
    ----------
    mapped : LabelMap
        Its classes are the strata; unclassified pixels are a stratum of their own.
    n : int
        Points.
    design : str
        ``stratified``, or ``random`` for one stratum.
    allocation : str
        Of the points to the strata: ``proportional`` to their pixels, ``equal``, or ``neyman``: to
        pixels times the standard deviation that ``expected`` accuracies give (Neyman 1934).
    minimum : int, optional
        Points of each stratum at least, as far as it has pixels; 10 where n allows it.
    expected : mapping of str to float, optional
        User's accuracy that is expected, by name of the class, for ``neyman``; the mean of those
        given for others.
    allowed : ndarray, (rows, cols), bool, optional
        Where points may lie; everywhere by default.
    seed : int

    Raises
    ------
    SettingError
        More points than pixels, or fewer than ``minimum`` a stratum.
    """
    labels = mapped.labels.astype(np.int32)
    if allowed is not None:
        labels[~allowed] = -1
    names = [UNCLASSIFIED, *mapped.class_names]
    if design == "random":
        labels, names = np.where(labels >= 0, 0, -1), [WHOLE]
    pixels = np.bincount(labels[labels >= 0].ravel(), minlength=len(names))
    present = np.flatnonzero(pixels).tolist()
    if not present:
        raise SettingError("there is no pixel to sample", "choose other limits")
    sizes = pixels[present].astype(np.int64)
    chosen = tuple(names[label] for label in present)
    weights = allocation_weights(chosen, sizes, allocation, expected or {})
    drawn = allocate(n, weights, sizes, minimum)
    places, strata = [], []
    for stratum, label in enumerate(present):
        rng = np.random.default_rng([seed, 0, label])
        own = np.flatnonzero(labels == label)
        places.append(own[rng.choice(len(own), drawn[stratum], replace=False, shuffle=False)])
        strata.append(np.full(drawn[stratum], stratum, np.int64))
    order = np.random.default_rng([seed, 1]).permutation(int(drawn.sum()))
    rows, cols = np.divmod(np.concatenate(places)[order], labels.shape[1])
    return Sample(rows, cols, np.concatenate(strata)[order], chosen, sizes, drawn, mapped.grid)


def allocation_weights(
    names: tuple[str, ...], sizes: Counts, allocation: str, expected: Mapping[str, float]
) -> Floats:
    """Share of the points that each stratum is to have, (strata,)."""
    unknown = sorted(set(expected) - set(names))
    if unknown:
        raise SettingError(
            f"the map has no {', '.join(unknown)}, whose accuracy is given",
            f"its strata are {', '.join(names)}",
        )
    if allocation == "equal":
        return np.full(len(names), 1 / len(names))
    weights = sizes.astype(np.float64)
    if allocation == "neyman":
        if not expected:
            raise SettingError(
                "the Neyman allocation needs expected accuracies",
                "give --expected CLASS=0.8, or the metrics.json of the run",
            )
        usual = float(np.mean(list(expected.values())))
        others = [_EXPECTED_UNCLASSIFIED if name == UNCLASSIFIED else usual for name in names]
        shares = np.array([expected.get(n, o) for n, o in zip(names, others, strict=True)])
        weights *= np.sqrt(shares * (1 - shares))
    return weights / weights.sum() if weights.any() else np.full(len(names), 1 / len(names))


def allocate(n: int, weights: Floats, sizes: Counts, minimum: int | None = None) -> Counts:
    """Divide points among strata by weight, each with a minimum and none beyond its pixels.

    Parameters
    ----------
    n : int
    weights : ndarray, (strata,), float64
        Sum 1.
    sizes : ndarray, (strata,), int64
        Pixels.
    minimum : int, optional
        See `draw_sample`.

    Returns
    -------
    ndarray, (strata,), int64
        Points; their sum is ``n``.

    Raises
    ------
    SettingError
        As `draw_sample`.
    """
    if n > sizes.sum():
        raise SettingError(
            f"{n:,} points are more than the {int(sizes.sum()):,} pixels", "draw fewer with -n"
        )
    if minimum is None:
        minimum = max(LEAST, min(DEFAULT_MINIMUM, n // len(sizes)))
    least = np.minimum(minimum, sizes)
    if least.sum() > n:
        raise SettingError(
            f"{n} points are too few: {minimum} in each of {len(sizes)} strata make {least.sum()}",
            "draw more with -n",
        )
    points = least.astype(np.float64)
    free = sizes > least
    fixed = ~free
    while True:  # until those at a limit are all found
        rest = n - points[fixed].sum()
        total = weights[free].sum()
        share = weights[free] / total if total else np.full(free.sum(), 1 / max(1, free.sum()))
        points[free] = rest * share
        beyond = free & (points > sizes)
        below = free & (points < least)
        wrong = beyond if beyond.any() else below
        if not wrong.any():
            break
        points[wrong] = np.where(beyond, sizes, least)[wrong]
        free, fixed = free & ~wrong, fixed | wrong
    return _rounded(points, n, sizes)


def _rounded(points: Floats, n: int, sizes: Counts) -> Counts:
    """Whole points of the same sum: those of the largest remainder are rounded up."""
    whole = np.floor(points + 1e-9).astype(np.int64)
    order = np.argsort(whole - points, kind="stable")
    for stratum in order.tolist() * 2:
        if whole.sum() < n and whole[stratum] < sizes[stratum]:
            whole[stratum] += 1
    return whole


def clear_of(pixels: npt.NDArray[Any], distance: int) -> Mask:
    """Where no pixel of a mask lies within so many pixels, Chebyshev distance."""
    from hsifcn.data.split_recipes import distance_to

    if not pixels.any():
        return np.ones(pixels.shape, bool)
    return np.asarray(distance_to(pixels) > distance)
