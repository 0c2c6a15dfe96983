"""The experiment of the project: what a whole-scene FCN gives over a patch CNN.

Every contender trains and predicts in fresh processes on the same splits and seeds. Three things
that are usually mixed are told apart: how patches are stored (materialised against windowed), the
redundancy of overlapping patches (windowed against cast, which has the same weights and the same
scores) and the architecture (cast against FCN).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.contenders import Contender, choose_contenders
from hsifcn.errors import ExistingOutputError, FailedError
from hsifcn.intervals import mcnemar, paired_difference
from hsifcn.measure import machine, versions
from hsifcn.metrics import Accuracy, confusion_matrix
from hsifcn.models import DEFAULT_MODEL, MODELS, build, default_spec, geometry
from hsifcn.predict import free_memory
from hsifcn.quicklook import DIFFERENCE_COLOURS, label_image, rgb_quicklook
from hsifcn.report import write_comparison_report
from hsifcn.run import Inputs, open_inputs, write_json, write_split
from hsifcn.scene import Scene, labels_of
from hsifcn.splits import Split, fields, leakage_sentence

DEFAULT_SPLITS = {"random": "random:0.1", "disjoint": "checkerboard:14:gap=3"}
DEFAULT_CONTENDERS = ("patch", "materialised", "cast", "fcn8s", DEFAULT_MODEL)
MEMORY_SHARE = 0.8  # of the free memory that one contender may take
TOUCHING = 0.05  # share of test pixels touching a training pixel above which we warn

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes
    ----------
    scene, labels : str
        Paths.
    splits : dict of str to str
        Recipe by name.
    contenders : tuple of str
    patch : int
        Side of the patches.
    seeds : int
        Trainings of each contender on each split; the split is that of the first seed.
    first_seed : int
    wavelengths, class_names : str or None
        Text files.
    steps : int or None
        Optimiser steps, if not the default.
    command : str
        As it was called, for the page.
    """

    scene: str
    labels: str
    splits: dict[str, str] = field(default_factory=lambda: dict(DEFAULT_SPLITS))
    contenders: tuple[str, ...] = DEFAULT_CONTENDERS
    patch: int = 15
    seeds: int = 3
    first_seed: int = 0
    wavelengths: str | None = None
    class_names: str | None = None
    steps: int | None = None
    command: str = ""


@dataclass
class Entry:
    """One contender on one split: what its jobs gave, a result a seed."""

    contender: Contender
    split_name: str
    results: list[dict[str, Any]] = field(default_factory=list)
    maps: list[npt.NDArray[np.uint16]] = field(default_factory=list)
    status: str = "done"
    reason: str | None = None


