import pytest
from rasterio.crs import CRS
from rasterio.errors import CRSError

from hsifcn.io.crs import known_wkt, parse_crs

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
