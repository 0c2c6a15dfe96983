"""The part of a scene that is explained: its spectra as the network takes them, and its labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.scene import Scene, Window
from hsifcn.data.split import Split
from hsifcn.data.split_recipes import distance_to
from hsifcn.data.standardise import read_bands, valid_pixels
from hsifcn.inference.bundle import Bundle

MOST_VOXELS = 64_000_000  # float32 values of the spectra that are held
MOST_PIXELS = 512 * 512
BOUNDARY = 2  # pixels from another label

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Explained:
    """The pixels that are explained.

    Attributes
    ----------
    window : Window
        Where they lie in the scene; all of it where that is not too large.
    spectra : Tensor, (1, bands, rows, cols), float32
        Standardised as the network takes them; 0 where there is no measurement.
    valid : ndarray, (rows, cols), bool
    truth : ndarray, (rows, cols), uint16
        Ground truth, 0 = unlabelled.
    train, test, boundary : ndarray, (rows, cols), bool
        Pixels that taught; that measure; those of the latter within 2 pixels of another label, or
        of the end of what is labelled.
    """

    window: Window
    spectra: Tensor
    valid: Mask
    truth: npt.NDArray[np.uint16]
    train: Mask
    test: Mask
    boundary: Mask


def read_explained(bundle: Bundle, scene: Scene, split: Split | None, window: Window) -> Explained:
    """Read and standardise the spectra of a window, and cut labels and split to it."""
    block = read_bands(scene, window, bundle.good_bands)
    valid = valid_pixels(block, scene.nodata)
    spectra = bundle.scaling.apply(block, valid)
    if split is None:
        nothing = np.zeros(valid.shape, bool)
        truth, train, test = np.zeros(valid.shape, np.uint16), nothing, nothing
    else:
        truth = split.labels[window.slices]
        train = (split.train | split.validation)[window.slices]
        test = split.test[window.slices] & valid
    return Explained(
        window=window,
        spectra=torch.from_numpy(spectra).permute(2, 0, 1)[None],
        valid=valid,
        truth=truth,
        train=train,
        test=test,
        boundary=test & near_a_change(truth),
    )


def near_a_change(labels: npt.NDArray[np.integer[Any]], pixels: int = BOUNDARY) -> Mask:
    """Pixels within so many pixels (Chebyshev) of another label; unlabelled counts as one."""
    from scipy.ndimage import maximum_filter, minimum_filter

    side = 2 * pixels + 1
    largest = maximum_filter(labels, side, mode="nearest")
    differs: Mask = largest != minimum_filter(labels, side, mode="nearest")
    return differs


def choose_window(
    shape: tuple[int, int], wanted: Mask | None, most_pixels: int, step: int
) -> Window:
    """The part of a scene to look at: all of it, or the square with most of the pixels wanted.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the scene.
    wanted : ndarray, (rows, cols), bool, or None
        None: the middle of the scene.
    most_pixels : int
    step : int
        Windows begin at multiples of it, so that the cells of the network stay the same.
    """
    rows, cols = shape
    if rows * cols <= most_pixels:
        return Window(0, 0, rows, cols)
    side = max(step, int(most_pixels**0.5))
    height = min(rows, max(side, most_pixels // cols))
    width = min(cols, max(side, most_pixels // height))
    height = min(height, max(step, most_pixels // width))
    starts = [_starts(rows, height, step), _starts(cols, width, step)]
    if wanted is None or not wanted.any():
        return Window(starts[0][len(starts[0]) // 2], starts[1][len(starts[1]) // 2], height, width)
    total = np.pad(wanted.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    top, left = np.array(starts[0])[:, None], np.array(starts[1])
    inside = (
        total[top + height, left + width]
        - total[top, left + width]
        - total[top + height, left]
        + total[top, left]
    )
    row, col = divmod(int(inside.argmax()), len(left))
    return Window(starts[0][row], starts[1][col], height, width)


def _starts(length: int, side: int, step: int) -> list[int]:
    """First rows or columns that a window may have: multiples of ``step`` within the scene."""
    return list(range(0, length - side + 1, step))


def separate_pixels(explained: Explained) -> tuple[Mask, int]:
    """Test pixels as far from training pixels as enough of them lie, and how far that is.

    Returns
    -------
    pixels : ndarray, (rows, cols), bool
    distance : int
        They lie farther than so many pixels (Chebyshev) from every training pixel.
    """
    if not explained.train.any():
        return explained.test, 0
    away = distance_to(explained.train)
    enough = max(1, min(500, explained.test.sum() // 10))
    for distance in (16, 7, 4, 2, 1):
        chosen = explained.test & (away > distance)
        if chosen.sum() >= enough:
            return chosen, distance
    return explained.test, 0
