from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from io_samples import write_envi
from scenes import ArrayScene, field_scene, noise_scene, random_bundle, whole, write_field_scene

from hsifcn.core.errors import (
    ExistingOutputError,
    MemoryCeilingError,
    MismatchError,
    UnreadableFileError,
)
from hsifcn.core.scene import Window
from hsifcn.core.tiles import plan_tiles
from hsifcn.data.standardise import Scaling, fit_scaling
from hsifcn.inference import tiling as tile_plan
from hsifcn.inference.map_writer import MappedTile, probabilities_path
from hsifcn.inference.predict import PredictOptions, write_map
from hsifcn.inference.predictor import Predictor, check_scene
from hsifcn.inference.tiling import TilePlan, estimate_memory
from hsifcn.io import open_labels, open_scene
from hsifcn.models import MODELS
from hsifcn.models.geometry import Geometry

pytestmark = pytest.mark.usefixtures("small_models_in_module")

BANDS = 5
SCENE_MODELS = [name for name, model in MODELS.items() if model.patch is None]


@pytest.fixture(scope="module")
def predictors(small_models_in_module):
    """A predictor of each model, made once."""

    class Made(dict):
        def __missing__(self, name):
            self[name] = Predictor(random_bundle(name, BANDS, seed=len(self)))
            return self[name]

    return Made()


def in_tiles_of(predictor, tile):
    """The same predictor, cutting scenes into tiles whatever the memory."""

    class Tiled(Predictor):
        def __init__(self):
            self.__dict__.update(predictor.__dict__)

        def plan(self, scene, max_memory=None, *, dissimilarity=False):
            return TilePlan(self.tiles(scene), self.geometry.halo, 0)

        def tiles(self, scene, max_memory=None):
            geometry = self.geometry
            return plan_tiles(
                *scene.shape[:2], tile=(tile, tile), halo=geometry.halo, stride=geometry.stride
            )

    return Tiled()


def assert_same_scores(whole_scene, tiled):
    assert np.abs(whole_scene - tiled).max() < 1e-4
    second, best = np.partition(whole_scene, -2, axis=0)[-2:]
    clear = best - second > 2e-4
    assert np.array_equal(whole_scene.argmax(0)[clear], tiled.argmax(0)[clear])


@pytest.mark.slow
@settings(max_examples=200)
@given(
    name=st.sampled_from(list(MODELS)),
    long=st.integers(2, 600),
    short=st.one_of(st.just(1), st.integers(1, 70)),
    upright=st.booleans(),
    tile=st.integers(1, 200),
    interleave=st.sampled_from(["bip", "bil", "bsq"]),
    seed=st.integers(0, 999),
)
def test_tiles_give_the_scores_of_the_whole_scene(
    predictors, tmp_path_factory, name, long, short, upright, tile, interleave, seed
):
    shape = (long, short, BANDS) if upright else (short, long, BANDS)
    scene = noise_scene(shape, seed)
    predictor = in_tiles_of(predictors[name], tile)
    plan = predictor.tiles(scene)
    assume(1 < len(plan) < 60)
    path = tmp_path_factory.getbasetemp() / "scene.img"
    in_file = open_scene(write_envi(path, scene.cube, interleave))
    assert_same_scores(
        predictors[name].whole_scene_logits(scene), predictor.whole_scene_logits(in_file)
    )


@pytest.mark.parametrize("name", [*SCENE_MODELS, "patch15"])
@pytest.mark.parametrize("shape", [(1, 700), (700, 1), (450, 33)])
def test_long_scenes_are_read_in_true_parts(predictors, name, shape):
    scene = noise_scene((*shape, BANDS))
    tiled = in_tiles_of(predictors[name], 32)
    assert any(tile.read != whole(scene) for tile in tiled.tiles(scene))
    assert_same_scores(predictors[name].whole_scene_logits(scene), tiled.whole_scene_logits(scene))


