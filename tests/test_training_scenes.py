from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import ArrayScene, field_scene, randomise

from hsifcn.core.errors import LabelError, MismatchError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.data.splits import make_split
from hsifcn.data.standardise import fit_scaling
from hsifcn.models import DEFAULT_MODEL, build, default_spec
from hsifcn.models.batchnorm import reestimate
from hsifcn.propagation.pseudo_labels import WindowPseudoLabels
from hsifcn.training.augment import N_SYMMETRIES, transform, undo
from hsifcn.training.scenes import (
    label_scene,
    load_whole_scenes,
    padded_pixels,
    read_standardised,
    require_training_pixels,
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
    return load_all([(scene, split)], inductive).batch


def load_all(pairs, inductive=False, unit_length=False):
    """Scenes and their splits in one batch, as networks see them whole."""
    scenes, splits = [scene for scene, _ in pairs], [split for _, split in pairs]
    bands = usable_bands(scenes)
    scaling = scene_scaling(scenes, splits, bands, inductive, unit_length=unit_length)
    labelled = [label_scene(*pair, bands, inductive=inductive) for pair in pairs]
    return load_whole_scenes(labelled, bands, scaling, CPU)


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
        labelled = label_scene(ArrayScene(cube), split, np.ones(12, bool), inductive=False)
        with pytest.raises(LabelError, match="no training pixel holds a measurement"):
            require_training_pixels([labelled])


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
    assert np.array_equal(np.flatnonzero(loaded.counted <= 0), lost)


def test_labels_of_another_size(scene):
    other = make_split(field_scene(19, 24)[1], "random:0.3")
    with pytest.raises(LabelError, match="the labels are 19x24 pixels, array is 20x24"):
        label_scene(scene, other, usable_bands([scene]), inductive=False)


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


def test_scaling_of_spectra_of_length_one(scene, split):
    scaling = scene_scaling([scene], [split], np.ones(12, bool), False, unit_length=True)
    spectra = scene.cube.reshape(-1, 12).astype(np.float64)
    spectra /= np.sqrt((spectra**2).sum(1, keepdims=True))
    assert scaling.unit_length
    np.testing.assert_allclose(scaling.mean, spectra.mean(0), rtol=1e-6)
    np.testing.assert_allclose(scaling.std, spectra.std(0), rtol=1e-4)
    darker = scene.with_cube(scene.cube.astype(np.float32) * np.float32(0.3))
    again = scene_scaling([darker], [split], np.ones(12, bool), False, unit_length=True)
    np.testing.assert_allclose(again.mean, scaling.mean, rtol=1e-6)


class TestSeveralScenes:
    """Of different size, with holes: one batch, padded."""

    @pytest.fixture
    def pairs(self, scene, split):
        other, labels = field_scene(13, 31, seed=1)
        cube = other.cube.astype(np.float32)
        cube[4:7, 8:20] = np.nan
        return [(scene, split), (ArrayScene(cube), make_split(labels, "random:0.3:val=0.2"))]

    def test_lie_in_the_corner_of_the_batch(self, pairs):
        source = load_all(pairs)
        shapes = [pair[0].shape[:2] for pair in pairs]
        assert source.batch.cube.shape == (2, 12, 20, 31)
        assert padded_pixels(shapes) == 2 * 20 * 31
        spectra = np.concatenate(
            [s.cube[np.isfinite(s.cube).all(2)].astype(np.float64) for s, _ in pairs]
        )
        for number, (scene, _) in enumerate(pairs):
            rows, cols, _ = scene.shape
            valid = np.isfinite(scene.cube).all(2)
            wanted = (scene.cube - spectra.mean(0)) / spectra.std(0)
            wanted[~valid] = 0
            found = source.batch.cube[number].permute(1, 2, 0).numpy()
            np.testing.assert_allclose(found[:rows, :cols], wanted, atol=1e-4)
            assert not found[rows:].any()
            assert not found[:, cols:].any()
            counted = source.batch.counted[number, 0].numpy()
            np.testing.assert_array_equal(counted[:rows, :cols], valid)
            assert (counted[rows:] == -1).all()
            assert (counted[:, cols:] == -1).all()

    def test_labels_keep_their_scene_and_place(self, pairs):
        batch = load_all(pairs).batch
        found = np.zeros((2, 20, 31), np.uint16)
        found.flat[batch.pixels] = batch.targets + 1
        validating = np.zeros_like(found)
        validating.flat[batch.validation_pixels] = batch.validation_targets + 1
        for number, (scene, split) in enumerate(pairs):
            place = (number, slice(scene.shape[0]), slice(scene.shape[1]))
            valid = np.isfinite(scene.cube).all(2)
            np.testing.assert_array_equal(
                found[place], np.where(split.train & valid, split.labels, 0)
            )
            np.testing.assert_array_equal(
                validating[place], np.where(split.validation & valid, split.labels, 0)
            )
            found[place] = validating[place] = 0
        assert not found.any()
        assert not validating.any()

    def test_pseudo_labels_keep_their_scene_and_place(self, pairs):
        rng = np.random.default_rng(0)
        whole = [
            WindowPseudoLabels(
                number,
                Window(0, 0, *scene.shape[:2]),
                rng.integers(0, 3, scene.shape[:2]).astype(np.uint16),
                rng.random(scene.shape[:2]).astype(np.float32),
                confidence,
            )
            for number, ((scene, _), confidence) in enumerate(zip(pairs, (0.9, 0.5), strict=True))
        ]
        found = load_all(pairs).with_pseudo_labels(whole[::-1]).batch.pseudo_labels
        classes, weights = (
            values.reshape(2, 20, 31).numpy() for values in (found.classes, found.weights)
        )
        assert weights.sum() == pytest.approx(1, abs=1e-5)
        total = sum(one.weights.sum() for one in whole)
        for number, one in enumerate(whole):
            there = (number, *one.core.slices)
            np.testing.assert_array_equal(classes[there], one.classes)
            np.testing.assert_allclose(weights[there], one.weights / total, rtol=1e-4)
            weights[there] = 0
        assert not weights.any()
        pixels = [one.weights.size for one in whole]
        assert found.mean_confidence == pytest.approx(np.average([0.9, 0.5], weights=pixels))

    @pytest.mark.usefixtures("small_models")
    @torch.no_grad()
    def test_batch_statistics_of_the_stem_are_those_of_all_measured_pixels(self, pairs):
        source = load_all(pairs)
        network = randomise(build(default_spec(DEFAULT_MODEL, 12, 3)))
        reestimate(network, lambda n: n(source.batch.cube, source.batch.counted), calls=1)
        spectra = []
        for number, (scene, _) in enumerate(pairs):
            valid = torch.from_numpy(np.isfinite(scene.cube).all(2))
            own = source.batch.cube[number, :, : scene.shape[0], : scene.shape[1]]
            spectra.append(own[:, valid])
        first = next(iter(network.stem))
        features = first.conv.weight[:, :, 0, 0].double() @ torch.cat(spectra, 1).double()
        torch.testing.assert_close(
            first.norm.running_mean.double(), features.mean(1), atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(
            first.norm.running_var.double(), features.var(1, correction=0), atol=1e-4, rtol=1e-4
        )


def test_validation_pixels_become_training_pixels(scene, split):
    batch = load_all([(scene, split), (scene, split)]).with_validation().batch
    known = np.stack([np.where(split.train | split.validation, split.labels, 0)] * 2)
    found = np.zeros_like(known)
    found.flat[batch.pixels] = batch.targets + 1
    np.testing.assert_array_equal(found, known)
    assert len(batch.pixels) == np.count_nonzero(known)
    assert not len(batch.validation_pixels)
    assert not len(batch.validation_targets)
