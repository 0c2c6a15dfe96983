"""Whole-scene classification of hyperspectral cubes with fully convolutional networks.

Names are imported when they are first used: ``import hsifcn`` alone loads neither PyTorch nor the
readers.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "open_scene": "hsifcn.io",
    "open_labels": "hsifcn.io",
    "make_split": "hsifcn.data.splits",
    "train": "hsifcn.training.api",
    "load_model": "hsifcn.inference.bundle",
    "predict": "hsifcn.inference.predict",
    "evaluate": "hsifcn.evaluation.evaluate",
    "Experiment": "hsifcn.comparison.experiment",
    "compare": "hsifcn.comparison.compare",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hsifcn' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
