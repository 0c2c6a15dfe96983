"""Alpha-expansion on Potts energies, by cuts of minimum cost.

Boykov, Veksler, Zabih (2001), *Fast approximate energy minimization via graph cuts*, IEEE TPAMI
23(11), doi:10.1109/34.969114: two classes are solved exactly; with more, the energy ends within
twice the least one. Energies are integers, ``STEPS_PER_NAT`` a nat, because the maximum flow of
SciPy takes integers only: each term is rounded once, at the start, by at most 1/2048 nat, and all
that follows is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from hsifcn.core.errors import SettingError

STEPS_PER_NAT = 1024
LARGEST_WEIGHT = 1000.0  # nats; keeps capacities well within 32 bits

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PottsEnergy:
    """What a labelling costs: a cost a node, and a weight for each edge whose ends differ.

    Attributes
    ----------
    unary : ndarray, (nodes, classes), int64
        Cost of each class at each node.
    first, second : ndarray, (edges,), int64
        Ends of each edge, different.
    weight : ndarray, (edges,), int64
        Not negative, even (an expansion halves it).
    """

    unary: Integers
    first: Integers
    second: Integers
    weight: Integers

    @classmethod
    def from_nats(
        cls,
        unary: npt.NDArray[np.floating[Any]],
        first: Integers,
        second: Integers,
        weight: npt.NDArray[np.floating[Any]],
    ) -> PottsEnergy:
        """Round costs and weights given in nats.

        Raises
        ------
        SettingError
            A weight is negative or above ``LARGEST_WEIGHT``.
        """
        if weight.size and not (weight.min() >= 0 and weight.max() <= LARGEST_WEIGHT):
            raise SettingError(
                f"edge weights run from {weight.min():g} to {weight.max():g} nats",
                f"they must lie within 0 and {LARGEST_WEIGHT:g}",
            )
        return cls(
            np.rint(unary * float(STEPS_PER_NAT)).astype(np.int64),
            first,
            second,
            2 * np.rint(weight * (STEPS_PER_NAT / 2)).astype(np.int64),
        )

    def of(self, classes: Integers) -> int:
        """Energy of a labelling, (nodes,) classes from 0."""
        costs = np.take_along_axis(self.unary, classes[:, None], axis=1)
        return int(costs.sum() + self.weight[classes[self.first] != classes[self.second]].sum())


def alpha_expansion(energy: PottsEnergy) -> Integers:
    """Label the nodes so that no expansion of any class lowers the energy further.

    Starts from the cheapest class of each node.

    Returns
    -------
    ndarray, (nodes,), int64
        Classes from 0.
    """
    nodes, n_classes = energy.unary.shape
    classes = energy.unary.argmin(1) if nodes else np.zeros(0, np.int64)
    in_vain = alpha = 0
    while in_vain < n_classes:
        taken = expand(energy, classes, alpha)
        classes[taken] = alpha
        in_vain = 0 if taken.any() else in_vain + 1
        alpha = (alpha + 1) % n_classes
    return classes


def expand(energy: PottsEnergy, classes: Integers, alpha: int) -> Mask:
    """Which nodes to give class ``alpha`` so that the energy falls most; none where it cannot.

    Returns
    -------
    ndarray, (nodes,), bool
        False where the class is ``alpha`` already.
    """
    first, second, weight = energy.first, energy.second, energy.weight
    nodes = len(classes)
    old_cost = np.take_along_axis(energy.unary, classes[:, None], axis=1)[:, 0]
    cost = energy.unary[:, alpha] - old_cost  # of taking alpha
    is_alpha = classes == alpha
    # An edge to alpha costs its weight until its other end takes alpha. An edge of two other
    # classes costs it until both do, which is half of it for each and half where one does alone.
    differ = classes[first] != classes[second]
    relief = np.where(is_alpha[first] | is_alpha[second], weight, weight // 2) * differ
    cost -= sums(first, relief, nodes) + sums(second, relief, nodes)
    inner = ~(is_alpha[first] | is_alpha[second]) & (weight > 0)
    capacity = np.where(differ, weight // 2, weight)
    return cheapest_cut(cost, first[inner], second[inner], capacity[inner], ~is_alpha)


def cheapest_cut(
    cost: Integers, first: Integers, second: Integers, capacity: Integers, free: Mask
) -> Mask:
    """Minimise ``sum cost[taken] + sum capacity[one end taken]`` over sets of free nodes.

    Parameters
    ----------
    cost : ndarray, (nodes,), int64
    first, second, capacity : ndarray, (edges,), int64
        Edges between free nodes.
    free : ndarray, (nodes,), bool
        Nodes that may be taken.

    Returns
    -------
    ndarray, (nodes,), bool
        The taken nodes; the empty set where no other is cheaper.
    """
    cost, nodes = cost.copy(), len(cost)
    taken = np.zeros(nodes, bool)
    open_ = free.copy()
    # A node whose cost outweighs all its open edges is settled whatever its neighbours do.
    while True:
        bound = sums(first, capacity, nodes) + sums(second, capacity, nodes)
        leave, take = open_ & (cost >= bound), open_ & (cost < -bound)
        if not (leave.any() or take.any()):
            break
        taken |= take
        open_ &= ~(leave | take)
        touching = ~(open_[first] & open_[second])
        for near, far in ((first[touching], second[touching]), (second[touching], first[touching])):
            cost += sums(near, np.where(taken[far], -1, 1) * capacity[touching], nodes)
        first, second, capacity = first[~touching], second[~touching], capacity[~touching]
    if not (open_ & (cost < 0)).any():
        return taken
    index = np.flatnonzero(open_)
    place = np.zeros(nodes, np.int64)
    place[index] = np.arange(len(index))
    taken[index] = minimum_cut(cost[index], place[first], place[second], capacity)
    return taken


def minimum_cut(cost: Integers, first: Integers, second: Integers, capacity: Integers) -> Mask:
    """The same minimum by a maximum flow from the nodes worth taking to those worth leaving."""
    nodes = len(cost)
    source, sink = nodes, nodes + 1
    worth, dear = np.flatnonzero(cost < 0), np.flatnonzero(cost > 0)
    tails = np.concatenate([first, second, np.full(len(worth), source), dear])
    heads = np.concatenate([second, first, worth, np.full(len(dear), sink)])
    limits = np.concatenate([capacity, capacity, -cost[worth], cost[dear]]).astype(np.int32)
    graph = csr_array((limits, (tails, heads)), shape=(nodes + 2, nodes + 2))
    graph.sum_duplicates()
    residual = csr_array(graph - maximum_flow(graph, source, sink).flow)
    residual.eliminate_zeros()
    reached = breadth_first_order(residual, source, return_predecessors=False)
    taken = np.zeros(nodes + 2, bool)
    taken[reached] = True
    return taken[:nodes]


def sums(nodes: Integers, values: Integers, n: int) -> Integers:
    """Sum of the values of each node, (n,)."""
    return np.bincount(nodes, weights=values, minlength=n).astype(np.int64)


def grid_edges(valid: Mask) -> tuple[Integers, Integers, npt.NDArray[np.float64]]:
    """Edges between the valid pixels of a grid and their 8 neighbours.

    Returns
    -------
    first, second : ndarray, (edges,), int64
        Flat indices of the pixels, ``row * cols + col``.
    nearness : ndarray, (edges,), float64
        Inverse distance, which makes the cost of a border its length in any direction (Boykov,
        Kolmogorov 2003, doi:10.1109/ICCV.2003.1238310), scaled to sum to 1 round a pixel.
    """
    rows, cols = valid.shape
    index = np.arange(rows * cols).reshape(rows, cols)
    total = 4 + 4 / np.sqrt(2)
    parts = []
    for here, there, length in (
        (np.s_[:, :-1], np.s_[:, 1:], 1.0),
        (np.s_[:-1], np.s_[1:], 1.0),
        (np.s_[:-1, :-1], np.s_[1:, 1:], np.sqrt(2)),
        (np.s_[:-1, 1:], np.s_[1:, :-1], np.sqrt(2)),
    ):
        both = valid[here] & valid[there]
        near = np.full(int(both.sum()), 1 / (length * total))
        parts.append((index[here][both], index[there][both], near))
    first, second, nearness = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return first, second, nearness
