"""Mean spectra of the classes of a scene, and their picture."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import MismatchError
from hsifcn.core.scene import LabelMap, Scene
from hsifcn.data.standardise import strips, valid_pixels
from hsifcn.io import atomic_write


def class_spectra(scene: Scene, labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """Mean spectrum of each class.

    Parameters
    ----------
    scene : Scene
        (rows, cols, bands); read in strips, never whole.
    labels : ndarray, (rows, cols), integer
        0 = unlabelled, else the class, counted from 1.

    Returns
    -------
    ndarray, (classes, bands), float64
        In the units of the scene; NaN for bands that are not good, and for classes without a
        pixel that holds a measurement in every good band.

    Raises
    ------
    MismatchError
        Labels and scene differ in size.
    """
    if labels.shape != scene.shape[:2]:
        raise MismatchError(
            f"{scene.path} is {scene.shape[0]}x{scene.shape[1]} pixels, its labels are "
            f"{labels.shape[0]}x{labels.shape[1]}",
            "give labels of the scene's size",
        )
    good = scene.good_bands
    n_classes = int(labels.max())
    totals, counts = np.zeros((n_classes + 1, int(good.sum()))), np.zeros(n_classes + 1)
    for window in strips(scene.shape):
        block = scene.read(window)[..., good]
        taken = valid_pixels(block, scene.nodata) & (labels[window.slices] > 0)
        classes = labels[window.slices][taken]
        np.add.at(totals, classes, block[taken])
        counts += np.bincount(classes, minlength=n_classes + 1)
    means = np.full((n_classes, scene.shape[2]), np.nan)
    with np.errstate(invalid="ignore"):
        means[:, good] = totals[1:] / counts[1:, None]
    return means


def draw_spectra(
    path: str | os.PathLike[str], scene: Scene, labels: LabelMap, *, overwrite: bool = False
) -> None:
    """Write a picture of the mean spectra of all classes, over wavelength or number of the band.

    Raises
    ------
    ExistingOutputError
        The file exists and may not be overwritten.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    nm = scene.wavelengths
    places = np.arange(1, scene.shape[2] + 1) if nm is None else nm
    order = np.argsort(places, kind="stable")  # detectors may overlap
    spectra = class_spectra(scene, labels.labels)
    for name, colour, spectrum in zip(labels.class_names, labels.colours, spectra, strict=False):
        rgb = tuple(channel / 255 for channel in colour)
        axes.plot(places[order], spectrum[order], color=rgb, label=name.replace("$", r"\$"))
    axes.set_xlabel("band" if nm is None else "wavelength (nm)")
    axes.set_ylabel("mean value of the class")
    figure.legend(loc="outside right upper", fontsize="small")
    with atomic_write(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
