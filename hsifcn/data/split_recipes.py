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
fixed
    Training and test labels as given.

Several layouts of blocks are drawn, and of them the one is taken whose worst divided class is
divided best; a checkerboard does so with its position, where seed 0 tries all of them.

A class of under 10 training pixels gives none to validation; of the others they are drawn at
random from the training pixels, whatever the recipe. Whole training areas held out would be a
better test, but what a network misses by not learning from them outweighs a better choice of its
state. Each class has random numbers of its own, so that in ``random`` and ``per-class`` no class
affects another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hsifcn.core.errors import SplitError

Labels = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

DEFAULT_VALIDATION = 0.05  # share of the training pixels, where a recipe names none
MIN_TRAINING = 3  # pixels a class, as far as it has them
MIN_FOR_VALIDATION = 10  # training pixels a class under which it gives none
SPECS = (
    "use random:0.1, per-class:50, blocks:16:gap=3:train=0.2, checkerboard:14:gap=3, "
    "fields:0.2:gap=2 or fixed:TRAIN,TEST, each with :val=0.1 or without"
)

# A recipe's leading number, then its options and what they are where not given.
_KINDS: dict[str, tuple[str, dict[str, float]]] = {
    "random": ("train", {}),
    "per-class": ("count", {}),
    "blocks": ("size", {"gap": 3, "train": 0.2}),
    "checkerboard": ("size", {"gap": 3}),
    "fields": ("train", {"gap": 2}),
}
_TRAINING, _VALIDATION = 0, 1  # random streams
_LAYOUTS = 16  # of blocks or a checkerboard, drawn before the best balanced one is taken


@dataclass(frozen=True)
class SplitRecipe:
    """A split specification, parsed; ``str()`` gives its canonical text.

    Attributes
    ----------
    kind : str
        ``random``, ``per-class``, ``blocks``, ``checkerboard``, ``fields`` or ``fixed``.
    train : float
        Share of training pixels: of each class (random, fields) or of all (blocks).
    count : int
        Training pixels a class (per-class).
    size : int
        Side of a block in pixels (blocks, checkerboard).
    gap : int
        Test pixels lie more than this many pixels from training pixels (blocks, checkerboard,
        fields).
    train_path, test_path : str
        Training and test labels (fixed).
    val : float
        Share of the training pixels kept for validation.
    """

    kind: str
    train: float = 0.0
    count: int = 0
    size: int = 0
    gap: int = 0
    train_path: str = ""
    test_path: str = ""
    val: float = DEFAULT_VALIDATION

    def __str__(self) -> str:
        if self.kind == "fixed":
            parts = [self.kind, f"{self.train_path},{self.test_path}"]
        else:
            first, options = _KINDS[self.kind]
            parts = [self.kind, str(getattr(self, first))]
            parts += [f"{name}={getattr(self, name)}" for name in options]
        if self.val != DEFAULT_VALIDATION:
            parts.append(f"val={self.val}")
        return ":".join(parts)


def parse_split(spec: str) -> SplitRecipe:
    """Understand a split specification.

    Parameters
    ----------
    spec : str
        ``random:0.1``, ``per-class:50``, ``blocks:16:gap=3:train=0.2``, ``checkerboard:14:gap=3``,
        ``fields:0.2:gap=2`` or ``fixed:TRAIN,TEST``; ``:val=0.1`` may be added to any.

    Raises
    ------
    SplitError
        Anything else.
    """
    kind, _, rest = spec.partition(":")
    if kind == "fixed":
        # Paths may hold colons, so only a last val= is an option.
        files, separator, val = rest.rpartition(":val=")
        paths = (files if separator else val).split(",")
        if len(paths) != 2 or not all(paths):
            raise SplitError(f"split '{spec}' does not name two label files", SPECS)
        share = _number("val", val, spec) if separator else DEFAULT_VALIDATION
        return SplitRecipe(kind, train_path=paths[0], test_path=paths[1], val=share)
    if kind not in _KINDS:
        raise SplitError(f"there is no split '{spec}'", SPECS)
    first, defaults = _KINDS[kind]
    value, *options = rest.split(":")
    given = {first: _number(first, value, spec)}
    for option in options:
        name, _, text = option.partition("=")
        if name in given or name not in (*defaults, "val"):
            raise SplitError(f"split '{spec}' cannot take '{option}'", SPECS)
        given[name] = _number(name, text, spec)
    settings: dict[str, Any] = {**defaults, **given}
    if kind == "checkerboard" and settings["size"] <= 2 * settings["gap"]:
        raise SplitError(f"split '{spec}' leaves nothing of blocks less the gap", SPECS)
    return SplitRecipe(kind, **settings)


def _number(name: str, text: str, spec: str) -> float:
    """Read a number of a specification: an integer for sizes and counts, else a share."""
    try:
        number = int(text) if name in ("count", "size", "gap") else float(text)
    except ValueError:
        raise SplitError(f"split '{spec}' has no number in '{text}'", SPECS) from None
    if name in ("train", "val"):
        good, wanted = 0 <= number < 1 and (number > 0 or name == "val"), "a share between 0 and 1"
    else:
        good, wanted = number >= (name != "gap"), "a number of pixels"
    if not good:
        raise SplitError(f"split '{spec}' has {name} {text}", f"give {wanted}, as in 0.1 or 16")
    return number


def divide(labels: Labels, recipe: SplitRecipe, seed: int) -> tuple[Mask, Mask]:
    """Divide labels by any recipe but ``fixed``.

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
    if recipe.kind == "blocks":
        return _blocks(labels, recipe, seed)
    if recipe.kind == "checkerboard":
        return _checkerboard(labels, recipe, seed)
    if recipe.kind == "fields":
        return _fields(labels, recipe, seed)
    return _random(labels, recipe, seed)


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
