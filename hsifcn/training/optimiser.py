"""AdamW, the schedule of the learning rate, and the moving average of the weights.

``torch.optim.AdamW`` and ``OneCycleLR`` do the same, but constructing any ``torch.optim.Optimizer``
loads PyTorch's compiler: 1.4 s and 79 MB, measured with PyTorch 2.13. So AdamW is called in its
functional form. ``swa_utils.AveragedModel`` has no decay that grows over the first steps.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from hsifcn.training.settings import TrainOptions

WARM_UP = 0.2  # share of the steps in which the learning rate rises
_NAMES = ("mean", "square", "step")


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
        """Move the parameters that have gradients, then clear the gradients."""
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

    def state_dict(self) -> dict[str, Tensor]:
        """Everything but the parameters, by name."""
        state: dict[str, Tensor] = {}
        for index, moments in enumerate(zip(self.means, self.squares, self.steps, strict=True)):
            state |= {f"{index}.{name}": t for name, t in zip(_NAMES, moments, strict=True)}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load what ``state_dict`` gave."""
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])


def learning_rate(step: int, options: TrainOptions) -> float:
    """One cycle: up along a cosine for a fifth of the steps, then down to a thousandth."""
    warm = max(1, round(WARM_UP * options.steps))
    low = options.learning_rate / (25 if step < warm else 1000)
    phase = step / warm if step < warm else 1 - (step - warm) / max(1, options.steps - warm)
    return float(low + (options.learning_rate - low) * (1 - np.cos(np.pi * phase)) / 2)


@torch.no_grad()
def update_average(averaged: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Move the averaged weights, and batch statistics, towards the network's after a step."""
    decay = min(decay, step / (step + 9))  # forget the first steps sooner
    for old, new in (
        (averaged.parameters(), network.parameters()),
        (averaged.buffers(), network.buffers()),
    ):
        pairs = [(a, n) for a, n in zip(old, new, strict=True) if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in pairs], [n for _, n in pairs], 1 - decay)
