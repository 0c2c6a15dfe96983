"""Exact batch statistics, stored for prediction."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hsifcn.models.layers import BatchNorm, masked_moments, pooled_moments


@torch.no_grad()
def reestimate(network: nn.Module, run: Callable[[nn.Module], None], calls: int) -> None:
    """Set every batch norm's mean and variance to those over all inputs, layer by layer.

    A layer's input depends on the layers before it, so each is settled before the next is looked
    at. With one input that happens within a single pass; with several, their sums are pooled and
    it takes a pass a layer. Processes that share the inputs pool theirs, too.

    Parameters
    ----------
    network : Module
        Left in evaluation mode.
    run : callable
        Runs the network over all inputs.
    calls : int
        How many times ``run`` calls the network.
    """
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    for group in [norms] if calls == 1 else [[norm] for norm in norms]:
        hooks = [norm.register_forward_pre_hook(_Pool(calls)) for norm in group]
        run(network)
        for hook in hooks:
            hook.remove()


class _Pool:
    """Pools moments over the calls; at the last one, stores them in the layer."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.counts: list[Tensor] = []
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []

    def __call__(self, norm: BatchNorm, inputs: tuple[Tensor | None, ...]) -> None:
        x, valid = (*inputs, None)[:2]  # networks of other modules know of no mask
        assert x is not None
        if valid is None and x.numel():
            count = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        else:
            mask = torch.ones_like(x[:, :1]) if valid is None else valid > 0
            count = mask.sum().float()
            mean, variance = masked_moments(x, mask)
        self.counts.append(count)
        self.means.append(mean)
        self.variances.append(variance)
        if len(self.counts) < self.calls:
            return
        counts, means = torch.stack(self.counts), torch.stack(self.means)
        variances = torch.stack(self.variances)
        if norm.rows_of_all is not None:
            rows = norm.rows_of_all(torch.cat([counts[:, None], means, variances], 1).flatten())
            rows = rows.view(-1, 1 + 2 * means.shape[1])
            counts, means, variances = rows[:, 0], *rows[:, 1:].chunk(2, 1)
        mean, variance = pooled_moments(counts, means, variances)
        norm.running_mean.copy_(mean)  # type: ignore[union-attr]
        norm.running_var.copy_(variance)  # type: ignore[union-attr]
