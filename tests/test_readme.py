"""Every command that the documentation shows can be typed, and the quick start works."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
import scipy.io
from cli_helpers import ROOT, hsifcn
from io_samples import write_envi
from scenes import field_cube, field_labels

from hsifcn.cli import COMMANDS, cli

PAGES = [
    *(ROOT / name for name in ("README.md", "DESIGN.md", "CONTRIBUTING.md", "data/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
REFERENCE = ROOT / "docs/commands.md"
SHELLS = {"sh", "bash", "shell", "console"}
OUTPUT_OPTIONS = {"-o", "--out", "--quicklook"}


def shell_lines(text):
    """Lines of the shell blocks of a Markdown text, without prompts, continued ones joined."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in SHELLS:
            lines = block.replace("\\\n", " ").splitlines()
            if language == "console":  # what has no prompt is output
                lines = [line.lstrip()[2:] for line in lines if line.lstrip().startswith("$ ")]
            yield from lines


def words_of(line):
    """The commands of a shell line as lists of words, comments left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    commands = [[]]
    for word in lexer:
        if set(word) <= set("|&;<>"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [words for words in commands if words]


def in_blocks(text, program):
    """Commands of a program in the shell blocks of a text."""
    found = [words for line in shell_lines(text) for words in words_of(line)]
    return [words[1:] for words in found if words[0] == program]


def in_sentences(text):
    """Commands in running text, with arguments: ``hsifcn train cube.mat`` between backticks."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = [shlex.split(command)[1:] for command in re.findall(r"`(hsifcn [^`]+)`", prose)]
    return [words for words in found if len(words) > 1]  # a name alone names the command


def click_command(name):
    found = cli.get_command(click.Context(cli), name)
    assert found is not None, f"there is no command '{name}'"
    return found


SHOWN = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)}")
    for page in PAGES
    if page.exists()
    for words in (
        *in_blocks(page.read_text("utf-8"), "hsifcn"),
        *in_sentences(page.read_text("utf-8")),
    )
    if words[0] not in {"--help", "--version"}
]


def test_blocks_are_read_as_a_shell_does():
    text = (
        "```sh\nhsifcn info a.mat   # what is in it\n"
        "hsifcn train \\\n  a.mat && hsifcn predict\n```\n"
        "```console\n$ hsifcn split a.mat -o 's p.npz' > log\nhsifcn printed this\n```\n"
        "```python\nhsifcn = 3\n```\nUse `hsifcn train a.hdr -l b.hdr` after `hsifcn info`.\n"
    )
    assert in_blocks(text, "hsifcn") == [
        ["info", "a.mat"],
        ["train", "a.mat"],
        ["predict"],
        ["split", "a.mat", "-o", "s p.npz"],
    ]
    assert in_sentences(text) == [["train", "a.hdr", "-l", "b.hdr"]]


def test_the_readme_shows_commands():
    shown = in_blocks((ROOT / "README.md").read_text("utf-8"), "hsifcn")
    assert {"train", "predict"} <= {words[0] for words in shown}


@pytest.mark.parametrize("words", SHOWN)
def test_what_is_shown_can_be_typed(words):
    command = click_command(words[0])
    with command.make_context(words[0], [*words[1:]], resilient_parsing=False) as context:
        assert context.args == []  # every word is understood


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    shown = {
        word
        for page in PAGES
        for words in in_blocks(page.read_text("utf-8"), "make")
        for word in words
        if not word.startswith("-") and "=" not in word
    }
    assert shown
    assert shown <= targets


def test_benchmarks_that_are_named_exist():
    texts = [page.read_text("utf-8") for page in PAGES]
    named = {name for text in texts for name in re.findall(r"benchmarks\.(\w+)", text)}
    assert named
    assert [name for name in named if not (ROOT / "benchmarks" / f"{name}.py").exists()] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name):
    texts = [page.read_text("utf-8") for page in PAGES if page != REFERENCE]
    assert any(re.search(rf"hsifcn {name}\b", text) for text in texts)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_the_reference(name):
    sections = re.split(r"^## ", REFERENCE.read_text("utf-8"), flags=re.MULTILINE)
    (section,) = [text for text in sections if text.startswith(f"`hsifcn {name}`")]
    options = [
        p for p in click_command(name).params if isinstance(p, click.Option) and not p.hidden
    ]
    missing = [flag for option in options for flag in option.opts if flag not in section]
    assert missing == [], "run make docs"


def test_links_lead_somewhere():
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.slow
def test_the_quick_start_works(tmp_path):
    ran = set()
    for words in in_blocks((ROOT / "README.md").read_text("utf-8"), "hsifcn"):
        if words[0] == "demo":  # takes minutes; it has tests of its own
            continue
        make_inputs(tmp_path, words)
        done = hsifcn(tmp_path, *words, *shortened(words))
        assert done.code == 0, f"{' '.join(words)}: {done.err}"
        assert done.out
        ran.add(words[0])
    assert {"train", "predict"} <= ran
    assert list((tmp_path / "runs").glob("*/map.img"))


def make_inputs(folder, words):
    """Make the files that a command reads and that no command before it wrote."""
    for before, word in itertools.pairwise(words):
        path = folder / word
        if before in OUTPUT_OPTIONS or path.exists() or "/" in word or not path.suffix:
            continue
        if path.suffix in {".mat", ".hdr", ".img", ".npy"}:
            labels = field_labels(44, 48, field=11)
            beside = path.with_name(re.sub(r"(_gt|_labels)?$", "", path.stem) + path.suffix)
            write_raster(beside, field_cube(labels, dtype="f4"))
            write_raster(beside.with_name(f"{beside.stem}_gt{path.suffix}"), labels)
            if not path.exists():
                write_raster(path, labels)


def write_raster(path: Path, array):
    if path.suffix == ".mat":
        scipy.io.savemat(path, {path.stem: array})
    elif path.suffix == ".npy":
        np.save(path, array)
    else:
        write_envi(path.with_suffix(".img"), array.reshape(*array.shape[:2], -1))


def shortened(words):
    """Options that make a command quick, where it takes them and does not have them yet."""
    quick = {"--steps": "4", "--seeds": "1", "--patch": "5", "--models": "patch", "--budget": "0"}
    taken = {flag for parameter in click_command(words[0]).params for flag in parameter.opts}
    chosen = [(flag, value) for flag, value in quick.items() if flag in taken - set(words)]
    if "--models" in taken and not {"-s", "--split"} & set(words):
        chosen.append(("-s", "random:0.1"))
    return [word for pair in chosen for word in pair]
