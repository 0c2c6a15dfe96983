"""Training: one loop for every network, settings that suit every scene.

No test label is ever seen: objectives are made of the training and validation pixels only.
Unlabelled pixels are seen as spectra (band statistics, batch norm) unless ``Settings.inductive``.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hsifcn.bundle import Bundle
from hsifcn.calibration import fit_temperature, temperature_of_sureness
from hsifcn.checkpoint import TrainingState
from hsifcn.errors import FailedError
from hsifcn.measure import Stopwatch, keep_memory_together, versions
from hsifcn.models import MODELS, ModelSpec, build, default_spec
from hsifcn.models.batchnorm import reestimate
from hsifcn.models.fcn import FCN
from hsifcn.objectives import Objective, PatchObjective, SceneObjective
from hsifcn.optimiser import AdamW
from hsifcn.scene import Scene
from hsifcn.settings import Settings, learning_rate, stage
from hsifcn.splits import Split
from hsifcn.training_crops import CroppedScenes, open_source
from hsifcn.training_plan import TrainingPlan, plan_training
from hsifcn.training_scenes import WholeScenes, scene_scaling, usable_bands
from hsifcn.transfer import inherited, origin, require_same_input

SELECT_FROM = 0.8  # share of the steps before which no state is kept: the rate is still high
HELD_BACK = 0.8  # share of the steps before which validation pixels are never learnt
FEWEST_TO_CALIBRATE = 20  # validation pixels under which the temperature is cross-fitted
CROSS_FIT_SHARE = 0.25  # of the steps, for each half of the training pixels
SAVE_EVERY_S = 60.0  # seconds between two saved states


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes
    ----------
    bundle : Bundle
        The model of the state kept.
    log : list of dict
        ``step, loss, lr, validation_oa, seconds``, a row each look at the validation pixels.
    best_step : int
        The step whose averaged weights were kept.
    seconds : float
        Of training, reading the scenes left out.
    """

    bundle: Bundle
    log: list[dict[str, Any]]
    best_step: int
    seconds: float


Progress = Callable[[int, float, float | None], None]
"""Called after each step with the step, its loss and the last validation OA."""

Announce = Callable[[TrainingPlan], None]
"""Told how a network will be trained, before it is."""


def train(
    scenes: Sequence[Scene],
    splits: Sequence[Split],
    settings: Settings,
    *,
    progress: Progress = lambda step, loss, validation_oa: None,
    checkpoint: Path | None = None,
    resume: bool = False,
    **options: Any,
) -> Trained:
    """Train a network on scenes, whole or in crops.

    Parameters
    ----------
    scenes, splits : sequences of the same length
        Scenes of one sensor, and the split of the labels of each.
    settings : Settings
    progress : callable
    checkpoint : Path, optional
        Folder for the state of an unfinished run; an interrupt leaves there a state to resume from
        and a model to predict with.
    resume : bool
        Go on from the state in ``checkpoint``, if there is one.
    **options
        ``class_names`` and ``colours``, and as they are wanted ``device`` (``cpu``, ``cuda`` or
        ``mps``), ``start``, ``max_memory`` and ``announce``: of ``prepare``.

    Raises
    ------
    HsifcnError
        What ``prepare`` raises; the loss became NaN; the state is another run's.
    KeyboardInterrupt
        By the user, after the checkpoint was written.
    """
    keep_memory_together()
    job = prepare(scenes, splits, settings, **options)
    if checkpoint and resume:
        job.state.load(checkpoint, job.identity)
    source, all_labels = job.source, job.all_labels
    if all_labels is not None:
        if job.state.step < job.held_back_steps:
            learn(job, source, job.held_back_steps, progress, checkpoint)
        source = all_labels
    objective = learn(job, source, settings.steps, progress, checkpoint)
    return finished(job, objective)


