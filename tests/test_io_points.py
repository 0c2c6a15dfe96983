"""Tables of labelled pixels."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from io_samples import sample_cube, write_envi
from vector_samples import DEGREES, MAP_INFO, centre, in_crs

from hsifcn.core.errors import HsifcnError, LabelError, MismatchError, UnreadableFileError
from hsifcn.core.scene import LabelMap
from hsifcn.io import open_labels, open_scene

BARE = LabelMap(np.zeros((6, 8), np.uint8), (), ())


@pytest.fixture
def scene(tmp_path):
    return open_scene(write_envi(tmp_path / "x.img", sample_cube((6, 8, 3)), map_info=MAP_INFO))


def read(folder, text, like=BARE, **options):
    path = folder / "p.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return open_labels(path, like=like, **options)


@given(st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 7)), st.integers(1, 300), min_size=1
))  # fmt: skip
def test_rows_and_columns(tmp_path_factory, pixels):
    lines = [f"{row},{col},{number}" for (row, col), number in pixels.items()]
    found = read(tmp_path_factory.mktemp("csv"), "\n".join(["row,col,class", *lines])).coded()
    wanted = np.zeros((6, 8))
    for place, number in pixels.items():
        wanted[place] = number
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "text",
    [
        "row,col,class\n1,2,3\n5,7,1\n",
        "\ufeffRow;Col;Class\r\n1;2;3\r\n\r\n5;7;1\r\n",
        "class\tid\tcol\trow\n3\t9\t2\t1\n1\t9\t7\t5",
        "column,class,row\n2,3,1\n7,1,5\n",
        ' row , col , class \n 1.0 , 2 ,"3"\n5,7,1\n1,2,3\n',
    ],
)
def test_ways_to_write_a_table(tmp_path, text):
    labels = read(tmp_path, text, field="Class").coded()
    assert np.argwhere(labels).tolist() == [[1, 2], [5, 7]]
    assert (labels[1, 2], labels[5, 7]) == (3, 1)


def test_coordinates(tmp_path, scene):
    places = np.array([(0, 0), (5, 7), (3, 4)])
    points = [centre(row, col) for row, col in places]
    degrees = in_crs(points, DEGREES)
    for names, shapes in (
        *(("x,y", points), ("easting,northing", points)),
        *(("lon,lat", degrees), ("longitude,latitude", degrees), ("lng,lat", degrees)),
    ):
        xy = shapely.get_coordinates(shapes)
        lines = [f"{x:.9f},{y:.9f},{i}" for i, (x, y) in enumerate(xy, start=1)]
        labels = read(tmp_path, "\n".join([f"{names},class", *lines]), scene).labels
        assert labels[tuple(places.T)].tolist() == [1, 2, 3]
        assert np.count_nonzero(labels) == 3
        far = f"{xy[0, 0] + 2},{xy[0, 1] + 2},1" if shapes is degrees else "0,0,1"
        with pytest.warns(UserWarning, match=r"1 of 4 points of .*p\.csv lie outside"):
            assert read(tmp_path, "\n".join([f"{names},class", *lines, far]), scene).n_classes == 3
        with pytest.raises(LabelError, match=r"p\.csv labels no pixel of .*x\.img: it covers x"):
            read(tmp_path, f"{names},class\n{far}", scene)
        with pytest.raises(MismatchError, match="has no georeference; give the columns row and c"):
            read(tmp_path, "\n".join([f"{names},class", *lines]))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "latin-1"])
def test_encodings(tmp_path, encoding):
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    text = f"{mark}row,col,class\n1,2,Wälder\n".encode(encoding)
    with pytest.warns(UserWarning, match="numbered in order"):
        assert read(tmp_path, text).class_names == ("Wälder",)


def test_names(tmp_path):
    text = "row,col,cover\n0,0,oak\n0,1,\n0,2,corn\n"
    with pytest.warns(UserWarning, match="column 'cover': classes are numbered in order"):
        found = read(tmp_path, text)
    assert found.class_names == ("corn", "oak")
    assert found.labels[0, :4].tolist() == [2, 0, 1, 0]


def test_one_name_spelt_in_two_ways(tmp_path):
    """Letters of two characters, as macOS writes them, are one; upper and lower case are told."""
    table = "row,col,class\n0,0,{}\n0,1,{}\n0,2,{}\n"
    with pytest.warns(UserWarning, match="numbered in order"):
        found = read(tmp_path, table.format("Gr\u00fcn", "Gru\u0308n", "Feld"))
    assert found.class_names == ("Feld", "Gr\u00fcn")
    assert found.labels[0, :3].tolist() == [2, 2, 1]
    with pytest.warns(UserWarning, match="'Oak', 'oak' are different classes, though only by"):
        assert read(tmp_path, table.format("oak", "Oak", "fir")).n_classes == 3
    with pytest.warns(UserWarning, match="'0' among names is no class"):
        assert read(tmp_path, table.format("oak", "0", "fir")).class_names == ("fir", "oak")


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", LabelError, r"p\.csv labels no pixel; a line of names"),
        ("row,col,class\n", LabelError, "labels no pixel"),
        ("row,col,class\n1,1,0\n", LabelError, "labels no pixel"),
        ("1,2,3\n4,5,1\n", UnreadableFileError, "has the columns 1, 2, 3; name two of them row"),
        ("row,col\n1,2\n", LabelError, "no field that could tell the class"),
        ("row,col,class\n1,2\n", UnreadableFileError, "line 2, has 2 columns instead of 3"),
        (
            "row,col,class\n1,2,1\n\none,2,3\n",
            UnreadableFileError,
            "line 4, has no number in 'row'",
        ),
        ("row,col,class\n1,nan,1\n", UnreadableFileError, "line 2, has no number in 'col': 'nan'"),
        (
            "row,col,class\n1,2,1\n6,2,1\n",
            LabelError,
            r"p\.csv, line 3 has row 6 where the scene has 6; they are counted from 0",
        ),
        ("row,col,class\n1,-1,1\n2,9,1\n", LabelError, "line 2, and 1 lines more, has col -1"),
        ("row,col,class\n1.5,2,1\n", LabelError, "line 2 has row 1.5"),
        (
            "row,col,class\n1,2,1\n0,0,1\n1,2,3\n",
            LabelError,
            "row 1, column 2, different classes in lines 2 and 4; leave one out",
        ),
        ("row,col,class\n1,2,-4\n", LabelError, "'class' holds negative labels"),
        ("row,col,crop,species\n1,2,a,b\n", HsifcnError, "may tell the class in crop, species"),
    ],
)
def test_bad_tables(tmp_path, text, kind, message):
    with pytest.raises(kind, match=message) as caught:
        read(tmp_path, text)
    assert "p.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_table_needs(tmp_path):
    with pytest.raises(LabelError, match=r"p\.csv is no raster"):
        read(tmp_path, "row,col,class\n1,2,3\n", like=None)
    with pytest.raises(HsifcnError, match="leave out ':map'"):
        open_labels(f"{tmp_path / 'p.csv'}:map", like=BARE)
