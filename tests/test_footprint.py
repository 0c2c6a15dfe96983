"""Who does not fit into memory, by arithmetic."""

from __future__ import annotations

import pytest
import torch

from hsifcn.comparison import memory_check as footprint
from hsifcn.comparison.memory_check import misfit, patch_store_bytes, prediction_need, training_need
from hsifcn.comparison.plan import contenders
from hsifcn.core import process as measure

SHAPE = (145, 145, 200)
KNOWN = contenders(15)


def test_the_patches_of_indian_pines():
    assert patch_store_bytes(KNOWN["materialised"], SHAPE) == 145 * 145 * 15 * 15 * 200 * 4
    assert patch_store_bytes(KNOWN["patch"], SHAPE) == 0


@pytest.mark.parametrize("name", KNOWN)
def test_needs_grow_with_the_scene_and_are_lower_bounds(name):
    for need in (training_need, prediction_need):
        small, large = (need(KNOWN[name], (side, side, 20), 4).bytes for side in (64, 128))
        assert 0 < small < large <= 5 * small


def test_storing_takes_most_then_windows_then_tiles():
    needs = [
        prediction_need(KNOWN[name], SHAPE, 16).bytes
        for name in ("materialised", "svm7x7", "patch", "svm", "cast")
    ]
    assert needs[0] > 100 * needs[2]
    assert needs[1] >= needs[3] > needs[4]


@pytest.mark.parametrize("name", KNOWN)
def test_a_contender_is_left_out_where_memory_is_short_and_only_there(name, monkeypatch):
    monkeypatch.setattr(footprint, "free_memory", lambda: 10**6)
    reason = misfit(KNOWN[name], SHAPE, 16)
    assert "GB at least" in reason
    assert "0.0 GB are free" in reason
    monkeypatch.setattr(footprint, "free_memory", lambda: 10**11)
    assert misfit(KNOWN[name], SHAPE, 16) is None


def test_the_reason_names_its_arithmetic(monkeypatch):
    monkeypatch.setattr(footprint, "free_memory", lambda: 3 * 10**9)
    reason = misfit(KNOWN["materialised"], SHAPE, 16)
    assert reason.startswith(
        "prediction would take 3.8 GB at least (21,025 patches x 15 x 15 x 200"
    )
    assert misfit(KNOWN["patch"], SHAPE, 16) is None


def test_on_cuda_what_is_free_is_asked_of_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10**6, 10**11))
    assert "0.0 GB are free" in misfit(KNOWN["patch"], SHAPE, 16, "cuda")
    assert footprint.free_bytes("cpu") > 10**6


@pytest.mark.parametrize("name", KNOWN)
def test_a_ceiling_leaves_out_who_would_break_it(name):
    held = measure.rss_bytes()
    reason = misfit(KNOWN[name], SHAPE, 16, max_memory=held - 10**6)
    assert "0.0 GB are left under the ceiling" in reason
    fits = misfit(KNOWN[name], SHAPE, 16, max_memory=held + 10**12)
    assert fits is None or "are free" in fits
    assert misfit(KNOWN["hsifcn"], (2000, 2000, 200), 16, max_memory=held + 10**9) is None


def test_training_on_a_large_scene_needs_no_more_than_its_labels():
    assert training_need(KNOWN["hsifcn"], (10_000, 10_000, 200), 16).bytes < 10**9
    assert training_need(KNOWN["patch"], (10_000, 10_000, 200), 16).bytes > 10**11