def compare(
    plan: Plan,
    out: Path,
    *,
    say: Say = lambda text: None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Run the comparison; writes ``comparison.json`` and ``report.html`` into ``out``.

    Parameters
    ----------
    plan : Plan
    out : Path
    say : callable
        Told what is being done.
    resume : bool
        Take up results that are there already.
    overwrite : bool

    Returns
    -------
    dict
        What ``comparison.json`` holds.
    """
    chosen = choose_contenders(list(plan.contenders), plan.patch, DEFAULT_MODEL)
    prepare_folder(out, plan, resume=resume, overwrite=overwrite)
    inputs = {
        name: open_inputs(
            [plan.scene],
            [plan.labels],
            recipe,
            plan.first_seed,
            wavelengths=plan.wavelengths,
            class_names=plan.class_names,
        )
        for name, recipe in plan.splits.items()
    }
    entries = []
    for name, given in inputs.items():
        folder = out / "jobs" / name
        folder.mkdir(parents=True, exist_ok=True)
        write_split(folder / "split.npz", given.splits[0], overwrite=True)
        for contender in chosen:
            entries.append(run_contender(contender, name, given, plan, folder, say))
    comparison = assemble(plan, inputs, entries, out)
    write_json(out / "comparison.json", comparison)
    write_comparison_report(
        out / "report.html", comparison=comparison, images=images(inputs, entries, comparison)
    )
    return comparison


def prepare_folder(out: Path, plan: Plan, *, resume: bool, overwrite: bool) -> None:
    """Make the folder ready; old results stay only for a plan that asks for the same.

    Raises
    ------
    ExistingOutputError
        It holds another comparison, or this one without ``resume`` or ``overwrite``.
    """
    wanted = {key: value for key, value in asdict(plan).items() if key != "command"}
    record = out / "plan.json"
    wanted = json.loads(json.dumps(wanted))
    if resume and record.exists() and json.loads(record.read_text("utf-8")) == wanted:
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not overwrite:
        raise ExistingOutputError(
            f"{out} exists", "add --overwrite, --resume (same options) or choose another -o"
        )
    for old in (out / "jobs").rglob("*.json") if out.is_dir() else ():
        old.unlink()
    out.mkdir(parents=True, exist_ok=True)
    write_json(record, wanted)


def run_contender(
    contender: Contender, split_name: str, inputs: Inputs, plan: Plan, folder: Path, say: Say
) -> Entry:
    """Train and predict with every seed; a job that fails leaves a reason in place of figures."""
    entry = Entry(contender, split_name)
    scene = inputs.scenes[0]
    store = patch_store_bytes(contender, scene)
    if store > MEMORY_SHARE * free_memory():
        entry.status = "skipped"
        entry.reason = (
            f"its patches would take {store / 1e9:.1f} GB (pixels x patch x patch x bands x 4 "
            f"bytes), {free_memory() / 1e9:.1f} GB are free"
        )
        say(f"{split_name}: {contender.label} skipped, {entry.reason}")
        return entry
    seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
    if contender.storage == "materialised":
        seeds = seeds[:1]  # the same weights as windowed: one seed shows the memory and the time
    try:
        for seed in seeds:
            say(f"{split_name}, seed {seed}: {contender.label}")
            result, logits = run_jobs(contender, seed, inputs, plan, folder)
            entry.results.append(result)
            entry.maps.append(labels_of(np.load(logits).argmax(0)))
    except FailedError as error:
        entry.status, entry.reason = "failed", error.message
        say(f"{split_name}: {contender.label} failed: {error.message}")
    return entry


def run_jobs(
    contender: Contender, seed: int, inputs: Inputs, plan: Plan, folder: Path
) -> tuple[dict[str, Any], Path]:
    """Train and predict with one seed; returns both results as one, and the file of logits."""
    scene = inputs.scenes[0]
    base = f"{contender.name}-{seed}"
    weights = f"{contender.weights_of or contender.name}-{seed}"
    common = {
        "scene": scene.path,
        "split": str(folder / "split.npz"),
        "model": contender.model,
        "storage": contender.storage,
        "seed": seed,
        "steps": plan.steps,
        "class_names": inputs.class_names,
        "colours": inputs.colours,
        "logits": str(folder / f"{base}.npy"),
    }
    trains = contender.weights_of is None or contender.storage == "materialised"
    if trains:
        own = {**common, "task": "train", "bundle": str(folder / f"{base}.safetensors")}
        trained = run_job(own, folder / f"{base}-train")
    else:
        trained = json.loads((folder / f"{weights}-train.result.json").read_text("utf-8"))
    bundle = str(folder / f"{base if trains else weights}.safetensors")
    predicted = run_job({**common, "task": "predict", "bundle": bundle}, folder / f"{base}-predict")
    result = {**trained, **predicted, "train_baseline_bytes": trained["baseline_bytes"]}
    return result, folder / f"{base}.npy"


def run_job(job: dict[str, Any], stem: Path) -> dict[str, Any]:
    """Run one job in a fresh process, unless its result is there already.

    Raises
    ------
    FailedError
        The process failed or was killed.
    """
    result = stem.with_name(stem.name + ".result.json")
    if not result.exists():
        path = stem.with_name(stem.name + ".job.json")
        write_json(path, {**job, "result": str(result)})
        done = subprocess.run(
            [sys.executable, "-m", "hsifcn.contender", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            reason = f"killed by signal {-done.returncode}" if done.returncode < 0 else last
            raise FailedError(reason)
    return dict(json.loads(result.read_text("utf-8")))


def patch_store_bytes(contender: Contender, scene: Scene) -> int:
    """Float32 patches of every pixel: pixels x patch x patch x bands x 4 bytes."""
    patch = MODELS[contender.model].patch
    if contender.storage != "materialised" or patch is None:
        return 0
    rows, cols, bands = scene.shape
    return rows * cols * patch * patch * bands * 4


def assemble(
    plan: Plan, inputs: dict[str, Inputs], entries: Sequence[Entry], out: Path
) -> dict[str, Any]:
    """What ``comparison.json`` holds."""
    first = next(iter(inputs.values()))
    splits = [split_row(name, given.splits[0]) for name, given in inputs.items()]
    rows = [contender_row(entry, inputs[entry.split_name]) for entry in entries]
    differences = [
        row
        for name, given in inputs.items()
        if (row := difference_row(name, given, entries)) is not None
    ]
    equivalence = equivalence_row(plan, entries, out)
    return {
        "scene": Path(first.scenes[0].path).name,
        "command": plan.command,
        "seeds": plan.seeds,
        "class_names": list(first.class_names),
        "colours": [list(colour) for colour in first.colours],
        "environment": {**machine(), **versions()},
        "splits": splits,
        "contenders": rows,
        "equivalence": equivalence,
        "differences": differences,
        "interval_note": "Intervals: 95 %, paired bootstrap over fields (8-connected areas of one "
        f"label), all {plan.seeds} seeds of a contender together.",
        "patch_store": patch_store_row(plan, first.scenes[0], entries),
        "scaling": {"by_patch": [], "by_scene": []},
        "warnings": [w for row in splits if (w := leakage_warning(row)) is not None],
        "verdict": verdict(rows, differences),
    }


def split_row(name: str, split: Split) -> dict[str, Any]:
    """A split and its leakage, against the default model's receptive field."""
    spec = default_spec(DEFAULT_MODEL, 1, 1)
    return {
        "name": name,
        "recipe": split.recipe,
        "digest": split.digest,
        "n_train": split.n_train,
        "n_validation": split.n_validation,
        "n_test": split.n_test,
        "leakage": split.leakage(geometry(spec).receptive_field),
    }


def contender_row(entry: Entry, inputs: Inputs) -> dict[str, Any]:
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
        "patch_store_bytes": patch_store_bytes(contender, inputs.scenes[0]),
    }
    if not entry.results or entry.status != "done":
        return row
    split, n_classes = inputs.splits[0], len(inputs.class_names)
    truth = np.where(split.test, split.labels, 0)
    measured = [
        Accuracy.from_confusion(confusion_matrix(truth, labels, n_classes)) for labels in entry.maps
    ]
    for key in ("oa", "aa", "kappa"):
        values = [float(getattr(accuracy, key)) for accuracy in measured]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        row[key] = {"mean": float(np.mean(values)), "std": spread, "values": values}
    recalls = np.array([accuracy.recall for accuracy in measured])
    row["per_class_recall"] = {
        name: None if np.isnan(recalls[:, i]).all() else float(np.nanmean(recalls[:, i]))
        for i, name in enumerate(inputs.class_names)
    }
    row["confusion"] = measured[0].confusion[:, :n_classes].tolist()
    row["train_oa_curve"] = entry.results[0]["train_oa_curve"]
    for key in (
        "params",
        "train_seconds",
        "train_seconds_to_best",
        "predict_seconds",
        "peak_train_bytes",
        "peak_predict_bytes",
        "baseline_bytes",
        "train_baseline_bytes",
        "flops_train_step",
    ):
        row[key] = float(np.median([result[key] for result in entry.results]))
    rows, cols, _ = inputs.scenes[0].shape
    row["pixels_per_second"] = rows * cols / row["predict_seconds"]
    row["flops_predict"] = predict_flops(contender, inputs.scenes[0], n_classes)
    return row


