"""On a GPU the same is computed as on the processor; skipped where PyTorch finds none."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from cli_helpers import COMPARISON, STEPS, command, small_scene
from scenes import dataset_of, field_scene, noise_scene, random_bundle

from hsifcn.comparison.baselines import PatchPredictor
from hsifcn.core.scene import Window, class_targets
from hsifcn.core.tiles import Tile
from hsifcn.data.splits import make_split
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.refine.potentials import DEFAULTS, METHODS
from hsifcn.models import DEFAULT_MODEL, MODELS
from hsifcn.propagation.pseudo_labels import Propagation, PropagationWindow
from hsifcn.training import memory_plan as training_plan
from hsifcn.training.settings import default_options
from hsifcn.training.train import train

PRESENT = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
ACCELERATORS = [name for name, present in PRESENT.items() if present]
pytestmark = [
    pytest.mark.skipif(not ACCELERATORS, reason="PyTorch finds no accelerator"),
    pytest.mark.parametrize("device", ACCELERATORS),
]
ROUNDING = 2e-3  # of the spread of scores


@pytest.fixture
def exact(monkeypatch):
    """Convolutions keep all bits of the mantissa; by default CUDA's round to ten (TF32)."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def apart(logits, others):
    """The largest difference of scores, against their spread."""
    logits, others = np.asarray(logits), np.asarray(others)
    return np.abs(logits - others).max() / others.std()


def spectra_and_labels(rows=40, cols=48):
    """A standardised cube (1, bands, rows, cols), and the places and classes of a few pixels."""
    scene, labels = field_scene(rows, cols)
    known = make_split(labels, "per-class:6").train
    cube = torch.from_numpy(scene.cube.astype(np.float32)).permute(2, 0, 1)[None]
    cube = (cube - cube.mean((2, 3), keepdim=True)) / cube.std((2, 3), keepdim=True)
    pixels = torch.from_numpy(np.flatnonzero(known))
    return cube, pixels, torch.from_numpy(class_targets(labels[known]))


def accuracy_of_training(model, device):
    """OA at the test pixels of a scene of fields, trained on and predicted there."""
    scene, labels = field_scene(60, 72)
    split = make_split(labels, "random:0.2:val=0.2")
    trained = train(dataset_of(scene, split), default_options(model, steps=STEPS, device=device))
    found = Predictor(trained.bundle, device).label_map(scene)
    return (found == labels)[split.test].mean()


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("model", [name for name, known in MODELS.items() if known.patch is None])
def test_scores_are_those_of_the_processor(device, model):
    bundle, scene = random_bundle(model, 5), noise_scene((37, 50, 5))
    scores = Predictor(bundle, device).whole_scene_logits(scene)
    assert apart(scores, Predictor(bundle).whole_scene_logits(scene)) < ROUNDING


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("materialised", [False, True])
def test_scores_of_patches_are_those_of_the_processor(device, materialised):
    bundle, scene = random_bundle("patch5", 5), noise_scene((20, 23, 5))
    scores = PatchPredictor(bundle, materialised=materialised, device=device)
    there = PatchPredictor(bundle, materialised=materialised)
    assert apart(scores.whole_scene_logits(scene), there.whole_scene_logits(scene)) < ROUNDING


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("method", METHODS)
def test_refined_maps_are_those_of_the_processor(device, method):
    bundle, scene = random_bundle(DEFAULT_MODEL, 5), noise_scene((37, 50, 5))
    found = Predictor(bundle, device, DEFAULTS[method]).label_map(scene)
    there = Predictor(bundle, "cpu", DEFAULTS[method]).label_map(scene)
    assert (found == there).mean() > 0.99


def test_labels_are_propagated_as_on_the_processor(device):
    cube, pixels, targets = spectra_and_labels()
    labels = np.zeros(cube.shape[2:], np.uint16)
    labels.flat[pixels] = targets + 1
    place = Window(0, 0, *labels.shape)
    window = PropagationWindow(0, Tile(place, place), labels)
    there, found = (
        Propagation([window], lambda _, on=on: (cube.to(on), None), 3).core_probabilities(window)
        for on in ("cpu", device)
    )
    assert (found.cpu() - there).abs().max() < 0.05
    assert (found.cpu().argmax(0) == there.argmax(0)).float().mean() > 0.99


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "fcn1s", "segnet", "deeplab"])
def test_networks_learn_whole_scenes(device, model):
    assert accuracy_of_training(model, device) > 0.9


def test_networks_learn_crops(device, monkeypatch):
    monkeypatch.setattr(training_plan, "LARGEST_WHOLE", 1)
    monkeypatch.setattr(training_plan, "SIDES", (48, 24))
    monkeypatch.setattr(training_plan, "TILE_SIDES", (96, 48))
    monkeypatch.setattr(training_plan, "STEP_PIXELS", 3 * 48**2)
    assert accuracy_of_training(DEFAULT_MODEL, device) > 0.9


def test_patch_networks_learn(device):
    assert accuracy_of_training("patch5", device) > 0.8


def test_commands_take_the_accelerator_that_is_there(device, tmp_path):
    _, labels = small_scene(tmp_path)
    steps = ("--steps", STEPS, "--refine", "crf", "--json")
    trained = command(tmp_path, "train", "cube.npy", *steps)
    assert trained.code == 0, trained.err
    assert trained.json["device"] == device
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert command(tmp_path, "predict", "-o", "here.npy", "--device", device).code == 0
    assert command(tmp_path, "predict", "-o", "there.npy", "--device", "cpu").code == 0
    here, there = np.load(tmp_path / "here.npy"), np.load(tmp_path / "there.npy")
    assert (here == there).mean() > 0.99
    assert (here == labels)[labels > 0].mean() > 0.9


@pytest.mark.slow
def test_a_comparison_counts_what_the_accelerator_holds(device, tmp_path):
    small_scene(tmp_path)
    done = command(tmp_path, *COMPARISON, "--device", device)
    assert done.code == 0, done.err
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text("utf-8"))
    assert comparison["environment"]["device"] == device
    peaks = {one["name"]: one.get("peak_train_bytes") for one in comparison["contenders"]}
    assert peaks[DEFAULT_MODEL] > 0
