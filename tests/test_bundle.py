from __future__ import annotations

import json
import os
import random
import struct
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenes import random_bundle

from hsifcn.core.errors import ExistingOutputError, UnreadableFileError
from hsifcn.data.standardise import Scaling
from hsifcn.inference.bundle import load_model
from hsifcn.models import MODELS

pytestmark = pytest.mark.usefixtures("small_models_in_module")


def full_bundle(name="fcn1s"):
    """A bundle with every field filled in, a bad band among them."""
    bundle = random_bundle(name, scaling=Scaling(np.linspace(0.1, 3, 5), np.linspace(1 / 3, 2, 5)))
    return replace(
        bundle,
        good_bands=np.array([True, True, False, True, True, True]),
        wavelengths=np.linspace(400, 900.1, 6),
        class_names=("Mais", "Grünland", "草", "d"),
    )


@pytest.mark.parametrize("name", ["fcn1s", "fcn32s", "patch5"])
def test_round_trip(tmp_path, name):
    bundle = full_bundle(name)
    bundle.save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.weights.keys() == bundle.weights.keys()
    for key, tensor in bundle.weights.items():
        assert loaded.weights[key].dtype == tensor.dtype
        assert torch.equal(loaded.weights[key], tensor)
    for field in ("spec", "class_names", "colours", "settings", "split", "versions"):
        assert getattr(loaded, field) == getattr(bundle, field)
    for field in ("good_bands", "wavelengths"):
        assert np.array_equal(getattr(loaded, field), getattr(bundle, field))
    assert loaded.good_bands.dtype == bool
    assert np.array_equal(loaded.scaling.mean, bundle.scaling.mean)
    assert np.array_equal(loaded.scaling.std, bundle.scaling.std)


@pytest.mark.parametrize("unit_length", [False, True])
def test_whether_spectra_have_length_one_is_kept(tmp_path, unit_length):
    bundle = random_bundle("fcn1s")
    scaling = replace(bundle.scaling, unit_length=unit_length)
    replace(bundle, scaling=scaling).save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").scaling.unit_length is unit_length


def test_no_wavelengths(tmp_path):
    random_bundle("fcn8s").save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").wavelengths is None


def test_a_path_that_is_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.safetensors")
    bundle = full_bundle()
    bundle.save(path)
    assert load_model(path).class_names == bundle.class_names


def test_a_loaded_network_scores_the_same(tmp_path):
    bundle = random_bundle("fcn1s")
    bundle.save(tmp_path / "m.safetensors")
    x = torch.randn(1, 5, 20, 20, generator=torch.Generator().manual_seed(0))
    network = load_model(tmp_path / "m.safetensors").network()
    assert not network.training
    assert torch.equal(network(x), bundle.network()(x))


def test_the_same_bundle_gives_the_same_bytes(tmp_path):
    bundle = full_bundle()
    bundle.save(tmp_path / "a.safetensors")
    bundle.save(tmp_path / "b.safetensors")
    load_model(tmp_path / "a.safetensors").save(tmp_path / "c.safetensors")
    first = (tmp_path / "a.safetensors").read_bytes()
    assert first == (tmp_path / "b.safetensors").read_bytes()
    assert first == (tmp_path / "c.safetensors").read_bytes()


def test_an_existing_model_is_kept(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_text("precious")
    with pytest.raises(ExistingOutputError, match=r"m\.safetensors exists"):
        full_bundle().save(path)
    assert path.read_text() == "precious"
    full_bundle().save(path, overwrite=True)
    assert load_model(path).class_names[0] == "Mais"
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]


class File:
    """A saved bundle taken apart: what the format's own header says, ours in it, the weights."""

    def __init__(self, path):
        self.path = path
        self.content = path.read_bytes()
        (length,) = struct.unpack("<Q", self.content[:8])
        self.body_at = 8 + length
        self.outer = json.loads(self.content[8 : self.body_at])
        self.header = json.loads(self.outer["__metadata__"]["hsifcn"])

    def write(self, *, header=None, text=None, outer=None):
        """Write the file with other parts, without a checksum, as older versions do."""
        outer = json.loads(json.dumps(self.outer if outer is None else outer))
        if isinstance(header, dict):
            header = {key: value for key, value in header.items() if key != "checksum"}
        if header is not None or text is not None:
            outer["__metadata__"]["hsifcn"] = json.dumps(header) if text is None else text
        head = json.dumps(outer).encode()
        body = self.content[self.body_at :]
        self.path.write_bytes(struct.pack("<Q", len(head)) + head + body)
        return self.path


