"""One temperature for the probabilities of a network that was just trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hsifcn.evaluation.calibration import fit_temperature, temperature_of_sureness
from hsifcn.inference.bundle import Bundle
from hsifcn.models.batchnorm import reestimate
from hsifcn.training.loop import initial_state, run_steps
from hsifcn.training.objectives import Objective, SceneObjective
from hsifcn.training.scenes import WholeScenes
from hsifcn.training.settings import TrainOptions
from hsifcn.training.sources import Source, make_objective, propagate_labels

FEWEST_TO_CALIBRATE = 20  # validation pixels under which the temperature is cross-fitted
CROSS_FIT_SHARE = 0.25  # of the steps, for each half of the training pixels


@dataclass(frozen=True)
class WalkerReference:
    """What the random walker tells about the temperature.

    Attributes
    ----------
    temperature : float
        At which the network's mean confidence at pseudo-labelled pixels is the random walker's.
    coverage : float
        Label coverage of the scenes.
    """

    temperature: float = 1.0
    coverage: float = 1.0


def walker_reference(network: nn.Module, objective: Objective) -> WalkerReference:
    """Compare the confidence of a network with that of the random walker that it learnt from.

    Without pseudo-labels of whole scenes there is nothing to compare: the reference has a coverage
    of 1 then, and so no weight.
    """
    if isinstance(objective, SceneObjective) and isinstance(objective.source, WholeScenes):
        scores, mean_confidence = objective.pseudo_labelled_scores(network)
        if len(scores):
            return WalkerReference(
                temperature_of_sureness(scores.cpu().numpy(), mean_confidence),
                objective.source.coverage(),
            )
    return WalkerReference()


def fit_temperature_of_scene(scores: Tensor, targets: Tensor, reference: WalkerReference) -> float:
    """One temperature for the whole scene.

    Validation pixels lie in labelled fields and calibrate the network there. In other fields the
    network errs more often at the same confidence, because it was trained on one class for each
    field; the random walker that proposed these classes was less confident. So the result lies
    between the temperature that suits the validation pixels and the walker's reference: the nearer
    to the first, the more fields are labelled.

    Parameters
    ----------
    scores : Tensor, (n, classes)
        Logits of pixels that were not trained on.
    targets : Tensor, (n,), int64
        Their classes, from 0.
    reference : WalkerReference
    """
    near_labels = fit_temperature(scores.cpu().numpy(), targets.cpu().numpy())
    coverage = reference.coverage
    return float(near_labels**coverage * reference.temperature ** (1 - coverage))


def cross_fitted_scores(
    scenes: Source, model: Bundle, options: TrainOptions
) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and targets (n,) of training pixels, by networks not trained on them.

    Two short trainings: each learns from one half of the training pixels and scores the other,
    except for pixels of classes that its half does not hold.
    """
    spec = model.spec
    short = replace(options, steps=max(1, round(CROSS_FIT_SHARE * options.steps)))
    found = []
    for half in (0, 1):
        source = scenes.halved(half)
        objective = make_objective(propagate_labels(source, spec, short), spec, short)
        state = initial_state(spec, short, model.weights)
        run_steps(state, objective, short, short.steps)
        reestimate(state.averaged, objective.run, objective.calls)
        scores, targets = objective.validation_scores(state.averaged)
        learnt = torch.from_numpy(source.counts(spec.classes) > 0).to(targets.device)[targets]
        found.append((scores[learnt], targets[learnt]))
    return torch.cat([scores for scores, _ in found]), torch.cat([own for _, own in found])
