"""GeoTIFF maps, read back by rasterio and by GDAL's own translation to a virtual raster."""

import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from io_samples import sample_cube, sample_labels

from hsifcn.core.errors import FailedError, SettingError
from hsifcn.core.scene import Grid, Window
from hsifcn.io import create_raster, open_labels, open_scene
from hsifcn.io.tiff_writer import _are_equal

WHOLE = Window(0, 0, 4, 5)
NAMES = ("corn, no till", "wo{o}ds <&>", "naïve = 3")
COLOURS = ((255, 0, 0), (0, 255, 0), (1, 2, 3))
UTM = Grid(rasterio.crs.CRS.from_epsg(32733).to_wkt(), (20, 0, 5e5, 0, -20, 9e6))


def write(path, array, **options):
    with create_raster(path, shape=array.shape, dtype=array.dtype, **options) as raster:
        raster.write(Window(0, 0, *array.shape[:2]), array)
    return path


def as_gdal_tells(path):
    """What GDAL knows of a raster, as the XML of a virtual one."""
    rasterio.shutil.copy(path, f"{path}.vrt", driver="VRT")
    return ElementTree.parse(f"{path}.vrt").getroot()


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_place_names_and_colours_of_a_map(tmp_path, dtype):
    labels = sample_labels(dtype=dtype)
    options = {"grid": UTM, "class_names": NAMES, "colours": COLOURS, "nodata": 0}
    path = write(tmp_path / "x.tif", labels, **options)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), labels)
        np.testing.assert_array_equal(dataset.read_masks(1) > 0, labels > 0)
        assert dataset.crs.to_epsg() == 32733
        assert dataset.transform[:6] == UTM.transform
        assert (dataset.nodata, dataset.descriptions) == (0, ("class",))
        assert [dataset.colormap(1)[label][:3] for label in (1, 2, 3)] == list(COLOURS)
    band = as_gdal_tells(path).find("VRTRasterBand")
    assert [n.text for n in band.findall("CategoryNames/Category")] == ["Unclassified", *NAMES]
    rows = [[f.text for f in row] for row in band.findall("GDALRasterAttributeTable/Row")]
    assert rows[1] == ["1", "corn, no till", "255", "0", "0"]
    read = open_labels(path)
    assert (read.class_names, read.colours) == (NAMES, COLOURS)
    assert read.grid.transform == UTM.transform
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["x.qml", "x.tif", "x.tif.aux.xml", "x.tif.vrt"]


def test_degrees_stay_degrees(tmp_path):
    grid = Grid(rasterio.crs.CRS.from_epsg(4326).to_wkt(), (1e-4, 0, 9.25, 0, -1e-4, 48.5))
    path = write(tmp_path / "x.tif", sample_labels(), grid=grid, class_names=NAMES)
    with rasterio.open(path) as dataset:
        assert dataset.crs.to_epsg() == 4326
        assert dataset.bounds[:2] == pytest.approx((9.25, 48.5 - 4e-4))


def test_a_place_without_a_known_crs(tmp_path):
    grid = Grid('PROJCS["nowhere"]', (2, 0, 9, 0, -2, 48))
    with pytest.warns(UserWarning, match="GeoTIFF cannot tell the coordinate system"):
        path = write(tmp_path / "x.tif", sample_labels(), grid=grid)
    with rasterio.open(path) as dataset:
        assert (dataset.crs, dataset.transform[:6]) == (None, grid.transform)


def test_probabilities(tmp_path):
    shares = sample_cube(dtype="f4")
    shares[1, 2] = np.nan
    path = write(tmp_path / "x.tif", shares, band_names=NAMES, nodata=float("nan"), grid=UTM)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read().transpose(1, 2, 0), shares)
        assert dataset.descriptions == NAMES
        assert np.isnan(dataset.nodata)
    assert sorted(file.suffix for file in tmp_path.iterdir()) in ([".tif"], [".tif", ".xml"])
    np.testing.assert_array_equal(open_scene(path).read(WHOLE), shares)


def test_it_is_cloud_optimized(tmp_path):
    labels = np.kron(sample_labels((40, 50)), np.ones((32, 32), "u1"))
    path = tmp_path / "x.tif"
    with create_raster(path, shape=labels.shape, dtype="u1", class_names=NAMES) as raster:
        for row in range(0, labels.shape[0], 100):
            part = Window(row, 0, min(100, labels.shape[0] - row), labels.shape[1])
            raster.write(part, labels[part.slices])
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.overviews(1) == [2, 4]
        np.testing.assert_array_equal(dataset.read(1), labels)
        small = dataset.read(1, out_shape=(320, 400))
        np.testing.assert_array_equal(small, labels[::4, ::4])  # classes are not mixed
    assert path.stat().st_size < labels.size / 10


@contextmanager
def largest_file(size):
    """Let the system refuse to write files over a size, as a full disk does."""
    earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, earlier[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, earlier)


# The raw voxels take 540,000 bytes, the file 655,989: at 600,000 GDAL itself reports no error.
@pytest.mark.parametrize("size", [300_000, 545_000, 600_000])
def test_a_disk_that_fills_up_while_converting(tmp_path, size, capfd):
    labels = np.random.default_rng(0).integers(0, 200, (600, 900)).astype("u1")
    with largest_file(size), pytest.raises(FailedError, match=r"x\.tif cannot be written"):
        write(tmp_path / "x.tif", labels, class_names=NAMES)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_comparison_that_can_fail(tmp_path):
    paths = [write(tmp_path / f"{i}.tif", sample_cube() + i) for i in (0, 1)]
    with rasterio.open(paths[0]) as a, rasterio.open(paths[1]) as b:
        assert _are_equal(a, a)
        assert not _are_equal(a, b)


def test_what_belonged_to_the_old_map_goes(tmp_path):
    path = write(tmp_path / "x.tif", sample_labels(), class_names=NAMES)
    (tmp_path / "x.tif.ovr").write_bytes(b"overviews of the old map")
    write(path, sample_cube(), overwrite=True)
    assert "x.tif.ovr" not in os.listdir(tmp_path)
    assert open_scene(path).shape == (4, 5, 3)
    assert not as_gdal_tells(path).findall("VRTRasterBand/CategoryNames")


def test_memory_stays_flat(tmp_path):
    """Peak memory grows by far less than the 192 MB of the raster."""
    code = f"""
import numpy as np
from hsifcn.io import create_raster
from hsifcn.core.scene import Window
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
def write(rows, cols, path):
    with create_raster(path, shape=(rows, cols, 3), dtype="f4") as raster:
        for row in range(0, rows, 100):
            raster.write(Window(row, 0, 100, cols), np.full((100, cols, 3), row, "f4"))
write(600, 600, {str(tmp_path / "a.tif")!r})
before = peak()
write(4000, 4000, {str(tmp_path / "b.tif")!r})
print(peak() - before)
"""
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 130_000


def test_a_path_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.tif")
    with pytest.raises(SettingError, match="is not UTF-8"):
        create_raster(path, shape=(4, 5), dtype="u1")
    assert not list(tmp_path.iterdir())
