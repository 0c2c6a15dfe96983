"""How far a scene lies from the training scenes, and scenes under other light mapped as before.

Scenes are the bundled one under a known light, so what should come out is known without the
product's estimate: the map of the scene as it was.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from cli_helpers import ROOT, command
from scenes import ArrayScene, random_bundle

from hsifcn.core.errors import MismatchError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.core.tiles import plan_tiles
from hsifcn.data.standardise import Scaling
from hsifcn.inference.bundle import load_model
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.scene_shift import adapt, measure_shift, solve_factored
from hsifcn.inference.spectral_summary import summarise
from hsifcn.io import open_labels, open_scene

pytestmark = pytest.mark.slow  # one training on the whole bundled scene, and maps of it

CUBE = ROOT / "data" / "indian_pines_corrected.mat"
BANDS = 200
ACROSS = np.linspace(-1, 1, BANDS)  # from the shortest to the longest wavelength
GAINS = (0.8, 1.03, 16.0)
LIGHTS = {
    "offset": (1.0, 100.0),
    "tilted": (1 + 0.05 * ACROSS, 0.0),
    "haze": (0.95, 200 * np.exp(-2 * (ACROSS + 1))),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short training on the bundled scene."""
    folder = tmp_path_factory.mktemp("run")
    done = command(folder, "train", CUBE, "--inductive", "--steps", "60", "-q")
    assert done.code == 0, done.err
    return folder / "runs" / "indian_pines_corrected"


@pytest.fixture(scope="module")
def bundle(run):
    return load_model(run / "model.safetensors")


@pytest.fixture(scope="module")
def cube():
    scene = open_scene(CUBE)
    return scene.read(Window(0, 0, *scene.shape[:2])).astype(np.float32)


@pytest.fixture(scope="module")
def truth():
    return open_labels(ROOT / "data" / "indian_pines_gt.mat").labels


@pytest.fixture(scope="module")
def wanted(bundle, cube):
    """The map of the scene under its own light."""
    return Predictor(bundle).label_map(ArrayScene(cube))


def lit(cube, light):
    gain, offset = LIGHTS[light]
    return ArrayScene((cube * gain + offset).astype(np.float32))


def test_the_training_scene_is_not_shifted(bundle, cube):
    shift, change = measure_shift(bundle, ArrayScene(cube))
    assert shift.mean_difference < 0.01
    assert shift.share_outside < 0.02
    assert shift.gain == pytest.approx(1, abs=0.002)
    np.testing.assert_allclose(change.gain, 1, atol=0.01)
    assert shift.warning(adapted=False) is None
    adapted, _, changed = adapt(bundle, ArrayScene(cube))
    assert adapted is bundle
    assert not changed


@pytest.mark.parametrize("gain", GAINS)
def test_a_brighter_or_darker_scene_is_mapped_as_before_without_adapting(
    bundle, cube, wanted, gain
):
    scene = ArrayScene((cube * gain).astype(np.float32))
    shift, _ = measure_shift(bundle, scene)
    assert shift.gain == pytest.approx(gain, rel=0.002)
    assert shift.share_outside < 0.02
    assert shift.warning(adapted=False) is None
    assert (Predictor(bundle).label_map(scene) == wanted).mean() > 0.9999  # but for rounding


@pytest.mark.parametrize("light", LIGHTS)
def test_a_scene_under_another_light_is_mapped_as_before(bundle, cube, wanted, truth, light):
    scene = lit(cube, light)
    shift, change = measure_shift(bundle, scene)
    assert shift.distance > 1.5  # 1 is that of the training spectra
    assert "--adapt" in shift.warning(adapted=False)
    adapted, _, changed = adapt(bundle, scene)
    assert changed
    assert shift.warning(adapted=True) is None
    found = Predictor(adapted).label_map(scene)
    labelled = truth > 0
    assert (found == wanted).mean() > 0.95
    right, plainly = (found == truth)[labelled].mean(), (wanted == truth)[labelled].mean()
    assert right > plainly - 0.01
    # Light and its estimate may trade gain against offset, but not what they make of a spectrum.
    gain, offset = LIGHTS[light]
    typical = np.median(cube.reshape(-1, BANDS), axis=0)
    spread = cube.reshape(-1, BANDS).std(axis=0)
    error = (change.gain * typical + change.offset - gain * typical - offset) / spread
    assert np.sqrt(np.mean(error**2)) < 0.1


def test_other_land_cover_is_not_taken_for_light(cube):
    """Of a scene's halves, one as training scene: the estimated gain is that of equal light."""
    left, right = cube[:, :72].reshape(-1, BANDS), ArrayScene(cube[:, 72:])
    learnt = random_bundle("fcn8s", BANDS, scaling=Scaling(left.mean(0), left.std(0)))
    learnt = replace(learnt, spectra=summarise(left))
    shift, _ = measure_shift(learnt, right)
    assert shift.mean_difference > 0.3  # other classes
    assert shift.gain == pytest.approx(1, abs=0.02)
    assert shift.share_outside < 0.1
    brighter, _ = measure_shift(learnt, ArrayScene(1.1 * cube[:, 72:]))
    assert brighter.gain / shift.gain == pytest.approx(1.1, abs=0.005)


