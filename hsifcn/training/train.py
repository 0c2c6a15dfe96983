"""Training: a network from scenes and the splits of their labels.

No test label is ever seen: objectives are made of the training and validation pixels only.
Unlabelled pixels are seen as spectra (band statistics, batch norm, propagation) unless
``TrainOptions.inductive``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hsifcn.core import formats
from hsifcn.core.errors import SettingError
from hsifcn.core.process import Stopwatch, keep_memory_together, versions
from hsifcn.data.dataset import Dataset
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.rotation import changed_share
from hsifcn.inference.spectral_summary import summarise_scenes
from hsifcn.models import MODELS, default_spec
from hsifcn.models.batchnorm import reestimate
from hsifcn.propagation.label_coverage import label_coverage
from hsifcn.propagation.selection import Evidence
from hsifcn.training.applicability import fit_applicability
from hsifcn.training.loop import (
    Checkpoint,
    Progress,
    TrainingState,
    initial_state,
    no_progress,
    run_steps,
    share_state,
)
from hsifcn.training.memory_plan import LARGEST_WHOLE, TrainingPlan, plan_training
from hsifcn.training.objectives import Objective
from hsifcn.training.pseudo_labelling import PseudoLabelSets, propagate_labels
from hsifcn.training.scenes import (
    LabelledScene,
    WholeScenes,
    label_scene,
    require_training_pixels,
    scene_scaling,
    usable_bands,
)
from hsifcn.training.settings import TrainOptions
from hsifcn.training.sources import Source, make_objective, open_source
from hsifcn.training.spectral_classifier import (
    fit_spectral_classifier,
    labelled_spectra,
    noise_covariance,
)
from hsifcn.training.temperature import expected_elsewhere, fit_temperature_of_scene
from hsifcn.training.transfer import initial_weights, origin, require_same_input

HELD_BACK = 0.8  # share of the steps before which validation pixels are never trained on

Announce = Callable[[TrainingPlan], None]
"""Told the plan before the work starts."""


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes
    ----------
    bundle : Bundle
        The model with the weights kept.
    log : list of dict
        ``step, loss, lr, validation_oa, seconds``, a row each evaluation.
    best_step : int
        The step whose averaged weights were kept.
    seconds : float
        Of propagation and training, reading the scenes left out.
    evidence : Evidence or None
        What propagation chose from the labels, and why; None where nothing was propagated.
    """

    bundle: Bundle
    log: list[dict[str, Any]]
    best_step: int
    seconds: float
    evidence: Evidence | None = None

    def _repr_html_(self) -> str:
        row = next((row for row in self.log if row["step"] == self.best_step), {})
        facts = {"kept step": str(self.best_step), "time": formats.seconds(self.seconds)}
        if row.get("validation_oa") is not None:
            facts["OA on validation pixels"] = f"{formats.percent(row['validation_oa'])} %"
        return self.bundle._repr_html_() + formats.html_table(facts)


