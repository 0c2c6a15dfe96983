"""What a model is worth on another scene, or on the same scene on another day.

    python -m benchmarks.transfer [--seeds 5] [--workers 2] [--only hsifcn,svm] [--write]

Trains on a part of Indian Pines, or on all of it, and maps another part, or the same ground under
another light: gains, offsets, haze, noise, half a pixel's shift, other units, another sensor. Every
map is made plain and with ``--adapt``; SVM, random forest and the patch CNN learn from the same
pixels and get the same adaptation. Accuracy is that at labelled pixels of classes that training
knew. ``--write`` puts the tables into ``docs/transfer.md``. Trained networks stay under
``runs/benchmarks/transfer``; remove that folder to train anew. SVM and random forest need those of
``hsifcn``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.command import Figures, run_hsifcn
from benchmarks.measuring import (
    RESULTS,
    accuracy_at,
    add_cell_options,
    kept,
    measure_cells,
    oa_and_aa,
)
from benchmarks.pages import DOCS, counted, markdown_table, where_measured, write_page
from benchmarks.rasters import LabelImage, indian_pines
from hsifcn.core.errors import FailedError, HsifcnError
from hsifcn.data.splits import Split, make_split
from hsifcn.io import open_scene
from hsifcn.io.files import make_folder

NETWORKS = ("hsifcn", "patch15")
CLASSIFIERS = ("svm", "rf")
SCENE = "the whole scene"
FOLDER = RESULTS / "transfer"
PAGE = DOCS / "transfer.md"

Cube = npt.NDArray[Any]
Region = tuple[slice, slice]
Change = Callable[[npt.NDArray[np.float32]], Cube]


@dataclass(frozen=True)
class Training:
    """What is learnt from: pieces of the scene, each a file of its own, and a split of each.

    ``targets`` are the pieces that are mapped; where they are those of training, test pixels
    measure the map.
    """

    name: str
    pieces: tuple[Region, ...]
    recipe: str
    targets: tuple[Region, ...]


def region(top: int, bottom: int, left: int, right: int) -> Region:
    """Rows and columns of a piece."""
    return slice(top, bottom), slice(left, right)


NORTH, SOUTH = region(0, 73, 0, 145), region(73, 145, 0, 145)
WEST, EAST = region(0, 145, 0, 73), region(0, 145, 73, 145)
SIX = tuple(
    region(top, bottom, left, right)
    for top, bottom in ((0, 49), (49, 97), (97, 145))
    for left, right in ((0, 73), (73, 145))
)
WHOLE = (region(0, 145, 0, 145),)
TRAININGS = (
    Training(SCENE, WHOLE, "random:0.1", WHOLE),
    Training("six pieces, all six again", SIX, "random:0.1", SIX),
    Training("north half to south half", (NORTH,), "all", (SOUTH,)),
    Training("south half to north half", (SOUTH,), "all", (NORTH,)),
    Training("west half to east half", (WEST,), "all", (EAST,)),
    Training("east half to west half", (EAST,), "all", (WEST,)),
    Training("four northern pieces to two southern", SIX[:4], "all", SIX[4:]),
)


def gain(factor: float) -> Change:
    """Brighter or darker."""
    return lambda cube: np.asarray(cube * np.float32(factor))


def smooth_offset(cube: npt.NDArray[np.float32]) -> Cube:
    """An offset that varies slowly over the bands, up to 5 % of the mean of the scene."""
    wave = np.linspace(0, 1, cube.shape[2])
    return cube + np.float32(0.05 * cube.mean()) * np.sin(2 * np.pi * wave + 1).astype(np.float32)


def haze(cube: npt.NDArray[np.float32]) -> Cube:
    """Path radiance that falls with the fourth power of the wavelength, and 3 % less contrast."""
    relative = 400 / np.linspace(400, 2500, cube.shape[2])
    return 0.97 * cube + np.float32(0.2 * cube.mean()) * (relative**4).astype(np.float32)


def noise(cube: npt.NDArray[np.float32]) -> Cube:
    """Gaussian noise of a fiftieth of the mean of each band."""
    drawn = np.random.default_rng(0).standard_normal(cube.shape, np.float32)
    return np.asarray(cube + drawn * cube.mean((0, 1)) / 50)


def half_pixel(cube: npt.NDArray[np.float32]) -> Cube:
    """Shifted by half a pixel along rows and columns, bilinear."""
    padded = np.pad(cube, ((0, 1), (0, 1), (0, 0)), mode="edge")
    mixed: Cube = (padded[1:, 1:] + padded[:-1, 1:] + padded[1:, :-1] + padded[:-1, :-1]) / 4
    return mixed


def other_sensor(cube: npt.NDArray[np.float32]) -> Cube:
    """Resampled to 160 bands of another sensor, and linearly back to these bands."""
    wave, other = np.linspace(0, 1, cube.shape[2]), np.linspace(0, 1, 160)
    response = np.exp(-0.5 * ((wave[:, None] - other) * 2 * 160) ** 2)
    back = np.array([np.interp(wave, other, unit) for unit in np.eye(160)])
    both = (response / response.sum(0)) @ back
    return np.asarray(cube @ both.astype(np.float32))


CHANGES: dict[str, Change] = {
    "same day": lambda cube: cube,
    **{f"gain {factor}": gain(factor) for factor in (0.8, 0.9, 0.97, 1.01, 1.03, 1.1, 1.25)},
    "smooth offset": smooth_offset,
    "haze": haze,
    "noise": noise,
    "half a pixel": half_pixel,
    "8 bits": lambda cube: np.round(cube * (255 / cube.max())).astype(np.uint8),
    "values x 16": gain(16),
    "another sensor and back": other_sensor,
}


@dataclass(frozen=True)
class TransferCell:
    """One contender, trained once, and all that it maps."""

    training: Training
    contender: str
    seed: int

    @property
    def file(self) -> Path:
        """Where its figures are kept."""
        return FOLDER / f"{self.training.name.replace(' ', '-')}_{self.contender}_{self.seed}.json"

    def measure(self) -> Figures:
        """Train, and map every change, plain and adapted."""
        cube, labels = indian_pines()
        seen, test = pixels_of(self.training, self.seed)
        known = np.isin(labels, np.unique(labels[seen]))
        mapper = NetworkMapper if self.contender in NETWORKS else ClassifierMapper
        contender = mapper(self.training, self.contender, self.seed)
        figures: Figures = {}
        for name, change in changes_of(self.training).items():
            for adapt in (False, True):
                mapped = np.zeros_like(labels)
                title = f"{name}, adapted" if adapt else name
                try:
                    for piece in self.training.targets:
                        mapped[piece] = contender.map(change(cube[piece]), adapt)
                except HsifcnError as error:
                    figures[title] = {"skipped": error.message}
                    continue
                found = accuracy_at(mapped, labels, test & known)
                figures[title] = {"oa": found.oa, "aa": found.aa}
        return {"maps": figures, **figures["same day"]}


def changes_of(training: Training) -> dict[str, Change]:
    """The changes that a training is tried on: all for the whole scene, none for others."""
    return CHANGES if training.name == SCENE else {"same day": CHANGES["same day"]}


def pixels_of(training: Training, seed: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Labelled pixels that are learnt from, and those that measure the map."""
    _, labels = indian_pines()
    seen, test = np.zeros(labels.shape, bool), np.zeros(labels.shape, bool)
    for piece in training.pieces:
        if training.recipe == "all":
            seen[piece] = labels[piece] > 0
        else:
            split = make_split(labels[piece], training.recipe, seed=seed)
            seen[piece], test[piece] = split.train | split.validation, split.test
    for piece in training.targets:
        if training.recipe == "all":
            test[piece] = labels[piece] > 0
    return seen, test


