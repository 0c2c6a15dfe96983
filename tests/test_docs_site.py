"""The site of the documentation: it builds, its links lead somewhere, it needs no network."""

from __future__ import annotations

import html
import json
import logging
import re
import runpy
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from cli_helpers import ROOT
from page_reader import CHROMIUM, axe_source, opened_in_a_browser

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


TOUR = """
<script src="axe.min.js"></script>
<script>
// Judges this page, keeps what was found, goes on to the next page; the last one tells it all.
const judge = () => axe.run(document, {iframes: false}).then((result) => {
  const all = JSON.parse(sessionStorage.told || "[]"), next = NEXT;
  const scheme = document.body.dataset.mdColorScheme, passed = result.passes.length;
  const found = result.violations.map((rule) => [rule.id, rule.nodes.map((node) => node.html)]);
  all.push({page: PAGE, scheme, passed, found});
  sessionStorage.told = JSON.stringify(all);
  if (next) { location.href = next; return; }
  const told = document.createElement("pre");
  told.id = "axe";
  told.textContent = sessionStorage.told;
  document.body.append(told);
});
addEventListener("load", () => setTimeout(judge, 300));
</script>
"""
OTHER = {"light": "dark", "dark": "light"}


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")
@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "size"), [("default", "500,900"), ("slate", "1300,1000")])
def test_everybody_can_read_every_page(site, tmp_path, scheme, size):
    """axe-core finds nothing in any page, narrow or wide, light or dark."""
    folder = tmp_path / "site"
    shutil.copytree(site, folder, ignore=shutil.ignore_patterns("search"))  # its index takes long
    (folder / "axe.min.js").write_text(axe_source(), "utf-8")
    # The page of a missing address is drawn on a server only.
    names = sorted(path.name for path in folder.glob("*.html") if path.name != "404.html")
    for name, after in zip(names, [*names[1:], None], strict=True):
        source = (folder / name).read_text("utf-8")
        if scheme == "slate":  # what a dark desktop asks for becomes what this browser asks for
            source = re.sub(r"(?<=prefers-color-scheme: )\w+", lambda m: OTHER[m[0]], source)
        tour = TOUR.replace("NEXT", json.dumps(after)).replace("PAGE", json.dumps(name))
        (folder / name).write_text(source.replace("</body>", tour + "</body>"), "utf-8")
    shown = opened_in_a_browser(folder / names[0], tmp_path / "profile", size, patience=60_000)
    told = json.loads(html.unescape(re.search(r'<pre id="axe">(.*?)</pre>', shown)[1]))
    assert [page["page"] for page in told] == names
    assert {page["scheme"] for page in told} == {scheme}
    assert all(page["passed"] > 20 for page in told)
    assert [(page["page"], page["found"]) for page in told if page["found"]] == []
