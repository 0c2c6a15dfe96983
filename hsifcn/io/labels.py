"""Labels: checks on what a file gives, and where the labels of a scene lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import LabelError
from hsifcn.core.scene import LabelMap, default_class_names, default_colours
from hsifcn.io.alignment import Target, align
from hsifcn.io.classes import require_class_numbers
from hsifcn.io.formats import GivenLabels

_SCENE_ENDINGS = ("_corrected", "_cube")
_LABEL_ENDINGS = ("_gt", "_labels")


def label_map(
    path: str, given: GivenLabels, class_names: Sequence[str] = (), target: Target | None = None
) -> LabelMap:
    """Check labels, put them on the pixels of a scene, give every class a name and a colour.

    Parameters
    ----------
    path : str
        The file, for messages.
    given : GivenLabels
        Its content.
    class_names : sequence of str
        Names of classes 1, 2, ... that go before those of the file.
    target : Target, optional
        Where the labels are wanted; as the file has them otherwise.

    Raises
    ------
    LabelError
        They are not labels: see ``open_labels``.
    MismatchError
        They do not fit the target: see ``alignment.align``.
    """
    labels, grid = _checked(path, given.array), given.grid
    if target is not None:
        labels = align(path, labels, grid, target)
        grid = target.grid or grid
    names = tuple(class_names) or given.class_names
    n_classes = max(int(labels.max()), len(names))
    return LabelMap(
        labels=labels,
        class_names=(*names, *default_class_names(n_classes)[len(names) :]),
        colours=(*given.colours, *default_colours(n_classes)[len(given.colours) :])[:n_classes],
        grid=grid,
    )


def labels_beside(scene: str, suffixes: Sequence[str], label_suffixes: Sequence[str]) -> list[str]:
    """Find files named after a scene: its stem, or what comes before "_corrected", with "_gt".

    Parameters
    ----------
    scene : str
        The scene's file.
    suffixes, label_suffixes : sequence of str
        Of all rasters; of files that may be labels.
    """
    stem = _bare_name(Path(scene), suffixes)
    stems = [stem, *(stem[: -len(end)] for end in _SCENE_ENDINGS if stem.endswith(end))]
    wanted = {stem + ending for stem in stems for ending in _LABEL_ENDINGS}
    return [
        str(file)
        for file in sorted(Path(scene).parent.iterdir())
        if file.suffix.lower() in label_suffixes
        and _bare_name(file, suffixes) in wanted
        and file.is_file()
    ]


def _bare_name(path: Path, suffixes: Sequence[str]) -> str:
    """Name without suffixes, ``x.img.hdr`` being ``x``, in one case."""
    while path.suffix.lower() in suffixes:
        path = path.with_suffix("")
    return path.name.casefold()


def _checked(path: str, labels: npt.NDArray[Any]) -> npt.NDArray[np.integer[Any]]:
    if labels.ndim == 3 and labels.shape[2] == 1:
        labels = labels[:, :, 0]
    if labels.ndim != 2:
        raise LabelError(f"{path} has the shape {labels.shape}", "a label map is (rows, cols)")
    require_class_numbers(path, labels)
    if not labels.any():
        raise LabelError(f"{path} labels no pixel", "classes are counted from 1")
    return np.ascontiguousarray(labels, dtype=np.uint8 if labels.max() < 256 else np.uint16)
