"""The eight-neighbour graph of an image: differences and sums over its edges, and a linear solver.

An edge joins two neighbouring pixels. Each pixel has edges of four kinds, one for each direction in
``NEIGHBOURS``; a property of all edges is a list of four tensors, one a kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (rows, cols) away; the other four are their mirror
MIN_EDGE_WEIGHT = 3e-4  # so that no pixel is cut off


def neighbour_distances(image: Tensor) -> list[Tensor]:
    """Squared distances between the neighbours of an image (n, rows, cols), one tensor a kind."""
    return [
        (image[:, a, b] - image[:, c, d]).square().sum(0) for a, b, c, d in neighbour_slices(image)
    ]


def neighbour_slices(image: Tensor) -> Iterator[tuple[slice, slice, slice, slice]]:
    """Rows and columns of the first pixels of each kind of edge, then those of the second."""
    rows, cols = image.shape[-2:]
    for row, col in NEIGHBOURS:
        left, right = (
            slice(max(0, -col), cols - max(0, col)),
            slice(max(0, col), cols + min(0, col)),
        )
        yield slice(0, rows - row), left, slice(row, rows), right


def edge_weights(distances: list[Tensor], valid: Tensor | None) -> list[Tensor]:
    """Weights of edges that fall with the distances of their pixels.

    0 where one of the two pixels is not in ``valid``, (1, 1, rows, cols) or None for all.
    """
    weights = []
    for distance, (row, col) in zip(distances, NEIGHBOURS, strict=True):
        weights.append(torch.exp(-distance).add_(MIN_EDGE_WEIGHT) / (row**2 + col**2) ** 0.5)
    if valid is not None:
        for weight, (a, b, c, d) in zip(weights, neighbour_slices(valid), strict=True):
            weight *= valid[0, 0, a, b] & valid[0, 0, c, d]
    return weights


def neighbour_sum(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Weighted sum of the eight neighbours of each pixel, (n, rows, cols)."""
    total = torch.zeros_like(x)
    for weight, (a, b, c, d) in zip(weights, neighbour_slices(x), strict=True):
        total[:, a, b] += weight * x[:, c, d]
        total[:, c, d] += weight * x[:, a, b]
    return total


def node_degree(weights: list[Tensor]) -> Tensor:
    """Sum of the weights of all edges of each pixel, (rows, cols)."""
    rows, cols = weights[0].shape[0], weights[1].shape[1]  # of edges to the right, of edges down
    return neighbour_sum(weights[0].new_ones(1, rows, cols), weights)[0]


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    right: Tensor,
    diagonal: Tensor,
    start: Tensor,
    tolerance: float,
    max_iterations: int,
) -> Tensor:
    """Solve ``apply(x) = right`` by conjugate gradients, preconditioned by the diagonal.

    Hestenes, Stiefel (1952), doi:10.6028/jres.049.044. A sparse solver would need the matrix; this
    one needs only sums over neighbours.

    Parameters
    ----------
    apply : callable
        A symmetric positive definite linear map of (n, rows, cols).
    right, start : Tensor, (n, rows, cols)
        Right-hand side and first guess; each of the n images is a system of its own.
    diagonal : Tensor, (rows, cols)
        Of the map.
    tolerance : float
        The iteration ends when no value of the preconditioned residual exceeds it.
    max_iterations : int
    """

    def dots(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2), keepdim=True)

    x = start
    residual = right - apply(x)
    scaled = residual / diagonal
    direction = scaled
    product = dots(residual, scaled)
    for _ in range(max_iterations):
        if scaled.abs().max() <= tolerance:
            break
        applied = apply(direction)
        length = product / dots(direction, applied).clamp(min=1e-30)
        x = x + length * direction
        residual = residual - length * applied
        scaled = residual / diagonal
        before, product = product, dots(residual, scaled)
        direction = scaled + product / before.clamp(min=1e-30) * direction
    return x