def trained_run(training: Training, model: str, seed: int) -> Path:
    """The run directory of a network, trained where it is not there yet."""
    cube, labels = indian_pines()
    folder = FOLDER / "runs" / f"{training.name.replace(' ', '-')}_{model}_{seed}"
    make_folder(folder)
    run = folder / "run"
    if not (run / "metrics.json").exists():
        scenes, given = [], []
        for number, piece in enumerate(training.pieces):
            path = folder / f"piece{number}.npy"
            np.save(path, cube[piece].astype(np.int16))
            np.save(path.with_name(f"{path.stem}_gt.npy"), labels[piece].astype(np.uint8))
            scenes.append(str(path))
            given += ["-l", str(path.with_name(f"{path.stem}_gt.npy"))]
        run_hsifcn(
            *("train", *scenes, *given, "-m", model, "-s", training.recipe),
            *("--seed", str(seed), "-o", str(run), "--overwrite", "--device", "cpu"),
        )
    return run


class NetworkMapper:
    """A trained network, which maps with ``hsifcn predict``."""

    def __init__(self, training: Training, model: str, seed: int) -> None:
        self.run = trained_run(training, model, seed)

    def map(self, cube: Cube, adapt: bool) -> LabelImage:
        """Map a scene; labels (rows, cols)."""
        scene = self.run.with_name("target.npy")
        np.save(scene, as_file(cube))
        target = self.run.with_name("target_map.npy")
        more = ["--adapt"] if adapt else []
        command = ["predict", str(self.run), str(scene), "-o", str(target), "--overwrite", *more]
        try:
            run_hsifcn(*command, "--device", "cpu")
        except FailedError as error:
            raise FailedError(error.message.replace(f"{self.run.parent}/", "")) from error
        return np.asarray(np.load(target), np.uint16)


def as_file(cube: Cube) -> Cube:
    """Counts as a file holds them: int16 where they fit."""
    if cube.dtype == np.uint8 or cube.max() > np.iinfo(np.int16).max:
        return cube
    return cube.round().astype(np.int16)


