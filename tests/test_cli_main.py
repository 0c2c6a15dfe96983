"""What holds for every command: help, options, streams, exit codes, errors on one line."""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from cli_helpers import ENVIRONMENT, ROOT, assert_refused, command, hsifcn, small_scene

from hsifcn.cli import COMMANDS, cli

OUTPUTS = set(COMMANDS) - {"evaluate"}
HELP_SECONDS = 0.4


def click_command(name):
    return cli.get_command(click.Context(cli), name)


def python(code, *, cwd, **streams):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=ENVIRONMENT, timeout=60, check=False, **streams
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("main")
    small_scene(path)
    return path


def test_help_is_fast(tmp_path):
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        assert hsifcn(tmp_path, "--help").code == 0
        seconds.append(time.perf_counter() - started)
    assert statistics.median(seconds) < 2 * HELP_SECONDS


def test_help_loads_nothing_heavy(tmp_path):
    code = (
        "import sys; from hsifcn.cli import main; main(['--help'])\n"
        "print(sorted({'torch', 'numpy', 'scipy', 'h5py'} & set(sys.modules)))"
    )
    done = python(code, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_bare_command_shows_all_commands(tmp_path, arguments):
    done = command(tmp_path, *arguments)
    assert (done.code, done.err) == (0, "")
    assert all(f"\n  {name} " in done.out for name in COMMANDS)
    assert "Examples:\n    hsifcn demo\n" in done.out


def test_version(tmp_path):
    done = command(tmp_path, "--version")
    assert done.code == 0
    assert done.out.startswith("hsifcn, version ")


def examples(name):
    """What stands below ``Examples:`` in the help of a command."""
    head, _, below = click_command(name).epilog.partition("Examples:\n")
    assert head == "\b\n"
    return [shlex.split(line) for line in below.splitlines()]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(tmp_path, name):
    done = command(tmp_path, name, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Usage: hsifcn {name} " in done.out
    assert "Examples:\n" in done.out
    assert "Other:\n" not in done.out  # each option has its group
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert 2 <= len(examples(name)) <= 3


def test_the_shell_completes_commands(tmp_path):
    asked = {"_HSIFCN_COMPLETE": "bash_complete", "COMP_WORDS": "hsifcn tr", "COMP_CWORD": "1"}
    assert hsifcn(tmp_path, **asked).out == "plain,train\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_can_be_typed(name):
    found = click_command(name)
    for words in examples(name):
        assert words[:2] == ["hsifcn", name]
        found.make_context(name, words[2:])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name):
    page = (ROOT / "docs/commands.md").read_text("utf-8")
    assert f"## `hsifcn {name}`\n" in page


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    found = click_command(name)
    assert found.help
    silent = [
        parameter.name
        for parameter in found.params
        if isinstance(parameter, click.Option) and not (parameter.help or parameter.hidden)
    ]
    assert silent == []


@pytest.mark.parametrize("name", COMMANDS)
def test_common_options(name):
    given = {flag for parameter in click_command(name).params for flag in parameter.opts}
    assert given >= {"-q", "--quiet", "-v", "--verbose", "--json", "--debug"}
    assert ("--overwrite" in given) == (name in OUTPUTS)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nosuch"], "nosuch"),
        (["--nosuch"], "--nosuch"),
        (["info"], "SCENE"),
        (["info", "cube.npy", "--nosuch"], "--nosuch"),
        (["info", "cube.npy", "other.mat"], "other.mat"),
        (["train", "cube.npy", "--steps", "many"], "many"),
        (["train", "cube.npy", "--seed", str(10**30)], "--seed"),
        (["train", "cube.npy", "--seed", "-1"], "--seed"),
        (["train", "cube.npy", "--device", "tpu"], "tpu"),
        (["predict", "-f", "nosuch"], "nosuch"),
        (["compare-patch-vs-fcn", "--seeds", "0"], "--seeds"),
    ],
)
def test_bad_usage(folder, arguments, part):
    assert_refused(command(folder, *arguments), part)


@pytest.mark.parametrize("size", ["4X", "", "-4G", "0", "G", "1e9", "9" * 400 + "G", "nan"])
def test_bad_sizes(folder, size):
    done = command(folder, "train", "cube.npy", "-q", "--max-memory", size)
    assert_refused(done, "--max-memory", "write 4G or 800M")


