"""What a training step computes: on whole scenes, or on patches.

Both give the same two things to the training loop, so that a patch CNN is trained with the same
care as a whole-scene network: ``backward`` adds the gradients of one step, ``validation_scores``
gives the logits of the validation pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsifcn.augment import N_SYMMETRIES, channels_last, jitter_bands, transform, undo
from hsifcn.losses import class_weights, labelled_cross_entropy, propagated_cross_entropy
from hsifcn.models.layers import WholeSceneNetwork
from hsifcn.propagation import propagated_labels
from hsifcn.training_scenes import TrainingScene

PATCH_BATCH = 64  # patches a step
PATCH_CHUNK = 256  # patches scored at once where no gradient is needed


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


class SceneObjective:
    """Each scene once a step, turned by a symmetry drawn for it.

    Parameters
    ----------
    scenes : sequence of TrainingScene
    classes : int
    label_smoothing, jitter, propagation : float
        Of ``training.Settings``.
    """

    def __init__(
        self,
        scenes: Sequence[TrainingScene],
        classes: int,
        label_smoothing: float,
        jitter: float,
        propagation: float = 0.0,
    ) -> None:
        self.scenes = scenes
        self.label_smoothing, self.jitter = label_smoothing, jitter
        self.calls = len(scenes)
        self.n_validation = sum(len(scene.validation_targets) for scene in scenes)
        self.weights, self.total_weight = step_weights(scenes, classes)
        labelled = [scene for scene in scenes if len(scene.pixels)]
        self.propagation = propagation / max(1, len(labelled))
        self.propagated = {
            id(scene): propagated_labels(
                scene.cube, scene.counted, scene.pixels, scene.targets, classes
            )
            for scene in (labelled if propagation else ())
        }

    def backward(self, network: nn.Module, rng: np.random.Generator) -> float:
        """Add the gradients of the loss over all training pixels of all scenes."""
        assert isinstance(network, WholeSceneNetwork)
        loss_of_step = 0.0
        for scene in self.scenes:
            if not len(scene.pixels):
                continue  # nothing to learn from; if inductive, no batch statistics either
            symmetry = int(rng.integers(N_SYMMETRIES))
            # Turned behind the stem, which is pointwise: a copy of few channels, not of all bands.
            x = network.stem(jitter_bands(scene.cube, self.jitter), scene.counted)
            x = channels_last(transform(x, symmetry))
            counted = None if scene.counted is None else transform(scene.counted, symmetry)
            logits = undo(network.after_stem(x, counted), symmetry)
            loss = labelled_cross_entropy(
                logits, scene.pixels, scene.targets, self.weights, self.label_smoothing
            )
            loss = loss / self.total_weight
            if self.propagated:
                carried = self.propagated[id(scene)]
                loss = loss + self.propagation * propagated_cross_entropy(
                    logits, carried.probabilities, carried.weights
                )
            loss.backward()  # type: ignore[no-untyped-call]
            loss_of_step += loss.item()
        return loss_of_step

    @torch.no_grad()
    def validation_scores(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Scores of the scenes as they lie, with their own batch statistics.

        Those of the whole scene are the exact ones that are stored at the end, so a look at the
        validation pixels costs one pass.
        """
        network.train()
        scores = [
            network(scene.cube, scene.counted).flatten(2)[0][:, scene.validation_pixels].t()
            for scene in self.scenes
        ]
        return torch.cat(scores), torch.cat([scene.validation_targets for scene in self.scenes])

    def run(self, network: nn.Module) -> None:
        """Run over the scenes as they lie."""
        for scene in self.scenes:
            network(scene.cube, scene.counted)


class PatchObjective:
    """Batches of patches round training pixels, each batch turned by a symmetry.

    Parameters
    ----------
    scenes : sequence of TrainingScene
    classes : int
    label_smoothing, jitter : float
        Of ``training.Settings``.
    patch : int
        Side of the patches.
    materialised : bool
        Store every patch, as most code does, instead of gathering each batch from the scene.
    """

    def __init__(
        self,
        scenes: Sequence[TrainingScene],
        classes: int,
        label_smoothing: float,
        jitter: float,
        patch: int,
        materialised: bool,
    ) -> None:
        self.label_smoothing, self.jitter = label_smoothing, jitter
        self.weights, _ = step_weights(scenes, classes)
        self.targets = torch.cat([scene.targets for scene in scenes])
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


def step_weights(scenes: Sequence[TrainingScene], classes: int) -> tuple[Tensor, Tensor]:
    """Class weights over all scenes, and the summed weights of all training pixels."""
    targets = torch.cat([scene.targets for scene in scenes])
    counts = torch.bincount(targets.cpu(), minlength=classes)
    weights = torch.from_numpy(class_weights(counts.numpy())).to(targets.device)
    return weights, weights[targets].sum()
