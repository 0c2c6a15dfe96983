"""Explain a map: the share of every stage, upsampling, wavelengths, how far the model sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from hsifcn.core.errors import SettingError
from hsifcn.core.process import Stopwatch
from hsifcn.core.scene import Scene, Window
from hsifcn.data.split import Split
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.explain.bands import (
    NETWORKS,
    RANDOM_ORDERS,
    ROUNDS,
    band_groups,
    band_record,
)
from hsifcn.inference.explain.depths import explain_stages
from hsifcn.inference.explain.explanation import Explanation, labels_by
from hsifcn.inference.explain.field import Influence, influence
from hsifcn.inference.explain.inputs import (
    MOST_PIXELS,
    MOST_VOXELS,
    Explained,
    choose_window,
    read_explained,
    separate_pixels,
)
from hsifcn.inference.explain.pixel import explain_pixel
from hsifcn.inference.predictor import check_scene
from hsifcn.models import geometry, scene_form
from hsifcn.models.flops import flops_per_pixel

BAND_FLOPS = 1.3e12  # floating-point operations that the search for wavelengths may take
FIELD_FLOPS = 2e11  # and that for the receptive field
MOST_PLACES = 48  # pixels whose receptive fields are averaged


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
        explanation = explain_stages(bundle, network, pixels)
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
            record["pixel"], one = explain_pixel(bundle, network, explanation, at, label)
    record["seconds"] = watch.seconds
    return replace(explanation, influence=found, pixel_influence=one)


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
