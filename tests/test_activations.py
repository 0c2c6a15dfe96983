from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from live_bytes import peak_live_bytes

from hsifcn.models import MODELS, build, default_spec, scene_form
from hsifcn.models.layers import ConvBlock

SIDE = 96
NAMES = [*(name for name, model in MODELS.items() if model.patch is None), "patch5", "patch15"]


def counted(spec):
    """Bytes a pixel that scoring what the stem made of a scene holds, counted."""
    network = build(spec).to(memory_format=torch.channels_last).eval()
    for block in [m for m in network.modules() if isinstance(m, ConvBlock)]:
        block.fold()
    network = scene_form(network)

    def run():
        return network.after_stem(torch.zeros(1, SIDE, SIDE, spec.stem[-1]).permute(0, 3, 1, 2))

    margin = 0 if MODELS[spec.name].patch is None else MODELS[spec.name].patch // 2
    return peak_live_bytes(run) / (SIDE + 2 * margin) ** 2


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12)
@given(st.data())
def test_memory_by_arithmetic_is_what_is_held(name, data):
    width = st.integers(2, 40)
    spec = default_spec(name, 7, data.draw(st.integers(2, 120)))
    spec = replace(
        spec,
        stem=(4, data.draw(width)),
        widths=tuple(data.draw(width) for _ in spec.widths),
    )
    found = counted(spec)
    too_much = 1.15 if MODELS[name].patch is None else 1.45  # with a margin
    assert 0.97 * found < 4 * MODELS[name].activations_per_pixel(spec) < too_much * found
