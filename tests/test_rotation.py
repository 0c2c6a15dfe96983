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
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hsifcn.core.errors import UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.core.tiles import plan_tiles
from hsifcn.data.standardise import Scaling, divided_by_length
from hsifcn.inference.bundle import load_model
from hsifcn.inference.predict import PredictOptions, fit_scene
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.rotation import RotationCheck, changed_share, check_rotation
from hsifcn.inference.spectral_classifier import SpectralShare
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
    assert f"it was right in {100 * found['expected_oa']:.0f} %" in away.err
    assert json.loads((folder / "s.npy.json").read_text())["rotation"] == found


@pytest.mark.slow
def test_the_network_decides_alone_where_it_knows_the_scene(folder, bundle):
    scene = open_scene(folder / "north.npy")
    predictor, fit = fit_scene(bundle, scene, PredictOptions(adapt=True))
    assert fit.rotation.known
    assert not fit.adapted  # there is nothing to undo
    np.testing.assert_array_equal(predictor.label_map(scene), Predictor(bundle).label_map(scene))


def scores_by_numpy(classifier, cube):
    """Scores of a spectral classifier (rows, cols, classes), by NumPy in double precision."""
    spectra = cube.astype(np.float64)
    spectra /= np.linalg.norm(spectra, axis=-1, keepdims=True)
    spectra -= classifier.centre
    scores = spectra @ classifier.directions.astype(np.float64) + classifier.offsets
    for kernel in classifier.kernels:
        features = spectra @ kernel.projection.astype(np.float64)
        for point, coefficients in zip(kernel.points, kernel.coefficients, strict=True):
            distance = ((features - point) ** 2).sum(-1)
            scores += np.exp(-distance)[..., None] * coefficients
    return scores


@pytest.mark.slow
def test_scores_are_the_weighted_mean_of_those_of_both(folder, bundle):
    scene, window = open_scene(folder / "south.npy"), Window(10, 20, 30, 40)
    network, _ = Predictor(bundle).scores(scene, window)
    both, _ = Predictor(bundle).sharing(SpectralShare(0.25)).scores(scene, window)
    assert bundle.spectral_classifier.kernels
    own = scores_by_numpy(bundle.spectral_classifier, scene.read(window)[..., bundle.good_bands])
    wanted = 0.75 * network.numpy() + 0.25 * own.transpose(2, 0, 1)
    np.testing.assert_allclose(both.numpy(), wanted, atol=0.02)


@pytest.mark.slow
def test_scores_are_refined_where_fields_are_wide(folder, bundle):
    """Fields of Indian Pines are wide, so fewer neighbours differ than by spectra alone."""
    scene = open_scene(folder / "south.npy")
    unknown = replace(bundle, changed_when_turned=0.0)
    assert bundle.spectral_classifier.smoothing > 2
    predictor, _ = fit_scene(unknown, scene, PredictOptions())
    assert predictor.refinement.method == "crf"
    alone = Predictor(bundle).sharing(SpectralShare(1.0))
    changes = [
        np.count_nonzero(np.diff(one.label_map(scene).astype(int), axis=1))
        for one in (predictor, alone)
    ]
    assert changes[0] < 0.7 * changes[1]
    asked, _ = fit_scene(unknown, scene, PredictOptions(refine="mrf"))
    assert asked.refinement.method == "mrf"  # what the user asks for counts


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


def made_scene(seed=0, mixed=False):
    """Three classes of 6 bands and labels at a quarter of the pixels, none beside another.

    Where ``mixed``, class 3 is of two kinds on both sides of class 1: no line parts them.
    """
    rng = np.random.default_rng(seed)
    means = rng.uniform(1, 2, (4, 6))
    kinds = np.repeat(np.arange(4), 300).reshape(30, 40)
    if mixed:
        means[3] = 2 * means[0] - means[2]
    truth = np.minimum(kinds, 2)
    cube = means[kinds] + 0.05 * rng.standard_normal((30, 40, 6)) * np.linspace(0.5, 2, 6)
    labels = np.zeros((30, 40), np.uint16)
    labels[::2, ::2] = truth[::2, ::2] + 1
    return cube, truth, LabelledScene(ArrayScene(cube), labels, np.zeros_like(labels), None)


