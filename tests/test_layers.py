from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hsifcn.models.layers import (
    TIE,
    BatchNorm,
    ConvBlock,
    DeconvBlock,
    SpectralStem,
    Upsample,
    crop_to,
    halve,
    halve_mask,
    masked_moments,
    places_of_maxima,
    unpool,
)


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 32])
def test_upsampling_starts_as_bilinear(factor):
    x = torch.randn(1, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    ours = Upsample(3, factor)(x).detach()
    wanted = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    assert ours.shape == wanted.shape
    inner = slice(factor // 2, -factor // 2)
    torch.testing.assert_close(ours[..., inner, inner], wanted[..., inner, inner])


def test_upsampling_does_not_mix_classes():
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 0
    scores = Upsample(3, 2)(x)
    assert not scores[:, 1].any()
    assert scores[:, 0].any()


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 7), (8, 3), (5, 5)])
def test_halving_keeps_the_last_odd_row_and_col(rows, cols):
    x = torch.arange(rows * cols).reshape(1, 1, rows, cols).float()
    halved = halve(x)
    assert halved.shape[-2:] == (-(-rows // 2), -(-cols // 2))
    assert halved[0, 0, -1, -1] == rows * cols - 1
    assert crop_to(Upsample(1, 2)(halved), x).shape == x.shape


def test_a_halved_mask_holds_every_cell_with_a_valid_pixel():
    valid = torch.zeros(1, 1, 5, 5, dtype=torch.bool)
    valid[0, 0, 3, 2] = valid[0, 0, 4, 4] = True
    halved = halve_mask(valid)
    assert halved.dtype == torch.bool
    assert halved[0, 0].nonzero().tolist() == [[1, 1], [2, 2]]
    assert halve_mask(None) is None


@pytest.fixture
def norm():
    norm = BatchNorm(4)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(4, generator=generator) + 0.5)
        norm.bias.copy_(torch.randn(4, generator=generator))
    return norm


@pytest.fixture
def features():
    return 3 + 2 * torch.randn(1, 4, 6, 7, generator=torch.Generator().manual_seed(2))


def test_masked_batch_norm_is_that_of_the_masked_pixels(norm, features):
    valid = torch.rand(1, 1, 6, 7, generator=torch.Generator().manual_seed(3)) > 0.4
    ours = norm(features, valid)
    chosen = features[:, :, valid[0, 0]][..., None]
    torch.testing.assert_close(
        ours[:, :, valid[0, 0]][..., None],
        F.batch_norm(chosen, None, None, norm.weight, norm.bias, training=True),
    )
    # The other pixels are normalised by the same statistics.
    mean = chosen.mean((0, 2, 3), keepdim=True)
    var = chosen.var((0, 2, 3), correction=0, keepdim=True)
    wanted = (features - mean) / (var + norm.eps).sqrt()
    wanted = wanted * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(ours, wanted)


def test_pixels_out_of_the_mask_do_not_count(norm, features):
    valid = torch.ones(1, 1, 6, 7, dtype=torch.bool)
    valid[..., 2:4, :] = False
    changed = torch.where(valid, features, torch.full_like(features, 1e3))
    inside = valid.expand_as(features)
    assert torch.equal(norm(features, valid)[inside], norm(changed, valid)[inside])


def test_a_mask_that_holds_all_pixels_changes_nothing(norm, features):
    everywhere = torch.ones(1, 1, 6, 7, dtype=torch.bool)
    torch.testing.assert_close(norm(features, everywhere), norm(features))


def test_the_mask_plays_no_part_in_prediction(norm, features):
    norm.eval()
    assert torch.equal(norm(features, torch.zeros(1, 1, 6, 7, dtype=torch.bool)), norm(features))


@pytest.mark.parametrize("masked", [False, True])
def test_a_single_value_is_normalised_to_the_bias(norm, masked):
    x = torch.randn(1, 4, 1, 1, generator=torch.Generator().manual_seed(4), requires_grad=True)
    out = norm(x, torch.ones(1, 1, 1, 1, dtype=torch.bool) if masked else None)
    torch.testing.assert_close(out[0, :, 0, 0], norm.bias, atol=1e-4, rtol=0)
    out.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(norm.running_var).all()


def test_moments_of_no_pixel_are_finite(features):
    mean, var = masked_moments(features, torch.zeros(1, 1, 6, 7, dtype=torch.bool))
    assert not mean.any()
    assert not var.any()


def test_a_folded_block_does_the_same(features):
    block = ConvBlock(4, 5, 3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        block.norm.running_mean.copy_(torch.randn(5, generator=generator))
        block.norm.running_var.copy_(torch.rand(5, generator=generator) + 0.1)
    block.eval()
    before = block(features)
    block.fold()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in block.modules())
    torch.testing.assert_close(block(features), before, atol=1e-5, rtol=1e-5)
    block.fold()  # nothing is left to fold


def test_the_stem_looks_at_each_pixel_by_itself(features):
    stem = SpectralStem(4, (6, 3)).eval()
    scores = stem(features)
    changed = features.clone()
    changed[..., 2, 3] += 1
    differs = (stem(changed) != scores).any(1)[0]
    assert differs.nonzero().tolist() == [[2, 3]]


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 7), (8, 3), (5, 5)])
def test_unpooling_puts_maxima_back_as_indices_do(rows, cols):
    row, col = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    # Far apart in each cell, and another pixel greatest from cell to cell: no ties.
    x = 4.0 ** ((2 * (row % 2) + col % 2 + row // 2 + col // 2) % 4)[None, None]
    halved, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
    wanted = F.max_unpool2d(halved * 3, indices, 2, 2, output_size=x.shape[-2:])
    assert torch.equal(unpool(halved * 3, places_of_maxima(x, halved)), wanted)


def test_maxima_equal_but_for_rounding_share_their_place():
    x = torch.tensor([[1.0, 1.0], [0.2, 1.0 - TIE]])[None, None]  # a tie is up to 2 TIE wide
    nudged = x + torch.tensor([[0.0, 1e-6], [0.0, 0.0]])
    places = places_of_maxima(x, halve(x))
    torch.testing.assert_close(places, torch.tensor([[1.0, 1.0], [0.0, 0.5]])[None, None])
    torch.testing.assert_close(places_of_maxima(nudged, halve(nudged)), places, atol=1e-4, rtol=0)


def test_places_pass_no_gradient():
    x = torch.rand(1, 2, 4, 4, requires_grad=True)
    assert not places_of_maxima(x, halve(x)).requires_grad


def test_a_folded_transposed_block_does_the_same(features):
    block = DeconvBlock(4, 5, 3)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        block.norm.running_mean.copy_(torch.randn(5, generator=generator))
        block.norm.running_var.copy_(torch.rand(5, generator=generator) + 0.1)
    block.eval()
    before = block(features)
    assert before.shape == (1, 5, 6, 7)
    block.fold()
    torch.testing.assert_close(block(features), before, atol=1e-5, rtol=1e-5)


def test_dilation_spreads_the_taps_and_keeps_the_size():
    block = ConvBlock(1, 1, 3, dilation=4).eval()
    x = torch.zeros(1, 1, 11, 11)
    x[0, 0, 5, 5] = torch.nan
    seen = block(x).isnan()[0, 0].nonzero()
    assert block(x).shape == x.shape
    assert {tuple(place) for place in (seen - 5).tolist()} == {
        (row, col) for row in (-4, 0, 4) for col in (-4, 0, 4)
    }


def test_the_valid_pixels_of_a_batch_move_the_stored_statistics():
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    valid = torch.zeros(2, 1, 5, 6, dtype=torch.bool)
    valid[0, :, 1:4] = True
    norm = BatchNorm(3)
    norm(x, valid)
    seen = x[0, :, 1:4].flatten(1)
    torch.testing.assert_close(norm.running_mean, 0.1 * seen.mean(1))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * seen.var(1, correction=0))
    stored = norm.running_mean.clone()
    norm.eval()(x, valid)
    assert torch.equal(norm.running_mean, stored)