def test_an_error_is_one_line_without_traceback(folder):
    done = hsifcn(folder, "info", "nosuch.mat")
    assert_refused(done, "nosuch.mat", "does not exist", "check the path")


def test_debug_adds_the_traceback(folder):
    done = command(folder, "info", "nosuch.mat", "--debug")
    assert done.code == 2
    assert "Traceback (most recent call last)" in done.err
    assert done.err.splitlines()[-1].startswith("error: nosuch.mat does not exist")


@pytest.mark.parametrize("debug", [False, True])
def test_a_bug_is_one_line_too(tmp_path, debug):
    code = (
        "import hsifcn.io\n"
        "def broken(*arguments, **keywords): raise ZeroDivisionError('seven\\nby zero')\n"
        "hsifcn.io.open_scene = broken\n"
        "from hsifcn.cli import main\n"
        f"main(['info', 'cube.npy'] + ['--debug'] * {debug:d})\n"
    )
    done = python(code, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    if debug:
        assert "Traceback" in done.stderr
    else:
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: ZeroDivisionError: seven by zero; ")
        assert "--debug" in done.stderr


def test_messages_go_to_stderr_and_quiet_silences_them(folder, tmp_path):
    loud = command(folder, "split", "cube.npy", "-o", tmp_path / "a.npz", "--json")
    quiet = command(folder, "split", "cube.npy", "-o", tmp_path / "b.npz", "--json", "-q")
    assert "labels of cube.npy: cube_gt.npy" in loud.err
    assert quiet.err == ""
    assert loud.json["digest"] == quiet.json["digest"]


def test_a_reader_that_leaves_early_is_no_error(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "hsifcn", "info", "cube.npy"],
        cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout(folder):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hsifcn", "info", "cube.npy"],
            cwd=folder, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="a shell closes the stream")
def test_without_stdout(folder):
    done = subprocess.run(
        f"exec '{sys.executable}' -m hsifcn info cube.npy >&-",
        shell=True, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_of_few_characters(folder):
    done = hsifcn(folder, "info", "cube.npy", PYTHONIOENCODING="latin-1")
    assert done.code == 0
    assert "class 1" in done.out
    assert "?" in done.out  # where other terminals show a line


@pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes on Linux only")
def test_a_file_name_that_is_no_text(tmp_path):
    small_scene(tmp_path)
    name = os.fsdecode(b"caf\xe9.npy")
    (tmp_path / "cube.npy").rename(tmp_path / name)
    done = command(tmp_path, "info", name, "--json")
    assert done.code == 0
    assert done.json["path"] == name
    shown = hsifcn(tmp_path, "info", name, PYTHONIOENCODING="utf-8")
    assert (shown.code, shown.err) == (0, "")
    assert_refused(hsifcn(tmp_path, "info", f"no{name}", PYTHONIOENCODING="utf-8"), "caf")


def test_names_in_files_do_not_steer_the_terminal(tmp_path):
    name = "\x1b]0;title\x07\x1b[2Jcorn"
    small_scene(tmp_path)
    (tmp_path / "names.txt").write_text(f"{name}\nGrünland 草\npine\n", "utf-8")
    given = ("info", "cube.npy", "-l", "cube_gt.npy", "--class-names", "names.txt")
    done = command(tmp_path, *given)
    assert done.code == 0, done.err
    assert "\\x1b]0;title" in done.out
    assert "\\x1b[2Jcorn" in done.out
    assert "Grünland 草" in done.out
    lost = command(tmp_path, "info", "\x1b[2Jgone.npy")
    assert lost.code == 2
    for text in (done.out, done.err, lost.out, lost.err):
        assert "\x1b" not in text
        assert "\x07" not in text


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are numbered from the lowest")
def test_without_a_free_descriptor_there_is_one_line(folder):
    code = (
        "import resource, sys; from hsifcn.cli import main; import numpy, hsifcn.cli.info;"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard)); main(['info', 'cube.npy'])"
    )
    done = python(code, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: OSError: ")
    assert done.stderr.count("\n") == 1
