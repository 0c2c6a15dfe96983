"""Processes that share one training, on one machine or several: ``torchrun`` starts them.

Each has a rank, from 0. All ranks draw the same step, each computes its part of it, and sums over
the ranks make loss, batch statistics and gradients those of the whole step. So how many there are
changes a result by rounding alone. One process is the usual case: then there is nothing to sum.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from hsifcn.core.errors import FailedError, HsifcnError, SettingError
from hsifcn.core.process import ranks_started
from hsifcn.models.layers import BatchNorm

T = TypeVar("T")

JOINING = timedelta(minutes=5)  # in which all ranks must have started
STEP = timedelta(minutes=10)  # that a rank waits for the others within a step
PREPARATION = timedelta(hours=12)  # that it waits for what the first does alone
ROLL_CALL_S = 3.0  # in which the ranks that are left tell so
REMEDY = "see to it, then go on with --resume"
FAILED = "failed"  # key of the shared store: which rank failed, and why


class LostRankError(FailedError):
    """Another rank failed or went away, so this one cannot go on.

    Parameters
    ----------
    message, remedy
        Of ``HsifcnError``.
    told_elsewhere : bool
        Another rank tells the user.
    """

    def __init__(self, message: str, remedy: str = "", *, told_elsewhere: bool = False) -> None:
        super().__init__(message, remedy)
        self.told_elsewhere = told_elsewhere


@dataclass(frozen=True)
class Ranks:
    """The process among those that share a training; by default it is alone.

    Attributes
    ----------
    rank, size : int
        Its number, from 0, and how many there are.
    store : Store, optional
        What all ranks can read and write: where one leaves why it failed.
    patient : ProcessGroup, optional
        The ranks, for what takes longer than a step.
    """

    rank: int = 0
    size: int = 1
    store: Any = field(default=None, repr=False, compare=False)
    patient: Any = field(default=None, repr=False, compare=False)

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The part of some items that this rank takes: neighbours, about as many as the others."""
        n = len(items)
        return items[n * self.rank // self.size : n * (self.rank + 1) // self.size]

    def once(self, work: Callable[[], T]) -> T:
        """Let the first rank alone do some work; its result, on every rank."""
        if self.size == 1:
            return work()
        box = [work() if self.first else None]
        with _lost_rank():
            dist.broadcast_object_list(box, 0, self.patient, torch.device("cpu"))
        return box[0]  # type: ignore[return-value]

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, of tensors of one shape; gradients are summed, too."""
        return tensor if self.size == 1 else sum_over_ranks(tensor)

    def total(self, number: float) -> float:
        """Sum of a number over the ranks."""
        return (
            self.sum(torch.tensor(number, dtype=torch.float64)).item() if self.size > 1 else number
        )

    def all(self, true: bool) -> bool:
        """Whether something is true on all ranks."""
        return self.total(float(not true)) == 0

    def gather(self, part: Tensor) -> Tensor:
        """The parts of all ranks, one behind the other."""
        if self.size == 1:
            return part
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(part)
        ends = self.sum(lengths).cumsum(0).tolist()
        whole = part.new_zeros((ends[-1], *part.shape[1:]))
        whole[ends[self.rank] - len(part) : ends[self.rank]] = part
        return self.sum(whole)

    def sum_gradients(self, network: nn.Module, loss: float) -> float:
        """Sum the gradients of a network over the ranks, and the loss, which is given back."""
        if self.size == 1:
            return loss
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([gradients[0].new_tensor([loss]), *(g.flatten() for g in gradients)])
        first, *summed = torch.split(self.sum(flat), [1, *(g.numel() for g in gradients)])
        for gradient, total in zip(gradients, summed, strict=True):
            gradient.copy_(total.view(gradient.shape))
        return float(first)

    def share_batch_norm(self, network: nn.Module) -> None:
        """Let batch norms take their statistics over the pixels of all ranks."""
        for module in network.modules():
            if isinstance(module, BatchNorm) and self.size > 1:
                module.rows_of_all = rows_of_all


ALONE = Ranks()


class _Sum(torch.autograd.Function):
    """Sum over ranks. Each adds its part of the loss, so gradients are summed over ranks, too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        """Sum the tensor."""
        return _all_reduce(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Sum the gradient."""
        return _all_reduce(gradients[0])


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Sum a tensor over the ranks."""
    summed: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return summed


def rows_of_all(values: Tensor) -> Tensor:
    """Turn the values of a rank, (n,), into those of all, (ranks, n)."""
    rows = values.new_zeros(dist.get_world_size(), len(values))
    rows[dist.get_rank()] = values
    return sum_over_ranks(rows)


def _all_reduce(tensor: Tensor) -> Tensor:
    summed = tensor.clone(memory_format=torch.contiguous_format)
    with _lost_rank():
        dist.all_reduce(summed)
    return summed


@contextmanager
def _lost_rank() -> Iterator[None]:
    """Turn what PyTorch raises where a rank is gone into ``LostRankError``."""
    try:
        yield
    except RuntimeError as error:
        raise LostRankError(
            f"the connection between the ranks broke ({_first_line(error)})"
        ) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Join the other ranks that were started, if there are any; where one fails, all end.

    Parameters
    ----------
    device : str
        ``cpu`` (over gloo) or ``cuda`` (over NCCL, a GPU a rank).

    Yields
    ------
    Ranks

    Raises
    ------
    SettingError
        There are fewer GPUs than ranks on this machine, or the device is another one.
    LostRankError
        The other ranks were not found; or one failed, which the message names, with the cause.
    """
    if ranks_started() == 1:
        yield ALONE
        return
    ranks = connect(device)
    with _Failures(ranks):
        if not ranks.first:  # the first one stops between two steps, and all with it
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        yield ranks
    dist.destroy_process_group()


def connect(device: str) -> Ranks:
    """Find the other ranks; see ``join_ranks``."""
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "mps":
        raise SettingError("ranks compute on processors and CUDA only", "add --device cpu")
    if device == "cuda":
        if place >= torch.cuda.device_count():
            raise SettingError(
                f"there are more ranks than GPUs on this machine ({torch.cuda.device_count()})",
                "start one rank a GPU with --nproc-per-node, or add --device cpu",
            )
        torch.cuda.set_device(place)
    try:
        store, rank, size = next(rendezvous("env://", timeout=JOINING))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            store=store, rank=rank, world_size=size, timeout=STEP,
        )  # fmt: skip
        patient = dist.new_group(backend="gloo", timeout=PREPARATION)
    except (RuntimeError, ValueError) as error:
        raise LostRankError(
            f"the other ranks were not found ({_first_line(error)})",
            "start all within five minutes, with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE",
        ) from error
    return Ranks(rank, size, store, patient)


class _Failures:
    """Tells the other ranks where this one fails, and this one which other failed."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if error is None:
            return
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends all ranks where one fails
        if isinstance(error, LostRankError):
            name_lost_rank(error, self.ranks)
        else:
            leave_cause(error, self.ranks)


def leave_cause(error: BaseException, ranks: Ranks) -> None:
    """Leave the others why this rank failed, and put its number into the message.

    Raises
    ------
    LostRankError
        Another failed before, and that is why this one was stopped, or for the same reason.
    """
    name = f"rank {ranks.rank}"
    cause = "interrupted" if isinstance(error, KeyboardInterrupt) else _first_line(error)
    told = f"{name} failed: {cause}"
    if isinstance(error, HsifcnError):
        error.message = f"{name}: {error.message}"
    earlier = told
    with suppress(RuntimeError):  # nobody listens any more
        earlier = ranks.store.compare_set(FAILED, "", told).decode()
        ranks.store.set(f"left {ranks.rank}", "")
        dist.destroy_process_group()  # so that the others notice
        if ranks.first:  # its process may hold the store
            missed_ranks(ranks)
    if earlier != told and (isinstance(error, KeyboardInterrupt) or not ranks.first):
        raise LostRankError(earlier, REMEDY, told_elsewhere=not ranks.first) from error


def name_lost_rank(error: LostRankError, ranks: Ranks) -> None:
    """Put into the message which rank failed and why.

    The first rank tells the cause that was left. A rank that left none is missed at a roll call,
    and the first one of those that answer tells so.
    """
    error.remedy = REMEDY
    with suppress(RuntimeError):  # the machine with the store may be the one that is gone
        ranks.store.set(f"left {ranks.rank}", "")
        missed = missed_ranks(ranks)
        if ranks.store.check([FAILED]):
            error.message = str(ranks.store.get(FAILED).decode())
            error.told_elsewhere = not ranks.first
            return
        if missed:
            named = ", ".join(map(str, missed))
            error.message = f"rank {named} went away without a word: killed or cut off"
            error.told_elsewhere = ranks.rank > min(set(range(ranks.size)) - set(missed))
            return
    error.message = f"rank {ranks.rank}: {error.message}"


def missed_ranks(ranks: Ranks) -> list[int]:
    """The ranks that do not tell in time that they leave."""
    deadline = time.monotonic() + ROLL_CALL_S
    while True:
        missed = [r for r in range(ranks.size) if not ranks.store.check([f"left {r}"])]
        if not missed or time.monotonic() > deadline:
            return missed
        time.sleep(0.05)
