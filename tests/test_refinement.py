"""The back end as a whole: spectra reduced, both methods on a noisy scene, weights, headers."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from scenes import ArrayScene, field_cube, field_labels, random_bundle

from hsifcn.core.errors import MemoryCeilingError, SettingError
from hsifcn.core.scene import class_targets
from hsifcn.data.splits import make_split
from hsifcn.data.standardise import Scaling, fit_scaling
from hsifcn.inference import tiling as tile_plan
from hsifcn.inference.bundle import load_model
from hsifcn.inference.map_writer import probabilities_path
from hsifcn.inference.predict import predict, write_map
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.refine.potentials import (
    DEFAULTS,
    FEATURES,
    METHODS,
    Refinement,
    candidates,
    choose_weights,
    from_header,
    reduced_spectra,
)
from hsifcn.training.refinement_selection import choose_refinement

pytestmark = pytest.mark.usefixtures("small_models_in_module")
BANDS = 12


@pytest.fixture(scope="module")
def scene():
    """A scene with holes, and its labels."""
    labels = field_labels(120, 96, field=12)
    cube = field_cube(labels, BANDS, dtype="f4")
    cube[50:54, 30:33] = np.nan
    return ArrayScene(cube), labels


class Doubtful(Predictor):
    """A predictor that scores as many labels wrongly as it is told to, at random places."""

    def __init__(self, bundle, labels, wrong=0.25, refinement=None, approximate=False):
        super().__init__(bundle, refinement=refinement, approximate=approximate)
        rng = np.random.default_rng(0)
        said = np.where(rng.uniform(size=labels.shape) < wrong, rng.integers(1, 4, labels.shape), 0)
        said = np.where(said, said, np.maximum(labels, 1))
        self.logits = 2.0 * torch.nn.functional.one_hot(torch.from_numpy(said) - 1, 3)

    def score_blocks(self, blocks, window, *, with_spectra=False, dissimilarity=None):
        _, spectra, valid = super().score_blocks(blocks, window, with_spectra=with_spectra)
        return self.logits[window.slices].permute(2, 0, 1).float(), spectra, valid


@pytest.fixture(scope="module")
def bundle(small_models_in_module, scene):
    scaling = fit_scaling([scene[0].cube[np.isfinite(scene[0].cube).all(2)]])
    return random_bundle("fcn1s", BANDS, 3, scaling=scaling)


def accuracy(predictor, scene, labels):
    found = predictor.label_map(scene)
    assert np.array_equal(found == 0, np.isnan(scene.cube).any(2))
    counted = (labels > 0) & (found > 0)
    return (found == labels)[counted].mean()


@pytest.mark.parametrize("method", METHODS)
def test_a_noisy_map_on_disk_gets_better(tmp_path, scene, bundle, method):
    cube, labels = scene
    right = []
    for name, weights in (("plain", None), ("refined", Refinement(method, 4.0, 0.5))):
        target = tmp_path / f"{name}.npy"
        write_map(Doubtful(bundle, labels, refinement=weights), cube, target)
        found = np.load(target)
        assert np.array_equal(found == 0, np.isnan(cube.cube).any(2))
        right.append((found == labels)[(labels > 0) & (found > 0)].mean())
    assert right[0] < 0.85
    assert 1 - right[1] < (1 - right[0]) / 3


@pytest.mark.parametrize("method", METHODS)
def test_strength_0_changes_nothing(scene, bundle, method):
    cube, labels = scene
    plain = Doubtful(bundle, labels).label_map(cube)
    same = Doubtful(bundle, labels, refinement=Refinement(method, 0.0, 0.5)).label_map(cube)
    assert np.array_equal(plain, same)


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_chosen_by_validation_pixels_alone(scene, bundle, method):
    cube, labels = scene
    split = make_split(labels, "random:0.2:val=0.4", seed=0)
    predictor = Doubtful(bundle, labels, refinement=DEFAULTS[method])
    chosen = choose_refinement(method, predictor, [cube], [split])
    assert chosen.strength >= 1
    lied = np.where(split.test, labels % 3 + 1, split.labels).astype(np.uint16)
    assert choose_refinement(method, predictor, [cube], [replace(split, labels=lied)]) == chosen

    certain = Doubtful(bundle, labels, wrong=0, refinement=DEFAULTS[method])
    assert choose_refinement(method, certain, [cube], [split]).strength == 0

    nothing = replace(split, validation=np.zeros_like(split.validation))
    assert choose_refinement(method, predictor, [cube], [nothing]) == DEFAULTS[method]


def test_ties_go_to_the_weakest(scene, bundle):
    cube, labels = scene
    split = make_split(labels, "random:0.2:val=0.4", seed=0)
    predictor = Doubtful(bundle, labels, refinement=DEFAULTS["crf"])
    chosen = choose_refinement("crf", predictor, [cube], [split])

    def right(candidate):
        found = Doubtful(bundle, labels, refinement=candidate).label_map(cube)
        return int((found == labels)[split.validation].sum())

    tried = candidates("crf")
    weaker = tried[: tried.index(chosen)]
    assert all(right(candidate) < right(chosen) for candidate in weaker)
    assert [c.strength for c in tried] == sorted(c.strength for c in tried)
    assert tried[0].strength == 0


@pytest.fixture
def in_tiles(monkeypatch):
    """Cut scenes however much memory there is, and let networks see no farther than a pixel."""
    monkeypatch.setattr(tile_plan, "largest_tile", lambda halo: 100**2)
    pointwise = tile_plan.geometry(random_bundle("patch5", BANDS).spec)
    monkeypatch.setattr(tile_plan, "geometry", lambda spec: pointwise)


def test_the_crf_is_exact_in_tiles(scene, bundle, in_tiles, monkeypatch):
    cube, labels = scene
    predictor = Doubtful(bundle, labels, refinement=Refinement("crf", 4.0, 0.5))
    parts = list(predictor.map_scene(cube))
    assert len(parts) > 1
    monkeypatch.setattr(tile_plan, "largest_tile", lambda halo: 10**6)
    (whole,) = predictor.map_scene(cube)
    for part in parts:
        difference = part.logits - whole.logits[:, *part.core.slices]
        assert difference[:, torch.from_numpy(part.valid)].abs().max() <= 1e-5


def test_the_mrf_is_refused_in_tiles_unless_approximate(scene, bundle, in_tiles, monkeypatch):
    monkeypatch.setattr(tile_plan.MemoryEstimate, "whole", lambda self, pixels: 10**15)
    cube, labels = scene
    weights = Refinement("mrf", 4.0, 0.5)
    with pytest.raises(MemoryCeilingError, match=r"mrf is not exact in.*--approximate"):
        Doubtful(bundle, labels, refinement=weights).label_map(cube)
    told = Doubtful(bundle, labels, refinement=weights, approximate=True)
    assert len(told.tiles(cube)) > 1
    assert accuracy(told, cube, labels) > 0.98
    assert len(Doubtful(bundle, labels, refinement=replace(weights, strength=0.0)).tiles(cube)) > 1


@pytest.mark.parametrize("method", METHODS)
def test_probabilities_on_disk(tmp_path, scene, bundle, method):
    cube, _ = scene
    plain, refined = tmp_path / "plain.npy", tmp_path / "refined.npy"
    predict(bundle, cube, plain, probabilities=True)
    predict(bundle, cube, refined, probabilities=True, refine=method)
    before, after = (np.load(probabilities_path(path)) for path in (plain, refined))
    if method == "mrf":
        assert np.array_equal(before, after, equal_nan=True)
    else:
        assert np.nanmax(np.abs(before - after)) > 0.01
        shares = after[..., :-1]
        np.testing.assert_allclose(np.nansum(shares, 2), ~np.isnan(after[..., 0]), atol=1e-5)
        found = np.nan_to_num(shares, nan=-1).argmax(2) + 1
        assert np.array_equal(np.where(np.isnan(after[..., 0]), 0, found), np.load(refined))


def test_reduced_spectra_are_means_in_standard_deviations():
    rng = np.random.default_rng(0)
    scaling = Scaling(rng.normal(1000, 100, 40), rng.uniform(10, 100, 40))
    spectra = rng.normal(1000, 100, (40, 3, 5)).astype(np.float32)
    found = reduced_spectra(torch.from_numpy(spectra), scaling).numpy()
    standardised = (spectra - scaling.mean[:, None, None]) / scaling.std[:, None, None]
    groups = np.array_split(np.arange(40), FEATURES)
    wanted = np.stack([standardised[group].mean(0) for group in groups])
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    few = reduced_spectra(torch.ones(3, 2, 2), Scaling(np.zeros(3), np.full(3, 2.0)))
    assert torch.equal(few, torch.full((3, 2, 2), 0.5))


def test_neither_units_nor_offset_matter(scene, bundle):
    cube = np.nan_to_num(scene[0].cube, nan=3000.0)
    spectra = torch.from_numpy(cube).permute(2, 0, 1)
    scaling = bundle.scaling
    other = Scaling(5 * scaling.mean + 7, 5 * scaling.std)
    before, after = reduced_spectra(spectra, scaling), reduced_spectra(5 * spectra + 7, other)
    np.testing.assert_allclose(before, after, atol=1e-3)


def test_bundles_carry_the_weights(tmp_path, bundle):
    weights = Refinement("crf", 2.0, 0.25)
    replace(bundle, refinement=weights).save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").refinement == weights
    bundle.save(tmp_path / "n.safetensors")
    assert load_model(tmp_path / "n.safetensors").refinement is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("method", "blur"), ("strength", -1), ("strength", float("nan")), ("spectral_width", 0)],
)
def test_nonsense_weights(key, value):
    with pytest.raises(ValueError, match=r"no refinement|no sense"):
        from_header({**asdict(DEFAULTS["crf"]), key: value})


def test_which_weights_are_taken():
    stored = Refinement("crf", 2.0, 0.25)
    assert choose_weights("none", stored) is None
    assert choose_weights("crf", stored) is stored
    assert choose_weights("mrf", stored) == DEFAULTS["mrf"]
    assert choose_weights("crf", None) == DEFAULTS["crf"]
    with pytest.raises(SettingError, match="no refinement 'blur'"):
        choose_weights("blur", None)


def test_a_cut_keeps_out_of_holes_and_knows_no_unlabelled_class(scene, bundle):
    cube, labels = scene
    part = next(Doubtful(bundle, labels, refinement=Refinement("mrf", 4.0, 0.5)).map_scene(cube))
    assert (class_targets(part.labels())[~part.valid] == -1).all()
    assert set(np.unique(part.labels()[part.valid])) == {1, 2, 3}
