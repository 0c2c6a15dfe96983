"""How each split recipe divides labels into training, validation and test pixels.

random, per-class
    Pixels of each class at random: at least 3 train and at least one tests, as far as the class
    has them; ``per-class`` trains on at most half a class.
blocks
    Square blocks drawn to train; test pixels within ``gap`` of training pixels are dropped.
checkerboard
    Blocks of one colour train, shrunk by ``gap`` on every side; those of the other test.
fields
    Of each class whole fields drawn to train, the rest test, less what lies within ``gap`` of
    training pixels. The only field of a class is cut across its longest axis.
features
    Of each class whole polygons or points of a vector file drawn to test, the rest trains. The
    only feature of a class is cut across its longest axis.
scenes
    Whole scenes drawn to test, the rest trains.
all
    All pixels train, none tests.
fixed
    Training and test labels as given.
dase
    Training pixels of Indian Pines as published, corrected; see `split_presets`.

Several layouts of blocks are drawn, and of them the one is taken whose worst divided class is
divided best; a checkerboard does so with its position, where seed 0 tries all of them.

A class of under 10 training pixels gives none to validation; of the others they are drawn at
random from the training pixels, whatever the recipe. Whole training areas held out would be a
better test, but what a network misses by not learning from them outweighs a better choice of its
state. Each class has random numbers of its own, so that in ``random`` and ``per-class`` no class
affects another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hsifcn.core.errors import SplitError
from hsifcn.data.split_specs import SplitRecipe

Labels = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]
Units = npt.NDArray[np.int64]

MIN_TRAINING = 3  # pixels a class, as far as it has them
MIN_FOR_VALIDATION = 10  # training pixels a class under which it gives none
_TRAINING, _VALIDATION = 0, 1  # random streams
_LAYOUTS = 16  # of blocks, a checkerboard or scenes, drawn before the best balanced one is taken


def divide(labels: Labels, recipe: SplitRecipe, seed: int) -> tuple[Mask, Mask]:
    """Divide the labels of one scene by ``random`` to ``fields`` or ``all``.

    Parameters
    ----------
    labels : ndarray, (rows, cols), uint16
        0 = unlabelled.
    recipe, seed
        As of `splits.make_split`.

    Returns
    -------
    training, test : ndarray, (rows, cols), bool
        Training still holds the validation pixels.
    """
    if recipe.size > max(labels.shape):
        raise SplitError(f"blocks of split '{recipe}' exceed the scene", "take smaller blocks")
    if recipe.kind == "all" or not labels.any():
        return labels > 0, np.zeros(labels.shape, bool)
    if recipe.kind == "blocks":
        return _blocks(labels, recipe, seed)
    if recipe.kind == "checkerboard":
        return _checkerboard(labels, recipe, seed)
    if recipe.kind == "fields":
        return _fields(labels, recipe, seed)
    return _random(labels, recipe, seed)


def divide_scenes(labels: Sequence[Labels], recipe: SplitRecipe, seed: int) -> list[bool]:
    """Draw the scenes that test: of several draws the one whose worst divided class is best.

    Returns
    -------
    list of bool
        One a scene.
    """
    n_scenes = len(labels)
    if n_scenes < 2:
        raise SplitError(f"split '{recipe}' needs several scenes", "give more, or another split")
    n_test = min(max(1, round(recipe.test * n_scenes)), n_scenes - 1)
    n_labels = max(int(part.max()) for part in labels) + 1
    counts = np.stack([np.bincount(part.ravel(), minlength=n_labels) for part in labels])[:, 1:]
    counts = counts[:, counts.sum(axis=0) > 0]
    rng = _stream(seed, _TRAINING, 0)
    draws = [
        np.isin(np.arange(n_scenes), rng.permutation(n_scenes)[:n_test]) for _ in range(_LAYOUTS)
    ]
    shares = np.array([np.minimum(counts[t].sum(0), counts[~t].sum(0)) for t in draws])
    best = _best_balanced(shares / counts.sum(axis=0))
    return [bool(tests) for tests in draws[best]]


def divide_features(
    labels: Sequence[Labels], units: Sequence[Units], recipe: SplitRecipe, seed: int
) -> list[tuple[Mask, Mask]]:
    """Draw the polygons and points that test, a class at a time over all scenes.

    Parameters
    ----------
    labels : sequence of ndarray, (rows, cols), uint16
        One a scene; 0 = unlabelled.
    units : sequence of ndarray, (rows, cols), int64
        Number of the feature of each labelled pixel; the same in all scenes that it lies in.

    Returns
    -------
    list of (training, test), ndarray, (rows, cols), bool
        One a scene.
    """
    tests = [np.zeros(part.shape, bool) for part in labels]
    all_labels = np.concatenate([part[part > 0] for part in labels])
    all_units = np.concatenate([own[part > 0] for part, own in zip(labels, units, strict=True)])
    for label in np.unique(all_labels).tolist():
        rng = _stream(seed, _TRAINING, label)
        found, sizes = np.unique(all_units[all_labels == label], return_counts=True)
        if len(found) == 1:
            scene = int(np.argmax([np.count_nonzero(part == label) for part in labels]))
            pixels = np.flatnonzero(labels[scene] == label)
            n_test = len(pixels) - _training_count(1 - recipe.test, len(pixels))
            chosen = _end(pixels, n_test, labels[scene].shape[1], rng)
            tests[scene].flat[chosen] = True
            continue
        drawn = found[_fill(rng.permutation(len(found)), sizes, recipe.test * sizes.sum())]
        for part, own, test in zip(labels, units, tests, strict=True):
            test |= (part == label) & np.isin(own, drawn)
    return [((part > 0) & ~test, test) for part, test in zip(labels, tests, strict=True)]


def take_validation(labels: Labels, training: Mask, recipe: SplitRecipe, seed: int) -> Mask:
    """Choose the validation pixels among the training pixels, class by class."""
    validation = np.zeros(labels.shape, bool)
    training_labels = np.where(training, labels, 0)
    for label, pixels in _classes(training_labels):
        n = len(pixels)
        if n < MIN_FOR_VALIDATION or recipe.val == 0:
            continue
        n_wanted = min(max(1, round(recipe.val * n)), n - 1)
        rng = _stream(seed, _VALIDATION, label)
        validation.flat[rng.permutation(pixels)[:n_wanted]] = True
    return validation


def fields(labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
    """Give every field, an 8-connected area of one label, a number.

    Parameters
    ----------
    labels : ndarray, (rows, cols), integer
        0 = unlabelled.

    Returns
    -------
    ndarray, (rows, cols), int32
        Field numbers from 1, label by label; 0 where unlabelled.
    """
    numbers = np.zeros(labels.shape, np.int32)
    n_fields = 0
    for index, box in enumerate(ndimage.find_objects(labels.astype(np.int32))):
        if box is None:
            continue
        own, n_own = ndimage.label(labels[box] == index + 1, np.ones((3, 3)))
        own[own > 0] += n_fields
        numbers[box] += own
        n_fields += n_own
    return numbers


def distance_to(pixels: Mask) -> npt.NDArray[np.int32]:
    """Chebyshev distance of every pixel to the nearest of ``pixels``, in pixels."""
    distances = ndimage.distance_transform_cdt(~pixels, metric="chessboard")
    return np.asarray(distances, np.int32)


def _random(labels: Labels, recipe: SplitRecipe, seed: int) -> tuple[Mask, Mask]:
    training = np.zeros(labels.shape, bool)
    for label, pixels in _classes(labels):
        n = len(pixels)
        if recipe.kind == "random":
            n_train = _training_count(recipe.train, n)
        else:
            n_train = max(1, min(recipe.count, n // 2))
        chosen = _stream(seed, _TRAINING, label).permutation(pixels)[:n_train]
        training.flat[chosen] = True
    return training, (labels > 0) & ~training


def _fields(labels: Labels, recipe: SplitRecipe, seed: int) -> tuple[Mask, Mask]:
    training = np.zeros(labels.shape, bool)
    numbers = fields(labels)
    for label, pixels in _classes(labels):
        rng = _stream(seed, _TRAINING, label)
        own, sizes = np.unique(numbers.flat[pixels], return_counts=True)
        if len(own) == 1:
            n_train = _training_count(recipe.train, len(pixels))
            chosen = _end(pixels, n_train, labels.shape[1], rng)
        else:
            drawn = _fill(rng.permutation(len(own)), sizes, recipe.train * len(pixels))
            chosen = pixels[np.isin(numbers.flat[pixels], own[drawn])]
        training.flat[chosen] = True
    return _with_gap(labels, training, recipe.gap)


def _blocks(labels: Labels, recipe: SplitRecipe, seed: int) -> tuple[Mask, Mask]:
    rows, cols = (np.arange(n) // recipe.size for n in labels.shape)
    numbers = rows[:, np.newaxis] * (cols[-1] + 1) + cols
    labelled = labels > 0
    blocks, block_of = np.unique(numbers[labelled], return_inverse=True)
    if len(blocks) == 1:
        raise SplitError(f"one block of split '{recipe}' holds all labels", "take smaller blocks")
    sizes, n = np.bincount(block_of), np.bincount(labels[labelled])
    held = np.zeros((len(blocks), len(n)), bool)
    held[block_of, labels[labelled]] = True
    rng = _stream(seed, _TRAINING, 0)
    layouts, shares = [], []
    for _ in range(_LAYOUTS):
        order = rng.permutation(len(blocks))
        # One block of each class that has several comes first.
        first = np.unique(held[order].argmax(axis=0)[held.sum(axis=0) > 1])
        order = np.concatenate([order[first], np.delete(order, first)])
        layout = blocks[_fill(order, sizes, recipe.train * sizes.sum())]
        sides = _with_gap(labels, labelled & np.isin(numbers, layout), recipe.gap)
        n_train, n_test = (np.bincount(labels[side], minlength=len(n)) for side in sides)
        layouts.append(layout)
        shares.append(np.minimum(n_train, n_test)[n > 0] / n[n > 0])
    best = layouts[_best_balanced(np.array(shares))]
    return _with_gap(labels, labelled & np.isin(numbers, best), recipe.gap)


def _checkerboard(labels: Labels, recipe: SplitRecipe, seed: int) -> tuple[Mask, Mask]:
    size, period = recipe.size, 2 * recipe.size
    # A shift by one block across swaps the colours, so that down one block is enough.
    down, across = (np.arange(0, stop, max(1, size // 16)) for stop in (size, period))
    inner_rows, inner_cols = (_bands(period, shifts, size, recipe.gap) for shifts in (down, across))
    all_rows, all_cols = (_bands(period, shifts, size, 0) for shifts in (down, across))
    shares = []
    for _, pixels in _classes(labels):
        rows, cols = np.divmod(pixels, labels.shape[1])
        places = np.bincount(rows % period * period + cols % period, minlength=period**2)
        counts = places.reshape(period, period).astype(np.float64)
        n_train = sum(inner_rows[k] @ counts @ inner_cols[k].T for k in (0, 1))
        n_test = sum(all_rows[k] @ counts @ all_cols[1 - k].T for k in (0, 1))
        shares.append(np.minimum(n_train, n_test).ravel() / len(pixels))
    by_position = np.stack(shares, axis=1)
    tried = np.arange(len(by_position))
    if seed:
        tried = _stream(seed, _TRAINING, 0).choice(tried, min(_LAYOUTS, len(tried)), False)
    row, col = divmod(int(tried[_best_balanced(by_position[tried])]), len(across))

    def blocks(gap: int, colour: int) -> Mask:
        rows = _bands(labels.shape[0], down[[row]], size, gap)[:, 0, :, np.newaxis]
        cols = _bands(labels.shape[1], across[[col]], size, gap)[:, 0, np.newaxis, :]
        mask: Mask = (labels > 0) & ((rows[0] & cols[colour]) | (rows[1] & cols[1 - colour]))
        return mask

    return blocks(recipe.gap, 0), blocks(0, 1)


def _with_gap(labels: Labels, training: Mask, gap: int) -> tuple[Mask, Mask]:
    """Training pixels, and as test pixels all others beyond the gap."""
    return training, (labels > 0) & (distance_to(training) > gap)


def _bands(n: int, shifts: Indices, size: int, gap: int) -> Mask:
    """Where n places lie in even and in odd blocks, less the gap: (2, shifts, n)."""
    places = np.arange(n) + shifts[:, np.newaxis]
    inner = (places % size >= gap) & (places % size < size - gap)
    odd = places // size % 2 == 1
    return np.stack([inner & ~odd, inner & odd])


def _best_balanced(shares: npt.NDArray[np.float64]) -> int:
    """Which row has the largest least share; among equals the next to least decides, and so on."""
    ranked = np.sort(shares, axis=1).tolist()
    return int(ranked.index(max(ranked)))


def _fill(order: Indices, sizes: Indices, target: float) -> list[int]:
    """Take parts in order as each brings their sum nearer to the target; never none, never all."""
    taken: list[int] = []
    total = 0
    for part in order.tolist():
        if abs(total + sizes[part] - target) < abs(total - target):
            taken.append(part)
            total += sizes[part]
    if not taken:
        taken.append(int(sizes.argmin()))
    return taken if len(taken) < len(sizes) else taken[:-1]


def _training_count(share: float, n: int) -> int:
    """Training pixels of a class of n: a share, at least 3, leaving one to test if there are 2."""
    return min(max(MIN_TRAINING, round(share * n)), max(n - 1, 1))


def _end(pixels: Indices, n: int, n_cols: int, rng: np.random.Generator) -> Indices:
    """Cut n pixels off either end of a piece, by a straight line across its longest axis."""
    rows, cols = np.divmod(pixels, n_cols)
    down, across = _longest_axis(pixels, n_cols) * rng.choice([-1, 1])
    return pixels[np.argsort(rows * down + cols * across, kind="stable")[:n]]


def _longest_axis(pixels: Indices, n_cols: int) -> npt.NDArray[np.float64]:
    """Direction (down, across) in which pixels spread most."""
    places = np.stack(np.divmod(pixels, n_cols)).astype(np.float64)
    places -= places.mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(places @ places.T)
    axis = axes[:, -1]
    # Which of the two opposite directions is returned differs between machines.
    return np.asarray(axis if axis[np.abs(axis).argmax()] > 0 else -axis, np.float64)


def _classes(labels: Labels) -> Iterator[tuple[int, Indices]]:
    """Every label with the flat indices of its pixels, in ascending order."""
    pixels = np.flatnonzero(labels)
    values = labels.flat[pixels]
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=0))
    for own in np.split(pixels[order], starts)[1:]:
        yield int(labels.flat[own[0]]), own


def _stream(seed: int, purpose: int, label: int) -> np.random.Generator:
    """Random numbers of one class for one purpose."""
    return np.random.default_rng([seed, purpose, label])
