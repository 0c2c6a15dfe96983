"""Scenes that a network does not know, and the classifier of single spectra that counts there.

What is expected is worked out with NumPy alone, or is the map of the network as it was.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from cli_helpers import ROOT, command
from scenes import ArrayScene
from scipy.io import loadmat

from hsifcn.core.errors import UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.core.tiles import plan_tiles
from hsifcn.data.standardise import divided_by_length
from hsifcn.inference.bundle import load_model
from hsifcn.inference.predict import PredictOptions, fit_scene
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.rotation import RotationCheck, changed_share, check_rotation
from hsifcn.inference.spectral_classifier import SpectralClassifier, SpectralShare
from hsifcn.io import open_scene
from hsifcn.training.scenes import LabelledScene
from hsifcn.training.spectral_classifier import (
    fit_spectral_classifier,
    labelled_spectra,
    noise_covariance,
)

CUBE = ROOT / "data" / "indian_pines_corrected.mat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The north and the south of the bundled scene, and a model of the north."""
    folder = tmp_path_factory.mktemp("halves")
    scene = open_scene(CUBE)
    cube = scene.read(Window(0, 0, *scene.shape[:2]))
    truth = loadmat(ROOT / "data" / "indian_pines_gt.mat")["indian_pines_gt"]
    np.save(folder / "north.npy", cube[:72])
    np.save(folder / "north_gt.npy", truth[:72])
    np.save(folder / "south.npy", cube[72:])
    done = command(folder, "train", "north.npy", "--steps", "120", "-q")
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def bundle(folder):
    return load_model(folder / "runs" / "north" / "model.safetensors")


@pytest.mark.slow
def test_the_command_tells_of_a_scene_that_the_network_does_not_know(folder):
    home = command(folder, "predict", "runs/north", "north.npy", "-o", "n.npy", "--json")
    away = command(folder, "predict", "runs/north", "south.npy", "-o", "s.npy", "--json")
    assert home.code == away.code == 0, away.err
    assert home.json["rotation"]["spectral_weight"] == 0
    assert "does not know" not in home.err
    found = away.json["rotation"]
    assert found["changed"] > 1.6 * found["changed_in_training"]
    assert 0 < found["spectral_weight"] <= 1
    assert "warning: south.npy: the network does not know this scene" in away.err
    assert json.loads((folder / "s.npy.json").read_text())["rotation"] == found


@pytest.mark.slow
def test_the_network_decides_alone_where_it_knows_the_scene(folder, bundle):
    scene = open_scene(folder / "north.npy")
    predictor, fit = fit_scene(bundle, scene, PredictOptions(adapt=True))
    assert fit.rotation.known
    assert not fit.adapted  # there is nothing to undo
    np.testing.assert_array_equal(predictor.label_map(scene), Predictor(bundle).label_map(scene))


@pytest.mark.slow
def test_scores_are_the_mean_of_those_of_both(folder, bundle):
    scene, window = open_scene(folder / "south.npy"), Window(10, 20, 30, 40)
    network, _ = Predictor(bundle).scores(scene, window)
    both, _ = Predictor(bundle).sharing(SpectralShare(0.5, 2.0)).scores(scene, window)
    spectra = scene.read(window).astype(np.float64)[..., bundle.good_bands]
    spectra /= np.linalg.norm(spectra, axis=-1, keepdims=True)
    classifier = bundle.spectral_classifier
    linear = spectra @ classifier.directions + classifier.offsets
    wanted = (network.numpy() + 0.5 * linear.transpose(2, 0, 1)) / 1.5 / 2
    np.testing.assert_allclose(both.numpy(), wanted, atol=0.02)


@pytest.mark.slow
def test_confidence_in_an_unknown_scene_is_that_of_fields_left_out(folder, bundle):
    scene = open_scene(folder / "south.npy")
    unknown = replace(bundle, changed_when_turned=0.0)
    predictor, fit = fit_scene(unknown, scene, PredictOptions())
    _, confidence = predictor.labels_and_confidence(scene)
    assert fit.rotation.spectral_weight == 1
    assert 0.2 < bundle.spectral_classifier.expected_oa < 0.9
    assert confidence.mean() == pytest.approx(bundle.spectral_classifier.expected_oa, abs=0.05)


@pytest.mark.slow
def test_tiles_equal_the_whole_scene(folder, bundle):
    scene = open_scene(folder / "south.npy")
    predictor = Predictor(bundle).sharing(SpectralShare(1.0, 1.5))
    whole = predictor.whole_scene_logits(scene)
    halo = predictor.geometry.halo
    tiles = plan_tiles(*scene.shape[:2], tile=(32, 64), halo=halo, stride=32)
    tile = tiles[-1]
    part, _ = predictor.scores(scene, tile.read)
    inner = part[(slice(None), *tile.core.slices_in(tile.read))].numpy()
    np.testing.assert_allclose(inner, whole[(slice(None), *tile.core.slices)], atol=1e-2)


