"""How to train: one recipe, whatever the scene, and its schedule of the learning rate."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace

import numpy as np

from hsifcn.core.errors import SettingError
from hsifcn.models import DEFAULT_MODEL, MODELS

PATCH_STEPS = 600  # steps of a patch CNN
PATCH_LEARNING_RATE = 4e-3  # higher rates suit whole scenes, not batches of patches


@dataclass(frozen=True)
class Settings:
    """How to train; the same for every scene, stored in the bundle.

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
        Weight of the loss against labels carried over the scene (``propagation.py``), that of the
        labels being 1; whole-scene networks only.
    learn_validation : bool
        Learn the validation pixels too in the last steps, where labels are carried over whole
        scenes: ``training_job.HELD_BACK`` says when.
    evaluate_every : int
        Steps between two looks at the validation pixels.
    inductive : bool
        Take band statistics and batch norm from training pixels only, not from the whole scene.
    materialised : bool
        Patch CNNs only: store every patch, as most code does.
    staged : bool
        FCNs only: train the coarsest scores first, then one skip more in each ``stage`` (the FCN
        paper, section 4.2).
    """

    model: str = DEFAULT_MODEL
    seed: int = 0
    steps: int = 400
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
    staged: bool = False


def default_settings(
    model: str = DEFAULT_MODEL,
    seed: int = 0,
    *,
    steps: int | None = None,
    inductive: bool = False,
    staged: bool = False,
) -> Settings:
    """The settings for a model, whatever the scene; patch CNNs see a batch a step, not a scene.

    Raises
    ------
    SettingError
        There is no such model, or it has no skips and is to be trained stage by stage.
    """
    if model not in MODELS:
        raise SettingError(f"there is no model '{model}'", f"choose one of {', '.join(MODELS)}")
    if staged and not MODELS[model].skips:
        raise SettingError(f"{model} has no skips to train in stages", "leave --staged out")
    settings = Settings(model, seed, inductive=inductive, staged=staged)
    if inductive:
        settings = replace(settings, propagation=0.0)
    if MODELS[model].patch is not None:
        settings = replace(
            settings,
            steps=PATCH_STEPS,
            learning_rate=PATCH_LEARNING_RATE,
            evaluate_every=50,
            propagation=0.0,
        )
    return settings if steps is None else replace(settings, steps=steps)


def learning_rate(step: int, settings: Settings) -> float:
    """One cycle a stage: up along a cosine for a fifth of its steps, then down to a thousandth."""
    _, first, length = stage(step, settings)
    step -= first
    warm = max(1, round(0.2 * length))
    low = settings.learning_rate / (25 if step < warm else 1000)
    phase = step / warm if step < warm else 1 - (step - warm) / max(1, length - warm)
    return float(low + (settings.learning_rate - low) * (1 - np.cos(np.pi * phase)) / 2)


def stage(step: int, settings: Settings) -> tuple[int, int, int]:
    """Number, first step and length of the stage that a step belongs to.

    Training is one stage, but if staged each skip begins another. The last one has half of the
    steps, as only there the network is the one asked for; the others share the rest.
    """
    skips = MODELS[settings.model].skips if settings.staged else 0
    firsts = [round(k * settings.steps / (2 * max(1, skips))) for k in range(skips + 1)]
    number = bisect_right(firsts, step) - 1
    end = firsts[number + 1] if number < skips else settings.steps
    return number, firsts[number], end - firsts[number]
