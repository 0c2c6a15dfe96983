"""One temperature for the probabilities of a network that was just trained."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from hsifcn.models.temperature import fit_temperature, temperature_of_confidence
from hsifcn.training.objectives import Objective, SceneObjective
from hsifcn.training.scenes import WholeScenes

FEWEST_TO_CALIBRATE = 20  # validation pixels


def pseudo_label_temperature(
    network: nn.Module, objective: Objective, expected_oa: float
) -> float | None:
    """Temperature at which the mean confidence of a network is the accuracy to be expected.

    Over the pixels with pseudo-labels of whole scenes; None without these. ``expected_oa`` is that
    of ``propagation.selection.Evidence``; where it is NaN, the mean confidence of the
    pseudo-labels stands for it.
    """
    if isinstance(objective, SceneObjective) and isinstance(objective.source, WholeScenes):
        scores, mean_confidence = objective.pseudo_labelled_scores(network)
        if len(scores):
            expected = mean_confidence if np.isnan(expected_oa) else expected_oa
            return float(temperature_of_confidence(scores.cpu().numpy(), expected))
    return None


def fit_temperature_of_scene(
    scores: Tensor, targets: Tensor, elsewhere: float | None, coverage: float
) -> float:
    """One temperature for the whole scene.

    Validation pixels lie in labelled fields and calibrate the network there. In other fields the
    network errs more often at the same confidence, because it was trained on one class for each
    field. So the result lies between the temperature that suits the validation pixels and the one
    at which the network is as confident as left-out groups of labels let expect: the nearer to the
    first, the more fields are labelled.

    Parameters
    ----------
    scores : Tensor, (n, classes)
        Logits of validation pixels that were not trained on. Of fewer than
        ``FEWEST_TO_CALIBRATE`` the second temperature alone decides.
    targets : Tensor, (n,), int64
        Their classes, from 0.
    elsewhere : float or None
        Of ``pseudo_label_temperature``.
    coverage : float
        Label coverage of the scenes.
    """
    if len(targets) < FEWEST_TO_CALIBRATE:
        return 1.0 if elsewhere is None else elsewhere
    near_labels = float(fit_temperature(scores.cpu().numpy(), targets.cpu().numpy()))
    if elsewhere is None:
        return near_labels
    return float(near_labels**coverage * elsewhere ** (1 - coverage))
