"""The campaign finds what it looks for: a breach that is made on purpose is told."""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
import time

import numpy as np
import pytest
from torture import mutations
from torture.checks import Check, Outcome, kept_file, read_kept, run_check
from torture.kills import SAID, _mixed, leftovers, start, wait_for
from torture.page import FIGURES, table
from torture.samples import SAMPLES

from hsifcn.core.errors import UnreadableFileError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the campaign runs on Linux")


def refuse(message):
    raise UnreadableFileError(message)


@pytest.mark.parametrize(
    ("read", "told"),
    [
        (lambda path: None, None),
        (lambda path: refuse("x is damaged"), None),
        (lambda path: refuse("x" * 3000), "message of 3000 letters"),
        (lambda path: [][1], "IndexError"),
        (lambda path: sum(1 for _ in iter(int, 1)), "TimeoutError"),
    ],
)
def test_a_file_that_is_read_badly_is_a_breach(tmp_path, monkeypatch, read, told):
    monkeypatch.setattr(mutations, "HANG_S", 0.05)
    before = signal.signal(signal.SIGPROF, mutations._hang)
    try:
        fault = mutations._fault(read, tmp_path)
    finally:
        signal.signal(signal.SIGPROF, before)
    assert fault is None if told is None else told in fault


def test_mutations_change_files_and_are_the_same_for_a_seed():
    content = bytes(range(256)) * 2 + b" 123 4.5"
    found = [mutations.mutated(content, np.random.default_rng(i)) for i in range(50)]
    assert found == [mutations.mutated(content, np.random.default_rng(i)) for i in range(50)]
    assert sum(one != content for one in found) > 45
    assert len(set(found)) > 45


def test_what_was_checked_is_kept_and_read_again(tmp_path):
    def run(context):
        outcome = Outcome()
        for number in range(context.count(30)):
            outcome.case("broken" if number == 1 else "", "")
        return outcome

    check = Check("part", "name", run)
    path = kept_file(tmp_path, check, 0.1, 7)
    assert read_kept(path) is None
    run_check(check, tmp_path, 0.1, 7, tmp_path)
    kept = read_kept(path)
    assert (kept.cases, kept.breaches) == (3, ["broken"])
    path.write_text(json.dumps({"cases": 3})[:-1])
    assert read_kept(path) is None


def test_partial_outputs_and_temporaries_are_told(tmp_path):
    (tmp_path / ".m.1.npy").touch()
    assert leftovers(tmp_path) == [".m.1.npy"]
    found = {"m.npy": b"half", "n.npy": b"old", "log": None}
    assert _mixed(found, {"n.npy": b"old"}, {"m.npy": b"whole"}) == ["m.npy is partial"]


def test_a_command_in_a_fork_is_killed_with_its_message_kept(tmp_path):
    process = start(tmp_path, ["info", "nothing.npy"])
    assert wait_for(process) == 2
    assert "nothing.npy does not exist" in SAID.read_text()
    SAID.unlink()
    process = os.fork()
    if not process:
        os.setpgid(0, 0)
        time.sleep(60)
        os._exit(0)
    assert wait_for(process, 0.1) is None


def test_the_page_has_a_place_for_figures_and_names_every_format():
    from torture.campaign import ROOT, every_check

    text = (ROOT / "docs/reliability.md").read_text("utf-8")
    assert FIGURES.search(text)
    parts = {check.part for check in every_check()}
    assert all(f"--only {part}" in text for part in parts - {"repeats"})
    assert len({check.title for check in every_check()}) == len(every_check())
    shown = table({"a/b": Outcome(1200, ["x"])}, 1.0, 0, datetime.date(2026, 1, 2))
    assert "| a/b | 1,200 | 1 |  |" in shown
    assert {check.name for check in mutations.checks()} == set(SAMPLES)
