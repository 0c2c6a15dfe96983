"""Write the pages that the program itself tells, and build the site into ``site/``.

MkDocs calls the functions named ``on_...`` as hooks.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import click

import hsifcn
from hsifcn.cli import COMMANDS, cli
from hsifcn.inference.predict import PredictOptions
from hsifcn.models import MODELS, build, default_spec, geometry
from hsifcn.models.flops import flops_per_pixel

HERE = Path(__file__).parent
HEAD = """# Commands

Written by `make docs` from the program's own help.

The shell completes commands and options, with a line in its own start file:

```sh
eval "$(_HSIFCN_COMPLETE=bash_source hsifcn)"    # ~/.bashrc
eval "$(_HSIFCN_COMPLETE=zsh_source hsifcn)"     # ~/.zshrc
_HSIFCN_COMPLETE=fish_source hsifcn | source     # ~/.config/fish/completions/hsifcn.fish
```
"""
FIGURES = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)", re.DOTALL)
FUNCTIONS = re.compile(r"(?<=<!-- functions -->\n).*(?=<!-- end of functions -->)", re.DOTALL)
BANDS, CLASSES = 200, 16  # of Indian Pines
SHOWN_PATCHES = (None, 5, 15, 31)
OPTIONS = {"predict": PredictOptions}  # what docstrings leave to a class


def commands_page() -> str:
    """The help of ``hsifcn`` and of each command."""
    parts = [HEAD]
    for name in ("", *COMMANDS):
        command = cli.get_command(click.Context(cli), name) if name else cli
        assert command is not None
        full = f"hsifcn {name}".strip()
        context = click.Context(command, info_name=full, terminal_width=90, max_content_width=90)
        parts.append(f"## `{full}`\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def models_table() -> str:
    """Receptive field, weights and cost of every model."""
    lines = [
        "| model | what it is | receptive field, px | weights | kFLOP a pixel |",
        "|---" * 5 + "|",
    ]
    for name in (name for name in MODELS if MODELS[name].patch in SHOWN_PATCHES):
        spec = default_spec(name, BANDS, CLASSES)
        weights = sum(parameter.numel() for parameter in build(spec).parameters())
        cells = [
            f"`{name}`",
            MODELS[name].summary,
            str(geometry(spec).receptive_field),
            f"{weights:,}",
        ]
        lines.append(f"| {' | '.join(cells)} | {flops_per_pixel(spec) / 1e3:,.0f} |")
    return "\n".join(lines) + "\n"


def functions() -> str:
    """What each public name of the package takes, gives and raises, as its docstring tells."""
    parts = []
    for name in hsifcn.__all__:
        thing = getattr(hsifcn, name)
        bare = [p.replace(annotation=p.empty) for p in inspect.signature(thing).parameters.values()]
        call = f"{name}{inspect.Signature(bare)}"
        if len(call) > 90:
            call = f"{name}(\n    " + ",\n    ".join(map(str, bare)) + ",\n)"
        call = re.sub(r"=<function .*? at 0x\w+>", "=...", call)  # else another text each time
        text = f"```text\n{call}\n\n{inspect.getdoc(thing)}\n```\n"
        if name in OPTIONS:
            told = inspect.getdoc(OPTIONS[name])
            text += f"\n`{OPTIONS[name].__name__}`:\n\n```text\n{told}\n```\n"
        parts.append(f"### `{name}`\n\n{text}")
    return "\n".join(parts)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links that leave the documentation lead to the file in the repository, by name only."""
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2` in the repository)", markdown)


def on_post_page(output: str, **_: Any) -> str:
    """Give the theme's search dialog the name that screen readers need."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')


def write_pages() -> None:
    """Write ``commands.md``, the table of ``models.md`` and the functions of ``python.md``."""
    (HERE / "commands.md").write_text(commands_page(), "utf-8")
    models = HERE / "models.md"
    models.write_text(FIGURES.sub(lambda _: models_table(), models.read_text("utf-8")), "utf-8")
    python = HERE / "python.md"
    python.write_text(FUNCTIONS.sub(lambda _: functions(), python.read_text("utf-8")), "utf-8")


def build_site(out: Path = HERE.parent / "site") -> None:
    """Build the site; a broken link ends it with an error.

    Raises
    ------
    SystemExit
        MkDocs is not installed, or a page is not as it should be.
    """
    try:
        from mkdocs.commands.build import build
        from mkdocs.config import load_config
        from mkdocs.exceptions import MkDocsException
    except ImportError:
        sys.exit("the site needs MkDocs: pip install -e '.[docs]'")
    try:
        build(load_config(str(HERE.parent / "mkdocs.yml"), site_dir=str(out), strict=True))
    except MkDocsException as error:
        sys.exit(str(error))
    print(f"site: {out / 'index.html'}")


if __name__ == "__main__":
    write_pages()
    build_site()
