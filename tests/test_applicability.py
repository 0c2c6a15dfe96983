"""Where a model may be trusted: pixels that are unlike all that was labelled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from cli_helpers import command, copy_of_finished
from scenes import ArrayScene, field_cube, field_labels, random_bundle
from scipy.spatial.distance import cdist

from hsifcn.core.errors import UnreadableFileError
from hsifcn.data.standardise import Scaling, divided_by_length
from hsifcn.inference.applicability import Applicability
from hsifcn.inference.bundle import load_model
from hsifcn.inference.predict import PredictOptions, fit_scene, write_map
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.tiling import estimate_memory
from hsifcn.training.applicability import fit_applicability
from hsifcn.training.scenes import LabelledScene
from hsifcn.training.spectral_classifier import labelled_spectra

BANDS, NEVER = 12, 4  # NEVER: a class without a label
TRUTH = field_labels(90, 96, classes=4, field=5, seed=3)
CUBE = field_cube(TRUTH, BANDS, dtype="f4", noise=0.2)


def fitted(cube=CUBE):
    """Learnt from the labels of the left half, and those of one class never."""
    labels = np.where(TRUTH == NEVER, 0, TRUTH).astype(np.uint16)
    labels[:, 40:] = 0
    scene = LabelledScene(ArrayScene(cube), labels, np.zeros_like(labels), None)
    return fit_applicability(*labelled_spectra([scene], np.ones(BANDS, bool), True))


def unlike(found, cube):
    spectra = torch.from_numpy(divided_by_length(cube).reshape(-1, BANDS))
    return found.dissimilarity(spectra).numpy().reshape(cube.shape[:2])


def bundle_that_tells(name="fcn1s"):
    scaling = Scaling(np.full(BANDS, 0.29), np.full(BANDS, 0.05), unit_length=True)
    return replace(random_bundle(name, BANDS, 4, scaling=scaling), applicability=fitted())


def test_a_class_that_was_never_labelled_is_unlike_and_the_others_are_not():
    found = fitted()
    outside = unlike(found, CUBE) > 1
    assert outside[TRUTH == NEVER].mean() > 0.9
    for label in range(1, NEVER):  # fields that were not labelled, 5 % expected
        assert outside[:, 40:][TRUTH[:, 40:] == label].mean() < 0.1
    np.testing.assert_allclose(unlike(found, 1.25 * CUBE), unlike(found, CUBE), atol=5e-3)
    assert (unlike(found, CUBE[:, ::-1] * np.linspace(0.7, 1.4, BANDS, dtype="f4")) > 1).all()


def test_distances_are_those_of_a_direct_computation():
    """From the nearest prototype, in units in which 95 % of left-out fields are nearer than 1."""
    found = fitted()
    centred = CUBE.reshape(-1, BANDS)[::7]
    points = divided_by_length(centred) @ found.projection.numpy() + found.offset.numpy()
    direct = cdist(points, found.prototypes.numpy()).min(1)
    np.testing.assert_allclose(unlike(found, centred[None])[0], direct, atol=5e-3)
    within = [points[(TRUTH.ravel()[::7] == k)] for k in range(1, NEVER)]
    scatter = np.linalg.eigvalsh(np.mean([np.cov(part.T) for part in within], axis=0))
    assert scatter[-1] < 2 * scatter[1]  # about the same all round, but along a spectrum's length


def test_few_labels_leave_it_out_or_are_cut_in_two():
    labels = np.zeros(TRUTH.shape, np.uint16)
    for label in range(1, NEVER):
        rows, cols = np.nonzero(label == TRUTH)
        labels[rows[0], cols[0]] = label
    bands = np.ones(BANDS, bool)
    one_each = LabelledScene(ArrayScene(CUBE), labels, np.zeros_like(labels), None)
    assert fit_applicability(*labelled_spectra([one_each], bands, True)) is None
    labels[labels == 1] = 0
    labels[:5, :4] = 1  # one field
    one_field = LabelledScene(ArrayScene(CUBE), labels, np.zeros_like(labels), None)
    found = fit_applicability(*labelled_spectra([one_field], bands, True))
    assert (unlike(found, CUBE[:5, :4]) <= 1).mean() > 0.8


@pytest.mark.usefixtures("small_models")
@pytest.mark.parametrize("name", ["fcn1s", "patch5"])
def test_tiles_give_the_layer_of_the_whole_scene(tmp_path, name):
    cube = CUBE.copy()
    cube[5, 7] = np.nan
    scene, bundle = ArrayScene(cube), bundle_that_tells(name)
    options = PredictOptions(confidence=True)
    whole = write_map(Predictor(bundle), scene, tmp_path / "whole.npy", options)
    predictor = Predictor(bundle)
    cut = predictor.plan(scene, dissimilarity=True)
    tiles = replace(cut, tiles=predictor_tiles(predictor), halo=predictor.geometry.halo)
    predictor.plan = lambda *_, **__: tiles
    done = write_map(predictor, scene, tmp_path / "tiles.npy", options)
    assert len(done.plan.tiles) > 1
    layer, again = (
        np.load(tmp_path / f"{part}_dissimilarity.npy").astype(int) for part in ("whole", "tiles")
    )
    assert np.abs(layer - again).max() <= 1  # a per cent, by rounding
    assert layer[5, 7] == 255
    wanted = np.minimum(np.ceil(100 * unlike(bundle.applicability, CUBE)), 254)
    known = np.isfinite(cube).all(2)
    assert np.abs(layer - wanted)[known].max() <= 1
    assert whole.applicability.share_outside == pytest.approx((layer[known] > 100).mean())
    assert (whole.applicability.pixels, whole.applicability.whole_scene) == (known.sum(), True)


def predictor_tiles(predictor):
    from hsifcn.core.tiles import plan_tiles

    stride, halo = predictor.geometry.stride, predictor.geometry.halo
    return plan_tiles(*CUBE.shape[:2], tile=(4 * stride, 64), halo=halo, stride=stride)


@pytest.mark.usefixtures("small_models")
def test_a_sample_tells_the_share_without_the_layer(tmp_path):
    bundle = bundle_that_tells()
    scene = ArrayScene(CUBE)
    _, fit = fit_scene(bundle, scene, PredictOptions())
    exact = (unlike(bundle.applicability, CUBE) > 1).mean()
    assert fit.applicability.share_outside == pytest.approx(exact, abs=0.1)
    assert not fit.applicability.whole_scene
    old = replace(bundle, applicability=None)
    told = []
    _, fit = fit_scene(old, scene, PredictOptions(confidence=True), told.append)
    assert fit.applicability is None
    assert sum("no dissimilarity" in line for line in told) == 1
    write_map(Predictor(old), scene, tmp_path / "m.npy", PredictOptions(confidence=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.npy", "m_confidence.npy"]


@pytest.mark.usefixtures("small_models")
def test_the_file_of_a_model_keeps_it_and_damage_is_found(tmp_path):
    bundle, path = bundle_that_tells(), tmp_path / "m.safetensors"
    bundle.save(path)
    found = load_model(path)
    assert found.weights.keys() == bundle.weights.keys()
    for name, tensor in bundle.applicability.to_tensors().items():
        assert torch.equal(found.applicability.to_tensors()[name], tensor)
    whole = path.read_bytes()
    place = whole.index(found.applicability.prototypes.numpy().tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(UnreadableFileError, match="checksum differs"):
        load_model(path)
    parts = bundle.applicability
    for wrong in (
        Applicability(parts.projection[1:], parts.offset, parts.prototypes),
        Applicability(parts.projection, parts.offset, parts.prototypes[:0]),
        Applicability(parts.projection, parts.offset, parts.prototypes * float("nan")),
    ):
        replace(bundle, applicability=wrong).save(path, overwrite=True)
        with pytest.raises(UnreadableFileError, match="of what was labelled"):
            load_model(path)


def test_memory_of_the_layer_is_planned():
    from hsifcn.models import default_spec

    spec, scene = default_spec("hsifcn", BANDS, 4), ArrayScene(CUBE)
    plain, layer = (estimate_memory(spec, scene, None, dissimilarity=on) for on in (False, True))
    assert layer.cut(10_000) - plain.cut(10_000) >= 10_000 * 8  # a float32, twice


def test_predict_writes_the_layer_and_tells_the_share(tmp_path):
    copy_of_finished(tmp_path)
    done = command(tmp_path, "predict", "scene.npy", "-o", "m.tif", "--confidence", "--json")
    assert done.code == 0, done.err
    assert done.json["dissimilarity"] == "m_dissimilarity.tif"
    with rasterio.open(tmp_path / "m_dissimilarity.tif") as raster:
        layer, nodata = raster.read(1), raster.nodata
        assert raster.descriptions[0] == "dissimilarity, per cent"
    assert nodata == 255
    share = done.json["applicability"]["share_outside"]
    assert share == pytest.approx((layer > 100).mean())
    cube = np.load(tmp_path / "scene.npy")
    np.save(tmp_path / "other.npy", cube[..., ::-1].copy())  # unlike all that was labelled
    done = command(tmp_path, "predict", "other.npy", "-o", "o.tif")
    assert done.code == 0, done.err
    assert "about 100.0 % of this scene is unlike anything labelled" in done.out
