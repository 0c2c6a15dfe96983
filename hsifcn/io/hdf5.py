"""HDF5 and NetCDF-4: scenes and label maps by the path of a dataset.

HDF5 is a C library that a damaged file can crash, and files of satellite scenes are compressed in
chunks that a window would unpack again and again. So a child process parses the file, and the cube
wanted goes into the cache as raw voxels, once, as with MATLAB v7.3.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import AmbiguousInputError, LabelError, SettingError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io import cache
from hsifcn.io.affine import unpacked
from hsifcn.io.axes import refuse_small_cube
from hsifcn.io.cache import UnpackedArray
from hsifcn.io.child import run_child
from hsifcn.io.classes import unlabel
from hsifcn.io.coordinates import plain_cube, read_grid
from hsifcn.io.formats import (
    FileScene,
    Format,
    GivenLabels,
    UnreadLabels,
    not_a_cube,
    refuse_lying_size,
)
from hsifcn.io.hdf5_products import find_product, with_lookup_table
from hsifcn.io.listing import Cube, Listing, Part
from hsifcn.io.nodata import declare_nodata
from hsifcn.io.writer import RasterSpec, RasterWriter

_CHILD = "hdf5"
_GLT = "@glt"  # behind a dataset's path: placed on the map by its geometric lookup table
_LABELS = ("gt", "label", "labels", "ground_truth", "ground_truth_labels")


def open_scene(path: str, variable: str | None) -> FileScene:
    """Open the dataset that was named, else the scene of a known product, else the only cube."""
    listing = _listing(path)
    named, placed = (variable or "").removesuffix(_GLT), (variable or "").endswith(_GLT)
    product = find_product(listing)
    name = f"/{named.strip('/')}" if named else None
    joined = product is not None and len(product.parts) > 1
    if product is not None and (name is None or (not joined and name == product.parts[0].dataset)):
        cube, name = product, product.parts[0].dataset
    else:
        name = _named(listing, name) if name else _only(listing)
        cube, joined = plain_cube(listing, name), False
    if cube.glt is None:
        cube = with_lookup_table(listing, cube)
    if placed and cube.glt is None:
        raise SettingError(f"{path}:{name} has no lookup table to place it", f"leave out '{_GLT}'")
    voxels = _array(listing, cube, name + _GLT * placed, placed)
    voxels.check_room()
    bands = voxels.shape[2]
    good = np.ones(bands, np.bool_) if cube.good_bands is None else cube.good_bands
    scene = FileScene(
        path=path if joined else f"{path}:{voxels.name}",
        shape=voxels.shape,
        dtype=voxels.dtype,
        interleave="bip",
        voxels=voxels,
        good_bands=good,
        wavelengths=cube.wavelengths,
        nodata=cube.nodata,
        grid=cube.glt_grid if placed else cube.grid,
        fwhm=cube.fwhm,
        scale_factor=cube.scale_factor,
        axes_told=cube.axes_told,
    )
    low, high = cube.limits
    scene = declare_nodata(scene, None, fills=cube.fills, low=low, high=high)
    return scene if cube.packing is None else unpacked(scene, *cube.packing, cube.units)


def read_labels(path: str, variable: str | None) -> GivenLabels:
    """Read the dataset that was named, or else the only map of whole numbers."""
    listing = _listing(path)
    # Floats may be labels with NaN for unlabelled; they are looked at where there is nothing else.
    maps = [name for name in listing.datasets if _is_map(listing, name)]
    maps = maps or [name for name in listing.datasets if _is_map(listing, name, "f")]
    if variable is not None and _is_map(listing, f"/{variable.strip('/')}", "f"):
        maps = [f"/{variable.strip('/')}"]
    if variable is not None:
        name = f"/{variable.strip('/')}"
        if name not in maps:
            held = ", ".join(maps[:12]) or "no map of numbers"
            raise LabelError(f"{path} has no label map '{name}'", f"it holds {held}")
    elif len(maps) != 1:
        if not maps:
            raise LabelError(f"{path} holds no label map, an array of (rows, cols)")
        names = ", ".join(f"{path}:{name}" for name in maps)
        raise AmbiguousInputError(f"{path} holds several maps: {names}", "name one of these")
    else:
        name = maps[0]
    array = _array(listing, Cube((Part(name, (0, 1, 2)),)), name, False)

    def read(window: Window) -> npt.NDArray[Any]:
        labels = array.read(window)
        for fill in listing.fills(name):
            unlabel(labels, fill)
        return labels

    grid = read_grid(listing, name, 0, 1)
    return GivenLabels(UnreadLabels(array.shape[:2], read), grid=grid)


def inner_labels(path: str, size: tuple[int, int]) -> list[str]:
    """Find maps of a cube's size that are called labels; products hold many other maps."""
    listing = _listing(path)
    return [
        f"{path}:{name}"
        for name in listing.datasets
        if _is_map(listing, name)
        and tuple(listing.datasets[name]["shape"]) == size
        and name.rpartition("/")[2].casefold() in _LABELS
    ]


