"""What the viewer of a page shows of a scene: layers of pixels, spectra and legend, packed small.

A page stays under about 8 MB: a scene of more pixels is thinned, its spectra are thinned further in
bands and in pixels, and everything is compressed. The viewer says where something was left out.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.scene import Scene, Window
from hsifcn.data.bands import measured_bands
from hsifcn.io.crs import pixel_area
from hsifcn.report.page import codes_of
from hsifcn.report.quicklook import SPLIT_COLOURS, rgb_quicklook

LARGEST_SIDE = 800  # pixels of a layer; a larger scene is thinned
SPECTRA_BYTES = 3_500_000  # of the spectra of all pixels shown
MOST_BANDS = 64  # of a spectrum in the viewer
FEWEST_BANDS = 16  # before pixels are left out instead
PERCENTILES = (0.5, 99.5)  # of the values that 8 bits are spread over

Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class MappedScene:
    """A scene with all that is known of its pixels.

    Attributes
    ----------
    scene : Scene
    truth, label_map : ndarray, (rows, cols), integer
        Ground truth (0 = unlabelled) and map (0 = unclassified).
    split : ndarray, (rows, cols), integer
        1 training, 2 validation, 3 test, 0 neither.
    confidence : ndarray, (rows, cols), float32
        Probability of the class mapped, 0 to 1.
    probabilities : ndarray, (rows, cols, classes), uint8, or None
        Of every class, 255 standing for 1; None where the scene is too large.
    """

    scene: Scene
    truth: Labels
    label_map: Labels
    split: Labels
    confidence: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.uint8] | None = None


def viewer_data(
    mapped: MappedScene,
    class_names: Sequence[str],
    colours: Sequence[Sequence[int]],
    class_codes: Sequence[int] = (),
) -> dict[str, Any]:
    """All that the viewer of one scene is drawn from, ready for JSON.

    Parameters
    ----------
    mapped : MappedScene
    class_names, colours : sequences, (n_classes,)
        Of classes 1, 2, ...
    class_codes : sequence, (n_classes,), optional
        Their values in label files and maps, where these are not 1, 2, ...

    Returns
    -------
    dict
        Layers and spectra as base64 of deflated bytes, row by row.
    """
    scene = mapped.scene
    rows, cols = scene.shape[:2]
    step = -(-max(rows, cols) // LARGEST_SIDE)
    truth, label_map, split = (
        array[::step, ::step].astype("<u2")
        for array in (mapped.truth, mapped.label_map, mapped.split)
    )
    percent = np.rint(100 * mapped.confidence[::step, ::step]).astype(np.uint8)
    image = rgb_quicklook(scene, LARGEST_SIDE)
    counts = np.bincount(mapped.label_map.ravel(), minlength=len(class_names) + 1)
    return {
        "name": scene.path.replace("\\", "/").rsplit("/", 1)[-1],
        "rows": truth.shape[0],
        "cols": truth.shape[1],
        "step": step,
        "scene_rows": rows,
        "scene_cols": cols,
        "transform": list(scene.grid.transform) if scene.grid else None,
        "hectares_per_pixel": _hectares(scene),
        "names": list(class_names),
        "codes": codes_of(class_codes, len(class_names)),
        "colours": [[int(part) for part in colour] for colour in colours],
        "counts": [int(count) for count in counts],
        "split_colours": [list(colour) for colour in SPLIT_COLOURS.values()],
        "image": pack(image),
        "truth": pack(truth),
        "map": pack(label_map),
        "split": pack(split),
        "confidence": pack(percent),
        "probabilities": _packed_probabilities(mapped, step),
        "spectra": spectra_data(scene, mapped.truth, len(class_names)),
    }


def spectra_data(scene: Scene, truth: Labels, n_classes: int) -> dict[str, Any] | None:
    """Spectra of the pixels, in 8 bits, and the mean spectrum of each class of the ground truth.

    Returns
    -------
    dict or None
        ``values`` (rows, cols, bands) packed, with ``step`` between the pixels that it holds;
        ``low`` and ``high``, which 0 and 255 stand for; ``places`` of the bands in nm, or their
        numbers; ``means``, a list of values or None a class. None where no value is finite.
    """
    rows, cols = scene.shape[:2]
    good = np.flatnonzero(measured_bands(scene))
    if not good.size:
        return None
    room = SPECTRA_BYTES // (rows * cols)
    n_bands = min(len(good), MOST_BANDS, max(FEWEST_BANDS, room))
    step = 1
    while -(-rows // step) * -(-cols // step) * n_bands > SPECTRA_BYTES:
        step += 1
    bands = good[np.unique(np.linspace(0, len(good) - 1, n_bands).round().astype(int))]
    sample = read_sample(scene, bands, step)
    finite = np.isfinite(sample)
    if not finite.any():
        return None
    found = np.percentile(sample[finite], PERCENTILES, overwrite_input=True)
    low, high = map(float, found)  # so that float32 stays so
    high = high if high > low else low + 1
    scaled = sample - low
    scaled *= 255 / (high - low)
    np.clip(scaled, 0, 255, out=scaled)
    scaled[~finite] = 0
    codes = np.rint(scaled, out=scaled).astype(np.uint8)
    labels = truth[::step, ::step]
    means: list[list[float] | None] = []
    for label in range(1, n_classes + 1):
        of_class = sample[labels == label]
        known = of_class[np.isfinite(of_class).all(axis=1)]
        means.append([float(f"{v:.5g}") for v in known.mean(axis=0)] if len(known) else None)
    nm = scene.wavelengths
    return {
        "values": pack(codes),
        "step": step,
        "cols": sample.shape[1],
        "low": low,
        "high": high,
        "unit": "band" if nm is None else "nm",
        "places": [float(place) for place in (bands + 1 if nm is None else nm[bands].round(1))],
        "means": means,
    }


def read_sample(scene: Scene, bands: npt.NDArray[np.intp], step: int) -> npt.NDArray[np.float32]:
    """Some bands of every ``step``-th pixel, (rows, cols, bands); NaN where not measured."""
    rows, cols = scene.shape[:2]
    lines = []
    for row in range(0, rows, step):
        line = scene.read(Window(row, 0, 1, cols))[:, ::step][..., bands].astype(np.float32)
        if scene.nodata is not None:
            line[line == np.float32(scene.nodata)] = np.nan
        lines.append(line)
    return np.concatenate(lines)


def pack(array: npt.NDArray[Any]) -> str:
    """The bytes of an array, deflated, as base64."""
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")


def _packed_probabilities(mapped: MappedScene, step: int) -> str | None:
    if mapped.probabilities is None:
        return None
    return pack(np.ascontiguousarray(mapped.probabilities[::step, ::step]))


def _hectares(scene: Scene) -> float | None:
    area = pixel_area(scene.grid)
    return None if area is None else area / 1e4
