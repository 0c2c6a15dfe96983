"""Polygons of label maps, read back with pyogrio."""

import contextlib
import os
import sqlite3
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyogrio import list_layers, raw, read_info
from scenes import field_labels

from hsifcn.core.errors import ExistingOutputError, FailedError
from hsifcn.core.scene import Grid, LabelMap
from hsifcn.io import files, open_labels
from hsifcn.io.polygons import write_polygons

NAMES = ("corn, no till", "wööds", "water")
COLOURS = ((255, 0, 10), (0, 255, 0), (1, 2, 3))


def epsg(code):
    return rasterio.crs.CRS.from_epsg(code).to_wkt()


UTM = Grid(epsg(32633), (20.0, 0, 5e5, 0, -20.0, 4e6))


def label_map(labels, grid=UTM):
    return LabelMap(np.asarray(labels, np.uint8), NAMES, COLOURS, grid)


def read(path):
    """Geometries and fields, by name."""
    meta, _, geometry, values = raw.read(path)
    return shapely.from_wkb(geometry), dict(zip(meta["fields"], values, strict=True))


def test_areas_and_fields(tmp_path):
    labels = field_labels(classes=3)
    count = write_polygons(tmp_path / "map.gpkg", label_map(labels))
    polygons, fields = read(tmp_path / "map.gpkg")
    assert len(polygons) == count
    assert list_layers(tmp_path / "map.gpkg").tolist() == [
        ["map", "Polygon"],
        ["layer_styles", None],
    ]
    info = read_info(tmp_path / "map.gpkg")
    assert info["crs"] == "EPSG:32633"
    for label in (1, 2, 3):
        of_class = fields["class"] == label
        n_pixels = (labels == label).sum()
        assert fields["pixels"][of_class].sum() == n_pixels
        assert fields["area"][of_class].sum() == pytest.approx(400 * n_pixels)
        assert shapely.area(polygons[of_class]).sum() == pytest.approx(400 * n_pixels)
        assert set(fields["name"][of_class]) == {NAMES[label - 1]}
    assert set(fields["colour"][fields["class"] == 1]) == {"#ff000a"}
    assert os.listdir(tmp_path) == ["map.gpkg"]


def test_polygons_lie_where_the_pixels_lie(tmp_path):
    labels = np.zeros((6, 7), np.uint8)
    labels[1:3, 2:6] = 2
    write_polygons(tmp_path / "m.gpkg", label_map(labels))
    polygons, _ = read(tmp_path / "m.gpkg")
    assert shapely.bounds(polygons[0]).tolist() == [500040, 3999940, 500120, 3999980]
    write_polygons(tmp_path / "n.gpkg", label_map(labels, grid=None))
    polygons, fields = read(tmp_path / "n.gpkg")
    assert shapely.bounds(polygons[0]).tolist() == [2, -3, 6, -1]
    assert fields["area"].tolist() == [8]


def test_areas_in_degrees_and_feet_are_square_metres(tmp_path):
    labels = np.ones((10, 10), np.uint8)
    grid = Grid(epsg(4326), (1e-4, 0, 9, 0, -1e-4, 60))
    write_polygons(tmp_path / "m.gpkg", label_map(labels, grid))
    _, fields = read(tmp_path / "m.gpkg")
    assert fields["area"][0] == pytest.approx(55.80 * 111.42, rel=0.001)  # a degree / 1000, at 60 N
    grid = Grid(epsg(2225), (10, 0, 6e6, 0, -10, 2e6))
    write_polygons(tmp_path / "f.gpkg", label_map(labels, grid))
    assert read(tmp_path / "f.gpkg")[1]["area"][0] == pytest.approx(1e4 * 0.3048006**2, rel=1e-5)


@given(arrays(np.uint8, (6, 7), elements=st.integers(0, 3)))
@pytest.mark.slow
def test_every_pixel_is_in_one_polygon_of_its_class(tmp_path_factory, labels):
    path = tmp_path_factory.getbasetemp() / "any.gpkg"
    grid = Grid(epsg(32633), (1.0, 0, 0, 0, -1.0, 0))
    write_polygons(path, label_map(labels, grid), overwrite=True)
    polygons, fields = read(path)
    assert shapely.is_valid(polygons).all()
    back = np.zeros_like(labels)
    if len(polygons):
        pairs = zip(polygons, fields["class"], strict=True)
        back = rasterio.features.rasterize(
            pairs, labels.shape, transform=rasterio.Affine(*grid.transform), dtype="uint8"
        )
    np.testing.assert_array_equal(back, labels)


