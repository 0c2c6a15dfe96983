"""The classifier of single spectra that a model carries for scenes its network does not know.

A weighted mean of discriminants and kernel classifiers, chosen as label propagation chooses its
own (``propagation/selection.py``), but on single spectra that are not smoothed, and on what a gain
does not change where the network's spectra have length 1. Pixels of one field are alike, so each
counts less the larger its field is: fields of other scenes differ from these as fields differ from
each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from hsifcn.core.scene import class_targets
from hsifcn.data.split_recipes import fields
from hsifcn.data.standardise import Scaling, divided_by_length, read_bands, strips, valid_pixels
from hsifcn.inference.spectral_classifier import KernelScores, SpectralClassifier
from hsifcn.inference.spectral_summary import sample_windows
from hsifcn.propagation.classifiers import KernelRidge, LinearDiscriminant
from hsifcn.propagation.features import principal_directions
from hsifcn.propagation.mnf import mnf_fit, noise_sums
from hsifcn.propagation.pseudo_labels import PRIOR_WEIGHTS
from hsifcn.propagation.selection import (
    MAX_LABELLED,
    LabelledPixels,
    SpectralPosterior,
    choose_classifiers,
    stratified_sample,
)
from hsifcn.training.scenes import LabelledScene

NEVER = -1e6  # score of a class that must not be chosen
WINDOWS = 5  # along each side of a scene, whose neighbours show the noise
# Of smoothing, for each power of ten by which the prior's weight in the random walker is under the
# largest that is tried. Chosen on halves of five scenes; see docs/ideas.md.
NATS_A_DECADE = 3.0

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def fit_spectral_classifier(
    spectra: Floats,
    pixels: LabelledPixels,
    noise: npt.NDArray[np.float64] | None,
    classes: int,
    scaling: Scaling,
    prior_weight: float | None = None,
) -> SpectralClassifier:
    """Fit discriminants and kernels to the labelled pixels of scenes.

    Parameters
    ----------
    spectra : ndarray, (n, bands)
    pixels : LabelledPixels
        Their classes and fields; both of ``labelled_spectra``.
    noise : ndarray, (bands, bands), or None
        Of ``noise_covariance``; without it there are no minimum noise fractions.
    classes : int
    scaling : Scaling
        Of the network's input.
    prior_weight : float, optional
        That the random walker of the scenes took; small where their fields are wide.

    Returns
    -------
    SpectralClassifier
        A class without a labelled pixel is never chosen.
    """
    projections = spectral_projections(spectra, noise, scaling)
    centre = scaling.mean.astype(np.float32)
    centred = spectra - centre
    features = {(space, 0.0): centred @ projection for space, projection in projections.items()}
    pixels = replace(pixels, features=features)
    choice = choose_classifiers(pixels, classes)
    posterior = SpectralPosterior.fit(choice.weights, pixels, classes)
    seen = np.bincount(pixels.targets, minlength=classes) > 0
    decades = 0.0 if prior_weight is None else float(np.log10(max(PRIOR_WEIGHTS) / prior_weight))
    expected = choice.group_accuracy
    return SpectralClassifier(
        centre,
        *linear_scores(posterior, projections, seen),
        kernel_scores(posterior, projections),
        None if np.isnan(expected) else expected,
        NATS_A_DECADE * decades,
    )


def spectral_projections(
    spectra: Floats, noise: Doubles | None, scaling: Scaling
) -> dict[str, Doubles]:
    """What classifiers see of centred spectra, (bands, components) by space; see ``features.py``.

    Parameters
    ----------
    spectra : ndarray, (n, bands), float32
    noise : ndarray, (bands, bands), or None
    scaling : Scaling
    """
    products = spectra.T.astype(np.float64) @ spectra
    standardised = (spectra - scaling.mean) / scaling.std
    principal = principal_directions(standardised.T @ standardised).astype(np.float64)
    found = {"shape": (principal / scaling.std).T}
    if noise is not None:
        found["noise"] = mnf_fit(noise, products).astype(np.float64).T
    return found


def linear_scores(
    posterior: SpectralPosterior,
    projections: dict[str, Doubles],
    seen: npt.NDArray[np.bool_],
) -> tuple[Floats, Floats]:
    """Directions (bands, classes) and offsets (classes,) of all that is linear in centred spectra.

    What is the same for all classes of a pixel is left out: it decides nothing.
    """
    directions, offsets = np.zeros((len(projections["shape"]), len(seen))), np.zeros(len(seen))
    for candidate, weight, classifier in posterior.parts:
        if isinstance(classifier, LinearDiscriminant):
            own = projections[candidate.space] @ classifier.directions
            directions += weight * classifier.sharpness * own
            offsets[seen] += weight * classifier.sharpness * classifier.offsets[seen]
        else:
            offsets += weight * classifier.sharpness * classifier.shares
    directions -= directions[:, seen].mean(axis=1, keepdims=True)
    offsets = np.where(seen, offsets - offsets[seen].mean(), NEVER)
    return directions.astype(np.float32), offsets.astype(np.float32)


def kernel_scores(
    posterior: SpectralPosterior, projections: dict[str, Doubles]
) -> tuple[KernelScores, ...]:
    """The kernel classifiers, for centred spectra."""
    found = []
    for candidate, weight, classifier in posterior.parts:
        if isinstance(classifier, KernelRidge):
            scale = np.sqrt(classifier.scale)
            projection = projections[candidate.space][:, : classifier.labelled.shape[1]]
            points = classifier.labelled + classifier.centre
            found.append(
                KernelScores(
                    (projection / scale).astype(np.float32),
                    (points / scale).astype(np.float32),
                    (weight * classifier.sharpness * classifier.coefficients).astype(np.float32),
                )
            )
    return tuple(found)


def labelled_spectra(
    labelled: Sequence[LabelledScene], bands: npt.NDArray[np.bool_], unit_length: bool
) -> tuple[Floats, LabelledPixels]:
    """Spectra (n, bands used) of labelled pixels, ``MAX_LABELLED`` at most; their classes, fields.

    Spectra are of length 1 where the network gets such. Fields are connected areas of one label,
    numbered over all scenes.
    """
    labels = [scene.training + scene.validation for scene in labelled]
    areas = [fields(own) for own in labels]
    first = np.cumsum([0, *(int(area.max()) for area in areas)])
    every = np.concatenate([class_targets(own[own > 0]) for own in labels])
    chosen = np.zeros(len(every), bool)
    chosen[stratified_sample(every, MAX_LABELLED)] = True
    spectra, groups, start = [], [], 0
    for number, (scene, own) in enumerate(zip(labelled, labels, strict=True)):
        taken = np.zeros(own.shape, bool)
        count = int((own > 0).sum())
        taken[own > 0] = chosen[start : start + count]
        start += count
        groups.append(first[number] + areas[number][taken].astype(np.int64))
        for window in strips(scene.scene.shape):
            if taken[window.slices].any():
                block = read_bands(scene.scene, window, bands)[taken[window.slices]]
                spectra.append(as_seen(block, unit_length))
    return np.concatenate(spectra), LabelledPixels({}, every[chosen], np.concatenate(groups))


def noise_covariance(
    labelled: Sequence[LabelledScene], bands: npt.NDArray[np.bool_], unit_length: bool
) -> Doubles | None:
    """Covariance of the noise, (bands, bands), from neighbours in small windows of the scenes.

    None where no two neighbours show it: labels without a neighbour, in ``inductive`` training.
    """
    total, count = np.zeros((int(bands.sum()),) * 2), 0
    for one in labelled:
        for window in sample_windows(one.scene, WINDOWS):
            block = read_bands(one.scene, window, bands)
            valid = valid_pixels(block, one.scene.nodata)
            if one.counted is not None:
                valid &= one.counted[window.slices]
            block = as_seen(block, unit_length)
            block[~valid] = 0
            cube = torch.from_numpy(block.transpose(2, 0, 1).copy())
            found, differences = noise_sums(cube, torch.from_numpy(valid)[None, None])
            # Those with a pixel that is not measured count as 0 there.
            total, count = total + found, count + differences
    return total / count if count and total.any() else None


def as_seen(spectra: npt.NDArray[np.generic], unit_length: bool) -> Floats:
    """Spectra as the network gets them before they are standardised."""
    return divided_by_length(spectra) if unit_length else spectra.astype(np.float32)
