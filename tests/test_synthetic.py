"""The benchmark on synthetic scenes, on small ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks import synthetic
from hsifcn.comparison.experiment import contenders
from hsifcn.core.errors import MemoryCeilingError
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


def test_who_does_not_fit_has_no_figures(tmp_path, monkeypatch):
    def refuse(task, stem):
        raise MemoryCeilingError("it would take 3.8 GB")

    monkeypatch.setattr(synthetic, "run_task", refuse)
    scaling = synthetic.write_scene(tmp_path / "scene.npy", SHAPE)
    found = synthetic.measure(KNOWN["materialised"], tmp_path / "scene.npy", scaling, SHAPE)
    row = synthetic.line("small", KNOWN["materialised"], SHAPE, 10**9, found)
    assert "| - | - | - |" in row
    assert "not run: it would take 3.8 GB" in row


@pytest.mark.slow
def test_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(synthetic, "SCENES", {"small": SHAPE, "larger": (200, 47, 12)})
    monkeypatch.setattr(synthetic, "NAMES", ("cast",))
    out = tmp_path / "table.md"
    monkeypatch.setattr(sys, "argv", ["synthetic.py", "--limit=0", "--patch=5", f"--out={out}"])
    synthetic.main()
    small, larger = out.read_text("utf-8").splitlines()[-2:]
    assert small.endswith("| measured |")
    assert "by its FLOPs from the smaller scene" in larger
    assert "| about " in larger
    assert larger in capsys.readouterr().out
