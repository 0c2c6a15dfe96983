"""The order of the rooms: which may import which, and which may load PyTorch, print or exit."""

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

# A room imports from the rooms before it, never from one after it. Two on a floor are strangers.
FLOORS = (
    {"core"},
    {"io"},
    {"data"},
    {"models"},
    {"evaluation", "propagation", "inference"},
    {"report"},
    {"training"},
    {"comparison"},
    {"cli"},
)
WITHOUT_TORCH = {"core", "io", "data", "evaluation", "report", "cli"}  # when they are imported
PROCESSES = {
    "hsifcn.cli.attended",
    "hsifcn.comparison.worker",
    "hsifcn.inference.campaign.worker",
    "hsifcn.io.parser",
}  # started by themselves, not imported
# What parses files from strangers: named to the parser, and imported nowhere else.
PARSERS = {f"hsifcn.io.{name}_child" for name in ("hdf5", "mat", "tiff", "vector")}


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


def room_of(name):
    """The package right under ``hsifcn`` that a module belongs to."""
    return name.split(".")[1]


def floor_of(room):
    return next(level for level, rooms in enumerate(FLOORS) if room in rooms)


INNER = [name for name in MODULES if name not in {"hsifcn", "hsifcn.__main__"}]


def test_there_are_eleven_rooms_on_nine_floors():
    assert set().union(*FLOORS) == {room_of(name) for name in INNER}
    assert sum(map(len, FLOORS)) <= 11
    assert len(FLOORS) <= 9


def test_imports_point_down():
    upward = {
        (name, other)
        for name in INNER
        for other in own_imports(name)
        if room_of(other) != room_of(name) and floor_of(room_of(other)) >= floor_of(room_of(name))
    }
    assert not upward


def test_imports_make_no_circle():
    graph = {name: own_imports(name) - {name} for name in MODULES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("name", sorted(PROCESSES | PARSERS))
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


@pytest.mark.parametrize("name", [name for name in INNER if room_of(name) in WITHOUT_TORCH])
def test_pytorch_is_not_imported_at_module_level(name):
    statements = ast.Module(list(at_import(MODULES[name])), [])
    assert not {"torch", "safetensors"} & {found.split(".")[0] for found in imports_of(statements)}


def is_main_guard(node):
    return isinstance(node, ast.If) and "__name__" in ast.dump(node.test)


@pytest.mark.parametrize("name", [n for n in INNER if room_of(n) != "cli"])
def test_only_the_command_line_prints_and_exits(name):
    body = [node for node in MODULES[name].body if not is_main_guard(node)]
    called = {
        ast.unparse(node.func)
        for node in ast.walk(ast.Module(body, []))
        if isinstance(node, ast.Call)
    }
    forbidden = {"print", "exit", "quit", "input", "sys.exit", "os._exit", "click.echo"}
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
    code = "import hsifcn.io, hsifcn.data.splits, hsifcn.evaluation.evaluate, hsifcn.core.process"
    _, heavy = loaded_after(code)
    assert not {"torch", "matplotlib", "rasterio", "pyogrio", "shapely"} & set(heavy)


def test_label_rasters_do_without_gdal():
    code = """
from hsifcn.data.indian_pines import bundled_scene
from hsifcn.io import open_labels, open_scene
paths = bundled_scene()
open_labels(paths["labels"], class_names=paths["class_names"], like=open_scene(paths["scene"]))
"""
    _, heavy = loaded_after(code)
    assert not {"torch", "rasterio", "pyogrio", "shapely"} & set(heavy)
