"""Steps of training: one loop for every network, whatever it learns from, and its checkpoint."""

from __future__ import annotations

import copy
import json
import operator
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hsifcn.core.errors import FailedError, SettingError, UnreadableFileError
from hsifcn.inference.bundle import checksum_of
from hsifcn.io.files import atomic_write, utf8_path
from hsifcn.models import ModelSpec, build
from hsifcn.training.objectives import Objective
from hsifcn.training.optimiser import AdamW, learning_rate, update_average
from hsifcn.training.ranks import Ranks
from hsifcn.training.settings import TrainOptions

SELECT_FROM = 0.8  # share of the steps before which no state is kept: the rate is still high
SAVE_EVERY_S = 60.0  # seconds between two saved states
STATE = "state.safetensors"

Progress = Callable[[int, float, float | None], None]
"""Called after each step with the step, its loss and the last validation OA."""


def no_progress(step: int, loss: float, validation_oa: float | None) -> None:
    """Report nothing."""


@dataclass
class TrainingState:
    """All that changes from step to step.

    Attributes
    ----------
    network, averaged : Module
        The network being trained, and the moving average of its weights.
    optimiser : AdamW
        With its moments.
    step : int
        Steps done.
    best_oa, best_step : float, int
        Greatest validation OA, -1 before the first evaluation, and the last step that had it.
    best : dict of str to Tensor
        The averaged weights of that step.
    log : list of dict
        Rows of ``log.csv`` so far.
    seconds : float
        Training time so far.
    """

    network: nn.Module
    averaged: nn.Module
    optimiser: AdamW
    step: int
    best_oa: float
    best_step: int
    best: dict[str, Tensor]
    log: list[dict[str, Any]]
    seconds: float


def initial_state(
    spec: ModelSpec, options: TrainOptions, weights: Mapping[str, Tensor]
) -> TrainingState:
    """A network, its average and its optimiser; layers not in ``weights`` are initialised."""
    torch.manual_seed(options.seed)
    network = build(spec)
    network.load_state_dict(weights, strict=False)
    network = network.to(  # type: ignore[call-overload]
        options.device, memory_format=torch.channels_last
    )
    options.ranks.share_batch_norm(network)
    averaged = copy.deepcopy(network).requires_grad_(False)
    optimiser = AdamW(network.parameters(), options.weight_decay)
    return TrainingState(network, averaged, optimiser, 0, -1.0, 0, {}, [], 0.0)


