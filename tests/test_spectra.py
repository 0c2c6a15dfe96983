import numpy as np
import pytest
from cli_helpers import assert_refused, command, small_scene
from PIL import Image
from scenes import ArrayScene, field_cube, field_labels

from hsifcn.core.errors import ExistingOutputError, MismatchError
from hsifcn.core.scene import LabelMap
from hsifcn.report.quicklook import class_spectra, draw_spectra


def test_mean_spectra_of_valid_pixels_and_good_bands():
    labels = field_labels()
    cube = field_cube(labels, dtype="f4")
    good = np.ones(12, bool)
    good[3] = False
    cube[..., 3] = np.nan  # counts for nothing
    cube[2, 2, 5] = np.nan
    scene = ArrayScene(cube, good_bands=good)
    spectra = class_spectra(scene, labels)
    for number in (1, 2, 3):
        taken = labels == number
        taken[2, 2] = False
        np.testing.assert_allclose(spectra[number - 1, good], cube[taken][:, good].mean(0), 1e-5)
    assert np.isnan(spectra[:, 3]).all()


def test_a_class_without_pixels_has_no_spectrum():
    labels = np.array([[0, 1, 3]])
    spectra = class_spectra(ArrayScene(np.arange(6.0).reshape(1, 3, 2)), labels)
    np.testing.assert_array_equal(spectra, [[2, 3], [np.nan, np.nan], [4, 5]])
    with pytest.raises(MismatchError, match="array is 1x3 pixels, its labels are 2x3"):
        class_spectra(ArrayScene(np.ones((1, 3, 2))), np.ones((2, 3), int))


@pytest.mark.parametrize("nm", [None, np.linspace(900, 400, 12)])
def test_a_picture(tmp_path, nm):
    labels = LabelMap(field_labels(), ("a", "$b", "c"), ((255, 0, 0), (0, 0, 255), (0, 99, 0)))
    scene = ArrayScene(field_cube(labels.labels), wavelengths=nm)
    draw_spectra(tmp_path / "s.png", scene, labels)
    pixels = np.asarray(Image.open(tmp_path / "s.png").convert("RGB")).reshape(-1, 3)
    for colour in labels.colours:
        assert (pixels == colour).all(axis=1).sum() > 50
    with pytest.raises(ExistingOutputError):
        draw_spectra(tmp_path / "s.png", scene, labels)


def test_info_draws_it(tmp_path):
    small_scene(tmp_path)
    done = command(tmp_path, "info", "cube.npy", "--spectra", "s.png")
    assert done.code == 0
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "cube_gt.npy").unlink()
    refused = command(tmp_path, "info", "cube.npy", "--spectra", "t.png", "-q")
    assert_refused(refused, "--spectra needs labels", "-l")


def test_an_empty_band_leaves_the_others():
    cube = np.ones((4, 5, 3), np.float32)
    cube[..., 1] = -9999
    spectra = class_spectra(ArrayScene(cube, nodata=-9999.0), np.ones((4, 5), np.uint8))
    np.testing.assert_array_equal(spectra, [[1, np.nan, 1]])
