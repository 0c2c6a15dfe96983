"""The style beside a map, against the elements that QGIS itself saves."""

from xml.etree import ElementTree

import numpy as np
import pytest
from io_samples import sample_labels

from hsifcn.core.errors import ExistingOutputError
from hsifcn.core.scene import Window
from hsifcn.io import create_raster

NAMES = ("corn & <soy>", "naïve", "x\x00y")
COLOURS = ((255, 0, 10), (0, 255, 0), (1, 2, 3))


def write(path, **options):
    labels = sample_labels()
    with create_raster(path, shape=labels.shape, dtype="u1", **options) as raster:
        raster.write(Window(0, 0, *labels.shape), labels)


@pytest.mark.parametrize("suffix", [".img", ".tif"])
def test_names_and_colours(tmp_path, suffix):
    write(tmp_path / f"x{suffix}", class_names=NAMES, colours=COLOURS)
    text = (tmp_path / "x.qml").read_text("utf-8")
    assert text.startswith("<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<qgis ")
    renderer = ElementTree.fromstring(text).find("pipe/rasterrenderer")
    assert (renderer.get("type"), renderer.get("band")) == ("paletted", "1")
    entries = [
        tuple(entry.get(key) for key in ("value", "color", "alpha", "label"))
        for entry in renderer.findall("colorPalette/paletteEntry")
    ]
    assert entries == [
        ("1", "#ff000a", "255", "corn & <soy>"),
        ("2", "#00ff00", "255", "naïve"),
        ("3", "#010203", "255", "xy"),
    ]


def test_a_ramp_of_the_last_band(tmp_path):
    with create_raster(tmp_path / "x.tif", shape=(2, 2, 3), dtype="f4", ramp=(0, 1)) as raster:
        raster.write(Window(0, 0, 2, 2), np.zeros((2, 2, 3), "f4"))
    text = (tmp_path / "x.qml").read_text("utf-8")
    renderer = ElementTree.fromstring(text).find("pipe/rasterrenderer")
    assert (renderer.get("type"), renderer.get("band")) == ("singlebandpseudocolor", "3")
    items = renderer.findall("rastershader/colorrampshader/item")
    assert [item.get("value") for item in items] == ["0", "0.25", "0.5", "0.75", "1"]
    assert items[0].get("color") == "#440154"  # viridis
    assert items[-1].get("color") == "#fde725"


def test_no_style_without_classes(tmp_path):
    write(tmp_path / "x.img", band_names=["a"])
    assert not (tmp_path / "x.qml").exists()


def test_a_style_of_ones_own_is_kept(tmp_path):
    write(tmp_path / "x.img", class_names=NAMES, colours=COLOURS)
    write(tmp_path / "x.tif", class_names=NAMES, colours=COLOURS)  # the same style serves both
    (tmp_path / "x.tif").unlink()
    (tmp_path / "x.tif.aux.xml").unlink()
    (tmp_path / "x.qml").write_text("mine")
    with pytest.raises(ExistingOutputError, match=r"x\.qml exists"):
        write(tmp_path / "x.tif", class_names=NAMES, colours=COLOURS)
    assert (tmp_path / "x.qml").read_text() == "mine"