def fitted(cube, scene, classes=3, **options):
    spectra = divided_by_length(cube).reshape(-1, 6)
    scaling = Scaling(spectra.mean(0), spectra.std(0), unit_length=True)
    seen = [scene], np.ones(6, bool), True
    learnt = *labelled_spectra(*seen), noise_covariance(*seen)
    return fit_spectral_classifier(*learnt, classes, scaling, **options)


def test_the_spectral_classifier_is_as_good_as_a_support_vector_machine():
    cube, truth, scene = made_scene(mixed=True)
    found = fitted(cube, scene)
    seen = divided_by_length(cube)
    labelled = scene.training > 0
    machine = SVC(C=10).fit(
        StandardScaler().fit(seen.reshape(-1, 6)).transform(seen[labelled]), truth[labelled]
    )
    their = machine.predict(StandardScaler().fit_transform(seen.reshape(-1, 6)))
    own = scores_by_numpy(found, cube).argmax(-1)
    accuracy = (own == truth).mean()
    assert accuracy > (their.reshape(truth.shape) == truth).mean() - 0.01
    assert accuracy > 0.95
    assert found.expected_oa == pytest.approx(accuracy, abs=0.05)
    assert (scores_by_numpy(found, 3 * cube).argmax(-1) == own).all()  # a gain changes nothing


def test_a_class_without_a_labelled_pixel_is_never_chosen():
    cube, _, scene = made_scene()
    found, wider = fitted(cube, scene), fitted(cube, scene, classes=4)
    own, same = (scores_by_numpy(one, cube).argmax(-1) for one in (found, wider))
    assert (own == same).all()


def test_labels_without_a_neighbour_are_learnt_where_nothing_else_may_be_seen():
    cube, truth, scene = made_scene()
    inductive = replace(scene, counted=scene.training > 0)
    assert noise_covariance([inductive], np.ones(6, bool), True) is None
    found = scores_by_numpy(fitted(cube, inductive), cube).argmax(-1)
    assert (found == truth).mean() > 0.9


def test_smoothing_grows_with_the_width_of_fields():
    cube, _, scene = made_scene()
    found = [fitted(cube, scene, prior_weight=one).smoothing for one in (4e-4, 2e-2, 2e-1)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0
    assert fitted(cube, scene).smoothing == 0


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
    few = ArrayScene(np.ones((30, 40, len(bundle.good_bands)), np.float32))
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
    loaded, own = load_model(tmp_path / "m.safetensors"), bundle.spectral_classifier
    found = loaded.spectral_classifier
    np.testing.assert_array_equal(found.directions, own.directions)
    np.testing.assert_array_equal(found.kernels[-1].points, own.kernels[-1].points)
    assert (found.expected_oa, found.smoothing) == (own.expected_oa, own.smoothing)
    assert loaded.changed_when_turned == bundle.changed_when_turned
    assert set(loaded.weights) == set(bundle.weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"directions": np.zeros((3, 16), np.float32)}, "spectral classifier is damaged"),
        ({"centre": np.full(200, np.nan, np.float32)}, "not finite"),
        ({"expected_oa": 1.5}, "out of 0-1"),
        ({"smoothing": -1.0}, "out of range"),
        ({"smoothing": 1e4}, "out of range"),
    ],
)
def test_a_damaged_classifier_is_refused(bundle, tmp_path, change, message):
    damaged = replace(bundle.spectral_classifier, **change)
    replace(bundle, spectral_classifier=damaged).save(tmp_path / "d.safetensors")
    with pytest.raises(UnreadableFileError, match=message):
        load_model(tmp_path / "d.safetensors")