@pytest.mark.parametrize("name", ["segnet", "deconvnet"])
def test_ties_in_even_fields_break_alike_in_tiles(predictors, name):
    rng = np.random.default_rng(0)
    even = np.kron(rng.normal(size=(8, 50)), np.ones((12, 6)))[..., None]  # 12x6 pixels alike
    scene = ArrayScene((even * rng.normal(size=BANDS)).astype(np.float32))
    tiled = in_tiles_of(predictors[name], 32)
    assert len(tiled.tiles(scene)) > 1
    wanted = predictors[name].whole_scene_logits(scene)
    assert np.abs(tiled.whole_scene_logits(scene) - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_a_halo_too_small_would_be_noticed(predictors):
    scene = noise_scene((96, 300, BANDS))
    predictor = predictors["fcn1s"]
    careless = in_tiles_of(predictor, 32)
    careless.geometry = replace(predictor.geometry, receptive_field=33)
    difference = predictor.whole_scene_logits(scene) - careless.whole_scene_logits(scene)
    assert np.abs(difference).max() > 1e-2


@pytest.fixture
def no_memory_used(monkeypatch):
    """Let the memory ceiling be about the scene only."""
    monkeypatch.setattr(tile_plan, "rss_bytes", lambda: 0)


def test_a_ceiling_cuts_the_scene(predictors, no_memory_used):
    scene = noise_scene((4000, 40, BANDS))
    predictor = predictors["fcn1s"]
    need = estimate_memory(predictor.bundle.spec, scene, None)
    for pixels in (17_000, 19_000, 10**6):
        ceiling = need.cut(pixels)
        plan = predictor.tiles(scene, ceiling)
        assert max(tile.read.rows * tile.read.cols for tile in plan) <= pixels
        assert (len(plan) == 1) == (pixels >= 4000 * 40)


def test_a_ceiling_too_low_tells_the_least(predictors, no_memory_used):
    scene = noise_scene((600, 600, BANDS), path="big.img")
    predictor = predictors["fcn1s"]
    with pytest.raises(MemoryCeilingError, match=r"big\.img cannot be scored") as caught:
        predictor.tiles(scene, 1000)
    least = int(caught.value.remedy.split()[-1].removesuffix("M")) * 10**6
    assert predictor.tiles(scene, least)
    with pytest.raises(MemoryCeilingError):
        predictor.tiles(scene, least // 2)


def test_what_looks_at_the_whole_scene_is_not_cut(predictors, no_memory_used, monkeypatch):
    scene = noise_scene((60, 60, BANDS), path="big.img")
    predictor = predictors["fcn1s"]
    monkeypatch.setattr(tile_plan, "geometry", lambda spec: Geometry(4, None))
    enough = estimate_memory(predictor.bundle.spec, scene, None).whole(3600)
    assert len(predictor.tiles(scene, enough)) == 1
    with pytest.raises(MemoryCeilingError, match=r"big\.img does not fit .* looks at all of it"):
        predictor.tiles(scene, enough - 10_000)


def test_memory_in_use_counts(predictors, monkeypatch):
    scene = noise_scene((20, 20, BANDS))
    monkeypatch.setattr(tile_plan, "rss_bytes", lambda: 2 * 10**9)
    with pytest.raises(MemoryCeilingError, match="--max-memory 2"):
        predictors["fcn1s"].tiles(scene, 10**9)


def test_free_memory_is_plausible():
    assert 2**24 < tile_plan.free_memory() < 2**50


class TestBelonging:
    @pytest.fixture
    def bundle(self):
        return random_bundle("fcn8s", BANDS, wavelengths=np.array([400.0, 410, 420, 430, 440]))

    def scene(self, bands=BANDS, wavelengths=None):
        given = None if wavelengths is None else np.array(wavelengths, float)
        return noise_scene((4, 4, bands), path="other.img", wavelengths=given)

    def test_another_number_of_bands(self, bundle):
        with pytest.raises(MismatchError, match=r"other\.img has 6 bands, the model .* on 5"):
            check_scene(bundle, self.scene(6))

    def test_other_wavelengths(self, bundle):
        with pytest.raises(MismatchError, match=r"band 3 of other\.img lies at 423\.0 nm"):
            check_scene(bundle, self.scene(wavelengths=[400, 410, 423, 430, 440]))

    def test_a_drift_within_the_tolerance(self, bundle):
        check_scene(bundle, self.scene(wavelengths=[402, 412, 422, 432, 442]))

    def test_unknown_wavelengths(self, bundle):
        check_scene(bundle, self.scene())
        check_scene(replace(bundle, wavelengths=None), self.scene(wavelengths=range(5)))

    def test_the_label_map_is_refused_too(self, bundle):
        with pytest.raises(MismatchError):
            Predictor(bundle).label_map(self.scene(6))


def test_bad_bands_are_left_out():
    scene = noise_scene((9, 8, BANDS + 1))
    bundle = random_bundle("fcn1s", BANDS)
    kept = np.arange(BANDS + 1) != 2
    wanted = Predictor(bundle).whole_scene_logits(scene.with_cube(scene.cube[..., kept]))
    found = Predictor(replace(bundle, good_bands=kept)).whole_scene_logits(scene)
    assert np.array_equal(wanted, found)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "u8", "f4", "f8"])
