"""What a training starts from: scenes looked at, planned for and read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsifcn.core.process import versions
from hsifcn.core.scene import Scene
from hsifcn.data.splits import Split
from hsifcn.inference.bundle import Bundle
from hsifcn.models import ModelSpec, default_spec
from hsifcn.training.crops import CroppedScenes, open_source
from hsifcn.training.loop import TrainingState, initial_state, make_objective
from hsifcn.training.memory_plan import TrainingPlan, plan_training
from hsifcn.training.scenes import WholeScenes, scene_scaling, usable_bands
from hsifcn.training.settings import Settings
from hsifcn.training.transfer import inherited, origin, require_same_input

HELD_BACK = 0.8  # share of the steps before which validation pixels are never learnt

Announce = Callable[[TrainingPlan], None]
"""Told how a network will be trained, before it is."""


@dataclass(frozen=True)
class Job:
    """All that a training starts from.

    Attributes
    ----------
    source : WholeScenes or CroppedScenes
    state : TrainingState
    untrained : Bundle
        The model but for its weights.
    settings : Settings
    weights : mapping of str to Tensor
        Those that the network starts from; the others are drawn.
    """

    source: WholeScenes | CroppedScenes
    state: TrainingState
    untrained: Bundle
    settings: Settings
    device: str
    weights: Mapping[str, Tensor]

    @property
    def all_labels(self) -> WholeScenes | None:
        """The scenes of the last steps, where validation pixels are learnt too; None if never."""
        asked = self.settings.learn_validation and self.settings.propagation > 0
        if not (asked and isinstance(self.source, WholeScenes) and self.source.n_validation):
            return None
        return self.source.with_validation()

    @property
    def held_back_steps(self) -> int:
        """Steps before those, in which the validation pixels are held back."""
        return round(HELD_BACK * self.settings.steps)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run that is resumed must agree in with the one that was interrupted."""
        return {
            "settings": self.untrained.settings,
            "spec": asdict(self.untrained.spec),
            "split": self.untrained.split,
            "mean": self.untrained.scaling.mean.tolist(),
        }


def prepare(
    scenes: Sequence[Scene],
    splits: Sequence[Split],
    settings: Settings,
    *,
    class_names: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
    device: str = "cpu",
    start: Bundle | None = None,
    max_memory: int | None = None,
    announce: Announce = lambda plan: None,
) -> Job:
    """Look at the scenes, plan, and read what is held of them.

    Parameters
    ----------
    class_names, colours : sequences, (classes,)
        Of classes 1, 2, ...; those before are of ``train``.
    start : Bundle, optional
        Trained model to start from: its weights, and its band scaling, which is their unit.
    max_memory : int, optional
        Ceiling on the process's resident memory, bytes; a share of what is free by default.
    announce : callable
        Told the plan before the work starts.

    Raises
    ------
    MemoryCeilingError, LabelError, MismatchError, SettingError
        No crops fit; no training pixel holds a measurement, or labels and scene differ in size;
        ``start`` has other bands; it has nothing that the network could take.
    """
    bands = usable_bands(scenes)
    if start is not None:
        require_same_input(start, scenes, bands, settings.inductive)
    scaling = start.scaling if start else scene_scaling(scenes, splits, bands, settings.inductive)
    spec = default_spec(settings.model, int(bands.sum()), len(class_names))
    weights = inherited(start, spec, class_names) if start else {}
    plan = plan_steps(scenes, spec, settings, max_memory)
    announce(plan)
    source = open_source(
        scenes, splits, bands, scaling, plan.crops,
        inductive=settings.inductive, seed=settings.seed, device=torch.device(device),
    )  # fmt: skip
    warn_of_classes_without_measurement(source.counts(spec.classes), splits, class_names)
    beside = {"init": origin(start, weights)} if start else {}
    beside |= {"crops": asdict(plan.crops)} if plan.crops else {}
    untrained = Bundle(
        spec=spec,
        weights={},
        scaling=scaling,
        good_bands=bands,
        wavelengths=scenes[0].wavelengths,
        fwhm=scenes[0].fwhm,
        scale_factor=next((s.scale_factor for s in scenes if s.scale_factor), None),
        class_names=tuple(class_names),
        colours=tuple(colours),
        settings=asdict(settings) | beside,
        split=[{"recipe": s.recipe, "seed": s.seed, "digest": s.digest} for s in splits],
        versions=versions(),
    )
    fresh = initial_state(spec, settings, device, weights)
    return Job(source, fresh, untrained, settings, device, weights)


def plan_steps(
    scenes: Sequence[Scene], spec: ModelSpec, settings: Settings, max_memory: int | None
) -> TrainingPlan:
    """How the scenes will be trained on: whole or in crops."""
    trial = replace(settings, materialised=False)
    return plan_training(
        spec,
        scenes,
        settings.steps,
        settings.steps // settings.evaluate_every,
        lambda held: make_objective(held, spec, trial),
        max_memory,
        carries=settings.propagation > 0,
    )


def warn_of_classes_without_measurement(
    counts: npt.NDArray[np.int64], splits: Sequence[Split], class_names: Sequence[str]
) -> None:
    """Warn of classes that splits train on, but of which the scenes hold no training pixel."""
    asked = np.sum([split.n_train_per_class(len(class_names)) for split in splits], axis=0)
    for label in np.flatnonzero((asked > 0) & (counts == 0)).tolist():
        warnings.warn(
            f"no training pixel of class {label + 1} ({class_names[label]}) holds a measurement: "
            "it is not mapped, and its test pixels count as errors",
            stacklevel=2,
        )
