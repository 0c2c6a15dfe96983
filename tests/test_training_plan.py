"""Plans of training: that they keep what they promise, and say what the least is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from live_bytes import LiveBytes
from scenes import ShapeScene

from hsifcn.core.errors import MemoryCeilingError
from hsifcn.core.process import rss_bytes
from hsifcn.models import MODELS, build, default_spec
from hsifcn.propagation.pseudo_labels import PseudoLabels
from hsifcn.training import memory_plan as training_plan
from hsifcn.training.memory_plan import memory_need, plan_steps, try_step
from hsifcn.training.objectives import SceneObjective
from hsifcn.training.scenes import TrainingScene, WholeScenes
from hsifcn.training.settings import TrainOptions, default_options

NAMES = [name for name, model in MODELS.items() if model.patch is None]
CLASSES = 7


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
    pseudo_labels = PseudoLabels(pixels % CLASSES, torch.full((side**2,), 1 / side**2))
    scene = TrainingScene(
        cube, None, pixels, pixels % CLASSES, pixels[:0], pixels[:0],
        pseudo_labels if propagation else None,
    )  # fmt: skip
    network = build(spec).to(memory_format=torch.channels_last)
    step = SceneObjective(WholeScenes(scene, [(side, side)]), CLASSES, 0.1, 0.1, propagation)
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
    trial = try_step(spec, TrainOptions(name, propagation=propagation))
    need = memory_need(spec, [ShapeScene((10, 10, 30))], trial, 100)
    found = counted(spec, propagation)
    assert 0.99 * found < need.step < 1.25 * found
    assert trial.seconds > 0
    assert trial.kept > 0


def plan(name="hsifcn", shapes=((300, 400),), ceiling=None, bands=4, labelled=500, **changes):
    scenes = [ShapeScene((*shape, bands)) for shape in shapes]
    options = replace(default_options(name, steps=100, max_memory=ceiling), **changes)
    return plan_steps(scenes, default_spec(name, bands, CLASSES), options, labelled)


@pytest.mark.usefixtures("small_models")
class TestPlans:
    def test_small_scenes_are_seen_whole(self):
        assert plan(shapes=((145, 145),)).crops is None
        assert plan(shapes=((256, 256),)).crops is None
        assert plan(shapes=((160, 160), (160, 160))).crops is None

    def test_large_ones_in_crops(self):
        for shapes in (((256, 257),), ((200, 200), (200, 200))):
            crops = plan(shapes=shapes).crops
            assert crops.count * crops.side**2 == 256**2
            assert crops.batch == crops.count

    def test_time_and_memory_do_not_grow_with_the_scene(self, monkeypatch):
        monkeypatch.setattr(training_plan, "try_step", lambda *_: training_plan.Trial(10**6, 1e-3))
        monkeypatch.setattr(training_plan, "rss_bytes", lambda: 10**8)
        near, far = plan(shapes=((1300, 1300),)), plan(shapes=((3000, 2900),))
        assert near.seconds == far.seconds
        assert 0 < far.peak_bytes - near.peak_bytes < 10 * 3000 * 2900

    def test_windows_that_labels_are_propagated_over_fit(self, monkeypatch):
        monkeypatch.setattr(training_plan, "try_step", lambda *_: training_plan.Trial(10**6, 1e-3))
        monkeypatch.setattr(training_plan, "rss_bytes", lambda: 10**8)
        found = [
            plan(shapes=((700, 700),), bands=200, ceiling=megabytes * 10**6)
            for megabytes in (900, 400, 200)
        ]
        assert [plan.crops.window for plan in found] == [192, 96, 0]
        assert [plan.seconds for plan in found] == sorted(
            (plan.seconds for plan in found), reverse=True
        )
        without = plan(shapes=((700, 700),), bands=200, ceiling=900 * 10**6, propagation=0.0)
        assert without.crops.window == 0
        assert without.peak_bytes <= found[0].peak_bytes

    def test_classifiers_of_many_labels_take_memory_from_the_windows(self, monkeypatch):
        """Kernels of 1,536 pixels by 1,536 are 19 MB each, and three are held."""
        monkeypatch.setattr(training_plan, "try_step", lambda *_: training_plan.Trial(10**6, 1e-3))
        monkeypatch.setattr(training_plan, "rss_bytes", lambda: 10**8)
        few, many = (
            plan(shapes=((145, 145),), bands=200, labelled=labelled) for labelled in (100, 10_000)
        )
        assert 60e6 < many.peak_bytes - few.peak_bytes < 120e6
        far = [
            plan(shapes=((700, 700),), bands=200, ceiling=400 * 10**6, labelled=labelled)
            for labelled in (100, 10_000)
        ]
        assert [plan.crops.window for plan in far] == [96, 0]

    def test_patch_cnns_are_not_cut(self):
        whole = plan("patch5", shapes=((600, 600),))
        assert whole.crops is None
        with pytest.raises(MemoryCeilingError, match="patch5 is trained on scenes held") as caught:
            plan("patch5", shapes=((600, 600),), ceiling=rss_bytes())
        assert f"{caught.value.remedy.split()[2].removesuffix('M,')}".isdigit()

    @settings(max_examples=20)
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
    assert all(crops.count == 256**2 // crops.side**2 for crops in found)
