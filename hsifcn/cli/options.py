"""Options that several commands share, each declared once, and where output goes."""

from __future__ import annotations

import functools
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from hsifcn.core.formats import shown

Command = Callable[..., Any]

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Size(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Bytes as ``4G`` or ``800M`` (powers of 1000)."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Turn text into bytes."""
        if isinstance(value, int):
            return value
        pattern = r"([0-9]{1,15}(?:\.[0-9]+)?)([KMGT]?)B?"
        match = re.fullmatch(pattern, str(value).strip(), re.IGNORECASE)
        if not match or float(match[1]) <= 0:
            self.fail(f"'{value}' is no size; write 4G or 800M", param, ctx)
        return int(float(match[1]) * UNITS[match[2].upper()])


class Duration(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Seconds as ``90s``, ``3min`` or ``0``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """Turn text into seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?) ?(s|min|h)?", str(value).strip())
        if not match or (match[2] is None and float(match[1]) > 0):
            self.fail(f"'{value}' is no time; write 90s or 3min", param, ctx)
        return float(match[1]) * {"s": 1, "min": 60, "h": 3600, None: 1}[match[2]]


@dataclass(frozen=True)
class Output:
    """Where a command writes: messages to stderr, its result to stdout.

    Attributes
    ----------
    quiet, verbose, json : bool
        The options of the same names.
    """

    quiet: bool
    verbose: bool
    json: bool

    def message(self, text: str) -> None:
        """Say what is going on."""
        if not self.quiet:
            click.echo(shown(text), err=True)

    def detail(self, text: str) -> None:
        """Say it where asked to be verbose."""
        if self.verbose:
            self.message(text)

    def result(self, text: str, values: Mapping[str, Any] | Sequence[Any]) -> None:
        """Print the result: for people, or with ``--json`` for programs."""
        click.echo(json.dumps(values, indent=1) if self.json else shown(text))


class CurvePoints(NamedTuple):
    """Where a learning curve has points: at each ``share`` of the labels, or after ``steps``."""

    along: str
    values: tuple[float, ...]


class LearningCurve(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Shares of the labels, as ``0.1,0.5,1``, or steps, as ``steps:40,80,320``."""

    name = "learning curve"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> CurvePoints:
        """Turn text into ascending numbers."""
        text = str(value)
        of_steps = text.startswith("steps:")
        try:
            found: set[float] = {
                int(part) if of_steps else float(part)
                for part in text.removeprefix("steps:").split(",")
            }
        except ValueError:
            message = f"'{value}' is no list of shares or steps; write 0.1,0.5,1 or steps:40,80,320"
            self.fail(message, param, ctx)
        if of_steps and min(found) < 1:
            self.fail(f"'{value}' has fewer than 1 step", param, ctx)
        if not of_steps and not all(0 < share <= 1 for share in found):
            self.fail(f"'{value}' has a share that is not above 0 and at most 1", param, ctx)
        return CurvePoints("steps" if of_steps else "share", tuple(sorted(found)))


def common(command: Command) -> Command:
    """Add ``--quiet --verbose --json --debug``; the command gets an ``Output`` first."""

    @click.option("-q", "--quiet", is_flag=True, help="No messages on stderr.")
    @click.option("-v", "--verbose", is_flag=True, help="More messages on stderr.")
    @click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
    @click.option("--debug", is_flag=True, help="A traceback where something fails.")
    @functools.wraps(command)
    def wrapper(quiet: bool, verbose: bool, as_json: bool, debug: bool, **arguments: Any) -> Any:
        from hsifcn.io.files import safe_inputs

        with safe_inputs():
            return command(Output(quiet, verbose, as_json), **arguments)

    return wrapper


def options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Apply several options, in the order in which the help shows them."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


# Help shows the options in these groups, by the names of the parameters; others stand last.
GROUPS = {
    "Data": (
        *("label_paths", "label_field", "all_touched", "wavelengths", "class_names", "bands"),
        *("keep_bad_bands", "nodata", "allow_remote", "resample"),
        *("scene_path", "against", "folder"),
    ),
    "Split": ("recipe", "recipes", "learn_from", "split_path", "seed", "folds", "learning_curve"),
    "Sample": ("points", "design", "allocation", "minimum", "expected", "distance", "measure"),
    "Model": (
        *(
            "model",
            "init_path",
            "start_path",
            "steps",
            "inductive",
            "patch",
            "models",
            "seeds",
            "budget",
        ),
        *("quick", "refine", "adapt", "approximate", "precision", "device", "max_memory"),
    ),
    "Many scenes": (*("workers", "shard", "assemble", "scheduler", "retry_failed", "mosaic"),),
    "Output": (
        *(
            "out",
            "form",
            "at",
            "class_name",
            "map_format",
            "quicklook",
            "spectra",
            "confidence",
            "probabilities",
        ),
        *(
            "polygons",
            "stac",
            "tile",
            "min_confidence",
            "reject",
            "resume",
            "overwrite",
            "quiet",
            "verbose",
        ),
        *("min_size", "preview", "sheet", "tensorboard", "as_json", "debug", "_click_default_help"),
    ),
}


class GroupedCommand(click.Command):
    """A command whose help lists the options by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups."""
        grouped = {name: title for title, names in GROUPS.items() for name in names}
        records: dict[str, list[tuple[str, str]]] = {title: [] for title in (*GROUPS, "Other")}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                records[grouped.get(parameter.name or "", "Other")].append(record)
        for title, rows in records.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def command(*examples: str, name: str | None = None) -> Callable[[Command], click.Command]:
    """Make a function a command whose help ends with examples, ``hsifcn`` left out in each."""
    lines = "\n".join(f"  hsifcn {example}" for example in examples)
    return click.command(name, cls=GroupedCommand, epilog=f"\b\nExamples:\n{lines}")


label_field = click.option(
    "--label-field", metavar="FIELD",
    help="Attribute of polygons and points, or column of a .csv, that tells the class.",
)  # fmt: skip
all_touched = click.option(
    "--all-touched", is_flag=True,
    help="Polygons label all pixels they touch, not only those whose centre they hold.",
)  # fmt: skip
labels = options(
    click.option(
        "-l", "--labels", "label_paths", multiple=True, metavar="LABELS",
        help="Label raster, polygons, points or .csv, one a scene, or several of one scene; found "
        "in or beside the scene otherwise.",
    ),
    label_field,
    all_touched,
)  # fmt: skip
split = click.option(
    "-s", "--split", "recipe", metavar="SPEC",
    help="random:0.1 (the default for label rasters), per-class:50, blocks:16:gap=3:train=0.2, "
    "checkerboard:14:gap=3, fields:0.2:gap=2, features:0.3 (the default for polygons and points), "
    "scenes:0.3, all, fixed:TRAIN,TEST or a split.npz; :val=0.1 may be added. Of papers: mambahsi, "
    "hypersigma, dase:TRAIN.",
)  # fmt: skip
seed = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True,
    help="Of all that is drawn at random.",
)  # fmt: skip
wavelengths = click.option(
    "--wavelengths", metavar="FILE", help="Text file, a wavelength a line (nm or um)."
)
nodata = click.option(
    "--nodata", type=float, metavar="V",
    help="A value that no measurement has, beside what the file declares.",
)  # fmt: skip
class_names = click.option(
    "--class-names", metavar="FILE", help="Text file, the name of a class a line, from class 1."
)
bands = click.option(
    "--bands", metavar="BANDS", help="Bands to use, counted from 1: 1-10,20,400nm-900nm."
)
keep_bad_bands = click.option(
    "--keep-bad-bands", is_flag=True,
    help="Use bands too that the file marks as bad or that water vapour hides.",
)  # fmt: skip
max_memory = click.option(
    "--max-memory", type=Size(), metavar="SIZE",
    help="Ceiling on resident memory: 4G, 800M.",
)  # fmt: skip
device = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto",
    show_default=True, help="Where to compute.",
)  # fmt: skip
refine = click.option(
    "--refine", type=click.Choice(["none", "crf", "mrf"]), default="none", show_default=True,
    help="Smooth the map by what near and similar pixels say.",
)  # fmt: skip
overwrite = click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")


