"""What ``hsifcn predict`` does and tells where there are many scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsifcn.cli.options import Output
from hsifcn.core import formats

if TYPE_CHECKING:
    from hsifcn.inference.campaign.run import Campaign, Ways
    from hsifcn.inference.predict import PredictOptions

FEW = 8  # scenes named one by one that are still mapped one after the other
SHOWN = 20  # failed scenes that are told at the end


@dataclass(frozen=True)
class Asked:
    """The options of ``hsifcn predict`` that tell what is made of each scene."""

    out: str | None
    suffix: str | None
    options: PredictOptions
    polygons: str | None
    min_size: int
    stac: bool
    wavelengths: str | None
    nodata: float | None


def is_campaign(paths: Sequence[str], out: str | None, ways: Ways) -> bool:
    """Whether there are many scenes: a list, a folder or pattern of several, or many names."""
    from hsifcn.inference.campaign.run import Ways
    from hsifcn.inference.campaign.scene_list import LIST_MARK
    from hsifcn.inference.targets import is_model
    from hsifcn.io.finding import scene_files

    scenes = paths[1:] if paths and is_model(paths[0]) else paths
    if ways != Ways() or any(path.startswith(LIST_MARK) for path in scenes):
        return True
    found = [scene_files(path) for path in scenes]
    if sum(1 if files is None else len(files) for files in found) > FEW:
        return True
    into_file = out is not None and Path(out).suffix != "" and not Path(out).is_dir()
    return not into_file and any(len(files) > 1 for files in found if files is not None)


def predict_many(output: Output, paths: Sequence[str], asked: Asked, ways: Ways) -> None:
    """Map many scenes into a folder; exit code 1 where some failed."""
    from hsifcn.cli.progress import scenes_progress
    from hsifcn.core.errors import FailedError
    from hsifcn.inference.campaign.run import map_scenes

    campaign = make_campaign(paths, asked)
    output.message(f"model: {campaign.model}")
    with scenes_progress(output) as on_entry:
        summary = map_scenes(campaign, ways, output.message, on_entry)
    tell_warnings(output, summary)
    output.result(summary_text(summary, campaign.folder), summary)
    failed = summary["totals"]["failed"]
    if failed:
        raise FailedError(
            f"{failed} of {summary['totals']['scenes']} scenes failed",
            "put right what is told above, then give the command again with --retry-failed",
        )


def make_campaign(paths: Sequence[str], asked: Asked) -> Campaign:
    """Make out model and scenes; see ``targets.choose_targets``."""
    from hsifcn.core.errors import SettingError
    from hsifcn.inference.bundle import load_model
    from hsifcn.inference.campaign.run import Campaign
    from hsifcn.inference.campaign.scene_list import expand, make_tasks
    from hsifcn.inference.targets import choose_model, choose_polygons, is_model

    scenes = expand(paths[1:] if paths and is_model(paths[0]) else paths)
    if not scenes:
        raise SettingError("no scene is named", "name scenes, a folder, a pattern or @list.txt")
    folder = Path(asked.out or ".")
    suffix = asked.suffix or ".img"
    polygons = asked.polygons is not None
    tasks = make_tasks(scenes, folder, suffix, polygons=polygons)
    choose_polygons([Path(task.map) for task in tasks], asked.polygons)
    model = choose_model(paths)
    return Campaign(
        model=model,
        bundle=load_model(model),
        folder=folder,
        tasks=tuple(tasks),
        options=asked.options,
        suffix=suffix,
        wavelengths=asked.wavelengths,
        nodata=asked.nodata,
        polygons=polygons,
        min_size=asked.min_size,
        stac=asked.stac,
    )


def assemble(output: Output, paths: Sequence[str], out: str | None) -> None:
    """Tell what shards did, and what is missing; exit code 1 where something is."""
    from hsifcn.core.errors import FailedError, SettingError
    from hsifcn.inference.campaign import run

    if paths or out is None:
        raise SettingError(
            "--assemble takes the folder of the maps alone", "hsifcn predict --assemble -o maps"
        )
    summary = run.assemble(Path(out))
    output.result(summary_text(summary, Path(out)), summary)
    totals = summary["totals"]
    if summary["missing_shards"]:
        numbers = ",".join(map(str, summary["missing_shards"]))
        raise FailedError(f"shards {numbers} left nothing in {out}", "run them: --array " + numbers)
    if totals["missing"] or totals["failed"]:
        raise FailedError(
            f"{totals['missing']} of {totals['scenes']} scenes are missing, "
            f"{totals['failed']} failed",
            "give the command of the shards again, with --retry-failed for those that failed",
        )


def tell_warnings(output: Output, summary: dict[str, Any]) -> None:
    """Tell how many scenes were mapped with warnings; which, with ``--verbose``."""
    told = summary["warnings"]
    for entry in told:
        for warning in entry["warnings"]:
            output.detail(f"warning: {entry['scene']}: {warning}")
    if told and not output.verbose:
        output.message(
            f"warning: mapped with warnings: {len(told)} of the scenes; --verbose tells which"
        )


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
        lines = [counts_table(totals["counts"], summary["class_names"]), "", *lines]
    for name, title in (("failed", "failed"), ("left_out", "left out")):
        told = summary[name]
        lines += [f"{title}: {cause_line(entry)}" for entry in told[:SHOWN]]
        if len(told) > SHOWN:
            lines.append(f"{title}: {len(told) - SHOWN} more in {folder / 'summary.json'}")
    missing = summary["missing"]
    lines += [f"missing: {name}" for name in missing[:SHOWN]]
    if len(missing) > SHOWN:
        lines.append(f"missing: {len(missing) - SHOWN} more in {folder / 'summary.json'}")
    lines.append(f"maps: {folder} ({formats.seconds(totals['seconds'])} of work)")
    return "\n".join(lines)
