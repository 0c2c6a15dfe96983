"""Small made-up scenes: fields of a few classes, each with a spectrum of its own, and noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hsifcn.core.scene import Grid, Window


@dataclass(frozen=True)
class ArrayScene:
    """A scene in memory."""

    cube: np.ndarray
    path: str = "array"
    wavelengths: np.ndarray | None = None
    fwhm: np.ndarray | None = None
    good_bands: Any = None
    nodata: float | None = None
    grid: Grid | None = None
    interleave: str = "bip"
    scale_factor: float | None = None

    def __post_init__(self):
        if self.good_bands is None:
            object.__setattr__(self, "good_bands", np.ones(self.cube.shape[2], bool))

    @property
    def shape(self):
        return self.cube.shape

    @property
    def dtype(self):
        return self.cube.dtype

    def read(self, window):
        return self.cube[window.slices].copy()

    def with_cube(self, cube):
        return replace(self, cube=cube)


def field_labels(rows=20, cols=24, classes=3, field=5, seed=0):
    """Square fields of one class each, with a seam of unlabelled pixels to the right of each."""
    rng = np.random.default_rng([seed, 1])
    down, across = -(-rows // field), -(-cols // field)
    fields = rng.permutation(np.arange(down * across) % classes).reshape(down, across) + 1
    labels = np.repeat(np.repeat(fields, field, 0), field, 1)[:rows, :cols].astype(np.uint8)
    if cols > field:
        labels[:, field - 1 :: field] = 0
    return labels


def field_cube(labels, bands=12, seed=0, dtype="u2", noise=0.1, mean=3000.0, spread=600.0):
    """Spectra of the labels: smooth curves round ``mean``, another one a class."""
    rng = np.random.default_rng([seed, 2])
    band = np.linspace(0, 1, bands)
    classes = int(labels.max()) + 1
    curves = np.stack([np.sin(2 * np.pi * (band * (1 + c / 2) + 0.37 * c)) for c in range(classes)])
    cube = curves[labels] + rng.normal(0, noise, (*labels.shape, bands))
    return (mean * (1 + 0.2 * band) + spread * cube).astype(dtype)


def field_scene(rows=20, cols=24, bands=12, classes=3, seed=0, **scene):
    """A scene of raw counts and its labels."""
    labels = field_labels(rows, cols, classes, seed=seed)
    wavelengths = np.linspace(400.0, 2400.0, bands)
    return ArrayScene(field_cube(labels, bands, seed), wavelengths=wavelengths, **scene), labels


def write_field_scene(folder, name="cube", **kwargs):
    """The same as files: ``cube.npy`` and, to be found beside it, ``cube_gt.npy``."""
    scene, labels = field_scene(**kwargs)
    path = Path(folder) / f"{name}.npy"
    np.save(path, scene.cube)
    np.save(path.with_name(f"{name}_gt.npy"), labels)
    return path


def dataset_of(scenes, splits, classes=3, names=None):
    """A data set of one scene and its split, or of several."""
    from hsifcn.core.scene import LabelMap, default_class_names, default_colours
    from hsifcn.data.dataset import Dataset

    if not isinstance(scenes, list):
        scenes, splits = [scenes], [splits]
    names, colours = tuple(names or default_class_names(classes)), default_colours(classes)
    labels = tuple(LabelMap(split.labels, names, colours) for split in splits)
    return Dataset(tuple(scenes), labels, tuple(splits), names, colours)


FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class ShapeScene:
    """A scene of a size, none of whose pixels can be read: plans need no more."""

    shape: tuple[int, int, int]
    path: str = "scene"
    dtype: np.dtype = FLOAT32
    interleave: str = "bip"
    nodata: float | None = None


def noise_scene(shape, seed=0, **scene):
    """A scene of float noise in standardised units, good for comparing two ways to score."""
    rng = np.random.default_rng(seed)
    return ArrayScene(rng.normal(size=shape).astype(np.float32), **scene)


def whole(scene):
    """The window that is the scene."""
    return Window(0, 0, *scene.shape[:2])


def randomise(network, seed=0):
    """Give every weight a random value and every batch norm the statistics of noise.

    So no path through the network is dead, and what lies far away still tells at the output.
    """
    import torch

    from hsifcn.models.batchnorm import reestimate
    from hsifcn.models.layers import Upsample
    from hsifcn.models.patch import PatchCNN

    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.copy_(1 + 0.2 * normal(*module.weight.shape))
                module.bias.copy_(0.2 * normal(*module.bias.shape))
            elif isinstance(module, Upsample):
                module.weight.mul_(1 + 0.2 * normal(*module.weight.shape))
            elif isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                fan_in = module.in_channels * module.weight[0, 0].numel()
                module.weight.copy_(normal(*module.weight.shape) * (2 / fan_in) ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(0.2 * normal(*module.bias.shape))
    bands = network.stem[0].conv.in_channels
    side = network.patch if isinstance(network, PatchCNN) else 96
    x = normal(64 if isinstance(network, PatchCNN) else 1, bands, side, side)
    reestimate(network, lambda network: network(x), calls=1)
    return network


def random_bundle(name, bands=5, classes=4, seed=0, scaling=None, wavelengths=None):
    """A bundle with random weights; its scaling changes nothing unless one is given."""
    from hsifcn.core.scene import default_class_names, default_colours
    from hsifcn.data.standardise import Scaling
    from hsifcn.inference.bundle import Bundle
    from hsifcn.models import build, default_spec

    spec = default_spec(name, bands, classes)
    return Bundle(
        spec=spec,
        weights=randomise(build(spec), seed).state_dict(),
        scaling=scaling or Scaling(np.zeros(bands), np.ones(bands)),
        good_bands=np.ones(bands, bool),
        wavelengths=wavelengths,
        class_names=default_class_names(classes),
        colours=default_colours(classes),
        settings={"model": name, "seed": seed},
        split=[{"recipe": "random:0.1", "seed": 0, "digest": "0" * 16}],
        versions={"hsifcn": "0"},
    )