def test_scenes_of_any_type(predictors, dtype):
    cube = np.random.default_rng(0).integers(0, 100, (9, 8, BANDS))
    predictor = predictors["fcn1s"]
    wanted = predictor.whole_scene_logits(ArrayScene(cube.astype(np.float32)))
    assert np.array_equal(predictor.whole_scene_logits(ArrayScene(cube.astype(dtype))), wanted)


def test_pixels_without_a_measurement_stay_0_and_do_not_spread():
    scene, _ = field_scene(30, 33, BANDS)
    cube = scene.cube.astype(np.float32)
    bundle = random_bundle("fcn1s", BANDS, scaling=fit_scaling([cube.reshape(-1, BANDS)]))
    predictor = Predictor(bundle)
    holes = np.zeros((30, 33), bool)
    holes[4, 5] = holes[20:, 30:] = True
    broken = np.where(holes[..., None], np.float32(np.nan), cube)
    one_band = cube.copy()
    one_band[holes, 1] = np.inf
    nodata = np.where(holes[..., None], np.float32(-9999), cube)
    mean = np.where(holes[..., None], bundle.scaling.mean.astype(np.float32), cube)
    wanted = predictor.whole_scene_logits(ArrayScene(mean))
    for scene in (ArrayScene(broken), ArrayScene(one_band), ArrayScene(nodata, nodata=-9999)):
        labels = predictor.label_map(scene)
        assert np.array_equal(labels == 0, holes)
        np.testing.assert_allclose(predictor.whole_scene_logits(scene), wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["fcn1s", "patch5"])
def test_models_of_spectra_of_length_one_ignore_a_gain_in_tiles_too(name):
    scene, _ = field_scene(90, 33, BANDS)
    cube = scene.cube.astype(np.float32)
    cube[4:8, 5] = np.nan
    scaling = Scaling(np.full(BANDS, 0.45), np.full(BANDS, 0.1), unit_length=True)
    predictor = Predictor(random_bundle(name, BANDS, scaling=scaling))
    tiled = in_tiles_of(predictor, 32)
    assert len(tiled.tiles(ArrayScene(cube))) > 1
    wanted = predictor.whole_scene_logits(ArrayScene(cube))
    for gain in (0.01, 1.0, 1.25):
        brighter = ArrayScene(cube * np.float32(gain))
        assert_same_scores(wanted, predictor.whole_scene_logits(brighter))
        assert_same_scores(wanted, tiled.whole_scene_logits(brighter))
        np.testing.assert_array_equal(tiled.label_map(brighter) == 0, np.isnan(cube).any(2))


def test_light_is_undone_before_spectra_are_brought_to_length_one():
    scene, _ = field_scene(20, 24, BANDS)
    cube = scene.cube.astype(np.float32)
    gain, offset = np.linspace(0.8, 1.3, BANDS), np.linspace(50, -20, BANDS)
    plain = Scaling(np.full(BANDS, 0.45), np.full(BANDS, 0.1), unit_length=True)
    bundle = random_bundle("fcn1s", BANDS, scaling=plain)
    lit = replace(bundle, scaling=replace(plain, gain=gain, offset=offset))
    wanted = Predictor(bundle).whole_scene_logits(ArrayScene(cube))
    hazy = ArrayScene((cube * gain + offset).astype(np.float32))
    np.testing.assert_allclose(Predictor(lit).whole_scene_logits(hazy), wanted, atol=1e-3)


def test_a_scene_without_any_measurement_is_all_0(predictors):
    scene = ArrayScene(np.full((5, 6, BANDS), np.nan, np.float32))
    for name in ("fcn1s", "patch5"):
        assert not predictors[name].label_map(scene).any()


def test_rejection():
    logits = torch.log(torch.tensor([[[0.6, 0.3, 0.9]], [[0.4, 0.7, 0.1]]]))
    valid = np.array([[True, True, False]])
    part = MappedTile(Window(0, 0, 1, 3), logits, logits.argmax(0), valid)
    assert part.labels().tolist() == [[1, 2, 0]]
    assert part.labels(0.65).tolist() == [[0, 2, 0]]
    assert part.labels(1.0).tolist() == [[0, 0, 0]]
    smoothed = MappedTile(part.core, logits, torch.zeros((1, 3), dtype=torch.int64), valid)
    assert smoothed.labels(0.5).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("suffix", [".img", ".npy", ".mat"])
