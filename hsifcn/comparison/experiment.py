"""The experiment of the project: what a whole-scene FCN gives over a patch CNN.

Every contender trains and predicts in fresh processes on the same splits and seeds. Three things
that are usually mixed are told apart: how patches are stored (materialised against windowed), the
redundancy of overlapping patches (windowed against cast, which has the same weights and the same
scores) and the architecture (cast against FCN).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hsifcn.comparison.growth import by_patch, by_scene
from hsifcn.comparison.launcher import run_seed
from hsifcn.comparison.memory_check import misfit, used_shape
from hsifcn.comparison.plan import Contender, Plan, choose_contenders
from hsifcn.comparison.tables import Entry, assemble, images, split_folder
from hsifcn.core.errors import ExistingOutputError, FailedError
from hsifcn.data.dataset import Inputs, Labelling, open_inputs
from hsifcn.data.splits import write_split
from hsifcn.io.cache import state_of
from hsifcn.io.files import make_folder, write_json
from hsifcn.io.formats import split_variable
from hsifcn.report import write_comparison_report

Say = Callable[[str], None]


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
    chosen = choose_contenders(plan.contenders, plan.patch)
    labelling = Labelling(plan.class_names, plan.label_field, plan.all_touched)
    inputs = {
        name: open_inputs(
            [plan.scene],
            [plan.labels],
            recipe,
            plan.first_seed,
            wavelengths=plan.wavelengths,
            labelling=labelling,
            bands=plan.bands,
            keep_bad_bands=plan.keep_bad_bands,
        )
        for name, recipe in plan.splits.items()
    }
    prepare_folder(out, plan, resume=resume, overwrite=overwrite)
    entries = []
    for name, given in inputs.items():
        folder = split_folder(out, plan, name)
        folder.mkdir(parents=True, exist_ok=True)
        write_split(folder / "split.npz", given.splits[0], overwrite=True)
        for contender in chosen:
            entries.append(run_contender(contender, name, given, plan, folder, say))
    comparison = assemble(plan, inputs, entries, out)
    if plan.budget_seconds:
        comparison["scaling"] = growth(plan, next(iter(inputs.values())), entries, out, say)
    write_json(out / "comparison.json", comparison)
    write_comparison_report(
        out / "report.html", comparison=comparison, images=images(inputs, entries, comparison)
    )
    return comparison


def growth(plan: Plan, inputs: Inputs, entries: list[Entry], out: Path, say: Say) -> dict[str, Any]:
    """How cost and accuracy grow with the patch and with the scene, on the first split."""
    name = entries[0].split_name
    done = [e for e in entries if e.split_name == name and e.status == "done"]
    folder = split_folder(out, plan, name)
    bundles = {e.contender: folder / bundle_name(e.contender, plan) for e in done}
    half = plan.budget_seconds / 2
    return {
        "by_patch": by_patch(plan, inputs, folder, half, say),
        "by_scene": by_scene(plan, inputs, bundles, out / "jobs" / "mosaics", half, say),
    }


def bundle_name(contender: Contender, plan: Plan) -> str:
    """File of the weights that a contender predicts with, first seed."""
    return f"{contender.weights_of or contender.name}-{plan.first_seed}.safetensors"


def prepare_folder(out: Path, plan: Plan, *, resume: bool, overwrite: bool) -> None:
    """Make the folder ready; old results stay only for a plan that asks for the same.

    Raises
    ------
    ExistingOutputError
        It holds another comparison, or this one without ``resume`` or ``overwrite``.
    """
    record = out / "plan.json"
    wanted = {key: value for key, value in asdict(plan).items() if key != "command"}
    states = [state_of(split_variable(path)[0]) for path in (plan.scene, plan.labels)]
    wanted["files"] = [[state.size, state.mtime_ns] for state in states]  # may move, not change
    wanted = json.loads(json.dumps(wanted))
    if resume and record.exists() and json.loads(record.read_text("utf-8")) == wanted:
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not overwrite:
        raise ExistingOutputError(
            f"{out} exists", "add --overwrite, --resume (same options) or choose another -o"
        )
    make_folder(out)
    for old in (out / "jobs").glob("*/*.result.json"):
        old.unlink()
    write_json(record, wanted)


def run_contender(
    contender: Contender, split_name: str, inputs: Inputs, plan: Plan, folder: Path, say: Say
) -> Entry:
    """Train and predict with every seed; a job that fails leaves a reason in place of figures."""
    entry = Entry(contender, split_name)
    reason = why_skipped(contender, split_name, inputs, plan)
    if reason is not None:
        entry.status, entry.reason = "skipped", reason
        say(f"{split_name}: {contender.label} skipped, {reason}")
        return entry
    try:
        for seed in seeds_of(contender, plan):
            say(f"{split_name}, seed {seed}: {contender.label}")
            own = f"{contender.name}-{seed}"
            entry.results.append(run_seed(contender, own, seed, inputs, plan, folder))
            entry.maps.append(np.load(folder / f"{own}-map.npy"))
    except FailedError as error:
        entry.status, entry.reason = "failed", error.message
        say(f"{split_name}: {contender.label} failed: {error.message}")
    return entry


def why_skipped(contender: Contender, split_name: str, inputs: Inputs, plan: Plan) -> str | None:
    """Why a contender is left out on a split; None where it takes part."""
    measured_on = next(iter(plan.splits))
    if contender.storage == "materialised" and split_name != measured_on:
        return (
            "the weights and labels of the windowed form, whose row holds; what storing the "
            f"patches costs was measured on split {measured_on}"
        )
    device = "cpu" if contender.kind == "classical" else plan.device
    shape = used_shape(inputs.scenes[0])
    return misfit(contender, shape, len(inputs.class_names), device, plan.max_memory)


def seeds_of(contender: Contender, plan: Plan) -> range:
    """The seeds that a contender runs with.

    One for an SVM, which has no chance in it, and for materialised patches, which have the weights
    of windowed ones: one shows their memory and time.
    """
    once = contender.storage == "materialised" or contender.model.startswith("svm")
    return range(plan.first_seed, plan.first_seed + (1 if once else plan.seeds))
