"""What a caller may ask of a training; the defaults are one recipe, whatever the scene."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from hsifcn.core.errors import SettingError
from hsifcn.inference.bundle import Bundle
from hsifcn.models import DEFAULT_MODEL, MODELS
from hsifcn.training.ranks import ALONE, Ranks

PATCH_STEPS = 600  # steps of a patch CNN
PATCH_LEARNING_RATE = 4e-3  # higher rates suit whole scenes, not batches of patches
NOT_RECORDED = ("device", "max_memory", "refine", "init", "ranks")  # not of the recipe


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes
    ----------
    model : str
        Key of ``models.MODELS``.
    seed : int
        Of initialisation and augmentation.
    steps : int
        Optimiser steps; a whole-scene network sees each scene once a step.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises and falls in one cycle (Smith, Topin 2019, arXiv:1708.07120).
    averaging : float
        Decay of the moving average of the weights, which is what is evaluated and kept.
    label_smoothing : float
        Share of the target spread over all classes (Szegedy et al. 2016, arXiv:1512.00567).
    spectral_jitter : float
        Standard deviation of the random gain and offset of each band, in standard deviations.
    propagation : float
        Weight of the loss on pseudo-labels (``propagation.random_walker``), that of the labels
        being 1; 0 leaves propagation out, as patch CNNs do by default.
    learn_validation : bool
        Train on the validation pixels, too, in the last steps, where labels are propagated over
        whole scenes: ``train.HELD_BACK`` says when.
    evaluate_every : int
        Steps between two evaluations of the validation pixels.
    inductive : bool
        Take band statistics and batch norm from training pixels only, not from the whole scene.
    materialised : bool
        Patch CNNs only: store every patch, as most code does.
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    max_memory : int or None
        Ceiling on the process's resident memory, bytes; by default a share of what is free.
    refine : str
        ``none``, ``crf`` or ``mrf``: the refinement whose weights a run chooses on the validation
        pixels, which are not trained on then.
    init : Bundle or None
        A trained model of the same architecture to start from.
    ranks : Ranks
        The processes that share the training; one by default.
    """

    model: str = DEFAULT_MODEL
    seed: int = 0
    steps: int = 320
    learning_rate: float = 8e-3
    weight_decay: float = 1e-2
    averaging: float = 0.97
    label_smoothing: float = 0.1
    spectral_jitter: float = 0.1
    propagation: float = 1.0
    learn_validation: bool = True
    evaluate_every: int = 10
    inductive: bool = False
    materialised: bool = False
    device: str = "cpu"
    max_memory: int | None = None
    refine: str = "none"
    init: Bundle | None = None
    ranks: Ranks = ALONE

    def recipe(self) -> dict[str, Any]:
        """The options that decide what is learnt, which a bundle stores."""
        names = (field.name for field in fields(self))
        return {name: getattr(self, name) for name in names if name not in NOT_RECORDED}


def default_options(
    model: str = DEFAULT_MODEL,
    seed: int = 0,
    *,
    steps: int | None = None,
    inductive: bool = False,
    device: str = "cpu",
    max_memory: int | None = None,
    refine: str = "none",
    init: Bundle | None = None,
) -> TrainOptions:
    """The recipe for a model, whatever the scene; parameters are those of ``TrainOptions``.

    Patch CNNs see a batch of patches a step instead of a scene, so they take more steps. Inductive
    training sees no unlabelled pixel, so nothing is propagated. A refinement is chosen on the
    validation pixels, so they are not trained on.

    Raises
    ------
    SettingError
        There is no such model.
    """
    if model not in MODELS:
        raise SettingError(f"there is no model '{model}'", f"choose one of {', '.join(MODELS)}")
    options = TrainOptions(
        model, seed, inductive=inductive, learn_validation=refine == "none",
        device=device, max_memory=max_memory, refine=refine, init=init,
    )  # fmt: skip
    if inductive:
        options = replace(options, propagation=0.0)
    if MODELS[model].patch is not None:
        options = replace(
            options,
            steps=PATCH_STEPS,
            learning_rate=PATCH_LEARNING_RATE,
            evaluate_every=50,
            propagation=0.0,
        )
    return options if steps is None else replace(options, steps=steps)
