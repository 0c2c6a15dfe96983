"""How far a scene lies from the training scenes, and how to bring it back.

Light and instrument change a spectrum by a smooth gain and a small smooth offset:
``measured = gain x expected + offset``. Other land cover changes it too, but then spectra stay
among those learnt. So gain and offset are estimated by generalised least squares from the medians
of all bands: what may be a change of land cover, along the directions in which the training spectra
vary, weighs little; what no land cover explains weighs much. Matching plain means and deviations
instead would take a scene with more forest for a darker one.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import MismatchError
from hsifcn.core.scene import Scene
from hsifcn.data.standardise import Scaling
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.spectral_summary import Array, SpectralSummary, robust_moments, sample_spectra

# Chosen on Indian Pines (halves of the scene, gains, offsets, single classes); see docs/ideas.md.
CONTENT_SHARE = 0.05  # of the training spectra's covariance: how far other land cover moves medians
SPREAD_ERROR = 0.25  # relative; how far other land cover changes the spread of bands
GAIN_ERRORS = (0.3, 0.1, 0.05, 0.05, 0.05)  # expected size of each Legendre term of the gain
OFFSET_ERRORS = (0.3, 0.1, 0.1)  # the same of the offset, in the bands' median spread
GAIN_LIMITS = (0.4, 2.5)
LARGE_OFFSET = 1.0  # of the training scenes' median value
DISTANCES = 2_000  # pixels whose distance from the spectra learnt is measured
LEAST_PIXELS = 500  # whose medians tell light from land cover
LEAST_SPREAD = 0.4  # of the training scenes' spread: one kind of land cover varies less
OUTSIDE = 0.1  # share of unlike spectra that is told as a warning
WORTH_TELLING = 0.8  # of the mean distance: where adapting reaches less than it, it is recommended
WORTH_DOING = 0.97  # where it does not even reach this, the scene stays as it is


@dataclass(frozen=True)
class SceneShift:
    """How a scene differs from the training scenes.

    Attributes
    ----------
    pixels : int
        That were looked at.
    mean_difference : float
        Root mean square over bands of the difference of medians, in spreads of the training scenes.
    spread_ratio : float
        Median over bands of the scene's spread against that of the training scenes.
    share_outside : float
        Share of the pixels whose spectrum lies farther from those learnt than 99 % of these do.
    distance : float
        Mean distance of the pixels from the spectra learnt, each at most at the limit; see
        ``SpectralSummary.distances``.
    gain : float
        Mean over bands of the estimated gain. The other measures leave out brightness, the same
        gain in all bands, where the model does not see it.
    brightness : float
        How many times brighter than the training scenes, where the model does not see that; else 1.
    adapted_share_outside, adapted_distance : float
        The same when the estimated gain and offset are undone.
    wavelength_difference_nm : float or None
        Largest difference of a band's wavelength from the model's.
    scale_ratio : float or None
        Scale factor of the scene against that of the training scenes.
    """

    pixels: int
    mean_difference: float
    spread_ratio: float
    share_outside: float
    distance: float
    gain: float
    brightness: float
    adapted_share_outside: float
    adapted_distance: float
    wavelength_difference_nm: float | None = None
    scale_ratio: float | None = None

    @property
    def adapting_helps(self) -> bool:
        """Whether undoing gain and offset brings the spectra clearly nearer to those learnt."""
        return self.adapted_distance < WORTH_TELLING * self.distance

    def sentence(self) -> str:
        """The shift in one line."""
        return (
            f"shift: band medians differ by {self.mean_difference:.2f} spreads of the training "
            f"scenes, {100 * self.share_outside:.1f} % of the spectra lie outside of what was "
            f"learnt (1 % there), gain about {self.gain:.3f}"
        )

    def warning(self, adapted: bool) -> str | None:
        """What the shift may cost, and what to do about it; None where it is small."""
        outside = self.adapted_share_outside if adapted else self.share_outside
        if not adapted and self.adapting_helps:
            return (
                "light or instrument may differ from those of the training scenes: --adapt undoes "
                "that, but it harms where land cover differs instead, so compare both maps"
            )
        if outside > OUTSIDE:
            return (
                f"{100 * outside:.0f} % of the spectra are unlike those that the model learnt: "
                "other land cover or other noise; the map may be wrong there, so check it, or "
                "train on labels of this scene"
            )
        return None

    def record(self) -> dict[str, Any]:
        """The numbers, for ``--json``."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class LightChange:
    """A change of light or instrument: ``measured = gain x expected + offset``, band by band.

    Attributes
    ----------
    gain, offset : ndarray, (bands,), float64
        Smooth over wavelength; the offset in the scene's units.
    """

    gain: Array
    offset: Array

    def undo(self, spectra: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Spectra as the training scenes would show them, (pixels, bands)."""
        return ((spectra - self.offset) / self.gain).astype(np.float32)

    def applied(self, scaling: Scaling) -> Scaling:
        """Band scaling under this light: with it the model sees what it was trained on."""
        if scaling.unit_length:
            return replace(scaling, gain=self.gain, offset=self.offset)
        return Scaling(self.gain * scaling.mean + self.offset, self.gain * scaling.std)


def measure_shift(
    bundle: Bundle, scene: Scene, spectra: npt.NDArray[np.float32] | None = None
) -> tuple[SceneShift, LightChange] | None:
    """Compare a scene, matched to the model's bands, with the training scenes.

    ``spectra`` are its ``sample_spectra``, which are read where they are not given.

    Returns
    -------
    shift : SceneShift
    change : LightChange
        The gain and offset that explain most of it.
    None
        The model is older than its summary of the training spectra, or no pixel holds a
        measurement.
    """
    learnt = bundle.spectra
    if learnt is None:
        return None
    if spectra is None:
        spectra = sample_spectra(scene, bundle.good_bands)
    if not len(spectra):
        return None
    location, spread = robust_moments(spectra)
    brightness = _brightness(bundle, location)
    location, spread, spectra = location / brightness, spread / brightness, spectra / brightness
    change = estimate_change(learnt, location, spread, _band_positions(bundle))
    some = spectra[:: -(-len(spectra) // DISTANCES)]
    before, after = learnt.distances(some), learnt.distances(change.undo(some))
    difference = (location - learnt.location) / learnt.spread
    shift = SceneShift(
        pixels=len(spectra),
        mean_difference=float(np.sqrt(np.square(difference).mean())),
        spread_ratio=float(np.median(spread / learnt.spread)),
        share_outside=float((before > learnt.limit).mean()),
        distance=float(np.minimum(before, learnt.limit).mean()),
        gain=float(brightness * change.gain.mean()),
        brightness=float(brightness),
        adapted_share_outside=float((after > learnt.limit).mean()),
        adapted_distance=float(np.minimum(after, learnt.limit).mean()),
        wavelength_difference_nm=_largest_difference(bundle.wavelengths, scene.wavelengths),
        scale_ratio=_ratio(scene.scale_factor, bundle.scale_factor),
    )
    return shift, LightChange(brightness * change.gain, brightness * change.offset)


def _brightness(bundle: Bundle, location: Array) -> np.float32:
    """How many times brighter a scene's median spectrum is than that of the training scenes.

    1 where the model sees brightness, which is a shift then as any other.
    """
    assert bundle.spectra is not None
    learnt, here = np.linalg.norm(bundle.spectra.location), np.linalg.norm(location)
    if not bundle.scaling.unit_length or learnt == 0 or here == 0:
        return np.float32(1)
    return np.float32(here / learnt)


def estimate_change(
    learnt: SpectralSummary, location: Array, spread: Array, positions: Array
) -> LightChange:
    """Gain and offset that best explain a scene's medians and spreads, as smooth as light is.

    Generalised least squares with a normal prior: terms of Legendre polynomials over wavelength,
    three for the offset and five for the gain, expected to be small.

    Parameters
    ----------
    learnt : SpectralSummary
    location, spread : ndarray, (bands,), float64
        ``robust_moments`` of the scene.
    positions : ndarray, (bands,), float64
        Of the bands on the axis of wavelengths, -1 to 1.
    """
    gain_terms = np.polynomial.legendre.legvander(positions, len(GAIN_ERRORS) - 1)
    unit = float(np.median(learnt.spread))
    offset_terms = unit * np.polynomial.legendre.legvander(positions, len(OFFSET_ERRORS) - 1)
    medians = np.hstack([gain_terms * learnt.location[:, None], offset_terms])
    medians /= learnt.spread[:, None]
    spreads = np.hstack([gain_terms, np.zeros_like(offset_terms)])
    hessian = np.diag(np.square(np.reciprocal([*GAIN_ERRORS, *OFFSET_ERRORS])))
    target = np.zeros(len(hessian))
    alike = np.full((1, len(location)), np.sqrt(0.8))  # land cover changes all spreads alike
    for terms, found, share, factors, residuals in (
        (
            medians,
            (location - learnt.location) / learnt.spread,
            CONTENT_SHARE,
            learnt.factors,
            learnt.residual_variances,
        ),
        (spreads, spread / learnt.spread - 1, SPREAD_ERROR**2, alike, np.full(len(location), 0.2)),
    ):
        weighted = solve_factored(factors, residuals, terms) / share
        hessian += terms.T @ weighted
        target += weighted.T @ found
    solution = np.linalg.solve(hessian, target)
    gain = 1 + gain_terms @ solution[: len(GAIN_ERRORS)]
    largest = LARGE_OFFSET * float(np.median(np.abs(learnt.location)))
    offset = np.clip(offset_terms @ solution[len(GAIN_ERRORS) :], -largest, largest)
    return LightChange(np.clip(gain, *GAIN_LIMITS), offset)


def solve_factored(factors: Array, residuals: Array, right: Array) -> Array:
    """Solve ``(factors.T @ factors + diag(residuals)) x = right`` (Woodbury's identity).

    Parameters
    ----------
    factors : ndarray, (few, bands)
    residuals : ndarray, (bands,)
    right : ndarray, (bands, columns)
    """
    scaled = right / residuals[:, None]
    inner = np.eye(len(factors)) + (factors / residuals) @ factors.T
    correction = factors.T @ np.linalg.solve(inner, factors @ scaled)
    solution: Array = scaled - correction / residuals[:, None]
    return solution


def adapt(
    bundle: Bundle, scene: Scene, spectra: npt.NDArray[np.float32] | None = None
) -> tuple[Bundle, SceneShift, bool]:
    """A model whose band scaling fits the light of a scene; ``spectra`` as of ``measure_shift``.

    Returns
    -------
    bundle : Bundle
        The model given where its scaling fits the scene already.
    shift : SceneShift
    changed : bool

    Raises
    ------
    MismatchError
        The model does not know its training spectra, or the scene is too small or too uniform to
        tell light from land cover.
    """
    measured = measure_shift(bundle, scene, spectra)
    if bundle.spectra is None:
        raise MismatchError(
            "the model is older than --adapt: it holds no summary of its training spectra",
            "train it again, or leave --adapt out",
        )
    if measured is None or measured[0].pixels < LEAST_PIXELS:
        pixels = 0 if measured is None else measured[0].pixels
        raise MismatchError(
            f"{scene.path} cannot be adapted: {pixels} of the sampled pixels hold a measurement, "
            f"and it takes {LEAST_PIXELS} to tell light from land cover",
            "leave --adapt out",
        )
    shift, change = measured
    varies = shift.spread_ratio * shift.brightness / shift.gain
    if varies < LEAST_SPREAD:
        raise MismatchError(
            f"{scene.path} cannot be adapted: its spectra vary by "
            f"{100 * varies:.0f} % of what those of the training scenes do, as if "
            "it showed one class, so its light cannot be told from its land cover",
            "leave --adapt out",
        )
    if shift.adapted_distance > WORTH_DOING * shift.distance:
        return bundle, shift, False
    return replace(bundle, scaling=change.applied(bundle.scaling)), shift, True


def _band_positions(bundle: Bundle) -> Array:
    """Where the bands used lie on the axis of wavelengths, or in their order, -1 to 1."""
    wavelengths = bundle.wavelengths
    axis = np.arange(len(bundle.good_bands)) if wavelengths is None else wavelengths
    used = axis[bundle.good_bands].astype(np.float64)
    width = np.ptp(used)
    positions: Array = 2 * (used - used.min()) / width - 1 if width else np.zeros(len(used))
    return positions


def _largest_difference(wanted: Array | None, found: Array | None) -> float | None:
    if wanted is None or found is None:
        return None
    return float(np.abs(wanted - found).max())


def _ratio(found: float | None, wanted: float | None) -> float | None:
    if found is None or wanted is None or not math.isfinite(found / wanted):
        return None
    return found / wanted
