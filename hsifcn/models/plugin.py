"""Networks of other modules, ``my_module:Net``: trained and compared like those of hsifcn.

``Net(bands, classes)`` is a ``torch.nn.Module`` that maps (scenes, bands, rows, cols), float32, of
any size to (scenes, classes, rows, cols). It is built once and looked at before it is used: whether
it gives that shape, and how far a pixel's score sees. A scene is never cut into tiles for one that
looks at all of it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hsifcn.core.errors import SettingError
from hsifcn.models import MODELS, Model, ModelSpec
from hsifcn.models.geometry import Geometry
from hsifcn.models.layers import BatchNorm, SpectralStem, WholeSceneNetwork

STRIDES = (1, 2, 4, 8, 16, 32)  # that are tried
ODD_SIZES = ((33, 47), (20, 20))  # pixels; neither a multiple of a large stride
PROBE_SIDE, PROBE_AT = 192, 80  # of the scene in which one pixel is NaN, and where
# What code of others may raise, when it is imported or run.
_FAILURES = (
    *(ImportError, SyntaxError, AttributeError, NameError, TypeError, ValueError, LookupError),
    *(RuntimeError, OSError, ArithmeticError, AssertionError, NotImplementedError),
)


class PluginNetwork(WholeSceneNetwork):
    """A network of another module behind an empty stem; its batch norms settle as ours do."""

    def __init__(self, network: nn.Module, bands: int) -> None:
        super().__init__()
        self.stem = SpectralStem(bands, ())
        self.network = with_our_batch_norms(network)

    def after_stem(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Score a scene, (scenes, bands, rows, cols)."""
        scores: Tensor = self.network(x)
        return scores


def with_our_batch_norms(module: nn.Module) -> nn.Module:
    """The module with each ``nn.BatchNorm2d`` replaced by one of the same weights."""
    if type(module) is nn.BatchNorm2d and module.affine and module.track_running_stats:
        momentum = 0.1 if module.momentum is None else module.momentum
        ours = BatchNorm(module.num_features, module.eps, momentum)
        ours.load_state_dict(module.state_dict())
        return ours
    for name, child in module.named_children():
        setattr(module, name, with_our_batch_norms(child))
    return module


def is_plugin(name: str) -> bool:
    """Whether a model is named as one of another module."""
    return ":" in name


def add_plugin(name: str) -> str:
    """Make a network of another module known to ``MODELS``; gives its name there.

    Parameters
    ----------
    name : str
        ``my_module:Net``. The module is a file ``my_module.py`` of the current folder, or the path
        of a file, or one that Python finds.

    Returns
    -------
    str
        The same, the path of a file made absolute, so that other processes find it.

    Raises
    ------
    SettingError
        There is no such class, or its module cannot be imported.
    """
    module, _, kind = name.rpartition(":")
    file = Path(module if module.endswith(".py") else f"{module}.py")
    full = f"{file.absolute()}:{kind}" if file.is_file() else name
    network = _class_of(full)
    MODELS[full] = Model(
        summary="a network of another module",
        build=lambda spec: _build(network, spec),
        geometry=lambda spec: probe(full, spec.bands, spec.classes),
        activations_per_pixel=lambda spec: activations(full, spec.bands, spec.classes),
        stem=(),
        widths=(1,),
    )
    return full


def _class_of(name: str) -> Any:
    """The class that a full name means."""
    module, _, kind = name.rpartition(":")
    try:
        if module.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(module).stem, module)
            assert spec is not None
            assert spec.loader is not None
            found = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(found)
        else:
            found = importlib.import_module(module)
        network = getattr(found, kind)
    except _FAILURES as error:
        raise SettingError(
            f"{name} cannot be imported: {type(error).__name__}: {error}",
            "name it file.py:Class or module:Class",
        ) from error
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise SettingError(f"{name} is no torch.nn.Module", "name a class with bands, classes")
    return network


def _build(network: Any, spec: ModelSpec) -> PluginNetwork:
    try:
        return PluginNetwork(network(spec.bands, spec.classes), spec.bands)
    except _FAILURES as error:
        raise SettingError(
            f"{spec.name} cannot be built of {spec.bands} bands and {spec.classes} classes: "
            f"{type(error).__name__}: {error}",
            "it takes two numbers: bands, classes",
        ) from error


def _fresh(name: str, bands: int, classes: int) -> nn.Module:
    """The network, ready to predict, of random weights that no one draws from again."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODELS[name].build(ModelSpec(name, bands, classes, (), (1,))).eval()


@functools.cache
@torch.no_grad()
def probe(name: str, bands: int, classes: int) -> Geometry:
    """How far a pixel's score sees, and after how many pixels the network repeats itself.

    A pixel is made NaN, at every phase of the stride: scores that see it become NaN.

    Returns
    -------
    Geometry
        Without receptive field where the network looks at the whole scene.

    Raises
    ------
    SettingError
        It fails, or gives another shape than (scenes, classes, rows, cols).
    """
    network = _fresh(name, bands, classes)
    for rows, cols in ODD_SIZES:
        _score(name, network, torch.zeros(1, bands, rows, cols), classes)
    generator = torch.Generator().manual_seed(0)
    scene = torch.randn(1, bands, PROBE_SIDE, PROBE_SIDE, generator=generator)
    stride = _stride(network, scene)
    if stride is None:
        return Geometry(stride=1, receptive_field=None)
    reach = 0
    for phase in range(stride):
        at = PROBE_AT + phase
        probed = scene.clone()
        probed[:, :, at, at] = torch.nan
        rows, cols = network(probed)[0].isnan().any(0).nonzero(as_tuple=True)
        if len(rows):
            reach = max(reach, int((rows - at).abs().max()), int((cols - at).abs().max()))
    if reach >= PROBE_AT:
        return Geometry(stride=stride, receptive_field=None)
    return Geometry(stride=stride, receptive_field=2 * reach + 1)


def _score(name: str, network: nn.Module, scene: Tensor, classes: int) -> Tensor:
    """The scores of a scene, refused where they have another shape."""
    rows, cols = scene.shape[2:]
    try:
        scores = network(scene)
    except _FAILURES as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise SettingError(
            f"{name} cannot score a scene of {rows}x{cols} pixels: {reason}",
            "it must take any number of rows and columns",
        ) from error
    wanted = (1, classes, rows, cols)
    if not isinstance(scores, Tensor) or scores.shape != wanted:
        given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise SettingError(
            f"{name} gives {given} for a scene of {rows}x{cols} pixels, and not {wanted}",
            "it must score every pixel: (scenes, classes, rows, cols)",
        )
    return scores


def _stride(network: nn.Module, scene: Tensor) -> int | None:
    """After how many pixels the scores of a shifted scene are the shifted scores."""
    scores = network(scene)
    middle = slice(PROBE_SIDE // 2 - 8, PROBE_SIDE // 2 + 8)
    for stride in STRIDES:
        moved = network(scene.roll((stride, stride), (2, 3)))
        back = moved.roll((-stride, -stride), (2, 3))
        if torch.allclose(back[..., middle, middle], scores[..., middle, middle], atol=1e-4):
            return stride
    return None


@functools.cache
@torch.no_grad()
def activations(name: str, bands: int, classes: int) -> float:
    """Values a pixel of all layers together: no fewer than are held at once."""
    network = _fresh(name, bands, classes)
    side = 64
    values = [float(bands)]

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            values.append(output.numel() / side**2)

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    network(torch.zeros(1, bands, side, side))
    return sum(values)