def run_steps(
    state: TrainingState,
    objective: Objective,
    options: TrainOptions,
    until: int,
    progress: Progress = no_progress,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train from ``state.step`` to step ``until`` and keep the averaged weights that validate best.

    Of equally good ones the latest are kept; without validation pixels, those of the last step.

    Raises
    ------
    FailedError
        The loss is not finite.
    """
    started = time.perf_counter() - state.seconds
    saved = time.perf_counter()
    validation_oa = None
    while state.step < until:
        rng = np.random.default_rng([options.seed, state.step])  # so that a resumed run agrees
        torch.manual_seed(int(rng.integers(2**31)))
        lr = learning_rate(state.step, options)
        state.network.train()
        loss = options.ranks.sum_gradients(state.network, objective.backward(state.network, rng))
        if not np.isfinite(loss):
            raise FailedError(
                f"training diverged at step {state.step + 1} (loss {loss})",
                "check the scene for extreme values: hsifcn info",
            )
        state.optimiser.step(lr)
        state.step += 1
        update_average(state.averaged, state.network, state.step, options.averaging)
        last = state.step == until
        if last or state.step % options.evaluate_every == 0:
            validation_oa = evaluate(state, objective)
            keep_if_best(state, validation_oa, options.steps, last)
            state.seconds = time.perf_counter() - started
            state.log.append(
                {
                    "step": state.step,
                    "loss": loss,
                    "lr": lr,
                    "validation_oa": validation_oa,
                    "seconds": state.seconds,
                }
            )
        if checkpoint and time.perf_counter() - saved > SAVE_EVERY_S:
            checkpoint.save(state)
            saved = time.perf_counter()
        progress(state.step, loss, validation_oa)


def keep_if_best(state: TrainingState, validation_oa: float | None, steps: int, last: bool) -> None:
    """Keep the averaged weights where they validate best, or are the last and the only ones."""
    late = state.step >= SELECT_FROM * steps
    best = late and validation_oa is not None and validation_oa >= state.best_oa
    if best or (last and not state.best):
        state.best_oa, state.best_step = validation_oa or 0.0, state.step
        state.best = {n: t.clone() for n, t in state.averaged.state_dict().items()}


def evaluate(state: TrainingState, objective: Objective) -> float | None:
    """OA of the averaged weights at the validation pixels, None where there are none."""
    if not objective.n_validation:
        return None
    scores, targets = objective.validation_scores(state.averaged)
    return (scores.argmax(1) == targets).float().mean().item()


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of an unfinished run is kept.

    Attributes
    ----------
    folder : Path
    identity : dict
        What a run that is resumed must agree in with the one that was interrupted.
    """

    folder: Path
    identity: dict[str, Any]

    def save(self, state: TrainingState) -> None:
        """Write the state, atomically."""
        header, tensors = saved_state(state)
        header["identity"] = self.identity
        header["checksum"] = checksum_of(header, tensors)
        with atomic_write(self.folder / STATE, overwrite=True) as temporary:
            metadata = {"hsifcn": json.dumps(header, sort_keys=True)}
            temporary.write_bytes(safetensors.torch.save(tensors, metadata))

    def load(self, state: TrainingState) -> bool:
        """Load the saved state into ``state``; False where there is none.

        Raises
        ------
        SettingError
            It was left by a run with other options, scenes or labels.
        UnreadableFileError
            It is damaged.
        """
        path = self.folder / STATE
        if not path.exists():
            return False
        damaged = UnreadableFileError(f"{path} is damaged", "start anew with --overwrite")
        try:
            with utf8_path(path) as name, safetensors.safe_open(name, framework="pt") as file:
                header = json.loads(file.metadata()["hsifcn"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            identity, checksum = header["identity"], header.pop("checksum", None)
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise damaged from error
        if checksum not in (None, checksum_of(header, tensors)):  # older files have none
            raise damaged
        if json.dumps(identity) != json.dumps(self.identity, sort_keys=True):
            raise SettingError(
                f"{self.folder} was left by a run with other settings or input",
                "repeat its options, or start anew with --overwrite",
            )
        try:
            load_state(state, header, tensors)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise damaged from error
        return True


def saved_state(state: TrainingState) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a checkpoint holds: numbers, and tensors by name."""
    tensors = {f"network.{name}": t for name, t in state.network.state_dict().items()}
    tensors |= {f"averaged.{name}": t for name, t in state.averaged.state_dict().items()}
    tensors |= {f"best.{name}": t for name, t in state.best.items()}
    tensors |= {f"optimiser.{name}": t for name, t in state.optimiser.state_dict().items()}
    keys = ("step", "best_oa", "best_step", "log", "seconds")
    header = {key: getattr(state, key) for key in keys}
    return header, {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def share_state(state: TrainingState, ranks: Ranks) -> None:
    """Give the state of the first rank to all."""
    if ranks.size > 1:
        header, tensors = ranks.once(lambda: saved_state(state))
        load_state(state, header, tensors)


def load_state(state: TrainingState, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Put what a checkpoint holds into ``state``."""
    state.network.load_state_dict(_under(tensors, "network."))
    state.averaged.load_state_dict(_under(tensors, "averaged."))
    state.best = _under(tensors, "best.")
    state.optimiser.load_state_dict(_under(tensors, "optimiser."))
    state.step, state.best_step = (
        operator.index(header["step"]),
        operator.index(header["best_step"]),
    )
    state.best_oa, state.seconds = float(header["best_oa"]), float(header["seconds"])
    state.log = [dict(row) for row in header["log"]]


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