def output_file(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse, before any work is done, an output whose folder is not there."""
    from hsifcn.io.files import require_folder

    if value is not None:
        require_folder(Path(value))
    return value


def command_line() -> str:
    """The command as it was called, for records."""
    line = shlex.join(["hsifcn", *sys.argv[1:]])
    return line.encode("utf-8", "replace").decode("utf-8")


def choose_device(name: str) -> str:
    """The device meant by ``auto``: CUDA or MPS where PyTorch has it."""
    import torch

    from hsifcn.core.errors import SettingError

    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device, found in present.items() if found)
    if not present[name]:
        raise SettingError(f"PyTorch finds no {name} device", "leave --device out")
    return name


def labels_to_split(
    scenes: Sequence[str], given: Sequence[str], output: Output, recipe: str | None
) -> tuple[Sequence[str | None], tuple[str, ...]]:
    """The label file of each scene, and further ones: of a single scene, or shapes for all.

    None where a ``fixed`` split brings its own.
    """
    from hsifcn.core.errors import SettingError
    from hsifcn.io.point_table import is_point_table

    if not given and (recipe or "").startswith("fixed:"):
        return [None] * len(scenes), ()
    n = len(scenes)
    first, further = given[:n], tuple(given[n:])
    if n > 1 and not all(map(is_point_table, further)):
        return labels_of_scenes(scenes, given, output), ()  # which says what is wrong
    twice = next((path for path in further if given.count(path) > 1), None)
    if twice is not None:
        raise SettingError(f"{twice} is named twice", "give every label file once")
    return labels_of_scenes(scenes, first, output), further


def labels_of_scenes(scenes: Sequence[str], given: Sequence[str], output: Output) -> list[str]:
    """The label file of each scene: as given, else found beside it and said so.

    One file of polygons or points serves all scenes.
    """
    from hsifcn.core.errors import SettingError
    from hsifcn.io import find_labels, split_variable
    from hsifcn.io.vectors import SUFFIXES

    if not given:
        found = [find_labels(scene) for scene in scenes]
        for scene, path in zip(scenes, found, strict=True):
            output.message(f"labels of {scene}: {path}")
        return found
    if len(given) == 1 and Path(split_variable(given[0])[0]).suffix.lower() in SUFFIXES:
        return [given[0]] * len(scenes)
    if len(given) != len(scenes):
        raise SettingError(
            f"{len(scenes)} scenes and {len(given)} label files",
            "give -l once a scene, in order, or one file of polygons or points for all",
        )
    return list(given)


def absolute(path: str) -> str:
    """The path made absolute, a ``:variable`` behind it kept."""
    return str(Path(path).absolute())
