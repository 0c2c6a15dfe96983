"""One small file of every format that is read, and how it is read."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rasterio
import scipy.io
import zarr
from cli_helpers import copy_of_finished
from io_samples import sample_cube, sample_labels, write_envi, write_v73
from rasterio.transform import from_origin
from vector_samples import EAST, MAP_INFO, NORTH, UTM, block, write_shapes

SHAPE = (10, 12)
CUBE = sample_cube((*SHAPE, 6), "i2") + 1
LABELS = sample_labels(SHAPE)
NM = [400.0 + 10 * i for i in range(6)]
PLACE = {"crs": UTM, "transform": from_origin(EAST, NORTH, 20, 20)}


@dataclass(frozen=True)
class Sample:
    """A format.

    Attributes
    ----------
    write : callable
        Writes a good file into a folder; gives what is read.
    read : callable
        Reads it wholly; raises what reading raises. A scene is checked against its own shape.
    changed : str
        Pattern of the files that are changed; what is read by default.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    changed: str = ""


def read_scene(path: Path) -> None:
    """Open a scene and read all of it, if that is not much; as many voxels as it tells."""
    from hsifcn.core.scene import Window
    from hsifcn.io import open_scene

    scene = open_scene(path)
    rows, cols, bands = scene.shape
    rows = max(1, min(rows, 10**5 // (cols * bands)))
    cols = max(1, min(cols, 10**5 // bands))
    found = scene.read(Window(0, 0, rows, cols))
    assert found.shape == (rows, cols, bands), f"{found.shape} of {scene.shape}"
    assert found.dtype == scene.dtype
    assert scene.good_bands.shape == (bands,)
    for values in (scene.wavelengths, scene.fwhm):
        assert values is None or (values.shape == (bands,) and np.isfinite(values).all())


def read_labels(path: Path) -> None:
    """Put labels on the pixels of the scene beside them."""
    from hsifcn.io import open_labels, open_scene

    labels = open_labels(path, like=open_scene(path.with_name("scene.img")))
    assert labels.labels.shape == SHAPE
    assert int(labels.labels.max()) <= labels.n_classes


def read_model(path: Path) -> None:
    from hsifcn.inference.bundle import load_model

    load_model(path)


def read_a_split(path: Path) -> None:
    from hsifcn.data.split import read_split

    read_split(path)


def read_run(path: Path) -> None:
    from hsifcn.training.run_directory import read_metrics

    read_metrics(path.parent)


def read_points(path: Path) -> None:
    from hsifcn.io.point_table import read_point_table

    read_point_table(str(path))


def _envi(folder: Path) -> Path:
    return write_envi(folder / "x.img", CUBE, wavelength=f"{{{', '.join(map(str, NM))}}}")


def _with_scene(folder: Path) -> Path:
    return write_envi(folder / "scene.img", CUBE, map_info=MAP_INFO)


def _envi_labels(folder: Path) -> Path:
    _with_scene(folder)
    names = "{ none, corn, oak, pine }"
    fields = {"file_type": "ENVI Classification", "classes": 4, "class_names": names}
    return write_envi(folder / "x.img", LABELS[..., None], map_info=MAP_INFO, **fields)


def _npy(folder: Path) -> Path:
    np.save(folder / "x.npy", CUBE)
    return folder / "x.npy"


def _npz(folder: Path) -> Path:
    np.savez_compressed(folder / "x.npz", cube=CUBE, wavelengths=NM)
    return folder / "x.npz"


def _mat(folder: Path) -> Path:
    scipy.io.savemat(folder / "x.mat", {"cube": CUBE, "wavelength": NM}, do_compression=True)
    return folder / "x.mat"


def _mat_plain(folder: Path) -> Path:
    scipy.io.savemat(folder / "x.mat", {"s": {"cube": CUBE}, "gt": LABELS})
    return folder / "x.mat"


def _v73(folder: Path) -> Path:
    return write_v73(folder / "x.mat", cube=CUBE, wl=np.array([NM]).T)


def _hdf5(folder: Path) -> Path:
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("cube", data=CUBE, chunks=(5, 6, 6), compression="gzip")
        file["wavelengths"] = NM
        file["cube"].attrs["_FillValue"] = np.int16(-9999)
    return folder / "x.h5"


def _neon(folder: Path) -> Path:
    with h5py.File(folder / "x.h5", "w") as file:
        data = file.create_dataset("SITE/Reflectance/Reflectance_Data", data=CUBE)
        data.attrs["Scale_Factor"] = 10000.0
        file["SITE/Reflectance/Metadata/Spectral_Data/Wavelength"] = NM
        place = "SITE/Reflectance/Metadata/Coordinate_System/"
        file[place + "Map_Info"] = MAP_INFO.strip("{}")
        file[place + "EPSG Code"] = "32632"
    return folder / "x.h5"


def _zarr(folder: Path) -> Path:
    array = zarr.create_array(folder / "x.zarr", data=CUBE, chunks=(5, 6, 6))
    array.attrs.update({"wavelengths": NM})
    return folder / "x.zarr"


def _tiff(folder: Path, path: str = "x.tif", array: Any = CUBE, **profile: Any) -> Path:
    rows, cols, bands = array.shape
    shape = {"height": rows, "width": cols, "count": bands, "dtype": array.dtype.name}
    options = {"compress": "deflate", "interleave": "pixel", **PLACE, **shape, **profile}
    with rasterio.open(folder / path, "w", "GTiff", **options) as file:
        file.write(array.transpose(2, 0, 1))
        if bands > 1:
            file.update_tags(wavelength=f"{{{', '.join(map(str, NM))}}}")
            file.write_mask(LABELS > 0)
        else:
            file.write_colormap(1, {1: (10, 20, 30), 2: (40, 50, 60)})
    return folder / path


def _tiff_labels(folder: Path) -> Path:
    _with_scene(folder)
    path = _tiff(folder, array=LABELS[..., None])
    names = "".join(f"<Category>{name}</Category>" for name in ("none", "corn", "oak", "pine"))
    path.with_name("x.tif.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames>'
        "</PAMRasterBand></PAMDataset>"
    )
    return path


def _enmap(folder: Path) -> Path:
    path = _tiff(folder, "ENMAP01-____L2A-DT1-SPECTRAL_IMAGE.TIF")
    table = "".join(
        f'<bandID number="{i + 1}"><wavelengthCenterOfBand>{nm}</wavelengthCenterOfBand>'
        "<FWHMOfBand>6.5</FWHMOfBand><GainOfBand>0.0001</GainOfBand>"
        "<OffsetOfBand>0</OffsetOfBand></bandID>"
        for i, nm in enumerate(NM)
    )
    (folder / "ENMAP01-____L2A-DT1-METADATA.XML").write_text(
        f"<level_X><specific><backgroundValue>-32768</backgroundValue><bandCharacterisation>{table}"
        "</bandCharacterisation></specific></level_X>"
    )
    return path


def _shapes(folder: Path, suffix: str) -> Path:
    _with_scene(folder)
    shapes = [block(0, 0, 4, 5), block(5, 1, 3, 3), block(2, 7, 6, 5)]
    return write_shapes(folder / f"x{suffix}", shapes, crop=["corn", "oak", "corn"])


def _csv(folder: Path) -> Path:
    _with_scene(folder)
    (folder / "x.csv").write_text("row,col,class\n" + "".join(f"{i},{i},{i}\n" for i in range(9)))
    return folder / "x.csv"


def _names(folder: Path) -> Path:
    _envi_labels(folder)
    (folder / "names.txt").write_text("1 = corn\n2 = oak\n3 = pine\n")
    return folder / "names.txt"


def read_named(path: Path) -> None:
    from hsifcn.io import open_labels

    open_labels(path.with_name("x.img"), class_names=path)


def _of_run(folder: Path, name: str) -> Path:
    run = copy_of_finished(folder / "run")
    for path in list(run.iterdir()):
        if path.name != name and path.is_file():
            path.unlink()
    shutil.move(run / name, folder / name)
    shutil.rmtree(folder / "run")
    return folder / name


def _checkpoint(folder: Path) -> Path:
    checkpoint, state = _new_checkpoint(folder)
    checkpoint.save(state)
    return folder / "state.safetensors"


def _new_checkpoint(folder: Path) -> tuple[Any, Any]:
    """A checkpoint in a folder, and the state of a training that begins."""
    from hsifcn.models import default_spec
    from hsifcn.training.loop import Checkpoint, initial_state
    from hsifcn.training.settings import default_options

    spec = default_spec("hsifcn", 6, 3)
    return Checkpoint(folder, {}), initial_state(spec, default_options("hsifcn"), {})


def read_checkpoint(path: Path) -> None:
    checkpoint, state = _new_checkpoint(path.parent)
    assert checkpoint.load(state)


SAMPLES = {
    "envi-header": Sample(_envi, read_scene, "x.hdr"),
    "envi-raster": Sample(_envi, read_scene),
    "envi-labels": Sample(_envi_labels, read_labels, "x.hdr"),
    "mat-v5": Sample(_mat_plain, read_scene),
    "mat-v5-packed": Sample(_mat, read_scene),
    "mat-v7.3": Sample(_v73, read_scene),
    "npy": Sample(_npy, read_scene),
    "npz": Sample(_npz, read_scene),
    "zarr": Sample(_zarr, read_scene, "x.zarr/**/*"),
    "hdf5": Sample(_hdf5, read_scene),
    "neon": Sample(_neon, read_scene),
    "geotiff": Sample(_tiff, read_scene, "x.tif*"),
    "geotiff-labels": Sample(_tiff_labels, read_labels, "x.tif*"),
    "enmap-xml": Sample(_enmap, read_scene, "*.XML"),
    "geopackage": Sample(lambda f: _shapes(f, ".gpkg"), read_labels),
    "shapefile": Sample(lambda f: _shapes(f, ".shp"), read_labels, "x.*"),
    "geojson": Sample(lambda f: _shapes(f, ".geojson"), read_labels),
    "points-csv": Sample(_csv, read_labels),
    "point-table": Sample(lambda f: _shapes(f, ".gpkg"), read_points),
    "class-names": Sample(_names, read_named),
    "model": Sample(lambda f: _of_run(f, "model.safetensors"), read_model),
    "checkpoint": Sample(_checkpoint, read_checkpoint),
    "split": Sample(lambda f: _of_run(f, "split.npz"), read_a_split),
    "metrics": Sample(lambda f: _of_run(f, "metrics.json"), read_run),
}


def as_bomb(folder: Path, kind: str) -> Path:
    """A small file that claims much; its name begins with ``l`` where it holds labels."""
    if kind == "chunks":
        with h5py.File(folder / "s.h5", "w") as file:
            file.create_dataset("cube", (10**5, 10**5, 200), "f8", chunks=(100, 100, 200))
        return folder / "s.h5"
    if kind == "view":
        path = _shapes(folder, ".gpkg").rename(folder / "l.gpkg")
        with sqlite3.connect(path) as database:
            database.execute("DROP TABLE x")
            database.execute(
                "CREATE VIEW x AS WITH RECURSIVE t(fid, crop, geom) AS (SELECT 1, 'a', NULL UNION "
                "ALL SELECT fid + 1, 'a', zeroblob(1000) FROM t) SELECT * FROM t"
            )
        return path
    _with_scene(folder)
    sparse = {"sparse_ok": True, "tiled": True, "blockxsize": 16, "blockysize": 16}
    profile, name = {
        "labels": ({"width": 40_000, "height": 40_000, "count": 1, **sparse}, "l.tif"),
        "bands": ({"width": 2, "height": 2, "count": 65_000}, "s.tif"),
        "columns": ({"width": 12_000_000, "height": 1, "count": 2, **sparse}, "s.tif"),
    }[kind]
    with rasterio.open(folder / name, "w", "GTiff", dtype="uint8", **profile):
        pass
    return folder / name
