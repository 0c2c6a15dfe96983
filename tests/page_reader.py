"""A page as a reader, and as a browser, gets it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr",
]  # fmt: skip


class Page(HTMLParser):
    """Words, headings, tags and attributes of a page; every element must be closed."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.headings, self.levels, self.after_heading = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("h2", "h3"):
            self.headings.append("")
            self.levels.append(tag)
            self.after_heading.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"style", "script"} & set(self.open):
            return
        self.words.append(data)
        if self.headings and self.open:
            target = self.headings if self.open[-1] in ("h2", "h3") else self.after_heading
            target[-1] += data.strip()


def assert_all_shown(expected, text):
    assert [piece for piece in expected if piece not in text] == []


def assert_sound(read):
    """No section is empty, and no missing value is printed as one."""
    assert all(read.headings)
    for number, after in enumerate(read.after_heading):
        parts_follow = read.levels[number : number + 2] == ["h2", "h3"]
        assert after or parts_follow, read.headings[number]
    for word in ("None", "nan", "Undefined", "inf "):
        assert not re.search(rf"\b{word}\b", read.text), word


def assert_needs_nothing(source):
    """The page asks for nothing outside of itself."""
    for tag, attribute, value in Page(source).attributes:
        if attribute in ("src", "href", "xlink:href", "data", "action", "srcset"):
            assert value.startswith(("data:", "#")), (tag, attribute, value[:80])
    assert not {"iframe", "object", "embed"} & set(Page(source).tags)
    assert not re.search(r"https?:|@import|url\((?!#)", source)


def opened_in_a_browser(path, folder, size="1300,1000", patience=4000):
    """The page after its scripts ran, as HTML; a message on the console is an error.

    No window is narrower than 500 pixels; `patience` is in milliseconds of the page's own clock.
    """
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={folder}", f"--window-size={size}",
         f"--virtual-time-budget={patience}", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert ":CONSOLE" not in done.stderr, done.stderr
    return done.stdout


def without_policy(source):
    """A page that lets a test add a script of its own."""
    policy = r'<meta http-equiv="Content-Security-Policy"[^>]*>'
    assert re.search(policy, source)
    return re.sub(policy, "", source)


JUDGE = """
<script>%s</script>
<script>
addEventListener("load", () => setTimeout(() => axe.run(document).then((result) => {
  const told = document.createElement("pre");
  told.id = "axe";
  told.textContent = JSON.stringify({passed: result.passes.length, found: result.violations.map(
    (rule) => ({rule: rule.id, impact: rule.impact, at: rule.nodes.map((node) => node.html)}))});
  document.body.append(told);
}), 800));
</script>
"""


def axe_source():
    """The script of axe-core."""
    package = pytest.importorskip(
        "axe_core_python", reason="axe-core is not installed: pip install axe-core-python"
    )
    return (Path(package.__file__).parent / "axe.min.js").read_text("utf-8")


def assert_accessible(path, folder, *, dark, size):
    """axe-core finds nothing serious or critical in a page; it judges what a browser draws."""
    source = without_policy(path.read_text("utf-8"))
    if dark:
        assert "screen and (prefers-color-scheme: dark)" in source
        source = source.replace("screen and (prefers-color-scheme: dark)", "screen")
    judged = folder / "judged.html"
    judged.write_text(source.replace("</body>", JUDGE % axe_source() + "</body>"), "utf-8")
    shown = opened_in_a_browser(judged, folder / "profile", size)
    result = json.loads(html.unescape(re.search(r'<pre id="axe">(.*?)</pre>', shown)[1]))
    assert result["passed"] > 20
    assert [rule for rule in result["found"] if rule["impact"] in ("serious", "critical")] == []
