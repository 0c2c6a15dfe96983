"""Two measures of how labelled pixels lie in a scene, taken from the labels alone.

Label coverage tells how many fields of each class are labelled. Nearest-label agreement tells how
far labels lie apart, against the width of fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree
from torch import Tensor

from hsifcn.data.split_recipes import fields

Labels = npt.NDArray[np.integer[Any]]


def label_coverage(parts: Iterable[Labels]) -> float:
    """How many fields of each class are labelled, from 0 to 1.

    The coverage is 0 where one field of each class is labelled and nears 1 the more fields are.

    Parameters
    ----------
    parts : iterable of ndarray, (rows, cols), integer
        Labels of scenes or of parts of a scene; 0 = unlabelled.
    """
    labelled = list(parts)
    found = {int(label) for part in labelled for label in np.unique(part) if label}
    n_fields = sum(int(fields(part).max(initial=0)) for part in labelled)
    return coverage_from_counts(n_fields, len(found))


def coverage_from_counts(labelled_fields: int, classes: int) -> float:
    """Label coverage, given how many fields of how many classes are labelled."""
    return float((1 - max(classes, 1) / max(labelled_fields, classes, 1)) ** 2)


def nearest_label_agreement(parts: Iterable[Labels]) -> float:
    """Share of the labelled pixels whose nearest labelled pixel has the same class.

    The share nears 1 where labels lie closer together than fields are wide. It is 0 where no part
    holds two labelled pixels. ``parts`` are those of ``label_coverage``.
    """
    compared = agree = 0
    for part in parts:
        places = np.argwhere(part)
        if len(places) > 1:
            _, nearest = KDTree(places).query(places, k=2)
            labels = part[part > 0]
            compared += len(labels)
            agree += int((labels == labels[nearest[:, 1]]).sum())
    return agree / compared if compared else 0.0


def labels_at(pixels: Tensor, targets: Tensor, shape: Sequence[int]) -> npt.NDArray[np.int64]:
    """Labels (rows, cols), 0 = none, of pixels: flat indices (n,) and classes (n,) from 0."""
    labels = np.zeros(tuple(shape), np.int64)
    labels.flat[pixels.cpu().numpy()] = targets.cpu().numpy() + 1
    return labels
