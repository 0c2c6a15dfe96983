"""Split specifications as text, such as ``fields:0.2:gap=2``, and what they mean."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsifcn.core.errors import Notice, SplitError
from hsifcn.data.split_presets import DASE_SOURCE, PRESETS

DEFAULT_VALIDATION = 0.05  # share of the training pixels, where a recipe names none
DEFAULT_RECIPE = "random:0.1"
DEFAULT_FOR_FEATURES = "features:0.3"  # where labels are polygons or points
SPECS = (
    "use random:0.1, per-class:50, blocks:16:gap=3:train=0.2, checkerboard:14:gap=3, "
    "fields:0.2:gap=2, features:0.3, scenes:0.3, all, fixed:TRAIN,TEST or a split.npz, each with "
    ":val=0.1 or without; or mambahsi, hypersigma or dase:TRAIN"
)

# A recipe's leading number, then its options and what they are where not given.
_KINDS: dict[str, tuple[str, dict[str, float]]] = {
    "random": ("train", {}),
    "per-class": ("count", {}),
    "blocks": ("size", {"gap": 3, "train": 0.2}),
    "checkerboard": ("size", {"gap": 3}),
    "fields": ("train", {"gap": 2}),
    "features": ("test", {}),
    "scenes": ("test", {}),
}


@dataclass(frozen=True)
class SplitRecipe:
    """A split specification, parsed; ``str()`` gives its canonical text.

    Attributes
    ----------
    kind : str
        ``random``, ``per-class``, ``blocks``, ``checkerboard``, ``fields``, ``features``,
        ``scenes``, ``all``, ``fixed``, ``dase`` or ``file``.
    train : float
        Share of training pixels: of each class (random, fields) or of all (blocks).
    test : float
        Share of test pixels of each class (features), or share of the scenes that test (scenes).
    count : int
        Training pixels a class (per-class).
    size : int
        Side of a block in pixels (blocks, checkerboard).
    gap : int
        Test pixels lie more than this many pixels from training pixels (blocks, checkerboard,
        fields).
    train_path, test_path : str
        Training and test labels (fixed); published training labels (dase).
    path : str
        File of a split (file).
    val : float
        Share of the training pixels kept for validation.
    """

    kind: str
    train: float = 0.0
    test: float = 0.0
    count: int = 0
    size: int = 0
    gap: int = 0
    train_path: str = ""
    test_path: str = ""
    path: str = ""
    val: float = DEFAULT_VALIDATION

    def __str__(self) -> str:
        if self.kind == "fixed":
            parts = [self.kind, f"{self.train_path},{self.test_path}"]
        elif self.kind == "dase":
            parts = [self.kind, self.train_path]
        elif self.kind == "file":
            parts = [self.path]
        elif self.kind == "all":
            parts = [self.kind]
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
        ``fields:0.2:gap=2``, ``features:0.3``, ``scenes:0.3``, ``all``, ``fixed:TRAIN,TEST`` or
        the path of a ``split.npz``; ``:val=0.1`` may be added to any. Or a split that papers
        report: see `split_presets`.

    Raises
    ------
    SplitError
        Anything else.

    Warns
    -----
    Notice
        What a split of that name is, and who reports it.
    """
    kind, _, rest = spec.partition(":")
    if spec in PRESETS:
        preset = PRESETS[spec]
        warnings.warn(f"split {spec} is {preset.spec}: {preset.source}", Notice, stacklevel=2)
        return parse_split(preset.spec)
    if kind == "dase":
        path, val = _without_val(rest, spec)
        if not path:
            raise SplitError(f"split '{spec}' does not name the published training labels", SPECS)
        warnings.warn(f"split dase: {DASE_SOURCE}", Notice, stacklevel=2)
        return SplitRecipe(kind, train_path=path, val=val)
    if kind == "fixed":
        files, val = _without_val(rest, spec)
        paths = files.split(",")
        if len(paths) != 2 or not all(paths):
            raise SplitError(f"split '{spec}' does not name two label files", SPECS)
        return SplitRecipe(kind, train_path=paths[0], test_path=paths[1], val=val)
    if kind == "all":
        rest, val = _without_val(spec, spec)
        if rest != kind:
            raise SplitError(f"split '{spec}' cannot take '{rest.partition(':')[2]}'", SPECS)
        return SplitRecipe(kind, val=val)
    if kind not in _KINDS:
        path, val = _without_val(spec, spec)
        if Path(path).suffix.lower() != ".npz" and not Path(path).is_file():
            raise SplitError(f"there is no split '{spec}'", SPECS)
        return SplitRecipe("file", path=path, val=val)
    return _from_numbers(kind, rest, spec)


def _without_val(text: str, spec: str) -> tuple[str, float]:
    """Take ``:val=0.1`` off the end of a text that may hold colons of its own."""
    before, separator, val = text.rpartition(":val=")
    if not separator:
        return text, DEFAULT_VALIDATION
    return before, _number("val", val, spec)


def _from_numbers(kind: str, rest: str, spec: str) -> SplitRecipe:
    """Understand a recipe of a leading number and options."""
    first, defaults = _KINDS[kind]
    value, *options = rest.split(":")
    if kind == "random" and value in ("1", "1.0"):
        return parse_split(":".join(["all", *options]))
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
    if name in ("train", "test", "val"):
        good, wanted = 0 <= number < 1 and (number > 0 or name == "val"), "a share between 0 and 1"
    else:
        good, wanted = number >= (name != "gap"), "a number of pixels"
    if not good:
        raise SplitError(f"split '{spec}' has {name} {text}", f"give {wanted}, as in 0.1 or 16")
    return number