@pytest.fixture
def file(tmp_path):
    full_bundle().save(tmp_path / "model.safetensors")
    return File(tmp_path / "model.safetensors")


@pytest.fixture(scope="module")
def shared_file(tmp_path_factory, small_models_in_module):
    path = tmp_path_factory.mktemp("bundle") / "model.safetensors"
    full_bundle().save(path)
    return File(path)


def test_the_header_is_one_key_of_sorted_json(file):
    metadata = file.outer["__metadata__"]
    assert list(metadata) == ["hsifcn"]
    assert metadata["hsifcn"] == json.dumps(file.header, sort_keys=True)


def test_nothing_in_the_file_is_a_pickle(file):
    tensors = {name: entry for name, entry in file.outer.items() if name != "__metadata__"}
    assert tensors.keys() == full_bundle().weights.keys()
    assert {entry["dtype"] for entry in tensors.values()} <= {"F32", "I64"}
    # Every byte behind the header is a weight.
    spans = sorted(entry["data_offsets"] for entry in tensors.values())
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == len(file.content) - file.body_at


def test_an_untouched_file_is_read(file):
    assert load_model(file.write(header=file.header)).spec == full_bundle().spec


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"PK\x03\x04 a zip", b"\xff" * 100])
def test_other_files_are_no_model(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"other\.safetensors is damaged or no model"):
        load_model(path)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UnreadableFileError, match="does not exist"):
            load_model(path)


def test_weights_of_somebody_else(file):
    del file.outer["__metadata__"]
    with pytest.raises(UnreadableFileError, match="no model of hsifcn"):
        load_model(file.write())


def test_a_newer_format(file):
    with pytest.raises(UnreadableFileError, match="newer hsifcn; update"):
        load_model(file.write(header={**file.header, "format": 99}))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_files(shared_file, share):
    content = shared_file.content[: int(share * len(shared_file.content))]
    shared_file.path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match="damaged"):
        load_model(shared_file.path)


# Where a header can be wrong without being a lie about facts that nobody checks.
PLACES = [
    (),
    *[("spec",), ("spec", "name"), ("spec", "bands"), ("spec", "classes")],
    *[("spec", "stem"), ("spec", "stem", 0), ("spec", "widths"), ("spec", "widths", 4)],
    *[("scaling",), ("scaling", "std"), ("scaling", "mean")],
    *[("good_bands",), ("wavelengths",), ("class_names",), ("colours",), ("colours", 1)],
]
NONSENSE = [
    *[True, -1, 0, 10**9, 10**30, float("inf"), float("nan"), -2.5, "", "x", "fcn32s", "patch5"],
    *[[], [1], [[1, 2]], [[1, 2, 3]] * 5, ["x"] * 5, [None] * 5, [float("nan")] * 5, {}, {"a": 1}],
]


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_nonsense_in_the_header(shared_file, place):
    for value in NONSENSE:
        header = changed(shared_file.header, place, value)
        with pytest.raises(UnreadableFileError):
            load_model(shared_file.write(header=header))


@pytest.mark.parametrize("widths", [[8] * 4, [8] * 6, [8] * 3000, [10**12] * 5, [-8] * 5, [0] * 5])
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_other_widths(shared_file, widths):
    header = changed(shared_file.header, ("spec", "widths"), widths)
    with pytest.raises(UnreadableFileError):
        load_model(shared_file.write(header=header))


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), None, "x", [1]])
def test_deviations_are_positive(shared_file, value):
    header = changed(shared_file.header, ("scaling", "std", 2), value)
    with pytest.raises(UnreadableFileError):
        load_model(shared_file.write(header=header))


@pytest.mark.parametrize("place", [place for place in PLACES if place], ids=str)
def test_gaps_in_the_header(file, place):
    header = json.loads(json.dumps(file.header))
    inner = header
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    with pytest.raises(UnreadableFileError):
        load_model(file.write(header=header))


@pytest.mark.parametrize("text", ["", "{", "null", "[" * 100_000, "1e999", '"text"', "\ud800"])
def test_headers_that_are_no_json_object(file, text):
    with pytest.raises(UnreadableFileError):
        load_model(file.write(text=text))


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_never_raise_anything_else(file, seed):
    rng = random.Random(seed)
    refused = 0
    for trial in range(60):
        content = bytearray(file.content)
        for _ in range(rng.choice([1, 1, 2, 5])):
            content[rng.randrange(file.body_at if trial % 2 else len(content))] = rng.randrange(256)
        file.path.write_bytes(content)
        try:
            load_model(file.path)
        except UnreadableFileError:
            refused += 1
    assert refused


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_is_noticed(file, seed):
    rng = random.Random(seed)
    for _ in range(30):
        content = bytearray(file.content)
        content[rng.randrange(file.body_at, len(content))] ^= 1 << rng.randrange(8)
        file.path.write_bytes(content)
        with pytest.raises(UnreadableFileError, match="checksum differs"):
            load_model(file.path)