def create(spec: RasterSpec) -> RasterWriter:
    """Refuse: HDF5 is read only."""
    raise SettingError(f"{spec.path} cannot be written as HDF5", "write .img instead")


FORMAT = Format(
    name="HDF5",
    suffixes=(".h5", ".hdf5", ".he5", ".nc", ".nc4"),
    label_suffixes=(".h5", ".hdf5", ".nc"),
    write_suffixes=(),
    open_scene=open_scene,
    read_labels=read_labels,
    create=create,
    inner_labels=inner_labels,
)


def _listing(path: str) -> Listing:
    """What the file holds, from the cache where it was listed before."""
    with open(path, "rb") as start:
        if start.read(3) == b"CDF":
            raise UnreadableFileError(
                f"{path} is a NetCDF file of the classic kind", "convert it: nccopy -k nc4"
            )
    file = cache.state_of(path)
    entry = cache.entry(file, "hdf5 with scales", ".json")
    try:
        return Listing(path, json.loads(entry.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        answer = run_child(_CHILD, "list", file)
    with cache.writing(entry) as temporary:
        temporary.write_text(json.dumps(answer), "utf-8")
    return Listing(path, answer)


def _array(listing: Listing, cube: Cube, name: str, placed: bool) -> UnpackedArray:
    """The voxels of a cube, unpacked when they are first read."""
    shapes, kinds = [], set()
    for part in cube.parts:
        described = listing.datasets[part.dataset]
        shape = [*described["shape"], 1][:3] if len(described["shape"]) == 2 else described["shape"]
        rows, cols, bands = (shape[axis] for axis in part.axes)
        shapes.append((rows, cols, bands if part.bands is None else len(part.bands)))
        dtype = listing.dtype(part.dataset)
        kinds.add(dtype.name)
        nbytes = rows * cols * bands * dtype.itemsize
        refuse_lying_size(f"{listing.path}", nbytes)
    if len({shape[:2] for shape in shapes}) > 1 or len(kinds) > 1:
        raise UnreadableFileError(f"{listing.path} has cubes that do not fit together")
    rows, cols = shapes[0][:2]
    if placed and cube.glt is not None:
        rows, cols = listing.datasets[cube.glt[0]]["shape"]
        refuse_lying_size(listing.path, rows * cols)
    size = (rows, cols, sum(shape[2] for shape in shapes))
    dtype = np.dtype(kinds.pop())
    plan = {
        "parts": [asdict(part) for part in cube.parts],
        "shape": size,
        "dtype": dtype.name,
        "glt": cube.glt if placed else None,
        "fill": cube.nodata or 0,
    }
    content = json.dumps(plan, sort_keys=True)
    return UnpackedArray(cache.state_of(listing.path), name, content, size, dtype, _unpack)


def _unpack(array: UnpackedArray, target: Path) -> None:
    run_child(_CHILD, "extract", array.file, array.content, str(target))


def _is_numeric(described: dict[str, Any], kinds: str) -> bool:
    try:
        dtype = np.dtype(described["dtype"])
    except TypeError:
        return False
    return dtype.kind in kinds and dtype.itemsize <= 8 and min(described["shape"], default=0) > 0


def _is_map(listing: Listing, name: str, kinds: str = "iu") -> bool:
    described = listing.datasets.get(name)
    return described is not None and len(described["shape"]) == 2 and _is_numeric(described, kinds)


def _named(listing: Listing, name: str) -> str:
    described = listing.datasets.get(name)
    if described is None:
        held = ", ".join(list(listing.datasets)[:12]) or "nothing"
        raise UnreadableFileError(f"{listing.path} has no dataset '{name}'", f"it holds {held}")
    if len(described["shape"]) != 3:
        raise not_a_cube(f"{listing.path}:{name}", tuple(described["shape"]))
    if not _is_numeric(described, "iuf"):
        raise UnreadableFileError(f"{listing.path}:{name} is {described['dtype']}, or empty")
    return name


def _only(listing: Listing) -> str:
    cubes = [
        name
        for name, described in listing.datasets.items()
        if len(described["shape"]) == 3 and _is_numeric(described, "iuf")
    ]
    if not cubes:
        described = [
            f"{name} {tuple(about['shape'])} {about['dtype']}"
            for name, about in listing.datasets.items()
        ]
        held = ", ".join(described[:12]) or "nothing"
        raise UnreadableFileError(f"{listing.path} holds no cube of numbers", f"it holds {held}")
    if len(cubes) > 1:
        names = ", ".join(f"{listing.path}:{name}" for name in cubes[:12])
        raise AmbiguousInputError(f"{listing.path} holds several cubes: {names}", "name one")
    numeric = {
        name: tuple(described["shape"])
        for name, described in listing.datasets.items()
        if _is_numeric(described, "iuf")
    }
    refuse_small_cube(listing.path, cubes[0], numeric)
    return cubes[0]
