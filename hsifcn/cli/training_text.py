"""What ``hsifcn train`` says of its plan and of its result."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsifcn.core import formats

if TYPE_CHECKING:
    from hsifcn.training.crops import CropSize
    from hsifcn.training.memory_plan import TrainingPlan


def plan_message(plan: TrainingPlan, ranks: int = 1) -> str:
    """How the network will be trained, with what memory, and about how long it will take."""
    how = "whole scenes" if plan.crops is None else crops_message(plan.crops)
    shared, each = (f", shared by {ranks} ranks", " each") if ranks > 1 else ("", "")
    return (
        f"plan: {how}{shared}; about {formats.megabytes(plan.peak_bytes)} MB of memory{each}, "
        f"{formats.about(plan.seconds)}"
    )


def crops_message(crops: CropSize) -> str:
    """The crops of a step, and the tiles of an evaluation."""
    at_once = "" if crops.batch == crops.count else f", {crops.batch} at once"
    tile = crops.core + 2 * crops.halo
    side = crops.window
    windows = f"; labels propagated over windows of {side}x{side}" if side else ""
    return (
        f"{crops.count} crops of {crops.side}x{crops.side} pixels a step{at_once}; validation in "
        f"tiles of {tile}x{tile}, halo {crops.halo}{windows}"
    )


def summary(metrics: dict[str, object], folder: Path) -> str:
    """The result of a run for people."""
    from typing import cast

    from hsifcn.cli import tables
    from hsifcn.data.splits import leakage_sentence

    values = cast(dict[str, Any], metrics)
    split = values["split"]
    overview = tables.facts(
        {
            "model": f"{values['model']}, {values['params'] / 1e6:.2f} M parameters, "
            f"{values['flops_per_pixel'] / 1e3:,.0f} kFLOP a pixel",
            "split": f"{split['recipe']}, seed {split['seed']}: {split['n_train']:,} training, "
            f"{split['n_validation']:,} validation, {split['n_test']:,} test pixels",
            "leakage": leakage_sentence(split["leakage"]),
            "accuracy": accuracy_fact(values),
            **chosen_fact(values.get("recipe")),
            **refined_fact(values.get("refined")),
            "cost": f"trained in {formats.seconds(values['train_seconds'])}, mapped in "
            f"{formats.seconds(values['predict_seconds'])}, peak memory "
            f"{formats.megabytes(values['peak_rss_bytes'])} MB",
            "run": f"{folder} (report.html, model.safetensors)",
        }
    )
    command = shlex.join(["hsifcn", "predict", str(folder)])
    return f"{tables.per_class(values)}\n\n{overview}\n\nnext: {command}"


def chosen_fact(recipe: dict[str, Any] | None) -> dict[str, str]:
    """What propagation chose from the labels; nothing where nothing was propagated."""
    sentence = formats.recipe_sentence(recipe)
    return {"chosen": sentence} if sentence else {}


def accuracy_fact(values: dict[str, Any]) -> str:
    """OA, AA and kappa; a sentence where no pixel tests."""
    folds = values.get("folds")
    of_what = "test pixels"
    if folds:
        of_what = (
            f"of {folds['n']} folds over {folds['units']}; the model that is kept learnt all labels"
        )
    if values["oa"] is None:
        return "not known: every labelled pixel trains and none tests"
    return (
        f"OA {formats.percent(values['oa'])} %, AA {formats.percent(values['aa'])} %, "
        f"kappa {formats.percent(values['kappa'])} % ({of_what})"
    )


def refined_fact(refined: dict[str, Any] | None) -> dict[str, str]:
    """Accuracy after the refinement; nothing where none was asked for."""
    if refined is None:
        return {}
    method, strength = refined["method"], refined["weights"]["strength"]
    accuracy = f"OA {formats.percent(refined['oa'])} %, AA {formats.percent(refined['aa'])} %"
    chosen = f"strength {strength:g}, width {refined['weights']['spectral_width']:g}"
    if not strength:
        chosen = "strength 0: no refinement was better at the validation pixels"
    return {"refined": f"{accuracy} ({method}, {chosen})"}
