"""The benchmark on synthetic scenes, on small ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks import synthetic
from hsifcn.comparison.plan import contenders
from hsifcn.core.scene import Window
from hsifcn.io import open_scene

SHAPE = (130, 47, 12)
KNOWN = contenders(5)


def test_a_scene_is_smooth_and_its_scaling_fits(tmp_path):
    scaling = synthetic.write_scene(tmp_path / "scene.npy", SHAPE)
    scene = open_scene(tmp_path / "scene.npy")
    assert (scene.shape, scene.dtype) == (SHAPE, np.int16)
    cube = scene.read(Window(0, 0, *SHAPE[:2])).astype(float)
    assert cube.min() > 0
    for axis in (0, 1):
        assert np.abs(np.diff(cube, axis=axis)).max() < 0.25 * np.ptp(cube)
    assert scaling.mean == pytest.approx(cube.mean((0, 1)), rel=0.1)


def test_what_does_not_fit_or_takes_too_long_is_given_by_arithmetic(monkeypatch):
    assert synthetic.foretell(KNOWN["patch"], SHAPE, None, 10).note == ""
    assert synthetic.foretell(KNOWN["patch"], SHAPE, 9.0, 10).note == ""
    slow = synthetic.foretell(KNOWN["patch"], SHAPE, 11.0, 10)
    assert "over 10 s" in slow.note
    monkeypatch.setattr(synthetic, "free_memory", lambda: 10**6)
    large = synthetic.foretell(KNOWN["materialised"], SHAPE, None, 10)
    assert "0.0 GB were free" in large.note
    assert large.memory_bytes > 130 * 47 * 25 * 12 * 4
    row = synthetic.line("small", KNOWN["materialised"], SHAPE, 10**9, large)
    assert "| - | - | at least" in row


@pytest.mark.slow
def test_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(synthetic, "SCENES", {"small": SHAPE, "larger": (200, 47, 12)})
    monkeypatch.setattr(synthetic, "NAMES", ("cast",))
    out = tmp_path / "table.md"
    monkeypatch.setattr(sys, "argv", ["synthetic.py", "--limit=0", "--patch=5", f"--out={out}"])
    synthetic.main()
    small, larger = out.read_text("utf-8").splitlines()[-2:]
    assert small.endswith("| measured |")
    assert "by arithmetic: seconds by its FLOPs" in larger
    assert "| about " in larger
    assert larger in capsys.readouterr().out
