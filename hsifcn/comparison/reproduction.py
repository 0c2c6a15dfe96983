"""The command of a finished run, and whether the same came out when it was given again.

Compared are digests of the weights and of the maps, and every figure; never times and memory. Where
something differs, what the two runs record of versions, machine and inputs tells why it may.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hsifcn.core.errors import SettingError, UnreadableFileError
from hsifcn.evaluation.record import map_digest
from hsifcn.inference.bundle import Bundle, load_model

COMMANDS = ("train", "compare-patch-vs-fcn")
COSTS = {  # of metrics.json: not the same twice, or told as a cause
    *("train_seconds", "predict_seconds", "peak_rss_bytes", "baseline_rss_bytes"),
    *("threads", "device", "machine", "versions", "command", "map_digests"),
}
FIGURES_OF_CONTENDERS = ("status", "steps", "oa", "aa", "kappa", "per_class_recall", "confusion")


@dataclass(frozen=True)
class RecordedCommand:
    """How a finished run was made.

    Attributes
    ----------
    words : list of str
        The command, without ``hsifcn``.
    folder : str
        Where it was given; the current folder for runs that do not tell.
    threads : int or None
        That it computed with.
    """

    words: list[str]
    folder: str
    threads: int | None

    def __str__(self) -> str:
        return shlex.join(["hsifcn", *self.words])


def read_json(path: Path) -> dict[str, Any]:
    """An object of a JSON file.

    Raises
    ------
    UnreadableFileError
        It is missing or damaged.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path} does not exist", "name a finished run") from error
    except (OSError, ValueError) as error:
        raise UnreadableFileError(f"{path} is damaged", "train anew") from error
    if not isinstance(found, dict):
        raise UnreadableFileError(f"{path} is damaged", "train anew")
    return found


def is_comparison(run: Path) -> bool:
    """Whether a folder holds a comparison, and no run."""
    return (run / "comparison.json").exists() and not (run / "metrics.json").exists()


def recorded_command(run: Path) -> RecordedCommand:
    """The command that made a run or a comparison.

    Raises
    ------
    UnreadableFileError
        There is no finished run, or it is damaged.
    SettingError
        The run tells no command that trains or compares, or one that imports a module.
    """
    if is_comparison(run):
        config, metrics = read_json(run / "comparison.json"), {}
    else:
        metrics, config = read_json(run / "metrics.json"), read_json(run / "config.json")
    text = str(config.get("command") or "")
    try:
        program, *words = shlex.split(text)
    except ValueError:  # none, or quotes that do not close
        program, words = "", []
    if program != "hsifcn" or not words or words[0] not in COMMANDS:
        raise SettingError(f"{run} tells no command that trains or compares", "run it by hand")
    if imports_a_module(words):
        raise SettingError(f"{run} took a model of another module", f"run it by hand: {text}")
    threads = metrics.get("threads")
    return RecordedCommand(
        [word for word in words if word != "--resume"],
        str(config.get("working_folder") or Path.cwd()),
        threads if isinstance(threads, int) else None,
    )


def imports_a_module(words: Sequence[str]) -> bool:
    """Whether a command asks for a model ``my_module:Net``: code that is not hsifcn's."""
    return any(
        ":" in word and (word.startswith("--models=") or before == "--models")
        for before, word in itertools.pairwise(words)
    )


def compare_runs(run: Path, again: Path) -> dict[str, Any]:
    """Compare two runs, or two comparisons, of one command.

    Parameters
    ----------
    run, again : Path
        Their folders.

    Returns
    -------
    dict
        ``same``; ``weights`` and ``maps``: a row a file or scene with ``name``, ``same``, digests
        (``digest``, ``digest_again``), for weights the ``largest_difference``; ``n_figures``, and
        ``figures``, those that differ: ``name``, ``value``, ``value_again``; ``causes``: what else
        differs between the two, as sentences.
    """
    compare = is_comparison(run)
    weights = [
        weights_row(name, load_model(run / name), load_model(again / name))
        for name in weight_files(run)
        if (again / name).exists()
    ]
    maps = maps_of_comparisons(run, again) if compare else maps_of_runs(run, again)
    ours, theirs = (dict(figures(folder)) for folder in (run, again))
    differing = [
        {"name": name, "value": ours.get(name), "value_again": theirs.get(name)}
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    ]
    same = not differing and all(row["same"] for row in [*weights, *maps])
    return {
        "run": str(run),
        "again": str(again),
        "same": same,
        "weights": weights,
        "maps": maps,
        "n_figures": len(ours),
        "figures": differing,
        "causes": [] if same else list(causes(run, again)),
    }


