from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from hsifcn.core.process import (
    Stopwatch,
    keep_memory_together,
    machine,
    peak_bytes,
    peak_rss_bytes,
    reset_peak,
    rss_bytes,
    spin_briefly,
    start_peak,
    usable_cores,
    versions,
)


def test_a_stopwatch_counts_the_block():
    with Stopwatch() as watch:
        time.sleep(0.02)
    assert 0.02 <= watch.seconds < 2


def test_the_peak_stays_when_the_memory_is_gone():
    if not reset_peak():
        pytest.skip("the system cannot reset the peak")
    keep_memory_together()  # nothing that was freed before is there to be used again
    before = rss_bytes()
    block = np.ones(40 * 2**20, np.uint8)
    assert rss_bytes() >= before + 30 * 2**20
    del block
    keep_memory_together()
    assert rss_bytes() < before + 30 * 2**20
    assert peak_rss_bytes() >= before + 30 * 2**20
    reset_peak()
    assert peak_rss_bytes() < before + 30 * 2**20


def test_on_the_cpu_the_peak_is_that_of_the_process():
    if not reset_peak():
        pytest.skip("the system cannot reset the peak")
    before = start_peak("cpu")
    block = np.ones(40 * 2**20, np.uint8)
    del block
    assert peak_bytes("cpu") >= before + 30 * 2**20


def test_on_cuda_the_peak_is_that_of_the_allocator(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 1000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5000)
    assert start_peak("cuda") == 1000
    assert calls == ["reset"]
    assert peak_bytes("cuda") == 5000


def test_what_was_measured_on():
    assert {"python", "hsifcn", "torch", "numpy"} <= set(versions())
    facts = machine()
    assert facts["cores"] == usable_cores() >= 1
    assert facts["memory_bytes"] > 2**28
    assert facts["processor"]


def test_who_sets_how_threads_wait_is_obeyed(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # put back after the test, whatever happens in it
        monkeypatch.delenv(name)
    spin_briefly()
    assert 100 <= int(os.environ["GOMP_SPINCOUNT"]) <= 10_000
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    spin_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    spin_briefly()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_torch_is_loaded_and_garbage_is_looked_for_again():
    code = """
import gc, sys
from hsifcn.core.process import load_torch
load_torch()
assert "torch" in sys.modules
assert gc.isenabled()
assert gc.get_freeze_count() > 100_000  # what PyTorch made is left out of later searches
"""
    subprocess.run([sys.executable, "-c", code], check=True)
