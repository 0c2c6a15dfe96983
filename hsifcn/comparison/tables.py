"""What a comparison found: the figures, differences and pictures of all contenders.

Everything here is computed from what the contenders' processes left; nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.comparison.experiment import REGIMES, Case, Contender, Experiment
from hsifcn.comparison.task import LEAST_GAIN, MOST_DOUBLINGS
from hsifcn.comparison.verdict import verdict
from hsifcn.core.process import FLOAT, machine, versions
from hsifcn.core.scene import Scene
from hsifcn.data.dataset import Dataset
from hsifcn.data.splits import Split, fields, leakage_sentence
from hsifcn.evaluation.intervals import mcnemar, paired_difference
from hsifcn.evaluation.metrics import Accuracy, confusion_matrix
from hsifcn.evaluation.seeds import OVERALL, over_seeds
from hsifcn.models import DEFAULT_MODEL, MODELS, default_spec, geometry
from hsifcn.models.flops import predict_flops, training_step_flops
from hsifcn.models.plugin import is_plugin
from hsifcn.report.page import TOUCHING_LIMIT
from hsifcn.report.paper_tables import PaperTable, caption
from hsifcn.report.quicklook import DIFFERENCE_COLOURS, label_image, rgb_quicklook
from hsifcn.training.patches import PATCH_BATCH

DETAILS = ("per_class", "per_class_recall", "confusion", "train_oa_curve", "train_oa_steps")
FLOPS = ("flops_train_step", "flops_train", "flops_predict")
COSTS = (
    "params",
    "steps",
    "train_search_seconds",
    "train_seconds",
    "train_seconds_to_best",
    "predict_seconds",
    "peak_train_bytes",
    "train_baseline_bytes",
    "peak_predict_bytes",
    "baseline_bytes",
)


@dataclass
class Entry:
    """One contender on one split: what its jobs gave, a result a seed."""

    contender: Contender
    split_name: str
    results: list[dict[str, Any]] = field(default_factory=list)
    maps: list[npt.NDArray[np.uint16]] = field(default_factory=list)
    status: str = "done"
    reason: str | None = None

    @property
    def name(self) -> str:
        """Of the contender."""
        return self.contender.name


def used_shape(scene: Scene) -> tuple[int, int, int]:
    """Rows, columns and the bands that were chosen; flat ones, left out later, are counted."""
    return (*scene.shape[:2], int(scene.good_bands.sum()))


def patch_store_bytes(contender: Contender, shape: tuple[int, int, int]) -> int:
    """Float32 patches of every pixel of a (rows, cols, bands) scene; 0 where none are stored."""
    if contender.storage != "materialised":
        return 0
    rows, cols, bands = shape
    patch = MODELS[contender.model].patch or 0
    return rows * cols * patch * patch * bands * FLOAT


def case_folder(out: Path, experiment: Experiment, name: str) -> Path:
    """Where the tasks of one case keep their files."""
    names = [case.name for case in experiment.cases]
    return out / "jobs" / f"split-{names.index(name)}"


def assemble(
    experiment: Experiment, datasets: dict[str, Dataset], entries: Sequence[Entry], out: Path
) -> dict[str, Any]:
    """What ``comparison.json`` holds."""
    first = next(iter(datasets.values()))
    splits = [split_row(case, datasets[case.name].splits[0]) for case in experiment.cases]
    rows = [
        contender_row(entry, scored_by(entry, entries), datasets[entry.split_name])
        for entry in entries
    ]
    differences = [
        row
        for name, given in datasets.items()
        if (row := difference_row(name, given, entries)) is not None
    ]
    equivalence = equivalence_row(experiment, entries, out)
    if equivalence is not None:
        flops = {row["name"]: row["flops_predict"] for row in rows if row["status"] == "done"}
        equivalence["flops_ratio"] = flops["patch"] / flops["cast"]
    return {
        "scene": Path(first.scenes[0].path).name,
        "command": experiment.command,
        "working_folder": str(Path.cwd()),
        "seeds": experiment.seeds,
        "steps": steps_sentence(experiment),
        "class_names": list(first.measured_names),
        "class_codes": list(first.class_codes),
        "colours": [list(colour) for colour in first.label_colours],
        "environment": {"device": experiment.device, **machine(), **versions()},
        "splits": splits,
        "contenders": rows,
        "equivalence": equivalence,
        "differences": differences,
        "interval_note": "95 %, paired jackknife over fields (8-connected areas of one label), all "
        f"seeds of a contender together ({experiment.seeds})",
        "patch_store": patch_store_row(experiment, first.scenes[0], entries),
        "scaling": {"by_patch": [], "by_scene": []},
        "warnings": [w for row in splits if (w := leakage_warning(row)) is not None],
        "verdict": verdict(rows, differences, splits),
    }


def steps_sentence(experiment: Experiment) -> str:
    """How long every network was trained."""
    if experiment.steps is not None:
        return f"Every network was trained for {experiment.steps:,} steps."
    if experiment.quick or experiment.fixed_steps:
        share = "half of " if experiment.quick else ""
        return (
            f"Every network was trained for {share}its default number of steps, whether or not "
            "more steps would have gained."
        )
    return (
        "Every network was trained until it no longer gained: with twice the steps as long as the "
        f"loss of the validation pixels fell by {100 * LEAST_GAIN:.0f} % or more, at most "
        f"{2**MOST_DOUBLINGS} times its default number of steps. The first seed decides."
    )


def split_row(case: Case, split: Split) -> dict[str, Any]:
    """A split and its leakage, against the default model's receptive field."""
    spec = default_spec(DEFAULT_MODEL, 1, 1)
    return {
        "name": case.name,
        "regime": case.regime,
        "learns_from": REGIMES[case.regime],
        "recipe": split.recipe,
        "digest": split.digest,
        "n_train": split.n_train,
        "n_validation": split.n_validation,
        "n_test": split.n_test,
        "leakage": split.leakage(geometry(spec).receptive_field),
    }


