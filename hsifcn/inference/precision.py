"""Whether a scene is scored in bfloat16, which some processors multiply many times as fast.

These are processors with a matrix unit for bfloat16 (AMX). Elsewhere everything stays float32.
Rounding then depends on how a scene is cut into tiles, so that single pixels between two classes
may get another label; that is why a part of the scene is tried first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hsifcn.core.process import multiplies_bfloat16
from hsifcn.core.scene import Scene
from hsifcn.inference.predictor import Predictor
from hsifcn.inference.tiling import TilePlan

LEAST_AGREEMENT = 0.999  # share of the labels that must stay the same
LEAST_TILES = 4  # with fewer, trying takes longer than is gained


@dataclass(frozen=True)
class Trial:
    """What bfloat16 changed on one tile.

    Attributes
    ----------
    agreement : float
        Share of its valid pixels that kept their label.
    pixels : int
    """

    agreement: float
    pixels: int

    @property
    def passed(self) -> bool:
        """Whether bfloat16 may be used."""
        return self.agreement >= LEAST_AGREEMENT

    def sentence(self) -> str:
        """The outcome in one line."""
        found = f"{100 * self.agreement:.2f} % of {self.pixels:,} labels stay the same"
        if self.passed:
            return f"precision: bfloat16, as {found}; --precision float32 turns it off"
        return f"precision: float32, as in bfloat16 only {found}"


def worth_trying(precision: str, device: str, plan: TilePlan) -> bool:
    """Whether bfloat16 may pay: ``auto`` on a processor that multiplies it, for a large scene."""
    return (
        precision == "auto"
        and device == "cpu"
        and len(plan.tiles) >= LEAST_TILES
        and multiplies_bfloat16()
    )


def try_bfloat16(predictor: Predictor, scene: Scene, plan: TilePlan) -> tuple[Predictor, Trial]:
    """Score the tile in the middle of a scene both ways.

    Returns
    -------
    predictor : Predictor
        In bfloat16 if the trial passed, else the one given.
    trial : Trial
    """
    window = plan.tiles[len(plan.tiles) // 2].read
    logits, valid = predictor.scores(scene, window)
    wanted = logits.argmax(0).cpu().numpy()[valid]
    del logits  # room for the second pass
    fast = computing_in(predictor, torch.bfloat16)
    found = fast.scores(scene, window)[0].argmax(0).cpu().numpy()[valid]
    agreement = float((found == wanted).mean()) if len(wanted) else 0.0
    trial = Trial(agreement, len(wanted))
    return (fast if trial.passed else predictor), trial


def computing_in(predictor: Predictor, dtype: torch.dtype) -> Predictor:
    """The same predictor, its network computing in another type."""
    return Predictor(
        predictor.bundle,
        predictor.device.type,
        predictor.refinement,
        predictor.approximate,
        dtype,
        predictor.spectral_share,
    )
