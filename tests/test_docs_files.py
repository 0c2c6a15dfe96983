"""The table of formats in ``docs/files.md``: a row a format, each with a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
