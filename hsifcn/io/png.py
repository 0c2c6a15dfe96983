"""Label maps as pictures: bare, or with a legend."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import SettingError, UnreadableFileError
from hsifcn.io.files import atomic_write
from hsifcn.io.formats import FileScene, Format, GivenLabels
from hsifcn.io.writer import RasterSpec, RasterWriter

_PALETTE = 256
_LARGEST = 25_000_000  # pixels of a map with legend; four bytes each are held in memory
_TEXT_SHARE, _LEAST_TEXT = 50, 12  # height of letters: a part of the map's longer side, pixels


def write_label_png(
    path: str | os.PathLike[str],
    labels: npt.NDArray[np.integer[Any]],
    colours: Sequence[tuple[int, int, int]],
    *,
    overwrite: bool = False,
) -> None:
    """Write a label map as a PNG in the classes' colours, unlabelled transparent.

    Parameters
    ----------
    path : path
        The picture.
    labels : ndarray, (rows, cols), integer
        0 = unlabelled, else the class, counted from 1.
    colours : sequence of (red, green, blue), 0-255
        Colours of classes 1, 2, ...
    overwrite : bool
        Replace a file that exists.

    Raises
    ------
    ExistingOutputError
        The file exists.
    FailedError
        It cannot be written.
    """
    from PIL import Image

    table = np.array([(0, 0, 0), *colours], dtype=np.uint8)
    if len(table) <= _PALETTE:
        image = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8))
        image.putpalette(table.tobytes())
        options: dict[str, Any] = {"transparency": 0}
    else:
        image = Image.fromarray(_coloured(labels, colours))
        options = {}
    with atomic_write(path, overwrite=overwrite) as temporary:
        image.save(temporary, format="PNG", optimize=True, **options)


def write_rgb_png(
    path: str | os.PathLike[str], picture: npt.NDArray[np.uint8], *, overwrite: bool = False
) -> None:
    """Write a (rows, cols, 3) uint8 picture as a PNG.

    Raises
    ------
    ExistingOutputError
        The file exists.
    FailedError
        It cannot be written.
    """
    from PIL import Image

    with atomic_write(path, overwrite=overwrite) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def create(spec: RasterSpec) -> RasterWriter:
    """Write a classified map as a picture, a pixel a pixel, with a legend to the right of it."""
    if not spec.class_names or spec.bands > 1 or spec.dtype.kind != "u":
        raise SettingError(
            f"{spec.path} would be a picture, which holds a map of classes only", "write .tif"
        )
    if spec.shape[0] * spec.shape[1] > _LARGEST:
        raise SettingError(
            f"{spec.path} would be a picture of {spec.shape[0]} x {spec.shape[1]} pixels, more "
            f"than {_LARGEST / 1e6:.0f} million",
            "write .tif, which shows the same in QGIS",
        )

    def convert(raw: Path, target: Path) -> None:
        codes = np.fromfile(raw, dtype=spec.dtype).reshape(spec.shape[:2])
        labels = np.searchsorted(np.array((0, *spec.class_values)), codes)
        map_with_legend(labels, spec.class_names, spec.class_colours).save(target, format="PNG")

    return RasterWriter(spec, convert=convert)


def map_with_legend(
    labels: npt.NDArray[np.integer[Any]],
    names: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
) -> Any:
    """Draw a map, and to the right of it the names of the classes that it shows.

    Parameters
    ----------
    labels : ndarray, (rows, cols), integer
        0 = unlabelled, drawn transparent, else the class, counted from 1.
    names : sequence of str
        Of classes 1, 2, ...
    colours : sequence of (red, green, blue), 0-255
        The same.

    Returns
    -------
    PIL.Image.Image
        RGBA; its left upper part is the map, a pixel a pixel. The legend has as many columns as
        fit its entries into the height of the map, but is never lower than a square's side.
    """
    from PIL import Image, ImageDraw

    rows, cols = labels.shape
    shown = [label for label in np.unique(labels).tolist() if label]
    font = _font(max(_LEAST_TEXT, max(rows, cols) // _TEXT_SHARE))
    line = round(1.5 * font.size)
    lines = max(1, min(len(shown), max(rows // line, int(len(shown) ** 0.5))))
    columns = [shown[start : start + lines] for start in range(0, len(shown), lines)]
    widths = [max(font.getlength(names[label - 1]) for label in column) for column in columns]
    width = cols + line + sum(round(w) + 2 * line for w in widths)
    picture = Image.new("RGBA", (width, max(rows, lines * line)), (255, 255, 255, 255))
    picture.paste(Image.fromarray(_coloured(labels, colours)))
    draw = ImageDraw.Draw(picture)
    left = cols + line // 2
    for column, text_width in zip(columns, widths, strict=True):
        for i, label in enumerate(column):
            top = i * line + (line - font.size) // 2
            square = (left, top, left + font.size, top + font.size)
            draw.rectangle(square, fill=(*colours[label - 1], 255), outline=(0, 0, 0, 255))
            place = (left + line, i * line + line // 2)
            draw.text(place, names[label - 1], font=font, fill=(0, 0, 0, 255), anchor="lm")
        left += round(text_width) + 2 * line
    return picture


def _coloured(
    labels: npt.NDArray[np.integer[Any]], colours: Sequence[tuple[int, int, int]]
) -> npt.NDArray[np.uint8]:
    """Red, green, blue and opacity of each pixel; unlabelled is transparent."""
    table = np.array([(0, 0, 0, 0), *((*colour, 255) for colour in colours)], dtype=np.uint8)
    picture: npt.NDArray[np.uint8] = table[labels]
    return picture


def _font(size: int) -> Any:
    """DejaVu Sans, which comes with matplotlib and has the letters of most languages."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def _refuse_scene(path: str, variable: str | None) -> FileScene:
    raise UnreadableFileError(f"{path} is a picture, not a cube", "give the scene that it shows")


def _refuse_labels(path: str, variable: str | None) -> GivenLabels:
    raise UnreadableFileError(
        f"{path} is a picture, whose colours are no classes", "give the map as .img or .tif"
    )


FORMAT = Format(
    name="PNG",
    suffixes=(".png",),
    label_suffixes=(),
    write_suffixes=(".png",),
    open_scene=_refuse_scene,
    read_labels=_refuse_labels,
    create=create,
)
