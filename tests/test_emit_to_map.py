"""A newcomer's way: an EMIT file and polygons in another CRS become a map that lies over them.

The swath is turned against north, as the station's orbit is, so that only its lookup table places
it; rasterio, pyogrio and shapely tell where map and polygons lie.
"""

import numpy as np
import pyogrio
import pyogrio.raw
import pytest
import rasterio
import rasterio.features
import rasterio.shutil
import shapely
from cli_helpers import assert_refused, command
from rasterio.warp import transform
from vector_samples import write_shapes

DEGREES, UTM = "EPSG:4326", "EPSG:32632"
WEST, NORTH, PIXEL = 8.999, 47.87, 0.000542232520256367  # EMIT's 60 m at the equator
SWATH, MAP, FIELD = (56, 50), (64, 60), 600.0  # pixels; metres of a field's side
NAMES = ("barley", "maize", "wheat")
BANDS, WATER = 24, slice(14, 16)


def class_at(east, north):
    """Fields lie like the cells of a board, three classes in turn."""
    col, row = np.floor((east - 500_000) / FIELD), np.floor((north - 5_299_000) / FIELD)
    return ((col + 2 * row) % 3).astype(int)


def write_emit(path):
    """A scene with the structure of EMITL2ARFL, read from the ground by a turned instrument."""
    angle = np.deg2rad(14)
    rows, cols = np.indices(MAP) - np.reshape(MAP, (2, 1, 1)) / 2 + 0.5
    across = np.rint(cols * np.cos(angle) - rows * np.sin(angle) + SWATH[1] / 2).astype(int)
    down = np.rint(cols * np.sin(angle) + rows * np.cos(angle) + SWATH[0] / 2).astype(int)
    seen = (across >= 1) & (across <= SWATH[1]) & (down >= 1) & (down <= SWATH[0])
    rows, cols = np.indices(MAP)
    lon, lat = WEST + (cols.ravel() + 0.5) * PIXEL, NORTH - (rows.ravel() + 0.5) * PIXEL
    ground = class_at(*map(np.array, transform(DEGREES, UTM, lon, lat))).reshape(MAP)
    rng = np.random.default_rng(0)
    nm = np.linspace(381, 2493, BANDS)
    spectra = 0.3 + 0.1 * np.sin(np.outer([3, 4, 5], nm / 1000) + np.array([[0], [2], [4]]))
    cube = rng.normal(0.3, 0.02, (*SWATH, BANDS))
    cube[down[seen] - 1, across[seen] - 1] = spectra[ground[seen]]
    cube += rng.normal(0, 0.01, cube.shape)
    cube[..., WATER] = -0.01
    write_product(path, cube, nm, np.where(seen, down, 0), np.where(seen, across, 0))
    return seen


def write_product(path, cube, nm, glt_y, glt_x):
    import netCDF4

    good = np.ones(BANDS)
    good[WATER] = 0
    with netCDF4.Dataset(path, "w") as file:
        sizes = {"downtrack": SWATH[0], "crosstrack": SWATH[1], "bands": BANDS}
        for name, size in (*sizes.items(), ("ortho_y", MAP[0]), ("ortho_x", MAP[1])):
            file.createDimension(name, size)
        file.title = "EMIT L2A Estimated Surface Reflectance 60 m V001"
        file.geotransform = [WEST, PIXEL, 0.0, NORTH, 0.0, -PIXEL]
        file.spatial_ref = rasterio.crs.CRS.from_string(DEGREES).to_wkt()
        rfl = file.createVariable("reflectance", "f4", tuple(sizes), fill_value=-9999.0, zlib=True)
        rfl.long_name, rfl.units = "Surface Reflectance", "unitless"
        rfl[:] = cube
        sensor, place = file.createGroup("sensor_band_parameters"), file.createGroup("location")
        for name, values in (("wavelengths", nm), ("fwhm", np.full(BANDS, 8.5))):
            sensor.createVariable(name, "f4", ("bands",), fill_value=-9999.0)[:] = values
        sensor.createVariable("good_wavelengths", "u1", ("bands",))[:] = good
        for name, values in (("glt_x", glt_x), ("glt_y", glt_y)):
            table = place.createVariable(name, "i4", ("ortho_y", "ortho_x"), fill_value=0)
            table[:] = values
        for name in ("lat", "lon", "elev"):
            place.createVariable(name, "f8", ("downtrack", "crosstrack"))[:] = 1.0