def test_small_areas_go_to_their_neighbours(tmp_path):
    labels = np.ones((8, 9), np.uint8)
    labels[2:4, 3] = 2  # 2 pixels in class 1
    labels[:, 6] = 0
    labels[3:6, 7:] = 3
    labels[:3, 7:] = labels[6:, 7:] = 0
    labels[7, 8] = 2  # alone among unclassified pixels
    write_polygons(tmp_path / "m.gpkg", label_map(labels), min_size=3)
    _, fields = read(tmp_path / "m.gpkg")
    assert sorted(zip(fields["class"], fields["pixels"], strict=True)) == [(1, 48), (3, 6)]


def test_a_map_without_classes_gives_an_empty_layer(tmp_path):
    assert write_polygons(tmp_path / "m.gpkg", label_map(np.zeros((3, 4)))) == 0
    info = read_info(tmp_path / "m.gpkg")
    assert (info["features"], info["geometry_type"]) == (0, "Polygon")
    assert list(info["fields"]) == ["class", "name", "colour", "pixels", "area"]


def test_mean_confidence_of_each_area(tmp_path):
    labels = np.array([[1, 1, 2, 0], [2, 1, 2, 1]], np.uint8)
    confidence = np.array([[10, 20, 90, 255], [50, 255, 71, 7]], np.uint8)
    write_polygons(tmp_path / "m.gpkg", label_map(labels), confidence=confidence)
    _, fields = read(tmp_path / "m.gpkg")
    found = sorted(zip(fields["class"], fields["pixels"], fields["confidence"], strict=True))
    assert found == [(1, 1, 7), (1, 3, 15), (2, 1, 50), (2, 2, 80.5)]


def test_qgis_finds_the_colours_of_the_classes(tmp_path):
    write_polygons(tmp_path / "m.gpkg", label_map(field_labels(classes=3)))
    with contextlib.closing(sqlite3.connect(tmp_path / "m.gpkg")) as database:
        (row,) = database.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles"
        )
        tables = dict(database.execute("SELECT table_name, data_type FROM gpkg_contents"))
        (column,) = database.execute("SELECT column_name FROM gpkg_geometry_columns").fetchone()
    assert row[:3] == ("m", column, 1)
    assert tables == {"m": "features", "layer_styles": "attributes"}
    style = ElementTree.fromstring(row[3].partition("\n")[2])
    categories = {c.get("value"): c.get("label") for c in style.iter("category")}
    assert categories == dict(zip("123", NAMES, strict=True))
    fills = [o.get("value") for o in style.iter("Option") if o.get("name") == "color"]
    assert fills == ["255,0,10,255", "0,255,0,255", "1,2,3,255"]


def test_polygons_are_read_back_as_labels(tmp_path):
    labels = field_labels(classes=3)
    write_polygons(tmp_path / "m.gpkg", label_map(labels))
    like = LabelMap(np.ones_like(labels), NAMES, COLOURS, UTM)
    back = open_labels(tmp_path / "m.gpkg", like=like, field="class")
    np.testing.assert_array_equal(back.labels, labels)


def test_many_polygons_come_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("hsifcn.io.polygons._BATCH", 7)
    labels = field_labels(classes=3)
    count = write_polygons(tmp_path / "m.gpkg", label_map(labels))
    assert count > 14
    assert read(tmp_path / "m.gpkg")[1]["pixels"].sum() == (labels > 0).sum()


def test_what_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "m.gpkg").write_text("mine")
    with pytest.raises(ExistingOutputError, match=r"m\.gpkg exists"):
        write_polygons(tmp_path / "m.gpkg", label_map(field_labels()))
    with pytest.raises(FailedError, match=r"m\.gpkg cannot be written"):
        write_polygons(tmp_path / "none" / "m.gpkg", label_map(field_labels()))

    def fail(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", fail)
    with pytest.raises(FailedError, match=r"n\.gpkg cannot be written: No space left"):
        write_polygons(tmp_path / "n.gpkg", label_map(field_labels()))
    assert os.listdir(tmp_path) == ["m.gpkg"]
