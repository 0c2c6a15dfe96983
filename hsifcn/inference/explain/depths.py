"""What each depth of a network says: shares of the stages, accuracy after each, upsampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hsifcn.inference.bundle import Bundle
from hsifcn.inference.explain.explanation import Explanation, Labels, labels_by
from hsifcn.inference.explain.field import Influence
from hsifcn.inference.explain.inputs import Explained
from hsifcn.inference.explain.stages import (
    StageScores,
    bilinear,
    nearest,
    phase_pattern,
    score_stages,
    upsamplings,
    with_kernels,
)
from hsifcn.models.fcn import FCN


@torch.no_grad()
def explain_stages(bundle: Bundle, network: nn.Module, pixels: Explained) -> Explanation:
    """Shares of the stages, accuracy after each, and what upsampling does."""
    form: Any = network
    features = form.stem(pixels.spectra)
    nowhere = Influence(np.ones((1, 1)), 0, 1)
    if not isinstance(network, FCN):
        logits = form.after_stem(features)[0] / bundle.temperature
        record: dict[str, Any] = {"stages": [], "note": _note_without_skips(bundle)}
        record |= {"accuracy": _accuracy(labels_by(logits, pixels.valid), pixels, None)}
        return Explanation(record, pixels, logits[None], logits, nowhere)
    scored, raw = score_stages(network, features)
    logits, shares = raw[0] / bundle.temperature, scored.shares(network) / bundle.temperature
    layers = upsamplings(network)
    explanation = Explanation(
        record={},
        pixels=pixels,
        shares=shares,
        logits=logits,
        influence=nowhere,
        patterns=tuple(
            phase_pattern(network, stage).numpy()
            for stage, stride in enumerate(scored.strides)
            if stride > 1
        ),
        kernels=tuple(layer.weight[:, 0].numpy().copy() for _, _, layer in layers),
        strides=scored.strides,
    )
    final = labels_by(logits, pixels.valid)
    explanation.record.update(
        {
            "note": "",
            "accuracy": _accuracy(final, pixels, final),
            "largest_error_of_sum": float((shares.sum(0) - logits).abs().max()),
            "largest_logit": float(logits.abs().max()),
            "stages": [_stage_record(explanation, stage, final) for stage in range(len(shares))],
            "upsampling": _upsampling_record(bundle, network, scored, explanation, final),
        }
    )
    return explanation


def _note_without_skips(bundle: Bundle) -> str:
    """Why a network is not taken apart into stages."""
    return (
        f"{bundle.spec.name} has no skips: one layer scores the last features, so there are no "
        "shares of stages and no learned upsampling of scores to show"
    )


def _accuracy(labels: Labels, pixels: Explained, final: Labels | None) -> dict[str, float | None]:
    """OA at the test pixels, at those on boundaries, and agreement with the whole network's map."""

    def right(mask: npt.NDArray[np.bool_]) -> float | None:
        return float((labels[mask] == pixels.truth[mask]).mean()) if mask.any() else None

    same = None if final is None else float((labels == final)[pixels.valid].mean())
    return {
        "oa": right(pixels.test),
        "boundary_oa": right(pixels.boundary),
        "interior_oa": right(pixels.test & ~pixels.boundary),
        "same_as_map": same,
    }


def _stage_record(explanation: Explanation, stage: int, final: Labels) -> dict[str, Any]:
    """What a stage says alone, together with the coarser ones, and what its lack changes."""
    pixels, shares = explanation.pixels, explanation.shares

    def of(scores: Tensor) -> dict[str, float | None]:
        return _accuracy(labels_by(scores, pixels.valid), pixels, final)

    # A number added to all classes changes nothing, so spread is taken about their mean.
    centred = shares[stage] - shares[stage].mean(0)
    return {
        "stride": explanation.strides[stage],
        "alone": of(shares[stage]),
        "up_to_here": of(explanation.after(stage)),
        "without": of(explanation.logits - shares[stage]) if len(shares) > 1 else None,
        "spread": float(centred[:, torch.from_numpy(pixels.valid)].std()),
    }


def _upsampling_record(
    bundle: Bundle, network: FCN, scored: StageScores, explanation: Explanation, final: Labels
) -> dict[str, Any]:
    """Learned kernels against bilinear ones: how far apart, and what replacing them changes."""
    layers = upsamplings(network)
    if not layers:
        return {}
    pixels = explanation.pixels
    kernels = {"learned": network} | {
        name: with_kernels(network, kernel)
        for name, kernel in (("bilinear", bilinear), ("nearest", nearest))
    }
    replaced = {}
    for name, changed in kernels.items():
        scores = scored.shares(changed).sum(0) / bundle.temperature
        replaced[name] = _accuracy(labels_by(scores, pixels.valid), pixels, final)
    return {
        "layers": [
            {
                "from_stride": before,
                "to_stride": after,
                "kernel_px": layer.kernel_size[0],
                "mean_kernel": layer.weight[:, 0].mean(0).tolist(),
                "largest_difference_to_bilinear": float(
                    (layer.weight - bilinear(layer.in_channels, layer.stride[0])).abs().max()
                ),
                "sum_of_weights": [float(value) for value in layer.weight.sum((1, 2, 3))],
            }
            for before, after, layer in layers
        ],
        "grid": [
            {
                "stride": explanation.strides[stage],
                "mean": float(pattern.mean()),
                "relative_spread": float(
                    (pattern.std((1, 2)) / np.abs(pattern.mean((1, 2))).clip(1e-6)).mean()
                ),
            }
            for stage, pattern in enumerate(explanation.patterns)
        ],
        "replaced": replaced,
    }
