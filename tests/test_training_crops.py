"""Crops of scenes: where they lie, what they hold, and that they teach what whole scenes teach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import ArrayScene, dataset_of, field_cube, field_labels, field_scene, randomise

from hsifcn.core.errors import LabelError, SettingError
from hsifcn.core.tiles import crop, plan_tiles
from hsifcn.data.splits import Split, make_split
from hsifcn.data.standardise import Scaling, fit_scaling
from hsifcn.inference.predictor import Predictor
from hsifcn.models import DEFAULT_MODEL, build, default_spec
from hsifcn.models.batchnorm import reestimate
from hsifcn.training import crops as training_crops
from hsifcn.training import memory_plan as training_plan
from hsifcn.training import pseudo_labelling
from hsifcn.training.crops import CroppedScenes, CropSize, crop_round
from hsifcn.training.objectives import SceneObjective
from hsifcn.training.pseudo_labelling import choose_windows, propagate_labels
from hsifcn.training.scenes import label_scene, load_whole_scenes
from hsifcn.training.settings import default_options
from hsifcn.training.train import train

CPU = torch.device("cpu")
BANDS = np.ones(12, bool)


def cropped(pairs, size, inductive=False, seed=0):
    """Scenes and their splits, to be read in crops; with their scaling."""
    scaling = fit_scaling(scene.cube.reshape(-1, 12).astype(float) for scene, _ in pairs)
    labelled = [label_scene(scene, split, BANDS, inductive=inductive) for scene, split in pairs]
    return CroppedScenes(labelled, BANDS, scaling, size, seed=seed, device=CPU)


def held(pairs, inductive=False):
    scaling = fit_scaling(scene.cube.reshape(-1, 12).astype(float) for scene, _ in pairs)
    labelled = [label_scene(scene, split, BANDS, inductive=inductive) for scene, split in pairs]
    return load_whole_scenes(labelled, BANDS, scaling, CPU)


def pair(rows=60, cols=71, recipe="random:0.2:val=0.2", seed=0):
    scene, labels = field_scene(rows, cols, seed=seed)
    return scene, make_split(labels, recipe)


SMALL = CropSize(side=16, count=5, batch=2, core=12, halo=4, stride=4)
MIDDLE = CropSize(side=32, count=16, batch=12, core=32, halo=16, stride=4)
LARGE = CropSize(side=100, count=1, batch=1, core=100, halo=0, stride=4)  # holds scenes whole


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([4, 16, 33]), st.data())
def test_a_crop_holds_its_pixel_and_lies_in_the_scene(rows, cols, side, data):
    row, col = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    window = crop_round(rows, cols, row, col, side, rng)
    assert 0 <= window.row <= row < window.row_stop <= rows
    assert 0 <= window.col <= col < window.col_stop <= cols
    assert (window.rows, window.cols) == (min(rows, side), min(cols, side))


def test_a_crop_lies_anywhere_round_its_pixel():
    rng = np.random.default_rng(0)
    windows = [crop_round(50, 60, 20, 3, 8, rng) for _ in range(300)]
    assert {window.row for window in windows} == set(range(13, 21))
    assert {window.col for window in windows} == set(range(4))


def test_every_training_pixel_and_every_class_comes_up():
    scene, split = pair()
    source = cropped([(scene, split), pair(20, 40, seed=1)], SMALL)
    rng = np.random.default_rng(0)
    seen = np.zeros(scene.shape[:2], int)
    counts = np.zeros(4, int)
    for _ in range(300):
        for crops in source.draw(rng):
            for number, tile in zip(crops.scenes, crops.tiles, strict=True):
                if number == 0:
                    seen[tile.core.slices] += 1
        number, row, col = source.draw_pixel(rng)
        label = source.scenes[number].training[row, col]
        assert label == source.scenes[number].training[row, col] > 0
        counts[label] += 1
    assert seen[split.train].min() > 0
    assert counts[0] == 0
    assert counts[1:].min() > 70  # of 300, about a third each


def test_rare_classes_are_drawn_as_often_as_others():
    labels = np.ones((50, 50), np.uint16)
    labels[40:, 40:] = 2
    train_mask = np.ones((50, 50), bool)
    train_mask[0] = False
    nothing = np.zeros((50, 50), bool)
    split = Split(labels, train_mask, nothing, ~train_mask, recipe="", seed=0)
    scene = field_scene(50, 50)[0]
    source = cropped([(scene, split)], SMALL)
    rng = np.random.default_rng(0)
    drawn = [labels[source.draw_pixel(rng)[1:]] for _ in range(400)]
    assert 160 < drawn.count(2) < 240
    assert source.counts(4).tolist() == [2350, 100, 0, 0]


def test_a_step_is_a_function_of_its_generator():
    source = cropped([pair()], SMALL)
    first, again, other = (source.draw(np.random.default_rng([3, step])) for step in (7, 7, 8))
    assert [c.tiles for c in first] == [c.tiles for c in again]
    assert [c.tiles for c in first] != [c.tiles for c in other]


def test_what_a_crop_holds():
    scene, split = pair()
    cube = scene.cube.astype(np.float32)
    cube[10:13, 20:40] = np.nan
    scene = ArrayScene(cube)
    scaling = Scaling(np.full(12, 3000.0), np.full(12, 500.0))
    source = CroppedScenes(
        [label_scene(scene, split, BANDS, inductive=False)], BANDS, scaling, SMALL, seed=0,
        device=CPU,
    )  # fmt: skip
    valid = np.isfinite(cube).all(2)
    wanted = scaling.apply(cube, valid)
    batches = source.draw(np.random.default_rng(1))
    assert [len(crops.tiles) for crops in batches] == [2, 2, 1]
    for crops in batches:
        read = source.read(crops)
        assert read.cube.is_contiguous(memory_format=torch.channels_last)
        labels = np.zeros((len(crops.tiles), 16, 16), int)
        for i, tile in enumerate(crops.tiles):
            np.testing.assert_array_equal(read.cube[i].permute(1, 2, 0), wanted[tile.read.slices])
            own = np.where(split.train & valid, split.labels, 0)
            labels[i][crop(tile)] = own[tile.core.slices]
            np.testing.assert_array_equal(
                np.ones((16, 16)) if read.counted is None else read.counted[i, 0],
                valid[tile.read.slices],
            )
        found = np.flatnonzero(labels)
        assert np.array_equal(read.pixels, found)
        assert np.array_equal(read.targets, labels.flat[found] - 1)
        assert len(found) >= len(crops.tiles)


def test_what_a_tile_holds():
    scene, split = pair()
    source = cropped([(scene, split)], SMALL)
    labels = np.zeros(split.labels.shape, int)
    for tiles in source.validation:
        read = source.read(tiles, cores_only=True)
        for i, tile in enumerate(tiles.tiles):
            mask = np.zeros((tile.read.rows, tile.read.cols), bool)
            mask[crop(tile)] = True
            np.testing.assert_array_equal(read.counted[i, 0], mask)
        flat = np.zeros((len(tiles.tiles), tile.read.rows, tile.read.cols), int)
        flat.flat[read.validation_pixels] = read.validation_targets + 1
        for tile, own in zip(tiles.tiles, flat, strict=True):
            labels[tile.core.slices] += own[crop(tile)]
    np.testing.assert_array_equal(labels, np.where(split.validation, split.labels, 0))


@pytest.mark.slow
def test_crops_hold_the_pseudo_labels_of_the_scene():
    pairs = [pair(), pair(20, 40, seed=1)]
    source = cropped(pairs, SMALL)
    found = propagate_labels(source.scenes, BANDS, source.scaling, 3, 40, CPU)
    assert len(found.training) == 4 + 1
    assert len(found.all_labels) == 4 + 1
    source = source.with_pseudo_labels(found.training)
    for crops in source.draw(np.random.default_rng(1)):
        pseudo = source.read(crops).pseudo_labels
        assert pseudo.weights.sum().item() == pytest.approx(1, abs=1e-5)
        shape = len(crops.tiles), 16, 16
        for i, (number, tile) in enumerate(zip(crops.scenes, crops.tiles, strict=True)):
            split = pairs[number][1]
            learnt = split.train[tile.read.slices]
            truth = split.labels[tile.read.slices].astype(int)
            own = pseudo.classes.view(shape)[i].numpy() + 1
            counts = pseudo.weights.view(shape)[i].numpy()
            assert (counts[learnt] == 0).all()
            assert (counts[~learnt] > 0).all()
            assert (own == truth)[~learnt & (truth > 0)].mean() > 0.8


def test_no_pseudo_labels_where_none_were_made():
    source = cropped([pair()], SMALL).with_pseudo_labels([])
    (crops, *_) = source.draw(np.random.default_rng(1))
    assert source.read(crops).pseudo_labels is None


def test_of_too_many_windows_those_of_rare_classes_are_kept(monkeypatch):
    monkeypatch.setattr(pseudo_labelling, "MAX_WINDOWS", 3)
    _, split = pair()
    row, col = np.argwhere(split.train)[-1]
    labels = np.where(split.labels == 3, 1, split.labels)
    labels[row, col] = 3
    windows = choose_windows([np.where(split.train, labels, 0).astype(np.uint16)], 24)
    assert len(windows) == 3
    core = windows[0].tile.core
    assert core.row <= row < core.row_stop
    assert core.col <= col < core.col_stop


@pytest.mark.usefixtures("small_models")
@pytest.mark.parametrize("inductive", [False, True])
def test_a_crop_that_is_the_scene_teaches_what_the_scene_teaches(inductive):
    class Still:
        def integers(self, *bounds):
            return 0

        def choice(self, values):
            return values[0]

    found = []
    for source in (held([pair()], inductive), cropped([pair()], LARGE, inductive)):
        network = randomise(build(default_spec(DEFAULT_MODEL, 12, 3))).train()
        loss = SceneObjective(source, 3, 0.1, 0.0).backward(network, Still())
        found.append((loss, {name: p.grad for name, p in network.named_parameters()}))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    torch.testing.assert_close(found[1][1], found[0][1])


@pytest.mark.usefixtures("small_models")
def test_gradients_are_normalised_over_the_whole_step():
    """Crops given one after the other weigh together what they weigh given at once."""
    scene, split = pair(40, 16)  # crops over the whole width
    alike = ArrayScene(np.tile(scene.cube[:8], (5, 1, 1)))
    losses = []
    for batch in (5, 1):
        source = cropped([(alike, split)], replace(SMALL, batch=batch))
        network = build(default_spec(DEFAULT_MODEL, 12, 3)).train()
        for parameter in network.parameters():
            torch.nn.init.zeros_(parameter)  # every class as likely as another
        losses.append(
            SceneObjective(source, 3, 0.0, 0.0).backward(network, np.random.default_rng(2))
        )
    assert losses[0] == pytest.approx(np.log(3), rel=1e-5)
    assert losses[1] == pytest.approx(np.log(3), rel=1e-5)


@pytest.mark.usefixtures("small_models")
@pytest.mark.parametrize("inductive", [False, True])
@torch.no_grad()
def test_statistics_over_all_crops_are_those_of_the_scene(inductive):
    pairs = [pair(70, 93), pair(70, 93, seed=2)]
    whole, crops = held(pairs, inductive), cropped(pairs, MIDDLE, inductive)
    tiles = [
        (number, tile)
        for number, (scene, _) in enumerate(pairs)
        for tile in plan_tiles(*scene.shape[:2], tile=(32, 32), halo=16, stride=4)
    ]
    crops.batch_norm_inputs = crops._batches(
        [number for number, _ in tiles],
        [tile for _, tile in tiles],
        [scene.training for scene in crops.scenes],
        3,
    )
    found = []
    for source in (whole, crops):
        network = randomise(build(default_spec(DEFAULT_MODEL, 12, 3)))
        objective = SceneObjective(source, 3, 0.1, 0.0)
        reestimate(network, objective.run, objective.calls)
        found.append({n: b for n, b in network.named_buffers() if "running" in n})
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("small_models")
@torch.no_grad()
def test_validation_scores_are_those_of_the_whole_scene():
    pairs = [pair(70, 93)]
    source = cropped(pairs, MIDDLE)
    network = randomise(build(default_spec(DEFAULT_MODEL, 12, 3)))
    scores, targets = SceneObjective(source, 3, 0.1, 0.0).validation_scores(network)
    whole = held(pairs).batch
    wanted = network.eval()(whole.cube).flatten(2)[0][:, whole.validation_pixels].t()
    assert len(targets) == source.n_validation == len(whole.validation_targets)
    order, other = (np.lexsort(values.numpy().round(3).T) for values in (scores, wanted))
    torch.testing.assert_close(scores[order], wanted[other], rtol=1e-4, atol=1e-4)
    assert torch.equal(targets[order], whole.validation_targets[other])


def test_evaluations_are_bounded(monkeypatch):
    monkeypatch.setattr(training_crops, "EVALUATION_PIXELS", 6 * 20**2)
    monkeypatch.setattr(training_crops, "BATCH_NORM_PIXELS", 8 * 20**2)
    source = cropped([pair(200, 210)], SMALL)
    assert sum(len(crops.tiles) for crops in source.validation) == 6
    found = [tile for crops in source.batch_norm_inputs for tile in crops.tiles]
    assert 5 <= len(set(found)) == len(found) <= 8
    assert 0 < source.n_validation < pair(200, 210)[1].n_validation
    assert max(len(crops.tiles) for crops in source.batch_norm_inputs) <= SMALL.tiles_at_once


def test_labels_of_another_size():
    scene, _ = pair()
    with pytest.raises(LabelError, match="the labels are 20x24 pixels, array is 60x71"):
        label_scene(scene, pair(20, 24)[1], BANDS, inductive=False)


class TestTraining:
    """The whole of it, with scenes that are many crops large."""

    pytestmark = pytest.mark.usefixtures("small_models", "crops_only")

    @pytest.fixture
    def crops_only(self, monkeypatch):
        monkeypatch.setattr(training_plan, "LARGEST_WHOLE", 1)
        monkeypatch.setattr(training_plan, "SIDES", (48, 24))
        monkeypatch.setattr(training_plan, "TILE_SIDES", (96, 48))
        monkeypatch.setattr(training_crops, "BATCH_NORM_PIXELS", 2**13)
        monkeypatch.setattr(training_plan, "STEP_PIXELS", 3 * 24**2)

    @staticmethod
    def fit(pairs, steps=12, classes=3, **options):
        changes = {name: options.pop(name) for name in ("seed", "inductive") if name in options}
        settings = replace(default_options(steps=steps, **changes), evaluate_every=3)
        for name in ("learning_rate", "propagation"):
            if name in options:
                settings = replace(settings, **{name: options.pop(name)})
        scenes, splits = [scene for scene, _ in pairs], [split for _, split in pairs]
        return train(dataset_of(scenes, splits, classes), settings, **options)

    @staticmethod
    def weight_bytes(trained):
        weights = trained.bundle.weights
        return b"".join(weights[name].numpy().tobytes() for name in sorted(weights))

    @pytest.mark.slow
    def test_learns_the_fields(self):
        scene, split = pair()
        trained = self.fit([(scene, split)], steps=80, learning_rate=1e-2)
        labels = Predictor(trained.bundle).label_map(scene)
        assert (labels == split.labels)[split.test].mean() > 0.9
        assert trained.bundle.settings["crops"]["side"] == 24

    def test_pseudo_labels_teach_too(self):
        labels = field_labels(60, 71, field=24)
        scene = ArrayScene(field_cube(labels, noise=1.5))
        split = make_split(labels, "per-class:2")
        found = []
        for propagation in (1.0, 0.0):
            trained = self.fit([(scene, split)], steps=60, propagation=propagation)
            mapped = Predictor(trained.bundle).label_map(scene)
            found.append((mapped == labels)[split.test].mean())
        assert found[0] > found[1] + 0.1

    @pytest.mark.slow
    def test_the_same_seed_gives_the_same_bytes(self):
        first, again, other = (
            self.weight_bytes(self.fit([pair()], seed=seed)) for seed in (0, 0, 1)
        )
        assert first == again != other

    @pytest.mark.parametrize("recipe", ["random:0.2:val=0.2", "random:0.2:val=0"])
    @pytest.mark.slow
    def test_a_resumed_run_ends_with_the_same_bytes(self, tmp_path, recipe):
        pairs = [pair(recipe=recipe)]
        whole = self.fit(pairs)

        def stop(step, loss, validation_oa):
            if step == 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.fit(pairs, checkpoint=tmp_path, progress=stop)
        resumed = self.fit(pairs, checkpoint=tmp_path, resume=True)
        assert self.weight_bytes(resumed) == self.weight_bytes(whole)
        assert resumed.bundle.temperature == whole.bundle.temperature

    @pytest.mark.slow
    def test_other_crops_are_another_run(self, tmp_path, monkeypatch):
        def stop(step, loss, validation_oa):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.fit([pair()], checkpoint=tmp_path, progress=stop)
        monkeypatch.setattr(training_plan, "STEP_PIXELS", 24**2)
        with pytest.raises(SettingError, match="other settings or input"):
            self.fit([pair()], checkpoint=tmp_path, resume=True)

    @pytest.mark.slow
    def test_no_test_label_is_seen(self):
        scene, split = pair()
        labels = split.labels.copy()
        labels[split.test] = np.random.default_rng(0).permutation(labels[split.test])
        blind = replace(split, labels=labels)
        assert self.weight_bytes(self.fit([(scene, split)])) == self.weight_bytes(
            self.fit([(scene, blind)])
        )

    @pytest.mark.parametrize("inductive", [False, True])
    @pytest.mark.slow
    def test_several_scenes_train_together(self, inductive):
        pairs = [pair(), pair(13, 90), pair(1, 80)]
        trained = self.fit(pairs, steps=100, learning_rate=1e-2, inductive=inductive)
        predictor = Predictor(trained.bundle)
        for scene, split in pairs[:2]:
            assert (predictor.label_map(scene) == split.labels)[split.test].mean() > 0.8

    @pytest.mark.parametrize("shape", [(1, 90), (90, 1), (3, 5), (2, 200)])
    def test_narrow_scenes(self, shape):
        labels = (np.arange(shape[0] * shape[1]).reshape(shape) % 2 + 1).astype(np.uint16)
        cube = np.random.default_rng(0).normal(size=(*shape, 4)) + 3 * labels[..., None]
        split = make_split(labels, "random:0.4:val=0.3")
        trained = self.fit([(ArrayScene(cube.astype(np.float32)), split)], steps=5, classes=2)
        assert all(torch.isfinite(tensor).all() for tensor in trained.bundle.weights.values())

    @pytest.mark.parametrize("inductive", [False, True])
    @pytest.mark.slow
    def test_pixels_without_a_measurement_play_no_part(self, inductive):
        scene, split = pair()
        holes = np.zeros(split.labels.shape, bool)
        holes[3:26, 7:11] = holes[50:] = True
        bundles = []
        for value, nodata in ((np.nan, None), (-9999, -9999.0)):
            cube = np.where(holes[..., None], np.float32(value), scene.cube)
            holed = ArrayScene(cube, nodata=nodata)
            bundles.append(self.fit([(holed, split)], inductive=inductive))
        assert self.weight_bytes(bundles[0]) == self.weight_bytes(bundles[1])
        labels = Predictor(bundles[0].bundle).label_map(holed)
        np.testing.assert_array_equal(labels == 0, holes)

    def test_without_validation_pixels_the_last_state_is_kept_and_not_calibrated(self):
        scene, labels = field_scene(60, 71)
        trained = self.fit([(scene, make_split(labels, "per-class:6"))])
        assert trained.bundle.temperature == 1.0
        assert trained.best_step == 12


def test_a_network_with_a_wide_halo_trains_on_crops(monkeypatch, small_models):
    monkeypatch.setattr(training_plan, "LARGEST_WHOLE", 1)
    monkeypatch.setattr(training_crops, "BATCH_NORM_PIXELS", 1)
    labels = field_labels(150, 140)
    scene, split = field_scene(150, 140)[0], make_split(labels, "random:0.2")
    settings = replace(default_options("fcn8s", steps=2), evaluate_every=1, propagation=0.0)
    trained = train(dataset_of(scene, split), settings)
    crops = trained.bundle.settings["crops"]
    assert (crops["side"], crops["count"]) == (128, 1)  # no more pixels than the scene has
    assert (crops["core"], crops["halo"]) == (128, 64)
