"""Zip the QGIS plugin: ``make qgis-plugin``."""

from __future__ import annotations

import configparser
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
PLUGIN = HERE / "hsifcn_qgis"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same bytes from the same files


def build(folder: Path) -> Path:
    """Write the plugin as ``hsifcn_qgis-VERSION.zip`` into a folder."""
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(PLUGIN / "metadata.txt", encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"hsifcn_qgis-{metadata['general']['version']}.zip"
    files = {file: file.name for file in sorted(PLUGIN.glob("*")) if file.suffix in {".py", ".txt"}}
    files[HERE.parent.parent / "LICENSE"] = "LICENSE"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, name in files.items():
            entry = zipfile.ZipInfo(f"{PLUGIN.name}/{name}", EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return path


if __name__ == "__main__":
    print(build(Path(sys.argv[1] if len(sys.argv) > 1 else "dist")))
