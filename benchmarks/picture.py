r"""Pictures of the docs: a scene, the labels learnt from, the map, the ground truth; a run's page.

cd data
hsifcn train indian_pines_corrected.mat -s checkerboard:14:gap=3 --class-names class_names.txt \
    --wavelengths wavelengths_nm.txt -o ../runs/picture
cd ..
python -m benchmarks.picture runs/picture docs/indian_pines.png docs/report.png

The page is drawn by Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measuring import open_run
from hsifcn.inference.predictor import Predictor
from hsifcn.io import write_rgb_png
from hsifcn.report.quicklook import label_image, rgb_quicklook

ZOOM = 2  # screen pixels a pixel of the scene
GUTTER = 12  # white screen pixels between the pictures
WINDOW, SHOWN = (1000, 1000), 875  # pixels of a browser, and rows of it that hold the viewer


def draw_page(page: Path, out: Path) -> None:
    """The top of a page as a PNG of at most 256 colours."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("the picture of the page needs Chromium")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "page.png"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += [f"--user-data-dir={folder}", "--virtual-time-budget=4000"]
        size = f"--window-size={WINDOW[0]},{WINDOW[1]}"
        command = [chromium, *options, size, f"--screenshot={shot}", page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        top = Image.open(shot).convert("RGB").crop((0, 0, WINDOW[0], SHOWN))
    picture = top.quantize(256, dither=Image.Dither.NONE)
    picture.save(out, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("page", type=Path, nargs="?")
    given = parser.parse_args()
    bundle, scene, split = open_run(given.run)
    learnt = np.where(split.train | split.validation, split.labels, 0)
    pictures = [
        rgb_quicklook(scene),
        label_image(learnt, bundle.colours),
        label_image(Predictor(bundle).label_map(scene), bundle.colours),
        label_image(split.labels, bundle.colours),
    ]
    large = [picture.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1) for picture in pictures]
    gutter = np.full((len(large[0]), GUTTER, 3), 255, np.uint8)
    parts = [large[0], *(part for picture in large[1:] for part in (gutter, picture))]
    write_rgb_png(given.out, np.concatenate(parts, axis=1), overwrite=True)
    if given.page:
        draw_page(given.run / "report.html", given.page)


if __name__ == "__main__":
    main()
