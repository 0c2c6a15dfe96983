"""What the layers of a file of polygons and points hold, without drawing them on a scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsifcn.core.errors import LabelError
from hsifcn.io import vectors
from hsifcn.io.files import plain_path


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes
    ----------
    name : str
    features : int
        How many there are, with and without a shape.
    geometry : str
        Kind of the shapes as GDAL calls it: ``Polygon``, ``MultiPolygon``, ``Unknown``.
    fields : tuple of str
        Names of the attributes.
    crs : str or None
        As a code of an authority, or as WKT.
    """

    name: str
    features: int
    geometry: str
    fields: tuple[str, ...]
    crs: str | None


def list_layers(path: str) -> list[Layer]:
    """List the layers with shapes in a file of a vector format.

    Raises
    ------
    UnreadableFileError
        The file is damaged or of another kind.
    LabelError
        No layer has shapes.
    """
    import pyogrio

    driver = vectors.require_kind(path)
    with vectors.reading(path), plain_path(path, always=driver == "GML") as file:
        named = [str(name) for name, kind in pyogrio.list_layers(file) if kind is not None]
        if not named:
            raise LabelError(f"{path} holds no shapes", "labels are polygons or points")
        return [_layer(path, file, driver, name) for name in named]


def _layer(path: str, file: Path, driver: str, name: str) -> Layer:
    import pyogrio

    if driver == "GPKG":
        vectors.refuse_view(path, file, name)
    options: dict[str, Any] = dict(vectors.OPTIONS.get(driver, {}))
    info = pyogrio.read_info(file, layer=name, force_feature_count=True, **options)
    vectors.require_driver(path, info["driver"])
    fields = tuple(str(field) for field in info["fields"])
    crs = info["crs"]
    return Layer(
        name, int(info["features"]), str(info["geometry_type"]), fields, str(crs) if crs else None
    )
