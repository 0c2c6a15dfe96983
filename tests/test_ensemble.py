"""Several networks as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import field_scene

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import default_class_names, default_colours
from hsifcn.data.splits import make_split
from hsifcn.inference.bundle import load_model
from hsifcn.inference.predictor import Predictor
from hsifcn.models.flops import predict_flops
from hsifcn.training.ensemble import SEED_STEP, join, train_ensemble
from hsifcn.training.settings import default_settings
from hsifcn.training.train import train

pytestmark = pytest.mark.usefixtures("small_models")
NAMES = {"class_names": default_class_names(3), "colours": default_colours(3)}


def parts(model="hsifcn", steps=6):
    scene, labels = field_scene()
    split = make_split(labels, "random:0.3", seed=0)
    return [scene], [split], default_settings(model, 0, steps=steps)


@pytest.mark.parametrize("model", ["hsifcn", "patch5"])
def test_logits_are_the_mean_of_the_members(model, tmp_path):
    scenes, splits, settings = parts(model)
    members = [
        train(scenes, splits, replace(settings, seed=seed), **NAMES).bundle
        for seed in (0, SEED_STEP)
    ]
    both = train_ensemble(scenes, splits, settings, 2, **NAMES).bundle
    both.save(tmp_path / "both.safetensors")
    loaded = load_model(tmp_path / "both.safetensors")
    assert loaded.spec.members == 2
    found = Predictor(loaded).whole_scene_logits(scenes[0]) * loaded.temperature
    expected = np.mean(
        [Predictor(m).whole_scene_logits(scenes[0]) * m.temperature for m in members], axis=0
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
    single = predict_flops(members[0].spec, 16, 16, whole_scene=True)
    assert predict_flops(loaded.spec, 16, 16, whole_scene=True) == 2 * single


def test_one_member_is_no_ensemble():
    scenes, splits, settings = parts()
    alone = train(scenes, splits, settings, **NAMES)
    same = train_ensemble(scenes, splits, settings, 1, **NAMES)
    assert same.bundle.spec == alone.bundle.spec
    assert all(torch.equal(t, same.bundle.weights[n]) for n, t in alone.bundle.weights.items())
    assert join([alone.bundle]) is alone.bundle


def test_an_interrupted_ensemble_goes_on_to_the_same_weights(tmp_path):
    scenes, splits, settings = parts()
    whole = train_ensemble(scenes, splits, settings, 3, **NAMES)

    def stop(step, loss, validation_oa):
        if step == settings.steps + 2:  # in the middle of the second member
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ensemble(scenes, splits, settings, 3, progress=stop, checkpoint=tmp_path, **NAMES)
    assert sorted(file.name for file in tmp_path.glob("member-*")) == [
        "member-0.json",
        "member-0.safetensors",
    ]
    resumed = train_ensemble(scenes, splits, settings, 3, checkpoint=tmp_path, resume=True, **NAMES)
    assert whole.bundle.weights.keys() == resumed.bundle.weights.keys()
    for name, tensor in whole.bundle.weights.items():
        assert torch.equal(tensor, resumed.bundle.weights[name]), name
    assert [row["step"] for row in resumed.log] == [row["step"] for row in whole.log]
    assert resumed.seconds >= resumed.log[-1]["seconds"] > 0  # the first member's time counts too
    assert resumed.best_step == whole.best_step


def test_members_of_another_run_are_not_taken_up(tmp_path):
    scenes, splits, settings = parts()
    train_ensemble(scenes, splits, settings, 2, checkpoint=tmp_path, **NAMES)
    other = make_split(splits[0].labels, "random:0.3", seed=5)
    for changed, drawn in ((replace(settings, steps=7), splits), (settings, [other])):
        with pytest.raises(SettingError, match="left by a run with other"):
            train_ensemble(scenes, drawn, changed, 2, checkpoint=tmp_path, resume=True, **NAMES)
