"""Runs the comparison of the project: what a whole-scene FCN gives over a patch CNN.

Every contender trains and predicts in fresh processes on the same splits and seeds. Three things
that are usually mixed are told apart: how patches are stored (materialised against windowed), the
redundancy of overlapping patches (windowed against cast, which has the same weights and the same
scores) and the architecture (cast against FCN).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hsifcn.comparison.experiment import (
    Case,
    Contender,
    Experiment,
    choose_contenders,
    require_sound_plugins,
)
from hsifcn.comparison.growth import by_patch, by_scene
from hsifcn.comparison.launcher import OpenCase, run_seed
from hsifcn.comparison.tables import Entry, assemble, case_folder, images, paper_tables, used_shape
from hsifcn.core.errors import ExistingOutputError, FailedError, MemoryCeilingError, SplitError
from hsifcn.data.dataset import Dataset, Labelling, open_dataset
from hsifcn.data.splits import write_split
from hsifcn.io.cache import state_of
from hsifcn.io.files import make_folder, write_json
from hsifcn.io.formats import split_variable
from hsifcn.report import write_comparison_report
from hsifcn.report.learning_curve import write_validation_curves
from hsifcn.report.paper_tables import write_paper_tables

Say = Callable[[str], None]


def compare(
    experiment: Experiment,
    out: Path,
    *,
    say: Say = lambda text: None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Run the comparison; writes ``comparison.json`` and ``report.html`` into ``out``.

    Parameters
    ----------
    experiment : Experiment
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
    chosen = choose_contenders(experiment.contenders, experiment.patch)
    datasets = open_datasets(experiment)
    for dataset in datasets.values():
        require_sound_plugins(chosen, used_shape(dataset.scenes[0]), dataset.n_classes)
    prepare_folder(out, experiment, resume=resume, overwrite=overwrite)
    entries: list[Entry] = []
    for case in experiment.cases:
        folder = case_folder(out, experiment, case.name)
        folder.mkdir(parents=True, exist_ok=True)
        opened = OpenCase(case, experiment, datasets[case.name], folder)
        write_split(folder / "split.npz", opened.dataset.splits[0], overwrite=True)
        entries += run_case(chosen, opened, say)
    comparison = assemble(experiment, datasets, entries, out)
    if experiment.budget_seconds:
        case = experiment.cases[0]
        folder = case_folder(out, experiment, case.name)
        opened = OpenCase(case, experiment, datasets[case.name], folder)
        comparison["scaling"] = growth(opened, entries, out / "jobs" / "mosaics", say)
    write_paper_tables(out, paper_tables(comparison), overwrite=True)
    write_validation_curves(out, comparison["contenders"])
    write_json(out / "comparison.json", comparison)
    write_comparison_report(
        out / "report.html", comparison=comparison, images=images(datasets, entries, comparison)
    )
    return comparison


def open_datasets(experiment: Experiment) -> dict[str, Dataset]:
    """The scene with the labels and the split of each case, by name of the case.

    Raises
    ------
    SplitError
        A split has no test pixels.
    """
    labelling = Labelling(experiment.class_names, experiment.label_field, experiment.all_touched)
    datasets = {
        case.name: open_dataset(
            [experiment.scene],
            [experiment.labels],
            case.recipe,
            experiment.first_seed,
            wavelengths=experiment.wavelengths,
            nodata=experiment.nodata,
            labelling=labelling,
            bands=experiment.bands,
            keep_bad_bands=experiment.keep_bad_bands,
        )
        for case in experiment.cases
    }
    for name, dataset in datasets.items():
        if not dataset.splits[0].n_test:
            raise SplitError(f"split {name} tests nothing", "compare on a split with test pixels")
    return datasets


def growth(opened: OpenCase, entries: list[Entry], mosaics: Path, say: Say) -> dict[str, Any]:
    """How cost and accuracy grow with the patch and with the scene, in the first case."""
    name, experiment = opened.case.name, opened.experiment
    done = [e for e in entries if e.split_name == name and e.status == "done"]
    bundles = {e.contender: opened.folder / bundle_name(e.contender, experiment) for e in done}
    half = experiment.budget_seconds / 2
    return {
        "by_patch": by_patch(opened, half, say),
        "by_scene": by_scene(experiment, opened.dataset, bundles, mosaics, half, say),
    }


def bundle_name(contender: Contender, experiment: Experiment) -> str:
    """File of the weights that a contender predicts with, first seed."""
    return f"{contender.weights_of or contender.name}-{experiment.first_seed}.safetensors"


def prepare_folder(out: Path, experiment: Experiment, *, resume: bool, overwrite: bool) -> None:
    """Make the folder ready; old results stay only for an experiment that asks for the same.

    Raises
    ------
    ExistingOutputError
        It holds another comparison, or this one without ``resume`` or ``overwrite``.
    """
    record = out / "experiment.json"
    wanted = {key: value for key, value in asdict(experiment).items() if key != "command"}
    states = [state_of(split_variable(path)[0]) for path in (experiment.scene, experiment.labels)]
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


def run_case(contenders: Sequence[Contender], opened: OpenCase, say: Say) -> list[Entry]:
    """Train and predict every contender in one case; one that fails leaves the others standing."""
    entries: dict[str, Entry] = {}
    case = opened.case
    for contender in contenders:
        entry = entries[contender.name] = Entry(contender, case.name)
        source = entries.get(contender.weights_of or "")
        if source is not None and source.status != "done":
            entry.status, entry.reason = source.status, f"it takes the weights of {source.name}"
        else:
            reason = why_skipped(contender, case, opened.experiment)
            entry.status, entry.reason = ("skipped", reason) if reason else ("done", None)
        if entry.status == "done":
            run_contender(entry, opened, say)
        if entry.status != "done":
            say(f"{case.name}: {contender.label} {entry.status}: {entry.reason}")
    return list(entries.values())


def run_contender(entry: Entry, opened: OpenCase, say: Say) -> None:
    """Train and predict with every seed; fills ``entry`` with results, or with a reason.

    The first seed finds out after how many steps a network no longer gains; the others take these.
    """
    contender, experiment = entry.contender, opened.experiment
    steps = experiment.steps_of(contender)
    try:
        for seed in seeds_of(contender, experiment):
            say(f"{entry.split_name}, seed {seed}: {contender.label}")
            stem = f"{entry.name}-{seed}"
            result = run_seed(contender, stem, seed, opened, steps)
            steps = result.get("steps", steps)
            entry.results.append(result)
            entry.maps.append(np.load(opened.folder / f"{stem}-map.npy"))
    except MemoryCeilingError as error:
        entry.status, entry.reason = "skipped", str(error)
    except FailedError as error:
        entry.status, entry.reason = "failed", error.message


def why_skipped(contender: Contender, case: Case, experiment: Experiment) -> str | None:
    """Why a contender is left out in a case; None where it takes part."""
    first = experiment.cases[0]
    if contender.storage == "materialised" and case != first:
        return (
            "the weights and labels of the windowed form, whose row holds; what storing the "
            f"patches costs was measured on split {first.name}"
        )
    alone = next((c for c in experiment.cases if c.regime == "labels-alone"), None)
    if contender.kind == "classical" and case.regime != "labels-alone" and alone is not None:
        return "it learns from labels alone, so its rows without pseudo-labels hold"
    return None


def seeds_of(contender: Contender, experiment: Experiment) -> range:
    """The seeds that a contender runs with.

    One for an SVM, which has no chance in it, and for materialised patches, which have the weights
    of windowed ones: one shows their memory and time.
    """
    once = contender.storage == "materialised" or contender.model.startswith("svm")
    return range(experiment.first_seed, experiment.first_seed + (1 if once else experiment.seeds))
