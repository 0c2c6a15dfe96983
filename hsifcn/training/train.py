"""Training: a network from scenes and the splits of their labels.

No test label is ever seen: objectives are made of the training and validation pixels only.
Unlabelled pixels are seen as spectra (band statistics, batch norm) unless ``Settings.inductive``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from hsifcn.core.process import Stopwatch, keep_memory_together
from hsifcn.core.scene import Scene
from hsifcn.data.splits import Split
from hsifcn.inference.bundle import Bundle
from hsifcn.models.batchnorm import reestimate
from hsifcn.training.crops import CroppedScenes
from hsifcn.training.loop import Progress, make_objective, run_steps
from hsifcn.training.objectives import Objective
from hsifcn.training.scenes import WholeScenes
from hsifcn.training.settings import Settings
from hsifcn.training.temperature import settled_temperature
from hsifcn.training.training_job import Job, prepare


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


def finish(untrained: Bundle, network: nn.Module, objective: Objective) -> Bundle:
    """Settle a network's batch statistics and put its weights into the bundle."""
    reestimate(network, objective.run, objective.calls)
    # Copies: a later look at the validation pixels moves the network's running statistics.
    weights = {name: tensor.cpu().clone() for name, tensor in network.state_dict().items()}
    return replace(untrained, weights=weights)
