"""Several networks of one kind that score together.

Lakshminarayanan, Pritzel, Blundell (2017), arXiv:1612.01474: networks that differ in their initial
weights only err differently. Here their logits are averaged, so that one temperature serves all.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Ensemble(nn.Module):
    """The mean of the logits of its members.

    Parameters
    ----------
    members : sequence of Module
        Of the same kind, each mapping the same input to logits.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Score what each member scores."""
        first, *others = self.members
        total: Tensor = first(x)
        for member in others:
            total = total + member(x)
        return total / len(self.members)
