"""One temperature for the probabilities of a network that was just trained."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from hsifcn.models.temperature import fit_temperature, temperature_of_confidence
from hsifcn.training.objectives import Objective, SceneObjective
from hsifcn.training.scenes import WholeScenes

FEWEST_TO_CALIBRATE = 20  # validation pixels
# Of the accuracy at validation pixels. They lie in labelled fields, however many fields are
# labelled; see docs/ideas.md.
LARGEST_SHARE = 0.5


def expected_elsewhere(
    network: nn.Module, objective: Objective, expected_oa: float
) -> tuple[npt.NDArray[np.float32], float] | None:
    """Logits (n, classes) of the pixels with pseudo-labels, and the accuracy to be expected there.

    None without whole scenes and pseudo-labels. ``expected_oa`` is that of
    ``propagation.selection.Evidence``; where it is NaN, the mean confidence of the pseudo-labels
    stands for it.
    """
    if isinstance(objective, SceneObjective) and isinstance(objective.source, WholeScenes):
        scores, mean_confidence = objective.pseudo_labelled_scores(network)
        if len(scores):
            expected = mean_confidence if np.isnan(expected_oa) else expected_oa
            return scores.cpu().numpy(), expected
    return None


def fit_temperature_of_scene(
    scores: Tensor,
    targets: Tensor,
    elsewhere: tuple[npt.NDArray[np.float32], float] | None,
    coverage: float,
) -> float:
    """One temperature for the whole scene.

    Validation pixels lie in labelled fields, where the network errs less often than in others: it
    was trained on one class for each of these fields. Left-out groups of labels tell of the other
    fields. So the network is made as confident as a mean of both accuracies: the more fields are
    labelled, the more the first counts, up to a half.

    Parameters
    ----------
    scores : Tensor, (n, classes)
        Logits of validation pixels that were not trained on. Fewer than ``FEWEST_TO_CALIBRATE`` do
        not count.
    targets : Tensor, (n,), int64
        Their classes, from 0.
    elsewhere : (ndarray, float) or None
        Of ``expected_elsewhere``. Without it the validation pixels alone decide.
    coverage : float
        Label coverage of the scenes.
    """
    if elsewhere is None:
        if len(targets) < FEWEST_TO_CALIBRATE:
            return 1.0
        return fit_temperature(scores.cpu().numpy(), targets.cpu().numpy())
    logits, expected = elsewhere
    if len(targets) >= FEWEST_TO_CALIBRATE:
        share = min(coverage, LARGEST_SHARE)
        accuracy = float((scores.argmax(1) == targets).float().mean())
        expected = share * accuracy + (1 - share) * expected
    return temperature_of_confidence(logits, expected)
