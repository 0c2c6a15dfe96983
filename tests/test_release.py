"""What is released says the same everywhere: versions, dependencies, what goes into the image."""

from __future__ import annotations

import configparser
import re
import tomllib

from cli_helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RECIPE = (ROOT / "integrations" / "conda" / "recipe.yaml").read_text("utf-8")
CALLED_OTHERWISE = {"torch": "pytorch", "matplotlib": "matplotlib-base"}  # by conda-forge


def test_one_version():
    plugin = configparser.ConfigParser(interpolation=None)
    plugin.read(ROOT / "integrations" / "qgis" / "hsifcn_qgis" / "metadata.txt", "utf-8")
    assert plugin["general"]["version"] == PROJECT["version"]
    assert re.search(r"^  version: (\S+)$", RECIPE, re.MULTILINE)[1] == PROJECT["version"]


def test_the_recipe_asks_for_what_the_package_needs():
    run = RECIPE.partition("  run:\n")[2].partition("\n\n")[0]
    asked = dict(re.findall(r"- (\S+) (>=\S+)", run))
    wanted = dict(
        re.fullmatch(r"([\w-]+)(>=.*)", text).groups() for text in PROJECT["dependencies"]
    )
    named = {CALLED_OTHERWISE.get(name, name): version for name, version in wanted.items()}
    assert {name: asked.get(name) for name in named} == named
    assert set(asked) - set(named) == {"python"}


def test_the_image_is_made_of_files_that_exist():
    text = (ROOT / "Dockerfile").read_text("utf-8")
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)
        for name in line.split()
    }
    kept = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    assert copied == set(kept)
    assert all((ROOT / name).exists() for name in copied)
    extras = re.search(r"'\.\[(.*)\]'", text)[1].split(",")
    assert set(extras) <= PROJECT["optional-dependencies"].keys()


def test_only_the_step_that_publishes_may_speak_for_the_project():
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")
    before, _, publish = text.partition("\n  publish:\n")
    assert "id-token" not in before
    assert "id-token: write" in publish
    assert "password" not in publish
