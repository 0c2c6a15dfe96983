"""Starting a network from the weights of a trained one.

The FCN paper turns a classification network into an FCN and fine-tunes all its layers (Shelhamer,
Long, Darrell 2017, sections 3.1 and 4.1, doi:10.1109/TPAMI.2016.2572683). Here a patch CNN is that
network: its stem and its 3x3 convolutions are the stem and the encoder of a network over the whole
scene, as far as they have the same shape. Its fully connected layer and its scorer have another
place in the scene networks, and start afresh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hsifcn.core.errors import MismatchError, SettingError
from hsifcn.core.scene import Scene
from hsifcn.inference.bundle import Bundle, empty_network
from hsifcn.inference.predictor import check_scene
from hsifcn.models import MODELS, ModelSpec
from hsifcn.models.patch import encoder_roles

SCORERS = ("score", "upscore")  # what follows mixes no classes but knows them by their order


def require_same_input(
    start: Bundle, scenes: Sequence[Scene], bands: npt.NDArray[np.bool_], inductive: bool
) -> None:
    """Raise where scenes are not what the model to start from was trained on.

    Raises
    ------
    MismatchError
        They have other bands, others of them are usable, or their files tell another scale.
    SettingError
        The model has seen whole scenes, this training is to see training pixels only.
    """
    for scene in scenes:
        check_scene(start, scene)
        scales = {start.scale_factor, scene.scale_factor}
        if len(scales) > 1 and None not in scales:
            raise MismatchError(
                f"reflectance = value / {scene.scale_factor:g} in {scene.path}, but value / "
                f"{start.scale_factor:g} in the scenes of the model to start from",
                "bring the scene to that scale",
            )
    if not np.array_equal(bands, start.good_bands):
        raise MismatchError(
            f"{scenes[0].path} has {int(bands.sum())} usable bands, not the {start.spec.bands} of "
            "the model to start from",
            "start from a model of the same sensor and band selection",
        )
    if inductive and not start.settings.get("inductive"):
        raise SettingError(
            "the model to start from has seen whole scenes", "train it with --inductive too"
        )


def inherited(start: Bundle, spec: ModelSpec, class_names: Sequence[str]) -> dict[str, Tensor]:
    """The layers of a trained model that have the same role and shapes in another network.

    Parameters
    ----------
    start : Bundle
    spec : ModelSpec
        Of the network that takes them.
    class_names : sequence of str
        What it tells apart; scorers are taken only where these are the classes of ``start``.

    Returns
    -------
    dict of str to Tensor
        Under the names that they have in the network.

    Raises
    ------
    SettingError
        There is none.
    """
    wanted = {name: tensor.shape for name, tensor in empty_network(spec).state_dict().items()}
    if tuple(class_names) != start.class_names:
        wanted = {name: shape for name, shape in wanted.items() if not name.startswith(SCORERS)}
    given = by_role(start, spec)
    differing = {layer_of(n) for n in wanted if n not in given or wanted[n] != given[n].shape}
    taken = {n: given[n] for n in wanted if layer_of(n) not in differing}
    if not taken:
        raise SettingError(
            f"{spec.name} can take nothing from a {start.spec.name} of {start.spec.bands} bands",
            "start from one of the same bands and as wide layers, or train another, such as fcn8s",
        )
    return taken


def by_role(start: Bundle, spec: ModelSpec) -> dict[str, Tensor]:
    """The weights of a model; those of a patch CNN under the names of an encoder's stages."""
    patch = MODELS[start.spec.name].patch
    if patch is None or MODELS[spec.name].patch is not None:
        return start.weights
    roles = encoder_roles(patch) | {"stem": "stem"}
    weights = {}
    for name, tensor in start.weights.items():
        for old, new in roles.items():
            if name.startswith(f"{old}."):
                weights[f"{new}.{name.removeprefix(f'{old}.')}"] = tensor
    return weights


def origin(start: Bundle, taken: Mapping[str, Tensor]) -> dict[str, Any]:
    """Record of what a network started from.

    Returns
    -------
    dict
        ``model``, its name; ``digest`` of all its weights; ``split`` that it was trained on;
        ``layers`` taken, by stage; ``weights``, their number.
    """
    digest = hashlib.sha256()
    for name in sorted(start.weights):
        digest.update(name.encode() + start.weights[name].contiguous().numpy().tobytes())
    parameters = [tensor for tensor in taken.values() if tensor.is_floating_point()]
    return {
        "model": start.spec.name,
        "digest": digest.hexdigest()[:16],
        "split": start.split,
        "layers": sorted({".".join(layer_of(name).split(".")[:2]) for name in taken}),
        "weights": sum(tensor.numel() for tensor in parameters),
    }


def layer_of(name: str) -> str:
    """The layer that a weight belongs to, a convolution with its batch norm: ``stages.0.1``."""
    return name.rpartition(".")[0].removesuffix(".conv").removesuffix(".norm")
