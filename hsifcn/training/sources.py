"""What a network is trained on: scenes held whole or read in crops, and their objective."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from hsifcn.data.dataset import Dataset
from hsifcn.inference.bundle import Bundle
from hsifcn.models import MODELS, ModelSpec
from hsifcn.training.crops import CroppedScenes, CropSize, label_scene
from hsifcn.training.objectives import Objective, SceneObjective
from hsifcn.training.patches import PatchObjective
from hsifcn.training.scenes import WholeScenes, load_training_scene
from hsifcn.training.settings import TrainOptions

Source: TypeAlias = WholeScenes | CroppedScenes


def open_source(
    dataset: Dataset, model: Bundle, size: CropSize | None, options: TrainOptions
) -> Source:
    """The scenes, read whole where ``size`` is None, else ready for crops of them to be read.

    Parameters
    ----------
    dataset : Dataset
    model : Bundle
        Of which the bands and their scaling are used.
    size : CropSize or None
    options : TrainOptions

    Raises
    ------
    LabelError
        No training pixel holds a measurement, or labels and scene differ in size.
    """
    bands, scaling, inductive = model.good_bands, model.scaling, options.inductive
    device = torch.device(options.device)
    pairs = list(zip(dataset.scenes, dataset.splits, strict=True))
    if size is None:
        return WholeScenes(
            [
                load_training_scene(
                    scene, split, bands, scaling, inductive=inductive, device=device
                )
                for scene, split in pairs
            ]
        )
    labelled = [label_scene(scene, split, bands, inductive=inductive) for scene, split in pairs]
    return CroppedScenes(labelled, bands, scaling, size, seed=options.seed, device=device)


def propagate_labels(scenes: Source, spec: ModelSpec, options: TrainOptions) -> Source:
    """The scenes with pseudo-labels; as they are where none are wanted."""
    if not options.propagation:
        return scenes
    return scenes.with_pseudo_labels(spec.classes)


def has_pseudo_labels(scenes: WholeScenes) -> bool:
    """Whether a pixel of the scenes has a pseudo-label that counts."""
    return any(
        scene.pseudo_labels is not None and bool(scene.pseudo_labels.weights.any())
        for scene in scenes.scenes
    )


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
