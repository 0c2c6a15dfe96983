"""``hsifcn demo``: what it asks for; the work itself is that of ``compare-patch-vs-fcn``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cli_helpers import assert_refused, command, finished_comparison, snapshot

import hsifcn
from hsifcn.data.indian_pines import bundled_scene
from hsifcn.models import DEFAULT_MODEL


@pytest.fixture
def asked(monkeypatch):
    """What the command asks ``hsifcn.compare`` for; a small comparison is given back."""
    calls = []

    def compare(plan, out, **options):
        calls.append((plan, out, options))
        options["say"]("at work")
        return json.loads((finished_comparison() / "out/comparison.json").read_text())

    monkeypatch.setattr(sys.modules[hsifcn.compare.__module__], "compare", compare)
    return calls


@pytest.mark.slow
def test_it_compares_on_the_bundled_scene(tmp_path, asked):
    done = command(tmp_path, "demo")
    assert done.code == 0
    ((plan, out, options),) = asked
    bundled = bundled_scene()
    assert (plan.scene, plan.labels) == (bundled["scene"], bundled["labels"])
    assert {"patch", "cast", DEFAULT_MODEL} <= set(plan.contenders)
    assert (out, options["overwrite"]) == (Path("runs/demo"), False)
    assert "at work" in done.err
    assert "report.html" in done.out


@pytest.mark.slow
def test_options(tmp_path, asked):
    done = command(tmp_path, "demo", "-o", "d", "--seed", "3", "--overwrite", "--json", "-q")
    assert done.err == ""
    assert done.json.keys() >= {"contenders", "splits"}
    ((plan, out, options),) = asked
    assert (plan.first_seed, out, options["overwrite"]) == (3, Path("d"), True)


@pytest.mark.parametrize("out", ["file", "full"])
def test_what_exists_is_kept(tmp_path, out):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    before = snapshot(tmp_path)
    assert_refused(command(tmp_path, "demo", "-o", out, "-q"), out, "-o")
    assert snapshot(tmp_path) == before


def test_the_bundled_scene():
    bundled = bundled_scene()
    scene = hsifcn.open_scene(bundled["scene"], wavelengths=bundled["wavelengths"])
    labels = hsifcn.open_labels(bundled["labels"], class_names=bundled["class_names"])
    assert scene.shape == (145, 145, 200)
    assert labels.labels.shape == (145, 145)
    assert labels.n_classes == 16
    assert (labels.labels > 0).sum() == 10249
