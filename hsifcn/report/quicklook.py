"""Small colour images of scenes and label maps, for previews and reports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import LabelError, MismatchError
from hsifcn.core.scene import LabelMap, Scene, Window
from hsifcn.data.bands import measured_bands
from hsifcn.data.standardise import strips, valid_pixels
from hsifcn.io import atomic_write

Colour = tuple[int, int, int]
RgbImage = npt.NDArray[np.uint8]

RGB_NM = (650.0, 550.0, 450.0)
NATURAL_NM = 50.0  # from these; bands farther away give other colours
STRETCH_PERCENT = (2.0, 98.0)
STRIP_BYTES = 32 << 20
UNLABELLED: Colour = (38, 38, 38)
CONSTANT_CHANNEL = 128

# Codes 1, 2, 3 of a split drawn with `label_image`; told apart by colour-blind readers too.
SPLIT_COLOURS: dict[str, Colour] = {
    "train": (230, 159, 0),
    "validation": (86, 180, 233),
    "test": (150, 150, 150),
}
# Codes 1 to 4 of a map that shows where two classified maps a and b agree with the ground truth.
DIFFERENCE_COLOURS: dict[str, Colour] = {
    "both right": (205, 205, 205),
    "only a right": (230, 159, 0),
    "only b right": (0, 114, 178),
    "both wrong": (213, 60, 120),
}


def rgb_quicklook(scene: Scene, max_size: int = 1024) -> RgbImage:
    """Draw a scene in about its natural colours.

    Each channel is stretched linearly between the 2nd and the 98th percentile of its valid pixels.
    A scene larger than ``max_size`` is thinned to every n-th row and column. The scene is read in
    strips of rows, never whole.

    Parameters
    ----------
    scene : Scene
        (rows, cols, bands) of any real type.
    max_size : int
        Largest number of rows and of columns of the image, in pixels.

    Returns
    -------
    ndarray, (rows, cols, 3), uint8
        Black where any of the three bands is no-data, NaN or infinite.
    """
    step = max(1, -(-max(scene.shape[:2]) // max_size))
    bands = rgb_bands(scene)
    strips = [pick(strip, bands, scene.nodata) for strip in _strips(scene, step)]
    values = np.concatenate([values for values, _ in strips])
    valid = np.concatenate([valid for _, valid in strips])
    return stretched(values, valid)


def rgb_window(scene: Scene, window: Window) -> RgbImage:
    """Draw a window of a scene as ``rgb_quicklook`` draws the whole: (rows, cols, 3) uint8."""
    return stretched(*pick(scene.read(window), rgb_bands(scene), scene.nodata))


def rgb_bands(scene: Scene) -> tuple[int, int, int]:
    """Choose the bands that `rgb_quicklook` shows as red, green and blue.

    They are the good bands nearest to 650, 550 and 450 nm. Where wavelengths are unknown, or do
    not give three different bands (a short-wave infrared scene), they are the middle bands of the
    last, second and first third of the good bands.

    Returns
    -------
    tuple of 3 int
        Bands, counted from 0 among all bands of the scene.
    """
    good = np.flatnonzero(scene.good_bands)
    if not good.size:
        good = np.arange(scene.shape[2])
    if scene.wavelengths is not None:
        offsets = np.abs(scene.wavelengths[good][None, :] - np.array(RGB_NM)[:, None])
        red, green, blue = (int(band) for band in good[offsets.argmin(axis=1)])
        if len({red, green, blue}) == 3:
            return red, green, blue
    red, green, blue = (int(good[good.size * sixth // 6]) for sixth in (5, 3, 1))
    return red, green, blue


def rgb_caption(scene: Scene) -> str:
    """What `rgb_quicklook` shows: natural colours where the wavelengths allow them."""
    red, green, blue = rgb_bands(scene)
    if scene.wavelengths is not None:
        shown = scene.wavelengths[[red, green, blue]]
        if np.abs(shown - RGB_NM).max() <= NATURAL_NM:
            return "The scene in about its natural colours"
    return f"The scene: bands {red + 1}, {green + 1} and {blue + 1} as red, green and blue"


def label_image(labels: npt.NDArray[np.integer[Any]], colours: Sequence[Sequence[int]]) -> RgbImage:
    """Draw a label map.

    Parameters
    ----------
    labels : ndarray, (rows, cols), integer
        0 = unlabelled, else the class, counted from 1.
    colours : sequence of (red, green, blue), 0-255
        Colours of classes 1, 2, ...

    Returns
    -------
    ndarray, (rows, cols, 3), uint8
        Unlabelled pixels are dark grey.

    Raises
    ------
    LabelError
        A label is negative or has no colour.
    """
    if labels.size and not 0 <= labels.min() <= labels.max() <= len(colours):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise LabelError(
            f"label {wrong} has no colour, there are {len(colours)}",
            "give one colour for each class from 1 to the largest label",
        )
    palette = np.array([UNLABELLED, *(tuple(colour) for colour in colours)], np.uint8)
    image: RgbImage = palette[labels]
    return image


def _strips(scene: Scene, step: int) -> Iterator[npt.NDArray[Any]]:
    """Every ``step``-th row and column of the scene, some rows at a time."""
    rows, cols, bands = scene.shape
    height = max(1, STRIP_BYTES // max(1, cols * bands * scene.dtype.itemsize))
    if step > 1:
        height = 1  # the rows between are not even read
    for row in range(0, rows, max(step, height)):
        window = Window(row, 0, min(height, rows - row), cols)
        yield scene.read(window)[:, ::step]


def pick(
    strip: npt.NDArray[Any], bands: tuple[int, int, int], nodata: float | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Three bands of a strip, and which of its pixels are valid in all three."""
    chosen = strip[..., list(bands)]
    valid = np.isfinite(chosen)
    if nodata is not None:
        with np.errstate(over="ignore"):  # a no-data value beyond the range of the type
            valid &= chosen != nodata
    with np.errstate(over="ignore", invalid="ignore"):
        values = chosen.astype(np.float32)
    valid &= np.isfinite(values)
    return values, valid.all(axis=-1)


def stretched(values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> RgbImage:
    """Three channels as an image, each stretched over its valid pixels; black elsewhere."""
    image = np.zeros(values.shape, np.uint8)
    if valid.any():
        for channel in range(3):
            image[valid, channel] = _stretch(values[valid, channel])
    return image


def _stretch(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Values to 0-255; a channel without contrast becomes a middle grey."""
    low, high = np.percentile(values.astype(np.float64), STRETCH_PERCENT)
    if high <= low:
        return np.full(values.shape, CONSTANT_CHANNEL, np.uint8)
    scaled: npt.NDArray[np.float64] = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.rint(255.0 * scaled).astype(np.uint8)


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
    good = measured_bands(scene)
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
