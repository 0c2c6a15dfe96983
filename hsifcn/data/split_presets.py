"""Splits that papers report, by name, and where they come from.

``mambahsi`` and ``hypersigma`` are recipes. ``dase:TRAIN`` takes the training labels of Indian
Pines that the IEEE GRSS publishes (``indianpines_ts.tif``) and corrects them: as published, all 26
pixels of class 7 train, ten of them as class 11, so that class 7 cannot be tested. The ten test
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import SplitError

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Preset:
    """A recipe that a paper reports.

    Attributes
    ----------
    spec : str
        Of ``split_specs.parse_split``.
    source : str
        What is drawn, and who reports it.
    """

    spec: str
    source: str


PRESETS = {
    "mambahsi": Preset(
        "per-class:40:val=0.25",
        "30 training and 10 validation pixels a class, all others test (Li et al. 2024, MambaHSI, "
        "IEEE TGRS 62)",
    ),
    "hypersigma": Preset(
        "per-class:50",
        "50 pixels a class, validation included, all others test (Wang et al. 2024, HyperSIGMA, "
        "arXiv:2406.11519)",
    ),
}
DASE_SOURCE = (
    "the split of Indian Pines of the IEEE GRSS DASE website (dase.grss-ieee.org), but ten pixels "
    "that train as class 11 there test as class 7, which they are (found by "
    "github.com/xdrl1/SpatiallyDisjointHSI)"
)
DASE_SHAPE = (145, 145)
WRONG_IN_DASE = (
    np.array([76, 76, 76, 76, 77, 77, 77, 77, 78, 78]),
    np.array([108, 109, 110, 111, 108, 109, 110, 111, 110, 111]),
)  # rows and columns, from 0


def divide_dase(
    labels: npt.NDArray[np.integer[Any]], published: npt.NDArray[np.integer[Any]]
) -> tuple[Mask, Mask]:
    """Divide the labels of Indian Pines by the published training pixels, corrected.

    Parameters
    ----------
    labels : ndarray, (145, 145), integer
        The ground truth; 0 = unlabelled. DASE was made for Purdue's, of 10,366 pixels.
    published : ndarray, (145, 145), integer
        Training labels; only where they are not 0 counts, since DASE numbers classes otherwise.

    Returns
    -------
    training, test : ndarray, (145, 145), bool
        Training still holds the validation pixels.

    Raises
    ------
    SplitError
        They have another size.
    """
    if labels.shape != DASE_SHAPE or published.shape != DASE_SHAPE:
        raise SplitError(
            f"split dase is of Indian Pines, 145x145 pixels, and the labels are {labels.shape}",
            "use fixed:TRAIN,TEST for other scenes",
        )
    training = (published > 0) & (labels > 0)
    training[WRONG_IN_DASE] = False
    return training, (labels > 0) & ~training
