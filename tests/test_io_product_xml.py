import numpy as np
import pytest
import rasterio
from io_samples import sample_cube

from hsifcn.core.errors import UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io import open_scene

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def write_image(path):
    cube = sample_cube(dtype="i2")
    with rasterio.open(path, "w", driver="GTiff", height=4, width=5, count=3, dtype="int16") as f:
        f.write(cube.transpose(2, 0, 1))
    return path


def enmap(bands=3, gain="0.0001", first="418.4"):
    table = "".join(
        f'<bandID number="{i}"><wavelengthCenterOfBand>{first if i == 1 else 420 + 5 * i}'
        f"</wavelengthCenterOfBand><FWHMOfBand>6.{i}</FWHMOfBand>"
        f"<GainOfBand>{gain}</GainOfBand><OffsetOfBand>0</OffsetOfBand></bandID>"
        for i in range(bands, 0, -1)  # the number tells, not the order
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><level_X><specific>'
        '<deadPixelMap><bandID number="1"/></deadPixelMap>'
        f"<backgroundValue>-32768</backgroundValue><bandCharacterisation>{table}"
        "</bandCharacterisation></specific></level_X>"
    )


DESIS = "<hsi_doc><specific><bandCharacterisation>{}</bandCharacterisation></specific></hsi_doc>"


def desis():
    return DESIS.format(
        "".join(
            f"<band><bandNumber>{i}</bandNumber><wavelengthWidthOfBand>3.5</wavelengthWidthOfBand>"
            f"<wavelengthCenterOfBand>{400 + 2.5 * i}</wavelengthCenterOfBand>"
            "<gainOfBand>0.0001</gainOfBand><offsetOfBand>0.0</offsetOfBand></band>"
            for i in range(1, 4)
        )
    )


def test_an_enmap_scene(tmp_path):
    path = write_image(tmp_path / "ENMAP01-____L2A-DT0001-SPECTRAL_IMAGE.TIF")
    (tmp_path / "ENMAP01-____L2A-DT0001-METADATA.XML").write_text(enmap())
    scene = open_scene(path)
    np.testing.assert_allclose(scene.wavelengths, [418.4, 430, 435])
    np.testing.assert_allclose(scene.fwhm, [6.1, 6.2, 6.3])
    assert (scene.nodata, scene.scale_factor) == (-32768, pytest.approx(10000))


def test_a_desis_scene(tmp_path):
    path = write_image(tmp_path / "DESIS-HSI-L2A-DT0002-SPECTRAL_IMAGE.tif")
    (tmp_path / "DESIS-HSI-L2A-DT0002-METADATA.xml").write_text(desis())
    scene = open_scene(path)
    np.testing.assert_allclose(scene.wavelengths, [402.5, 405, 407.5])
    np.testing.assert_allclose(scene.fwhm, [3.5, 3.5, 3.5])
    assert (scene.nodata, scene.scale_factor) == (None, pytest.approx(10000))


@pytest.mark.parametrize(("content", "message"), [(None, "has no x-META"), (enmap(4), "4 bands")])
def test_metadata_that_do_not_fit_are_not_used(tmp_path, content, message):
    path = write_image(tmp_path / "x-SPECTRAL_IMAGE.TIF")
    if content:
        (tmp_path / "x-METADATA.XML").write_text(content)
    with pytest.warns(UserWarning, match=message):
        assert open_scene(path).wavelengths is None


@pytest.mark.parametrize("content", [enmap(first="red"), enmap(first="0"), "no xml"])
def test_damaged_metadata_are_refused(tmp_path, content):
    path = write_image(tmp_path / "x-SPECTRAL_IMAGE.TIF")
    (tmp_path / "x-METADATA.XML").write_text(content)
    with pytest.raises(UnreadableFileError, match=r"x-METADATA\.XML"):
        open_scene(path)


def test_gains_that_differ_are_applied(tmp_path):
    path = write_image(tmp_path / "x-SPECTRAL_IMAGE.TIF")
    changed = enmap().replace("0.0001", "0.0002", 1)  # of the last band, which comes first
    (tmp_path / "x-METADATA.XML").write_text(changed)
    scene = open_scene(path)
    assert scene.scale_factor == 1
    expected = sample_cube(dtype="i2") * np.array([0.0001, 0.0001, 0.0002])
    np.testing.assert_allclose(scene.read(Window(0, 0, 4, 5)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "end",
    ["SPECTRAL_IMAGE_COG.tiff", "SPECTRAL_IMAGE_COG.TIF", "SPECTRAL_IMAGE.tiff"],
)
def test_names_under_which_archives_deliver(tmp_path, end):
    path = write_image(tmp_path / f"ENMAP01-____L2A-DT0001-{end}")
    (tmp_path / "ENMAP01-____L2A-DT0001-METADATA.XML").write_text(enmap())
    np.testing.assert_allclose(open_scene(path).wavelengths, [418.4, 430, 435])


@pytest.mark.parametrize(
    ("end", "wavelengths"),
    [
        ("SPECTRAL_IMAGE_VNIR.TIF", [418.4, 430, 435]),
        ("SPECTRAL_IMAGE_SWIR.TIF", [435, 440, 445]),
        ("SPECTRAL_IMAGE_COG_SWIR.tiff", [435, 440, 445]),
        ("SPECTRAL_IMAGE_VNIR_COG.tiff", [418.4, 430, 435]),
    ],
)
def test_a_file_of_each_detector(tmp_path, end, wavelengths):
    path = write_image(tmp_path / f"ENMAP01-____L1B-DT0001-{end}")
    (tmp_path / "ENMAP01-____L1B-DT0001-METADATA.XML").write_text(enmap(5))
    scene = open_scene(path)
    np.testing.assert_allclose(scene.wavelengths, wavelengths)
    assert scene.scale_factor is None


@pytest.mark.parametrize(
    ("name", "level", "radiance"),
    [
        ("ENMAP01-____L1C-DT0001", "", True),
        ("ENMAP01-____L1C-DT0001", "L1C", True),
        ("x", "L1B", True),
        ("x", "L2A", False),
        ("DESIS-HSI-L1C-DT0002", "", True),
        ("DESIS-HSI-L2A-DT0002", "", False),
    ],
)
def test_radiances_are_no_reflectances(tmp_path, name, level, radiance):
    path = write_image(tmp_path / f"{name}-SPECTRAL_IMAGE.TIF")
    content = enmap(gain="0.002") if name.startswith("ENMAP") or name == "x" else desis()
    level = f"<base><level>{level}</level></base>" if level else ""
    (tmp_path / f"{name}-METADATA.XML").write_text(
        content.replace("<specific>", level + "<specific>")
    )
    scene = open_scene(path)
    gain = 0.0001 if name.startswith("DESIS") else 0.002
    if radiance:  # the gain is applied, since every scene has its own
        assert scene.scale_factor is None
        np.testing.assert_allclose(
            scene.read(Window(0, 0, 4, 5)), sample_cube(dtype="i2") * gain, rtol=1e-6
        )
    else:
        assert scene.scale_factor == pytest.approx(1 / gain)
