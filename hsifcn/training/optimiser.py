"""AdamW through PyTorch's functional form.

The same arithmetic as ``torch.optim.AdamW``, whose constructor loads PyTorch's compiler: resident
memory and seconds of start-up that training has no use for.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adamw import adamw


class AdamW:
    """Loshchilov, Hutter (2019), arXiv:1711.05101; betas 0.9 and 0.999.

    Parameters
    ----------
    parameters : iterable of Tensor
    weight_decay : float
    """

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.tensor(0.0) for _ in self.parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move the parameters that have gradients, then forget the gradients."""
        moved = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        adamw(
            [self.parameters[i] for i in moved],
            [g for g in (self.parameters[i].grad for i in moved) if g is not None],
            [self.means[i] for i in moved],
            [self.squares[i] for i in moved],
            [],
            [self.steps[i] for i in moved],
            foreach=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=lr,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Everything but the parameters, by name."""
        state: dict[str, Tensor] = {}
        for index, moments in enumerate(zip(self.means, self.squares, self.steps, strict=True)):
            state |= {f"{index}.{name}": t for name, t in zip(_NAMES, moments, strict=True)}
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what ``state`` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


_NAMES = ("mean", "square", "step")
