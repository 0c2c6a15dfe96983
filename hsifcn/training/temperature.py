"""One temperature for the probabilities of a network that was just trained."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hsifcn.evaluation.calibration import fit_temperature, temperature_of_sureness
from hsifcn.models.batchnorm import reestimate
from hsifcn.training.loop import initial_state, make_objective, run_steps
from hsifcn.training.objectives import Objective, SceneObjective
from hsifcn.training.scenes import WholeScenes
from hsifcn.training.training_job import Job

FEWEST_TO_CALIBRATE = 20  # validation pixels under which the temperature is cross-fitted
CROSS_FIT_SHARE = 0.25  # of the steps, for each half of the training pixels


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
