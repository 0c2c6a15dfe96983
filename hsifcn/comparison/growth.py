"""How cost and accuracy grow with the side of the patch and with the size of the scene.

Measured while the budget lasts, in fresh processes like everything in a comparison; what is beyond
it is extrapolated by a fitted line and marked so (``measured`` is False).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hsifcn.comparison.experiment import Contender, Experiment, contenders
from hsifcn.comparison.launcher import OpenCase, run_seed, run_task
from hsifcn.comparison.tables import patch_store_bytes, used_shape
from hsifcn.comparison.task import Task
from hsifcn.core.errors import FailedError, MemoryCeilingError
from hsifcn.core.scene import Scene, Window
from hsifcn.data.dataset import Dataset
from hsifcn.evaluation.metrics import Accuracy, confusion_matrix
from hsifcn.models import MODELS, default_spec
from hsifcn.models.flops import training_step_flops
from hsifcn.training.patches import PATCH_BATCH

PATCHES = (5, 9, 15, 21, 27)
REPEATS = (1, 2, 4, 8)  # a mosaic repeats the scene so often along rows and along columns
# What is extrapolated, and what of it does not grow: memory grows above the process's baseline.
FITTED_BY_SCENE = {"predict_seconds": None, "peak_predict_bytes": "baseline_bytes"}
FITTED_BY_PATCH = {
    **FITTED_BY_SCENE,
    "train_seconds": None,
    "peak_train_bytes": "train_baseline_bytes",
}

Say = Callable[[str], None]
Row = dict[str, Any]


def by_patch(opened: OpenCase, budget: float, say: Say) -> list[Row]:
    """Windowed patch CNNs of several sides, one seed each: time, memory, OA and AA.

    The experiment's own side was measured already and costs nothing; the others follow from the
    smallest on, as long as the seconds expected from their FLOPs fit into the budget.
    """
    experiment, dataset = opened.experiment, opened.dataset
    scene, n_classes, split = dataset.scenes[0], dataset.n_classes, dataset.splits[0]
    truth = np.where(split.test, split.labels, 0)
    rows: list[Row] = []
    spent = 0.0
    per_flop = 0.0
    own, steps = experiment.patch, experiment.steps_of(contenders(experiment.patch)["patch"])
    for patch in sorted({*PATCHES, own}, key=lambda side: (side != own, side)):
        contender = contenders(patch)["patch"]
        spec = default_spec(contender.model, used_shape(scene)[2], n_classes)
        flops = training_step_flops(spec, (PATCH_BATCH, patch, patch))
        row: Row = {"patch": patch, "contender": "patch", "measured": False}
        row["patch_store_bytes"] = int(np.prod(used_shape(scene))) * patch * patch * 4
        rows.append(row)
        if patch != own and (not per_flop or spent + per_flop * flops > budget):
            continue
        stem = f"patch-{experiment.first_seed}" if patch == own else f"patch{patch}-growth"
        if patch != own:
            say(f"growth with the patch: {patch}x{patch}")
        try:
            result = run_seed(contender, stem, experiment.first_seed, opened, steps)
        except (FailedError, MemoryCeilingError) as error:
            say(f"growth with the patch: {patch}x{patch} left out: {error}")
            continue
        steps = result["steps"]  # of all patches those of the first, the experiment's own
        seconds = result["train_seconds"] + result["predict_seconds"]
        per_flop = seconds / flops
        spent += seconds if patch != own else 0.0
        labels = np.load(opened.folder / f"{stem}-map.npy")
        accuracy = Accuracy.from_confusion(
            confusion_matrix(truth, labels, len(dataset.measured_names))
        )
        row |= {key: result[key] for key in measured_keys(FITTED_BY_PATCH)}
        row |= {"measured": True, "oa": accuracy.oa, "aa": accuracy.aa}
    rows.sort(key=lambda row: int(row["patch"]))
    extrapolate(rows, FITTED_BY_PATCH, lambda row: float(row["patch"] ** 2))
    return rows


def by_scene(
    experiment: Experiment,
    dataset: Dataset,
    bundles: Mapping[Contender, Path],
    folder: Path,
    budget: float,
    say: Say,
) -> list[Row]:
    """Prediction of mosaics of the scene by networks trained on it: time and memory."""
    scene = dataset.scenes[0]
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    networks = {c: bundle for c, bundle in bundles.items() if c.model in MODELS}
    shares = {contender: budget / max(1, len(networks)) for contender in networks}
    expected = dict.fromkeys(networks, 0.0)
    for repeat in REPEATS:
        mosaic = Mosaic(scene, repeat, folder)
        shape = (*mosaic.shape[:2], used_shape(scene)[2])
        for contender, bundle in networks.items():
            row: Row = {
                "rows": mosaic.shape[0],
                "cols": mosaic.shape[1],
                "pixels": mosaic.shape[0] * mosaic.shape[1],
                "contender": contender.name,
                "measured": False,
                "patch_store_bytes": patch_store_bytes(contender, shape),
            }
            rows.append(row)
            if expected[contender] > shares[contender]:
                continue
            say(f"growth with the scene: {contender.label}, {repeat**2} times the pixels")
            try:
                result = predict_mosaic(contender, bundle, mosaic, folder, experiment.device)
            except (FailedError, MemoryCeilingError) as error:
                say(f"growth with the scene: {contender.label} left out: {error}")
                expected[contender] = float("inf")
                continue
            row |= {key: result[key] for key in measured_keys(FITTED_BY_SCENE)}
            row["measured"] = True
            shares[contender] -= result["predict_seconds"]
            expected[contender] = 4 * result["predict_seconds"]
        mosaic.remove()
    for contender in networks:
        mine = [row for row in rows if row["contender"] == contender.name]
        extrapolate(mine, FITTED_BY_SCENE, lambda row: float(row["pixels"]))
    return rows


class Mosaic:
    """The scene repeated along rows and columns, as an ``.npy`` file made when it is needed.

    Parameters
    ----------
    scene : Scene
    repeat : int
        Times along each axis.
    folder : Path
    """

    def __init__(self, scene: Scene, repeat: int, folder: Path) -> None:
        self.scene = scene
        self.repeat = repeat
        self.path = folder / f"mosaic-{repeat}.npy"
        rows, cols, bands = scene.shape
        self.shape = (repeat * rows, repeat * cols, bands)

    def file(self) -> Path:
        """The file, written row of tiles by row of tiles."""
        if not self.path.exists():
            rows, cols, _ = self.scene.shape
            strip = np.tile(self.scene.read(Window(0, 0, rows, cols)), (1, self.repeat, 1))
            header = {"descr": strip.dtype.str, "fortran_order": False, "shape": self.shape}
            with self.path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for _ in range(self.repeat):
                    file.write(strip.data)
        return self.path

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def predict_mosaic(
    contender: Contender, bundle: Path, mosaic: Mosaic, folder: Path, device: str
) -> Row:
    """Map a mosaic in a fresh process, or take up the result of an earlier one."""
    task = Task(
        kind="predict",
        scene=str(mosaic.file().absolute()),
        storage=contender.storage,
        device=device,
        model=contender.model,
        bundle=str(bundle.absolute()),
        map=str((folder / "map.npy").absolute()),
    )
    return run_task(task, folder / f"{contender.name}-{mosaic.repeat}")


def measured_keys(fitted: Mapping[str, str | None]) -> list[str]:
    """The keys that are extrapolated, and those of their baselines."""
    return [*fitted, *(baseline for baseline in fitted.values() if baseline)]


def extrapolate(
    rows: list[Row], fitted: Mapping[str, str | None], size: Callable[[Row], float]
) -> None:
    """Fill the rows that were not measured from a straight line through those that were.

    ``value = baseline + a + b size``, a and b at least 0, by least squares; through the baseline
    where there is one measured row only. Rows stay without values where there is none.
    """
    measured = [row for row in rows if row["measured"]]
    if not measured:
        return
    sizes = np.array([size(row) for row in measured])
    for key, baseline in fitted.items():
        floor = float(np.mean([row[baseline] for row in measured])) if baseline else 0.0
        values = np.array([row[key] for row in measured], float) - floor
        slope, start = float(np.mean(values / sizes)), 0.0
        if len(measured) > 1:
            slope, start = (float(part) for part in np.polyfit(sizes, values, 1))
            if start < 0 or slope < 0:
                slope, start = float((values * sizes).sum() / (sizes**2).sum()), 0.0
        for row in rows:
            if not row["measured"]:
                row[key] = floor + start + slope * size(row)
                if baseline:
                    row[baseline] = floor
