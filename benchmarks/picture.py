"""The picture of the README: a scene, the labels learnt from, the map, the ground truth.

hsifcn train data/indian_pines_corrected.mat -s checkerboard:14:gap=3 -o runs/picture
python -m benchmarks.picture runs/picture docs/indian_pines.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.measuring import open_run
from hsifcn.inference.predictor import Predictor
from hsifcn.io import write_rgb_png
from hsifcn.report.quicklook import label_image, rgb_quicklook

ZOOM = 2  # screen pixels a pixel of the scene
GUTTER = 12  # white screen pixels between the pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
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


if __name__ == "__main__":
    main()
