"""Scenes of other band orders, selections and sensors, brought to the bands of a model."""

import functools
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import ArrayScene, noise_scene, random_bundle, whole

from hsifcn.core.errors import MismatchError
from hsifcn.core.scene import Window
from hsifcn.data.standardise import Scaling, valid_pixels
from hsifcn.inference.band_matching import band_widths, match_scene
from hsifcn.inference.predictor import Predictor

BANDS = 5
NM = np.array([400.0, 410, 420, 430, 440])


@pytest.fixture(scope="module")
def bundle():
    return random_bundle("fcn8s", BANDS, wavelengths=NM)


def scene_at(wavelengths, **options):
    given = None if wavelengths is None else np.array(wavelengths, float)
    bands = BANDS if wavelengths is None else len(given)
    return noise_scene((9, 8, bands), path="other.img", wavelengths=given, **options)


def test_the_same_bands_are_left_alone(bundle):
    for wavelengths in (NM, NM + 2):
        scene = scene_at(wavelengths)
        match = match_scene(bundle, scene)
        assert match.scene is scene
        assert not match.note


@functools.cache
def mapped_scene():
    """A scene, a model of its bands, and the map."""
    scene, bundle = scene_at(NM), random_bundle("fcn8s", BANDS, wavelengths=NM)
    return scene, bundle, Predictor(bundle).label_map(scene)


@given(st.permutations(range(8)), st.floats(-2.4, 2.4))
def test_bands_in_any_order_among_others_give_the_same_map(order, drift):
    wanted, bundle, expected = mapped_scene()
    more = np.concatenate([wanted.cube, np.full((9, 8, 3), 7, "f4")], axis=2)
    wavelengths = np.array([*NM, 390.0, 450.0, 460.0]) + drift
    scene = ArrayScene(more[..., list(order)], "s", wavelengths=wavelengths[list(order)])
    match = match_scene(bundle, scene)
    assert "s: the model's 5 bands were found by wavelength among the scene's 8" in match.note
    assert match.scene.shape == (9, 8, 5)
    np.testing.assert_array_equal(match.scene.read(whole(scene)), wanted.cube)
    part = Window(2, 3, 4, 5)
    np.testing.assert_array_equal(match.scene.read(part), wanted.cube[part.slices])
    np.testing.assert_array_equal(Predictor(bundle).label_map(match.scene), expected)


def test_a_band_that_the_model_does_not_use_may_be_missing(bundle):
    good = np.array([True, True, True, True, False])
    small = replace(random_bundle("fcn8s", 4), wavelengths=NM, good_bands=good)
    assert match_scene(small, scene_at(NM[:4])).scene.shape == (9, 8, 5)
    with pytest.raises(MismatchError, match="add --resample"):
        match_scene(bundle, scene_at(NM[:4]))


def test_of_two_bands_at_one_wavelength_the_good_one_is_taken(bundle):
    scene = scene_at([400, 410, 410, 420, 430, 440])
    good = np.array([True, False, True, True, True, True])
    read = match_scene(bundle, replace(scene, good_bands=good)).scene.read(whole(scene))
    np.testing.assert_array_equal(read, scene.cube[..., [0, 2, 3, 4, 5]])
    bad = np.array([False, True, True, True, True, True])
    assert "1 of them are marked as bad" in match_scene(bundle, replace(scene, good_bands=bad)).note


def test_other_sensors_are_refused_with_the_reason(bundle):
    with pytest.raises(MismatchError, match=r"other\.img has no band near 1 of the model's 5: the"):
        match_scene(bundle, scene_at([400, 410, 423, 430, 440]))


