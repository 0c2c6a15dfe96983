"""Sums and distances over the eight-neighbour grid of a scene, and a solver for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (rows, cols) away; the other four are their mirror


def distances(image: Tensor) -> list[Tensor]:
    """Squared distances to four neighbours, each (rows, cols) less what the step leaves out."""
    return [(image[:, a, b] - image[:, c, d]).square().sum(0) for a, b, c, d in steps(image)]


def steps(image: Tensor) -> Iterator[tuple[slice, slice, slice, slice]]:
    """Rows and columns of the pixels that each kind of step leads from, then to."""
    rows, cols = image.shape[-2:]
    for row, col in NEIGHBOURS:
        left, right = (
            slice(max(0, -col), cols - max(0, col)),
            slice(max(0, col), cols + min(0, col)),
        )
        yield slice(0, rows - row), left, slice(row, rows), right


def around(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Weighted sum of the eight neighbours, (n, rows, cols)."""
    total = torch.zeros_like(x)
    for weight, (a, b, c, d) in zip(weights, steps(x), strict=True):
        total[:, a, b] += weight * x[:, c, d]
        total[:, c, d] += weight * x[:, a, b]
    return total


def degrees(weights: list[Tensor]) -> Tensor:
    """Summed weights of all steps from each pixel, (rows, cols)."""
    rows, cols = weights[0].shape[0], weights[1].shape[1]  # of steps to the right, of steps down
    return around(weights[0].new_ones(1, rows, cols), weights)[0]


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    right: Tensor,
    diagonal: Tensor,
    start: Tensor,
    tolerance: float,
    most_iterations: int,
) -> Tensor:
    """Solve ``apply(x) = right`` for (n, rows, cols), preconditioned by the diagonal.

    Hestenes, Stiefel (1952), doi:10.6028/jres.049.044; ends when no value's step is over
    ``tolerance``.
    """

    def dots(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2), keepdim=True)

    x = start
    residual = right - apply(x)
    scaled = residual / diagonal
    direction = scaled
    product = dots(residual, scaled)
    for _ in range(most_iterations):
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
