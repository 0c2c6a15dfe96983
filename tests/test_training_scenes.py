from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import ArrayScene, field_scene, randomise

from hsifcn.core.errors import LabelError, MismatchError, UnreadableFileError
from hsifcn.data.splits import make_split
from hsifcn.data.standardise import fit_scaling
from hsifcn.models import DEFAULT_MODEL, build, default_spec
from hsifcn.models.batchnorm import reestimate
from hsifcn.training.augment import N_SYMMETRIES, transform, undo
from hsifcn.training.scenes import (
    halved,
    load_training_scene,
    read_standardised,
    scene_scaling,
    usable_bands,
)

CPU = torch.device("cpu")


@pytest.fixture
def scene():
    return field_scene()[0]


@pytest.fixture
def split():
    return make_split(field_scene()[1], "random:0.3:val=0.2")


def load(scene, split, inductive=False):
    bands = usable_bands([scene])
    scaling = scene_scaling([scene], [split], bands, inductive)
    return load_training_scene(scene, split, bands, scaling, inductive=inductive, device=CPU)


class TestUsableBands:
    def test_all(self, scene):
        assert usable_bands([scene]).all()

    def test_bad_and_flat_bands_are_left_out(self, scene):
        cube = scene.cube.copy()
        cube[..., 3] = 7
        good = np.ones(12, bool)
        good[5] = False
        with pytest.warns(UserWarning, match="1 bands of array are flat or empty"):
            usable = usable_bands([ArrayScene(cube, good_bands=good)])
        assert np.flatnonzero(~usable).tolist() == [3, 5]

    @pytest.mark.parametrize(("hole", "nodata"), [(np.nan, None), (-1.0, -1.0)])
    def test_a_hole_in_a_flat_band_does_not_make_it_vary(self, scene, hole, nodata):
        cube = scene.cube.astype(np.float32)
        cube[..., 3] = 7
        cube[4, 4] = hole
        with pytest.warns(UserWarning, match="flat or empty"):
            usable = usable_bands([ArrayScene(cube, nodata=nodata)])
        assert np.flatnonzero(~usable).tolist() == [3]

    def test_a_band_that_one_scene_lacks(self, scene):
        cube = scene.cube.astype(np.float32)
        cube[..., 0] = np.nan
        with pytest.warns(UserWarning, match="flat or empty"):
            usable = usable_bands([scene, ArrayScene(cube)])
        assert np.flatnonzero(~usable).tolist() == [0]

    def test_other_counts_of_bands(self, scene):
        with pytest.raises(MismatchError, match="has 11 bands, array has 12"):
            usable_bands([scene, scene.with_cube(scene.cube[..., 1:])])

    def test_scenes_of_other_wavelengths_are_refused(self, scene):
        nm = np.linspace(400, 950, 12)
        scenes = [ArrayScene(scene.cube, wavelengths=nm + shift) for shift in (0, 5, 40)]
        assert usable_bands(scenes[:2]).all()
        with pytest.raises(MismatchError, match="band 1 of array has another wavelength"):
            usable_bands(scenes)

    def test_scenes_of_other_scales_are_refused(self, scene):
        scenes = [replace(scene, scale_factor=scale) for scale in (10_000.0, None, 1.0)]
        assert usable_bands(scenes[:2]).all()
        with pytest.raises(MismatchError, match=r"value / 1 in array, but value / 10000 in array"):
            usable_bands(scenes)

    @pytest.mark.parametrize("value", [0, np.nan])
    def test_nothing_to_see(self, value):
        with pytest.raises(UnreadableFileError, match="array has no usable band"):
            usable_bands([ArrayScene(np.full((4, 5, 3), value, np.float32))])


class TestScaling:
    def test_all_valid_pixels_of_all_scenes(self, scene, split):
        cube = scene.cube.astype(np.float32)
        cube[2, 3, 1] = np.nan
        bands = np.ones(12, bool)
        scaling = scene_scaling([scene, ArrayScene(cube)], [split, split], bands, False)
        valid = np.isfinite(cube).all(2)
        spectra = np.concatenate([scene.cube.reshape(-1, 12), cube[valid]])
        np.testing.assert_allclose(scaling.mean, spectra.mean(0, dtype=np.float64))
        np.testing.assert_allclose(scaling.std, spectra.std(0, dtype=np.float64))

    def test_inductive_is_the_training_pixels_only(self, scene, split):
        bands = np.ones(12, bool)
        scaling = scene_scaling([scene], [split], bands, True)
        wanted = fit_scaling([scene.cube[split.train]])
        np.testing.assert_allclose(scaling.mean, wanted.mean)
        np.testing.assert_allclose(scaling.std, wanted.std)
        changed = scene.cube.copy()
        changed[~split.train] = 1
        again = scene_scaling([scene.with_cube(changed)], [split], bands, True)
        assert np.array_equal(scaling.mean, again.mean)
        assert np.array_equal(scaling.std, again.std)

    def test_no_whole_pixel(self, scene, split):
        cube = scene.cube.astype(np.float32)
        cube[..., 0] = np.where(np.arange(24) % 2, cube[..., 0], np.nan)
        cube[..., 1] = np.where(np.arange(24) % 2, np.nan, cube[..., 1])
        with pytest.raises(LabelError, match="no pixel of array holds a measurement"):
            load(ArrayScene(cube), split)

    def test_no_training_pixel(self, scene, split):
        cube = scene.cube.astype(np.float32)
        cube[split.train] = np.nan
        with pytest.raises(LabelError, match="no training pixel of array holds"):
            load(ArrayScene(cube), split, inductive=True)


