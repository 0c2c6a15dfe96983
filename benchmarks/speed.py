"""How near prediction comes to what the processor can do.

    python -m benchmarks.speed [--gigabytes 5]

In one run: the rate of float32 matrix products on this machine, that of the default network's
forward pass, pixels a second of ``hsifcn predict`` from a file in the page cache, and the share of
its time that is not the network's. Prints the table and writes it to ``docs/speed.md``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from benchmarks.cubes import mosaic, predict, write_model
from hsifcn.core.process import (
    ask_for_huge_pages,
    keep_memory_together,
    machine,
    spin_briefly,
    versions,
)
from hsifcn.core.scene import Window
from hsifcn.inference import streaming as blocks
from hsifcn.inference.bundle import load_model
from hsifcn.inference.predictor import Predictor, write_prediction
from hsifcn.io import open_scene
from hsifcn.models import DEFAULT_MODEL
from hsifcn.models.flops import formula_forward, on_meta

ROOT = Path(__file__).parent.parent
BANDS = 200
SIDE = 512  # pixels of the tile that is scored
PRODUCT = 2048  # side of the matrices


def seconds_of(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def forward_rate(model: Path, repeats: int) -> tuple[float, float, float]:
    """GFLOP/s of matrix products and of the network, in turn; seconds a pixel of the network."""
    predictor = Predictor(load_model(model))
    window = Window(0, 0, SIDE, SIDE)
    rng = np.random.default_rng(0)
    block = rng.normal(3000, 1000, (SIDE * SIDE, BANDS)).astype(np.float32)
    valid = np.ones(SIDE * SIDE, bool)
    left, right = torch.randn(2, PRODUCT, PRODUCT)
    flops = formula_forward(on_meta(predictor.bundle.spec), 1, BANDS, SIDE, SIDE)
    products, passes = [], []
    for _ in range(repeats + 1):  # the first of each settles how to compute
        products.append(seconds_of(lambda: left @ right))
        passes.append(seconds_of(lambda: predictor.score_blocks(iter([(block, valid)]), window)))
    forward = min(passes[1:])
    return 2 * PRODUCT**3 / min(products[1:]) / 1e9, flops / forward / 1e9, forward / SIDE**2


def overlap(model: Path, scene: Path, repeats: int) -> tuple[float, float]:
    """Seconds to map a scene when it is read ahead, and when it is read between the tiles."""
    predictor = Predictor(load_model(model))
    opened = open_scene(str(scene))
    times: dict[int, list[float]] = {blocks.BLOCKS_AHEAD: [], 0: []}
    for _ in range(repeats):
        for count, seconds in times.items():
            with mock.patch.object(blocks, "BLOCKS_AHEAD", count):
                done = write_prediction(
                    predictor, opened, scene.with_name("map.img"), overwrite=True
                )
            seconds.append(done.seconds)
    ahead, in_turn = (min(seconds) for seconds in times.values())
    return ahead, in_turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=0.8, help="of the scene, int16")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--folder", type=Path, help="for the scenes; a temporary one otherwise")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "speed.md")
    given = parser.parse_args()
    keep_memory_together()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        model = write_model(folder / "model.safetensors", given.model, BANDS)
        product, forward, a_pixel = forward_rate(model, given.repeats)
        rows = [
            ("float32 matrix product", f"{product:.0f} GFLOP/s"),
            (f"forward pass, {SIDE}x{SIDE}x{BANDS}", f"{forward:.0f} GFLOP/s"),
            ("share of the product's rate", f"{100 * forward / product:.0f} %"),
            ("FLOPs a pixel", f"{forward * 1e6 * a_pixel:.0f} k"),
            ("forward pass alone", f"{1e-6 / a_pixel:.2f} million pixels/s"),
        ]
        for interleave in ("bip", "bsq"):
            pixels = int(given.gigabytes * 1e9 / (2 * BANDS))
            with mosaic(folder / "mosaic.img", pixels, interleave) as scene:
                found = predict(model, scene)  # brings the file into the page cache
                seconds = statistics.median(predict(model, scene)["seconds"] for _ in range(3))
                ahead, in_turn = overlap(model, scene, 3)
            mapped = found["shape"][0] * found["shape"][1]
            rate = mapped / seconds
            rest = 1 - a_pixel * mapped / seconds
            size = f"{mapped * 2 * BANDS / 1e9:.1f} GB, {interleave}, cached"
            rows += [
                (f"`predict`, {size}", f"{rate / 1e6:.2f} million pixels/s"),
                ("of that not the forward pass of its pixels", f"{100 * rest:.0f} %"),
                ("read ahead, or in turn", f"{ahead:.2f} or {in_turn:.2f} s"),
            ]
    found, known = machine(), versions()
    text = [
        "# Speed of prediction",
        "",
        f"`{given.model}`, {BANDS} bands, untrained, on {found['cores']} cores "
        f"({torch.get_num_threads()} threads) of {found['processor']}, torch {known['torch']}; "
        f"the best of {given.repeats}; printed by `python -m benchmarks.speed --gigabytes "
        f"{given.gigabytes:g}`. The forward pass starts from float32 spectra in memory; `predict` "
        "reads, converts, scores halos twice and writes the map, start of the program aside; the "
        "median of three.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
    ]
    print("\n".join(text))
    given.out.write_text("\n".join(text) + "\n", "utf-8")


if __name__ == "__main__":
    ask_for_huge_pages()
    spin_briefly()
    main()
