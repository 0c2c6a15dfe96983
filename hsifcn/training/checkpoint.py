"""What an unfinished training leaves, to be taken up again: tensors and a little JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from hsifcn.core.errors import SettingError, UnreadableFileError
from hsifcn.io.files import atomic_write
from hsifcn.training.optimiser import AdamW

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
