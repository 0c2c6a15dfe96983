"""Which model and scene are explained, and into which folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsifcn.core.errors import ExistingOutputError, SettingError
from hsifcn.core.formats import recipe_sentence
from hsifcn.data.split import Split, read_split
from hsifcn.data.split import split_path as split_file
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.targets import (
    MODEL,
    is_model,
    mark_inputs_of,
    model_file,
    newest_run,
    run_config,
)
from hsifcn.io import scene_stem, split_variable
from hsifcn.io.files import make_folder, write_json

RECORD = "explain.json"
REPORT = "report.html"


@dataclass(frozen=True)
class ExplainTarget:
    """What to explain.

    Attributes
    ----------
    model : Path
    scene : str
    out : Path
        The folder to write into.
    number : int or None
        Of the scene among those that the run was trained on, from 1; None for another scene.
    split_path : Path or None
        The split of the scene, where the run was trained on it.
    wavelengths : str or None
    nodata : float or None
    """

    model: Path
    scene: str
    out: Path
    number: int | None
    split_path: Path | None
    wavelengths: str | None
    nodata: float | None


def choose_target(
    paths: Sequence[str], out: str | None, wavelengths: str | None, nodata: float | None
) -> ExplainTarget:
    """Make out model, scene and folder: the newest run and its first scene where none is named.

    Raises
    ------
    UnreadableFileError
        There is no run to take the model or the scene from.
    SettingError
        More than a model and a scene were named.
    """
    given = list(paths)
    model = model_file(Path(given.pop(0))) if given and is_model(given[0]) else None
    if len(given) > 1:
        raise SettingError("one scene is explained at a time", "name a model and a scene")
    if given:
        split_variable(given[0])  # that it is not there, told before that there is no run
    model = model or newest_run() / MODEL
    run = model.parent
    if given and not (run / "config.json").exists():
        config: dict[str, Any] = {"scenes": [], "wavelengths": None}
    else:
        config = run_config(run)
    scene = given[0] if given else config["scenes"][0]
    number = next(
        (i for i, known in enumerate(config["scenes"], start=1) if _is_same(scene, known)), None
    )
    split_path = None
    if number is not None:
        wavelengths = wavelengths or config["wavelengths"]
        nodata = config.get("nodata") if nodata is None else nodata
        split_path = split_file(run / "split.npz", number)
    folder = run / "explain" if number == 1 else Path(f"{scene_stem(scene)}_explain")
    mark_inputs_of(model, [scene])
    return ExplainTarget(
        model,
        scene,
        Path(out) if out else folder,
        number,
        split_path if split_path and split_path.exists() else None,
        wavelengths,
        nodata,
    )


def _is_same(scene: str, known: str) -> bool:
    """Whether two paths name the same file and variable."""
    one, other = split_variable(scene), split_variable(known)
    variables = {one[1], other[1]} - {None}
    return Path(one[0]).resolve() == Path(other[0]).resolve() and len(variables) < 2


def open_split(target: ExplainTarget, shape: tuple[int, int]) -> Split | None:
    """The split of the scene; None where there is none of its size."""
    if target.split_path is None:
        return None
    split = read_split(target.split_path)
    return split if split.labels.shape == shape else None


def split_record(split: Split | None, receptive_field: int | None) -> dict[str, Any] | None:
    """Recipe, seed, digest and leakage of a split, which its accuracies must be read with."""
    if split is None:
        return None
    return {
        "recipe": split.recipe,
        "seed": split.seed,
        "digest": split.digest,
        "leakage": split.leakage(receptive_field),
    }


def class_number(bundle: Bundle, name: str) -> int:
    """The class, from 1, of a name or a code.

    Raises
    ------
    SettingError
        The model has no such class.
    """
    for number, (known, code) in enumerate(
        zip(bundle.class_names, bundle.class_codes, strict=True), start=1
    ):
        if name.casefold() == known.casefold() or name == str(code):
            return number
    raise SettingError(
        f"the model has no class '{name}'", f"choose one of {', '.join(bundle.class_names)}"
    )


def may_replace(out: Path, *, overwrite: bool) -> bool:
    """Whether files in a folder may be replaced: asked for, or left by a stopped ``explain``.

    Raises
    ------
    ExistingOutputError
        The folder holds another explanation, or other files, and may not be overwritten.
    """
    if out.exists() and not out.is_dir():
        raise ExistingOutputError(f"{out} is a file", "name a folder with -o")
    filled = out.is_dir() and any(out.iterdir())
    if filled and not overwrite and not _is_unfinished(out / RECORD):
        raise ExistingOutputError(
            f"{out} exists", "add --overwrite, or choose another folder with -o"
        )
    return filled


def begin_folder(out: Path) -> None:
    """Make a folder and mark it as unfinished, so that the same command replaces what it holds."""
    make_folder(out)
    write_json(out / RECORD, {"unfinished": True})


def _is_unfinished(record: Path) -> bool:
    try:
        return bool(json.loads(record.read_text("utf-8")).get("unfinished"))
    except (OSError, ValueError, AttributeError):
        return False


def why_untraced(
    target: ExplainTarget, bundle: Bundle, split: Split | None, at: tuple[int, int] | None
) -> str:
    """Why it cannot be told where a pseudo-label came from; empty where it can."""
    if not bundle.settings.get("propagation"):
        return f"This {bundle.spec.name} learnt from labels alone: nothing was propagated."
    if target.number is None:
        return (
            "Only scenes that a run was trained on have pseudo-labels; this one was not, or the "
            "run's other files do not lie beside the model."
        )
    if split is None:
        return "The run holds no split of this scene, so its training pixels are not known."
    if at is None:
        return (
            "With --at ROW,COL this page tells which training pixels the pseudo-label of that "
            "pixel came from, and how sure it was."
        )
    return ""


def chosen_sentence(run: Path) -> str:
    """What propagation chose in a run; empty where that is not known."""
    try:
        recipe = json.loads((run / "metrics.json").read_text("utf-8")).get("recipe")
    except (OSError, ValueError, AttributeError):
        return ""
    return f"What propagation chose: {recipe_sentence(recipe)}." if recipe else ""
