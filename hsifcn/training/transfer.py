"""Starting a network from the weights of a trained one of the same architecture.

All layers are fine-tuned (Shelhamer, Long, Darrell 2017, section 4.1,
doi:10.1109/TPAMI.2016.2572683). Where the classes are others, the layers that score them start
afresh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hsifcn.core.errors import MismatchError, SettingError
from hsifcn.core.scene import Scene
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.predictor import check_scene
from hsifcn.models import ModelSpec

SCORERS = ("score", "upscore")  # names of layers with one channel a class


def require_same_input(
    init: Bundle, scenes: Sequence[Scene], bands: npt.NDArray[np.bool_], inductive: bool
) -> None:
    """Raise where scenes are not what the model to start from was trained on.

    Raises
    ------
    MismatchError
        They have other bands, others of them are usable, or their files tell another scale.
    SettingError
        The model has seen whole scenes, but this training is to see training pixels only.
    """
    for scene in scenes:
        check_scene(init, scene)
        scales = {init.scale_factor, scene.scale_factor}
        if len(scales) > 1 and None not in scales:
            raise MismatchError(
                f"reflectance = value / {scene.scale_factor:g} in {scene.path}, but value / "
                f"{init.scale_factor:g} in the scenes of the model to start from",
                "bring the scene to that scale",
            )
    if not np.array_equal(bands, init.good_bands):
        raise MismatchError(
            f"{scenes[0].path} has {int(bands.sum())} usable bands, not the {init.spec.bands} of "
            "the model to start from",
            "start from a model of the same sensor and band selection",
        )
    if inductive and not init.settings.get("inductive"):
        raise SettingError(
            "the model to start from has seen whole scenes", "train it with --inductive too"
        )


def initial_weights(init: Bundle, spec: ModelSpec, class_names: Sequence[str]) -> dict[str, Tensor]:
    """The weights of a trained model that another of the same architecture starts from.

    Parameters
    ----------
    init : Bundle
    spec : ModelSpec
        Of the network that starts from them.
    class_names : sequence of str
        Of its classes; the layers that score classes are left out where these are others.

    Raises
    ------
    SettingError
        The architectures differ.
    """
    if replace(init.spec, classes=spec.classes) != spec:
        raise SettingError(
            f"a {spec.name} of {spec.bands} bands cannot start from a {init.spec.name} of "
            f"{init.spec.bands} bands",
            f"start from a model of the same architecture, or train with -m {init.spec.name}",
        )
    if tuple(class_names) == init.class_names:
        return dict(init.weights)
    return {name: w for name, w in init.weights.items() if not name.startswith(SCORERS)}


def origin(init: Bundle, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Record of what a network started from.

    Returns
    -------
    dict
        ``model``, its name; ``digest`` of all its weights; ``split`` that it was trained on;
        ``weights``, the number of those used.
    """
    digest = hashlib.sha256()
    for name in sorted(init.weights):
        digest.update(name.encode() + init.weights[name].contiguous().numpy().tobytes())
    return {
        "model": init.spec.name,
        "digest": digest.hexdigest()[:16],
        "split": init.split,
        "weights": sum(w.numel() for w in weights.values() if w.is_floating_point()),
    }
