"""The networks: what each is called, how to build it, how far it sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from hsifcn.core.errors import SettingError
from hsifcn.models import deconvnet, deeplab, fcn, segnet
from hsifcn.models import patch as patch_cnn
from hsifcn.models.geometry import Geometry
from hsifcn.models.patch import CastPatchCNN, PatchCNN

DEFAULT_MODEL = "hsifcn"  # the one that measures best: benchmarks/main_job.py


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a network again; stored in the bundle.

    Attributes
    ----------
    name : str
        Key in ``MODELS``.
    bands, classes : int
        Channels in and out; unlabelled is no class.
    stem, widths : tuple of int
        Channels of the stem's 1x1 convolutions and of the stages behind it.
    """

    name: str
    bands: int
    classes: int
    stem: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def stem_channels(self) -> int:
        """Channels that the stem gives: the bands where it has no layer."""
        return self.stem[-1] if self.stem else self.bands


@dataclass(frozen=True)
class Model:
    """One entry of ``MODELS``.

    Attributes
    ----------
    summary : str
        For whom it is, in one line.
    build : callable
        Makes the network, freshly initialised, from a spec.
    geometry : callable
        Stride and receptive field from a spec, without building it.
    activations_per_pixel : callable
        Float32 values a pixel that are held at once at most while a scene is scored from the
        stem's output on: that output, the layers at work, the features and scores kept. Computed
        from the widths, as counting tensors loads PyTorch's compiler; a test counts them.
    stem, widths : tuple of int
        Of the spec, unless said otherwise.
    patch : int or None
        Side of the training window of a patch CNN; None for networks over the whole scene.
    """

    summary: str
    build: Callable[[ModelSpec], nn.Module]
    geometry: Callable[[ModelSpec], Geometry]
    activations_per_pixel: Callable[[ModelSpec], float]
    stem: tuple[int, ...]
    widths: tuple[int, ...]
    patch: int | None = None


VGG_WIDTHS = (64, 96, 128, 192, 192)  # five stages, as in VGG: cells of 32 pixels at the end


def fcn_model(
    finest: int,
    summary: str,
    stem: tuple[int, ...] = (64, 64),
    widths: tuple[int, ...] = VGG_WIDTHS,
) -> Model:
    """An FCN whose finest skip has stride ``finest``."""
    return Model(
        summary,
        build=lambda s: fcn.FCN(s.bands, s.classes, finest, s.stem, s.widths),
        geometry=lambda s: fcn.geometry(finest, len(s.widths)),
        activations_per_pixel=lambda s: fcn.activations(finest, s.stem[-1], s.widths, s.classes),
        stem=stem,
        widths=widths,
    )


def _patch(patch: int) -> Model:
    return Model(
        f"patch CNN on {patch}x{patch} windows: the classical way, to compare with",
        build=lambda s: PatchCNN(s.bands, s.classes, patch, s.stem, *s.widths),
        geometry=lambda s: Geometry(stride=1, receptive_field=patch),
        activations_per_pixel=lambda s: patch_cnn.activations(
            patch, s.stem[-1], s.classes, *s.widths
        ),
        stem=(64, 64),
        widths=(64, 128),
        patch=patch,
    )


MODELS: dict[str, Model] = {
    "hsifcn": fcn_model(
        1, "two light stages, skips down to single pixels: the default", (48, 32), (32, 64)
    ),
    "fcn32s": fcn_model(32, "coarsest scores only: the paper's first step, for comparison"),
    "fcn16s": fcn_model(16, "scores of stride 32 and 16"),
    "fcn8s": fcn_model(8, "the paper's FCN-8s: objects many pixels wide"),
    "fcn4s": fcn_model(4, "skips down to stride 4"),
    "fcn2s": fcn_model(2, "skips down to stride 2"),
    "fcn1s": fcn_model(1, "skips down to single pixels: fields and objects a few pixels wide"),
    "segnet": Model(
        "encoder-decoder with max-unpooling: sharp edges without skipped scores",
        build=lambda s: segnet.SegNet(s.bands, s.classes, s.stem, s.widths),
        geometry=lambda s: segnet.geometry(len(s.widths)),
        activations_per_pixel=lambda s: segnet.activations(s.stem[-1], s.widths, s.classes),
        stem=(64, 64),
        widths=(32, 64, 96),
    ),
    "deconvnet": Model(
        "unpooling and transposed convolutions: objects with a shape of their own",
        build=lambda s: deconvnet.DeconvNet(s.bands, s.classes, s.stem, s.widths),
        geometry=lambda s: deconvnet.geometry(len(s.widths)),
        activations_per_pixel=lambda s: segnet.activations(s.stem[-1], s.widths, s.classes),
        stem=(64, 64),
        widths=(32, 64, 96),
    ),
    "deeplab": Model(
        "atrous spatial pyramid and a full-resolution decoder: several scales at once",
        build=lambda s: deeplab.DeepLab(s.bands, s.classes, s.stem, s.widths),
        geometry=lambda s: deeplab.geometry(len(s.widths) - 1),
        activations_per_pixel=lambda s: deeplab.activations(s.stem[-1], s.widths, s.classes),
        stem=(64, 64),
        widths=(64, 96, 48),
    ),
    **{f"patch{n}": _patch(n) for n in range(5, 32, 2)},
}


def default_spec(name: str, bands: int, classes: int) -> ModelSpec:
    """The spec of a model by name.

    Raises
    ------
    SettingError
        There is no model of that name.
    """
    if name not in MODELS:
        raise SettingError(f"there is no model '{name}'", f"choose one of {', '.join(MODELS)}")
    return ModelSpec(name, bands, classes, MODELS[name].stem, MODELS[name].widths)


def build(spec: ModelSpec) -> nn.Module:
    """A freshly initialised network; seed PyTorch before for a known one."""
    return MODELS[spec.name].build(spec)


def empty_network(spec: ModelSpec) -> nn.Module:
    """The network of a spec without memory for its weights (on PyTorch's meta device)."""
    with torch.device("meta"):
        return build(spec)


def scene_form(network: nn.Module) -> nn.Module:
    """The network as one that maps a scene to a score map: a patch CNN is cast."""
    return CastPatchCNN(network) if isinstance(network, PatchCNN) else network


def geometry(spec: ModelSpec) -> Geometry:
    """Stride and receptive field of a spec."""
    return MODELS[spec.name].geometry(spec)