def predict_flops(contender: Contender, scene: Scene, n_classes: int) -> int:
    """FLOPs of scoring every pixel of the scene, by PyTorch's counter."""
    import torch

    from hsifcn.measure import count_flops
    from hsifcn.models import scene_form

    rows, cols, bands = scene.shape
    spec = default_spec(contender.model, bands, n_classes)
    patch = MODELS[contender.model].patch
    with torch.device("meta"):
        network = build(spec).eval()
        if contender.storage == "scene" or patch is None:
            return count_flops(scene_form(network), torch.empty(1, bands, rows, cols))
        return rows * cols * count_flops(network, torch.empty(1, bands, patch, patch))


def difference_row(name: str, inputs: Inputs, entries: Sequence[Entry]) -> dict[str, Any] | None:
    """The default FCN against the patch CNN on one split; None where one of them is missing."""
    done = {e.contender.name: e for e in entries if e.split_name == name and e.status == "done"}
    patch = done.get("patch") or done.get("cast")
    fcn = done.get(DEFAULT_MODEL)
    if patch is None or fcn is None:
        return None
    split, n_classes = inputs.splits[0], len(inputs.class_names)
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
            for class_name, row in zip(inputs.class_names, found["per_class"], strict=True)
        },
    }


def equivalence_row(plan: Plan, entries: Sequence[Entry], out: Path) -> dict[str, Any] | None:
    """How alike the cast net and the patch CNN are, over all splits, and what the cast saves."""
    pairs = []
    for cast in entries:
        for patch in entries:
            if (
                cast.contender.name == "cast"
                and patch.contender.name == "patch"
                and cast.split_name == patch.split_name
                and cast.results
                and patch.results
            ):
                pairs.append((cast, patch))
    if not pairs:
        return None
    largest, equal, pixels = 0.0, 0, 0
    for cast, patch in pairs:
        for seed, ours, theirs in zip(
            range(plan.first_seed, plan.first_seed + plan.seeds), cast.maps, patch.maps, strict=True
        ):
            folder = out / "jobs" / cast.split_name
            a, b = np.load(folder / f"cast-{seed}.npy"), np.load(folder / f"patch-{seed}.npy")
            largest = max(largest, float(np.abs(a - b).max()))
            equal += int((ours == theirs).sum())
            pixels += ours.size
    medians = [
        [np.median([result[key] for result in entry.results]) for entry in pair]
        for pair in pairs
        for key in ("predict_seconds",)
    ]
    return {
        "max_abs_logit_difference": largest,
        "labels_equal": equal,
        "n_pixels": pixels,
        "speedup": float(np.median([theirs / ours for ours, theirs in medians])),
    }


