import re
import warnings

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.errors import CRSError

from hsifcn.io.crs import known_wkt, parse_crs, reprojected

WKT = CRS.from_epsg(32633).to_wkt()


@pytest.mark.parametrize("text", [WKT, CRS.from_epsg(32633).to_wkt(version="WKT2_2019")])
def test_wkt_and_codes(text):
    assert parse_crs(text) == parse_crs("EPSG:32633") == CRS.from_epsg(32633)
    assert CRS.from_wkt(known_wkt(text)) == CRS.from_epsg(32633)


@pytest.mark.parametrize("text", ["", "x", "PROJCS[garbage", "EPSG:1", "+proj=utm +zone=33"])
def test_what_is_none_is_told_by_nothing_on_stderr(text, capfd):
    assert known_wkt(text) is None
    with pytest.raises(CRSError):
        parse_crs(text)
    assert capfd.readouterr().err == ""


def test_no_file_is_read_for_it(tmp_path):
    path = tmp_path / "utm.prj"
    path.write_text(WKT)
    assert CRS.from_user_input(str(path)) == CRS.from_epsg(32633)  # as GDAL does it
    assert known_wkt(str(path)) is None


OSGB = """PROJCS["Transverse_Mercator",GEOGCS["GCS_OSGB 1936",DATUM["OSGB_1936",
SPHEROID["Airy 1830",6377563.396,299.3249646,AUTHORITY["EPSG","7001"]],AUTHORITY["EPSG","6277"]],
PRIMEM["Greenwich",0],UNIT["Degree",0.0174532925199433],AUTHORITY["EPSG","4277"]],
PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",49],
PARAMETER["central_meridian",-2],PARAMETER["scale_factor",0.9996012717],
PARAMETER["false_easting",400000],PARAMETER["false_northing",-100000],
UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],AXIS["Northing",NORTH]]"""
ALONE = np.array([529300.0]), np.array([181000.0])


def test_a_datum_of_another_name_is_shifted_all_the_same():
    right = reprojected(*ALONE, "EPSG:27700", "EPSG:32630", "a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = reprojected(*ALONE, OSGB, "EPSG:32630", "a")
    np.testing.assert_allclose(found, right, atol=0.01)


@pytest.mark.parametrize("code", [27700, 31467])
def test_a_datum_shift_that_is_not_known_is_told(code):
    wkt = re.sub(r',AUTHORITY\["EPSG","\d+"\]', "", CRS.from_epsg(code).to_wkt())
    wkt = re.sub(r'GEOGCS\["[^"]*",DATUM\["[^"]*"', 'GEOGCS["mine",DATUM["mine"', wkt)
    with pytest.warns(UserWarning, match=r"a\.shp lies in .*, and no datum shift from there"):
        reprojected(*ALONE, wkt, "EPSG:32630", "a.shp")


@pytest.mark.parametrize("code", [4258, 25830, 3857, 4269])
def test_datums_that_need_no_shift_are_not_told_of(code):
    degrees = np.array([-1.5]), np.array([51.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        placed = reprojected(*degrees, "EPSG:4326", f"EPSG:{code}", "a")
        found = reprojected(*placed, f"EPSG:{code}", "EPSG:32630", "a")
    direct = reprojected(*degrees, "EPSG:4326", "EPSG:32630", "b")
    np.testing.assert_allclose(found, direct, atol=3)  # metres: those that the datums differ by


def test_points_without_a_place_are_infinite():
    xs, ys = np.array([-1.5, 0.0, -1.6]), np.array([51.0, 95.0, 51.1])
    found = reprojected(xs, ys, "EPSG:4326", "EPSG:32630", "a")
    assert np.isfinite(found).tolist() == [[True, False, True]] * 2
    alone = reprojected(xs[:1], ys[:1], "EPSG:4326", "EPSG:32630", "a")
    assert (found[0][0], found[1][0]) == (alone[0][0], alone[1][0])