def scored_by(entry: Entry, entries: Sequence[Entry]) -> Entry:
    """Whose maps tell the accuracy: of materialised patches those of windowed ones, all seeds."""
    for other in entries:
        if (
            entry.contender.storage == "materialised"
            and other.contender.name == entry.contender.weights_of
            and (other.split_name, other.status) == (entry.split_name, "done")
        ):
            return other
    return entry


def contender_row(entry: Entry, scored: Entry, dataset: Dataset) -> dict[str, Any]:
    """The figures of one contender on one split: accuracies over seeds, costs as medians."""
    contender = entry.contender
    row: dict[str, Any] = {
        "name": contender.name,
        "label": contender.label,
        "kind": contender.kind,
        "storage": contender.storage,
        "split": entry.split_name,
        "status": entry.status,
        "reason": entry.reason,
        "patch_store_bytes": patch_store_bytes(contender, used_shape(dataset.scenes[0])) or None,
    }
    row |= dict.fromkeys((*OVERALL, *DETAILS, *COSTS, *FLOPS, "pixels_per_second"))
    if entry.status != "done":
        return row
    row |= accuracy_figures(scored, dataset)
    if scored is not entry:
        row["accuracy_of"] = scored.contender.name
        row["labels_equal"] = int((entry.maps[0] == scored.maps[0]).sum())
        row["labels_compared"] = entry.maps[0].size
    recorded = ("train_oa_curve", "train_oa_steps", "train_seconds_from_steps", "trials")
    for key in (*recorded, "stopped_by"):
        row[key] = entry.results[0].get(key)
    for key in COSTS:
        values = [value for result in entry.results if (value := result.get(key)) is not None]
        row[key] = float(np.median(values)) if values else None
    scene = dataset.scenes[0]
    row["pixels_per_second"] = scene.shape[0] * scene.shape[1] / row["predict_seconds"]
    if contender.kind != "classical" and not is_plugin(contender.model):
        row |= network_flops(contender, scene, len(dataset.class_names))
        row["flops_train"] = row["flops_train_step"] * row["steps"]
    return row