class ClassifierMapper:
    """A classifier of single spectra, which learns from the pixels that the network learns from.

    It adapts by the gain and offset that the network's model finds.
    """

    def __init__(self, training: Training, name: str, seed: int) -> None:
        from hsifcn.comparison.baselines import fit
        from hsifcn.inference.bundle import load_model

        cube, labels = indian_pines()
        region_spectra = np.concatenate([cube[piece].reshape(-1, 200) for piece in training.pieces])
        self.mean, self.std = region_spectra.mean(0), region_spectra.std(0)
        seen, _ = pixels_of(training, seed)
        nothing = np.zeros_like(seen)
        split = Split(labels, seen, nothing, (labels > 0) & ~seen, training.recipe, seed)
        self.classifier = fit(name, self.features(cube), split, seed)
        run = trained_run(training, "hsifcn", seed)
        self.bundle = load_model(run / "model.safetensors")
        self.scratch = run.with_name(f"target-{name}.npy")

    def features(self, cube: Cube) -> npt.NDArray[np.float32]:
        """Standardised spectra, (pixels, bands)."""
        found = (cube.reshape(-1, cube.shape[2]) - self.mean) / self.std
        return np.asarray(found, np.float32)

    def under_the_light_of_training(self, cube: npt.NDArray[np.float32]) -> Cube:
        """A scene as the training scene would show it, as ``--adapt`` has it."""
        from hsifcn.inference.scene_shift import adapt

        np.save(self.scratch, cube)
        adapted, _, _ = adapt(self.bundle, open_scene(self.scratch))
        bands, here, there = self.bundle.good_bands, adapted.scaling, self.bundle.scaling
        changed = cube.copy()
        changed[..., bands] = (cube[..., bands] - here.mean) / here.std * there.std + there.mean
        return changed

    def map(self, cube: Cube, adapt: bool) -> LabelImage:
        """Map a scene; labels (rows, cols)."""
        cube = as_file(cube).astype(np.float32)
        if adapt:
            cube = self.under_the_light_of_training(cube)
        return np.asarray(
            self.classifier.predict(self.features(cube)).reshape(cube.shape[:2]), np.uint16
        )


def table(cells: Sequence[TransferCell]) -> list[str]:
    """OA / AA of every contender on every map, plain and adapted."""
    contenders = [
        (name, adapt) for name in (*NETWORKS, *CLASSIFIERS) for adapt in ("", ", adapted")
    ]
    header = ["learnt from", "map of", *(f"{name}{adapt}" for name, adapt in contenders)]
    rows = []
    for training in TRAININGS:
        for change in changes_of(training):
            row = [training.name, change]
            for name, adapt in contenders:
                own = [c for c in cells if (c.training.name, c.contender) == (training.name, name)]
                maps = [figures["maps"] for c in own if (figures := kept(c)) and "maps" in figures]
                runs = [found[f"{change}{adapt}"] for found in maps]
                row.append(oa_and_aa([run for run in runs if "oa" in run]))
            if any(row[2:]):
                rows.append(row)
    return markdown_table(header, [*rows, *mean_of_halves(rows)])


def mean_of_halves(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The mean of the four directions, of contenders that were measured in all of them."""
    halves = [row for row in rows if " half to " in row[0]]
    if len(halves) < 4:
        return []
    means = []
    for cells in zip(*(row[2:] for row in halves), strict=True):
        if not all(cells):
            means.append("")
            continue
        pairs = np.array([[float(value) for value in cell.split(" / ")] for cell in cells])
        means.append(" / ".join(f"{value:.1f}" for value in pairs.mean(0)))
    return [["half to half, mean of four", "same day", *means]]


def reasons(cells: Sequence[TransferCell]) -> list[str]:
    """Why maps are missing."""
    found = set()
    for figures in filter(None, map(kept, cells)):
        for part in (figures, *figures.get("maps", {}).values()):
            found.add(part.get("skipped"))
    return [f"Left out: {reason}." for reason in sorted(filter(None, found))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    add_cell_options(parser)
    given = parser.parse_args()
    cells = [
        TransferCell(training, contender, seed)
        for contender in (*NETWORKS, *CLASSIFIERS)
        for training in TRAININGS
        if given.rows in training.name
        for seed in range(given.seeds)
    ]
    for contenders in (NETWORKS, CLASSIFIERS):  # classifiers need the networks' models
        measure_cells([cell for cell in cells if cell.contender in contenders], given)
    lines = [
        "# Another scene, another day",
        "",
        f"OA / AA in per cent, means of {counted(given.seeds, 'seed')}, on {where_measured()}; "
        "printed by `python -m benchmarks.transfer --write`. Models learn from Indian Pines, or "
        "from a part of it, and map another part, or the same ground after a change. Adapted: with "
        "`--adapt`; SVM, random forest and patch CNN get the same adaptation. Only classes that "
        "training knew count.",
        "",
        *table(cells),
        "",
        *reasons(cells),
    ]
    print("\n".join(lines))
    if given.write:
        write_page(PAGE, lines)


if __name__ == "__main__":
    main()
