"""What the layers of a file of polygons and points hold, without drawing them on a scene."""

from __future__ import annotations

from dataclasses import dataclass

from hsifcn.io import vectors


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
    layers = vectors.parsed("layers", path, None)["layers"]
    return [Layer(**{**layer, "fields": tuple(layer["fields"])}) for layer in layers]
