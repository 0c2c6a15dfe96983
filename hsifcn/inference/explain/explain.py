"""Explain a map: the share of every stage, upsampling, wavelengths, how far the model sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hsifcn.core.errors import SettingError
from hsifcn.core.process import Stopwatch
from hsifcn.core.scene import Scene, Window, labels_of
from hsifcn.data.split import Split
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.explain.bands import (
    NETWORKS,
    RANDOM_ORDERS,
    ROUNDS,
    BandProbe,
    band_groups,
    band_record,
    importance,
    replacements,
)
from hsifcn.inference.explain.field import Influence, influence
from hsifcn.inference.explain.inputs import (
    MOST_PIXELS,
    MOST_VOXELS,
    Explained,
    choose_window,
    read_explained,
    separate_pixels,
)
from hsifcn.inference.explain.stages import (
    StageScores,
    bilinear,
    nearest,
    phase_pattern,
    score_stages,
    upsamplings,
    with_kernels,
)
from hsifcn.inference.predictor import check_scene
from hsifcn.models import geometry, scene_form
from hsifcn.models.fcn import FCN
from hsifcn.models.flops import flops_per_pixel

BAND_FLOPS = 1.3e12  # floating-point operations that the search for wavelengths may take
FIELD_FLOPS = 2e11  # and that for the receptive field
MOST_PLACES = 48  # pixels whose receptive fields are averaged

Labels = npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Explanation:
    """How a map came about.

    Attributes
    ----------
    record : dict
        All figures, ready for JSON; see ``docs/files.md``.
    pixels : Explained
        Window, labels and split.
    shares : Tensor, (stages, classes, rows, cols), float32
        Share of each stage in every logit, coarse to fine; they add up to ``logits``. Of a network
        without skips one stage, the logits themselves.
    logits : Tensor, (classes, rows, cols), float32
        Divided by the model's temperature, as all scores here.
    patterns : tuple of ndarray, each (classes, stride, stride)
        What an even area of score 1 in each stage's cells becomes; empty without upsampling.
    kernels : tuple of ndarray, each (classes, 2 factor, 2 factor)
        Learned upsampling kernels, coarse to fine.
    influence : Influence
        Mean over pixels of the scene.
    pixel_influence : Influence or None
        Of the one pixel that was asked for.
    """

    record: dict[str, Any]
    pixels: Explained
    shares: Tensor
    logits: Tensor
    influence: Influence
    patterns: tuple[npt.NDArray[np.float32], ...] = ()
    kernels: tuple[npt.NDArray[np.float32], ...] = ()
    pixel_influence: Influence | None = None
    strides: tuple[int, ...] = field(default=(1,))

    def after(self, stage: int) -> Tensor:
        """Sum of the shares up to a stage, (classes, rows, cols)."""
        return self.shares[: stage + 1].sum(0)

    def labels_after(self, stage: int) -> Labels:
        """Map by the shares up to a stage, (rows, cols), 0 where there is no measurement."""
        return labels_by(self.after(stage), self.pixels.valid)


def _silent(text: str) -> None:
    """Tell nobody."""


def explain(
    bundle: Bundle,
    scene: Scene,
    split: Split | None = None,
    *,
    at: tuple[int, int] | None = None,
    label: int | None = None,
    tell: Callable[[str], None] = _silent,
) -> Explanation:
    """Explain the map that a model makes of a scene.

    Parameters
    ----------
    bundle : Bundle
    scene : Scene
        Its bands must be the model's (``match_scene``).
    split : Split, optional
        Of the scene, for accuracy at its test pixels.
    at : tuple of int, optional
        Row and column of one pixel to explain.
    label : int, optional
        The class, from 1, whose score at that pixel is explained; the mapped one otherwise.
    tell : callable
        Given a line of text before each part of the work.

    Raises
    ------
    MismatchError
        The scene has other bands than the model.
    SettingError
        The pixel lies outside of the scene, or holds no measurement, or no pixel does.
    """
    check_scene(bundle, scene)
    with Stopwatch() as watch:
        window = _window(bundle, scene, split, at)
        pixels = read_explained(bundle, scene, split, window)
        if not pixels.valid.any():
            raise SettingError(
                f"{scene.path} holds no measurement in every band of the model", "name another"
            )
        network = scene_form(bundle.network())
        tell("scores of every stage")
        explanation = _explain_stages(bundle, network, pixels)
        record = explanation.record
        record["scene"], record["model"] = scene.path, bundle.spec.name
        record["shape"] = list(scene.shape[:2])
        record["window"] = [window.row, window.col, window.rows, window.cols]
        tell("wavelengths")
        record["wavelengths"] = _explain_bands(bundle, network, explanation)
        tell("receptive field")
        found = _influence(bundle, network, pixels)
        record["receptive_field"] = found.record()
        one = None
        if at is not None:
            tell(f"the pixel in row {at[0]}, column {at[1]}")
            record["pixel"], one = _explain_pixel(bundle, network, explanation, at, label)
    record["seconds"] = watch.seconds
    return Explanation(
        record=record,
        pixels=pixels,
        shares=explanation.shares,
        logits=explanation.logits,
        influence=found,
        patterns=explanation.patterns,
        kernels=explanation.kernels,
        pixel_influence=one,
        strides=explanation.strides,
    )


def _window(
    bundle: Bundle, scene: Scene, split: Split | None, at: tuple[int, int] | None
) -> Window:
    """The part of the scene that is explained: round ``at``, or where most test pixels lie."""
    rows, cols, bands = scene.shape
    wanted = None if split is None else split.test
    if at is not None:
        if not (0 <= at[0] < rows and 0 <= at[1] < cols):
            raise SettingError(
                f"--at {at[0]},{at[1]} lies outside of the scene of {rows} x {cols} pixels",
                "give row and column, counted from 0",
            )
        # Within the window, and as near to its middle as windows of whole steps allow.
        wanted = np.zeros((rows, cols), bool)
        reach = int(MOST_PIXELS**0.5) // 4
        wanted[max(0, at[0] - reach) : at[0] + reach, max(0, at[1] - reach) : at[1] + reach] = True
    most = min(MOST_PIXELS, MOST_VOXELS // bands)
    return choose_window((rows, cols), wanted, most, geometry(bundle.spec).stride)


@torch.no_grad()
def _explain_stages(bundle: Bundle, network: nn.Module, pixels: Explained) -> Explanation:
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


def labels_by(scores: Tensor, valid: npt.NDArray[np.bool_]) -> Labels:
    """Labels by the greatest score, (rows, cols), 0 where there is no measurement."""
    return np.where(valid, labels_of(scores.argmax(0).numpy()), np.uint16(0))


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


def _explain_bands(bundle: Bundle, network: nn.Module, explanation: Explanation) -> dict[str, Any]:
    """Importance of contiguous bands, measured at pixels away from those that taught."""
    pixels, spec = explanation.pixels, bundle.spec
    groups = band_groups(bundle.good_bands, bundle.wavelengths)
    chosen, distance = separate_pixels(pixels)
    truth, target = pixels.truth, "labels"
    if not chosen.any():
        chosen, truth, target = pixels.valid, labels_by(explanation.logits, pixels.valid), "map"
    evaluations = len(groups) * (ROUNDS + 2 + RANDOM_ORDERS + NETWORKS)
    most = max(32 * 32, int(BAND_FLOPS / (flops_per_pixel(spec) * evaluations)))
    window = choose_window(pixels.valid.shape, chosen, most, geometry(spec).stride)
    rows, cols = window.slices
    if not chosen[rows, cols].any():
        return {"groups": [], "note": "no measured pixel"}
    record = band_record(
        network,
        pixels.spectra[:, :, rows, cols],
        bundle.temperature,
        groups,
        truth[rows, cols],
        chosen[rows, cols],
    )
    return {**record, "target": target, "distance_to_training_px": distance}


def _influence(bundle: Bundle, network: nn.Module, pixels: Explained) -> Influence:
    """Mean influence of the surroundings, at pixels drawn from those measured."""
    spec = bundle.spec
    allowed = geometry(spec)
    assert allowed.receptive_field is not None
    reach = allowed.receptive_field // 2
    rows, cols = pixels.valid.shape
    inner = pixels.valid.copy()
    if min(rows, cols) > allowed.receptive_field:  # else no pixel sees all that it could
        inner[:reach] = inner[rows - reach :] = False
        inner[:, :reach] = inner[:, cols - reach :] = False
    places = np.argwhere(inner if inner.any() else pixels.valid)
    size = min(rows, allowed.receptive_field) * min(cols, allowed.receptive_field)
    count = int(np.clip(FIELD_FLOPS / (3 * flops_per_pixel(spec) * size), 4, MOST_PLACES))
    chosen = np.random.default_rng(0).permutation(len(places))[:count]
    drawn = [(int(row), int(col)) for row, col in places[chosen]]
    return influence(network, pixels.spectra, drawn, allowed.receptive_field, allowed.stride)


def _explain_pixel(
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
