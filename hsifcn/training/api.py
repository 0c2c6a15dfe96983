"""``hsifcn.train``: training for Python users, on scenes and labels in hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import LabelMap, Scene
from hsifcn.data.classes import unite_classes
from hsifcn.data.dataset import default_recipe, make_dataset
from hsifcn.data.splits import Split, make_splits
from hsifcn.inference.bundle import Bundle
from hsifcn.io import as_labels, as_scene
from hsifcn.models import DEFAULT_MODEL
from hsifcn.training.settings import default_options
from hsifcn.training.train import Trained
from hsifcn.training.train import train as train_dataset


def train(
    scenes: Scene | Any | Sequence[Scene | Any],
    labels: LabelMap | Any | Sequence[LabelMap | Any],
    *,
    split: str | Split | Sequence[Split] | None = None,
    model: str = DEFAULT_MODEL,
    seed: int = 0,
    steps: int | None = None,
    inductive: bool = False,
    device: str = "cpu",
    max_memory: int | None = None,
    init: Bundle | None = None,
) -> Trained:
    """Train a network on scenes and their labels.

    Parameters
    ----------
    scenes : Scene or sequence of Scene
        Of one sensor. A path or an array, of NumPy or xarray, is as good; see ``open_scene``.
    labels : LabelMap or sequence of LabelMap
        One a scene, of the same size; or paths or arrays (rows, cols), see ``open_labels``.
    split : str, Split or sequence of Split, optional
        Recipe, or the splits themselves; see ``make_split``. ``features:0.3`` by default where
        labels are polygons or points, else ``random:0.1``.
    model : str
        ``hsifcn``, ``fcn32s`` ... ``fcn1s``, ``segnet``, ``deconvnet``, ``deeplab``, ``patch15``.
    seed : int
        Of a split made from a recipe, of initialisation and of augmentation.
    steps : int, optional
        Optimiser steps, if not the default.
    inductive : bool
        See no spectra but those of the training pixels.
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    max_memory : int, optional
        Ceiling on the process's resident memory, bytes; a share of what is free by default.
    init : Bundle, optional
        A trained model of the same architecture to start from.

    Returns
    -------
    Trained
        With the model in ``bundle``.

    Raises
    ------
    HsifcnError
        See ``training.train.train``.
    """
    scene_list = [as_scene(scene) for scene in listed(scenes)]
    given_labels = listed(labels)
    if len(given_labels) != len(scene_list):
        raise SettingError(
            f"{len(scene_list)} scenes and {len(given_labels)} label maps", "give one a scene"
        )
    maps = [as_labels(given, scene) for given, scene in zip(given_labels, scene_list, strict=True)]
    if split is None or isinstance(split, str):
        maps = list(unite_classes(maps, [scene.path for scene in scene_list]))
        splits = list(make_splits(maps, split or default_recipe(maps), seed=seed))
    else:
        splits = [split] if isinstance(split, Split) else list(split)
    options = default_options(
        model, seed, steps=steps, inductive=inductive, device=device,
        max_memory=max_memory, init=init,
    )  # fmt: skip
    return train_dataset(make_dataset(scene_list, maps, splits).training_scenes(), options)


def listed(given: Any) -> list[Any]:
    """What was given, one or several, as a list."""
    several = isinstance(given, Sequence) and not isinstance(given, str)
    return list(given) if several else [given]
