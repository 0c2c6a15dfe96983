"""Mean-field inference against the same sums over all pairs of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsifcn.core.tiles import crop, plan_tiles
from hsifcn.inference.refine import mean_field as crf


def noisy(rows, cols, classes=3, features=4, seed=0, holes=0.0):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 2, (classes, rows, cols)).astype(np.float32))
    spectra = torch.from_numpy(rng.normal(0, 1, (features, rows, cols)).astype(np.float32))
    return logits, spectra, torch.from_numpy(rng.uniform(size=(rows, cols)) >= holes)


def dense_mean_field(logits, spectra, valid, strength, width):
    """The definition: a kernel of all pixels with all pixels, in float64."""
    classes, rows, cols = logits.shape
    unary = logits.double().numpy().reshape(classes, -1).T
    pixels = spectra.double().numpy().reshape(len(spectra), -1).T
    row, col = np.indices((rows, cols)).reshape(2, -1)
    apart = np.stack([row[:, None] - row, col[:, None] - col])
    distance = (apart**2).sum(0)
    near = (np.abs(apart).max(0) <= crf.RADIUS) & (distance > 0)
    near &= valid.numpy().ravel()[:, None] & valid.numpy().ravel()
    window = np.indices((2 * crf.RADIUS + 1,) * 2) - crf.RADIUS
    window = (window**2).sum(0)

    def position(sigma):
        weights = np.exp(-window / (2 * sigma**2))
        return np.exp(-distance / (2 * sigma**2)) / (weights.sum() - 1)

    spectral = ((pixels[:, None] - pixels) ** 2).mean(2)
    share = crf.APPEARANCE_SHARE
    kernel = share * position(crf.APPEARANCE_SIGMA) * np.exp(-spectral / (2 * width**2))
    kernel += (1 - share) * position(crf.SMOOTHNESS_SIGMA)
    kernel *= near
    refined = unary
    for _ in range(crf.ITERATIONS):
        shares = np.exp(refined - refined.max(1, keepdims=True))
        refined = unary + strength * kernel @ (shares / shares.sum(1, keepdims=True))
    return refined.T.reshape(classes, rows, cols)


@given(
    rows=st.integers(1, 9),
    cols=st.integers(1, 9),
    classes=st.integers(1, 5),
    strength=st.floats(0, 10),
    width=st.floats(0.1, 3),
    holes=st.sampled_from([0, 0.3]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60)
def test_it_is_the_sum_over_all_pairs(rows, cols, classes, strength, width, holes, seed):
    scores = noisy(rows, cols, classes, seed=seed, holes=holes)
    found = crf.mean_field(*scores, strength, width).numpy()
    valid = scores[2].numpy()
    wanted = dense_mean_field(*scores, strength, width)
    np.testing.assert_allclose(found[:, valid], wanted[:, valid], atol=2e-4)


@given(
    rows=st.integers(20, 70),
    cols=st.integers(20, 70),
    tile=st.integers(5, 40),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=12)
def test_tiles_with_their_halo_give_what_the_scene_gives(rows, cols, tile, seed):
    scores = noisy(rows, cols, seed=seed, holes=0.1)
    whole = crf.mean_field(*scores, 4.0, 1.0)
    for part in plan_tiles(rows, cols, tile=(tile, tile), halo=crf.REACH, stride=1):
        window = part.read.slices
        read = (scores[0][:, *window], scores[1][:, *window], scores[2][window])
        refined = crf.mean_field(*read, 4.0, 1.0)[:, *crop(part)]
        assert (refined - whole[:, *part.core.slices]).abs().max() <= 1e-5


def test_a_halo_too_small_would_be_noticed():
    scores = noisy(40, 40, seed=1)
    whole = crf.mean_field(*scores, 8.0, 1.0)
    cut = crf.mean_field(*(array[..., : 20 + crf.RADIUS] for array in scores), 8.0, 1.0)
    assert (cut[..., :20] - whole[..., :20]).abs().max() > 1e-4


def test_pixels_without_a_measurement_take_no_part():
    logits, spectra, valid = noisy(12, 14, seed=2, holes=0.3)
    wanted = crf.mean_field(logits, spectra, valid, 5.0, 0.5)[:, valid]
    logits[:, ~valid] = 1e6
    spectra[:, ~valid] = -1e6
    assert torch.equal(crf.mean_field(logits, spectra, valid, 5.0, 0.5)[:, valid], wanted)
    logits[:, ~valid] = float("nan")
    assert torch.equal(crf.mean_field(logits, spectra, valid, 5.0, 0.5)[:, valid], wanted)


def test_agreeing_neighbours_add_the_strength():
    logits = torch.zeros(2, 20, 20)
    logits[0] = 50.0
    alike = torch.zeros(3, 20, 20), torch.ones(20, 20, dtype=torch.bool)
    refined = crf.mean_field(logits, *alike, 4.0, 1.0)
    assert refined[0, 10, 10].item() == pytest.approx(54, abs=1e-4)
    assert refined[1, 10, 10].item() == pytest.approx(0, abs=1e-4)


def test_a_single_doubtful_pixel_follows_its_like_and_not_others():
    logits = torch.zeros(2, 11, 12)
    logits[0, :, :6] = logits[1, :, 6:] = 5.0
    spectra = torch.zeros(1, 11, 12)
    spectra[:, :, 6:] = 3.0
    logits[:, 5, 5] = 0.0  # left of the border, with the spectrum of the right side in the end
    valid = torch.ones(11, 12, dtype=torch.bool)
    assert crf.mean_field(logits, spectra, valid, 4.0, 0.5).argmax(0)[5, 5] == 0
    spectra[:, 5, 5] = 3.0
    assert crf.mean_field(logits, spectra, valid, 4.0, 0.5).argmax(0)[5, 5] == 1
