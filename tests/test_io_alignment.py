"""Labels on the pixels of a scene."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from io_samples import sample_cube, sample_labels, write_envi
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import reproject

from hsifcn.core.errors import LabelError, MismatchError
from hsifcn.core.scene import Grid, LabelMap, default_colours
from hsifcn.io import open_labels, open_scene
from hsifcn.io.alignment import align, coordinates_of, pixels_at, target_of

UTM = CRS.from_epsg(32632).to_wkt()
DEGREES = CRS.from_epsg(4326).to_wkt()
SHAPE = (12, 15)
LABELS = np.arange(1, 181, dtype=np.uint8).reshape(SHAPE)


def grid(row=0.0, col=0.0, size=20.0, crs=UTM, angle=0.0):
    """Pixels of 20 m whose first is ``row`` down and ``col`` right of that of the scene."""
    x, y = 500000 + 20 * col, 5300000 - 20 * row
    a, b = size * np.cos(angle), size * np.sin(angle)
    return Grid(crs, (a, b, x, b, -a, y))


def target(shape=SHAPE, **where):
    return target_of(LabelMap(np.zeros(shape, np.uint8), (), (), grid(**where)))


def aligned(labels, its_grid, there):
    """Align, every warning being an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return align("gt.tif", labels, its_grid, there)


@given(
    st.integers(-20, 20), st.integers(-20, 20), st.integers(1, 30), st.integers(1, 30),
    st.sampled_from([0.0, 0.4]), st.floats(-0.004, 0.004),
)  # fmt: skip
def test_shifted_and_cut_rasters_keep_labels_in_their_places(row, col, rows, cols, angle, rounding):
    """A raster cut anywhere out of a larger one labels the scene as the larger one does."""
    world = np.random.default_rng(0).integers(1, 9, (80, 80), np.uint8)
    scene = np.s_[30 : 30 + SHAPE[0], 30 : 30 + SHAPE[1]]
    cut = np.s_[30 + row : 30 + row + rows, 30 + col : 30 + col + cols]
    seen = np.zeros_like(world)
    seen[cut] = world[cut]
    there = target(angle=angle)
    x, y = coordinates_of(there.grid, np.array(row + rounding), np.array(col + rounding))
    a, b, _, d, e, _ = there.grid.transform
    its_grid = Grid(UTM, (a, b, float(x), d, e, float(y)))
    if not seen[scene].any():
        with pytest.raises(LabelError, match=r"gt\.tif labels no pixel"):
            align("gt.tif", world[cut], its_grid, there)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".* lie outside")
        found = align("gt.tif", world[cut], its_grid, there)
    np.testing.assert_array_equal(found, seen[scene])


@given(st.floats(0, 60), st.floats(0, 60), st.sampled_from([0.0, 1.0]))
def test_pixels_and_coordinates_are_inverse(row, col, angle):
    there = grid(angle=angle)
    places = coordinates_of(there, np.array(row), np.array(col))
    np.testing.assert_allclose(pixels_at(there, *places), [row, col], atol=1e-6)


def test_what_lies_outside_is_told():
    with pytest.warns(UserWarning, match=r"30 labelled pixels of gt\.tif lie outside"):
        found = align("gt.tif", LABELS, grid(row=2), target())
    np.testing.assert_array_equal(found[2:], LABELS[:10])
    assert not found[:2].any()
    message = r"covers x 500000 to 500300, y 5295760 to 5296000, the scene x 500000 .* 5300000;"
    with pytest.raises(LabelError, match=message):
        align("gt.tif", LABELS, grid(row=200), target())


def test_part_of_a_pixel_is_told():
    for row, wanted in ((0.3, LABELS), (-0.3, LABELS)):
        with pytest.warns(UserWarning, match=r"gt\.tif lies 0\.30 pixels beside the pixels"):
            found = align("gt.tif", LABELS, grid(row=row), target())
        np.testing.assert_array_equal(found, wanted)


def test_coarser_and_finer_pixels():
    with pytest.warns(UserWarning, match="has other pixels than the label map: the nearest"):
        found = align("gt.tif", LABELS, grid(size=40), target((24, 30)))
    np.testing.assert_array_equal(found, np.kron(LABELS, np.ones((2, 2), np.uint8)))
    fine = np.kron(LABELS, np.ones((3, 3), np.uint8))
    with pytest.warns(UserWarning, match="has other pixels"):
        found = align("gt.tif", fine, grid(size=20 / 3), target())
    np.testing.assert_array_equal(found, LABELS)


