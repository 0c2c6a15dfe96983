"""The two sentences of a comparison."""

# ruff: noqa: RUF001  (the minus sign is what is printed)

from __future__ import annotations

import pytest

from hsifcn.comparison.verdict import verdict

ROWS = [
    {
        "name": name, "label": label, "split": split, "train_seconds": train,
        "predict_seconds": predict, "peak_predict_bytes": 300_000_000 + memory,
        "baseline_bytes": 300_000_000,
    }
    for split in ("random", "disjoint")
    for name, label, train, predict, memory in (
        ("hsifcn", "FCN hsifcn", 28.2, 0.0213, 41_000_000),
        ("patch", "patch CNN 15x15, windowed", 74.6, 5.62, 180_000_000),
    )
]  # fmt: skip
SPLITS = [
    {"name": "random", "leakage": {"test_touching": 0.531}},
    {"name": "disjoint", "leakage": {"test_touching": 0.0}},
]


def difference(split, interval, aa_interval):
    return {
        "a": "hsifcn", "b": "patch", "split": split, "oa_difference": 0.0112, "interval": interval,
        "aa_difference": -0.0043, "aa_interval": aa_interval,
    }  # fmt: skip


def test_two_sentences_with_their_numbers():
    rows = [
        difference("random", [0.004, 0.02], [-0.01, -0.001]),
        difference("disjoint", [-0.01, 0.03], [0.001, 0.03]),
    ]
    accuracy, cost = verdict(ROWS, rows, SPLITS)
    random, disjoint = accuracy.split("; ")
    assert "OA +1.12 points (95 % interval +0.40 to +2.00)" in random
    assert "AA −0.43 points (95 % interval −1.00 to −0.10)" in random
    assert "leaked neighbours (53 % of the test pixels" in random
    assert "0:" not in random
    assert "leaked" not in disjoint
    assert "the interval of OA includes 0: not told apart" in disjoint
    for number in ("21.3 ms against 5.62 s", "41.0 MB against 180 MB", "28.2 s against 74.6 s"):
        assert number in cost


@pytest.mark.parametrize(
    ("oa", "aa", "said"),
    [
        ([0.0, 0.1], [-0.1, 0.1], "the intervals of OA and AA include 0"),
        ([0.1, 0.2], [-0.1, 0.1], "the interval of AA includes 0"),
        (None, [0.1, 0.2], "OA +1.12 points (no interval: too few fields)"),
    ],
)
def test_what_is_not_told_apart(oa, aa, said):
    (sentence, _) = verdict(ROWS, [difference("disjoint", oa, aa)], SPLITS)
    assert said in sentence


def test_nothing_compared_nothing_said():
    assert verdict(ROWS, [], SPLITS) == []