def accuracy_figures(entry: Entry, dataset: Dataset) -> dict[str, Any]:
    """OA, AA and kappa over the seeds, recall a class, and the first seed's confusion matrix."""
    split, n_classes = dataset.splits[0], len(dataset.measured_names)
    truth = np.where(split.test, split.labels, 0)
    measured = [
        Accuracy.from_confusion(confusion_matrix(truth, labels, n_classes)) for labels in entry.maps
    ]
    names = dataset.measured_names
    n_train = split.n_train_per_class(n_classes)
    found = over_seeds([accuracy.as_dict(names, n_train) for accuracy in measured])
    recalls = {name: row["recall"]["mean"] for name, row in found["per_class"].items()}
    confusion = measured[0].confusion[:, :n_classes].tolist()
    return {**found, "per_class_recall": recalls, "confusion": confusion}


def network_flops(contender: Contender, scene: Scene, n_classes: int) -> dict[str, int]:
    """FLOPs of a training step and of scoring every pixel."""
    rows, cols, bands = used_shape(scene)
    spec = default_spec(contender.model, bands, n_classes)
    patch = MODELS[contender.model].patch
    step = (1, rows, cols) if patch is None else (PATCH_BATCH, patch, patch)
    whole = contender.storage == "scene"
    return {
        "flops_train_step": training_step_flops(spec, step),
        "flops_predict": predict_flops(spec, rows, cols, whole_scene=whole),
    }


def difference_row(name: str, dataset: Dataset, entries: Sequence[Entry]) -> dict[str, Any] | None:
    """The default FCN against the patch CNN on one split; None where one of them is missing."""
    done = {e.name: e for e in entries if e.split_name == name and e.status == "done"}
    patch = done.get("patch") or done.get("cast")
    fcn = done.get(DEFAULT_MODEL)
    if patch is None or fcn is None:
        return None
    split, n_classes = dataset.splits[0], len(dataset.measured_names)
    truth = np.where(split.test, split.labels, 0)
    numbers = fields(split.labels)
    seeds = min(len(fcn.maps), len(patch.maps))
    found = paired_difference(
        np.tile(truth, (seeds, 1)),
        np.concatenate(fcn.maps[:seeds]),
        np.concatenate(patch.maps[:seeds]),
        np.tile(numbers, (seeds, 1)),  # a field stays one field over all seeds
        n_classes,
    )
    return {
        "a": fcn.contender.name,
        "b": patch.contender.name,
        "split": name,
        **{k: found[k] for k in ("oa_difference", "interval", "aa_difference", "aa_interval")},
        "mcnemar_p": mcnemar(truth, fcn.maps[0], patch.maps[0]),
        "per_class": {
            class_name: {"difference": row["recall_difference"], "interval": row["interval"]}
            for class_name, row in zip(dataset.measured_names, found["per_class"], strict=True)
        },
    }


def equivalence_row(
    experiment: Experiment, entries: Sequence[Entry], out: Path
) -> dict[str, Any] | None:
    """How alike the cast net and the patch CNN are, over all splits, and what the cast saves."""
    done = {(e.name, e.split_name): e for e in entries if e.status == "done"}
    pairs = [
        (done["cast", split], done["patch", split])
        for split in (case.name for case in experiment.cases)
        if ("cast", split) in done and ("patch", split) in done
    ]
    if not pairs:
        return None
    largest, equal, pixels = 0.0, 0, 0
    for cast, patch in pairs:
        for seed, ours, theirs in zip(
            range(experiment.first_seed, experiment.first_seed + experiment.seeds),
            cast.maps,
            patch.maps,
            strict=True,
        ):
            folder = case_folder(out, experiment, cast.split_name)
            a, b = (np.load(folder / f"{name}-{seed}-logits.npy") for name in ("cast", "patch"))
            largest = max(largest, float(np.abs(a - b).max()))
            equal += int((ours == theirs).sum())
            pixels += ours.size
    return {
        "max_abs_logit_difference": largest,
        "labels_equal": equal,
        "n_pixels": pixels,
        "maps": sum(len(cast.maps) for cast, _ in pairs),
        "speedup": saving(pairs, lambda result: result["predict_seconds"]),
        "memory_ratio": saving(
            pairs, lambda result: result["peak_predict_bytes"] - result["baseline_bytes"]
        ),
    }


