"""The site of the documentation: it builds, its links lead somewhere, it needs no network."""

from __future__ import annotations

import logging
import re
import runpy
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from cli_helpers import ROOT

pytest.importorskip("mkdocs", reason="MkDocs is not installed: pip install -e '.[docs]'")
pytest.importorskip("material", reason="its theme is not installed: pip install -e '.[docs]'")

DOORS = ("map_my_scene.html", "write_a_paper.html", "how_it_works.html", "reference.html")


class Links(HTMLParser):
    """What a page loads, what it links to, and the places in it that can be linked to."""

    def __init__(self, source):
        super().__init__()
        self.loaded, self.links, self.places = [], [], set()
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.places |= {values[key] for key in ("id", "name") if values.get(key)}
        if "src" in values:
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") != "canonical":
            self.loaded.append(values["href"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    runpy.run_path(str(ROOT / "docs/build.py"))["build_site"](folder)
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Links(path.read_text("utf-8")) for path in site.rglob("*.html")}


def test_every_page_of_the_docs_is_on_the_site_and_four_doors_lead_in(site, pages):
    assert {p.stem for p in (ROOT / "docs").glob("*.md")} <= {path.stem for path in pages}
    assert set(DOORS) <= set(pages[site / "index.html"].links)


def test_links_lead_to_files_and_places_that_exist(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            place = unquote(parts.fragment)
            if not target.exists() or (
                place and target in pages and place not in pages[target].places
            ):
                broken.append((path.name, link))
    assert broken == []


def test_nothing_is_loaded_from_the_network(site, pages):
    loaded = [source for page in pages.values() for source in page.loaded]
    assert loaded
    assert [source for source in loaded if urlsplit(source).netloc] == []
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"@import\s+[\"'(]?https?:|url\([\"']?https?:", styles)


def test_a_page_outside_of_the_nav_and_broken_links_end_the_build(tmp_path, caplog):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / "docs/stray.md").write_text("[a](nowhere.md) [b](files.md#nowhere)\n")
    build_site = runpy.run_path(str(tmp_path / "docs/build.py"))["build_site"]
    with caplog.at_level(logging.WARNING, "mkdocs"), pytest.raises(SystemExit, match="strict"):
        build_site(tmp_path / "site")
    told = caplog.text
    assert re.search(r'not included in the "nav".*\n.*stray\.md', told)
    assert "'nowhere.md'" in told
    assert "'files.md#nowhere'" in told