def test_unknown_wavelengths(bundle):
    assert "other.img has no wavelengths" in match_scene(bundle, scene_at(None)).note
    unknown = replace(bundle, wavelengths=None)
    assert "the model has no wavelengths" in match_scene(unknown, scene_at(NM)).note
    assert not match_scene(unknown, scene_at(None)).note
    with pytest.raises(MismatchError, match="has 6 bands, the model was trained on 5"):
        match_scene(unknown, noise_scene((4, 4, 6)))
    with pytest.raises(MismatchError, match="--wavelengths"):
        match_scene(bundle, noise_scene((4, 4, 6)))


def straight_lines(wavelengths, **options):
    """Spectra that are straight lines, which resampling keeps as they are."""
    slopes = np.linspace(-1, 1, 6).reshape(2, 3, 1)
    cube = (2 + slopes * (np.asarray(wavelengths) - 420) / 100).astype("f4")
    return ArrayScene(cube, "line", wavelengths=np.array(wavelengths, float), **options)


@pytest.mark.parametrize("step", [1.7, 5, 13.0, 25], ids=str)
def test_finer_and_coarser_sensors_are_resampled(bundle, step):
    wavelengths = np.arange(360, 480 + step, step)
    match = match_scene(bundle, straight_lines(wavelengths), resample=True)
    assert f"its {len(wavelengths)} bands were resampled to the model's 5" in match.note
    assert match.scene.dtype == np.float32
    found = match.scene.read(whole(match.scene))
    np.testing.assert_allclose(found, straight_lines(NM).cube, atol=2e-3)
    pickle.loads(pickle.dumps(match.scene))


def test_a_fine_line_is_smoothed_by_the_model_band(bundle):
    """A spectrum of one sharp line comes out with the Gaussian of the model's width."""
    wavelengths = np.arange(350, 490, 0.5)
    cube = np.tile((np.abs(wavelengths - 421) < 0.1).astype("f4"), (2, 2, 1))
    scene = ArrayScene(cube, wavelengths=wavelengths)
    wide = replace(bundle, fwhm=np.full(5, 12.0), scaling=Scaling(np.full(5, 0.05), np.ones(5)))
    found = match_scene(wide, scene, resample=True).scene.read(whole(scene))[0, 0]
    sigma = 12 / 2.3548
    expected = 0.5 * np.exp(-((NM - 421) ** 2) / 2 / sigma**2) / sigma / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=1e-4)


def test_bad_bands_are_not_mixed_in(bundle):
    wavelengths = np.arange(380, 461, 4.0)
    scene = straight_lines(wavelengths)
    scene.cube[..., 7] = np.nan
    good = np.arange(len(wavelengths)) != 7
    found = match_scene(bundle, replace(scene, good_bands=good), resample=True).scene
    np.testing.assert_allclose(found.read(whole(scene)), straight_lines(NM).cube, atol=2e-3)


def test_pixels_without_a_measurement_stay_so(bundle):
    scene = straight_lines(np.arange(380, 461, 4.0), nodata=-9999)
    scene.cube[0, 1] = -9999
    scene.cube[1, 2, 3] = np.inf
    match = match_scene(bundle, scene, resample=True).scene
    invalid = np.isnan(match.read(whole(scene)))
    expected = np.zeros((2, 3, 5), bool)
    expected[0, 1] = expected[1, 2] = True
    np.testing.assert_array_equal(invalid, expected)
    labels = Predictor(bundle).label_map(match)
    np.testing.assert_array_equal(labels == 0, expected.any(2))


def test_gaps_are_refused(bundle):
    for wavelengths in (np.arange(380, 424, 4.0), [380, 384, 388, 400, 404, 436, 440, 444]):
        with pytest.raises(MismatchError, match=r"line does not measure \d of the model's bands"):
            match_scene(bundle, straight_lines(wavelengths), resample=True)


def test_widths():
    np.testing.assert_array_equal(band_widths(np.array([1.0, 2, 4, 100]), None), [1, 1, 2, 96])
    np.testing.assert_array_equal(band_widths(np.array([7.0]), None), [1])


