"""Run directories, split files and what goes into a run's metrics."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from cli_helpers import small_scene, snapshot
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hsifcn.core.errors import ExistingOutputError, SettingError, SplitError, UnreadableFileError
from hsifcn.data.dataset import open_dataset
from hsifcn.data.splits import Split, make_split, read_split, write_split
from hsifcn.evaluation.record import accuracy_record, pooled_leakage
from hsifcn.io.files import printable, write_json
from hsifcn.training.run import model_record
from hsifcn.training.run_directory import prepare_run_directory, remove_checkpoint


def prepare(out, overwrite=False, resume=False):
    return prepare_run_directory(out, overwrite=overwrite, resume=resume)


def finished(out):
    out.mkdir(parents=True)
    (out / "metrics.json").write_text("{}")
    (out / "model.safetensors").write_bytes(b"model")
    return out


def unfinished(out):
    (out / "checkpoint").mkdir(parents=True)
    (out / "checkpoint/state.safetensors").write_bytes(b"state")
    (out / "checkpoint/.model.0a1b2c.safetensors").write_bytes(b"left by a crash")
    return out


@pytest.mark.parametrize("resume", [False, True])
def test_a_new_directory(tmp_path, resume):
    assert prepare(tmp_path / "a/b", resume=resume) is False
    assert list((tmp_path / "a/b").iterdir()) == [tmp_path / "a/b/checkpoint"]


def test_an_empty_directory_is_taken(tmp_path):
    assert prepare(tmp_path) is False


def test_a_finished_run(tmp_path):
    out = finished(tmp_path / "run")
    before = snapshot(tmp_path)
    with pytest.raises(ExistingOutputError, match="run exists; add --overwrite"):
        prepare(out)
    assert prepare(out, resume=True) is True
    assert prepare(out, overwrite=True, resume=True) is True
    assert snapshot(tmp_path) == before
    assert prepare(out, overwrite=True) is False
    assert {name: snapshot(tmp_path)[name] for name in before} == before  # until it is replaced


def test_an_unfinished_run(tmp_path):
    out = unfinished(tmp_path / "run")
    before = snapshot(tmp_path)
    assert prepare(out, resume=True) is False
    assert snapshot(tmp_path) == before
    assert prepare(out) is False
    assert list((out / "checkpoint").iterdir()) == []


def test_an_unfinished_overwrite_is_resumed(tmp_path):
    out = unfinished(finished(tmp_path / "run"))
    before = snapshot(tmp_path)
    assert prepare(out, resume=True) is False
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", "checkpoint/epoch1.pt"])
def test_other_folders_are_refused(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    for resume in (False, True):
        with pytest.raises(ExistingOutputError):
            prepare(tmp_path, resume=resume)
    assert prepare(tmp_path, overwrite=True) is False
    remove_checkpoint(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_files_in_the_way(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExistingOutputError, match="file is a file"):
        prepare(tmp_path / "file", overwrite=True)
    with pytest.raises(SettingError, match="file/run/checkpoint cannot be made"):
        prepare(tmp_path / "file/run")


@given(
    labels=arrays(np.uint16, (6, 7), elements=st.integers(0, 4)),
    roles=arrays(np.uint8, (6, 7), elements=st.integers(0, 3)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_split_survives_its_file(tmp_path_factory, labels, roles, seed):
    labels[0, :2] = 1
    roles[0, :2] = 1, 3
    roles[labels == 0] = 0
    split = Split(labels, roles == 1, roles == 2, roles == 3, "random:0.1", seed)
    path = tmp_path_factory.mktemp("split") / "split.npz"
    write_split(path, split, overwrite=False)
    read = read_split(path)
    assert (read.digest, read.recipe, read.seed) == (split.digest, split.recipe, seed)
    assert (read.labels == labels).all()


def test_what_is_no_split(tmp_path):
    path = tmp_path / "split.npz"
    with pytest.raises(UnreadableFileError, match="does not exist"):
        read_split(path)
    labels = np.ones((3, 4), np.uint16)
    write_split(path, make_split(labels, "random:0.5"), overwrite=False)
    whole = path.read_bytes()
    for cut in (0, 1, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(UnreadableFileError, match=r"split.npz is no split"):
            read_split(path)
    entry = whole.index(b"PK\x01\x02")  # of the directory of the archive
    for place in (entry + 6, entry + 8, entry + 10):  # version, flags and method, all unknown
        path.write_bytes(whole[:place] + b"\xff\xff" + whole[place + 2 :])
        with pytest.raises(UnreadableFileError, match=r"split.npz is no split"):
            read_split(path)
    np.savez(path, train=np.array([object()], object))
    with pytest.raises(UnreadableFileError, match="is no split"):
        read_split(path)
    masks = dict.fromkeys(("train", "validation", "test"), np.ones((3, 4), bool))
    np.savez(path, labels=labels, recipe="x", seed=0, **masks)
    with pytest.raises(SplitError, match="uses a pixel twice"):
        read_split(path)


def test_a_fixed_split_reads_the_files_of_a_fixed_split(tmp_path):
    _, labels = small_scene(tmp_path)
    np.save(tmp_path / "train.npy", np.where(np.arange(24) < 3, labels, 0))
    np.save(tmp_path / "test.npy", np.where(np.arange(24) > 20, labels, 0))
    recipe = f"fixed:{tmp_path / 'train.npy'},{tmp_path / 'test.npy'}:val=0.5"
    scene, truth = str(tmp_path / "cube.npy"), str(tmp_path / "cube_gt.npy")
    split = open_dataset([scene], [truth], recipe, 0).splits[0]
    assert split.n_train + split.n_validation == np.count_nonzero(labels[:, :3])
    assert split.n_test == np.count_nonzero(labels[:, 21:])


def test_leakage_is_pooled_by_test_pixels():
    near = make_split(np.ones((4, 4), np.uint8), "random:0.5")
    apart = np.zeros((1, 30), np.uint8)
    apart[0, :3] = apart[0, -1] = 1
    train = np.arange(30)[None] < 3
    far = Split(
        apart.astype(np.uint16),
        train & (apart > 0),
        train & False,
        ~train & (apart > 0),
        "fixed",
        0,
    )
    assert far.leakage()["test_within"]["16"] == 0
    pooled = pooled_leakage([near, far], 9)
    share = near.n_test / (near.n_test + far.n_test)
    assert pooled["test_touching"] == pytest.approx(near.leakage()["test_touching"] * share)
    assert pooled["test_within"]["16"] == pytest.approx(share)
    assert pooled["receptive_field_px"] == 9
    assert set(pooled["test_within"]) == {"1", "2", "4", "7", "16", "receptive_field"}


def test_accuracy_is_counted_at_test_pixels_of_all_scenes():
    split = make_split(np.repeat([[1, 2]], 8, 0), "random:0.5")
    right, wrong = split.labels, 3 - split.labels
    inputs = SimpleNamespace(splits=(split, split), measured_names=("a", "b"))
    record = accuracy_record(inputs, [right, np.where(split.test, wrong, right)])
    assert record["oa"] == pytest.approx(0.5)
    assert record["per_class"]["a"]["n_train"] == 2 * split.n_train_per_class(2)[0]
    assert record["per_class"]["a"]["n_test"] == 2 * int((split.test & (split.labels == 1)).sum())


def test_the_cost_of_a_model_does_not_hang_on_the_scene():
    from hsifcn.models import default_spec

    few, many = (model_record(default_spec("fcn8s", bands, 3)) for bands in (10, 100))
    assert few["params"] < many["params"]
    assert 0 < few["flops_per_pixel"] < many["flops_per_pixel"]
    assert few["model"] == "fcn8s"


def test_json_of_any_text(tmp_path):
    values = {"name": "Čáp \udce9", "share": 0.1}
    write_json(tmp_path / "a.json", values)
    assert json.loads((tmp_path / "a.json").read_text("ascii")) == values
    assert printable("Čáp \udce9") == "Čáp ?"
    write_json(tmp_path / "a.json", {"share": math.pi})
    assert json.loads((tmp_path / "a.json").read_text())["share"] == math.pi