def test_a_changed_header_is_noticed(file):
    outer = json.loads(json.dumps(file.outer))
    header = outer["__metadata__"]["hsifcn"]
    outer["__metadata__"]["hsifcn"] = header.replace("Mais", "Maus")
    with pytest.raises(UnreadableFileError, match="checksum differs"):
        load_model(file.write(outer=outer))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_are_finite(tmp_path, value):
    bundle = random_bundle("fcn1s")
    bundle.weights["fr.conv.weight"][0, 0, 0, 0] = value
    bundle.save(tmp_path / "m.safetensors")
    with pytest.raises(UnreadableFileError, match="a weight is not finite"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("temperature",), 1e-300),
        (("temperature",), 1e300),
        (("temperature",), 0),
        (("scaling", "mean", 1), 1e300),
        (("scaling", "std", 1), 1e-300),
    ],
)
def test_absurd_numbers(shared_file, place, value):
    with pytest.raises(UnreadableFileError, match="out of range"):
        load_model(shared_file.write(header=changed(shared_file.header, place, value)))


def test_ensembles_are_refused(file):
    one = changed(file.header, ("spec",), {**file.header["spec"], "members": 1})
    assert load_model(file.write(header=one)).spec == full_bundle().spec
    two = changed(file.header, ("spec",), {**file.header["spec"], "members": 2})
    with pytest.raises(UnreadableFileError, match="ensemble of networks"):
        load_model(file.write(header=two))


def test_a_bundle_is_told_in_one_line():
    text = repr(full_bundle())
    assert text.startswith("Bundle(fcn1s: 5 bands to 4 classes, ")
    assert len(text.splitlines()) == 1


def test_weights_of_another_type(file):
    outer = json.loads(json.dumps(file.outer))
    outer["fr.conv.weight"]["dtype"] = "I32"
    with pytest.raises(UnreadableFileError, match="weights and spec differ"):
        load_model(file.write(outer=outer))


def test_wide_networks_are_not_built(file, monkeypatch):
    header = json.loads(json.dumps(file.header))
    header["spec"]["stem"] = [10**6, 10**6]
    header["spec"]["widths"] = [10**6] * 5
    allocated = []
    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", lambda x, **_: allocated.append(x))
    with pytest.raises(UnreadableFileError, match="weights and spec differ"):
        load_model(file.write(header=header))
    assert allocated
    assert all(tensor.is_meta for tensor in allocated)


def test_deep_networks_are_not_built(file, monkeypatch):
    built = []
    monkeypatch.setitem(
        MODELS, "fcn1s", replace(MODELS["fcn1s"], build=lambda spec: built.append(spec))
    )
    header = changed(file.header, ("spec", "widths"), [8] * 10**5)
    with pytest.raises(UnreadableFileError, match="weights and spec differ"):
        load_model(file.write(header=header))
    assert not built


def changed(header, place, value):
    """A copy of a header with something else at one place."""
    if not place:
        return value
    header = json.loads(json.dumps(header))
    inner = header
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return header


def test_widths_of_bands_and_scale_are_kept_and_may_be_missing(tmp_path):
    fwhm = np.array([9.5, 10, 11, 12, 13])
    bundle = replace(random_bundle("fcn8s"), fwhm=fwhm, scale_factor=10_000.0)
    bundle.save(tmp_path / "new.safetensors")
    loaded = load_model(tmp_path / "new.safetensors")
    np.testing.assert_array_equal(loaded.fwhm, fwhm)
    assert loaded.scale_factor == 10_000
    header = json.loads(
        safetensors.safe_open(tmp_path / "new.safetensors", "pt").metadata()["hsifcn"]
    )
    del header["fwhm"], header["scale_factor"], header["checksum"]
    metadata = {"hsifcn": json.dumps(header)}
    safetensors.torch.save_file(bundle.weights, tmp_path / "old.safetensors", metadata)
    old = load_model(tmp_path / "old.safetensors")
    assert (old.fwhm, old.scale_factor) == (None, None)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "x", [1]])
def test_scale_factors_are_positive(shared_file, value):
    header = changed(shared_file.header, ("scale_factor",), value)
    with pytest.raises(UnreadableFileError):
        load_model(shared_file.write(header=header))
