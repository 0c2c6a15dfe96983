"""Options of ``hsifcn predict`` that travel as one value: how a scene is mapped, how many are."""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import Any

import click

from hsifcn.cli import options as opt


def map_options(command: opt.Command) -> opt.Command:
    """Add the options of how a scene is mapped; the command gets them as ``PredictOptions``."""

    @opt.options(
        click.option(
            "--adapt", is_flag=True,
            help="Undo light and instrument of a new scene, as far as they differ from the "
            "training's.",
        ),
        click.option(
            "--confidence", is_flag=True,
            help="Write the probability of the class of each pixel, in per cent, and how unlike "
            "what was labelled it is.",
        ),
        click.option(
            "--probabilities", is_flag=True,
            help="Write the probability of every class, and the margin.",
        ),
        click.option(
            "--min-confidence", "--reject", "min_confidence", type=float, default=0.0,
            metavar="P", help="Leave pixels under this probability unclassified.",
        ),
        opt.refine,
        click.option("--approximate", is_flag=True, help="Allow what is not exact in tiles."),
        click.option(
            "--resample", is_flag=True,
            help="Mix the bands of another sensor to those of the model.",
        ),
        click.option(
            "--precision", type=click.Choice(["auto", "float32"]), default="auto",
            show_default=True,
            help="auto: bfloat16 where the processor multiplies it and the labels stay the same.",
        ),
        opt.max_memory,
        opt.device,
        opt.overwrite,
    )  # fmt: skip
    @functools.wraps(command)
    def wrapper(*arguments: Any, **given: Any) -> Any:
        from hsifcn.core.process import ask_for_huge_pages, load_torch

        ask_for_huge_pages()  # before PyTorch is loaded
        load_torch()
        from hsifcn.inference.predict import PredictOptions

        given["device"] = opt.choose_device(given["device"])
        options = PredictOptions(
            **{field.name: given.pop(field.name) for field in fields(PredictOptions)}
        )
        return command(*arguments, options=options, **given)

    return wrapper


def campaign_options(command: opt.Command) -> opt.Command:
    """Add the options of how many scenes are mapped; the command gets them as ``Ways``."""

    @opt.options(
        click.option(
            "--workers", type=click.IntRange(1), metavar="N",
            help="Processes that map many scenes side by side; else as cores and memory allow.",
        ),
        click.option(
            "--shard", metavar="I/N", help="Map only every N-th scene from the I-th on: 3/100."
        ),
        click.option(
            "--assemble", is_flag=True,
            help="Join what shards told in the folder OUT, and tell what is missing.",
        ),
        click.option(
            "--scheduler", metavar="ADDRESS",
            help="Map the scenes on the Dask cluster of this scheduler: tcp://host:8786.",
        ),
        click.option(
            "--retry-failed", is_flag=True, help="Try scenes again that failed in an earlier run."
        ),
        click.option(
            "--mosaic", is_flag=False, flag_value="", metavar="[FILE]",
            help="Join all maps in one raster (.tif, or .vrt that names them), by the highest "
            "confidence where they overlap; OUT/mosaic.tif without FILE.",
        ),
    )  # fmt: skip
    @functools.wraps(command)
    def wrapper(
        *arguments: Any,
        workers: int | None,
        shard: str | None,
        scheduler: str | None,
        retry_failed: bool,
        **others: Any,
    ) -> Any:
        from hsifcn.core.errors import SettingError
        from hsifcn.inference.campaign.run import Ways
        from hsifcn.inference.campaign.scene_list import Shard

        if scheduler is not None and (workers is not None or shard is not None):
            raise SettingError("--scheduler has its own workers", "leave out --workers and --shard")
        ways = Ways(Shard.parse(shard) if shard else None, scheduler, workers, retry_failed)
        return command(*arguments, ways=ways, **others)

    return wrapper
