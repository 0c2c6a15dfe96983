"""Settings that all tests share, and networks small enough to be tried often."""

from __future__ import annotations

import os
import signal

# One thread a process, inherited by those that tests start: small networks gain nothing from more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import replace

import pytest
from hypothesis import settings

# A shell starts what runs in the background deaf to Ctrl-C, and so would be what tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("hsifcn", deadline=None, derandomize=True)
settings.load_profile("hsifcn")


def shrink_models(monkeypatch):
    """Give every network few channels; names, layers and geometry stay."""
    from hsifcn.models import MODELS

    for name, model in MODELS.items():
        stem, widths = (8,) * len(model.stem), (8,) * len(model.widths)
        monkeypatch.setitem(MODELS, name, replace(model, stem=stem, widths=widths))


@pytest.fixture
def small_models(monkeypatch):
    shrink_models(monkeypatch)


@pytest.fixture(scope="module")
def small_models_in_module():
    with pytest.MonkeyPatch.context() as monkeypatch:
        shrink_models(monkeypatch)
        yield
