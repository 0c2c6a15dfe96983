"""Networks of other modules in a comparison: looked at, trained, mapped."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from cli_helpers import assert_refused, command, hsifcn, small_scene
from torch import nn

from hsifcn.models import MODELS, build, default_spec, geometry
from hsifcn.models.plugin import add_plugin

NETS = """
import torch
from torch import nn

class Local(nn.Module):
    def __init__(self, bands, classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(bands, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, classes, 5, padding=2),
        )

    def forward(self, x):
        return self.layers(x)

class Pooled(nn.Module):
    def __init__(self, bands, classes):
        super().__init__()
        self.down = nn.Conv2d(bands, 8, 3, padding=1)
        self.score = nn.Conv2d(8, classes, 1)

    def forward(self, x):
        coarse = nn.functional.max_pool2d(self.down(x), 4, 4, ceil_mode=True)
        full = nn.functional.interpolate(self.score(coarse), scale_factor=4)
        return full[..., : x.shape[2], : x.shape[3]]

class Global(Local):
    def forward(self, x):
        return self.layers(x) + x.mean((2, 3), keepdim=True).mean(1, keepdim=True)

class Wrong(Local):
    def forward(self, x):
        return self.layers(x)[..., ::2]

class Even(Local):
    def forward(self, x):
        return nn.functional.pixel_shuffle(nn.functional.pixel_unshuffle(self.layers(x), 2), 2)

class NoBands(nn.Module):
    pass

something = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETS)
    small_scene(tmp_path)
    monkeypatch.chdir(tmp_path)
    models = dict(MODELS)
    yield tmp_path
    MODELS.clear()
    MODELS.update(models)


@pytest.mark.parametrize(
    ("name", "stride", "field"), [("Local", 1, 7), ("Pooled", 4, 9), ("Global", 1, None)]
)
def test_how_far_it_sees(folder, name, stride, field):
    """Convolutions of 3 and 5 see 3 pixels away; cells of 4 and a 3x3 see 4 at the far corner."""
    spec = default_spec(add_plugin(f"nets:{name}"), 5, 3)
    found = geometry(spec)
    assert found.receptive_field == field
    if field is not None:
        assert found.stride == stride


def test_its_batch_norms_are_of_the_same_weights(folder):
    spec = default_spec(add_plugin("nets.py:Local"), 5, 3)
    torch.manual_seed(1)
    network = build(spec).eval()
    torch.manual_seed(1)
    plain = {}
    exec(NETS, plain)
    theirs = plain["Local"](5, 3).eval()
    x = torch.randn(1, 5, 9, 8)
    torch.testing.assert_close(network(x), theirs(x))
    assert not any(type(module) is nn.BatchNorm2d for module in network.modules())


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nosuch:Net", ["nosuch:Net cannot be imported", "ModuleNotFoundError"]),
        ("nets:Nosuch", ["cannot be imported"]),
        ("nets:something", ["is no torch.nn.Module"]),
        ("nets:NoBands", ["cannot be built of 12 bands and 3 classes"]),
        ("nets:Wrong", ["gives (1, 3, 33, 24) for a scene of 33x47 pixels"]),
        ("nets:Even", ["cannot score a scene of 33x47 pixels"]),
        ("nets:Local,nets.py:Local", ["two models are called Local"]),
        ("bad:Net", ["bad.py:Net cannot be imported: SyntaxError"]),
    ],
)
def test_what_cannot_be_compared(folder, name, parts):
    (folder / "bad.py").write_text("class Net(\n")
    done = command(folder, "compare-patch-vs-fcn", "cube.npy", "-q", "-o", "out", "--models", name)
    assert_refused(done, *parts)
    assert not (folder / "out").exists()


def test_a_global_network_is_not_trained_in_crops(folder):
    np.save(folder / "wide.npy", np.ones((2, 40000, 3), np.float32))
    labels = np.zeros((2, 40000), np.uint8)
    labels[0, :40], labels[1, :40] = 1, 2
    np.save(folder / "wide_gt.npy", labels)
    words = ["compare-patch-vs-fcn", "wide.npy", "-q", "--models", "nets:Global"]
    assert_refused(command(folder, *words), "looks at the whole scene", "crops")


@pytest.mark.slow
def test_it_is_trained_and_mapped(folder):
    words = ["-s", "random:0.2", "--seeds", "1", "--steps", "30", "--budget", "0", "-o", "out"]
    words += ["--models", "nets:Local", "--json", "-q"]
    done = hsifcn(folder, "compare-patch-vs-fcn", "cube.npy", *words, timeout=900)
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in done.json["contenders"]}
    assert rows["Local"]["status"] == "done", rows["Local"]["reason"]
    assert rows["Local"]["label"] == "nets:Local"
    assert rows["Local"]["oa"]["mean"] > 0.8  # separable classes
    assert (folder / "out/report.html").exists()
    refused = command(folder, "reproduce", "out", "-q")
    assert_refused(refused, "another module")
    assert json.loads((folder / "out/comparison.json").read_text())["contenders"]