def learn(
    job: Job,
    source: WholeScenes | CroppedScenes,
    until: int,
    progress: Progress,
    checkpoint: Path | None,
) -> Objective:
    """Train to a step on what ``source`` holds of the scenes; returns what was learnt from."""
    with Stopwatch() as watch:  # carrying labels over the scenes is part of training
        objective = make_objective(source, job.untrained.spec, job.settings)
    job.state.seconds += watch.seconds
    try:
        run_steps(job.state, objective, job.settings, until, progress, checkpoint, job.identity)
    except KeyboardInterrupt:
        if checkpoint and job.state.step:
            job.state.save(checkpoint, job.identity)
            model = finish(job.untrained, job.state.averaged, objective)
            model.save(checkpoint / "model.safetensors", overwrite=True)
        raise
    return objective


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


def finished(job: Job, objective: Objective) -> Trained:
    """Settle the batch statistics of the state kept and calibrate its probabilities.

    Kept is the state that validated best, or that of the last step where the validation pixels were
    learnt in the end; what it would have said of them is then asked of the last state before.
    """
    state = job.state
    if job.all_labels is None:
        kept, judge = state.best_step, objective
        state.averaged.load_state_dict(state.best)
    else:
        labels_alone = replace(job.settings, propagation=0.0)
        kept, judge = state.step, make_objective(job.source, job.untrained.spec, labels_alone)
    model = finish(job.untrained, state.averaged, objective)
    with Stopwatch() as watch:
        model = replace(model, temperature=settled_temperature(job, objective, judge))
    return Trained(model, state.log, kept, state.seconds + watch.seconds)


def settled_temperature(job: Job, objective: Objective, judge: Objective) -> float:
    """One temperature for the whole scene.

    Validation pixels lie in fields with labels, and tell how sure the network may be there. In
    other fields it errs more often but is as sure, having learnt one class for each; the walks that
    carried these classes doubted more of them. So the temperature lies between that of the
    validation pixels and that at which the network is, on average, as sure as the walks: the nearer
    to the first, the better the labels cover the fields.

    ``objective`` is what the last state learnt; ``judge`` has the validation pixels, and is another
    where these were learnt in the end.
    """
    network = job.state.averaged
    elsewhere, covered = 1.0, 1.0
    if isinstance(objective, SceneObjective) and isinstance(objective.source, WholeScenes):
        scores, sureness = objective.carried_scores(network)
        if len(scores):
            elsewhere = temperature_of_sureness(scores.cpu().numpy(), sureness)
            covered = objective.source.coverage()
    if judge is not objective:
        network.load_state_dict(job.state.best)
    if judge.n_validation >= FEWEST_TO_CALIBRATE:
        scores, targets = judge.validation_scores(network)
    else:
        scores, targets = cross_fitted_scores(job)
    near_labels = fit_temperature(scores.cpu().numpy(), targets.cpu().numpy())
    return float(near_labels**covered * elsewhere ** (1 - covered))


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


def cross_fitted_scores(job: Job) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and targets (n,) of training pixels, by networks that did not see them.

    Each of two short trainings learns from one half of the training pixels and scores the other,
    but for classes that it knows no pixel of: being wrong there says nothing of being sure.
    """
    spec = job.untrained.spec
    short = replace(job.settings, steps=max(1, round(CROSS_FIT_SHARE * job.settings.steps)))
    found = []
    for half in (0, 1):
        source = job.source.halved(half)
        objective = make_objective(source, spec, short)
        state = initial_state(spec, short, job.device, job.weights)
        run_steps(
            state, objective, short, short.steps, lambda step, loss, validation_oa: None, None, {}
        )
        reestimate(state.averaged, objective.run, objective.calls)
        scores, targets = objective.validation_scores(state.averaged)
        learnt = torch.from_numpy(source.counts(spec.classes) > 0).to(targets.device)[targets]
        found.append((scores[learnt], targets[learnt]))
    return torch.cat([scores for scores, _ in found]), torch.cat([own for _, own in found])


def finish(untrained: Bundle, network: nn.Module, objective: Objective) -> Bundle:
    """Settle a network's batch statistics and put its weights into the bundle."""
    reestimate(network, objective.run, objective.calls)
    # Copies: a later look at the validation pixels moves the network's running statistics.
    weights = {name: tensor.cpu().clone() for name, tensor in network.state_dict().items()}
    return replace(untrained, weights=weights)


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
