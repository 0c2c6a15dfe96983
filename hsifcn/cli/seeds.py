"""``hsifcn train --seeds N``: the same training with several seeds, and what they give together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hsifcn.cli import options as opt
from hsifcn.core import formats

REPLACED = ("--seeds", "--seed", "-o", "--out")  # of the command, in that of each seed
COSTS = ("train_seconds", "predict_seconds", "peak_rss_bytes")


def train_with_seeds(
    output: opt.Output, folder: Path, first: int, seeds: int, *, resume: bool, overwrite: bool
) -> None:
    """Train with each seed in a process of its own, then write the tables.

    A run a seed goes to ``seed-0``, ``seed-1``, ... of the folder, as the command with that
    ``--seed`` alone makes it. What was done before is taken up with ``resume``.

    Raises
    ------
    ExistingOutputError
        The folder holds something, and it is neither to be resumed nor overwritten.
    """
    from hsifcn.cli.running import run_command
    from hsifcn.core.errors import ExistingOutputError
    from hsifcn.training.run_directory import read_metrics

    if folder.exists() and (not folder.is_dir() or (folder / "metrics.json").exists()):
        raise ExistingOutputError(f"{folder} is no folder of seeds", "choose another with -o")
    if folder.exists() and any(folder.iterdir()) and not (resume or overwrite):
        raise ExistingOutputError(
            f"{folder} exists", "add --resume to go on, --overwrite, or choose another with -o"
        )
    words = without_options(sys.argv[1:], REPLACED)
    numbers = range(first, first + seeds)
    runs = [folder / f"seed-{seed}" for seed in numbers]
    for place, (seed, run) in enumerate(zip(numbers, runs, strict=True), 1):
        output.message(f"seed {seed}, {place} of {seeds}: {run}")
        run_command(words, ["--seed", str(seed), "-o", str(run)])
    result = write_results(folder, list(numbers), runs, [read_metrics(run) for run in runs])
    output.result(summary(result), result)


def without_options(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """A command without some options and their values."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*kept, word, *rest]
        if word in names:
            next(rest, None)
        elif word.partition("=")[0] not in names:
            kept.append(word)
    return kept


def write_results(
    folder: Path, seeds: list[int], runs: list[Path], metrics: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write ``seeds.json`` and the tables; gives what the former holds."""
    from hsifcn.data.splits import leakage_sentence
    from hsifcn.evaluation.seeds import over_seeds, statistic
    from hsifcn.io.files import write_json
    from hsifcn.report.paper_tables import PaperTable, caption, write_paper_tables

    first = metrics[0]
    split = {key: first["split"][key] for key in ("recipe", "n_train", "n_test", "leakage")}
    split["digests"] = [row["split"]["digest"] for row in metrics]
    found = over_seeds(metrics)
    told = leakage_sentence(split["leakage"])
    text = caption(split["recipe"], len(seeds), "each of which draws split and weights", told)
    table = PaperTable(split["recipe"], text, {first["model"]: found})
    result = {
        "model": first["model"],
        "seeds": seeds,
        "runs": [str(run) for run in runs],
        "split": split,
        **found,
        **{key: statistic([row[key] for row in metrics]) for key in COSTS},
        "tables": write_paper_tables(folder, [table], overwrite=True),
    }
    write_json(folder / "seeds.json", result)
    return result


def summary(result: dict[str, Any]) -> str:
    """Mean and standard deviation of every figure, for people."""
    from hsifcn.cli import tables
    from hsifcn.data.splits import leakage_sentence

    keys = ("recall", "precision", "f1", "iou")
    rows = [
        (name, formats.count(row["n_test"]), *(formats.mean_sd(row[key]) for key in keys))
        for name, row in result["per_class"].items()
    ]
    columns = ("class", "test", "recall %", "precision %", "F1 %", "IoU %")
    seeds, split = result["seeds"], result["split"]
    facts = {
        "model": f"{result['model']}, seeds {seeds[0]} to {seeds[-1]}, each with its own split",
        "split": f"{split['recipe']}; of seed {seeds[0]} {leakage_sentence(split['leakage'])}",
        **{f"{key} %": formats.mean_sd(result[key]) for key in ("oa", "aa", "kappa")},
        "training": f"{formats.seconds(result['train_seconds']['mean'])} in the mean",
        "tables": ", ".join(result["tables"]),
    }
    names = {"oa %": "OA %", "aa %": "AA %"}
    named = {names.get(key, key): value for key, value in facts.items()}
    return f"{tables.table(columns, rows)}\n\n{tables.facts(named)}"
