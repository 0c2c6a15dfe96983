"""What ``hsifcn predict`` tells of many scenes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hsifcn.cli.options import Output
from hsifcn.core import formats

SHOWN = 20  # failed scenes that are told at the end
KINDS = 8  # of warnings


def tell_warnings(output: Output, summary: dict[str, Any]) -> None:
    """Tell each kind of warning once, with the number of scenes; with ``--verbose`` all of them.

    Warnings that differ in numbers and in the name of the scene alone are of one kind.
    """
    told = summary["warnings"]
    kinds: dict[str, list[tuple[str, str]]] = {}
    for entry in told:
        scene = entry["scene"]
        for warning in entry["warnings"]:
            output.detail(f"warning: {scene}: {warning.removeprefix(f'{scene}: ')}")
            text = warning.replace(f"{scene}: ", "").replace(scene, Path(scene).name)
            kind = re.sub(r"\d[\d.,]*", "#", text.replace(Path(scene).stem, ""))
            kinds.setdefault(kind, []).append((scene, text))
    if output.verbose:
        return
    for found in list(kinds.values())[:KINDS]:
        scenes = len({scene for scene, _ in found})
        scene, text = found[0]
        name = Path(scene).name
        whose = name if scenes == 1 else f"{scenes:,} scenes, {name} among them"
        output.message(f"warning: {whose}: {text}")
    if len(kinds) > KINDS:
        output.message(f"warning: {len(kinds) - KINDS} kinds of warnings more")
    if kinds:
        output.message("--verbose tells the warnings of every scene")


def count(number: int, what: str) -> str:
    """``1 scene``, ``12 scenes``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def summary_text(summary: dict[str, Any], folder: Path) -> str:
    """Pixels of each class in all maps, what became of the scenes, and where the maps are."""
    from hsifcn.cli.progress import cause_line
    from hsifcn.cli.tables import counts_table

    totals = summary["totals"]
    parts = [f"mapped {totals['mapped']}"]
    parts += [
        f"{key.replace('_', ' ')} {totals[key]}"
        for key in ("failed", "left_out", "missing")
        if totals[key]
    ]
    lines = [f"scenes {totals['scenes']}: {', '.join(parts)}"]
    if totals["pixels"]:
        table = counts_table(totals["counts"], summary["class_names"], totals["hectares"])
        lines = [table, "", *lines]
    for name, title in (("failed", "failed"), ("left_out", "left out")):
        lines += some([f"{title}: {cause_line(entry)}" for entry in summary[name]], title, folder)
    lines += some([f"missing: {name}" for name in summary["missing"]], "missing", folder)
    lines.append(f"maps: {folder} ({formats.seconds(totals['seconds'])} of work)")
    if "mosaic" in summary:
        lines += ["", mosaic_text(summary["mosaic"], summary["class_names"], folder)]
    return "\n".join(lines)


def some(lines: Sequence[str], title: str, folder: Path) -> list[str]:
    """The first of some lines, and how many more there are."""
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"{title}: {more} more in {folder / 'summary.json'}"] * (more > 0))]


def mosaic_text(mosaic: dict[str, Any], class_names: Sequence[str], folder: Path) -> str:
    """Pixels of each class in a mosaic, where it is, and what it is made of."""
    from hsifcn.cli.tables import counts_table

    rows, cols = mosaic["shape"]
    files = mosaic["path"] + (f", {mosaic['overlaps']}" if mosaic["overlaps"] else "")
    lines = ["in the mosaic, where maps that overlap count once:"]
    lines.append(counts_table(mosaic["counts"], class_names, mosaic["hectares"]))
    left_out = [
        f"left out of the mosaic: {entry['map']}, {entry['cause']}" for entry in mosaic["left_out"]
    ]
    lines += ["", *some(left_out, "left out of the mosaic", folder)]
    if mosaic["moved"] > 0.01:
        lines.append(f"moved to the pixels of the mosaic by up to {mosaic['moved']:.2f} pixels")
    unchanged = "; it is that very one already" if mosaic["unchanged"] else ""
    size = f"{count(mosaic['maps'], 'map')}, {rows:,} x {cols:,} pixels"
    lines.append(f"mosaic: {files} ({size}){unchanged}")
    return "\n".join(lines)