def saving(
    pairs: Sequence[tuple[Entry, Entry]], cost: Callable[[dict[str, Any]], float]
) -> float | None:
    """How many times less the cast takes of a cost: medians over seeds, then over splits."""
    ratios = []
    for cast, patch in pairs:
        ours, theirs = (np.median([cost(r) for r in entry.results]) for entry in (cast, patch))
        if ours > 0:
            ratios.append(theirs / ours)
    return float(np.median(ratios)) if ratios else None


def patch_store_row(
    experiment: Experiment, scene: Scene, entries: Sequence[Entry]
) -> dict[str, Any] | None:
    """The arithmetic of materialised patches beside what was measured above the baseline."""
    measured = [
        (
            entry.contender,
            entry.results[0]["peak_predict_bytes"] - entry.results[0]["baseline_bytes"],
        )
        for entry in entries
        if entry.contender.storage == "materialised" and entry.status == "done"
    ]
    if not measured:
        return None
    contender, peak = measured[0]
    rows, cols, bands = used_shape(scene)
    arithmetic = patch_store_bytes(contender, (rows, cols, bands))
    return {
        "n_patches": rows * cols,
        "patch": experiment.patch,
        "bands": bands,
        "bytes_per_value": FLOAT,
        "arithmetic_bytes": arithmetic,
        "measured_bytes": peak,
        "apart": peak / arithmetic - 1,
    }


def paper_tables(comparison: dict[str, Any]) -> list[PaperTable]:
    """The accuracies of what is done, a table a split."""
    tables = []
    for split in comparison["splits"]:
        columns = {
            row["label"]: row
            for row in comparison["contenders"]
            if (row["split"], row["status"]) == (split["name"], "done")
        }
        if columns:
            told = leakage_sentence(split["leakage"])
            drawn = "each of which draws weights"
            text = caption(split["recipe"], comparison["seeds"], drawn, told)
            tables.append(PaperTable(split["name"], text, columns))
    return tables


def leakage_warning(split: dict[str, Any]) -> str | None:
    """Plain words where the accuracy of a split rests on leaked neighbours."""
    if split["leakage"]["test_touching"] <= TOUCHING_LIMIT:
        return None
    return (
        f"Split {split['name']} ({split['recipe']}): {leakage_sentence(split['leakage'])}. "
        "Its accuracies reward remembering neighbours; do not expect them on unseen fields."
    )


def images(
    datasets: dict[str, Dataset], entries: Sequence[Entry], comparison: dict[str, Any]
) -> dict[str, npt.NDArray[np.uint8]]:
    """Pictures of the page: the scene, the ground truth, maps of the first seed, differences."""
    first = next(iter(datasets.values()))
    pictures = {
        "quicklook": rgb_quicklook(first.scenes[0]),
        "truth": label_image(first.labels[0].labels, first.label_colours),
    }
    maps = {(e.split_name, e.name): e.maps[0] for e in entries if e.maps}
    for (split_name, name), labels in maps.items():
        colours = datasets[split_name].label_colours
        pictures[f"map/{split_name}/{name}"] = label_image(labels, colours)
    for row in comparison["differences"]:
        split = datasets[row["split"]].splits[0]
        right = [maps[row["split"], row[side]] == split.labels for side in ("a", "b")]
        codes = np.select(
            [right[0] & right[1], right[0] & ~right[1], ~right[0] & right[1]], [1, 2, 3], default=4
        )
        pictures[f"difference/{row['split']}"] = label_image(
            np.where(split.test, codes, 0), tuple(DIFFERENCE_COLOURS.values())
        )
    return pictures
