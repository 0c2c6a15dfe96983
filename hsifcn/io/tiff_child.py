"""Parses one GeoTIFF with GDAL, in a process that may crash or be killed.

``hsifcn.io.parser`` calls ``main``. The task ``scene`` opens it as a scene and reads its first and
its last pixel; ``labels`` tells of a label raster what must be known before it is unpacked;
``extract`` writes a window of it to TARGET, in native byte order.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

from hsifcn.core.scene import Window
from hsifcn.io import tiff


def main(task: str, path: str, content: str = "", target: str = "") -> dict[str, Any]:
    """Do one task; see the module."""
    if task == "labels":
        return tiff.describe_labels(path)
    if task == "extract":
        window, _ = json.loads(content)
        with open(target, "wb") as file:
            tiff.read_label_window(path, Window(**window)).tofile(file)
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whoever opens it again is told
        scene = tiff.open_checked_scene(path)
        rows, cols, _ = scene.shape
        for row, col in {(0, 0), (rows - 1, cols - 1)}:
            scene.read(Window(row, col, 1, 1))
    return {}
