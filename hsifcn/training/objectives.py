"""What a training step computes: on scenes, whole or in crops, or on patches.

Both give the same two things to the training loop, so that a patch CNN is trained with the same
care as a whole-scene network: ``backward`` adds the gradients of one step, ``validation_scores``
gives the logits of the validation pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsifcn.models.layers import WholeSceneNetwork
from hsifcn.training.augment import (
    N_SYMMETRIES,
    channels_last,
    jitter_bands,
    transform,
    undo,
)
from hsifcn.training.ranks import Ranks
from hsifcn.training.scenes import TrainingScene


class HasTargets(Protocol):
    """What is drawn tells which classes it holds before it is read."""

    @property
    def targets(self) -> Tensor:
        """(n,) classes (from 0) of the training pixels, int64."""


Drawn = TypeVar("Drawn", bound=HasTargets)


class Objective(Protocol):
    """A way of training.

    Attributes
    ----------
    n_validation : int
        Number of validation pixels.
    calls : int
        Number of inputs that ``run`` gives the network.
    """

    n_validation: int
    calls: int

    def backward(self, network: nn.Module, rng: np.random.Generator) -> float:
        """Add the gradients of one step; returns its loss."""

    def validation_scores(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Logits (n, classes) and targets (n,) of the validation pixels."""

    def run(self, network: nn.Module) -> None:
        """Run ``network`` over all that batch norm is re-estimated on."""


class SceneSource(Protocol[Drawn]):
    """Where scenes, or crops of them, come from.

    Attributes
    ----------
    whole : bool
        Each step sees all scenes, so that its batch statistics are the exact ones.
    n_validation : int
        Validation pixels in ``validation``, those of all ranks together.
    ranks : Ranks
        That share what is drawn.
    """

    whole: bool
    n_validation: int
    ranks: Ranks

    @property
    def validation(self) -> Sequence[Drawn]:
        """What an evaluation scores, the same each time."""

    @property
    def batch_norm_inputs(self) -> Sequence[Drawn]:
        """What the batch-norm update runs over."""

    def counts(self, classes: int) -> npt.NDArray[np.int64]:
        """Training pixels of each class."""

    def draw(self, rng: np.random.Generator) -> Sequence[Drawn]:
        """What a step sees, to be given to the network one after the other."""

    def read(self, drawn: Drawn, *, cores_only: bool = False) -> TrainingScene:
        """Bring it into memory; optionally, only the cores of crops count in batch statistics."""


