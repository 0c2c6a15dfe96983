"""Maps as pictures with a legend."""

import numpy as np
import pytest
from io_samples import sample_labels
from PIL import Image
from rasterio.crs import CRS

from hsifcn.core.errors import SettingError, UnreadableFileError
from hsifcn.core.scene import Grid, Window, default_colours
from hsifcn.io import create_raster, open_labels, open_scene, png, write_map_picture
from hsifcn.io.crs import north_of
from hsifcn.io.png import map_with_legend

NAMES = ("corn, no till", "Wälder", "пшеница")
COLOURS = ((255, 0, 0), (0, 255, 0), (1, 2, 3))


def write(path, labels, names=NAMES, **options):
    given = {"dtype": labels.dtype, "class_names": names, "colours": COLOURS, "nodata": 0}
    with create_raster(path, shape=labels.shape, **given, **options) as raster:
        for row in range(0, labels.shape[0], 3):
            part = Window(row, 0, min(3, labels.shape[0] - row), labels.shape[1])
            raster.write(part, labels[part.slices])
    return path


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize(
    ("shape", "side"), [((4, 5), 120), ((100, 31), 6), ((1, 1), 600), ((700, 3), 1)], ids=str
)
def test_the_map_is_the_left_upper_part_a_square_a_pixel(tmp_path, dtype, shape, side):
    labels = sample_labels(shape, dtype)
    picture = np.asarray(Image.open(write(tmp_path / "x.png", labels)).convert("RGBA"))
    expected = np.array([(0, 0, 0, 0), *((*colour, 255) for colour in COLOURS)])[labels]
    whole = picture[: side * shape[0], : side * shape[1]]
    for row, col in ((0, 0), (side - 1, side - 1), (side // 2, side // 3)):
        np.testing.assert_array_equal(whole[row::side, col::side], expected)
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]


def test_the_legend_names_the_classes_on_the_map_in_their_colours():
    labels = sample_labels((60, 50))

    def legend(labels, names=NAMES):
        return np.asarray(map_with_legend(labels, names, COLOURS))[:, 500:]

    def colours(picture):
        return {tuple(int(v) for v in colour[:3]) for colour in picture.reshape(-1, 4)}

    whole, without = legend(labels), legend(np.where(labels == 2, 0, labels))
    assert colours(whole) >= set(COLOURS)
    assert COLOURS[1] not in colours(without)
    assert whole[..., 3].min() == 255
    other = legend(labels, ("corn, no till", "Wälder", "Пшеница"))
    assert whole.shape != other.shape or (whole != other).any()  # names are drawn, in any script


def test_many_classes_are_listed_in_columns():
    names, colours = tuple(f"class {i}" for i in range(1, 301)), default_colours(300)
    picture = map_with_legend(np.arange(301).reshape(7, 43), names, colours)
    assert picture.width < 6 * picture.height
    assert picture.height < 5 * picture.width
    drawn = {pixel[:3] for _, pixel in picture.crop((14 * 43, 0, *picture.size)).getcolors(10**6)}
    assert drawn >= set(colours)


def test_a_map_without_any_class(tmp_path):
    picture = Image.open(write(tmp_path / "x.png", np.zeros((4, 5), "u1")))
    assert np.asarray(picture)[: 4 * 120, : 5 * 120, 3].max() == 0


def drawn_below(grid, shape=(60, 60)):
    """What stands under the map: black pixels, (rows, cols)."""
    labels = np.ones(shape, np.uint8)
    picture = np.asarray(map_with_legend(labels, NAMES, COLOURS, grid))
    return (picture[10 * shape[0] + 1 :, : 10 * shape[1], :3] < 100).all(-1)


def test_a_scale_bar_and_a_north_arrow_where_there_is_a_place():
    assert not drawn_below(None).size
    assert not drawn_below(Grid(None, (20.0, 0, 0, 0, -20.0, 0))).size
    utm = CRS.from_epsg(32633).to_wkt()
    below = drawn_below(Grid(utm, (20.0, 0, 5e5, 0, -20.0, 4e6)))
    # 600 px are 1,200 m; of 1, 2, 5 the largest length within a third is 200 m: 100 px.
    assert below[:, :300].sum(1).max() == pytest.approx(100, abs=30)
    assert longest_run(below) in range(100, 103)
    degrees = CRS.from_epsg(4326).to_wkt()
    # At 60 N a hundredth of a degree is about 557 m across: 600 px are 33 km, 10 km are 180 px.
    at_60 = Grid(degrees, (1e-2, 0, 9, 0, -1e-2, 60.3))
    assert longest_run(drawn_below(at_60)) in range(176, 184)


def longest_run(black):
    """The longest row of black pixels."""
    return max(
        len(run)
        for row in black
        for run in "".join("x" if pixel else " " for pixel in row).split() or [""]
    )


def test_north_is_where_the_grid_says():
    assert north_of(Grid(None, (20.0, 0, 0, 0, -20.0, 0))) == pytest.approx((0, -1))
    assert north_of(Grid(None, (20.0, 0, 0, 0, 20.0, 0))) == pytest.approx((0, 1))
    assert north_of(Grid(None, (0, 20.0, 0, 20.0, 0, 0))) == pytest.approx((1, 0))


def test_a_large_preview_is_thinned(tmp_path):
    write_map_picture(tmp_path / "x.png", np.ones((5, 4001), np.uint8), NAMES, COLOURS)
    assert Image.open(tmp_path / "x.png").width < 2000


def test_what_no_picture_holds(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    with pytest.raises(SettingError, match=r"x\.png would be a picture, which holds a map"):
        create_raster(path, shape=(4, 5, 3), dtype="f4")
    monkeypatch.setattr(png, "_LARGEST", 19)
    with pytest.raises(SettingError, match=r"picture of 4 x 5 pixels.*\.tif"):
        write(path, sample_labels())
    assert not list(tmp_path.iterdir())


def test_a_picture_is_not_read(tmp_path):
    path = write(tmp_path / "x.png", sample_labels())
    with pytest.raises(UnreadableFileError, match=r"x\.png is a picture, not a cube"):
        open_scene(path)
    with pytest.raises(UnreadableFileError, match=r"x\.png is a picture, whose colours"):
        open_labels(path)
