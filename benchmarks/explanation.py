r"""The figures and the table of ``docs/how_it_works.md``: what skips and upsampling bring.

cd data
hsifcn train indian_pines_corrected.mat -s checkerboard:14:gap=3 --class-names class_names.txt \
    --wavelengths wavelengths_nm.txt -o ../runs/picture
hsifcn train indian_pines_corrected.mat -s checkerboard:14:gap=3 --class-names class_names.txt \
    --wavelengths wavelengths_nm.txt -m fcn8s -o ../runs/fcn8s
cd ..
python -m benchmarks.explanation runs/picture runs/fcn8s --write

With --write the tables and the pictures in ``docs/figures`` are written anew.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from benchmarks.measuring import open_run
from benchmarks.pages import DOCS, markdown_table, write_figures
from hsifcn.inference.band_matching import match_scene
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.explain.explain import explain
from hsifcn.inference.explain.explanation import Explanation
from hsifcn.inference.explain.stages import bilinear
from hsifcn.io.files import atomic_write
from hsifcn.report.quicklook import label_image, rgb_quicklook

PAGE = DOCS / "how_it_works.md"
UPSAMPLINGS = {"learned": "learned", "bilinear": "bilinear", "nearest": "cells repeated"}
SHOWN = ("Corn-notill", "Soybean-mintill", "Woods", "Stone-Steel-Towers")
INCHES, DPI = 7.5, 130
RIM = [withStroke(linewidth=3.2, foreground="black")]  # of lines that are drawn over a scene
STYLE: Any = {"font.size": 8, "axes.titlesize": 8, "text.parse_math": False}


def explained(run: Path) -> tuple[Bundle, Explanation, npt.NDArray[np.uint8]]:
    """The model of a run, its explanation, and its scene as a picture."""
    bundle, scene, split = open_run(run)
    return bundle, explain(bundle, match_scene(bundle, scene).scene, split), rgb_quicklook(scene)


def table(explanations: Sequence[Explanation]) -> list[str]:
    """Accuracy after each stage, and with other upsampling kernels."""
    stages, kernels = [], []
    for one in explanations:
        for stage in one.record["stages"]:
            so_far, without = stage["up_to_here"], stage["without"]["oa"]
            cells = [f"`{one.record['model']}`", f"{stage['stride']} px"]
            cells += [f"{100 * v:.1f}" for v in (so_far["oa"], so_far["boundary_oa"], without)]
            stages.append(cells)
        for key, name in UPSAMPLINGS.items():
            told = one.record["upsampling"]["replaced"][key]
            accuracies = [f"{100 * told[measure]:.1f}" for measure in ("oa", "boundary_oa")]
            kernels.append([f"`{one.record['model']}`", name, *accuracies])
    both = ["OA %", "OA at boundaries %"]
    return [
        *markdown_table(["model", "cells added", *both, "OA % of all stages but it"], stages),
        "",
        *markdown_table(["model", "upsampling", *both], kernels),
    ]


def depths(bundle: Bundle, one: Explanation) -> Figure:
    """The map, and heat maps of some classes, after each stage."""
    rows = [name for name in SHOWN if name in bundle.class_names] or list(bundle.class_names[:4])
    n_stages = len(one.shares)
    figure = Figure(figsize=(INCHES, 1.75 * n_stages), layout="constrained")
    grid = figure.subplots(n_stages, len(rows) + 1, squeeze=False)
    for stage, line in enumerate(grid):
        told = one.record["stages"][stage]["up_to_here"]
        line[0].imshow(label_image(one.labels_after(stage), bundle.colours))
        line[0].set_title(f"map, OA {100 * told['oa']:.1f} %")
        plus = "" if stage == 0 else "+ "
        line[0].set_ylabel(f"{plus}cells of {one.strides[stage]} px")
        heat = one.after(stage).softmax(0).numpy()
        for axes, name in zip(line[1:], rows, strict=True):
            axes.imshow(heat[bundle.class_names.index(name)], cmap="inferno", vmin=0, vmax=1)
            axes.set_title(name)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    return figure


def upsampling(one: Explanation) -> Figure:
    """Bilinear and learned kernel of the last upsampling, and an even area after each."""
    kernel, pattern = one.kernels[-1], one.patterns[-1]
    wanted = bilinear(1, kernel.shape[-1] // 2)[0, 0].numpy()
    number = int((pattern.max((1, 2)) - pattern.min((1, 2))).argmax())
    even = np.tile(pattern[number], (4, 4))
    panels = (
        ("bilinear kernel", wanted, "viridis"),
        ("learned kernel, mean of classes", kernel.mean(0), "viridis"),
        (f"an even area of 1: {even.min():.2f} to {even.max():.2f}", even, "Greys_r"),
    )
    figure = Figure(figsize=(INCHES, 2.6), layout="constrained")
    for axes, (title, values, colours) in zip(figure.subplots(1, 3), panels, strict=True):
        shown = axes.imshow(values, cmap=colours)
        axes.set_title(title)
        axes.set(xticks=[], yticks=[])
        figure.colorbar(shown, ax=axes, shrink=0.75)
    return figure


def sight(explanations: Sequence[Explanation], image: npt.NDArray[np.uint8]) -> Figure:
    """How far each network sees, to scale over the scene, beside a patch of 15 x 15 pixels."""
    figure = Figure(figsize=(INCHES, 4.5), layout="constrained")
    row, col = image.shape[0] // 2, image.shape[1] // 2
    drawn = zip(figure.subplots(1, len(explanations), squeeze=False)[0], explanations, strict=True)
    for axes, one in drawn:
        found = one.influence
        reach = len(found.map) // 2
        strength = np.sqrt(found.map / found.map.max())
        heat = matplotlib.colormaps["inferno"](strength)
        heat[..., 3] = np.clip(1.6 * strength, 0, 0.85)
        axes.imshow(image)
        extent = (col - reach, col + reach, row + reach, row - reach)
        axes.imshow(heat, extent=extent)
        beyond = " (beyond the scene)" if found.allowed > max(image.shape) else ""
        sides = {
            "patch, 15 px": ("#56B4E9", 15),
            f"90 % within {found.side_of(0.9)} px": ("#F0E442", found.side_of(0.9)),
            f"layers allow {found.allowed} px{beyond}": ("#FF8AD8", found.allowed),
        }
        for label, (colour, side) in sides.items():
            corner = (col - side / 2, row - side / 2)
            style: Any = {"fill": False, "edgecolor": colour, "linewidth": 1.8, "label": label}
            axes.add_patch(Rectangle(corner, side, side, path_effects=RIM, **style))
        axes.set_title(one.record["model"])
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), frameon=False)
        axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0), xticks=[], yticks=[])
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG of at most 256 colours, which keeps it small."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    picture = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    with atomic_write(path, overwrite=True) as temporary:
        picture.save(temporary, format="PNG", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="of networks of the FCN family")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    found = [explained(run) for run in given.runs]
    explanations = [one for _, one, _ in found]
    lines = table(explanations)
    print("\n".join(lines))
    if not given.write:
        return
    folder = DOCS / "figures"
    folder.mkdir(exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for bundle, one, _ in found:
            save(depths(bundle, one), folder / f"depths_{bundle.spec.name}.png")
        last = explanations[-1]
        save(upsampling(last), folder / f"upsampling_{last.record['model']}.png")
        save(sight(explanations, found[0][2]), folder / "receptive_fields.png")
    write_figures(PAGE, lines, "skips")


if __name__ == "__main__":
    main()
