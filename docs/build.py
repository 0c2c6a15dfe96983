"""Write ``docs/commands.md`` and the table of ``docs/models.md`` from the program itself."""

from __future__ import annotations

import re
from pathlib import Path

import click

from hsifcn.cli import COMMANDS, cli
from hsifcn.models import MODELS, build, default_spec, geometry
from hsifcn.models.flops import flops_per_pixel

HERE = Path(__file__).parent
HEAD = "# Commands\n\nWritten by `make docs` from the program's own help.\n"
FIGURES = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)", re.DOTALL)
BANDS, CLASSES = 200, 16  # of Indian Pines
SHOWN_PATCHES = (None, 5, 15, 31)


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


if __name__ == "__main__":
    (HERE / "commands.md").write_text(commands_page(), "utf-8")
    models = HERE / "models.md"
    models.write_text(FIGURES.sub(lambda _: models_table(), models.read_text("utf-8")), "utf-8")
