"""The references that every practitioner knows: SVM, random forest and perceptron on spectra.

On single spectra, or on spectra averaged over 7x7 pixels. Needs scikit-learn, the extra
``classical``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from hsifcn.core.errors import SettingError
from hsifcn.data.splits import Split

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
