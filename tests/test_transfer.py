from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import field_scene, random_bundle

from hsifcn.core.errors import MismatchError, SettingError
from hsifcn.core.scene import default_class_names, default_colours
from hsifcn.data.splits import make_split
from hsifcn.models import DEFAULT_MODEL, MODELS, build, default_spec
from hsifcn.models.patch import PatchCNN, encoder_roles
from hsifcn.training.loop import initial_state
from hsifcn.training.settings import Settings, default_settings
from hsifcn.training.train import train
from hsifcn.training.transfer import inherited, origin, require_same_input

pytestmark = pytest.mark.usefixtures("small_models_in_module")

BANDS = 12
NAMES = default_class_names(3)
SCENES = [name for name, model in MODELS.items() if model.patch is None]


def inherit(start, model, class_names=NAMES, bands=BANDS):
    return inherited(start, default_spec(model, bands, len(class_names)), class_names)


def layers(start, model, **options):
    return origin(start, inherit(start, model, **options))["layers"]


@pytest.mark.parametrize("patch", [5, 9, 15, 31])
def test_every_convolution_of_a_patch_cnn_has_a_role(patch):
    network = build(default_spec(f"patch{patch}", 3, 2))
    assert isinstance(network, PatchCNN)
    assert list(encoder_roles(patch)) == [f"convs.{i}" for i in range(len(network.convs))]


@pytest.mark.parametrize("name", SCENES)
def test_stem_and_encoder_come_from_a_patch_cnn(name):
    start = random_bundle("patch15", BANDS, classes=3)
    taken = inherit(start, name)
    assert layers(start, name) == ["stages.0", "stages.1", "stem.0", "stem.1"]
    pairs = {"stem.1.conv": "stem.1.conv", "stages.0.1.norm": "convs.1.norm"}
    pairs["stages.1.0.conv"] = "convs.2.conv"
    for new, old in pairs.items():
        assert torch.equal(taken[f"{new}.weight"], start.weights[f"{old}.weight"])


def test_only_what_has_the_same_shape_is_taken(monkeypatch):
    monkeypatch.setitem(MODELS, "fcn8s", replace(MODELS["fcn8s"], widths=(8, 9, 9, 9, 9)))
    start = random_bundle("patch15", BANDS, classes=3)
    assert layers(start, "fcn8s") == ["stages.0", "stem.0", "stem.1"]


def test_a_finer_network_takes_all_of_a_coarser_one():
    start = random_bundle("fcn16s", BANDS, classes=3)
    taken = inherit(start, "fcn8s")
    assert set(start.weights) - set(taken) == {"upscore.weight"}  # of another factor
    assert origin(start, taken)["weights"] == sum(
        tensor.numel() for tensor in taken.values() if tensor.is_floating_point()
    )


def test_scorers_of_other_classes_are_not_taken():
    start = random_bundle("fcn8s", BANDS, classes=3)
    assert layers(start, "fcn8s", class_names=("a", "b", "c")) == [
        "fr",
        *(f"stages.{i}" for i in range(5)),
        "stem.0",
        "stem.1",
    ]
    assert "score_fr" in layers(start, "fcn8s")


def test_nothing_to_take_is_refused(monkeypatch):
    start = random_bundle("patch5", BANDS, classes=3)
    monkeypatch.setitem(MODELS, "fcn8s", replace(MODELS["fcn8s"], stem=(9,), widths=(9,) * 5))
    with pytest.raises(SettingError, match="fcn8s can take nothing from a patch5 of 12 bands"):
        inherit(start, "fcn8s")


def test_training_starts_from_what_is_taken():
    start = random_bundle("patch15", BANDS, classes=3)
    spec = default_spec(DEFAULT_MODEL, BANDS, 3)
    fresh = initial_state(spec, Settings(), "cpu").network.state_dict()
    taken = inherit(start, DEFAULT_MODEL)
    begun = initial_state(spec, Settings(), "cpu", taken)
    for state in (begun.network.state_dict(), begun.averaged.state_dict()):
        for name, tensor in state.items():
            assert torch.equal(tensor, taken.get(name, fresh[name]))


@pytest.fixture(scope="module")
def started(small_models_in_module):
    """A patch CNN trained on a scene, with the scene and its split."""
    scene, labels = field_scene()
    split = make_split(labels, "random:0.4:val=0.2")
    return fit(scene, split, default_settings("patch5", steps=3)).bundle, scene, split


def fit(scene, split, settings, **options):
    options = {"class_names": NAMES, "colours": default_colours(3)} | options
    return train([scene], [split], settings, **options)


def test_a_started_run_keeps_the_scaling_and_says_where_it_began(started):
    start, scene, split = started
    brighter = scene.with_cube(scene.cube + 100)
    bundle = fit(brighter, split, default_settings(steps=2), start=start).bundle
    assert np.array_equal(bundle.scaling.mean, start.scaling.mean)
    record = bundle.settings["init"]
    assert record["model"] == "patch5"
    assert record["split"] == start.split
    assert "init" not in start.settings


def test_a_run_with_another_start_is_not_resumed(started, tmp_path):
    start, scene, split = started

    def stop(step, *_):
        if step == 2:
            raise KeyboardInterrupt

    options = {"checkpoint": tmp_path, "resume": True}
    tmp_path.joinpath("x").touch()
    settings = default_settings(steps=4)
    with pytest.raises(KeyboardInterrupt):
        fit(scene, split, settings, start=start, progress=stop, **options)
    other = random_bundle("patch5", BANDS, classes=3, scaling=start.scaling)
    for another in (None, other):
        with pytest.raises(SettingError, match="other settings or input"):
            fit(scene, split, settings, start=another, **options)
    assert fit(scene, split, settings, start=start, **options).log[-1]["step"] == 4


def test_scenes_unlike_those_of_the_start_are_refused(started):
    start, scene, _ = started
    bands = start.good_bands
    require_same_input(start, [scene], bands, inductive=False)
    fewer = replace(scene, cube=scene.cube[..., 1:], wavelengths=None, good_bands=None)
    with pytest.raises(MismatchError, match="11 bands, the model was trained on 12"):
        require_same_input(start, [fewer], bands[1:], inductive=False)
    bad = bands.copy()
    bad[3] = False
    with pytest.raises(MismatchError, match="11 usable bands, not the 12"):
        require_same_input(start, [scene], bad, inductive=False)
    known, counts = replace(start, scale_factor=1.0), replace(scene, scale_factor=10_000.0)
    require_same_input(start, [counts], bands, inductive=False)
    with pytest.raises(MismatchError, match="value / 10000 in array, but value / 1 in the scenes"):
        require_same_input(known, [counts], bands, inductive=False)
    with pytest.raises(SettingError, match="has seen whole scenes"):
        require_same_input(start, [scene], bands, inductive=True)