def train(
    dataset: Dataset,
    options: TrainOptions,
    *,
    progress: Progress = no_progress,
    announce: Announce = lambda plan: None,
    checkpoint: Path | None = None,
    resume: bool = False,
    maps_too: bool = False,
) -> Trained:
    """Train a network on the scenes of a data set, whole or in crops.

    Parameters
    ----------
    dataset : Dataset
    options : TrainOptions
    progress : callable
        Called after each step.
    announce : callable
        Told the plan before the work starts.
    checkpoint : Path, optional
        Folder for the state of an unfinished run; an interrupt leaves there a state to resume from
        and a model to predict with.
    resume : bool
        Go on from the state in ``checkpoint``, if there is one.
    maps_too : bool
        The plan is to hold for mapping the scenes and drawing a report, too.

    Raises
    ------
    MemoryCeilingError
        No crops fit, or the scenes cannot be mapped, or the report drawn, within the ceiling.
    LabelError
        No training pixel holds a measurement, or labels and scene differ in size.
    MismatchError, SettingError
        The model to start from has other bands, or another architecture; the state to resume from
        is another run's.
    FailedError
        The loss became NaN.
    KeyboardInterrupt
        By the user, after the checkpoint was written.
    """
    keep_memory_together()  # without it, training in crops takes 100 MB more
    once = options.ranks.once  # what the first of several ranks does for all
    model = once(lambda: untrained_model(dataset, options))
    plan = once(lambda: plan_training(dataset, model.spec, options, maps_too=maps_too))
    once(lambda: require_work_for_ranks(plan, dataset, options))
    announce(plan)
    labelled = once(lambda: labelled_scenes(dataset, model, options))
    with Stopwatch() as propagation:  # which is part of the time of training
        pseudo_labels = once(lambda: propagated(dataset, labelled, model, plan, options))
    scenes = open_source(labelled, model, plan.crops, options)
    warn_of_classes_without_measurement(scenes.counts(model.spec.classes), dataset)
    if plan.crops:
        model = replace(model, settings=model.settings | {"crops": asdict(plan.crops)})

    state = initial_state(model.spec, options, model.weights)
    saved = Checkpoint(checkpoint, identity(model)) if checkpoint else None
    if saved and resume:
        saved.load(state)
    share_state(state, options.ranks)
    state.seconds += propagation.seconds
    run = Run(model, options, state, progress, saved)
    return learn(run, labelled, scenes, pseudo_labels)


def learn(
    run: Run,
    labelled: Sequence[LabelledScene],
    scenes: Source,
    pseudo_labels: PseudoLabelSets | None,
) -> Trained:
    """Train on labels and pseudo-labels, then calibrate.

    Validation pixels choose and calibrate the model, so they are not trained on. Where labels are
    propagated over whole scenes, they are held back for most of the steps only.
    """
    options, state = run.options, run.state
    evidence = pseudo_labels.evidence if pseudo_labels else None
    learn_all = options.learn_validation and scenes.n_validation
    if pseudo_labels is None or not learn_all or not isinstance(scenes, WholeScenes):
        if pseudo_labels is not None:
            scenes = scenes.with_pseudo_labels(pseudo_labels.training)
        objective = train_until(run, options.steps, scenes)
        state.averaged.load_state_dict(state.best)
        return finish(run, labelled, objective, objective, state.best_step, evidence)
    held_back_steps = round(HELD_BACK * options.steps)
    if state.step < held_back_steps:
        train_until(run, held_back_steps, scenes.with_pseudo_labels(pseudo_labels.training))
    all_labels = scenes.with_validation().with_pseudo_labels(pseudo_labels.all_labels)
    objective = train_until(run, options.steps, all_labels)
    validation_objective = make_objective(scenes, run.model.spec, options)
    return finish(run, labelled, objective, validation_objective, state.step, evidence)


def labelled_scenes(dataset: Dataset, model: Bundle, options: TrainOptions) -> list[LabelledScene]:
    """The scenes with the labels that may be learnt from."""
    labelled = [
        label_scene(scene, split, model.good_bands, inductive=options.inductive)
        for scene, split in zip(dataset.scenes, dataset.splits, strict=True)
    ]
    require_training_pixels(labelled)
    return labelled


def require_work_for_ranks(plan: TrainingPlan, dataset: Dataset, options: TrainOptions) -> None:
    """Make sure that every rank has a part of each step.

    Raises
    ------
    SettingError
        There are more ranks than scenes, or crops a step; or a patch CNN is to be trained.
    """
    ranks, scenes = options.ranks.size, len(dataset.scenes)
    if ranks > 1 and MODELS[options.model].patch is not None:
        raise SettingError(
            f"{options.model} is trained by one process, not by {ranks} ranks", "leave torchrun out"
        )
    if plan.crops is None and ranks > scenes:
        raise SettingError(
            f"{ranks} ranks for {scenes} scene{'s' * (scenes > 1)}: scenes of {LARGEST_WHOLE:,} "
            "pixels together at most are trained on whole, and a rank takes one at least",
            f"start {scenes} with --nproc-per-node" if scenes > 1 else "leave torchrun out",
        )
    if plan.crops is not None and ranks > plan.crops.count:
        raise SettingError(
            f"{ranks} ranks for {plan.crops.count} crops a step: a rank takes one at least",
            f"start {plan.crops.count} at most",
        )


