"""Files: scenes and labels in, rasters out.

Names are imported when they are first used: the process that parses files, a module of this
package, starts without the readers of all formats.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hsifcn.io.creating import create_raster
    from hsifcn.io.files import atomic_write
    from hsifcn.io.finding import find_labels, find_scenes
    from hsifcn.io.formats import scene_stem, split_variable
    from hsifcn.io.mat import list_variables
    from hsifcn.io.png import write_map_picture, write_rgb_png
    from hsifcn.io.reading import as_labels, as_scene, open_labels, open_scene
    from hsifcn.io.table import FORMATS
    from hsifcn.io.writer import RasterWriter

__all__ = [
    "FORMATS",
    "RasterWriter",
    "as_labels",
    "as_scene",
    "atomic_write",
    "create_raster",
    "find_labels",
    "find_scenes",
    "list_variables",
    "open_labels",
    "open_scene",
    "scene_stem",
    "split_variable",
    "write_map_picture",
    "write_rgb_png",
]
_HOME = {
    "FORMATS": "table",
    "RasterWriter": "writer",
    "as_labels": "reading",
    "as_scene": "reading",
    "atomic_write": "files",
    "create_raster": "creating",
    "find_labels": "finding",
    "find_scenes": "finding",
    "list_variables": "mat",
    "open_labels": "reading",
    "open_scene": "reading",
    "scene_stem": "formats",
    "split_variable": "formats",
    "write_map_picture": "png",
    "write_rgb_png": "png",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hsifcn.io' has no attribute '{name}'")
    return getattr(importlib.import_module(f"hsifcn.io.{_HOME[name]}"), name)
