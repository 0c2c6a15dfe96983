"""Training several networks on the same scenes, and one bundle of all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import Scene
from hsifcn.data.splits import Split
from hsifcn.inference.bundle import Bundle, load_model
from hsifcn.io.files import atomic_write
from hsifcn.training.loop import STATE, Progress
from hsifcn.training.memory_plan import TrainingPlan
from hsifcn.training.settings import Settings
from hsifcn.training.train import Trained, train
from hsifcn.training.training_job import Announce

SEED_STEP = 1000  # between the seeds of members, so that those of neighbouring runs differ


def train_ensemble(
    scenes: Sequence[Scene],
    splits: Sequence[Split],
    settings: Settings,
    members: int,
    *,
    progress: Progress = lambda step, loss, validation_oa: None,
    announce: Announce = lambda plan: None,
    checkpoint: Path | None = None,
    resume: bool = False,
    **options: Any,
) -> Trained:
    """Train ``members`` networks that differ in their seeds, one after the other.

    Parameters are those of ``training.train``. A finished member is kept in ``checkpoint``, so that
    a resumed run goes on with the next. Log, best step and seconds count on from member to member.
    ``announce`` is told the plan of the first that is trained: the others have the same.
    """
    finished: list[Trained] = []
    for number in range(members):
        first = number * settings.steps
        own = replace(settings, seed=settings.seed + SEED_STEP * number)
        stem = checkpoint / f"member-{number}" if checkpoint and members > 1 else None
        kept = take_up(stem, own, splits) if stem and resume else None
        if kept is not None:
            finished.append(kept)
            continue

        def count_on(
            step: int, loss: float, validation_oa: float | None, first: int = first
        ) -> None:
            progress(first + step, loss, validation_oa)

        trained = train(
            scenes,
            splits,
            own,
            progress=count_on,
            announce=announce,
            checkpoint=checkpoint,
            resume=resume,
            **options,
        )
        announce = heard
        if stem:
            keep(stem, trained, own)
        finished.append(trained)
    log: list[dict[str, Any]] = []
    seconds = 0.0
    for number, one in enumerate(finished):
        first = number * settings.steps
        log += [
            {**row, "step": first + row["step"], "seconds": seconds + row["seconds"]}
            for row in one.log
        ]
        seconds += one.seconds
    best_step = (members - 1) * settings.steps + finished[-1].best_step
    return Trained(join([one.bundle for one in finished]), log, best_step, seconds)


def heard(plan: TrainingPlan) -> None:
    """Do nothing: the plan was announced before."""


def keep(stem: Path, trained: Trained, settings: Settings) -> None:
    """Keep a finished member; its record comes last, and the state that led to it goes."""
    trained.bundle.save(stem.with_suffix(".safetensors"), overwrite=True)
    record = {
        "settings": asdict(settings),
        "log": trained.log,
        "best_step": trained.best_step,
        "seconds": trained.seconds,
    }
    with atomic_write(stem.with_suffix(".json"), overwrite=True) as temporary:
        temporary.write_text(json.dumps(record), "utf-8")
    (stem.parent / STATE).unlink(missing_ok=True)


def take_up(stem: Path, settings: Settings, splits: Sequence[Split]) -> Trained | None:
    """Take up a finished member; None where there is none.

    Raises
    ------
    SettingError
        It was left by a run with other settings or labels.
    """
    path = stem.with_suffix(".json")
    if not path.exists():
        return None
    record = json.loads(path.read_text("utf-8"))
    bundle = load_model(stem.with_suffix(".safetensors"))
    digests = [split["digest"] for split in bundle.split]
    if record["settings"] != asdict(settings) or digests != [split.digest for split in splits]:
        raise SettingError(
            f"{stem.parent} was left by a run with other settings or input",
            "repeat its options, or start anew with --overwrite",
        )
    return Trained(bundle, record["log"], record["best_step"], record["seconds"])


def join(bundles: Sequence[Bundle]) -> Bundle:
    """One bundle whose network is the ensemble of those of several; a single one is left alone."""
    first = bundles[0]
    if len(bundles) == 1:
        return first
    return replace(
        first,
        spec=replace(first.spec, members=len(bundles)),
        weights={
            f"members.{number}.{name}": tensor
            for number, bundle in enumerate(bundles)
            for name, tensor in bundle.weights.items()
        },
        temperature=float(np.exp(np.mean([np.log(bundle.temperature) for bundle in bundles]))),
    )
