"""Steps of training: one loop for every network, on whatever it learns from."""

from __future__ import annotations

import copy
import json
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
from hsifcn.io.files import atomic_write
from hsifcn.models import MODELS, ModelSpec, build
from hsifcn.models.fcn import FCN
from hsifcn.training.crops import CroppedScenes
from hsifcn.training.objectives import Objective, SceneObjective
from hsifcn.training.optimiser import AdamW
from hsifcn.training.patches import PatchObjective
from hsifcn.training.scenes import WholeScenes
from hsifcn.training.settings import Settings, learning_rate, stage

SELECT_FROM = 0.8  # share of the steps before which no state is kept: the rate is still high
SAVE_EVERY_S = 60.0  # seconds between two saved states

Progress = Callable[[int, float, float | None], None]
"""Called after each step with the step, its loss and the last validation OA."""


def make_objective(
    source: WholeScenes | CroppedScenes, spec: ModelSpec, settings: Settings
) -> Objective:
    """The objective that suits a network."""
    smoothing, jitter = settings.label_smoothing, settings.spectral_jitter
    patch = MODELS[spec.name].patch
    if patch is not None:
        assert isinstance(source, WholeScenes)  # no plan gives patch CNNs crops
        return PatchObjective(source, spec.classes, smoothing, jitter, patch, settings.materialised)
    if settings.propagation:
        source = source.carry_labels(spec.classes)
    return SceneObjective[Any](source, spec.classes, smoothing, jitter, settings.propagation)


def initial_state(
    spec: ModelSpec, settings: Settings, device: str, weights: Mapping[str, Tensor] | None = None
) -> TrainingState:
    """A network, its average and its optimiser; freshly initialised but for ``weights``."""
    torch.manual_seed(settings.seed)
    network = build(spec)
    network.load_state_dict(weights or {}, strict=False)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(network).requires_grad_(False)
    optimiser = AdamW(network.parameters(), settings.weight_decay)
    return TrainingState(network, averaged, optimiser, 0, -1.0, 0, {}, [], 0.0)


def run_steps(
    state: TrainingState,
    objective: Objective,
    settings: Settings,
    until: int,
    progress: Progress,
    checkpoint: Path | None,
    identity: dict[str, Any],
) -> None:
    """Train from ``state.step`` to step ``until``, keeping the averaged weights that validate best.

    Of equally good ones the latest are kept; without validation pixels, those of the last step.
    """
    started = time.perf_counter() - state.seconds
    saved = time.perf_counter()
    validation_oa = None
    while state.step < until:
        rng = np.random.default_rng([settings.seed, state.step])  # so that a resumed run agrees
        torch.manual_seed(int(rng.integers(2**31)))
        lr = learning_rate(state.step, settings)
        state.network.train()
        if isinstance(state.network, FCN) and settings.staged:
            state.network.open_skips(stage(state.step, settings)[0])
        loss = objective.backward(state.network, rng)
        if not np.isfinite(loss):
            raise FailedError(
                f"training diverged at step {state.step + 1} (loss {loss})",
                "check the scene for extreme values: hsifcn info",
            )
        state.optimiser.step(lr)
        state.step += 1
        average(state, settings.averaging)
        last = state.step == until
        if last or state.step % settings.evaluate_every == 0:
            validation_oa = evaluate(state, objective)
            late = state.step >= SELECT_FROM * settings.steps
            if (last and not state.best) or (
                late and validation_oa is not None and validation_oa >= state.best_oa
            ):
                state.best_oa, state.best_step = validation_oa or 0.0, state.step
                state.best = {n: t.clone() for n, t in state.averaged.state_dict().items()}
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
            state.save(checkpoint, identity)
            saved = time.perf_counter()
        progress(state.step, loss, validation_oa)


@torch.no_grad()
def average(state: TrainingState, decay: float) -> None:
    """Move the averaged weights, and batch statistics, towards the network's."""
    decay = min(decay, state.step / (state.step + 9))  # forget the first steps sooner
    for averaged, network in (
        (state.averaged.parameters(), state.network.parameters()),
        (state.averaged.buffers(), state.network.buffers()),
    ):
        pairs = [(a, n) for a, n in zip(averaged, network, strict=True) if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in pairs], [n for _, n in pairs], 1 - decay)


def evaluate(state: TrainingState, objective: Objective) -> float | None:
    """OA of the averaged weights at the validation pixels, None where there are none."""
    if not objective.n_validation:
        return None
    scores, targets = objective.validation_scores(state.averaged)
    return (scores.argmax(1) == targets).float().mean().item()


STATE = "state.safetensors"


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
        Greatest validation OA, -1 before the first look, and the last step that had it.
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

    def save(self, folder: Path, identity: dict[str, Any]) -> None:
        """Write the state, atomically; ``identity`` is what a resumed run must agree in."""
        tensors = {f"network.{name}": t for name, t in self.network.state_dict().items()}
        tensors |= {f"averaged.{name}": t for name, t in self.averaged.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in self.best.items()}
        tensors |= {f"optimiser.{name}": t for name, t in self.optimiser.state().items()}
        keys = ("step", "best_oa", "best_step", "log", "seconds")
        header = {key: getattr(self, key) for key in keys} | {"identity": identity}
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        with atomic_write(folder / STATE, overwrite=True) as temporary:
            metadata = {"hsifcn": json.dumps(header, sort_keys=True)}
            temporary.write_bytes(safetensors.torch.save(contiguous, metadata))

    def load(self, folder: Path, identity: dict[str, Any]) -> bool:
        """Take up a saved state; False where there is none.

        Raises
        ------
        SettingError
            It was left by a run with other settings, scenes or labels.
        UnreadableFileError
            It is damaged.
        """
        path = folder / STATE
        if not path.exists():
            return False
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                header = json.loads(file.metadata()["hsifcn"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise UnreadableFileError(
                f"{path} is damaged", "start anew with --overwrite"
            ) from error
        if json.dumps(header["identity"]) != json.dumps(identity, sort_keys=True):
            raise SettingError(
                f"{folder} was left by a run with other settings or input",
                "repeat its options, or start anew with --overwrite",
            )
        self.network.load_state_dict(_under(tensors, "network."))
        self.averaged.load_state_dict(_under(tensors, "averaged."))
        self.best = _under(tensors, "best.")
        self.optimiser.load_state(_under(tensors, "optimiser."))
        self.step, self.best_step = header["step"], header["best_step"]
        self.best_oa, self.seconds = header["best_oa"], header["seconds"]
        self.log = header["log"]
        return True


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
