"""What a training step computes: on scenes, whole or in crops, or on patches.

Both give the same two things to the training loop, so that a patch CNN is trained with the same
care as a whole-scene network: ``backward`` adds the gradients of one step, ``validation_scores``
gives the logits of the validation pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

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
from hsifcn.training.losses import (
    class_weights,
    labelled_cross_entropy,
    propagated_cross_entropy,
    scores_at,
)
from hsifcn.training.scenes import TrainingScene, WholeScenes

PATCH_BATCH = 64  # patches a step
PATCH_CHUNK = 256  # patches scored at once where no gradient is needed


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
        How many times ``run`` calls the network.
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
        Validation pixels in ``validation``.
    """

    whole: bool
    n_validation: int

    @property
    def validation(self) -> Sequence[Drawn]:
        """What is looked at, the same at every look."""

    @property
    def settling(self) -> Sequence[Drawn]:
        """What batch norm is re-estimated on."""

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
        Of ``settings.Settings``.
    """

    def __init__(
        self,
        source: SceneSource[Drawn],
        classes: int,
        label_smoothing: float,
        jitter: float,
        propagation: float = 0.0,
    ) -> None:
        self.source = source
        self.label_smoothing, self.jitter, self.propagation = label_smoothing, jitter, propagation
        self.calls = len(source.settling)
        self.n_validation = source.n_validation
        self.weights = torch.from_numpy(class_weights(source.counts(classes)))

    def backward(self, network: nn.Module, rng: np.random.Generator) -> float:
        """Add the gradients of the loss over all training pixels of all that is drawn."""
        assert isinstance(network, WholeSceneNetwork)
        drawn = self.source.draw(rng)
        total = self.weights[torch.cat([one.targets.cpu() for one in drawn])].sum()
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
            self.weights.to(logits.device),
            self.label_smoothing,
        )
        loss = loss / total
        if scene.carried is not None:
            loss = loss + self.propagation / parts * propagated_cross_entropy(
                logits, scene.carried.classes, scene.carried.weights
            )
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    @torch.no_grad()
    def validation_scores(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Scores of the validation pixels.

        Whole scenes as they lie, with their own batch statistics: these are the exact ones that are
        stored at the end, and cost one pass. Crops with the stored ones.
        """
        network.train(self.source.whole)
        scores, targets = [], []
        for drawn in self.source.validation:
            scene = self.source.read(drawn)
            logits = network(scene.cube, scene.counted)
            scores.append(scores_at(logits, scene.validation_pixels))
            targets.append(scene.validation_targets)
        return torch.cat(scores), torch.cat(targets)

    @torch.no_grad()
    def carried_scores(self, network: nn.Module) -> tuple[Tensor, float]:
        """Logits (n, classes) of the pixels that labels were carried to, and how sure walks are.

        Of whole scenes, as they lie, with the stored batch statistics.
        """
        network.eval()
        scores, sureness = [], 0.0
        for drawn in self.source.settling:
            scene = self.source.read(drawn)
            if scene.carried is not None:
                reached = scene.carried.weights.nonzero()[:, 0]
                scores.append(scores_at(network(scene.cube, scene.counted), reached))
                sureness += len(reached) * scene.carried.sureness
        if not scores:
            return self.weights.new_zeros(0, len(self.weights)), 0.0
        found = torch.cat(scores)
        return found, sureness / max(1, len(found))

    def run(self, network: nn.Module) -> None:
        """Run over the scenes, or crops, as they lie."""
        for drawn in self.source.settling:
            scene = self.source.read(drawn, cores_only=True)
            network(scene.cube, scene.counted)


