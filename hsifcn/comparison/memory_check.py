"""What a contender must hold in memory at least, by arithmetic, before it is started.

Lower bounds, so that nobody is left out who would have fitted: arrays over all pixels or patches,
and what the backward pass needs of every convolution. Small things are left away.
"""

from __future__ import annotations

from dataclasses import dataclass

from hsifcn.comparison.plan import Contender
from hsifcn.core.process import free_memory, rss_bytes
from hsifcn.core.scene import Scene
from hsifcn.models import MODELS, default_spec
from hsifcn.models.flops import convolution_runs, on_meta
from hsifcn.training.memory_plan import LABELS_HELD
from hsifcn.training.patches import PATCH_BATCH

MEMORY_SHARE = 0.8  # of the free memory that one job may take
FLOAT = 4  # bytes of a float32

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Need:
    """Memory of a task: bytes, and the arithmetic in words."""

    bytes: int
    arithmetic: str


def used_shape(scene: Scene) -> Shape:
    """Rows, columns and the bands that were chosen; flat ones, left out later, are counted."""
    return (*scene.shape[:2], int(scene.good_bands.sum()))


def patch_store_bytes(contender: Contender, shape: Shape) -> int:
    """Float32 patches of every pixel of a (rows, cols, bands) scene; 0 where none are stored."""
    if contender.storage != "materialised":
        return 0
    rows, cols, bands = shape
    patch = MODELS[contender.model].patch or 0
    return rows * cols * patch * patch * bands * FLOAT


def prediction_need(contender: Contender, shape: Shape, classes: int) -> Need:
    """Memory that scoring every pixel takes at least."""
    rows, cols, bands = shape
    pixels = rows * cols
    cube, scores = pixels * bands * FLOAT, pixels * classes * FLOAT
    patch = MODELS[contender.model].patch if contender.model in MODELS else None
    if contender.storage == "materialised":
        return Need(
            patch_store_bytes(contender, shape) + cube + scores,
            f"{pixels:,} patches x {patch} x {patch} x {bands} bands x {FLOAT} bytes, the scene "
            "and its scores",
        )
    if contender.storage == "windowed":
        return Need(2 * cube + scores, "the standardised scene, its padded copy and its scores")
    if contender.kind == "classical":
        copies = 2 if contender.model.endswith("7x7") else 1
        return Need(copies * cube, f"the standardised scene, {copies} times")
    return Need(scores, "the scores of every pixel (the scene is read in tiles that fit)")


def training_need(contender: Contender, shape: Shape, classes: int) -> Need:
    """Memory that training takes at least; of materialised patches, those of the batch only."""
    rows, cols, bands = shape
    cube = rows * cols * bands * FLOAT
    if contender.kind == "classical":
        return prediction_need(contender, shape, classes)
    patch = MODELS[contender.model].patch
    if patch is None:
        return Need(LABELS_HELD * rows * cols, "the labels (the scene is read in crops that fit)")
    step = (PATCH_BATCH, patch, patch)
    network = on_meta(default_spec(contender.model, bands, classes))
    runs = convolution_runs(network, step[0], bands, *step[1:])
    # Batch norm's backward pass needs its input, the next convolution's needs what it is given.
    kept = 2 * FLOAT * sum(run.values for run in runs)
    return Need(
        2 * cube + kept,
        f"the standardised scene, twice, and {kept / 1e9:.1f} GB kept for the backward pass",
    )


def misfit(
    contender: Contender,
    shape: Shape,
    classes: int,
    device: str = "cpu",
    max_memory: int | None = None,
) -> str | None:
    """Why a contender does not fit into the memory that it may take; None where it may.

    Parameters
    ----------
    contender : Contender
    shape : tuple of int
        Rows, columns and bands of the scene.
    classes : int
    device : str
        Where it would run.
    max_memory : int, optional
        Ceiling on the resident memory of its process, bytes.
    """
    free = free_bytes(device)
    room, given = MEMORY_SHARE * free, f"{free / 1e9:.1f} GB are free"
    if max_memory is not None and device != "cuda" and max_memory - rss_bytes() < room:
        room = max_memory - rss_bytes()  # its libraries take what they take here
        given = f"{max(0.0, room) / 1e9:.1f} GB are left under the ceiling"
    for task, need in (
        ("training", training_need(contender, shape, classes)),
        ("prediction", prediction_need(contender, shape, classes)),
    ):
        if need.bytes > room:
            return (
                f"{task} would take {need.bytes / 1e9:.1f} GB at least ({need.arithmetic}), {given}"
            )
    return None


def free_bytes(device: str) -> int:
    """Memory that is free on a device, bytes."""
    if device != "cuda":
        return free_memory()
    import torch

    return int(torch.cuda.mem_get_info()[0])
