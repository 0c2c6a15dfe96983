"""Alpha-expansion against trying every labelling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hsifcn.core.errors import SettingError
from hsifcn.inference.refine.graph_cuts import (
    STEPS_PER_NAT,
    PottsEnergy,
    alpha_expansion,
    expand,
    grid_edges,
)


def grid_energy(rows, cols, n_classes, seed, strength=2.0, valid=None):
    """Random costs, and random weights between neighbours on a grid."""
    rng = np.random.default_rng(seed)
    valid = np.ones((rows, cols), bool) if valid is None else valid
    first, second, nearness = grid_edges(valid)
    weight = strength * nearness * rng.uniform(0, 2, len(first))
    return PottsEnergy.from_nats(
        rng.exponential(1, (rows * cols, n_classes)), first, second, weight
    )


def least_energy(energy):
    nodes, n_classes = energy.unary.shape
    return min(
        energy.of(np.array(labelling))
        for labelling in itertools.product(range(n_classes), repeat=nodes)
    )


@given(
    rows=st.integers(1, 3),
    cols=st.integers(1, 4),
    strength=st.floats(0, 20),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60)
def test_two_classes_are_solved_exactly(rows, cols, strength, seed):
    energy = grid_energy(rows, cols, 2, seed, strength)
    assert energy.of(alpha_expansion(energy)) == least_energy(energy)


@given(strength=st.floats(0, 20), seed=st.integers(0, 10**6), n_classes=st.integers(3, 4))
@settings(max_examples=30)
def test_more_classes_end_within_twice_the_least(strength, seed, n_classes):
    energy = grid_energy(2, 3, n_classes, seed, strength)
    assert energy.of(alpha_expansion(energy)) <= 2 * least_energy(energy)


@given(
    rows=st.integers(1, 12),
    cols=st.integers(1, 12),
    n_classes=st.integers(1, 6),
    strength=st.floats(0, 20),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60)
def test_an_expansion_never_raises_the_energy(rows, cols, n_classes, strength, seed):
    energy = grid_energy(rows, cols, n_classes, seed, strength)
    classes = np.random.default_rng(seed).integers(0, n_classes, rows * cols)
    for alpha in range(n_classes):
        before = energy.of(classes)
        taken = expand(energy, classes, alpha)
        assert not taken[classes == alpha].any()
        classes[taken] = alpha
        assert energy.of(classes) < before if taken.any() else energy.of(classes) == before


@given(seed=st.integers(0, 10**6), strength=st.floats(0.5, 20))
@settings(max_examples=30)
def test_an_expansion_is_the_best_of_all(seed, strength):
    energy = grid_energy(3, 3, 3, seed, strength)
    classes = np.random.default_rng(seed).integers(0, 3, 9)
    best = min(
        energy.of(np.where(moved, 2, classes))
        for moved in map(np.array, itertools.product([False, True], repeat=9))
    )
    assert energy.of(np.where(expand(energy, classes, 2), 2, classes)) == best


def test_the_end_is_a_minimum_under_every_expansion():
    energy = grid_energy(20, 17, 5, 3, strength=6.0)
    classes = alpha_expansion(energy)
    assert energy.of(classes) < energy.of(energy.unary.argmin(1))
    assert not any(expand(energy, classes, alpha).any() for alpha in range(5))


def test_any_graph_will_do():
    costs = np.array([[0.0, 1.0], [1.5, 0.0], [0.0, 2.0], [0.5, 0.0]])
    first, second = np.array([0, 1, 0, 0]), np.array([1, 2, 3, 1])  # one edge twice
    energy = PottsEnergy.from_nats(costs, first, second, np.array([0.5, 1.25, 0.25, 0.25]))
    assert alpha_expansion(energy).tolist() == [0, 0, 0, 1]
    assert energy.of(np.array([0, 0, 0, 1])) == 1.75 * STEPS_PER_NAT


def test_no_nodes_and_no_edges():
    nothing = np.zeros(0, np.int64)
    empty = PottsEnergy.from_nats(np.zeros((0, 3)), nothing, nothing, np.zeros(0))
    assert len(alpha_expansion(empty)) == 0
    apart = PottsEnergy.from_nats(np.array([[2.0, 1.0], [0.0, 1.0]]), nothing, nothing, np.zeros(0))
    assert alpha_expansion(apart).tolist() == [1, 0]


@pytest.mark.parametrize("weight", [-0.1, 1001.0, np.nan])
def test_weights_that_make_no_sense(weight):
    with pytest.raises(SettingError, match="edge weights"):
        PottsEnergy.from_nats(
            np.zeros((2, 2)), np.array([0]), np.array([1]), np.array([0.5, weight])
        )


@given(valid=arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
@settings(max_examples=40)
def test_edges_join_valid_neighbours_once(valid):
    first, second, nearness = grid_edges(valid)
    found = {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    assert len(found) == len(first)
    pixels = np.argwhere(valid)
    cols = valid.shape[1]
    wanted = {
        frozenset((int(a @ [cols, 1]), int(b @ [cols, 1])))
        for a, b in itertools.combinations(pixels, 2)
        if np.abs(a - b).max() == 1
    }
    assert found == wanted
    at, to = np.unravel_index(first, valid.shape), np.unravel_index(second, valid.shape)
    lengths = np.hypot(at[0] - to[0], at[1] - to[1])
    np.testing.assert_allclose(nearness * lengths, 1 / (4 + 4 / np.sqrt(2)))
