"""Default colours of classes, as colour-blind readers see them."""

from __future__ import annotations

import numpy as np
import pytest

from hsifcn.core.scene import default_colours

# Machado et al. 2009, table 1, severity 1.0: from linear RGB to what is seen of it.
SEEN = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
}  # fmt: skip
SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip
WHITE = (0.95047, 1.0, 1.08883)


def lab(linear):
    """CIELAB (n, 3) of linear RGB."""
    xyz = np.clip(linear, 0, 1) @ SRGB_TO_XYZ.T / WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


@pytest.mark.parametrize("vision", SEEN)
@pytest.mark.parametrize(("n_classes", "least"), [(9, 17), (16, 17), (24, 13)])
def test_classes_stay_apart(vision, n_classes, least):
    srgb = np.array(default_colours(n_classes)) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    colours = lab(linear @ SEEN[vision].T)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    assert apart[~np.eye(n_classes, dtype=bool)].min() >= least


def test_many_classes_have_colours_of_their_own():
    assert len(set(default_colours(200))) == 200
