"""A scene of another acquisition or sensor, brought to the bands and units of a model.

Bands are matched by wavelength, or spectra are resampled where that is asked for.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import MismatchError
from hsifcn.core.scene import (
    Grid,
    Scene,
    Window,
    shifted_band,
    wavelength_tolerance,
)
from hsifcn.data.bands import measured_bands
from hsifcn.data.standardise import strips, valid_pixels
from hsifcn.inference.bundle import Bundle
from hsifcn.io.affine import converted

_STRIP_VOXELS = 4_000_000  # read at once; bounds the memory that matching adds
_SAMPLES, _SAMPLE_SIDE = 3, 32  # windows a side of the scene, and their rows and columns
_UNITS_DIFFER = 30.0  # the brightest bands of two scenes in the same units differ by less
_SAME_SCALE = 1e-6  # relative; scale factors are written in few digits
_POINTS = np.linspace(-1.5, 1.5, 301)  # of a Gaussian, in full widths at half maximum


@dataclass(frozen=True)
class Match:
    """A scene as a model wants it.

    Attributes
    ----------
    scene : Scene
        With the model's bands.
    note : str
        What was done to it; empty where its bands are the model's as they are.
    """

    scene: Scene
    note: str = ""


@dataclass(frozen=True, eq=False)
class MatchedScene:
    """A scene with its bands chosen, ordered or mixed anew, or in other units.

    For what its attributes mean see ``hsifcn.scene.Scene``.

    Attributes
    ----------
    source : Scene
        Where the voxels come from.
    bands : ndarray, (bands,), int64, or None
        The source's band of each band; None for all as they are, or where they are mixed.
    weights : ndarray, (source bands, bands), float32, or None
        How bands are mixed. Pixels without a measurement are NaN then.
    wavelengths, fwhm : ndarray, (bands,), float64, or None
        The model's, nm.
    factor : float
        What voxels are multiplied by.
    """

    source: Scene
    bands: npt.NDArray[np.int64] | None
    weights: npt.NDArray[np.float32] | None
    wavelengths: npt.NDArray[np.float64] | None
    fwhm: npt.NDArray[np.float64] | None = None
    factor: float = 1.0

    @property
    def path(self) -> str:
        """The source's path."""
        return self.source.path

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns, the model's bands."""
        rows, cols, bands = self.source.shape
        if self.weights is not None:
            return rows, cols, self.weights.shape[1]
        return rows, cols, bands if self.bands is None else len(self.bands)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The source's type; float32 where voxels are mixed or multiplied."""
        as_they_are = self.weights is None and self.factor == 1
        return self.source.dtype if as_they_are else np.dtype(np.float32)

    @property
    def interleave(self) -> str:
        """The source's order on disk."""
        return self.source.interleave

    @property
    def good_bands(self) -> npt.NDArray[np.bool_]:
        """All: the model tells which it uses."""
        return np.ones(self.shape[2], np.bool_)

    @property
    def nodata(self) -> float | None:
        """The source's; None where bands are mixed, as NaN stands for it then."""
        return self.source.nodata if self.weights is None else None

    @property
    def scale_factor(self) -> float | None:
        """The source's, multiplied as the voxels are."""
        scale = self.source.scale_factor
        return None if scale is None else scale * self.factor

    @property
    def grid(self) -> Grid | None:
        """The source's georeference."""
        return self.source.grid

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read the model's bands of a window, a few rows of the source at a time."""
        result = np.empty((window.rows, window.cols, self.shape[2]), self.dtype)
        for strip in strips((window.rows, window.cols, self.source.shape[2]), _STRIP_VOXELS):
            place = Window(window.row + strip.row, window.col, strip.rows, window.cols)
            result[strip.slices] = self._convert(self.source.read(place))
        return result

    def _convert(self, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.weights is None:
            block = block if self.bands is None else block[..., self.bands]
            return block if self.factor == 1 else converted(block, self.factor, 0, self.nodata)
        used = self.weights.any(axis=1)
        block = block[..., used]
        valid = valid_pixels(block, self.source.nodata)
        spectra = block.astype(np.float32)
        spectra[~valid] = np.nan
        return spectra @ (self.weights[used] * np.float32(self.factor))


def match_scene(bundle: Bundle, scene: Scene, *, resample: bool = False) -> Match:
    """Bring a scene to the bands and units of a model.

    Each band that the model uses takes the scene's band nearest to it in wavelength, in whatever
    order and among whatever others, if none is farther off than a quarter of the model's band
    spacing. With ``resample`` its spectra are resampled instead. Without wavelengths on one side
    the bands are taken in their order. Where scale factors of both are known and differ, the scene
    is multiplied by their ratio.

    Parameters
    ----------
    bundle : Bundle
    scene : Scene
    resample : bool
        Mix the bands of another sensor to those of the model, unless they are the same anyway.

    Raises
    ------
    MismatchError
        The scene lacks a band that the model uses, or has other units.

    Warns
    -----
    UserWarning
        The scene is multiplied.
    """
    match = _match_scale(bundle, _match_bands(bundle, scene, resample))
    _check_units(bundle, match.scene, scene.scale_factor)
    return match


def _match_scale(bundle: Bundle, match: Match) -> Match:
    """Multiply a scene so that one reflectance is one value in it and in the training scenes."""
    scene, wanted = match.scene, bundle.scale_factor
    found = scene.scale_factor
    if wanted is None or found is None or math.isclose(wanted, found, rel_tol=_SAME_SCALE):
        return match
    factor = wanted / found
    warnings.warn(
        f"reflectance = value / {found:g} in {scene.path}, but value / {wanted:g} in the scenes "
        f"trained on: its values are multiplied by {factor:g}",
        stacklevel=3,
    )
    if isinstance(scene, MatchedScene):
        return replace(match, scene=replace(scene, factor=factor))
    scaled = MatchedScene(scene, None, None, scene.wavelengths, scene.fwhm, factor)
    return replace(match, scene=scaled)


def _match_bands(bundle: Bundle, scene: Scene, resample: bool) -> Match:
    wanted, found, count = bundle.wavelengths, scene.wavelengths, len(bundle.good_bands)
    if wanted is None or found is None:
        return _in_order(bundle, scene)
    if len(found) == count and shifted_band(wanted, found) is None:
        return Match(scene)
    if resample:
        return _resample(bundle, scene)
    nearest = _nearest(wanted, found, scene.good_bands)
    distance = np.abs(found[nearest] - wanted)
    missing = bundle.good_bands & (distance > wavelength_tolerance(wanted))
    if not missing.any():
        note = (
            f"{scene.path}: the model's {count} bands were found by wavelength among the scene's "
            f"{len(found)}, at most {distance[bundle.good_bands].max():.1f} nm off"
        )
        marked = int((~scene.good_bands[nearest[bundle.good_bands]]).sum())
        if marked:
            note += f"; {marked} of them are marked as bad"
        return Match(MatchedScene(scene, nearest, None, wanted, bundle.fwhm), note)
    worst = int(np.where(missing, distance, -1.0).argmax())
    raise MismatchError(
        f"{scene.path} has no band near {int(missing.sum())} of the model's {bundle.spec.bands}: "
        f"the one at {wanted[worst]:.1f} nm is nearest to {found[nearest[worst]]:.1f} nm",
        "add --resample to mix the scene's bands, or train on this scene",
    )


def _resample(bundle: Bundle, scene: Scene) -> Match:
    weights = _resampling(bundle, scene)
    note = (
        f"{scene.path}: its {scene.shape[2]} bands were resampled to the model's "
        f"{bundle.spec.bands}"
    )
    return Match(MatchedScene(scene, None, weights, bundle.wavelengths, bundle.fwhm), note)


def _in_order(bundle: Bundle, scene: Scene) -> Match:
    """Bands by their order, because wavelengths are unknown on one side at least."""
    count = len(bundle.good_bands)
    if scene.shape[2] != count:
        remedy = "predict a scene of the same sensor and band selection, or train on this one"
        if bundle.wavelengths is not None:
            remedy = "give its wavelengths with --wavelengths, so that bands can be matched"
        raise MismatchError(
            f"{scene.path} has {scene.shape[2]} bands, the model was trained on {count}", remedy
        )
    if (bundle.wavelengths is None) == (scene.wavelengths is None):
        return Match(scene)
    side = "the model" if bundle.wavelengths is None else scene.path
    return Match(scene, f"{side} has no wavelengths: the {count} bands are taken in their order")


def _nearest(
    wanted: npt.NDArray[np.float64],
    found: npt.NDArray[np.float64],
    good: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int64]:
    """The band of ``found`` nearest to each one wanted; of equals one that is not marked bad."""
    order = np.argsort(~good, kind="stable")
    distances = np.abs(found[order][None, :] - wanted[:, None])
    nearest: npt.NDArray[np.int64] = order[distances.argmin(axis=1)]
    return nearest


def band_widths(
    wavelengths: npt.NDArray[np.float64], fwhm: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.float64]:
    """Full widths at half maximum, nm; where unknown, the distance to the nearer neighbour."""
    if fwhm is not None:
        return fwhm
    centres = np.unique(wavelengths)
    if len(centres) < 2:
        return np.ones(len(wavelengths))
    steps = np.diff(centres)
    nearer = np.minimum(np.append(steps, np.inf), np.append(np.inf, steps))
    widths: npt.NDArray[np.float64] = nearer[np.searchsorted(centres, wavelengths)]
    return widths


def _resampling(bundle: Bundle, scene: Scene) -> npt.NDArray[np.float32]:
    """Weights that mix the scene's good bands to the model's.

    A band of the model is the mean of the scene's spectrum, linear between its bands, under a
    Gaussian. Its variance is that of the model's band less that of the scene's bands, which have
    smoothed the spectrum already; where these are the broader ones, interpolation is left.

    Returns
    -------
    ndarray, (bands of the scene, bands of the model), float32
        Columns sum to 1; those of bands that the model does not use are 0.

    Raises
    ------
    MismatchError
        No band of the scene overlaps a band that the model uses.
    """
    assert bundle.wavelengths is not None
    assert scene.wavelengths is not None
    good = np.flatnonzero(measured_bands(scene))
    if not good.size:
        raise MismatchError(f"{scene.path} has no good bands", "correct its list of bad bands")
    widths = band_widths(scene.wavelengths, scene.fwhm)[good]
    centres, first = np.unique(scene.wavelengths[good], return_index=True)
    bands, widths = good[first], widths[first]
    targets = bundle.wavelengths
    target_widths = band_widths(targets, bundle.fwhm)
    nearest = np.abs(centres[None, :] - targets[:, None]).argmin(axis=1)
    gap = np.abs(centres[nearest] - targets) > (widths[nearest] + target_widths) / 2
    gap &= bundle.good_bands
    if gap.any():
        first_gap = int(np.flatnonzero(gap)[0])
        raise MismatchError(
            f"{scene.path} does not measure {int(gap.sum())} of the model's bands, first that at "
            f"{targets[first_gap]:.1f} nm; the nearest is at {centres[nearest[first_gap]]:.1f} nm",
            "train on this scene, or on these bands only",
        )
    smoothing = np.sqrt(np.maximum(target_widths**2 - widths[nearest] ** 2, 0))
    smoothing[~bundle.good_bands] = np.nan
    weights = np.zeros((len(scene.wavelengths), len(targets)), np.float32)
    weights[bands] = _gaussian_means(centres, targets, smoothing)
    return weights


def _gaussian_means(
    centres: npt.NDArray[np.float64],
    targets: npt.NDArray[np.float64],
    widths: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Weights of samples at ``centres``, (centres, targets), for means under Gaussians.

    ``widths`` are full at half maximum; 0 interpolates, NaN leaves a column 0.
    """
    weights = np.zeros((len(centres), len(targets)))
    shape = np.exp(-4 * np.log(2) * _POINTS**2)
    shape /= shape.sum()
    for band in np.flatnonzero(np.isfinite(widths)):
        points = targets[band] + widths[band] * _POINTS
        position = np.interp(points, centres, np.arange(len(centres)))
        left = np.minimum(position.astype(np.int64), max(len(centres) - 2, 0))
        right = np.minimum(left + 1, len(centres) - 1)
        share = position - left
        np.add.at(weights[:, band], left, shape * (1 - share))
        np.add.at(weights[:, band], right, shape * share)
    return weights


def _brightest_band(bundle: Bundle) -> float:
    """Root mean square of the brightest band of the training scenes, 0 where it is not known."""
    if bundle.spectra is not None:
        return float(np.sqrt((bundle.spectra.location**2 + bundle.spectra.spread**2).max()))
    if bundle.scaling.unit_length:
        return 0.0
    return float(np.sqrt((bundle.scaling.mean**2 + bundle.scaling.std**2).max()))


def _check_units(bundle: Bundle, scene: Scene, told_scale: float | None) -> None:
    """Refuse counts where the model was trained on reflectances, and the like.

    The brightest band's root mean square in a few windows is compared with the training scenes'.
    ``told_scale`` is the scale factor that the scene's file tells, true or not.
    """
    spectra = np.concatenate([_sample(bundle, scene, window) for window in _windows(scene)])
    trained = _brightest_band(bundle)
    here = float(np.sqrt((spectra**2).mean(axis=0).max())) if len(spectra) else 0.0
    if here == 0 or trained == 0 or 1 / _UNITS_DIFFER < here / trained < _UNITS_DIFFER:
        return
    ratio = here / trained
    times = f"{ratio:,.0f} times" if ratio > 1 else f"1/{1 / ratio:,.0f} of"
    told = ""
    if told_scale is not None:
        told = f" (reflectance = value / {told_scale:g} by its file)"
    raise MismatchError(
        f"the values of {scene.path}{told} are about {times} those that the model was trained on",
        "bring the scene to the same units (counts, reflectance in 0-1, ...)",
    )


def _windows(scene: Scene) -> list[Window]:
    """Small windows spread over a scene."""
    rows, cols = scene.shape[:2]
    height, width = min(_SAMPLE_SIDE, rows), min(_SAMPLE_SIDE, cols)
    return [
        Window(int(row), int(col), height, width)
        for row in np.unique(np.linspace(0, rows - height, _SAMPLES).astype(int))
        for col in np.unique(np.linspace(0, cols - width, _SAMPLES).astype(int))
    ]


def _sample(bundle: Bundle, scene: Scene, window: Window) -> npt.NDArray[np.float64]:
    """Valid spectra of a window, (pixels, bands used)."""
    block = scene.read(window)[..., bundle.good_bands]
    return block[valid_pixels(block, scene.nodata)].astype(np.float64)
