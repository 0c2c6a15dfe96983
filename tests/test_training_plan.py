"""Plans of training: that they keep what they promise, and say what the least is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from live_bytes import LiveBytes
from scenes import noise_scene

from hsifcn.core.errors import MemoryCeilingError
from hsifcn.core.process import rss_bytes
from hsifcn.models import MODELS, build, default_spec
from hsifcn.training import memory_plan as training_plan
from hsifcn.training.memory_plan import STEP_PIXELS, TRIAL_SIDE, memory_need, try_step
from hsifcn.training.objectives import SceneObjective
from hsifcn.training.scenes import TrainingScene, WholeScenes
from hsifcn.training.settings import default_settings
from hsifcn.training.training_job import plan_steps

NAMES = [name for name, model in MODELS.items() if model.patch is None]
CLASSES = 7


def objective(source, propagation=0.0):
    if propagation:
        source = source.carry_labels(CLASSES)
    return SceneObjective(source, CLASSES, 0.1, 0.1, propagation)


class Drawn:
    """A generator that draws one symmetry."""

    def __init__(self, symmetry):
        self.symmetry = symmetry

    def integers(self, *_):
        return self.symmetry


def counted(spec, propagation):
    """Bytes a pixel that a step holds at most, the cube left out, counted tensor by tensor."""
    side = 96
    pixels = torch.arange(side**2)
    cube = torch.randn(1, side, side, spec.bands).permute(0, 3, 1, 2)
    scene = TrainingScene(cube, None, pixels, pixels % CLASSES, pixels[:0], pixels[:0])
    network = build(spec).to(memory_format=torch.channels_last)
    step = objective(WholeScenes([scene]), propagation)
    peaks = []
    for symmetry in (0, 3, 7):
        with LiveBytes() as counter:
            step.backward(network, Drawn(symmetry))
        peaks.append(counter.peak)
        for parameter in network.parameters():
            parameter.grad = None
    weights = sum(parameter.nbytes for parameter in network.parameters())
    return (max(peaks) - weights) / side**2


@pytest.mark.parametrize("propagation", [0.0, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_memory_of_a_step_is_what_is_held(name, propagation):
    spec = default_spec(name, 30, CLASSES)
    spec = replace(spec, stem=(32, 32), widths=tuple(width // 2 for width in spec.widths))
    trial = try_step(spec, lambda held: objective(held, propagation))
    need = memory_need(spec, [noise_scene((10, 10, 30))], trial)
    found = counted(spec, propagation)
    assert 0.99 * found < need.step < 1.25 * found
    assert trial.seconds > 0
    assert trial.kept < need.step * TRIAL_SIDE**2


def plan(name="hsifcn", shapes=((300, 400),), ceiling=None, bands=4, **changes):
    scenes = [noise_scene((*shape, bands)) for shape in shapes]
    chosen = replace(default_settings(name, steps=100), **changes)
    return plan_steps(scenes, default_spec(name, bands, CLASSES), chosen, ceiling)


@pytest.mark.usefixtures("small_models")
class TestPlans:
    def test_small_scenes_are_seen_whole(self):
        assert plan(shapes=((145, 145),)).crops is None
        assert plan(shapes=((256, 256),)).crops is None
        assert plan(shapes=((160, 160), (160, 160))).crops is None

    def test_large_ones_in_crops(self):
        for shapes in (((256, 257),), ((200, 200), (200, 200))):
            crops = plan(shapes=shapes).crops
            assert crops.count * crops.side**2 == STEP_PIXELS
            assert crops.batch == crops.count

    def test_time_and_memory_do_not_grow_with_the_scene(self, monkeypatch):
        monkeypatch.setattr(training_plan, "try_step", lambda *_: training_plan.Trial(10**6, 1e-3))
        monkeypatch.setattr(training_plan, "rss_bytes", lambda: 10**8)
        near, far = plan(shapes=((1300, 1300),)), plan(shapes=((3000, 2900),))
        assert near.seconds == far.seconds
        assert 0 < far.peak_bytes - near.peak_bytes < 10 * 3000 * 2900

    def test_windows_that_labels_are_carried_over_fit(self, monkeypatch):
        monkeypatch.setattr(training_plan, "try_step", lambda *_: training_plan.Trial(10**6, 1e-3))
        monkeypatch.setattr(training_plan, "rss_bytes", lambda: 10**8)
        found = [
            plan(shapes=((700, 700),), bands=200, ceiling=megabytes * 10**6)
            for megabytes in (900, 350, 200)
        ]
        assert [plan.crops.carried for plan in found] == [192, 96, 0]
        assert [plan.seconds for plan in found] == sorted(
            (plan.seconds for plan in found), reverse=True
        )
        without = plan(shapes=((700, 700),), bands=200, ceiling=900 * 10**6, propagation=0.0)
        assert without.crops.carried == 0
        assert without.peak_bytes <= found[0].peak_bytes

    def test_patch_cnns_are_not_cut(self):
        whole = plan("patch5", shapes=((600, 600),))
        assert whole.crops is None
        with pytest.raises(MemoryCeilingError, match="patch5 is trained on scenes held") as caught:
            plan("patch5", shapes=((600, 600),), ceiling=rss_bytes())
        assert f"{caught.value.remedy.split()[2].removesuffix('M,')}".isdigit()

    @settings(max_examples=40)
    @given(
        st.sampled_from(["hsifcn", "fcn8s"]),
        st.integers(1, 700),
        st.integers(1, 700),
        st.integers(0, 200),
    )
    def test_plans_keep_the_ceiling_or_tell_the_least(self, name, rows, cols, megabytes):
        ceiling = rss_bytes() + megabytes * 10**6
        try:
            found = plan(name, ((rows, cols),), ceiling)
        except MemoryCeilingError as error:
            least = int(error.remedy.split()[-1].removesuffix("M")) * 10**6
            assert ceiling < least + 60_000_000
            assert plan(name, ((rows, cols),), least + 50_000_000)
        else:
            assert rss_bytes() - 30_000_000 < found.peak_bytes <= ceiling + 50_000_000
            assert found.crops is None or 1 <= found.crops.batch <= found.crops.count


def test_less_memory_means_fewer_crops_at_once_then_smaller_ones(monkeypatch):
    monkeypatch.setattr(training_plan, "try_step", lambda *_: training_plan.Trial(4096 * 4000, 1.0))
    monkeypatch.setattr(training_plan, "rss_bytes", lambda: 300 * 10**6)
    found = [
        plan(shapes=((1160, 1160),), bands=200, ceiling=megabytes * 10**6).crops
        for megabytes in (1500, 550, 460, 410)
    ]
    pixels = [crops.batch * crops.side**2 for crops in found]
    assert pixels == sorted(pixels, reverse=True)
    assert len(set(pixels)) == 4
    assert all(crops.count == STEP_PIXELS // crops.side**2 for crops in found)
