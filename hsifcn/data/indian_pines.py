"""The Indian Pines scene that comes with the package."""

from __future__ import annotations

from pathlib import Path

# A warning that says nothing new of this scene: the ranges of AVIRIS's spectrometers overlap.
OVERLAP = "the wavelengths in .* do not increase"


def bundled_file(name: str) -> Path:
    """Path of a file of the bundled scene, e.g. ``indian_pines_corrected.mat``.

    A wheel carries it beside this module; in a checkout it lies in ``data/`` at the top.
    """
    room = Path(__file__).parent
    inside = room / name
    return inside if inside.exists() else room.parent.parent / "data" / name


def bundled_scene() -> dict[str, str]:
    """Paths of the bundled scene: ``scene``, ``labels``, ``wavelengths``, ``class_names``."""
    return {
        "scene": str(bundled_file("indian_pines_corrected.mat")),
        "labels": str(bundled_file("indian_pines_gt.mat")),
        "wavelengths": str(bundled_file("wavelengths_nm.txt")),
        "class_names": str(bundled_file("class_names.txt")),
    }
