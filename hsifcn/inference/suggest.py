"""Where further labels would teach a model most.

Uncertainty alone asks for odd pixels: borders, shadows, noise. It is therefore multiplied by how
much of the scene looks like a pixel (information density; Settles and Craven 2008,
doi:10.3115/1613715.1613855). What was chosen takes weight from what looks like it, and no two
points lie near each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import Scene, Window
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.predictor import Predictor

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CANDIDATES = 3000  # pixels that are looked at, drawn at random
COMPONENTS = 10  # of spectra of unit length, in which likeness is measured
NEIGHBOUR_SHARE = 0.02  # of the candidates that a kernel reaches from a pixel, in the median


@dataclass(frozen=True, eq=False)
class Suggestions:
    """Pixels to label, the most useful one first.

    Attributes
    ----------
    rows, cols : ndarray, (points,), int64
    labels : ndarray, (points,), int64
        Predicted class, from 1.
    confidence : ndarray, (points,), float64
        Its probability.
    share : ndarray, (points,), float64
        About how much of the scene looks like the point.
    """

    rows: npt.NDArray[np.int64]
    cols: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    confidence: Floats
    share: Floats


def suggest(
    bundle: Bundle,
    scene: Scene,
    n: int,
    *,
    labelled: Mask | None = None,
    within: Mask | None = None,
    distance: int = 3,
    measure: str = "margin",
    seed: int = 0,
    device: str = "cpu",
    max_memory: int | None = None,
) -> Suggestions:
    """Choose pixels whose labels would teach most.

    Parameters
    ----------
    bundle : Bundle
    scene : Scene
        Matched to the model's bands.
    n : int
        Points; fewer come back where no more lie far enough apart.
    labelled : ndarray, (rows, cols), bool, optional
        Labels at hand: no point lies within ``distance`` of one.
    within : ndarray, (rows, cols), bool, optional
        Pixels to choose from; all by default.
    distance : int
        Least Chebyshev distance of two points, and of a point and a label, pixels.
    measure : str
        Of uncertainty: ``margin`` (1 less the difference of the two greatest probabilities) or
        ``entropy`` (over its greatest value).
    seed : int
        Of the candidates.
    device, max_memory
        Of ``Predictor``.

    Raises
    ------
    SettingError
        No pixel of the scene is measured, and far enough from labels.
    """
    from hsifcn.data.split_recipes import distance_to

    labels, confidence, doubt = uncertainty(bundle, scene, measure, device, max_memory)
    allowed = labels > 0
    if within is not None:
        allowed &= within
    if labelled is not None and labelled.any():
        allowed &= distance_to(labelled) > distance
    places = np.flatnonzero(allowed)
    if not len(places):
        raise SettingError("no pixel lies far enough from labels", "give a smaller --distance")
    rng = np.random.default_rng([seed, 0])
    chosen = np.sort(rng.choice(places, min(CANDIDATES, len(places)), replace=False))
    rows, cols = np.divmod(chosen, scene.shape[1])
    likeness = spectral_likeness(_spectra(scene, bundle.good_bands, rows, cols))
    share = likeness.mean(axis=1)
    value = doubt[rows, cols].astype(np.float64) * share
    picked: list[int] = []
    while len(picked) < n and np.isfinite(value).any():
        best = int(np.argmax(np.where(np.isfinite(value), value, -1.0)))
        picked.append(best)
        value *= 1 - likeness[best]
        near = np.maximum(abs(rows - rows[best]), abs(cols - cols[best])) <= distance
        value[near] = -np.inf
    at = rows[picked], cols[picked]
    return Suggestions(
        *at, labels[at].astype(np.int64), confidence[at].astype(np.float64), share[picked]
    )


def uncertainty(
    bundle: Bundle,
    scene: Scene,
    measure: str = "margin",
    device: str = "cpu",
    max_memory: int | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Label (0 without a measurement), confidence and uncertainty of each pixel, (rows, cols)."""
    labels = np.zeros(scene.shape[:2], np.uint16)
    confidence, doubt = np.zeros((2, *scene.shape[:2]), np.float32)
    for part in Predictor(bundle, device).map_scene(scene, max_memory):
        at = part.core.slices
        labels[at] = part.labels()
        confidence[at] = part.confidence()
        bands = part.probabilities_and_margin()
        if measure == "margin":
            doubt[at] = 1 - bands[..., -1]
        else:
            shares = bands[..., :-1].clip(1e-12, 1)
            doubt[at] = -(shares * np.log(shares)).sum(axis=-1) / np.log(max(2, shares.shape[-1]))
    return labels, confidence, doubt


def _spectra(
    scene: Scene, bands: Mask, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]
) -> Floats:
    """Spectra of some pixels, (pixels, bands); a row of the scene is read at a time."""
    spectra = np.empty((len(rows), int(bands.sum())))
    for row in np.unique(rows).tolist():
        own = rows == row
        block = scene.read(Window(row, 0, 1, scene.shape[1]))
        spectra[own] = block[0, cols[own]][:, bands]
    return spectra


def spectral_likeness(spectra: Floats) -> Floats:
    """How alike spectra are, from 0 to 1, (pixels, pixels), whatever their brightness.

    A Gaussian of the distance between principal components of spectra of unit length, as wide as
    the distance within which a pixel has 2 % of the others, in the median.

    Parameters
    ----------
    spectra : ndarray, (pixels, bands), float64
    """
    unit = spectra / np.maximum(np.linalg.norm(spectra, axis=1, keepdims=True), 1e-12)
    unit -= unit.mean(axis=0)
    _, _, axes = np.linalg.svd(unit, full_matrices=False)
    points = unit @ axes[:COMPONENTS].T
    squares = (points**2).sum(axis=1)
    distances = np.maximum(0, squares[:, np.newaxis] + squares - 2 * points @ points.T)
    kth = min(len(points) - 1, max(1, round(NEIGHBOUR_SHARE * len(points))))
    width = float(np.median(np.partition(distances, kth, axis=1)[:, kth])) if kth else 0.0
    return np.asarray(np.exp(-distances / max(width, 1e-12)))
