"""Label maps as pictures with a legend, and other pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import SettingError, UnreadableFileError
from hsifcn.core.scene import Grid
from hsifcn.io.crs import metres_per_pixel, north_of
from hsifcn.io.files import atomic_write
from hsifcn.io.formats import FileScene, Format, GivenLabels
from hsifcn.io.writer import RasterSpec, RasterWriter

_LARGEST = 25_000_000  # pixels of a map with legend; four bytes each are held in memory
_TEXT_SHARE, _LEAST_TEXT = 50, 12  # height of letters: a part of the map's longer side, pixels
_PREVIEW = 2000  # pixels of the longer side at most of a preview
_LEGIBLE = 600  # pixels of the longer side at least, to which small maps are enlarged


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
    """Write a classified map as a picture with a legend, or values of a ramp in its colours."""
    if spec.ramp is not None and spec.bands == 1 and spec.dtype.kind == "u":
        return RasterWriter(spec, convert=lambda raw, target: _convert_ramp(spec, raw, target))
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
        picture = map_with_legend(labels, spec.class_names, spec.class_colours, spec.grid)
        picture.save(target, format="PNG")

    return RasterWriter(spec, convert=convert)


def _convert_ramp(spec: RasterSpec, raw: Path, target: Path) -> None:
    """Draw values in the colours of their ramp; no-data is transparent."""
    from PIL import Image

    from hsifcn.io.qgis_style import ramp_colours

    assert spec.ramp is not None
    values = np.fromfile(raw, dtype=spec.dtype).reshape(spec.shape[:2])
    table = np.zeros((np.iinfo(spec.dtype).max + 1, 4), np.uint8)
    table[:, 3] = 255
    table[:, :3] = ramp_colours(np.arange(len(table)), spec.ramp)
    if spec.nodata is not None:
        table[int(spec.nodata)] = 0
    factor = enlargement(values.shape)
    Image.fromarray(_enlarged(table[values], factor)).save(target, format="PNG")


def enlargement(shape: tuple[int, ...]) -> int:
    """By how much a map of so many rows and columns is enlarged, to be seen well."""
    return max(1, -(-_LEGIBLE // max(shape)))


def _enlarged(image: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Every pixel as a square of so many pixels a side."""
    return image.repeat(factor, 0).repeat(factor, 1)


def write_map_picture(
    path: str | os.PathLike[str],
    labels: npt.NDArray[np.integer[Any]],
    names: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
    grid: Grid | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a picture of a map: ``map_with_legend`` as a PNG, large maps thinned.

    Raises
    ------
    ExistingOutputError
        The file exists.
    FailedError
        It cannot be written.
    """
    step = max(1, -(-max(labels.shape) // _PREVIEW))
    if grid is not None:
        a, b, c, d, e, f = grid.transform
        grid = Grid(grid.crs, (a * step, b * step, c, d * step, e * step, f))
    picture = map_with_legend(labels[::step, ::step], names, colours, grid)
    with atomic_write(path, overwrite=overwrite) as temporary:
        picture.save(temporary, format="PNG")


def map_with_legend(
    labels: npt.NDArray[np.integer[Any]],
    names: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
    grid: Grid | None = None,
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
    grid : Grid, optional
        Where it tells a length and a direction, a scale bar and a north arrow stand below.

    Returns
    -------
    PIL.Image.Image
        RGBA; its left upper part is the map, ``enlargement`` pixels a pixel. The legend has as
        many columns as fit its entries into the height of the map; of a low map it is about as
        high as wide.
    """
    from PIL import Image, ImageDraw

    factor = enlargement(labels.shape)
    rows, cols = (factor * length for length in labels.shape)
    shown = [label for label in np.unique(labels).tolist() if label]
    font = _font(max(_LEAST_TEXT, max(rows, cols) // _TEXT_SHARE))
    line = round(1.5 * font.size)
    lines = max(1, min(len(shown), max(rows // line, int((2 * len(shown)) ** 0.5))))
    columns = [shown[start : start + lines] for start in range(0, len(shown), lines)]
    widths = [max(font.getlength(names[label - 1]) for label in column) for column in columns]
    width = cols + line + sum(round(w) + 2 * line for w in widths)
    height = max(rows, lines * line)
    metres = metres_per_pixel(grid, labels.shape)
    foot = 0 if metres is None else 3 * line
    picture = Image.new("RGBA", (width, height + foot), (255, 255, 255, 255))
    picture.paste(Image.fromarray(_enlarged(_coloured(labels, colours), factor)))
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
    if metres is not None and grid is not None:
        _draw_scale_bar(draw, font, height + line, cols, metres / factor)
        _draw_north(draw, font, (cols - 2 * line, height + foot // 2), north_of(grid), line)
    return picture


def _draw_scale_bar(draw: Any, font: Any, top: int, width: int, metres: float) -> None:
    """A bar of a round length, at most a third of the map wide; ``metres`` are a pixel's."""
    most = width / 3 * metres
    unit = 10 ** np.floor(np.log10(most))
    length = float(unit * max(step for step in (1, 2, 5) if step * unit <= most))
    right = font.size // 2 + round(length / metres)
    bar = (font.size // 2, top, right, top + max(3, font.size // 3))
    draw.rectangle(bar, fill=(0, 0, 0, 255))
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    draw.text((right + font.size // 2, top), text, font=font, fill=(0, 0, 0, 255), anchor="lm")


def _draw_north(
    draw: Any, font: Any, middle: tuple[int, int], north: tuple[float, float], line: int
) -> None:
    """An arrow to the north, ``north`` being columns and rows of a step in that direction."""
    across, down = (line * part for part in north)
    x, y = middle
    tip, tail = (x + across, y + down), (x - across, y - down)
    left, right = (x + 0.5 * down, y - 0.5 * across), (x - 0.5 * down, y + 0.5 * across)
    draw.line((tail, tip), fill=(0, 0, 0, 255), width=max(2, font.size // 8))
    draw.polygon((tip, left, right), fill=(0, 0, 0, 255))
    draw.text((x + line, y), "N", font=font, fill=(0, 0, 0, 255), anchor="lm")


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
