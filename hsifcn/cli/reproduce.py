"""``hsifcn reproduce``: run the command of a run again and compare what came out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from hsifcn.cli import options as opt
from hsifcn.core import formats

SHOWN = 5  # figures that differ; all are in the JSON


@opt.command("reproduce runs/cube", "reproduce runs/cube -o runs/cube-on-the-server")
@click.argument("run")
@click.option("-o", "--out", metavar="DIR", help="Folder of the new run; RUN-again by default.")
@click.option(
    "--folder", metavar="DIR",
    help="What paths of the command are relative to; where it was given by default.",
)  # fmt: skip
@opt.options(opt.overwrite, opt.common)
def command(
    output: opt.Output, run: str, out: str | None, folder: str | None, overwrite: bool
) -> None:
    """Run a run's command again; tell whether weights, map and figures are the same.

    RUN is a finished run of 'hsifcn train', or a comparison. What differs is named, and why it may.
    The exit code is 1 where something differs.
    """
    from hsifcn.cli.running import run_command
    from hsifcn.comparison.reproduction import compare_runs, recorded_command
    from hsifcn.core.errors import ExistingOutputError, FailedError, SettingError

    found = recorded_command(Path(run))
    if folder:
        found = replace(found, folder=folder)
    again = Path(out) if out else Path(run).with_name(f"{Path(run).resolve().name}-again")
    if again.exists() and again.samefile(run):
        raise click.UsageError("-o names the run itself: choose another folder")
    if again.exists() and not overwrite:
        raise ExistingOutputError(f"{again} exists", "add --overwrite or choose another -o")
    if not Path(found.folder).is_dir():
        raise SettingError(
            f"{found.folder}, where the command was given, is not there",
            "name with --folder what its paths are relative to",
        )
    output.message(f"in {found.folder}: {found}")
    added = ["-o", str(again.absolute()), *["--overwrite"] * overwrite, *["-q"] * output.quiet]
    run_command(found.words, added, folder=found.folder, threads=found.threads)
    result = compare_runs(Path(run), again)
    output.result(summary(result), result)
    if not result["same"]:
        raise FailedError(f"{again} differs from {run}")


def summary(result: dict[str, Any]) -> str:
    """What is the same and what differs, for people."""
    from hsifcn.cli import tables

    facts = {
        "weights": parts_fact(result["weights"]),
        "maps": parts_fact(result["maps"]),
        "figures": figures_fact(result),
    }
    if not result["same"]:
        unknown = "nothing that runs record: the code, or the order of sums on this device"
        facts["may be due to"] = "; ".join(result["causes"]) or unknown
    facts["runs"] = f"{result['run']}, {result['again']}"
    return tables.facts(facts)


def parts_fact(rows: list[dict[str, Any]]) -> str:
    """Whether all weights, or all maps, are the same; names those that differ."""
    if not rows:
        return "not compared: one of the two runs tells no digest"
    differing = [row for row in rows if not row["same"]]
    if not differing:
        digest = f" (digest {rows[0]['digest']})" if len(rows) == 1 else f" ({len(rows)})"
        return f"the same{digest}"
    told = []
    for row in differing[:SHOWN]:
        largest = row.get("largest_difference")
        text = "" if largest is None else f" by {formats.significant(largest)} at most"
        told.append(f"{row['name']} differs{text}")
    return f"{len(differing)} of {len(rows)} differ: {', '.join(told)}"


def figures_fact(result: dict[str, Any]) -> str:
    """Whether all figures are the same; some of those that differ."""
    differing = result["figures"]
    if not differing:
        return f"the same ({result['n_figures']} values)"
    shown = [
        f"{row['name']} {short(row['value'])}, now {short(row['value_again'])}"
        for row in sorted(differing, key=lambda row: row["name"].count("."))
        if not isinstance(row["value"], list)
    ]
    told = f": {'; '.join(shown[:SHOWN])}" if shown else ""
    return f"{len(differing)} of {result['n_figures']} values differ{told}"


def short(value: object) -> str:
    """A value of few characters."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
