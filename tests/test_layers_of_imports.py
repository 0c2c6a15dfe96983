"""The order of the modules: who may import whom, and who may load PyTorch, print or exit."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import hsifcn

PACKAGE = Path(hsifcn.__file__).parent

# Imports point from a line to the lines above it, or sideways, never in a circle.
LAYERS = (
    {"errors"},
    {"scene"},
    {"augment", "bands", "bundled", "calibration", "carrying", "contenders", "crf", "graph_cuts"}
    | {"intervals", "label_layout"}
    | {"io", "losses", "mapped_tile", "measure", "metrics", "models", "optimiser", "propagation"}
    | {"quicklook", "scaling", "settings"}
    | {"spectra", "spectral_classifier", "split_recipes", "splits", "stream", "tiles"},
    {"blocks", "bundle", "checkpoint", "objectives", "refinement", "training_crops"}
    | {"training_scenes"},
    {"band_matching", "tile_plan", "training_plan"},
    {"map_files"},
    {"classical", "evaluation", "inputs", "patch_prediction", "prediction", "refinement_choice"}
    | {"temperature", "training", "training_job", "training_steps", "transfer"},
    {"ensemble", "run_memory"},
    {"prediction_files", "report", "run"},
    {"footprint", "plan", "verdict"},
    {"comparison", "contender", "jobs"},
    {"growth"},
    {"experiment"},
    {"cli"},
)
ONLY = {  # units that look at few others
    "io": {"errors", "scene"},
    "models": {"errors", "scaling", "scene"},
    "report": {"errors", "quicklook", "scene"},
    "tiles": {"errors", "scene"},
    "metrics": {"errors", "scene"},
    "crf": set(),
    "graph_cuts": {"errors"},
    "splits": {"errors", "split_recipes"},
}
WITH_TORCH = (
    {"augment", "carrying", "crf", "losses", "mapped_tile", "models", "optimiser", "propagation"}
    | {"label_layout", "spectral_classifier"}
    | LAYERS[3]
    | {"band_matching", "map_files", "tile_plan", "training_plan"}
    | {"patch_prediction", "prediction", "refinement_choice", "run", "run_memory", "temperature"}
    | {"training", "training_job", "training_steps", "transfer"}
)
PROCESSES = {
    "hsifcn.contender",
    "hsifcn.io.hdf5_child",
    "hsifcn.io.mat_child",
}  # started by themselves, not imported


def read_modules():
    """Every module by its dotted name, parsed."""
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = ast.parse(path.read_text("utf-8"))
    return modules


MODULES = read_modules()


def imports_of(tree):
    """Modules imported anywhere in a tree; of our own, the very module that holds the name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def own_imports(name):
    return {found for found in imports_of(MODULES[name]) if found.split(".")[0] == "hsifcn"}


def unit_of(name):
    """The module or package right under ``hsifcn`` that a module belongs to."""
    return name.split(".")[1]


def layer_of(name):
    unit = unit_of(name)
    found = [level for level, units in enumerate(LAYERS) if unit in units]
    assert len(found) == 1, f"{name}: give {unit} its place in LAYERS"
    return found[0]


INNER = [name for name in MODULES if name not in {"hsifcn", "hsifcn.__main__"}]


def test_every_place_is_taken():
    assert set().union(*LAYERS) == {unit_of(name) for name in INNER}


@pytest.mark.parametrize("name", INNER)
def test_imports_point_down(name):
    upward = [other for other in own_imports(name) if layer_of(other) > layer_of(name)]
    assert not upward


def test_imports_make_no_circle():
    graph = {name: own_imports(name) - {name} for name in MODULES}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")
    assert order.index("hsifcn.errors") < order.index("hsifcn.io") < order.index("hsifcn.run")


@pytest.mark.parametrize("unit", sorted(ONLY))
def test_some_look_at_few_others(unit):
    names = [name for name in INNER if unit_of(name) == unit]
    assert names
    others = {unit_of(other) for name in names for other in own_imports(name)}
    assert others <= ONLY[unit] | {unit}


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_processes_are_imported_by_nobody(name):
    assert name in MODULES
    assert not [other for other in MODULES if name in own_imports(other)]


def at_import(node):
    """The import statements that run with a module: all but those in the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from at_import(child)


@pytest.mark.parametrize("name", [name for name in INNER if unit_of(name) not in WITH_TORCH])
def test_pytorch_is_not_imported_at_module_level(name):
    statements = ast.Module(list(at_import(MODULES[name])), [])
    assert not {"torch", "safetensors"} & {found.split(".")[0] for found in imports_of(statements)}


def is_main_guard(node):
    return isinstance(node, ast.If) and "__name__" in ast.dump(node.test)


@pytest.mark.parametrize("name", [n for n in INNER if unit_of(n) != "cli"])
def test_only_the_command_line_prints_and_exits(name):
    body = [node for node in MODULES[name].body if not is_main_guard(node)]
    called = {
        ast.unparse(node.func)
        for node in ast.walk(ast.Module(body, []))
        if isinstance(node, ast.Call)
    }
    forbidden = {"print", "exit", "quit", "input", "sys.exit", "os._exit", "click.echo"}
    if name != "hsifcn.io.mat_child":  # answers its parent on stdout
        forbidden |= {"sys.stdout.write", "sys.stderr.write"}
    assert not called & forbidden
    assert "click" not in {found.split(".")[0] for found in imports_of(MODULES[name])}


@pytest.mark.parametrize("name", MODULES)
def test_every_file_says_what_it_is(name):
    assert ast.get_docstring(MODULES[name])


@pytest.mark.parametrize("name", MODULES)
def test_errors_are_caught_by_name(name):
    caught = [
        node.type and ast.unparse(node.type)
        for node in ast.walk(MODULES[name])
        if isinstance(node, ast.ExceptHandler)
    ]
    assert not {None, "Exception", "BaseException"} & set(caught)


HEAVY = (
    *("torch", "scipy", "h5py", "matplotlib", "sklearn", "spectral", "jinja2", "safetensors"),
    *("rasterio", "pyogrio", "shapely"),
)


def loaded_after(code):
    """Which heavy packages a fresh interpreter has loaded after running some code."""
    report = f"import sys, json; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    code = f"""
from hsifcn.cli import main
try:
    main({arguments})
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    shown, heavy = loaded_after(code)
    assert "Usage: hsifcn" in shown
    assert not heavy


def test_the_package_itself_loads_nothing_heavy():
    _, heavy = loaded_after("import hsifcn")
    assert not heavy


def test_reading_and_splitting_do_without_pytorch():
    code = "import hsifcn.io, hsifcn.splits, hsifcn.evaluation, hsifcn.tiles, hsifcn.measure"
    _, heavy = loaded_after(code)
    assert not {"torch", "matplotlib", "rasterio", "pyogrio", "shapely"} & set(heavy)


def test_label_rasters_do_without_gdal():
    code = """
from hsifcn.bundled import bundled_scene
from hsifcn.io import open_labels, open_scene
paths = bundled_scene()
open_labels(paths["labels"], class_names=paths["class_names"], like=open_scene(paths["scene"]))
"""
    _, heavy = loaded_after(code)
    assert not {"torch", "rasterio", "pyogrio", "shapely"} & set(heavy)
