"""One training by several processes: the same as by one, and what happens where one is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_helpers import ENVIRONMENT, hsifcn, small_scene

from hsifcn.models.layers import BatchNorm, pooled_moments
from hsifcn.training.ranks import Ranks

TESTS = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
LINES = {**ENVIRONMENT, "HSIFCN_PROGRESS": "lines"}


def torchrun(folder, ranks, *arguments):
    """Run the command by several ranks."""
    return subprocess.run(
        [*TORCHRUN, str(ranks), "-m", "hsifcn", *map(str, arguments)],
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip


def errors(done):
    """What the command itself says of a failure; torchrun adds a report of its own."""
    return re.findall(r"^error: .*", done.stderr, re.MULTILINE)


def two_scenes(folder):
    small_scene(folder, "a.npy", rows=20, cols=24)
    small_scene(folder, "b.npy", rows=31, cols=18, seed=3)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_every_item_is_one_rank_s(n):
    parts = [Ranks(rank, n).share(range(7)) for rank in range(n)]
    assert [item for part in parts for item in part] == list(range(7))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def moments(part):
    """Number, means and variances of (pixels, channels); zeros of none."""
    n = len(part)
    if not n:
        return torch.zeros(1 + 2 * part.shape[1], dtype=part.dtype)
    return torch.cat([part.new_tensor([n]), part.mean(0), part.var(0, correction=0)])


def test_pooled_moments_are_those_of_all_parts_together():
    x = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = torch.stack([moments(part) for part in (x[:7], x[7:7], x[7:])])
    mean, variance = pooled_moments(rows[:, 0], rows[:, 1:4], rows[:, 4:])
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(variance, x.var(0, correction=0))


def test_batch_norm_of_a_shared_batch_is_that_of_the_whole_one():
    """Two ranks are played by handing each the moments of both."""
    x = torch.randn(5, 3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = BatchNorm(3).double()
    expected = whole(x)
    rows = [moments(part.permute(0, 2, 3, 1).flatten(0, 2)) for part in (x[:2], x[2:])]
    for part, own in ((x[:2], expected[:2]), (x[2:], expected[2:])):
        shared = BatchNorm(3).double()
        shared.rows_of_all = lambda values: torch.stack(rows)
        torch.testing.assert_close(shared(part), own)
        torch.testing.assert_close(shared.running_mean, whole.running_mean)
        torch.testing.assert_close(shared.running_var, whole.running_var)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whole", "crops"])
def test_two_ranks_train_as_one_process_does(tmp_path, kind):
    """Scenes of several sizes, with missing pixels, in float64; all weights are compared."""
    command = [str(TESTS / "rank_worker.py"), kind]
    for ranks in (1, 2):
        start = [sys.executable] if ranks == 1 else [*TORCHRUN, "2"]
        subprocess.run(
            [*start, *command, str(tmp_path / f"{ranks}.npz")], check=True, timeout=250,
            env={**ENVIRONMENT, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"},
        )  # fmt: skip
    one, two = (np.load(tmp_path / f"{ranks}.npz") for ranks in (1, 2))
    assert (one["size"], two["size"]) == (1, 2)
    assert len(one["loss"]) == 50
    assert one["loss"][-1] < one["loss"][0] / 2
    assert one["n_validation"] == two["n_validation"] > 0
    for name in set(one) - {"size"}:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_command_by_two_ranks(tmp_path):
    two_scenes(tmp_path)
    arguments = ["train", "a.npy", "b.npy", "-s", "random:0.2", "--steps", 30, "--json"]
    alone = hsifcn(tmp_path, *arguments, "-o", "alone")
    done = torchrun(tmp_path, 2, *arguments, "-o", "shared")
    assert done.returncode == 0, done.stderr
    one, two = alone.json, json.loads(done.stdout)  # a single rank prints
    assert done.stderr.count("labels of a.npy") == 1
    assert (one["ranks"], two["ranks"]) == (1, 2)
    assert abs(one["oa"] - two["oa"]) < 1e-3
    losses = [[float(row["loss"]) for row in read_log(tmp_path / n)] for n in ("alone", "shared")]
    np.testing.assert_allclose(*losses, rtol=1e-3)  # single precision
    assert sorted(os.listdir(tmp_path / "alone")) == sorted(os.listdir(tmp_path / "shared"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["a.npy"], "rank 0: 2 ranks for 1 scene: .*; leave torchrun out"),
        (["a.npy", "b.npy", "-m", "patch5"], "rank 0: patch5 is trained by one process"),
        (["a.npy", "missing.npy"], "rank 0: missing.npy does not exist"),
    ],
)  # fmt: skip
def test_what_ranks_cannot_do_is_said_once(tmp_path, arguments, cause):
    two_scenes(tmp_path)
    done = torchrun(tmp_path, 2, "train", *arguments, "--steps", 5)
    assert done.returncode == 1  # torchrun's
    assert done.stdout == ""
    (line,) = errors(done)
    assert re.search(cause, line)
    assert not list(tmp_path.glob("runs/*"))


def start_by_hand(folder, rank, port, *arguments, **environment):
    """Start a rank as without torchrun: by the variables alone."""
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    return subprocess.Popen(
        [sys.executable, "-m", "hsifcn", "train", *map(str, arguments)], cwd=folder,
        env={
            **LINES, "MASTER_ADDR": "127.0.0.1", **{k: str(v) for k, v in variables.items()},
            **environment,
        },
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(line, stream):
    """Read lines until one holds some text."""
    seen = []
    for told in stream:
        seen.append(told)
        if line in told:
            return
    raise AssertionError("".join(seen))


@pytest.mark.slow
def test_a_path_that_one_rank_does_not_see(tmp_path):
    two_scenes(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "def hide(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith('b.npy'):\n"
        "        raise FileNotFoundError(2, 'No such file or directory', 'b.npy')\n"
        "sys.addaudithook(hide)\n"
    )
    port, options = free_port(), ("a.npy", "b.npy", "--steps", "5")
    first = start_by_hand(tmp_path, 0, port, *options)
    blind = f"{tmp_path}{os.pathsep}{TESTS.parent}"
    second = start_by_hand(tmp_path, 1, port, *options, PYTHONPATH=blind)
    _, told = second.communicate(timeout=100)
    _, shown = first.communicate(timeout=100)
    assert re.fullmatch(r"error: rank 1: .*b\.npy.*\n", told)
    last = shown.splitlines()[-1]
    assert re.match(r"error: rank 1 failed: .*b\.npy", last), shown
    assert first.returncode == 1
    assert second.returncode


@pytest.mark.slow
def test_a_lost_rank_and_resuming_with_another_number(tmp_path):
    """Rank 1 is killed: rank 0 names it and ends. Interrupted, a run goes on in one process."""
    two_scenes(tmp_path)
    options = ("a.npy", "b.npy", "--steps", "40", "-o", "run")

    port = free_port()
    first, second = (start_by_hand(tmp_path, rank, port, *options) for rank in range(2))
    wait_for("progress 3/", first.stderr)
    second.kill()
    assert "error: rank 1 went away" in first.communicate(timeout=60)[1]
    assert first.returncode == 1
    second.communicate()
    assert not (tmp_path / "run").exists()

    port = free_port()
    first, second = (start_by_hand(tmp_path, rank, port, *options) for rank in range(2))
    wait_for("progress 12/", first.stderr)
    first.send_signal(signal.SIGTERM)
    assert "go on with --resume" in first.communicate(timeout=60)[1]
    assert second.communicate(timeout=60) == ("", "")
    assert (first.returncode, second.returncode) == (130, 1)
    assert (tmp_path / "run/checkpoint/state.safetensors").exists()

    resumed = hsifcn(tmp_path, "train", *options, "--resume", "--json")
    whole = hsifcn(tmp_path, "train", *options[:-1], "whole", "--json")
    assert resumed.code == 0, resumed.err
    log = [row["step"] for row in read_log(tmp_path / "run")]
    assert log == [row["step"] for row in read_log(tmp_path / "whole")]
    assert abs(resumed.json["oa"] - whole.json["oa"]) < 1e-3
    losses = [[float(row["loss"]) for row in read_log(tmp_path / run)] for run in ("run", "whole")]
    np.testing.assert_allclose(*losses, rtol=0.02)


def read_log(run):
    import csv

    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))