def patch_store_row(plan: Plan, scene: Scene, entries: Sequence[Entry]) -> dict[str, Any] | None:
    """The arithmetic of materialised patches beside what was measured above the baseline."""
    measured = [
        entry.results[0]["peak_predict_bytes"] - entry.results[0]["baseline_bytes"]
        for entry in entries
        if entry.contender.storage == "materialised" and entry.results
    ]
    if not measured:
        return None
    rows, cols, bands = scene.shape
    return {
        "n_patches": rows * cols,
        "patch": plan.patch,
        "bands": bands,
        "bytes_per_value": 4,
        "measured_bytes": measured[0],
    }


def leakage_warning(split: dict[str, Any]) -> str | None:
    """Plain words where the accuracy of a split rests on leaked neighbours."""
    if split["leakage"]["test_touching"] <= TOUCHING:
        return None
    return (
        f"Split {split['name']} ({split['recipe']}): {leakage_sentence(split['leakage'])}. "
        "Its accuracies reward remembering neighbours; do not expect them on unseen fields."
    )


def verdict(rows: Sequence[dict[str, Any]], differences: Sequence[dict[str, Any]]) -> list[str]:
    """Two sentences with the numbers that the page shows; none where nothing was compared."""
    if not differences:
        return []
    gains = []
    for row in differences:
        gain = f"{row['split']}: OA {100 * row['oa_difference']:+.2f} points"
        if row["interval"]:
            low, high = row["interval"]
            gain += f" (95 % interval {100 * low:+.2f} to {100 * high:+.2f})"
            gain += "" if low > 0 or high < 0 else ", not told apart"
        gains.append(gain)
    by_name = {(row["name"], row["split"]): row for row in rows}
    first = differences[0]
    fcn, patch = by_name[first["a"], first["split"]], by_name[first["b"], first["split"]]
    fcn_memory, patch_memory = (
        f"{(row['peak_predict_bytes'] - row['baseline_bytes']) / 1e6:,.0f} MB"
        for row in (fcn, patch)
    )
    return [
        f"{fcn['label']} against the {patch['label']}: {'; '.join(gains)}.",
        f"Cost on {first['split']}: every pixel mapped in {fcn['predict_seconds']:.2f} s against "
        f"{patch['predict_seconds']:.1f} s, within {fcn_memory} against {patch_memory} above the "
        f"process's baseline; trained in {fcn['train_seconds']:.0f} s against "
        f"{patch['train_seconds']:.0f} s.",
    ]


def images(
    inputs: dict[str, Inputs], entries: Sequence[Entry], comparison: dict[str, Any]
) -> dict[str, npt.NDArray[np.uint8]]:
    """Pictures of the page: the scene, the ground truth, maps of the first seed, differences."""
    first = next(iter(inputs.values()))
    pictures = {
        "quicklook": rgb_quicklook(first.scenes[0]),
        "truth": label_image(first.labels[0].labels, first.colours),
    }
    maps = {(e.split_name, e.contender.name): e.maps[0] for e in entries if e.maps}
    for (split_name, name), labels in maps.items():
        pictures[f"map/{split_name}/{name}"] = label_image(labels, first.colours)
    for row in comparison["differences"]:
        split = inputs[row["split"]].splits[0]
        right = [maps[row["split"], row[side]] == split.labels for side in ("a", "b")]
        codes = np.select(
            [right[0] & right[1], right[0] & ~right[1], ~right[0] & right[1]], [1, 2, 3], default=4
        )
        pictures[f"difference/{row['split']}"] = label_image(
            np.where(split.test, codes, 0), tuple(DIFFERENCE_COLOURS.values())
        )
    return pictures
