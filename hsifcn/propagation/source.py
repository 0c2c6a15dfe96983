"""Where a pseudo-label came from: the training pixels and spectra that a random walk ends at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import Window

MOST_TOLD = 20  # training pixels


@dataclass(frozen=True, eq=False)
class PseudoLabelSource:
    """How one pixel came by its pseudo-label.

    A random walker starts there. It ends at a training pixel, and has its class, or at a pixel
    whose class the spectral classifiers tell.

    Attributes
    ----------
    window : Window
        That labels were propagated over.
    ends : ndarray, (rows, cols), float64
        Probability of each pixel of the window that the walk ends there; they sum to 1.
    rows, cols, classes : ndarray, (n,), int64
        Training pixels of the window, by their place in the scene, and their classes from 0.
    shares : ndarray, (n,), float64
        ``ends`` of these: what each gives to the probability of its class.
    spectral : ndarray, (classes,), float64
        What the spectral classifiers give to the probability of each class.
    """

    window: Window
    ends: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]
    cols: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]
    spectral: npt.NDArray[np.float64]

    def probabilities(self) -> npt.NDArray[np.float64]:
        """Of every class, (classes,); the greatest is that of the pseudo-label."""
        taught = np.bincount(self.classes, self.shares, minlength=len(self.spectral))
        return np.asarray(taught + self.spectral)

    def record(self, pixel: tuple[int, int], class_names: Sequence[str]) -> dict[str, Any]:
        """Ready for JSON; see ``docs/files.md``. ``pixel`` is the one traced, in the scene."""
        probabilities = self.probabilities()
        label = int(probabilities.argmax())
        order = np.argsort(-self.shares, kind="stable")
        running = self.shares[order].cumsum()
        return {
            "class": class_names[label],
            "probability": float(probabilities[label]),
            "from_training_pixels": float(self.shares.sum()),
            "from_spectra": float(self.spectral.sum()),
            "classes": [
                {
                    "class": class_names[k],
                    "probability": float(probabilities[k]),
                    "from_training_pixels": float(self.shares[self.classes == k].sum()),
                    "from_spectra": float(self.spectral[k]),
                }
                for k in np.argsort(-probabilities, kind="stable").tolist()
            ],
            "training_pixels": [
                {
                    "row": int(self.rows[i]),
                    "col": int(self.cols[i]),
                    "class": class_names[self.classes[i]],
                    "share": float(self.shares[i]),
                    "distance_px": int(
                        max(abs(self.rows[i] - pixel[0]), abs(self.cols[i] - pixel[1]))
                    ),
                }
                for i in order[:MOST_TOLD].tolist()
            ],
            "n_training_pixels": len(self.shares),
            "n_with_90_percent": int((running < 0.9 * running[-1]).sum()) + 1,
        }
