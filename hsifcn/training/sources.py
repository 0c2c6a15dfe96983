"""What a network is trained on: scenes held whole or read in crops, and their objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch

from hsifcn.inference.bundle import Bundle
from hsifcn.models import MODELS, ModelSpec
from hsifcn.training.crops import CroppedScenes, CropSize
from hsifcn.training.objectives import Objective, SceneObjective
from hsifcn.training.patches import PatchObjective
from hsifcn.training.scenes import LabelledScene, WholeScenes, load_whole_scenes
from hsifcn.training.settings import TrainOptions

Source: TypeAlias = WholeScenes | CroppedScenes


def open_source(
    scenes: Sequence[LabelledScene], model: Bundle, size: CropSize | None, options: TrainOptions
) -> Source:
    """The scenes, read whole where ``size`` is None, else ready for crops of them to be read.

    Parameters
    ----------
    scenes : sequence of LabelledScene
    model : Bundle
        Of which the bands and their scaling are used.
    size : CropSize or None
    options : TrainOptions
    """
    bands, scaling, device = model.good_bands, model.scaling, torch.device(options.device)
    if size is None:
        return load_whole_scenes(scenes, bands, scaling, device, options.ranks)
    return CroppedScenes(
        scenes, bands, scaling, size, seed=options.seed, device=device, ranks=options.ranks
    )


def has_pseudo_labels(scenes: WholeScenes) -> bool:
    """Whether a pixel of the scenes has a pseudo-label that counts."""
    pseudo_labels = scenes.batch.pseudo_labels
    return pseudo_labels is not None and bool(pseudo_labels.weights.any())


def make_objective(scenes: Source, spec: ModelSpec, options: TrainOptions) -> Objective:
    """The objective that suits a network."""
    patch = MODELS[spec.name].patch
    if patch is not None:
        assert isinstance(scenes, WholeScenes)  # no plan gives patch CNNs crops
        return PatchObjective(
            scenes, spec.classes, options.label_smoothing, options.spectral_jitter, patch,
            options.materialised, options.propagation if has_pseudo_labels(scenes) else 0.0,
        )  # fmt: skip
    return SceneObjective[Any](
        scenes, spec.classes, options.label_smoothing, options.spectral_jitter, options.propagation
    )
