"""What ``hsifcn info`` tells of a scene, for programs."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hsifcn.core.scene import Grid, LabelMap
    from hsifcn.data.dataset import Labelling
    from hsifcn.io.formats import FileScene

FACTS = (
    *("path", "kind", "shape", "dtype", "interleave", "axes_told", "wavelengths", "fwhm"),
    *("scale_factor", "bad_bands", "band_faults", "nodata", "grid", "labels", "classes"),
    *("class_codes", "labels_shape", "notes", "warnings"),
)  # keys of ``--json``


def texts_of(told: Sequence[warnings.WarningMessage]) -> tuple[list[str], list[str]]:
    """Notes, and warnings, that were told, each once."""
    from hsifcn.core.errors import Notice

    kinds = {" ".join(str(item.message).split()): item.category for item in told}
    notes = [text for text, kind in kinds.items() if issubclass(kind, Notice)]
    return notes, [text for text in kinds if text not in notes]


def labels_of(
    scene: FileScene,
    scene_path: str,
    label_paths: Sequence[str],
    labelling: Labelling,
    detail: Callable[[str], None] = lambda text: None,
) -> tuple[LabelMap | None, str | None]:
    """Open the labels of a scene, where there are any, and tell their path.

    Labels that do not fit the scene, and those that were found and cannot be used, are told by a
    warning; ``detail`` is told why none were found.
    """
    from hsifcn.core.errors import HsifcnError, MismatchError
    from hsifcn.io import find_labels

    path = label_paths[0] if label_paths else None
    if path is None:
        try:
            path = find_labels(scene_path)
        except HsifcnError as error:
            detail(str(error))
            return None, None
    try:
        return labelling.open(path, scene), path
    except HsifcnError as error:
        given = label_paths or labelling.class_names
        if given and not isinstance(error, MismatchError):
            raise
        warnings.warn(str(error), stacklevel=2)
        return None, path


def facts_of(scene: FileScene, labels: LabelMap | None, labels_path: str | None) -> dict[str, Any]:
    """All there is to tell of a scene, for programs."""
    from hsifcn.data.bands import band_faults

    values: dict[str, Any] = {
        "path": scene.path,
        "kind": "scene",
        "shape": list(scene.shape),
        "dtype": scene.dtype.name,
        "interleave": scene.interleave,
        "axes_told": scene.axes_told,
        "wavelengths": None if scene.wavelengths is None else scene.wavelengths.tolist(),
        "fwhm": None if scene.fwhm is None else scene.fwhm.tolist(),
        "scale_factor": scene.scale_factor,
        "bad_bands": [int(i) + 1 for i in (~scene.good_bands).nonzero()[0]],
        "band_faults": {
            fault: [int(i) + 1 for i in bands.nonzero()[0]]
            for fault, bands in band_faults(scene).items()
        },
        "nodata": scene.nodata,
        "grid": None if scene.grid is None else grid_record(scene.grid),
        "labels": labels_path,
        "classes": None,
    }
    if labels is not None:
        values |= class_facts(labels)
        values["labels_shape"] = list(labels.labels.shape)
    return values


def class_facts(labels: LabelMap) -> dict[str, Any]:
    """Pixels and codes of the classes that occur, by name."""
    import numpy as np

    counts = np.bincount(labels.labels.ravel(), minlength=labels.n_classes + 1)[1:].tolist()
    present = zip(labels.class_names, counts, labels.codes, strict=True)
    found = [(name, pixels, code) for name, pixels, code in present if pixels]
    return {
        "classes": {name: pixels for name, pixels, _ in found},
        "class_codes": {name: code for name, _, code in found},
    }


def grid_record(grid: Grid) -> dict[str, Any]:
    """Georeference, with the name of its CRS and the size of its pixels in units of the CRS."""
    a, b, _, d, e, _ = grid.transform
    # Well-known text names the CRS in its first quotes: PROJCS["WGS 84 / UTM zone 33N",...
    name = re.search(r'\[ *"([^"]+)"', grid.crs or "")
    return {
        "crs": grid.crs,
        "crs_name": name[1] if name else grid.crs,
        "transform": list(grid.transform),
        "pixel_size": [math.hypot(a, d), math.hypot(b, e)],
    }


def oddities(values: dict[str, Any]) -> list[str]:
    """What may be wrong with a scene that can be read."""
    found = []
    nm = values["wavelengths"]
    if nm is not None and any(after <= before for before, after in itertools.pairwise(nm)):
        found.append("the wavelengths do not increase")
    if values["grid"] is not None and values["grid"]["crs"] is None:
        found.append("the georeference names no coordinate system")
    rows, cols, bands = values["shape"]
    if bands > max(rows, cols) and not values["axes_told"]:
        found.append(f"{bands} bands and {rows} x {cols} pixels: are the axes in order?")
    faulty = set(itertools.chain.from_iterable(values["band_faults"].values()))
    if len(faulty) == bands:
        found.append("no band is usable")
    return found