class PatchObjective:
    """Batches of patches round training pixels, each batch turned by a symmetry.

    Parameters
    ----------
    source : WholeScenes
    classes : int
    label_smoothing, jitter : float
        Of ``settings.Settings``.
    patch : int
        Side of the patches.
    materialised : bool
        Store every patch, as most code does, instead of gathering each batch from the scene.
    """

    def __init__(
        self,
        source: WholeScenes,
        classes: int,
        label_smoothing: float,
        jitter: float,
        patch: int,
        materialised: bool,
    ) -> None:
        self.label_smoothing, self.jitter = label_smoothing, jitter
        scenes = source.scenes
        self.targets = torch.cat([scene.targets for scene in scenes])
        weights = torch.from_numpy(class_weights(source.counts(classes)))
        self.weights = weights.to(self.targets.device)
        self.validation_targets = torch.cat([scene.validation_targets for scene in scenes])
        self.patches = Patches([(s.cube, s.pixels) for s in scenes], patch, materialised)
        self.n_validation = len(self.validation_targets)
        self.calls = -(-len(self.targets) // PATCH_CHUNK)
        self.validation_patches = Patches(
            [(s.cube, s.validation_pixels) for s in scenes], patch, materialised
        )

    def backward(self, network: nn.Module, rng: np.random.Generator) -> float:
        """Add the gradients of the loss over one batch."""
        size = min(PATCH_BATCH, len(self.targets))
        batch = torch.from_numpy(rng.choice(len(self.targets), size, replace=False))
        symmetry = int(rng.integers(N_SYMMETRIES))
        patches = channels_last(transform(self.patches.gather(batch), symmetry))
        logits = network(jitter_bands(patches, self.jitter))
        loss = F.cross_entropy(
            logits[:, :, 0, 0],
            self.targets[batch],
            weight=self.weights,
            label_smoothing=self.label_smoothing,
        )
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    @torch.no_grad()
    def validation_scores(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Scores of the validation patches, with the stored batch statistics."""
        network.eval()
        scores = [network(patches)[:, :, 0, 0] for patches in self.validation_patches.chunks()]
        return torch.cat(scores), self.validation_targets

    def run(self, network: nn.Module) -> None:
        """Run over all training patches."""
        for patches in self.patches.chunks():
            network(patches)


class Patches:
    """Windows round some pixels of scenes, stored or gathered when asked for.

    Parameters
    ----------
    sources : list of (cube, pixels)
        Standardised cubes (1, bands, rows, cols) and flat indices (n,) into each.
    patch : int
        Side of the windows; scenes are padded with zeros, the band means.
    materialised : bool
        Copy all windows now.
    """

    def __init__(
        self, sources: list[tuple[Tensor, Tensor]], patch: int, materialised: bool
    ) -> None:
        half = patch // 2
        self.side = torch.arange(patch, device=sources[0][0].device)
        self.cubes = [
            F.pad(cube[0].permute(1, 2, 0), (0, 0, half, half, half, half)) for cube, _ in sources
        ]
        origins = []
        for index, (cube, pixels) in enumerate(sources):
            cols = cube.shape[-1]
            source = torch.full_like(pixels, index)
            origins.append(torch.stack([source, pixels // cols, pixels % cols], dim=1))
        self.origins = torch.cat(origins)
        self.stored: Tensor | None = None
        if materialised:
            self.stored = self.store()

    def __len__(self) -> int:
        return len(self.origins)

    def store(self) -> Tensor:
        """Copy all windows, a chunk at a time, so that nothing is held twice."""
        bands, patch = self.cubes[0].shape[2], len(self.side)
        stored = self.cubes[0].new_empty((len(self), patch, patch, bands)).permute(0, 3, 1, 2)
        for which in torch.split(torch.arange(len(self)), PATCH_CHUNK):
            stored[which] = self.window(which)
        return stored

    def window(self, which: Tensor) -> Tensor:
        """Copy windows out of the cubes: (n, bands, patch, patch), channels-last."""
        source, row, col = self.origins[which].unbind(1)
        bands, patch = self.cubes[0].shape[2], len(self.side)
        out = self.cubes[0].new_empty((len(which), patch, patch, bands))
        for index, cube in enumerate(self.cubes):
            mine = (source == index).nonzero()[:, 0]
            rows = row[mine, None, None] + self.side[:, None]
            cols = col[mine, None, None] + self.side[None, :]
            out[mine] = cube[rows, cols]
        return out.permute(0, 3, 1, 2)

    def gather(self, which: Tensor) -> Tensor:
        """The windows of those indices, (n, bands, patch, patch)."""
        return self.window(which) if self.stored is None else self.stored[which]

    def chunks(self) -> Iterator[Tensor]:
        """All windows in order, a chunk at a time."""
        for which in torch.split(torch.arange(len(self)), PATCH_CHUNK):
            yield self.gather(which)
