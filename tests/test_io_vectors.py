"""Polygons and points as labels."""

from __future__ import annotations

import contextlib
import sqlite3
import warnings

import numpy as np
import pyogrio.raw
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from io_samples import sample_cube, sample_labels, write_envi
from vector_samples import (
    DEGREES,
    EAST,
    MAP_INFO,
    NORTH,
    UTM,
    block,
    centre,
    in_crs,
    write_shapes,
)

from hsifcn.core.errors import AmbiguousInputError, LabelError, MismatchError, UnreadableFileError
from hsifcn.core.scene import Grid, LabelMap
from hsifcn.io import find_labels, open_labels, open_scene

SHAPE = (10, 12)
FIELDS = [block(0, 0, 4, 5), block(5, 1, 3, 3), block(2, 7, 6, 5)]
DRAWN = np.zeros(SHAPE, np.uint8)
DRAWN[0:4, 0:5], DRAWN[5:8, 1:4], DRAWN[2:8, 7:12] = 1, 2, 3


@pytest.fixture
def scene(tmp_path):
    cube = sample_cube((*SHAPE, 3))
    return open_scene(write_envi(tmp_path / "x.img", cube, map_info=MAP_INFO))


@contextlib.contextmanager
def warns_of(*texts):
    """These warnings and no other."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    told = [str(warning.message) for warning in caught]
    assert len(told) == len(texts), told
    for text, message in zip(texts, told, strict=True):
        assert text in message


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".json", ".shp"])
@pytest.mark.parametrize("crs", [DEGREES, UTM, "EPSG:25833"])
def test_polygons_label_the_pixels_that_they_hold(tmp_path, scene, suffix, crs):
    inset = [shapely.buffer(shape, -2) for shape in FIELDS]  # 2 m, a tenth of a pixel
    path = write_shapes(tmp_path / f"fields{suffix}", inset, crs, label=[1, 2, 3])
    with warns_of():
        read = open_labels(path, like=scene)
    np.testing.assert_array_equal(read.labels, DRAWN)
    assert read.labels.dtype == np.uint8
    assert read.class_names == ("class 1", "class 2", "class 3")
    assert read.grid == scene.grid


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp"])
def test_points_label_the_pixel_that_holds_them(tmp_path, scene, suffix):
    places = [(0, 0, 4), (9, 11, 2), (3, 7, 2)]
    points = [centre(row, col) for row, col, _ in places]
    path = write_shapes(tmp_path / f"p{suffix}", points, label=[number for *_, number in places])
    read = open_labels(path, like=scene)
    wanted = np.zeros(SHAPE, np.uint8)
    for row, col, number in places:
        wanted[row, col] = number
    np.testing.assert_array_equal(read.coded(), wanted)
    assert read.codes == (2, 4)


def test_points_and_polygons_of_several_parts(tmp_path, scene):
    shapes = [
        shapely.MultiPolygon(FIELDS[:1] + FIELDS[1:2]),
        shapely.MultiPoint([centre(9, 9), centre(9, 10)]),
        shapely.difference(FIELDS[2], block(4, 9, 1, 1)),
    ]
    read = open_labels(write_shapes(tmp_path / "m.gpkg", shapes, label=[1, 2, 3]), like=scene)
    wanted = np.where(DRAWN == 2, 1, DRAWN)
    wanted[9, 9:11], wanted[4, 9] = 2, 0
    np.testing.assert_array_equal(read.labels, wanted)


def test_rotated_scenes(tmp_path):
    angle = np.radians(30)
    a, b = 20 * np.cos(angle), 20 * np.sin(angle)
    grid = Grid(UTM, (a, b, EAST, b, -a, NORTH))
    like = LabelMap(np.zeros(SHAPE, np.uint8), (), (), grid)
    corners = np.array([(2.0, 3.0), (2, 8), (6, 8), (6, 3)])  # rows, columns
    rows, cols = corners.T
    outline = shapely.Polygon(
        np.column_stack((a * cols + b * rows + EAST, b * cols - a * rows + NORTH))
    )
    shapes = [shapely.buffer(outline, -1), centre(0, 0)]  # the latter still in the first pixel
    with warns_of():
        path = write_shapes(tmp_path / "r.gpkg", shapes, UTM, label=[1, 2])
        labels = open_labels(path, like=like).labels
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[2:6, 3:8], wanted[0, 0] = 1, 2
    np.testing.assert_array_equal(labels, wanted)


@given(st.lists(
    st.tuples(st.floats(-2, 11), st.floats(-2, 13), st.floats(0.1, 6), st.floats(0.1, 6)),
    min_size=1, max_size=4,
))  # fmt: skip
def test_pixel_centres_decide(tmp_path_factory, boxes):
    shapes = [block(*box) for box in boxes]
    path = tmp_path_factory.mktemp("boxes") / "b.gpkg"
    write_shapes(path, shapes, UTM, label=[1] * len(shapes))
    like = LabelMap(np.zeros(SHAPE, np.uint8), (), (), Grid(UTM, (20, 0, EAST, 0, -20, NORTH)))
    rows, cols = np.indices(SHAPE) + 0.5
    wanted, unsure = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    for row, col, height, width in boxes:
        inside = np.minimum.reduce(
            [rows - row, row + height - rows, cols - col, col + width - cols]
        )
        wanted |= inside > 0
        unsure |= np.abs(inside) < 1e-6
    if not wanted.any():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = open_labels(path, like=like).labels > 0
    np.testing.assert_array_equal(found[~unsure], wanted[~unsure])


def test_all_touched(tmp_path, scene):
    path = write_shapes(tmp_path / "s.gpkg", [block(2, 2, 3, 3, inset=0.6)], UTM, label=[1])
    assert np.argwhere(open_labels(path, like=scene).labels).tolist() == [[3, 3]]
    touched = open_labels(path, like=scene, all_touched=True).labels
    np.testing.assert_array_equal(np.argwhere(touched).min(0), [2, 2])
    assert touched.sum() == 9


def test_polygons_without_a_pixel_centre_are_told(tmp_path, scene):
    shapes = [FIELDS[0], block(8, 8, 1, 1, inset=0.52), block(8, 9, 0.3, 0.3)]
    path = write_shapes(tmp_path / "s.gpkg", shapes[:1] + shapes[2:], UTM, label=[1, 2])
    with warns_of(
        "1 of 2 shapes of",
    ):
        assert open_labels(path, like=scene).n_classes == 1
    assert open_labels(path, like=scene, all_touched=True).labels[8, 9] == 2


def test_pixels_of_two_classes_are_left_unlabelled(tmp_path, scene):
    shapes = [block(0, 0, 4, 4), block(2, 2, 4, 4), block(2, 2, 2, 2), block(0, 0, 2, 2)]
    path = write_shapes(tmp_path / "o.gpkg", shapes, UTM, label=[1, 2, 1, 1])
    with warns_of("4 pixels lie in shapes of different classes"):
        labels = open_labels(path, like=scene).labels
    assert not labels[2:4, 2:4].any()
    assert (labels[0:2, 0:4] == 1).all()
    assert (labels[4:6, 2:6] == 2).all()
    assert labels.astype(bool).sum() == 12 + 12


def test_names_are_numbered_in_their_order_or_as_told(tmp_path, scene):
    path = write_shapes(tmp_path / "n.gpkg", FIELDS, crop=["oak", " corn", "hay"])
    with warns_of("n.gpkg, field 'crop': classes are numbered in order of their names: 1 corn"):
        read = open_labels(path, like=scene)
    assert read.class_names == ("corn", "hay", "oak")
    np.testing.assert_array_equal(read.labels, np.array([0, 3, 1, 2])[DRAWN])
    names = tmp_path / "names.txt"
    names.write_text("oak\nelm\ncorn\nhay\n")
    with warns_of():
        read = open_labels(path, like=scene, class_names=names)
    assert read.class_names == ("oak", "elm", "corn", "hay")
    np.testing.assert_array_equal(read.labels, np.array([0, 1, 3, 4])[DRAWN])
    names.write_text("oak\nelm\n")
    with pytest.raises(LabelError, match=r"has a class 'corn' where the classes are 1 oak, 2 elm"):
        open_labels(path, like=scene, class_names=names)


def test_numbers_as_text_and_gaps(tmp_path, scene):
    path = write_shapes(tmp_path / "n.gpkg", FIELDS, crop=["10", "9", "1"])
    with warns_of():
        read = open_labels(path, like=scene)
    np.testing.assert_array_equal(read.labels, np.array([0, 3, 2, 1])[DRAWN])
    assert read.codes == (1, 9, 10)
    assert read.class_names == ("class 1", "class 9", "class 10")


@pytest.mark.parametrize(
    "texts",
    [
        *(["11", "1_1", "1_10"], ["1000", "1e3", "2"], ["0x10", "16", "1"], ["inf", "1", "x"]),
        *(["1", "01", "2"], ["\u0661", "1", "2"], ["99999999999999999999", "1", "2"]),
    ],
)
def test_texts_that_are_no_plain_numbers_are_names(tmp_path, scene, texts):
    path = write_shapes(tmp_path / "n.gpkg", FIELDS, crop=texts)
    with warns_of("classes are numbered in order of their names"):
        read = open_labels(path, like=scene)
    assert read.class_names == tuple(sorted(texts))
    found = np.array(["", *read.class_names])[read.labels]
    np.testing.assert_array_equal(found, np.array(["", *texts])[DRAWN])


@pytest.mark.parametrize("blank", ["NA", "nan", "NULL", "n/a"])
def test_cells_without_a_value(tmp_path, scene, blank):
    path = write_shapes(tmp_path / "n.gpkg", FIELDS, crop=["10", blank, "9"])
    with warns_of(f"'{blank}' among numbers is no class", "1 features of"):
        assert open_labels(path, like=scene).codes == (9, 10)
    write_shapes(tmp_path / "m.gpkg", FIELDS, crop=["oak", blank, "elm"])
    with warns_of(f"'{blank}' is taken for the name of a class", "classes are numbered"):
        assert blank in open_labels(tmp_path / "m.gpkg", like=scene).class_names


def test_codes_with_leading_zeros_and_booleans(tmp_path, scene):
    path = write_shapes(tmp_path / "n.gpkg", FIELDS, crop=["011", "012", "112"])
    read = open_labels(path, like=scene)
    assert (read.codes, read.class_names) == ((11, 12, 112), ("011", "012", "class 112"))
    write_shapes(tmp_path / "b.gpkg", FIELDS, forest=[True, False, True])
    with warns_of("classes are numbered in order of their names: 1 false, 2 true"):
        read = open_labels(tmp_path / "b.gpkg", like=scene)
    np.testing.assert_array_equal(read.labels, np.array([0, 2, 1, 2])[DRAWN])


def test_features_without_class_or_shape_are_told(tmp_path, scene):
    line = shapely.LineString([(EAST, NORTH), (EAST + 60, NORTH - 60)])
    shapes = [*FIELDS, FIELDS[0], FIELDS[1], None, line]
    numbers = [1.0, 2, 3, 0, np.nan, 3, 2]
    path = write_shapes(tmp_path / "n.gpkg", shapes, UTM, label=numbers)
    with warns_of("1 features of", "2 features of", "1 shapes of"):
        np.testing.assert_array_equal(open_labels(path, like=scene).labels, DRAWN)
    write_shapes(tmp_path / "none.gpkg", FIELDS, label=[0, 0, 0])
    with warns_of("3 features of"), pytest.raises(LabelError, match="no polygon and no point with"):
        open_labels(tmp_path / "none.gpkg", like=scene)


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({"label": [1, 2, 3], "area": [4, 5, 6]}, "label"),
        ({"Class_ID": [1, 2, 3], "note": ["a", "b", "c"]}, "Class_ID"),
        ({"fid_1": [7, 8, 9], "OBJECTID": [4, 5, 6]}, "fid_1"),
        ({"code": [1, 2, 3], "owner": ["a", "b", "c"], "id": [4, 5, 6]}, "code"),
        ({"id": [1, 2, 3]}, "id"),
    ],
    ids=str,
)  # fmt: skip
def test_the_field_that_is_taken(tmp_path, scene, fields, taken):
    path = write_shapes(tmp_path / "f.gpkg", FIELDS, **fields)
    told = [f"classes are taken from the field '{taken}' of {', '.join(fields)}"]
    with warns_of(*told[: len(fields) - 1]):
        read = open_labels(path, like=scene)
    np.testing.assert_array_equal(read.coded(), np.array([0, *fields[taken]])[DRAWN])


def test_several_fields_are_listed(tmp_path, scene):
    fields = {"crop": ["a", "b", "c"], "class": [1, 2, 3], "id": [4, 5, 6]}
    path = write_shapes(tmp_path / "f.gpkg", FIELDS, **fields)
    message = r"f\.gpkg may tell the class in crop, class; name one with --label-field"
    with pytest.raises(AmbiguousInputError, match=message):
        open_labels(path, like=scene)
    with warns_of():
        assert open_labels(path, like=scene, field="id").codes == (4, 5, 6)
    with pytest.raises(LabelError, match=r"no field 'kind'; its fields are crop, class, id"):
        open_labels(path, like=scene, field="kind")
    write_shapes(tmp_path / "g.gpkg", FIELDS, id=[4, 5, 6], owner=["a", "b", "c"])
    with pytest.raises(AmbiguousInputError, match="id, owner"):
        open_labels(tmp_path / "g.gpkg", like=scene)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.5, 2, 3], "label' holds values that are no whole numbers"),
        ([-1, 2, 3], "label' holds negative labels"),
        ([1, 2, 2**32], "labels up to 4294967296"),
    ],
)
def test_what_is_no_class_number(tmp_path, scene, values, message):
    path = write_shapes(tmp_path / "v.gpkg", FIELDS, label=values)
    with pytest.raises(LabelError, match=message):
        open_labels(path, like=scene)


@pytest.mark.parametrize("suffix", [".fgb", ".kml", ".gml"])
@pytest.mark.parametrize("name", ["fields", "a!b", "k\udce9"])
def test_further_formats_and_odd_names(tmp_path, scene, suffix, name):
    kind = {".fgb": "FlatGeobuf", ".kml": "KML", ".gml": "GML"}[suffix]
    plain = tmp_path / f"f{suffix}"
    inset = in_crs([shapely.buffer(shape, -2) for shape in FIELDS], DEGREES)
    values = [np.array([1, 2, 3], np.int32)]
    pyogrio.raw.write(
        plain, shapely.to_wkb(inset), values, ["label"], geometry_type="Polygon", crs=DEGREES,
        driver=kind,
    )  # fmt: skip
    (tmp_path / "d").mkdir()
    path = plain.rename(tmp_path / "d" / f"{name}{suffix}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # KML tells of its fields besides
        read = open_labels(path, like=scene, field="label")
    np.testing.assert_array_equal(read.labels, DRAWN)
    assert list(path.parent.iterdir()) == [path]  # GDAL's driver of GML would leave one beside


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson"])
@pytest.mark.parametrize("name", ["a!b", "a!b/c", "k\udce9"])
def test_odd_names(tmp_path, scene, suffix, name):
    plain = write_shapes(tmp_path / f"f{suffix}", FIELDS, DEGREES, label=[1, 2, 3])
    folder = (tmp_path / f"{name}{suffix}").parent
    folder.mkdir(exist_ok=True)
    for file in tmp_path.glob("f.*"):
        file.rename(tmp_path / f"{name}{file.suffix}")
    assert open_labels(tmp_path / f"{name}{plain.suffix}", like=scene).n_classes == 3


def test_a_shapefile_in_utf8_that_does_not_say_so(tmp_path, scene):
    path = write_shapes(tmp_path / "u.shp", FIELDS, DEGREES, crop=["Äcker", "Wälder", "草"])
    (tmp_path / "u.cpg").unlink()
    assert open_labels(path, like=scene).class_names == ("Wälder", "Äcker", "草")


def test_a_view_is_no_layer(tmp_path, scene):
    """It may be a query without an end."""
    path = write_shapes(tmp_path / "v.gpkg", FIELDS[:1], layer="v", label=[1])
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE v RENAME TO w")
        database.execute("CREATE VIEW v AS SELECT * FROM w")
        database.commit()
    with pytest.raises(UnreadableFileError, match=r"layer 'v' of .* is no table"):
        open_labels(path, like=scene)


def test_one_far_vertex_refuses_no_file(tmp_path, scene):
    far = shapely.Polygon([(9, 47), (9.001, 47), (400, 95)])
    near = in_crs([FIELDS[0]], DEGREES)[0]
    path = tmp_path / "f.gpkg"
    write = {"geometry_type": "Polygon", "crs": DEGREES, "driver": "GPKG"}
    pyogrio.raw.write(
        path, shapely.to_wkb(np.array([near, far], object)), [np.array([1, 2])], ["label"], **write
    )
    with warns_of("1 of 2 shapes of"):
        found = open_labels(path, like=scene)
    np.testing.assert_array_equal(found.labels, DRAWN == 1)


def test_shapes_that_label_nothing_are_named(tmp_path, scene):
    tiny = block(8, 9, 0.3, 0.3)
    shapes = [FIELDS[0], tiny, FIELDS[1], block(300, 0, 2, 2)]
    path = write_shapes(tmp_path / "s.gpkg", shapes, UTM, crop=["Corn", "Oats", "Hay", "Hay"])
    outside = r"(Hay: feature 4)"
    empty = "hold no pixel centre and label nothing (Oats: the only one, feature 2); --all-touched"
    with warns_of("in order of their names", outside, empty):
        open_labels(path, like=scene)


def test_features_are_numbered(tmp_path, scene):
    shapes = [*FIELDS, centre(9, 9)]
    path = write_shapes(tmp_path / "s.gpkg", shapes, UTM, label=[7, 7, 5, 5])
    features = open_labels(path, like=scene).features
    wanted = DRAWN.astype(int)
    wanted[9, 9] = 4
    np.testing.assert_array_equal(features, wanted)
    np.save(tmp_path / "l.npy", DRAWN)
    assert open_labels(tmp_path / "l.npy").features is None


def test_layers(tmp_path, scene):
    path = write_shapes(tmp_path / "l.gpkg", FIELDS[:1], layer="train", label=[1])
    assert open_labels(path, like=scene).n_classes == 1
    write_shapes(path, FIELDS[1:], layer="test", append=True, label=[2, 3])
    with pytest.raises(AmbiguousInputError, match=r"several layers; name one: .*l\.gpkg:train, "):
        open_labels(path, like=scene)
    assert open_labels(f"{path}:test", like=scene).codes == (2, 3)
    with pytest.raises(LabelError, match=r"l\.gpkg has no layer 'all'; its layers are train, test"):
        open_labels(f"{path}:all", like=scene)


def test_shapes_outside_of_the_scene(tmp_path, scene):
    shapes = [FIELDS[0], block(300, 0, 5, 5), block(-9, -9, 2, 2)]
    path = write_shapes(tmp_path / "o.gpkg", shapes, label=[1, 2, 3])
    with warns_of("2 of 3 shapes of"):
        assert open_labels(path, like=scene).n_classes == 1
    path = write_shapes(tmp_path / "f.gpkg", shapes[1:2], UTM, label=[1])
    message = (
        r"f\.gpkg labels no pixel of .*x\.img: it covers x 500000 to 500100, y 5293900 to 5294000,"
        r" the scene x 500000 to 500240, y 5299800 to 5300000; check"
    )
    with pytest.raises(LabelError, match=message):
        open_labels(path, like=scene)


def test_where_the_crs_is_missing(tmp_path, scene):
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        path = write_shapes(tmp_path / "c.shp", FIELDS, None, label=[1, 2, 3])
    with warns_of("has no CRS: that of"):
        np.testing.assert_array_equal(open_labels(path, like=scene).labels, DRAWN)
    known = write_shapes(tmp_path / "k.shp", FIELDS, label=[1, 2, 3])
    blank = LabelMap(DRAWN, (), (), Grid(None, scene.grid.transform))
    np.testing.assert_array_equal(open_labels(path, like=blank).labels, DRAWN)
    with pytest.raises(MismatchError, match="the georeference of the label map names none; add"):
        open_labels(known, like=blank)
    with pytest.raises(MismatchError, match=r"k\.shp holds map coordinates, and .* no georef"):
        open_labels(known, like=LabelMap(DRAWN, (), ()))
    with pytest.raises(LabelError, match=r"k\.shp is no raster; it labels the pixels of a scene"):
        open_labels(known)


def test_coordinates_that_are_none(tmp_path, scene):
    path = tmp_path / "n.geojson"
    write_shapes(path, FIELDS, UTM, label=[1, 2, 3])
    text = path.read_text()
    path.write_text(text[: text.index('"crs"')] + text[text.index('"features"') :])  # as degrees
    with pytest.raises((MismatchError, LabelError), match=r"n\.geojson") as caught:
        open_labels(path, like=scene)
    assert "\n" not in str(caught.value)


VIRTUAL = "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>{}</SrcDataSource></OGRVRTLayer>"


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp"])
@pytest.mark.parametrize("content", ["", "junk", VIRTUAL, "{", "SQLite format 3\0", b"\0\0\x27\n"])
def test_damaged_files(tmp_path, scene, suffix, content):
    secret = write_shapes(tmp_path / "secret.gpkg", FIELDS, label=[1, 2, 3])
    path = tmp_path / f"d{suffix}"
    if isinstance(content, str):
        content = content.format(secret).encode() if "{}" in content else content.encode()
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=rf"d\{suffix}") as caught:
        open_labels(path, like=scene)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp"])
def test_truncated_files(tmp_path, scene, suffix):
    path = write_shapes(tmp_path / f"t{suffix}", FIELDS * 40, label=[1, 2, 3] * 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((UnreadableFileError, LabelError), match=rf"t\{suffix}"):
            open_labels(path, like=scene)


@pytest.mark.parametrize("name", ["x_gt.gpkg", "X_labels.geojson", "x_gt.shp", "x_gt.csv"])
def test_shapes_beside_a_scene_are_found(tmp_path, scene, name):
    if name.endswith(".csv"):
        (tmp_path / name).write_text("row,col,class\n0,0,1\n")
    else:
        write_shapes(tmp_path / name, FIELDS, label=[1, 2, 3])
    (tmp_path / "x_gt.json").write_text("{}")
    (tmp_path / "y_gt.gpkg").write_bytes(b"")
    assert find_labels(scene.path) == str(tmp_path / name)
    np.save(tmp_path / "x_labels.npy", sample_labels(SHAPE))
    with pytest.raises(AmbiguousInputError, match="may have its labels in"):
        find_labels(scene.path)
