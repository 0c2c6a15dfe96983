"""One pixel of a map: shares of the stages in its score, its wavelengths, what it sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from hsifcn.core.errors import SettingError
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.explain.bands import (
    ROUNDS,
    BandProbe,
    band_groups,
    importance,
    replacements,
)
from hsifcn.inference.explain.explanation import Explanation
from hsifcn.inference.explain.field import Influence, influence
from hsifcn.inference.explain.inputs import Explained, choose_window
from hsifcn.models import geometry


def explain_pixel(
    bundle: Bundle,
    network: nn.Module,
    explanation: Explanation,
    at: tuple[int, int],
    label: int | None,
) -> tuple[dict[str, Any], Influence]:
    """Shares of every stage in the score of one class at one pixel, and in that of its rival."""
    pixels, window = explanation.pixels, explanation.pixels.window
    row, col = at[0] - window.row, at[1] - window.col
    if not pixels.valid[row, col]:
        raise SettingError(
            f"--at {at[0]},{at[1]} holds no measurement", "choose a pixel that the map classifies"
        )
    logits, shares = explanation.logits[:, row, col], explanation.shares[:, :, row, col]
    mapped = int(logits.argmax())
    chosen = mapped if label is None else label - 1
    others = logits.clone()
    others[chosen] = -torch.inf
    rival = int(others.argmax()) if len(logits) > 1 else chosen
    spec, names = bundle.spec, bundle.class_names
    allowed = geometry(spec)
    assert allowed.receptive_field is not None
    sight = influence(
        network,
        pixels.spectra,
        [(row, col)],
        allowed.receptive_field,
        allowed.stride,
        chosen + 1,
    )
    depths = shares.cumsum(0).softmax(1)
    record = {
        "row": at[0],
        "col": at[1],
        "class": names[chosen],
        "mapped": names[mapped],
        "rival": names[rival],
        "truth": names[pixels.truth[row, col] - 1] if pixels.truth[row, col] else None,
        "probability": float(logits.softmax(0)[chosen]),
        "logit": float(logits[chosen]),
        "rival_logit": float(logits[rival]),
        "stages": [
            {
                "stride": stride,
                "share": float(shares[stage, chosen]),
                "rival_share": float(shares[stage, rival]),
                "probability_up_to_here": float(depths[stage, chosen]),
            }
            for stage, stride in enumerate(explanation.strides)
        ],
        "wavelengths": _bands_at(bundle, network, pixels, (row, col), chosen),
        "receptive_field": sight.record(),
    }
    return record, sight


def _bands_at(
    bundle: Bundle, network: nn.Module, pixels: Explained, place: tuple[int, int], chosen: int
) -> list[dict[str, Any]]:
    """What the probability of a class at one pixel loses where groups of bands are replaced."""
    groups = band_groups(bundle.good_bands, bundle.wavelengths)
    field_px = geometry(bundle.spec).receptive_field or 1
    # Room for places to take other values from.
    most = max(64 * 64, min(pixels.valid.size, field_px**2))
    wanted = np.zeros(pixels.valid.shape, bool)
    reach = int(most**0.5) // 4
    row, col = place
    wanted[max(0, row - reach) : row + reach + 1, max(0, col - reach) : col + reach + 1] = True
    window = choose_window(pixels.valid.shape, wanted, most, geometry(bundle.spec).stride)
    rows, cols = window.slices
    probe = BandProbe(network, pixels.spectra[:, :, rows, cols], bundle.temperature)
    mask = np.zeros((window.rows, window.cols), bool)
    mask[row - window.row, col - window.col] = True
    rounds = replacements(groups, (window.rows, window.cols), 2 * ROUNDS)
    losses = importance(probe, rounds, mask, chosen).mean(1)
    return [
        {"first": group.first, "last": group.last, "importance": float(loss)}
        for group, loss in zip(groups, losses, strict=True)
    ]
