"""How labelled pixels lie in a scene: how many fields they cover, and how far apart they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree
from torch import Tensor

from hsifcn.data.split_recipes import fields

Labels = npt.NDArray[np.integer[Any]]


def coverage(parts: Iterable[Labels]) -> float:
    """How well labels cover the fields of a scene, or of parts of it: (rows, cols), 0 = none.

    It is 0 where one field of each class is labelled and nears 1 the more are.
    """
    labelled = list(parts)
    found = {int(label) for part in labelled for label in np.unique(part) if label}
    return coverage_of(sum(int(fields(part).max(initial=0)) for part in labelled), len(found))


def coverage_of(labelled_fields: int, classes: int) -> float:
    """The same, from how many fields of how many classes are labelled."""
    return float((1 - max(classes, 1) / max(labelled_fields, classes, 1)) ** 2)


def agreement(parts: Iterable[Labels]) -> float:
    """Share of the labelled pixels whose nearest labelled pixel is of the same class.

    It nears 1 where labels lie close to each other, against the width of fields. ``parts`` are
    those of ``coverage``; 0 where no part holds two labelled pixels.
    """
    asked = agreeing = 0
    for part in parts:
        places = np.argwhere(part)
        if len(places) > 1:
            _, nearest = KDTree(places).query(places, k=2)
            labels = part[part > 0]
            asked += len(labels)
            agreeing += int((labels == labels[nearest[:, 1]]).sum())
    return agreeing / asked if asked else 0.0


def labels_at(pixels: Tensor, targets: Tensor, shape: Sequence[int]) -> npt.NDArray[np.int64]:
    """Labels (rows, cols), 0 = none, of pixels: flat indices (n,) and classes (n,) from 0."""
    labels = np.zeros(tuple(shape), np.int64)
    labels.flat[pixels.cpu().numpy()] = targets.cpu().numpy() + 1
    return labels
