"""``hsifcn info FOLDER``: what each file in a folder is, or why it cannot be read."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsifcn.cli.facts import (
    FACTS,
    class_facts,
    facts_of,
    grid_record,
    labels_of,
    oddities,
    texts_of,
)
from hsifcn.cli.options import Output

if TYPE_CHECKING:
    from hsifcn.io.formats import FileScene

KINDS = {
    **{"scene": "scenes", "label raster": "label rasters", "shapes": "files of shapes"},
    **{"table": "tables of points", "sample": "samples", "model": "models", "split": "splits"},
    **{"run": "runs", "comparison": "comparisons", "other": "others"},
    "unreadable": "that cannot be read",
}  # and how several are called
_LISTED = 5  # names that a line gives
Facts = dict[str, Any]


def show_folder(folder: Path, options: Sequence[str], output: Output) -> None:
    """Tell what each file in a folder is; UnreadableFileError where none can be read."""
    from hsifcn.core.errors import SettingError, UnreadableFileError
    from hsifcn.io.folder import list_folder

    if options:
        raise SettingError(f"{folder} is a folder, and {options[0]} is for one scene", "name one")
    if is_run(folder):
        raise UnreadableFileError(f"{folder} is a run, not a scene", f"see {folder}/report.html")
    content = list_folder(folder)
    paths = [*content.data, *(inner for inner in content.folders if is_run(inner))]
    entries = []
    for path in sorted(paths):
        output.detail(f"reading {path}")
        entries.append(describe(path))
    others = [inner.name for inner in content.folders if not is_run(inner)]
    if others:
        output.message(f"folders in {folder} are not looked into: {', '.join(others)}")
    if not entries:
        raise UnreadableFileError(f"{folder} holds no file", "name a folder with scenes")
    output.result(summary(folder, entries), entries)
    if all(entry["error"] for entry in entries):
        raise UnreadableFileError(f"no file in {folder} can be read", "the list says why")


def describe(path: Path) -> Facts:
    """What a file or folder is, with the keys of ``info`` for one scene.

    Further keys are ``file``, ``description``, one line, and ``error``: why it cannot be read,
    else None.
    Whatever is wrong with a file is told there and raises nothing.
    """
    from hsifcn.core.errors import HsifcnError

    found: Facts = {"kind": "unreadable", "description": None, "error": None}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            found |= _reader_of(path)(str(path))
        except HsifcnError as error:
            found["error"] = str(error)
        except (OSError, MemoryError, RuntimeError) as error:
            found["error"] = f"{path}: {type(error).__name__}: {error}"
    notes, warned = texts_of(told)
    if found["kind"] == "scene":
        warned += oddities(found)
    told_of = {"notes": notes, "warnings": warned}
    return {"file": str(path), **dict.fromkeys(FACTS), "path": str(path)} | found | told_of


def summary(folder: Path, entries: Sequence[Facts]) -> str:
    """The same for people: a name, then indented what it is, and warnings."""
    lines = []
    for entry in entries:
        lines.append(Path(entry["file"]).name)
        error = str(entry["error"]).replace(f"{folder}/", "")
        lines.append(f"  {entry['description'] or f'cannot be read: {error}'}")
        lines += [f"  warning: {text}".replace(f"{folder}/", "") for text in entry["warnings"]]
    counted = Counter(entry["kind"] for entry in entries)
    total = [
        f"{counted[kind]} {kind if counted[kind] == 1 and kind != 'unreadable' else several}"
        for kind, several in KINDS.items()
        if counted[kind]
    ]
    return "\n".join([*lines, "", f"{folder}: {', '.join(total)}"])


def is_run(folder: Path) -> bool:
    """Whether a folder is a run, finished or not, or a comparison."""
    return (folder / "comparison.json").is_file() or (
        (folder / "config.json").is_file() or (folder / "checkpoint").is_dir()
    )


def _reader_of(path: Path) -> Any:
    from hsifcn.data.split import is_split
    from hsifcn.io import points, vectors
    from hsifcn.io.table import is_raster

    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _model
    if suffix == ".npz" and is_split(path):
        return _split
    if suffix in points.SUFFIXES:
        return _table
    if suffix in vectors.SUFFIXES:
        return _shapes
    if path.is_dir() and is_run(path):
        return _run
    return _raster if is_raster(str(path)) else _other


def _raster(path: str) -> Facts:
    """A scene; else what may be its labels."""
    from hsifcn.core.errors import HsifcnError, NoCubeError, UnreadableFileError
    from hsifcn.io import open_scene

    refusal = UnreadableFileError("")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            scene = open_scene(path)
        except UnreadableFileError as error:
            scene, refusal = None, error
    if scene is None or scene.shape[2] == 1:
        try:
            return _label_raster(path)
        except HsifcnError as error:
            if scene is None:
                raise (error if isinstance(refusal, NoCubeError) else refusal) from error
    for item in told:
        warnings.warn(item.message, stacklevel=2)
    return _scene(scene, path)


def _scene(scene: FileScene, path: str) -> Facts:
    from hsifcn.data.dataset import Labelling

    labels, labels_path = labels_of(scene, path, (), Labelling(None, None, False))
    facts = facts_of(scene, labels, labels_path)
    rows, cols, bands = scene.shape
    parts = [f"{rows} rows x {cols} columns x {bands} band{'s' * (bands > 1)}, {scene.dtype}"]
    nm = facts["wavelengths"]
    parts += [f"{min(nm):.0f} to {max(nm):.0f} nm"] if nm else []
    parts += _place(facts["grid"])
    parts += [f"labels in {Path(labels_path).name}"] if labels_path else []
    return facts | {"description": f"scene: {'; '.join(parts)}"}


def _label_raster(path: str) -> Facts:
    import numpy as np

    from hsifcn.io.labels import label_map
    from hsifcn.io.table import format_of, naming_file

    with naming_file(path):
        given = format_of(path).read_labels(path, None)
        array = given.array if isinstance(given.array, np.ndarray) else given.array.read_all()
        labels = label_map(path, dataclasses.replace(given, array=array))
    grid = None if labels.grid is None else grid_record(labels.grid)
    counts = class_facts(labels)
    rows, cols = labels.labels.shape
    parts = [
        f"{rows} rows x {cols} columns, {array.dtype}",
        f"{len(counts['classes'])} classes in {sum(counts['classes'].values()):,} pixels",
        *_place(grid),
    ]
    return {
        "kind": "label raster",
        "description": f"label raster: {'; '.join(parts)}",
        "shape": [rows, cols, 1],
        "dtype": array.dtype.name,
        "grid": grid,
        **counts,
    }


def _shapes(path: str) -> Facts:
    from hsifcn.io.layers import list_layers

    layers = list_layers(path)
    texts = []
    for layer in layers:
        name = f"layer {layer.name}: " if len(layers) > 1 else ""
        what = {"Polygon": "polygons", "MultiPolygon": "polygons", "Point": "points"}
        kind = what.get(layer.geometry.replace(" Z", "").replace("2.5D ", ""), "features")
        fields = f"fields {_listed(layer.fields)}" if layer.fields else "no fields"
        place = _name_of_crs(layer.crs) or "no CRS"
        texts.append(f"{name}{layer.features:,} {kind}, {fields}, {place}")
    return {"kind": "shapes", "description": f"shapes: {'; '.join(texts)}"}


def _table(path: str) -> Facts:
    from hsifcn.core.errors import UnreadableFileError
    from hsifcn.evaluation.sampling import COLUMNS
    from hsifcn.io import points
    from hsifcn.io.point_table import read_point_table

    table = read_point_table(path)
    columns = table.columns
    if not any(set(pair) <= set(columns) for pair in points.PLACES):
        raise UnreadableFileError(
            f"{path} has the columns {_listed(list(columns))}",
            "labels need row and col, x and y, or lon and lat",
        )
    kind, text = "table", f"{len(table.lines):,} rows; columns {_listed(list(columns))}"
    if set(COLUMNS) <= set(columns):
        done = sum(bool(cell) for cell in columns["reference"])
        kind, text = "sample", f"{len(table.lines):,} points, {done:,} of them interpreted"
    return {"kind": kind, "description": f"{kind}: {text}"}


def _model(path: str) -> Facts:
    from hsifcn.inference.bundle import load_model

    model = load_model(path)
    recipes = sorted({str(split.get("recipe")) for split in model.split})
    nm = model.wavelengths
    return {
        "kind": "model",
        "description": f"model: {model.spec.name}, {model.spec.bands} bands to "
        f"{model.spec.classes} classes ({_listed(model.class_names)}), split {_listed(recipes)}",
        "wavelengths": None if nm is None else nm.tolist(),
        "class_codes": dict(zip(model.class_names, model.class_codes, strict=True)),
    }


def _split(path: str) -> Facts:
    import numpy as np

    from hsifcn.data.split import read_split

    split = read_split(Path(path))
    rows, cols = split.labels.shape
    n_train, n_validation = np.count_nonzero(split.train), np.count_nonzero(split.validation)
    return {
        "kind": "split",
        "description": f"split: {split.recipe}, seed {split.seed}; {rows} rows x {cols} columns; "
        f"{n_train:,} training, {n_validation:,} validation and {split.n_test:,} test pixels",
        "shape": [rows, cols, 1],
    }


def _run(path: str) -> Facts:
    """A run or comparison by its records, of which little is taken for granted."""
    folder = Path(path)
    if (folder / "comparison.json").is_file():
        scene = _record(folder / "comparison.json").get("scene")
        return {"kind": "comparison", "description": f"comparison on {scene or 'a scene'}"}
    metrics = _record(folder / "metrics.json")
    split = metrics.get("split")
    recipe = split.get("recipe") if isinstance(split, dict) else None
    text = f"finished run of {metrics.get('model')} on {metrics.get('scene')}, split {recipe}"
    return {"kind": "run", "description": text if metrics else "unfinished run"}


def _other(path: str) -> Facts:
    """A text file of numbers, which may be wavelengths; all else is refused."""
    from hsifcn.core.errors import UnreadableFileError
    from hsifcn.io.files import read_text
    from hsifcn.io.table import refuse_other

    words = read_text(path).split() if path.lower().endswith(".txt") else []
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if not numbers:
        refuse_other(path)
        raise UnreadableFileError(f"{path} is no file of scenes, labels or models")
    text = f"list of {len(numbers):,} numbers, which --wavelengths may take"
    return {"kind": "other", "description": text}


def _record(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _place(grid: Facts | None) -> list[str]:
    if grid is None:
        return []
    width, height = grid["pixel_size"]
    return [f"{grid['crs_name'] or 'no CRS'}, pixel {width:g} x {height:g}"]


def _name_of_crs(text: str | None) -> str | None:
    from hsifcn.core.scene import Grid
    from hsifcn.io.crs import known_wkt

    wkt = known_wkt(text) if text else None
    return grid_record(Grid(wkt, (1, 0, 0, 0, 1, 0)))["crs_name"] if wkt else text


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
