"""Training on patches: windows round the training pixels, stored or cut when asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsifcn.training.augment import (
    N_SYMMETRIES,
    channels_last,
    jitter_bands,
    transform,
)
from hsifcn.training.objectives import (
    class_weights,
)
from hsifcn.training.scenes import TrainingScene, WholeScenes

PATCH_BATCH = 64  # patches a step
PATCH_CHUNK = 256  # patches scored at once where no gradient is needed


class PatchObjective:
    """Batches of patches round training pixels, each batch turned by a symmetry.

    Parameters
    ----------
    source : WholeScenes
    classes : int
    label_smoothing, jitter : float
        Of ``settings.TrainOptions``.
    patch : int
        Side of the patches.
    materialised : bool
        Store every patch, as most code does, instead of gathering each batch from the scene.
    propagation : float
        Of ``settings.TrainOptions``: weight of the loss of a second batch, round pixels with
        pseudo-labels, which are drawn by their weights.
    """

    def __init__(
        self,
        source: WholeScenes,
        classes: int,
        label_smoothing: float,
        jitter: float,
        patch: int,
        materialised: bool,
        propagation: float = 0.0,
    ) -> None:
        self.label_smoothing, self.jitter = label_smoothing, jitter
        self.propagation = propagation
        batch = source.batch
        self.pseudo = PseudoPatches(batch, patch) if propagation else None
        self.targets = batch.targets
        weights = torch.from_numpy(class_weights(source.counts(classes)))
        self.weights = weights.to(self.targets.device)
        self.validation_targets = batch.validation_targets
        self.patches = Patches(by_scene(batch.cube, batch.pixels), patch, materialised)
        self.n_validation = len(self.validation_targets)
        self.calls = -(-len(self.targets) // PATCH_CHUNK)
        self.validation_patches = Patches(
            by_scene(batch.cube, batch.validation_pixels), patch, materialised
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
        if self.pseudo is not None:
            patches, classes = self.pseudo.draw(rng)
            logits = network(jitter_bands(channels_last(transform(patches, symmetry)), self.jitter))
            pseudo_loss = F.cross_entropy(logits[:, :, 0, 0], classes)
            loss = loss + self.propagation * pseudo_loss
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


class PseudoPatches:
    """Batches of patches round pixels with pseudo-labels, each drawn as often as it counts.

    Parameters
    ----------
    batch : TrainingScene
        With pseudo-labels.
    patch : int
        Side of the patches.
    """

    def __init__(self, batch: TrainingScene, patch: int) -> None:
        assert batch.pseudo_labels is not None
        weights = batch.pseudo_labels.weights
        pixels = weights.nonzero()[:, 0]
        self.patches = Patches(by_scene(batch.cube, pixels), patch, False)
        self.classes = batch.pseudo_labels.classes[pixels]
        self.upper = np.cumsum(weights[pixels].cpu().numpy().astype(np.float64))

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Patches (n, bands, patch, patch) and their classes (n,), from 0."""
        where = rng.uniform(0, self.upper[-1], PATCH_BATCH)
        which = np.searchsorted(self.upper, where).clip(max=len(self.upper) - 1)
        chosen = torch.from_numpy(which)
        return self.patches.gather(chosen), self.classes[chosen]


def by_scene(cubes: Tensor, pixels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Cube (1, bands, rows, cols) of each scene of a batch, and its share of flat indices."""
    size = cubes.shape[-2] * cubes.shape[-1]
    return [
        (cubes[number : number + 1], pixels[pixels // size == number] % size)
        for number in range(len(cubes))
    ]


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
