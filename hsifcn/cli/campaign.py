"""What ``hsifcn predict`` does where there are many scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsifcn.cli.campaign_text import summary_text, tell_warnings
from hsifcn.cli.options import Output

if TYPE_CHECKING:
    from hsifcn.inference.campaign.run import Campaign, Ways
    from hsifcn.inference.predict import PredictOptions

FEW = 8  # scenes named one by one that are still mapped one after the other


@dataclass(frozen=True)
class Asked:
    """The options of ``hsifcn predict`` that tell what is made of each scene, and of all."""

    out: str | None
    suffix: str | None
    options: PredictOptions
    polygons: str | None
    min_size: int
    stac: bool
    wavelengths: str | None
    nodata: float | None
    mosaic: str | None = None
    allow_remote: bool = False


def is_campaign(paths: Sequence[str], out: str | None, ways: Ways) -> bool:
    """Whether there are many scenes: a list, a folder or pattern of several, or many names.

    Several scenes of which one is at an address are many, too: each is copied when it is its turn.
    """
    from hsifcn.inference.campaign.run import Ways
    from hsifcn.inference.campaign.scene_list import LIST_MARK
    from hsifcn.inference.targets import is_model
    from hsifcn.io.addresses import is_address
    from hsifcn.io.finding import scene_files

    scenes = paths[1:] if paths and is_model(paths[0]) else paths
    if ways != Ways() or any(path.startswith(LIST_MARK) for path in scenes):
        return True
    if any("*" in path or len(scenes) > 1 for path in scenes if is_address(path)):
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

    if asked.mosaic is not None:
        asked = with_confidence(output, asked, ways)
    campaign = make_campaign(paths, asked)
    check_mosaic(campaign, asked.mosaic)
    output.message(f"model: {campaign.model}")
    with scenes_progress(output) as on_entry:
        summary = map_scenes(campaign, ways, output.message, on_entry)
    tell_warnings(output, summary)
    show(output, summary, campaign.folder, asked.mosaic, overwrite=asked.options.overwrite)
    failed = summary["totals"]["failed"]
    if failed:
        raise FailedError(
            f"{failed} of {summary['totals']['scenes']} scenes failed",
            "put right what is told above, then give the command again with --retry-failed",
        )


def with_confidence(output: Output, asked: Asked, ways: Ways) -> Asked:
    """Have the confidence written by which a mosaic is made; SettingError where none can be.

    Where maps are there without it, the others are made as these are.
    """
    from hsifcn.core.errors import SettingError
    from hsifcn.inference.campaign.manifest import read_records
    from hsifcn.inference.campaign.mosaic import PLACED

    if ways.shard is not None:
        raise SettingError(
            "--mosaic joins the maps of all shards",
            "give the shards --confidence, and --assemble the --mosaic",
        )
    if asked.suffix not in (None, *PLACED):
        raise SettingError(f"{asked.suffix} has no place for a georeference", "add -f gtiff")
    records = read_records(Path(asked.out or "."))
    without = any(r.entries and not r.header["options"].get("confidence") for r in records)
    if asked.options.confidence or (without and not asked.options.overwrite):
        return asked
    output.message("--mosaic writes the confidence of each map, too: it decides overlaps")
    return replace(asked, options=replace(asked.options, confidence=True))


def make_campaign(paths: Sequence[str], asked: Asked) -> Campaign:
    """Make out model and scenes; see ``targets.choose_targets``."""
    from hsifcn.core.errors import SettingError
    from hsifcn.inference.bundle import load_model
    from hsifcn.inference.campaign.mosaic import is_mosaic
    from hsifcn.inference.campaign.run import Campaign
    from hsifcn.inference.campaign.scene_list import expand, make_tasks
    from hsifcn.inference.targets import choose_model, choose_polygons, is_model
    from hsifcn.io.table import is_raster

    given = paths[1:] if paths and is_model(paths[0]) else paths
    named = expand(given, allow_remote=asked.allow_remote)
    scenes = [(scene, found) for scene, found in named if not (found and is_mosaic(Path(scene)))]
    if not scenes:
        raise SettingError("no scene is named", "name scenes, a folder, a pattern or @list.txt")
    folder = Path(asked.out or ".")
    if not folder.is_dir() and (folder.exists() or is_raster(str(folder))):
        raise SettingError(f"-o {folder} is one file for many scenes", "name a folder")
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


def check_mosaic(campaign: Campaign, mosaic: str | None) -> None:
    """Raise, before the work starts, where a mosaic would replace what it may not."""
    from hsifcn.inference.campaign.run import mark_scenes, wanted_mosaic
    from hsifcn.io.files import require_folder

    if mosaic is None:
        return
    path = mosaic_path(mosaic, campaign.folder)
    if path.parent.absolute() != campaign.folder.absolute():
        require_folder(path)
    mark_scenes(campaign.model, [task.scene for task in campaign.tasks])
    wanted = wanted_mosaic(path, campaign.header(), overwrite=campaign.options.overwrite)
    wanted.require_free()
    wanted.require_apart([Path(task.map) for task in campaign.tasks])


def mosaic_path(mosaic: str, folder: Path) -> Path:
    """The file of the mosaic: as named, else in the folder of the maps."""
    from hsifcn.inference.campaign.mosaic import NAME

    return Path(mosaic) if mosaic else folder / NAME


def show(
    output: Output, summary: dict[str, Any], folder: Path, mosaic: str | None, *, overwrite: bool
) -> None:
    """Print a summary, with the mosaic where one is wanted; without it too if that cannot be."""
    from hsifcn.inference.campaign.run import add_mosaic

    try:
        if mosaic is not None:
            path = mosaic_path(mosaic, folder)
            add_mosaic(summary, folder, path, overwrite=overwrite, tell=output.message)
    finally:
        output.result(summary_text(summary, folder), summary)


def assemble(
    output: Output, paths: Sequence[str], out: str | None, mosaic: str | None, *, overwrite: bool
) -> None:
    """Tell what shards did, and what is missing; exit code 1 where something is."""
    from hsifcn.core.errors import FailedError, SettingError
    from hsifcn.inference.campaign import run

    if paths or out is None:
        raise SettingError(
            "--assemble takes the folder of the maps alone", "hsifcn predict --assemble -o maps"
        )
    summary = run.assemble(Path(out))
    tell_warnings(output, summary)
    show(output, summary, Path(out), mosaic, overwrite=overwrite)
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
