import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import ArrayScene, field_cube, field_labels

from hsifcn.core.errors import SettingError
from hsifcn.core.scene import Window
from hsifcn.data import bands
from hsifcn.data.indian_pines import bundled_file
from hsifcn.io import open_scene

NM = np.array([400, 600, 800, 1000, 1200, 1390, 1600, 1880, 2100, 2300, 2440, 2460.0])


@pytest.fixture
def cube():
    return field_cube(field_labels(), dtype="f4")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", [1]),
        ("1-3,12", [1, 2, 3, 12]),
        (" 2 - 3 , 7", [2, 3, 7]),
        ("400nm-800nm", [1, 2, 3]),
        ("2, 2300.5 nm - 9999nm", [2, 11, 12]),
    ],
)
def test_a_selection(text, expected):
    assert (np.flatnonzero(bands.parse_bands(text, 12, NM)) + 1).tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "not among bands 1-12"),
        ("13", "not among bands 1-12"),
        ("5-4", "not among bands 1-12"),
        ("410nm-590nm", "holds no band"),
        ("", "is no band"),
        ("1;2", "is no band"),
        ("red", "is no band"),
        ("400-500nm", "is no band"),
    ],
)
def test_a_selection_that_makes_no_sense(text, message):
    with pytest.raises(SettingError, match=message):
        bands.parse_bands(text, 12, NM)


def test_wavelengths_must_be_known():
    with pytest.raises(SettingError, match=r"needs wavelengths.*--wavelengths"):
        bands.parse_bands("400nm-500nm", 12, None)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_what_is_formatted_parses_back(chosen):
    mask = np.array(chosen)
    np.testing.assert_array_equal(
        bands.parse_bands(bands.format_bands(mask), len(mask), None), mask
    )


def test_dark_bands_in_windows_of_water_are_left_out(cube):
    cube[..., [1, 5, 11]] *= 0.001  # dark, but the first lies in no window
    scene = ArrayScene(cube, wavelengths=NM)
    assert np.flatnonzero(bands.hidden_by_water(scene)).tolist() == [5, 11]
    with pytest.warns(UserWarning, match="bands 6, 12 of array hold no signal"):
        chosen = bands.with_chosen_bands(scene)
    assert np.flatnonzero(~chosen.good_bands).tolist() == [5, 11]
    assert bands.with_chosen_bands(scene, keep_bad=True).good_bands.all()
    assert not bands.hidden_by_water(ArrayScene(cube)).any()


def test_no_band_is_left_out_for_its_wavelength_alone(cube):
    scene = ArrayScene(cube, wavelengths=NM)
    assert bands.with_chosen_bands(scene).good_bands.all()


def test_the_bundled_scene_keeps_all_its_bands():
    scene = open_scene(bundled_file("indian_pines_corrected.mat"))
    nm = np.loadtxt(bundled_file("wavelengths_nm.txt"))
    inside = sum((nm >= low) & (nm <= high) for low, high in bands.WATER_NM)
    assert inside.sum() == 10
    block = scene.read(Window(0, 0, 145, 145))
    assert bands.with_chosen_bands(ArrayScene(block, wavelengths=nm)).good_bands.all()


def test_choosing_goes_together_with_marks(cube):
    good = np.ones(12, bool)
    good[1] = False
    scene = ArrayScene(cube, good_bands=good, wavelengths=NM)
    chosen = bands.with_chosen_bands(scene, "1-3")
    assert np.flatnonzero(chosen.good_bands).tolist() == [0, 2]
    kept = bands.with_chosen_bands(scene, "1-3", keep_bad=True)
    assert np.flatnonzero(kept.good_bands).tolist() == [0, 1, 2]
    with pytest.raises(SettingError, match="leaves no band"):
        bands.with_chosen_bands(scene, "2")


def test_faults_have_their_names(cube):
    cube[..., 2], cube[..., 3], cube[..., 4], cube[..., 5] = np.nan, 7, -1, 0.5
    good = np.ones(12, bool)
    good[0] = False
    scene = ArrayScene(cube, good_bands=good, nodata=-1.0, wavelengths=NM)
    found = {name: np.flatnonzero(mask).tolist() for name, mask in bands.band_faults(scene).items()}
    assert found == {
        "marked bad": [0], "empty": [2, 4], "flat": [3, 5], "hidden by water vapour": [5],
    }  # fmt: skip
    assert np.flatnonzero(~bands.varying_bands(scene)).tolist() == [2, 3, 4, 5]
    assert bands.band_faults(ArrayScene(field_cube(field_labels()))) == {}


def test_a_band_without_most_of_the_measurements_is_no_good_one(cube):
    cube[..., 1] = np.nan
    cube[: len(cube) * 2 // 3, :, 2] = -9999
    cube[0, 0, 3] = -9999
    scene = ArrayScene(cube, nodata=-9999.0)
    faults = bands.band_faults(scene)
    assert np.flatnonzero(faults["empty"]).tolist() == [1]
    assert np.flatnonzero(faults["mostly empty"]).tolist() == [2]
    for found in (bands.measured_bands(scene), bands.varying_bands(scene)):
        assert np.flatnonzero(~found).tolist() == [1, 2]