def weight_files(run: Path) -> list[str]:
    """Models of a run or comparison, relative to its folder."""
    pattern = "jobs/split-*/*.safetensors" if is_comparison(run) else "model.safetensors"
    return [path.relative_to(run).as_posix() for path in sorted(run.glob(pattern))]


def weights_digest(bundle: Bundle) -> str:
    """SHA-256 of the weights' names and bytes, first 16 hex digits."""
    content = hashlib.sha256()
    for name, tensor in sorted(bundle.weights.items()):
        content.update(name.encode())
        content.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return content.hexdigest()[:16]


def weights_row(name: str, ours: Bundle, theirs: Bundle) -> dict[str, Any]:
    """Whether two models have the same weights, and how far they are apart."""
    digests = weights_digest(ours), weights_digest(theirs)
    largest = None
    if ours.spec == theirs.spec:
        largest = max(
            float((tensor.double() - theirs.weights[key].double()).abs().max())
            for key, tensor in ours.weights.items()
            if tensor.numel()
        )
    return {
        "name": name,
        "same": digests[0] == digests[1],
        "digest": digests[0],
        "digest_again": digests[1],
        "largest_difference": largest,
    }


def maps_of_runs(run: Path, again: Path) -> list[dict[str, Any]]:
    """The map of each scene of two runs; none where a run of an older version tells no digests."""
    metrics, of_again = (read_json(folder / "metrics.json") for folder in (run, again))
    pairs = zip(metrics.get("map_digests") or (), of_again.get("map_digests") or (), strict=False)
    return [
        map_row(f"scene {number}", ours, theirs) for number, (ours, theirs) in enumerate(pairs, 1)
    ]


def maps_of_comparisons(run: Path, again: Path) -> list[dict[str, Any]]:
    """The map of each contender, split and seed."""
    rows = []
    for path in sorted(run.glob("jobs/split-*/*-map.npy")):
        name = path.relative_to(run).as_posix()
        if (again / name).exists():
            ours, theirs = (np.load(folder / name, allow_pickle=False) for folder in (run, again))
            rows.append(map_row(name, map_digest(ours), map_digest(theirs)))
    return rows


def map_row(name: str, digest: str, digest_again: str) -> dict[str, Any]:
    """Whether two maps are the same."""
    same = digest == digest_again
    return {"name": name, "same": same, "digest": digest, "digest_again": digest_again}


def figures(run: Path) -> Iterator[tuple[str, object]]:
    """Every figure of a run or comparison by name, ``per_class.Corn.recall`` for one."""
    if not is_comparison(run):
        metrics = read_json(run / "metrics.json")
        yield from leaves({key: value for key, value in metrics.items() if key not in COSTS})
        return
    for row in read_json(run / "comparison.json").get("contenders") or ():
        chosen = {key: row.get(key) for key in FIGURES_OF_CONTENDERS}
        yield from leaves(chosen, f"{row.get('split')}.{row.get('name')}.")


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Name and value of all that is no mapping; a list is one value."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def causes(run: Path, again: Path) -> Iterator[str]:
    """What the two record differently of versions, machine, threads and inputs."""
    surroundings, of_again = (dict(leaves(environment(folder))) for folder in (run, again))
    for name, value in surroundings.items():
        if name in of_again and of_again[name] != value:
            yield f"{name.replace('_', ' ')}: {value} before, {of_again[name]} now"
    if digests(run) != digests(again):
        yield "the split is another one: labels, or how hsifcn splits them, have changed"
    for name in weight_files(run):
        if (again / name).exists():
            ours, theirs = load_model(run / name), load_model(again / name)
            if not np.array_equal(ours.scaling.mean, theirs.scaling.mean):
                yield "the scene is another one: the means of its bands differ"
                return


def environment(run: Path) -> dict[str, Any]:
    """Versions, processor, threads and device that a run or comparison records."""
    if is_comparison(run):
        found = dict(read_json(run / "comparison.json").get("environment") or {})
    else:
        metrics = read_json(run / "metrics.json")
        found = {**(metrics.get("versions") or {}), **(metrics.get("machine") or {})}
        found |= {key: metrics.get(key) for key in ("threads", "device")}
    found.pop("memory_bytes", None)
    return found


def digests(run: Path) -> list[object]:
    """Digests of the splits."""
    if is_comparison(run):
        splits = read_json(run / "comparison.json").get("splits") or ()
    else:
        splits = [read_json(run / "metrics.json").get("split") or {}]
    return [split.get("digest") for split in splits]
