"""The references that every practitioner knows: SVM, random forest and perceptron on spectra.

On single spectra, or on spectra averaged over 7x7 pixels. Needs scikit-learn, the extra
``classical``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import uniform_filter

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import Scene
from hsifcn.data.splits import Split
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.predictor import check_scene
from hsifcn.models import MODELS
from hsifcn.models.layers import ConvBlock
from hsifcn.training.patches import Patches
from hsifcn.training.scenes import read_standardised

MEAN_FILTER = 7  # side in pixels of the averaging window
CLASSIFIERS = ("svm", "rf", "mlp")


def spectral_features(cube: npt.NDArray[np.float32], averaged: bool) -> npt.NDArray[np.float32]:
    """Features of every pixel, (rows * cols, bands), of a standardised (rows, cols, bands) cube."""
    if averaged:
        cube = uniform_filter(cube, size=(MEAN_FILTER, MEAN_FILTER, 1), mode="nearest")
    return cube.reshape(-1, cube.shape[2])


def fit(name: str, features: npt.NDArray[np.float32], split: Split, seed: int) -> Any:
    """Fit a classifier on the training and validation pixels.

    The SVM's C and gamma are chosen by three-fold cross-validation on those pixels.

    Raises
    ------
    SettingError
        scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.model_selection import GridSearchCV
        from sklearn.neural_network import MLPClassifier
        from sklearn.svm import SVC
    except ImportError as error:
        raise SettingError(
            f"{name} needs scikit-learn", "pip install 'hsifcn[classical]'"
        ) from error
    seen = (split.train | split.validation).ravel()
    spectra, labels = features[seen], split.labels.ravel()[seen]
    if name == "rf":
        forest = RandomForestClassifier(500, random_state=seed, n_jobs=-1)
        return forest.fit(spectra, labels)
    if name == "mlp":
        return MLPClassifier((128, 64), max_iter=200, random_state=seed).fit(spectra, labels)
    gammas = [factor / features.shape[1] for factor in (0.03, 0.1, 0.3, 1.0)]
    grid = {"C": [1.0, 10.0, 100.0, 1000.0], "gamma": gammas}
    search = GridSearchCV(SVC(), grid, cv=3, n_jobs=1)
    return search.fit(spectra, labels).best_estimator_


class PatchPredictor:
    """A patch CNN that scores the window round each pixel.

    Parameters
    ----------
    bundle : Bundle
        Of a patch model.
    materialised : bool
        Store the windows of all pixels first, as most code does, instead of gathering them batch
        by batch.
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    """

    def __init__(self, bundle: Bundle, *, materialised: bool, device: str = "cpu") -> None:
        patch = MODELS[bundle.spec.name].patch
        assert patch is not None
        self.patch = patch
        self.bundle = bundle
        self.materialised = materialised
        self.device = torch.device(device)
        self.network = bundle.network().to(self.device)
        for block in [m for m in self.network.modules() if isinstance(m, ConvBlock)]:
            block.fold()

    @torch.inference_mode()
    def whole_scene_logits(self, scene: Scene) -> npt.NDArray[np.float32]:
        """Logits of every pixel, (classes, rows, cols)."""
        check_scene(self.bundle, scene)
        cube, _ = read_standardised(scene, self.bundle.good_bands, self.bundle.scaling)
        rows, cols = scene.shape[:2]
        pixels = torch.arange(rows * cols, device=self.device)
        patches = Patches([(cube.to(self.device), pixels)], self.patch, self.materialised)
        scores = torch.cat([self.network(chunk)[:, :, 0, 0] for chunk in patches.chunks()])
        scores = scores / self.bundle.temperature
        logits: npt.NDArray[np.float32] = scores.t().reshape(-1, rows, cols).cpu().numpy()
        return logits