def test_another_crs_gives_what_gdal_gives():
    there = target((40, 50))
    coarse = np.random.default_rng(1).integers(1, 9, (60, 60), np.uint8)
    place = (0.0003, 0, 8.998, 0, -0.0003, 47.856)
    wanted = np.zeros(there.shape, np.uint8)
    reproject(
        coarse, wanted, src_transform=Affine(*place), src_crs=DEGREES,
        dst_transform=Affine(*there.grid.transform), dst_crs=UTM, tolerance=0,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="has other pixels"):
        found = align("gt.tif", coarse, Grid(DEGREES, place), there)
    assert wanted.any()
    np.testing.assert_array_equal(found, wanted)


def test_two_names_of_one_crs_are_one_crs(tmp_path):
    header = {
        "map_info": "{UTM, 1, 1, 500000, 5300000, 20, 20, 32, North, WGS-84}",
        "coordinate_system_string": f"{{{CRS.from_wkt(UTM).to_wkt(version='WKT2_2019')}}}",
    }
    scene = open_scene(write_envi(tmp_path / "x.img", sample_cube(), **header))
    assert scene.grid.crs != UTM
    found = aligned(LABELS[:3, :3], grid(row=1, col=2), target_of(scene))
    np.testing.assert_array_equal(found[1:, 2:], LABELS[:3, :3])
    assert not found[0].any()
    assert not found[:, :2].any()
    etrs = CRS.from_epsg(25832).to_wkt()  # 0 m from UTM on WGS 84, as PROJ has it
    np.testing.assert_array_equal(aligned(LABELS, grid(crs=etrs), target()), LABELS)


def test_without_georeference_the_size_decides():
    bare = target_of(LabelMap(np.zeros(SHAPE, np.uint8), (), ()))
    for its_grid, there in ((None, target()), (grid(row=3), bare), (None, bare)):
        assert aligned(LABELS, its_grid, there) is LABELS
        with pytest.raises(MismatchError, match=r"gt\.tif is 11x15 pixels, the label map is 12x15"):
            align("gt.tif", LABELS[1:], its_grid, there)


def test_a_georeference_without_crs_counts_where_sizes_differ():
    for its_grid, there in ((grid(row=3, crs=None), target()), (grid(row=3), target(crs=None))):
        assert aligned(LABELS, its_grid, there) is LABELS
    with pytest.warns(UserWarning, match=r"gt\.tif has no CRS; the other's is assumed"):
        found = align("gt.tif", LABELS[3:], grid(row=3, crs=None), target())
    np.testing.assert_array_equal(found[3:], LABELS[3:])


def test_a_crs_that_nobody_knows_is_refused():
    with pytest.raises(MismatchError, match="no way leads from one to the other; give both"):
        align("gt.tif", LABELS, grid(crs='PROJCS["mine"]'), target())


def test_geotiff_labels_keep_their_colours(tmp_path):
    path = tmp_path / "gt.tif"
    its_grid = grid(row=2, col=-1)
    with rasterio.open(
        path, "w", driver="GTiff", height=3, width=4, count=1, dtype="uint8", crs=UTM,
        transform=Affine(*its_grid.transform), nodata=255,
    ) as file:  # fmt: skip
        file.write(np.array([[1, 2, 255, 0], [2, 5, 5, 9], [9, 9, 255, 1]], np.uint8), 1)
        file.write_colormap(1, {1: (1, 2, 3, 255), 2: (4, 5, 6, 255)})
    like = LabelMap(np.zeros((4, 5), np.uint8), (), (), grid())
    with pytest.warns(UserWarning, match=r"labelled pixels of .*gt\.tif lie outside"):
        read = open_labels(path, like=like)
    wanted = [[0] * 5, [0] * 5, [2, 0, 0, 0, 0], [5, 5, 9, 0, 0]]
    np.testing.assert_array_equal(read.coded(), wanted)
    assert read.codes == (2, 5, 9)
    assert read.colours == ((4, 5, 6), *default_colours(3)[1:])
    assert read.class_names == ("class 2", "class 5", "class 9")


def test_rasters_are_put_on_the_pixels_of_a_scene(tmp_path):
    def info(col):
        return f"{{UTM, 1, 1, {500000 + 20 * col}, 5300000, 20, 20, 32, North, WGS-84}}"

    scene = open_scene(write_envi(tmp_path / "x.img", sample_cube(), map_info=info(0)))
    raster = write_envi(tmp_path / "gt.img", sample_labels((4, 9))[:, :, None], map_info=info(-2))
    with pytest.warns(UserWarning, match="lie outside of"):
        read = open_labels(raster, like=scene)
    np.testing.assert_array_equal(read.labels, sample_labels((4, 9))[:, 2:7])
    assert read.grid == scene.grid
    assert open_labels(raster).labels.shape == (4, 9)
    far = write_envi(tmp_path / "gt2.img", sample_labels()[:, :, None], map_info=info(90))
    with pytest.raises(LabelError, match=r"gt2\.img labels no pixel of .*x\.img"):
        open_labels(far, like=scene)
