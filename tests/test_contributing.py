"""The recipes of CONTRIBUTING are followed word by word, in a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from cli_helpers import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
RECIPES = dict(re.findall(r"^## (Add a \w+)\n(.*?)(?=^## )", TEXT, re.MULTILINE | re.DOTALL))


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def write_files(recipe, tree):
    """Write each Python block to the file that its first line names; gives those of tests."""
    tests = []
    for block in blocks(recipe, "python"):
        name, _, code = block.partition("\n")
        path = tree / name.removeprefix("# ")
        path.write_text(code, "utf-8")
        tests += [path] if path.name.startswith("test_") else []
    return tests


def apply_changes(recipe, tree):
    """Put the added lines of each diff behind the line before them, which the file has once."""
    for block in blocks(recipe, "diff"):
        name, *lines = block.splitlines()
        path = tree / name.removeprefix("--- ")
        text = path.read_text("utf-8").splitlines()
        place = 0
        for line in lines:
            if line.startswith("+"):
                place += 1
                text.insert(place, line[1:])
            else:
                (place,) = [i for i, known in enumerate(text) if known == line[1:]]
        path.write_text("\n".join(text) + "\n", "utf-8")


@pytest.fixture
def tree(tmp_path):
    """A copy of the package, of the tests' helpers and of the tests of networks."""
    shutil.copytree(ROOT / "hsifcn", tmp_path / "hsifcn")
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(tree, *arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_are_three_recipes():
    assert list(RECIPES) == ["Add a format", "Add a model", "Add a command"]


@pytest.mark.slow
def test_the_recipes_of_a_format_and_of_a_command_work(tree):
    tests = []
    for title in ("Add a format", "Add a command"):
        tests += write_files(RECIPES[title], tree)
        apply_changes(RECIPES[title], tree)
    done = run(tree, "pytest", "-vv", "-p", "no:cacheprovider", *map(str, tests))
    assert done.returncode == 0, done.stdout
    for test in tests:
        assert re.search(rf"{test.name}::\w+ PASSED", done.stdout), done.stdout


@pytest.mark.slow
def test_the_recipe_of_a_model_works(tree):
    write_files(RECIPES["Add a model"], tree)
    apply_changes(RECIPES["Add a model"], tree)
    tests = set((tree / "tests").glob("test_*.py")) - {tree / "tests" / "test_contributing.py"}
    networks = sorted(path for path in tests if "MODELS" in path.read_text("utf-8"))
    done = run(tree, "pytest", "-q", "-k", "plain", *map(str, networks))
    assert done.returncode == 0, done.stdout
    shown = run(tree, "hsifcn", "train", "none.npy", "-m", "plain")
    assert "none.npy does not exist" in shown.stderr