def write_polygons(path):
    """Polygons a pixel and more inside of the fields of the middle of the map, in UTM."""
    shapes, crops = [], []
    for east in range(500_600, 502_400, int(FIELD)):
        for north in range(5_299_000, 5_301_400, int(FIELD)):
            shapes.append(shapely.box(east + 90, north + 90, east + FIELD - 90, north + FIELD - 90))
            crops.append(NAMES[class_at(np.array(east + 1), np.array(north + 1))])
    return write_shapes(path, shapes, crs=UTM, layer="fields", crop=crops)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emit")
    np.save(folder / "seen.npy", write_emit(folder / "EMIT.nc"))
    write_polygons(folder / "fields.gpkg")
    train = ["train", "EMIT.nc:@glt", "-l", "fields.gpkg", "-s", "fields:0.5", "--steps", "60"]
    done = command(folder, *train, "-o", "run")
    assert done.code == 0, done.err
    done = command(folder, "predict", "run", "-o", "map.tif", "-f", "gtiff", "--polygons")
    assert done.code == 0, done.err
    return folder


def test_the_swath_has_no_place_and_the_error_tells_how_it_gets_one(folder):
    done = command(folder, "train", "EMIT.nc", "-l", "fields.gpkg", "-o", "swath", "-q")
    assert_refused(done, "EMIT.nc:/reflectance has no georeference", "name the scene EMIT.nc:@glt")


def test_info_tells_place_bands_and_classes(folder):
    facts = command(folder, "info", "EMIT.nc:@glt", "-l", "fields.gpkg", "--json").json
    assert facts["shape"] == [*MAP, BANDS]
    assert facts["grid"]["crs_name"] == "WGS 84"
    assert facts["bad_bands"] == [15, 16]
    assert (facts["nodata"], list(facts["classes"])) == (-9999, list(NAMES))


def test_the_map_lies_over_the_polygons(folder):
    meta, _, geometry, (crops,) = pyogrio.raw.read(folder / "fields.gpkg")
    assert meta["crs"] == UTM
    seen = np.load(folder / "seen.npy")
    with rasterio.open(folder / "map.tif") as dataset:
        assert dataset.crs.to_epsg() == 4326
        labels = dataset.read(1)
        np.testing.assert_array_equal(dataset.read_masks(1) > 0, seen)
        fields = shapely.transform(
            shapely.from_wkb(geometry),
            lambda xy: np.column_stack(transform(UTM, dataset.crs, *xy.T)),
        )
        drawn = rasterio.features.rasterize(
            [(field, 1 + NAMES.index(crop)) for field, crop in zip(fields, crops, strict=True)],
            dataset.shape,
            transform=dataset.transform,
        )
    np.testing.assert_array_equal(labels > 0, seen)

    def agreement(labels):
        return (labels == drawn)[(drawn > 0) & seen].mean()

    assert ((drawn > 0) & seen).sum() > 500
    assert agreement(labels) > 0.98
    for shift in ((3, 0), (-3, 0), (0, 5), (0, -5)):
        assert agreement(np.roll(labels, shift, (0, 1))) < 0.93


def test_names_and_colours_are_those_of_the_classes(folder):
    from hsifcn.core.scene import default_colours

    with rasterio.open(folder / "map.tif") as dataset:
        colours = [dataset.colormap(1)[label][:3] for label in (1, 2, 3)]
    assert colours == list(default_colours(3))
    rasterio.shutil.copy(folder / "map.tif", folder / "map.vrt", driver="VRT")
    text = (folder / "map.vrt").read_text()
    assert all(f"<Category>{name}</Category>" in text for name in NAMES)
    style = (folder / "map.qml").read_text()
    assert all(name in style for name in NAMES)


def test_the_polygons_of_the_map_are_in_its_crs_and_named(folder):
    meta, _, geometry, values = pyogrio.raw.read(folder / "map.gpkg")
    fields = dict(zip(meta["fields"], values, strict=True))
    assert meta["crs"] == DEGREES
    assert set(fields["name"]) == set(NAMES)
    assert fields["pixels"].sum() == np.load(folder / "seen.npy").sum()
    area = fields["area"] / fields["pixels"]  # m2; a degree of longitude is shorter up north
    expected = PIXEL**2 * 111_200**2 * np.cos(np.deg2rad(47.8))
    np.testing.assert_allclose(area, expected, rtol=0.01)
    bounds = shapely.total_bounds(shapely.from_wkb(geometry))
    corner = (WEST, NORTH - MAP[0] * PIXEL, WEST + MAP[1] * PIXEL, NORTH)
    np.testing.assert_allclose(bounds, corner, atol=5 * PIXEL)
