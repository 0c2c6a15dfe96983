"""The command line. Each command is a thin module; errors become one line and an exit code here."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

import click

from hsifcn.core.errors import HsifcnError, Notice
from hsifcn.core.formats import shown
from hsifcn.core.process import spin_briefly, use_one_blas_thread

COMMANDS = (
    "demo",
    "info",
    "split",
    "train",
    "predict",
    "sample",
    "evaluate",
    "suggest",
    "explain",
    "compare-patch-vs-fcn",
    "reproduce",
    "export",
)
INTERRUPTED = 130


class LazyGroup(click.Group):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import ``hsifcn.cli.<name>`` and take its ``command``."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"hsifcn.cli.{cmd_name.split('-')[0]}")
        return module.command  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List each command with its whole first sentence, which click would cut short."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, one.get_short_help_str(limit=200)) for name, one in commands if one]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  hsifcn demo\n  hsifcn train cube.mat\n  hsifcn predict",
    invoke_without_command=True,
)
@click.version_option(package_name="hsifcn")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Classify every pixel of a hyperspectral scene from a few labelled ones.

    Start with 'hsifcn demo'; then 'hsifcn train cube.mat' learns from your scene, its labels found
    beside it, and 'hsifcn predict' writes the map.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0, 2 bad input, 1 failed, 130 stopped."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    quiet = "-q" in arguments or "--quiet" in arguments
    warnings.showwarning = lambda message, kind, *_, **__: (
        None if quiet else _say(warning_line(message, kind))
    )
    if not debug:
        sys.excepthook = _report_bug
    # Before a command loads NumPy and PyTorch, and for the processes that it starts.
    use_one_blas_thread()
    spin_briefly()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character gets a "?"
    try:
        cli.main(arguments, prog_name="hsifcn", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except HsifcnError as error:
        _leave(str(error), error.exit_code, debug)
    except click.ClickException as error:
        _leave(error.format_message(), 2, debug)
    except (click.Abort, KeyboardInterrupt):
        _leave("interrupted", INTERRUPTED, debug)
    except BrokenPipeError:  # the reader of our output went away; nothing to tell anyone
        _drop_stdout()
        sys.exit(1)
    except OSError as error:
        _drop_stdout()  # it may be what failed, and would again when Python ends
        _leave(f"{type(error).__name__}: {error}", 1, debug)
    # Without memory, C code may give a SystemError and a library may not be found.
    except (MemoryError, RuntimeError, SystemError, ImportError) as error:
        _leave(f"{type(error).__name__}: {error}", 1, debug)


def warning_line(message: Warning | str, kind: type[Warning]) -> str:
    """What is told of a Python warning: one line, that of a ``Notice`` as it is."""
    text = " ".join(str(message).split())
    return text if issubclass(kind, Notice) else f"warning: {text}"


def _say(text: str) -> None:
    click.echo(shown(" ".join(text.split())), err=True)


def _drop_stdout() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        with suppress(OSError):  # no descriptor is left, say: the message counts more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report_bug(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if kind is KeyboardInterrupt:  # after the command had ended, but not yet Python
        _say("error: interrupted")
        return
    _say(f"error: {kind.__name__}: {error}; this is a bug: run again with --debug and report it")


def _leave(message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    from hsifcn.io.addresses import without_secrets  # any option may be given an address

    _say("interrupted" if code == INTERRUPTED else f"error: {without_secrets(message)}")
    sys.exit(code)
