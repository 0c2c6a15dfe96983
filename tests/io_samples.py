"""Small files of known content.

A voxel tells its place: row * 10000 + column * 100 + band, modulo a prime where the type is small.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

ENVI_TYPES = {"u1": 1, "i2": 2, "i4": 3, "f4": 4, "f8": 5, "u2": 12, "u4": 13, "i8": 14, "u8": 15}
STORED_AXES = {"bip": (0, 1, 2), "bil": (0, 2, 1), "bsq": (2, 0, 1)}


def sample_cube(shape=(4, 5, 3), dtype="i4"):
    rows, cols, bands = np.indices(shape)
    values = rows * 10000 + cols * 100 + bands
    dtype = np.dtype(dtype)
    if dtype.itemsize == 1:
        values %= 113
    elif dtype.itemsize == 2:
        values %= 2039 if dtype.kind == "f" else 32749
    return values.astype(dtype)


def sample_labels(shape=(4, 5), dtype="u1"):
    rows, cols = np.indices(shape)
    return ((rows * 3 + cols) % 4).astype(dtype)


def envi_fields(cube, interleave="bsq", big=False):
    rows, cols, bands = cube.shape
    code = ENVI_TYPES[cube.dtype.newbyteorder("=").str[1:]]
    return {
        "samples": cols,
        "lines": rows,
        "bands": bands,
        "header offset": 0,
        "file type": "ENVI Standard",
        "data type": code,
        "interleave": interleave,
        "byte order": int(big),
    }


def envi_text(fields):
    return "ENVI\n" + "".join(f"{k} = {v}\n" for k, v in fields.items() if v is not None)


def write_envi(path, cube, order="bsq", big=False, offset=0, header=None, **extra):
    """Write a cube with extra header fields (None takes one away); give the raster's path."""
    path = Path(path)
    fields = envi_fields(cube, order, big) | {"header offset": offset}
    fields |= {key.replace("_", " "): value for key, value in extra.items()}
    stored = cube.transpose(STORED_AXES[order]).astype(cube.dtype.newbyteorder("<>"[big]))
    path.write_bytes(b"\xaa" * offset + np.ascontiguousarray(stored).tobytes())
    (header or path.with_suffix(".hdr")).write_bytes(envi_text(fields).encode())
    return path


def write_v73(path, **variables):
    """Write arrays as MATLAB does: axes reversed, the class as an attribute, dicts as structs."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            if isinstance(value, dict):
                group = file.create_group(name)
                group.attrs["MATLAB_class"] = np.bytes_("struct")
                for field, array in value.items():
                    _matlab_dataset(group, field, array)
            else:
                _matlab_dataset(file, name, value)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


def _matlab_dataset(group, name, array):
    chunks = (2, *array.T.shape[1:]) if array.ndim == 3 else None
    options = {"chunks": chunks, "compression": "lzf"} if chunks else {}
    dataset = group.create_dataset(name, data=array.T, **options)
    classes = {"float64": "double", "float32": "single", "bool": "logical"}
    dataset.attrs["MATLAB_class"] = np.bytes_(classes.get(array.dtype.name, array.dtype.name))