def propagated(
    dataset: Dataset,
    labelled: Sequence[LabelledScene],
    model: Bundle,
    plan: TrainingPlan,
    options: TrainOptions,
) -> PseudoLabelSets | None:
    """Pseudo-labels of the scenes, None where none are wanted or no window of them fits."""
    window = plan.crops.window if plan.crops else None
    if not options.propagation:
        return None
    if window == 0:
        warnings.warn(
            "the memory is too small to propagate labels, so the network learns from labels alone, "
            "which is less accurate: free some memory, or give a larger --max-memory",
            stacklevel=2,
        )
        return None
    # With the brightness of pixels, which the network does not see but which shows fields.
    scaling = scene_scaling(dataset.scenes, dataset.splits, model.good_bands, options.inductive)
    device = torch.device(options.device)
    return propagate_labels(labelled, model.good_bands, scaling, model.spec.classes, window, device)


def untrained_model(dataset: Dataset, options: TrainOptions) -> Bundle:
    """The model before training: bands, their scaling, the network's declaration.

    Its weights are those of ``options.init`` that fit; the others are drawn.
    """
    scenes, splits, init = dataset.scenes, dataset.splits, options.init
    bands = usable_bands(scenes)
    spec = default_spec(options.model, int(bands.sum()), dataset.n_classes)
    weights, recorded = {}, options.recipe()
    if init is None:
        scaling = scene_scaling(scenes, splits, bands, options.inductive, unit_length=True)
    else:
        require_same_input(init, scenes, bands, options.inductive)
        scaling = init.scaling  # the unit of its weights
        weights = initial_weights(init, spec, dataset.class_names)
        recorded["init"] = origin(init, weights)
    return Bundle(
        spec=spec,
        weights=weights,
        scaling=scaling,
        good_bands=bands,
        wavelengths=scenes[0].wavelengths,
        fwhm=scenes[0].fwhm,
        scale_factor=next((s.scale_factor for s in scenes if s.scale_factor), None),
        class_names=dataset.class_names,
        colours=dataset.colours,
        class_codes=dataset.class_codes,
        settings=recorded,
        split=[{"recipe": s.recipe, "seed": s.seed, "digest": s.digest} for s in splits],
        versions=versions(),
        spectra=summarise_scenes(scenes, bands),
    )


def identity(model: Bundle) -> dict[str, Any]:
    """What a run that is resumed must agree in with the one that was interrupted."""
    return {
        "settings": model.settings,
        "spec": asdict(model.spec),
        "split": model.split,
        "mean": model.scaling.mean.tolist(),
    }


def require_same_run(finished: Bundle, dataset: Dataset, options: TrainOptions) -> None:
    """Raise where a finished run's model is not what this data set and these options ask for.

    Raises
    ------
    SettingError
        The options, network, split or scenes are others; the message says which.
    """
    asked, found = identity(untrained_model(dataset, options)), identity(finished)
    found["settings"] = {k: v for k, v in found["settings"].items() if k != "crops"}
    names = {"settings": "options", "spec": "network", "split": "split", "mean": "scenes"}
    differing = [
        name
        for key, name in names.items()
        if json.dumps(asked[key], sort_keys=True) != json.dumps(found[key], sort_keys=True)
    ]
    if differing:
        raise SettingError(
            f"the finished run was made with other {' and '.join(differing)}",
            "repeat its options, choose another folder with -o, or start anew with --overwrite",
        )


def warn_of_classes_without_measurement(counts: npt.NDArray[np.int64], dataset: Dataset) -> None:
    """Warn of classes that splits train on, but of which the scenes hold no training pixel."""
    wanted = np.sum(
        [split.n_train_per_class(dataset.n_classes) for split in dataset.splits], axis=0
    )
    for label in np.flatnonzero((wanted > 0) & (counts == 0)).tolist():
        warnings.warn(
            f"no training pixel of class {label + 1} ({dataset.class_names[label]}) holds a "
            "measurement: it is not mapped, and its test pixels count as errors",
            stacklevel=3,
        )