def test_the_discriminant_is_that_of_a_direct_computation():
    """Of noise-whitened spectra, half of the covariance replaced by the identity's multiple."""
    rng = np.random.default_rng(0)
    means = rng.uniform(1, 2, (3, 6))
    truth = np.repeat(np.arange(3), 400).reshape(30, 40)
    cube = means[truth] + 0.05 * rng.standard_normal((30, 40, 6)) * np.linspace(0.5, 2, 6)
    labels = np.zeros((30, 40), np.uint16)
    labels[::2, ::2] = truth[::2, ::2] + 1  # no two neighbours, so each counts fully
    scene = LabelledScene(ArrayScene(cube), labels, np.zeros_like(labels), None)
    seen = [scene], np.ones(6, bool), True
    learnt = *labelled_spectra(*seen), noise_covariance(*seen)
    found, wider = (fit_spectral_classifier(*learnt, classes) for classes in (3, 4))

    seen = divided_by_length(cube).astype(np.float64)
    steps = [seen[1:] - seen[:-1], seen[:, 1:] - seen[:, :-1]]
    windows = [part[:29, :31] for part in steps]  # the windows looked at hold 30 x 32 pixels
    noise = np.mean([np.cov(part.reshape(-1, 6).T, bias=True) for part in windows], axis=0) / 2
    spectra, targets = seen[labels > 0], truth[labels > 0]
    centres = np.stack([spectra[targets == k].mean(0) for k in range(3)])
    within = np.cov((spectra - centres[targets]).T, bias=True)
    level = np.trace(np.linalg.solve(noise, within)) / 6
    covariance = 0.5 * within + 0.5 * level * noise
    wanted = np.linalg.solve(covariance, centres.T)

    scores = seen @ found.directions + found.offsets
    direct = seen @ wanted - 0.5 * np.sum(centres.T * wanted, axis=0)
    assert (scores.argmax(-1) == direct.argmax(-1)).mean() > 0.99
    assert (scores.argmax(-1) == truth).mean() > 0.95
    # A class without a labelled pixel is never chosen, and changes nothing else.
    assert ((seen @ wider.directions + wider.offsets).argmax(-1) == scores.argmax(-1)).all()
    assert found.expected_oa == pytest.approx((scores.argmax(-1) == truth).mean(), abs=0.05)


@pytest.mark.slow
def test_pixels_that_change_are_counted(bundle):
    class Stub:
        """Gives class 1 to the upper half of what it is shown, whatever that is."""

        def __init__(self):
            self.bundle = bundle

        def score_blocks(self, blocks, window):
            logits = torch.zeros(2, window.rows, window.cols)
            logits[1, : window.rows // 4] = 1
            return logits, None, next(blocks)[1]

    scene = ArrayScene(np.ones((64, 64, len(bundle.good_bands)), np.float32))
    assert changed_share(Stub(), [scene]) == 0.5  # a quarter, and the quarter it becomes
    few = ArrayScene(np.ones((9, 9, len(bundle.good_bands)), np.float32))
    assert changed_share(Stub(), [few]) is None


def test_weights_rise_with_the_share_of_pixels_that_change():
    weights = [RotationCheck(changed, 0.02).spectral_weight for changed in np.linspace(0, 0.5, 40)]
    assert weights == sorted(weights)
    assert weights[0] == 0
    assert weights[-1] == 1
    assert RotationCheck(0.021, 0.02).warning() is None


@pytest.mark.slow
def test_older_models_map_as_before(folder, bundle):
    scene = open_scene(folder / "south.npy")
    older = replace(bundle, spectral_classifier=None, changed_when_turned=None)
    assert check_rotation(Predictor(older), scene) is None
    predictor, fit = fit_scene(older, scene, PredictOptions())
    assert fit.rotation is None
    np.testing.assert_array_equal(predictor.label_map(scene), Predictor(older).label_map(scene))


@pytest.mark.slow
def test_the_classifier_is_kept_with_the_model(bundle, tmp_path):
    bundle.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    np.testing.assert_allclose(
        loaded.spectral_classifier.directions, bundle.spectral_classifier.directions, rtol=1e-6
    )
    assert loaded.changed_when_turned == bundle.changed_when_turned
    damaged = SpectralClassifier(bundle.spectral_classifier.directions[:-1], np.zeros(16))
    replace(bundle, spectral_classifier=damaged).save(tmp_path / "d.safetensors")
    with pytest.raises(UnreadableFileError, match="spectral classifier is damaged"):
        load_model(tmp_path / "d.safetensors")
