from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import dataset_of, field_scene, random_bundle

from hsifcn.core.errors import MismatchError, SettingError
from hsifcn.core.scene import default_class_names
from hsifcn.data.splits import make_split
from hsifcn.models import MODELS, default_spec
from hsifcn.training.loop import initial_state
from hsifcn.training.settings import TrainOptions, default_options
from hsifcn.training.train import train
from hsifcn.training.transfer import initial_weights, origin, require_same_input

pytestmark = pytest.mark.usefixtures("small_models_in_module")

BANDS = 12
KINDS = [name for name, model in MODELS.items() if model.patch in (None, 5, 15, 31)]
NAMES = default_class_names(3)


def weights_for(init, model, class_names=NAMES, bands=BANDS):
    return initial_weights(init, default_spec(model, bands, len(class_names)), class_names)


@pytest.mark.parametrize("model", KINDS)
def test_all_weights_of_the_same_architecture_are_used(model):
    init = random_bundle(model, BANDS, classes=3)
    found = weights_for(init, model)
    assert found == init.weights
    state = initial_state(init.spec, TrainOptions(model), found)
    for network in (state.network, state.averaged):
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, init.weights[name])


@pytest.mark.parametrize("names", [("a", "b", "c"), ("a", "b", "c", "d")])
@pytest.mark.parametrize("model", KINDS)
def test_other_classes_are_scored_by_fresh_layers(model, names):
    init = random_bundle(model, BANDS, classes=3)
    found = weights_for(init, model, names)
    left_out = set(init.weights) - set(found)
    assert left_out
    assert all(name.startswith(("score", "upscore")) for name in left_out)
    spec = default_spec(model, BANDS, len(names))
    fresh = initial_state(spec, TrainOptions(model), {}).network.state_dict()
    state = initial_state(spec, TrainOptions(model), found).network.state_dict()
    for name, tensor in state.items():
        assert torch.equal(tensor, found.get(name, fresh[name]))


@pytest.mark.parametrize(("model", "bands"), [("fcn8s", BANDS), ("patch5", BANDS + 1)])
def test_another_architecture_is_refused(model, bands):
    init = random_bundle("patch5", BANDS, classes=3)
    with pytest.raises(SettingError, match=f"a {model} of {bands} bands cannot start from"):
        weights_for(init, model, bands=bands)


@pytest.fixture(scope="module")
def started(small_models_in_module):
    """A network trained on a scene, with the scene and its split."""
    scene, labels = field_scene()
    split = make_split(labels, "random:0.4:val=0.2")
    return fit(scene, split, default_options(steps=3)).bundle, scene, split


def fit(scene, split, options, **run):
    return train(dataset_of(scene, split), options, **run)


def test_a_started_run_keeps_the_scaling_and_says_where_it_began(started):
    init, scene, split = started
    brighter = scene.with_cube(scene.cube + 100)
    bundle = fit(brighter, split, default_options(steps=2, init=init)).bundle
    assert np.array_equal(bundle.scaling.mean, init.scaling.mean)
    record = bundle.settings["init"]
    assert record == origin(init, init.weights)
    assert record["split"] == init.split
    assert "init" not in init.settings


def test_a_run_with_another_start_is_not_resumed(started, tmp_path):
    init, scene, split = started

    def stop(step, *_):
        if step == 2:
            raise KeyboardInterrupt

    run = {"checkpoint": tmp_path, "resume": True}
    options = default_options(steps=4, init=init)
    with pytest.raises(KeyboardInterrupt):
        fit(scene, split, options, progress=stop, **run)
    other = random_bundle("hsifcn", BANDS, classes=3, scaling=init.scaling)
    for another in (None, other):
        with pytest.raises(SettingError, match="other settings or input"):
            fit(scene, split, replace(options, init=another), **run)
    assert fit(scene, split, options, **run).log[-1]["step"] == 4


def test_scenes_unlike_those_of_the_start_are_refused(started):
    init, scene, _ = started
    bands = init.good_bands
    require_same_input(init, [scene], bands, inductive=False)
    fewer = replace(scene, cube=scene.cube[..., 1:], wavelengths=None, good_bands=None)
    with pytest.raises(MismatchError, match="11 bands, the model was trained on 12"):
        require_same_input(init, [fewer], bands[1:], inductive=False)
    bad = bands.copy()
    bad[3] = False
    with pytest.raises(MismatchError, match="11 usable bands, not the 12"):
        require_same_input(init, [scene], bad, inductive=False)
    known, counts = replace(init, scale_factor=1.0), replace(scene, scale_factor=10_000.0)
    require_same_input(init, [counts], bands, inductive=False)
    with pytest.raises(MismatchError, match="value / 10000 in array, but value / 1 in the scenes"):
        require_same_input(known, [counts], bands, inductive=False)
    with pytest.raises(SettingError, match="has seen whole scenes"):
        require_same_input(init, [scene], bands, inductive=True)
