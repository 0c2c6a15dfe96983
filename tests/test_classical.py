from __future__ import annotations

import sys

import numpy as np
import pytest
from scenes import field_cube, field_labels

from hsifcn.comparison.baselines import CLASSIFIERS, fit, spectral_features
from hsifcn.core.errors import SettingError
from hsifcn.data.splits import make_split


@pytest.fixture
def labels():
    return field_labels()


@pytest.fixture
def cube(labels):
    cube = field_cube(labels).astype(np.float32)
    return (cube - cube.mean((0, 1))) / cube.std((0, 1))


def test_features_are_the_spectra(cube):
    assert np.array_equal(spectral_features(cube, averaged=False).reshape(cube.shape), cube)


def test_averaged_features_are_means_of_7x7_pixels(cube):
    averaged = spectral_features(cube, averaged=True).reshape(cube.shape)
    assert averaged[10, 10] == pytest.approx(cube[7:14, 7:14].mean((0, 1)), abs=1e-4)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("averaged", [False, True])
def test_classes_that_differ_are_told_apart(cube, labels, name, averaged):
    split = make_split(labels, "random:0.3")
    features = spectral_features(cube, averaged)
    found = fit(name, features, split, seed=0).predict(features).reshape(labels.shape)
    assert (found[split.test] == labels[split.test]).mean() > 0.7


def test_test_labels_are_not_seen(cube, labels):
    split = make_split(labels, "random:0.3")
    features = spectral_features(cube, averaged=False)
    wanted = fit("svm", features, split, seed=0).predict(features)
    split.labels[split.test] = 1 + split.labels[split.test] % 3
    assert np.array_equal(fit("svm", features, split, seed=0).predict(features), wanted)


def test_without_scikit_learn_the_remedy_is_named(cube, labels, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(SettingError, match="classical"):
        fit("svm", cube.reshape(-1, cube.shape[2]), make_split(labels, "random:0.3"), seed=0)
