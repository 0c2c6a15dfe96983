"""bfloat16: tried on a part of a scene, used where labels stay, and never against the user's will.

Processors without a matrix unit compute bfloat16 too, only slowly; so the unit is made up here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import ArrayScene, field_cube, field_labels, random_bundle

from hsifcn.core import process
from hsifcn.data.standardise import fit_scaling
from hsifcn.inference import precision
from hsifcn.inference import predict as prediction
from hsifcn.inference.predict import PredictOptions, write_map
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.tiling import TilePlan, plan_tiles

pytestmark = pytest.mark.usefixtures("small_models_in_module")
BANDS = 8


class Tiled(Predictor):
    """Cuts every scene into tiles, as a large one would be."""

    def plan(self, scene, max_memory=None, *, dissimilarity=False):
        halo, stride = self.geometry.halo, self.geometry.stride
        rows, cols, _ = scene.shape
        tiles = plan_tiles(rows, cols, tile=(32, 32), halo=halo, stride=stride)
        return TilePlan(tiles, halo, 0, 0.0)


@pytest.fixture
def matrix_unit(monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)


@pytest.fixture(scope="module")
def scene():
    return ArrayScene(field_cube(field_labels(96, 96), BANDS, dtype="f4"))


@pytest.fixture(scope="module")
def predictor(small_models_in_module, scene):
    scaling = fit_scaling([scene.cube.reshape(-1, BANDS)])
    return Tiled(random_bundle("hsifcn", BANDS, 3, scaling=scaling))


def mapped(predictor, scene, path, **options):
    said = []
    done = write_map(predictor, scene, path, PredictOptions(**options), said.append)
    return np.load(path), done.precision, [line for line in said if line.startswith("precision")]


def test_labels_that_stay_let_it_be_used(matrix_unit, monkeypatch, predictor, scene, tmp_path):
    monkeypatch.setattr(precision, "LEAST_AGREEMENT", 0.9)  # weights are random, so many are close
    exact, used, said = mapped(predictor, scene, tmp_path / "a.npy", precision="float32")
    assert (used, said) == ("float32", [])
    found, used, (said,) = mapped(predictor, scene, tmp_path / "b.npy")
    assert used == "bfloat16"
    assert "labels stay the same; --precision float32 turns it off" in said
    assert 0.9 < (found == exact).mean() < 1  # so it was really used


def test_labels_that_change_keep_float32(matrix_unit, monkeypatch, predictor, scene, tmp_path):
    monkeypatch.setattr(precision, "LEAST_AGREEMENT", 1.1)
    exact, _, _ = mapped(predictor, scene, tmp_path / "a.npy", precision="float32")
    found, used, (said,) = mapped(predictor, scene, tmp_path / "b.npy")
    assert used == "float32"
    assert said.startswith("precision: float32, as in bfloat16 only ")
    assert np.array_equal(found, exact)


def test_without_the_unit_or_with_few_tiles_nothing_is_tried(predictor, scene, monkeypatch):
    many = predictor.plan(scene)
    few = replace(many, tiles=many.tiles[:3])
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    assert not precision.worth_trying("auto", "cpu", many)
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)
    assert precision.worth_trying("auto", "cpu", many)
    assert not precision.worth_trying("auto", "cpu", few)
    assert not precision.worth_trying("float32", "cpu", many)
    assert not precision.worth_trying("auto", "cuda", many)
    assert prediction.worth_trying is precision.worth_trying


def test_scores_in_bfloat16_are_near(predictor, scene):
    fast = Predictor(predictor.bundle, dtype=torch.bfloat16)
    wanted = predictor.whole_scene_logits(scene)
    found = fast.whole_scene_logits(scene)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n", True),
        ("flags\t\t: fpu avx512_bf16\nbugs : amx_bf16\n", False),
        ("Features : asimd bf16\n", False),
    ],
)
def test_the_unit_is_read_from_the_system(tmp_path, monkeypatch, text, expected):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(process, "Path", lambda path: tmp_path / "cpuinfo")
    assert process.multiplies_bfloat16() is expected