def test_what_the_network_sees(scene, split):
    loaded = load(scene, split)
    assert loaded.cube.shape == (1, 12, 20, 24)
    assert loaded.cube.is_contiguous(memory_format=torch.channels_last)
    assert loaded.counted is None
    for mask, pixels, targets in (
        (split.train, loaded.pixels, loaded.targets),
        (split.validation, loaded.validation_pixels, loaded.validation_targets),
    ):
        assert np.array_equal(pixels, np.flatnonzero(mask))
        assert np.array_equal(targets, split.labels[mask].astype(int) - 1)
        assert len(pixels)


def test_pixels_without_a_measurement_are_not_learnt_from(scene, split):
    cube = scene.cube.astype(np.float32)
    lost = np.flatnonzero(split.train)[::2]
    cube.reshape(-1, 12)[lost, 4] = np.nan
    loaded = load(ArrayScene(cube), split)
    assert np.array_equal(loaded.pixels, np.setdiff1d(np.flatnonzero(split.train), lost))
    flat = loaded.cube[0].flatten(1)
    assert torch.isfinite(flat).all()
    assert not flat[:, lost].any()
    assert np.array_equal(np.flatnonzero(~loaded.counted), lost)


def test_labels_of_another_size(scene):
    other = make_split(field_scene(19, 24)[1], "random:0.3")
    bands = usable_bands([scene])
    scaling = fit_scaling([scene.cube.reshape(-1, 12)])
    with pytest.raises(LabelError, match="the labels are 19x24 pixels, array is 20x24"):
        load_training_scene(scene, other, bands, scaling, inductive=False, device=CPU)


def test_reading_by_strips_is_reading_at_once(monkeypatch, scene):
    scaling = fit_scaling([scene.cube.reshape(-1, 12)])
    bands = np.arange(12) != 5
    scaling = fit_scaling([scene.cube[..., bands].reshape(-1, 11)])
    cube, valid = read_standardised(scene, bands, scaling)
    monkeypatch.setattr("hsifcn.data.standardise.strips.__defaults__", (24 * 12 * 3,))
    again, _ = read_standardised(scene, bands, scaling)
    assert valid.all()
    assert torch.equal(cube, again)


@pytest.mark.usefixtures("small_models")
@pytest.mark.parametrize("inductive", [False, True])
@torch.no_grad()
def test_batch_statistics_count_the_training_pixels_only_if_inductive(scene, split, inductive):
    """Behind the stem, which looks at pixels one by one, no other spectrum is seen."""
    changed = scene.cube.copy()
    changed[~split.train] += 500
    statistics = []
    for cube in (scene.cube, changed):
        loaded = load(scene.with_cube(cube), split, inductive)
        network = randomise(build(default_spec(DEFAULT_MODEL, 12, 3)))
        reestimate(network, lambda n, s=loaded: n(s.cube, s.counted), calls=1)
        statistics.append(network.stem.state_dict())
    first, second = statistics
    agree = all(torch.equal(first[name], second[name]) for name in first)
    assert agree == inductive


def test_symmetries_are_undone():
    x = torch.arange(2 * 3 * 5).reshape(1, 2, 3, 5)
    turned = [transform(x, symmetry) for symmetry in range(N_SYMMETRIES)]
    assert len({(t.shape, tuple(t.flatten().tolist())) for t in turned}) == 8
    for symmetry, t in enumerate(turned):
        assert torch.equal(undo(t, symmetry), x)
        assert t.shape[:2] == (1, 2)


def test_halves_share_the_training_pixels_of_each_class(scene, split):
    whole = load(scene, split)
    first, second = (halved(whole, half) for half in (0, 1))
    assert torch.equal(first.pixels, second.validation_pixels)
    assert torch.equal(second.targets, first.validation_targets)
    both = torch.cat([first.pixels, second.pixels]).sort().values
    assert torch.equal(both, whole.pixels.sort().values)
    counts = [torch.bincount(half.targets, minlength=3) for half in (first, second)]
    assert (counts[0] - counts[1]).abs().max() <= 1
