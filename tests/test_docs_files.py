"""What the docs list: formats with their tests, functions, and where DESIGN says to look."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import hsifcn
from hsifcn.cli.predict import FORMATS as FORMATS_OF_MAPS
from hsifcn.io import FORMATS, png

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "files.md").read_text("utf-8")
TABLE = TEXT.partition("| format | suffixes |")[2].partition("\n\n")[0].splitlines()[2:]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_row_names_an_existing_test(row):
    file, _, name = row[-1].strip("`").partition("::")
    assert re.fullmatch(r"tests/test_\w+\.py", file)
    assert f"def {name or 'test_'}" in (ROOT / file).read_text("utf-8")


READ = [form for form in FORMATS if form is not png.FORMAT]


@pytest.mark.parametrize("form", READ, ids=[form.name for form in READ])
def test_each_format_that_is_read_has_a_row_with_its_suffixes(form):
    told = " ".join(row[1] for row in ROWS)
    assert not [suffix for suffix in form.suffixes if suffix not in told]


def test_each_format_of_maps_has_a_row():
    table = TEXT.partition("| `-f` | suffix |")[2].partition("\n\n")[0]
    for name, suffix in FORMATS_OF_MAPS.items():
        assert f"`{name}`" in table
        assert f"`{suffix}`" in table


DESIGN = (ROOT / "DESIGN.md").read_text("utf-8")
PLACES = DESIGN.partition("| question | answer |")[2].partition("\n\n")[0].splitlines()[2:]


@pytest.mark.parametrize("line", PLACES, ids=[line.split("|")[1].strip() for line in PLACES])
def test_design_answers_with_files_and_names_that_exist(line):
    answers = re.findall(r"`([\w/]+\.py)`(?:: ((?:`[\w.]+`(?:, )?)+))?", line)
    assert answers
    for file, names in answers:
        text = (ROOT / "hsifcn" / file).read_text("utf-8")
        for name in re.findall(r"\w+", names):
            assert re.search(rf"^ *(def |class ){name}\b|^{name}\b", text, re.MULTILINE)


def test_design_reads_in_an_order_of_files_that_exist():
    order = re.findall(r"`(\w+/\w+\.py)`", DESIGN.partition("read in this")[2].partition("\n\n")[0])
    assert len(order) == 10
    assert [file for file in order if not (ROOT / "hsifcn" / file).exists()] == []


@pytest.mark.parametrize("name", hsifcn.__all__)
def test_each_public_function_is_described(name):
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    section = text.partition(f"### `{name}`\n")[2].partition("\n### ")[0]
    assert inspect.getdoc(getattr(hsifcn, name)) in section, "run make docs"
