"""The classifier of single spectra that a model carries for scenes its network does not know.

A linear discriminant of noise-whitened spectra. Pixels of one field are alike, so each counts less
the larger its field is: fields of other scenes differ from these as fields differ from each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from hsifcn.core.scene import class_targets
from hsifcn.data.split_recipes import fields
from hsifcn.data.standardise import divided_by_length, read_bands, strips, valid_pixels
from hsifcn.inference.spectral_classifier import SpectralClassifier
from hsifcn.inference.spectral_summary import sample_windows
from hsifcn.propagation.classifiers import LinearDiscriminant
from hsifcn.propagation.mnf import mnf_fit, noise_sums
from hsifcn.propagation.selection import LabelledPixels, stratified_sample
from hsifcn.training.scenes import LabelledScene

# Chosen on halves of four scenes other than Indian Pines; see docs/ideas.md.
SHRINKAGE = 0.5
MAX_PIXELS = 20_000  # of the labelled ones
NEVER = -1e6  # score of a class that must not be chosen
WINDOWS = 5  # along each side of a scene, whose neighbours show the noise

Floats = npt.NDArray[np.float32]


def fit_spectral_classifier(
    spectra: Floats,
    pixels: LabelledPixels,
    noise: npt.NDArray[np.float64] | None,
    classes: int,
) -> SpectralClassifier | None:
    """Fit a linear discriminant to the labelled pixels of scenes.

    Parameters
    ----------
    spectra : ndarray, (n, bands)
    pixels : LabelledPixels
        Their classes and fields; both of ``labelled_spectra``.
    noise : ndarray, (bands, bands), or None
        Of ``noise_covariance``.
    classes : int

    Returns
    -------
    SpectralClassifier or None
        None where no two neighbours show the noise. A class without a labelled pixel is never
        chosen.
    """
    if noise is None:
        return None
    signal = spectra.T.astype(np.float64) @ spectra
    directions = mnf_fit(noise, signal).astype(np.float64)
    features, targets = spectra @ directions.T, pixels.targets

    def fit(learnt: npt.NDArray[np.bool_]) -> LinearDiscriminant:
        weights = pixels.subset(learnt).weights()
        return LinearDiscriminant.fit(
            features[learnt], targets[learnt], weights, classes, SHRINKAGE
        )

    final = fit(np.ones(len(targets), bool))
    # What all classes have in common decides nothing, and would cost digits.
    common, seen = final.directions.mean(axis=1), np.isfinite(final.offsets)
    return SpectralClassifier(
        directions.T @ (final.directions - common[:, None]),
        np.where(seen, final.offsets - final.offsets[seen].mean(), NEVER),
        left_out_accuracy(fit, features, pixels),
    )


def left_out_accuracy(
    fit: Callable[[npt.NDArray[np.bool_]], LinearDiscriminant],
    features: npt.NDArray[np.float64],
    pixels: LabelledPixels,
) -> float | None:
    """Accuracy at pixels of fields that were left out, each field counting by its weight.

    None where no class has two fields.
    """
    folds, told = pixels.folds(), pixels.can_be_left_out()
    if not told.any():
        return None
    right = np.zeros(len(folds), bool)
    for fold in np.unique(folds[told]):
        held = folds == fold
        found = fit(~held).log_probabilities(torch.from_numpy(features[held])).argmax(1)
        right[held] = found.numpy() == pixels.targets[held]
    return float(np.average(right[told], weights=pixels.weights()[told]))


def labelled_spectra(
    labelled: Sequence[LabelledScene], bands: npt.NDArray[np.bool_], unit_length: bool
) -> tuple[Floats, LabelledPixels]:
    """Spectra (n, bands used) of up to ``MAX_PIXELS`` labelled pixels, their classes and fields.

    Spectra are of length 1 where the network gets such. Fields are connected areas of one label,
    numbered over all scenes.
    """
    labels = [scene.training + scene.validation for scene in labelled]
    areas = [fields(own) for own in labels]
    first = np.cumsum([0, *(int(area.max()) for area in areas)])
    every = np.concatenate([class_targets(own[own > 0]) for own in labels])
    chosen = np.zeros(len(every), bool)
    chosen[stratified_sample(every, MAX_PIXELS)] = True
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
) -> npt.NDArray[np.float64] | None:
    """Covariance of the noise, (bands, bands), from neighbours in small windows of the scenes."""
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