@pytest.mark.parametrize("factor", [1e-4, 0.01, 100, 10_000])
def test_other_units_are_refused(bundle, factor):
    trained = replace(bundle, scaling=Scaling(np.full(5, 3000.0), np.full(5, 500.0)))
    scene = scene_at(NM)
    counts = scene.with_cube((3000 + 500 * scene.cube).astype("f4"))
    assert match_scene(trained, counts).scene is counts
    assert match_scene(trained, counts.with_cube(counts.cube / 9))
    share = rf"1/{1 / factor:,.0f} of" if factor < 1 else rf"{factor:,.0f} times"
    with pytest.raises(MismatchError, match=f"about {share[:1]}.* those that the model"):
        match_scene(trained, counts.with_cube(counts.cube * np.float32(factor)))


@pytest.mark.parametrize("resample", [False, True])
def test_scales_that_files_tell_are_named(bundle, resample):
    """A model trained on reflectances, as of EMIT, and a scene in 1/10000, as of NEON AOP."""
    trained = replace(bundle, scaling=Scaling(np.full(5, 0.3), np.full(5, 0.05)))
    neon = straight_lines(np.arange(380, 461, 5.0), scale_factor=10_000.0)
    neon.cube[:] *= 1500
    told = r"line \(reflectance = value / 10000 by its file\) are about .*,\d+ times those"
    with pytest.raises(MismatchError, match=told):
        match_scene(trained, neon, resample=resample)


@pytest.mark.parametrize("how", ["as they are", "chosen", "mixed"])
def test_known_scales_are_brought_to_the_models(bundle, how):
    """A model trained on reflectances in per cent, and a scene in 1/10000."""
    trained = replace(bundle, scale_factor=100.0, scaling=Scaling(np.full(5, 30), np.full(5, 5)))
    percent = straight_lines(NM).cube * np.float32(15)
    wavelengths = {"as they are": NM, "chosen": NM[::-1], "mixed": np.arange(380, 461, 4.0)}[how]
    counts = straight_lines(wavelengths, scale_factor=10_000.0, nodata=-9999.0)
    counts.cube[:] *= 1500
    counts.cube[1, 1] = -9999
    told = r"value / 10000 in line, but value / 100 in the scenes trained on: .* multiplied by 0.01"
    with pytest.warns(UserWarning, match=told):
        scene = match_scene(trained, counts, resample=how == "mixed").scene
    assert scene.scale_factor == 100
    assert scene.shape == (2, 3, 5)
    found = scene.read(whole(scene))
    assert found.dtype == scene.dtype == np.float32
    valid = valid_pixels(found, scene.nodata)
    np.testing.assert_array_equal(valid, [[1, 1, 1], [1, 0, 1]])
    np.testing.assert_allclose(found[valid], percent[valid], rtol=2e-3)
    pickle.loads(pickle.dumps(scene))


def test_equal_and_unknown_scales_are_left_alone(bundle):
    trained = replace(bundle, scale_factor=100.0)
    for scene in (scene_at(NM), scene_at(NM, scale_factor=100.0000001)):
        assert match_scene(trained, scene).scene is scene
    scene = scene_at(NM, scale_factor=10_000.0)
    assert match_scene(bundle, scene).scene is scene


def test_a_scale_that_is_not_true_is_noticed(bundle):
    trained = replace(bundle, scale_factor=1.0, scaling=Scaling(np.full(5, 0.3), np.full(5, 0.1)))
    false = straight_lines(NM, scale_factor=10_000.0)
    told = r"line \(reflectance = value / 10000 by its file\) are about 1/\d+"
    with (
        pytest.warns(UserWarning, match=r"multiplied by 0\.0001"),
        pytest.raises(MismatchError, match=told),
    ):
        match_scene(trained, false)


def test_a_scene_without_measurements_has_no_units(bundle):
    empty = ArrayScene(np.full((4, 5, 5), np.nan, "f4"), wavelengths=NM)
    assert match_scene(bundle, empty).scene is empty