class SceneObjective(Generic[Drawn]):
    """What a source of scenes draws for a step, each turned by a symmetry.

    Parameters
    ----------
    source : SceneSource
    classes : int
    label_smoothing, jitter, propagation : float
        Of ``settings.TrainOptions``.
    """

    def __init__(
        self,
        source: SceneSource[Drawn],
        classes: int,
        label_smoothing: float,
        jitter: float,
        propagation: float = 0.0,
    ) -> None:
        self.source, self.ranks = source, source.ranks
        self.label_smoothing, self.jitter, self.propagation = label_smoothing, jitter, propagation
        self.calls = len(source.batch_norm_inputs)
        self.n_validation = source.n_validation
        self.weights = torch.from_numpy(class_weights(source.counts(classes)))

    def backward(self, network: nn.Module, rng: np.random.Generator) -> float:
        """Add the gradients of the loss over all training pixels of all that is drawn.

        Of several ranks: of this one's share of that loss.
        """
        assert isinstance(network, WholeSceneNetwork)
        drawn = self.source.draw(rng)
        targets = torch.cat([one.targets.cpu() for one in drawn])
        total = self.ranks.sum(self.weights[targets].sum())
        loss_of_step = 0.0
        for one in drawn:  # in a function of its own, which lets go of each before the next
            symmetry = int(rng.integers(N_SYMMETRIES))
            loss_of_step += self._learn(network, one, symmetry, total, len(drawn))
        return loss_of_step

    def _learn(
        self, network: WholeSceneNetwork, drawn: Drawn, symmetry: int, total: Tensor, parts: int
    ) -> float:
        """Add the gradients of one part of a step; returns its share of the loss."""
        scene = self.source.read(drawn)
        # Turned behind the stem, which is pointwise: a copy of few channels, not of all bands.
        x = network.stem(jitter_bands(scene.cube, self.jitter), scene.counted)
        x = channels_last(transform(x, symmetry))
        counted = None if scene.counted is None else transform(scene.counted, symmetry)
        logits = undo(network.after_stem(x, counted), symmetry)
        loss = labelled_cross_entropy(
            logits,
            scene.pixels,
            scene.targets,
            self.weights.to(logits),
            self.label_smoothing,
        )
        loss = loss / total
        if scene.pseudo_labels is not None:
            loss = loss + self.propagation / parts * pseudo_label_cross_entropy(
                logits, scene.pseudo_labels.classes, scene.pseudo_labels.weights
            )
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    @torch.no_grad()
    def validation_scores(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Scores of the validation pixels.

        Whole scenes as they lie, with their own batch statistics: these are the exact ones that are
        stored at the end, and cost one pass. Crops with the stored ones.
        """
        if not self.n_validation:
            return self.weights.new_zeros(0, len(self.weights)), torch.zeros(0, dtype=torch.int64)
        network.train(self.source.whole)
        scores, targets = [], []
        for drawn in self.source.validation:
            scene = self.source.read(drawn)
            logits = network(scene.cube, scene.counted)
            scores.append(scores_at(logits, scene.validation_pixels))
            targets.append(scene.validation_targets)
        return self.ranks.gather(torch.cat(scores)), self.ranks.gather(torch.cat(targets))

    @torch.no_grad()
    def pseudo_labelled_scores(self, network: nn.Module) -> tuple[Tensor, float]:
        """Logits (n, classes) of pixels with pseudo-labels, and the mean confidence of these.

        Of whole scenes, as they lie, with the stored batch statistics.
        """
        network.eval()
        scores, confidence = [], 0.0
        for drawn in self.source.batch_norm_inputs:
            scene = self.source.read(drawn)
            if scene.pseudo_labels is not None:
                reached = scene.pseudo_labels.weights.nonzero()[:, 0]
                scores.append(scores_at(network(scene.cube, scene.counted), reached))
                confidence += len(reached) * scene.pseudo_labels.mean_confidence
        if not scores:
            return self.weights.new_zeros(0, len(self.weights)), 0.0
        found = self.ranks.gather(torch.cat(scores))
        return found, self.ranks.total(confidence) / max(1, len(found))

    def run(self, network: nn.Module) -> None:
        """Run over the scenes, or crops, as they lie."""
        for drawn in self.source.batch_norm_inputs:
            scene = self.source.read(drawn, cores_only=True)
            network(scene.cube, scene.counted)


def class_weights(counts: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
    """Weights 1/sqrt(n), of mean 1 over the training pixels; 0 for a class without any.

    Parameters
    ----------
    counts : ndarray, (classes,), integer
        Training pixels a class.
    """
    weights = np.where(counts > 0, 1 / np.sqrt(np.maximum(counts, 1)), 0.0)
    scaled: npt.NDArray[np.float64] = weights * counts.sum() / (weights * counts).sum()
    return scaled.astype(np.float32)


def labelled_cross_entropy(
    logits: Tensor, pixels: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float
) -> Tensor:
    """Weighted cross-entropy, summed over some pixels of scenes.

    Divide by the summed weights of all scenes and ranks together, never by each one's own.

    Parameters
    ----------
    logits : Tensor, (scenes, classes, rows, cols)
    pixels : Tensor, (n,), int64
        Flat indices of ``(scenes, rows, cols)``.
    targets : Tensor, (n,), int64
        Classes from 0.
    weights : Tensor, (classes,), float
    label_smoothing : float
        Share of the target that is spread over all classes.
    """
    scores = scores_at(logits, pixels)
    return F.cross_entropy(
        scores, targets, weight=weights, reduction="sum", label_smoothing=label_smoothing
    )


def scores_at(logits: Tensor, pixels: Tensor) -> Tensor:
    """Logits (n, classes) at flat indices of ``(scenes, rows, cols)``."""
    return logits.transpose(0, 1).flatten(1).index_select(1, pixels).t()


def pseudo_label_cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy against a class of every pixel.

    Parameters
    ----------
    logits : Tensor, (scenes, classes, rows, cols)
    classes : Tensor, (scenes * rows * cols,), int64
        From 0.
    weights : Tensor, (scenes * rows * cols,), float
        Summing to 1.
    """
    scores = logits.flatten(2)
    own = classes.view(len(scores), scores.shape[2])
    losses = F.cross_entropy(scores, own, reduction="none")
    return losses.flatten() @ weights