@dataclass(frozen=True)
class Run:
    """What stays the same while a network is trained, and the state that does not.

    Attributes
    ----------
    model : Bundle
        Before training.
    options : TrainOptions
    state : TrainingState
    progress : callable
    checkpoint : Checkpoint or None
    """

    model: Bundle
    options: TrainOptions
    state: TrainingState
    progress: Progress
    checkpoint: Checkpoint | None


def train_until(run: Run, step: int, scenes: Source) -> Objective:
    """Train to a step on labels and pseudo-labels of scenes; returns the objective.

    An interrupt leaves a checkpoint and, where there are no other ranks that the batch-norm update
    would need, a model to predict with.
    """
    with Stopwatch() as watch:
        objective = make_objective(scenes, run.model.spec, run.options)
    run.state.seconds += watch.seconds
    try:
        run_steps(run.state, objective, run.options, step, run.progress, run.checkpoint)
    except KeyboardInterrupt:
        if run.checkpoint and run.state.step:
            run.checkpoint.save(run.state)
        if run.checkpoint and run.state.step and run.options.ranks.size == 1:
            model = with_weights(run.model, run.state.averaged, objective)
            model.save(run.checkpoint.folder / "model.safetensors", overwrite=True)
        raise
    return objective


def finish(
    run: Run,
    labelled: Sequence[LabelledScene],
    objective: Objective,
    validation_objective: Objective,
    kept_step: int,
    evidence: Evidence | None,
) -> Trained:
    """Make the model of the averaged weights and calibrate its probabilities.

    Parameters
    ----------
    run : Run
    labelled : sequence of LabelledScene
    objective : Objective
        The last that was trained on.
    validation_objective : Objective
        The one that scores validation pixels: the same, unless these were trained on in the end.
        Then the best state before that scores them.
    kept_step : int
        Of the averaged weights.
    evidence : Evidence or None
        Of the pseudo-labels; None where there are none.
    """
    state = run.state
    model = with_weights(run.model, state.averaged, objective)
    with Stopwatch() as watch:
        expected_oa = evidence.expected_oa if evidence else float("nan")
        elsewhere = expected_elsewhere(state.averaged, objective, expected_oa)
        if validation_objective is not objective:
            state.averaged.load_state_dict(state.best)
        scores, targets = validation_objective.validation_scores(state.averaged)
        coverage = label_coverage([scene.training for scene in labelled])
        temperature = fit_temperature_of_scene(scores, targets, elsewhere, coverage)
        model = replace(model, temperature=temperature)
        model = run.options.ranks.once(partial(for_other_scenes, model, labelled, evidence))
    return Trained(model, state.log, kept_step, state.seconds + watch.seconds, evidence)


def for_other_scenes(
    model: Bundle, labelled: Sequence[LabelledScene], evidence: Evidence | None
) -> Bundle:
    """The model with what it takes in scenes that its network does not know."""
    seen = labelled, model.good_bands, model.scaling.unit_length
    spectra, pixels = labelled_spectra(*seen)
    classifier = fit_spectral_classifier(
        spectra,
        pixels,
        noise_covariance(*seen),
        model.spec.classes,
        model.scaling,
        evidence.prior_weight if evidence else None,
    )
    return replace(
        model,
        spectral_classifier=classifier,
        changed_when_turned=changed_share(Predictor(model), [one.scene for one in labelled]),
        applicability=fit_applicability(spectra, pixels),
    )


def with_weights(model: Bundle, network: nn.Module, objective: Objective) -> Bundle:
    """The model with a network's weights, after a batch-norm update on all inputs."""
    reestimate(network, objective.run, objective.calls)
    # Copies: a later evaluation of the validation pixels moves the network's running statistics.
    weights = {name: tensor.cpu().clone() for name, tensor in network.state_dict().items()}
    return replace(model, weights=weights)
