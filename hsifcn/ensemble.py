"""Training several networks on the same scenes, and one bundle of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hsifcn.bundle import Bundle, load_model
from hsifcn.scene import Scene
from hsifcn.splits import Split
from hsifcn.training import Progress, Settings, Trained, train

SEED_STEP = 1000  # between the seeds of members, so that those of neighbouring runs differ


def train_ensemble(
    scenes: Sequence[Scene],
    splits: Sequence[Split],
    settings: Settings,
    members: int,
    *,
    progress: Progress = lambda step, loss, validation_oa: None,
    checkpoint: Path | None = None,
    resume: bool = False,
    **options: Any,
) -> Trained:
    """Train ``members`` networks that differ in their seeds, one after the other.

    Parameters are those of ``training.train``. A finished member is kept in ``checkpoint``, so that
    a resumed run goes on with the next. Log, best step and seconds count on from member to member.
    """
    log: list[dict[str, Any]] = []
    bundles: list[Bundle] = []
    seconds, best_step = 0.0, 0
    for number in range(members):
        first = number * settings.steps
        own = replace(settings, seed=settings.seed + SEED_STEP * number)
        kept = checkpoint / f"member-{number}.safetensors" if checkpoint else None
        if kept and resume and kept.exists():
            bundles.append(load_model(kept))
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
            checkpoint=checkpoint,
            resume=resume and number == len(bundles),
            **options,
        )
        if kept:
            trained.bundle.save(kept, overwrite=True)
            (kept.parent / "state.safetensors").unlink(missing_ok=True)
        bundles.append(trained.bundle)
        log += [
            {**row, "step": first + row["step"], "seconds": seconds + row["seconds"]}
            for row in trained.log
        ]
        best_step = first + trained.best_step
        seconds += trained.seconds
    return Trained(join(bundles), log, best_step, seconds)


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