def test_a_map_on_disk_is_the_label_map(tmp_path, predictors, suffix):
    scene = open_scene(write_field_scene(tmp_path, rows=220, cols=17, bands=BANDS))
    predictor = in_tiles_of(predictors["fcn8s"], 32)
    target = tmp_path / f"map{suffix}"
    done = write_map(predictor, scene, target, PredictOptions(probabilities=True))
    wanted = predictor.label_map(scene)
    read = open_labels(target)  # whose classes are those that occur
    assert np.array_equal(np.take((0, *read.codes), read.labels), wanted)
    assert done.map_path == target
    assert done.shape == (220, 17)
    assert len(done.plan.tiles) == len(predictor.tiles(scene)) == 7
    assert done.counts == tuple(np.bincount(wanted.ravel(), minlength=5))
    assert done.probabilities_path == probabilities_path(target)
    shares = open_scene(done.probabilities_path)
    assert shares.shape == (220, 17, 5)
    assert shares.dtype == np.float32
    shares = shares.read(whole(shares))[..., :-1]  # the last band is the margin
    np.testing.assert_allclose(shares.sum(2), 1, rtol=1e-5)
    assert np.array_equal(shares.argmax(2) + 1, wanted)


def test_envi_maps_carry_classes(tmp_path, predictors):
    scene = open_scene(write_field_scene(tmp_path, bands=BANDS))
    predictor = predictors["fcn1s"]
    done = write_map(predictor, scene, tmp_path / "map.img")
    assert done.probabilities_path is None
    found = open_labels(tmp_path / "map.img")
    assert found.class_names == predictor.bundle.class_names
    assert found.colours == predictor.bundle.colours
    assert not probabilities_path(tmp_path / "map.img").exists()


def test_rejected_and_missing_pixels_on_disk(tmp_path, predictors):
    path = write_field_scene(tmp_path, bands=BANDS)
    cube = (np.load(path).astype(np.float32) - 3000) / 600
    cube[3, 4] = np.nan
    np.save(path, cube)
    scene = open_scene(path)
    predictor = predictors["fcn1s"]
    target = tmp_path / "map.npy"
    write_map(predictor, scene, target, PredictOptions(probabilities=True))
    shares = np.load(probabilities_path(target))
    assert np.isnan(shares).all(2).nonzero() == (np.array([3]), np.array([4]))
    limit = float(np.nanmedian(shares.max(2)))
    done = write_map(predictor, scene, target, PredictOptions(min_confidence=limit, overwrite=True))
    best = np.nan_to_num(shares).max(2)
    found = np.load(target)
    unsure = np.abs(best - limit) < 1e-6
    assert np.array_equal((found == 0)[~unsure], (best < limit)[~unsure])
    assert done.counts[0] == (found == 0).sum() > 100


class Failing(ArrayScene):
    """A scene whose lower part cannot be read."""

    def read(self, window):
        if window.row_stop > 200:
            raise UnreadableFileError("array is truncated", "copy it again")
        return super().read(window)


@pytest.mark.parametrize("suffix", [".img", ".npy", ".mat"])
def test_nothing_stays_of_a_failed_prediction(tmp_path, predictors, suffix):
    scene = Failing(noise_scene((300, 5, BANDS)).cube)
    predictor = in_tiles_of(predictors["fcn8s"], 32)
    assert predictor.tiles(scene)[0].read.row_stop <= 200
    with pytest.raises(UnreadableFileError):
        write_map(predictor, scene, tmp_path / f"map{suffix}", PredictOptions(probabilities=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", ["bands", "memory"])
def test_nothing_stays_of_a_refused_prediction(tmp_path, predictors, no_memory_used, wrong):
    scene = noise_scene((300, 300, BANDS + (wrong == "bands")))
    expected = MismatchError if wrong == "bands" else MemoryCeilingError
    with pytest.raises(expected):
        write_map(predictors["fcn1s"], scene, tmp_path / "map.img", PredictOptions(max_memory=1000))
    assert not list(tmp_path.iterdir())


def test_an_existing_map_is_kept(tmp_path, predictors):
    scene = noise_scene((6, 5, BANDS))
    target = tmp_path / "map.npy"
    target.write_text("precious")
    with pytest.raises(ExistingOutputError):
        write_map(predictors["fcn1s"], scene, target)
    assert target.read_text() == "precious"
    target.unlink()
    probabilities_path(target).write_text("precious")
    with pytest.raises(ExistingOutputError):
        write_map(predictors["fcn1s"], scene, target, PredictOptions(probabilities=True))
    assert [file.name for file in tmp_path.iterdir()] == ["map_probabilities.npy"]


def test_many_classes_take_two_bytes(tmp_path):
    predictor = Predictor(random_bundle("fcn8s", BANDS, classes=300))
    scene = noise_scene((12, 9, BANDS))
    write_map(predictor, scene, tmp_path / "map.npy")
    found = np.load(tmp_path / "map.npy")
    assert found.dtype == np.uint16
    assert np.array_equal(found, predictor.label_map(scene))
