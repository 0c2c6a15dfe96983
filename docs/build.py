"""Write ``docs/commands.md``: the help of every command, as the program prints it."""

from __future__ import annotations

from pathlib import Path

import click

from hsifcn.cli import COMMANDS, cli

HEAD = "# Commands\n\nWritten by `make docs` from the program's own help.\n"


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


if __name__ == "__main__":
    Path(__file__).with_name("commands.md").write_text(commands_page(), "utf-8")