def test_noise_is_told_but_not_adapted_to(bundle, cube):
    rng = np.random.default_rng(0)
    noisy = ArrayScene((cube + rng.normal(0, 30, cube.shape)).astype(np.float32))
    adapted, shift, changed = adapt(bundle, noisy)
    assert adapted is bundle
    assert not changed
    assert "unlike those that the model learnt" in shift.warning(adapted=False)


def test_scenes_whose_light_cannot_be_told_are_refused(bundle, cube, truth):
    with pytest.raises(MismatchError, match="hold a measurement, and it takes 500"):
        adapt(bundle, ArrayScene(cube[:10, :10]))
    with pytest.raises(MismatchError, match="0 of the sampled pixels"):
        adapt(bundle, ArrayScene(np.full_like(cube, np.nan)))
    woods = cube[truth == 14]
    one_class = ArrayScene(woods[:1200].reshape(30, 40, BANDS))
    with pytest.raises(MismatchError, match="as if it showed one class"):
        adapt(bundle, one_class)
    old = replace(bundle, spectra=None)
    with pytest.raises(MismatchError, match="older than --adapt"):
        adapt(old, ArrayScene(cube))
    assert measure_shift(old, ArrayScene(cube)) is None


def test_the_command_tells_and_adapts(run, cube, wanted, tmp_path):
    np.save(tmp_path / "bright.npy", (1.25 * (cube + 100)).astype(np.float32))
    plain = command(tmp_path, "predict", run, "bright.npy", "-o", "plain.npy", "--json")
    assert plain.code == 0, plain.err
    assert re.search(
        r"shift: .* (9\d|100)\.\d % of the spectra lie outside .* gain about 1\.\d", plain.err
    )
    assert "warning: bright.npy: light or instrument may differ" in plain.err
    assert plain.json["shift"]["share_outside"] > 0.9
    assert plain.json["adapted"] is False
    done = command(tmp_path, "predict", run, "bright.npy", "-o", "m.npy", "--adapt", "--json")
    assert done.json["adapted"] is True
    assert done.json["shift"]["gain"] == pytest.approx(1.25, abs=0.05)
    assert "warning" not in done.err
    found = np.load(tmp_path / "m.npy").reshape(wanted.shape)
    assert (found == wanted).mean() > 0.97
    assert json.loads((tmp_path / "m.npy.json").read_text())["request"]["adapt"] is True


def test_tiles_of_an_adapted_scene_are_the_whole_scene(bundle, cube):
    scene = lit(cube, "haze")
    adapted, _, _ = adapt(bundle, scene)
    predictor = Predictor(adapted)
    (tile,) = [
        tile
        for tile in plan_tiles(145, 145, tile=(64, 64), halo=predictor.geometry.halo, stride=32)
        if (tile.core.row, tile.core.col) == (64, 64)
    ]
    core, read = tile.core, tile.read
    assert read != Window(0, 0, 145, 145)
    part = predictor.scores(scene, read)[0][(slice(None), *core.slices_in(read))]
    whole = predictor.whole_scene_logits(scene)[(slice(None), *core.slices)]
    np.testing.assert_allclose(part.numpy(), whole, atol=1e-3)


def test_the_summary_is_kept_with_the_model(bundle, tmp_path):
    bundle.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors").spectra
    assert loaded.components.shape == (10, BANDS)
    np.testing.assert_allclose(loaded.location, bundle.spectra.location, rtol=1e-5)
    np.testing.assert_allclose(loaded.components @ loaded.components.T, np.eye(10), atol=1e-4)
    assert loaded.limit == pytest.approx(bundle.spectra.limit, rel=1e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(field, np.nan) for field in ("location", "spread", "components", "variances", "limit")],
        *[(field, -1.0) for field in ("spread", "variances", "residual_variances", "limit")],
    ],
)
def test_a_damaged_summary_is_refused(bundle, tmp_path, field, value):
    wrong = np.full_like(getattr(bundle.spectra, field), value)
    replace(bundle, spectra=replace(bundle.spectra, **{field: wrong})).save(tmp_path / "m")
    with pytest.raises(UnreadableFileError, match="of the training spectra"):
        load_model(tmp_path / "m")


def test_a_summary_of_other_bands_is_refused(bundle, tmp_path):
    short = replace(bundle.spectra, location=bundle.spectra.location[1:])
    replace(bundle, spectra=short).save(tmp_path / "m")
    with pytest.raises(UnreadableFileError, match="of the training spectra"):
        load_model(tmp_path / "m")


def test_factored_systems_are_solved():
    rng = np.random.default_rng(0)
    factors, residuals, right = rng.normal(size=(3, 9)), rng.uniform(0.1, 2, 9), rng.normal(size=9)
    dense = factors.T @ factors + np.diag(residuals)
    found = solve_factored(factors, residuals, right[:, None])[:, 0]
    np.testing.assert_allclose(found, np.linalg.solve(dense, right))
