"""``train --tensorboard``: event files, read back by TensorBoard itself."""

from __future__ import annotations

import csv
import json
import sys

import pytest
from cli_helpers import assert_refused, command, small_scene


def test_tensorboard_shows_the_log_and_the_result(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard is not installed: pip install 'hsifcn[tensorboard]'",
    )
    small_scene(tmp_path)
    done = command(tmp_path, "train", "cube.npy", "--steps", 12, "--tensorboard", "-q")
    assert done.code == 0, done.err
    run = tmp_path / "runs/cube"
    (folder,) = (run / "tensorboard").iterdir()
    events = accumulator.EventAccumulator(str(folder)).Reload()
    losses = {event.step: event.value for event in events.Scalars("training/loss")}
    assert list(losses) == list(range(1, 13))
    with (run / "log.csv").open() as file:
        logged = list(csv.DictReader(file))
    for row in logged:
        assert losses[int(row["step"])] == pytest.approx(float(row["loss"]), rel=1e-3)
    metrics = json.loads((run / "metrics.json").read_text())
    (oa,) = events.Scalars("test/oa")
    assert oa.value == pytest.approx(metrics["oa"])
    (picture,) = events.Images("map")
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    again = command(tmp_path, "train", "cube.npy", "--steps", 12, "--tensorboard", "--overwrite")
    assert again.code == 0, again.err
    assert len(list((run / "tensorboard").iterdir())) == 2


def test_without_the_package_one_line_tells_what_to_install(tmp_path, monkeypatch):
    small_scene(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    done = command(tmp_path, "train", "cube.npy", "--tensorboard")
    assert_refused(done, "needs the package tensorboard", "pip install 'hsifcn[tensorboard]'")
    assert not (tmp_path / "runs").exists()


def test_nothing_stays_of_a_training_that_left_nothing(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    small_scene(tmp_path)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hsifcn.training.train.run_steps", stop)
    done = command(tmp_path, "train", "cube.npy", "--tensorboard", "-q")
    assert done.code == 130
    assert not (tmp_path / "runs/cube").exists()
