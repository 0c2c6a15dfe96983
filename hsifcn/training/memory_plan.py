"""The plan of a run: whole scenes or crops, memory and time, all known beforehand.

Training, mapping the scenes and drawing the report each have a peak of memory; the plan tells the
greatest. What a training step keeps for its backward pass grows with the pixels that it sees and
with nothing else, so it is counted on a small made-up scene, and timed there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from hsifcn.core.errors import MemoryCeilingError
from hsifcn.core.process import (
    FLOAT,
    FREE_SHARE,
    Stopwatch,
    free_memory,
    keep_memory_together,
    rss_bytes,
)
from hsifcn.core.scene import Scene
from hsifcn.data.dataset import Dataset
from hsifcn.inference.refine.potentials import DEFAULTS
from hsifcn.inference.tiling import plan_scene
from hsifcn.models import MODELS, ModelSpec, build, geometry
from hsifcn.propagation.features import PRINCIPAL, SMOOTHED_AT_ONCE, SMOOTHING
from hsifcn.propagation.mnf import COMPONENTS
from hsifcn.propagation.pseudo_labels import HALO, MAX_WINDOWS, PseudoLabels
from hsifcn.propagation.selection import MAX_KERNEL, MAX_LABELLED
from hsifcn.training.crops import EVALUATION_PIXELS, CropSize
from hsifcn.training.ranks import ALONE
from hsifcn.training.scenes import TrainingScene, WholeScenes, padded_pixels
from hsifcn.training.settings import TrainOptions
from hsifcn.training.sources import make_objective

LARGEST_WHOLE = 2**16  # pixels of all scenes together that every step sees whole
STEP_PIXELS = 2**16  # of the crops of a step
SIDES = (128, 64, 32)  # of crops
WIDE_HALO = 32  # beyond which crops have the largest side
TILE_SIDES = (256, 128, 96, 64, 32)  # of tiles of an evaluation
WINDOW_SIDES = (192, 96)  # of the cores of windows that labels are propagated over
PROPAGATION_SECONDS = 2.4e-4  # a pixel of them: Indian Pines on two cores
HALO_SHARE = 4  # of the side of a tile, a quarter at most is halo on each side
FORWARD_SHARE = 1 / 3  # of a step's time and memory that a pass without gradients takes
TRIAL_SIDE = 64  # pixels; of the scene on which a step is counted and timed
SAFE_SHARE = 0.95  # of a ceiling that is planned for: heaps differ by a few per cent
DOUBLE = 2 * FLOAT
TRIALS = 3  # the fastest of which is the least disturbed
WEIGHTS_HELD = 6  # times: themselves, gradients, two moments, their average and the best so far
GRADIENTS_HELD = 2  # of the widest layer, while all is still there that was kept
SOLVER_VALUES = 8  # a pixel and component, while components are smoothed
PROPAGATION_VALUES = 14  # a pixel and class that propagation holds
KERNELS_HELD = 3  # matrices of labelled pixels by labelled pixels, while a kernel is fitted
LABELS_HELD = 6  # bytes a pixel of the scene: two label maps, and what finds their pixels
SCRATCH = 48 * 2**20  # bytes of small blocks and of what convolutions need beside their tensors
MAP_BYTES = 6  # a pixel of a map: its label and its confidence
HEAP_SLACK = 16_000_000  # freed, but not given back to the system by the time of mapping
TRAINED_BYTES = 60_000_000  # that the process takes more once it has trained
REPORT_BYTES = 125_000_000  # of libraries: those that training and figures load
REPORT_PIXEL_BYTES = 20  # of maps, their pictures and leakage


@dataclass(frozen=True)
class TrainingPlan:
    """How a network will be trained.

    Attributes
    ----------
    crops : CropSize or None
        None where every step sees the whole scenes, or patches of them.
    peak_bytes : int
        Resident memory of the process that is expected at most.
    seconds : float
        That the steps are expected to take.
    """

    crops: CropSize | None
    peak_bytes: int
    seconds: float


@dataclass(frozen=True)
class Trial:
    """A step on a small scene: the bytes that it keeps for its backward pass, and its seconds."""

    kept: int
    seconds: float


@dataclass(frozen=True)
class Need:
    """Memory that training takes, bytes.

    Attributes
    ----------
    fixed : int
        Held already, and by weights and optimiser.
    labels : int
        Held where scenes are not.
    cube : int
        A pixel: the standardised spectrum.
    step : float
        A pixel that a step sees, beside the cube.
    propagation : int
        A pixel, while labels are propagated over it.
    fitting : int
        While spectral classifiers are fitted to labelled pixels.
    reading : int
        A pixel of the crop that is read.
    """

    fixed: int
    labels: int
    cube: int
    step: float
    propagation: int
    fitting: int
    reading: int

    def whole(self, pixels: int) -> int:
        """Memory for scenes of so many pixels, all of which the network is given at once."""
        propagation = self.fitting + pixels * self.propagation
        return int(self.fixed + pixels * self.cube + max(pixels * self.step, propagation))

    def window(self, side: int) -> int:
        """Memory for a window that labels are propagated over."""
        return self.fitting + side**2 * (self.cube + self.propagation + self.reading)

    def training(self, crops: int, side: int) -> int:
        """Memory for so many crops at once."""
        return int(crops * side**2 * (self.cube + self.step) + side**2 * self.reading)

    def evaluating(self, tiles: int, pixels: int) -> int:
        """Memory for so many tiles at once, of so many pixels each."""
        return int(tiles * pixels * (self.cube + FORWARD_SHARE * self.step) + pixels * self.reading)


def plan_training(
    dataset: Dataset, spec: ModelSpec, options: TrainOptions, *, maps_too: bool = False
) -> TrainingPlan:
    """How to train so that the process stays within the ceiling of memory.

    Parameters
    ----------
    dataset : Dataset
    spec : ModelSpec
    options : TrainOptions
    maps_too : bool
        The process maps the scenes and draws a report afterwards.

    Raises
    ------
    MemoryCeilingError
        Not even the smallest crops fit, or the scenes cannot be mapped, or the report drawn.
    """
    later = 0
    if maps_too:
        later = max(report_peak(dataset, options), mapping_peak(dataset, spec, options))
    labelled = sum(split.n_train + split.n_validation for split in dataset.splits)
    plan = plan_steps(dataset.scenes, spec, options, labelled)
    return replace(plan, peak_bytes=max(plan.peak_bytes, later))


def plan_steps(
    scenes: Sequence[Scene], spec: ModelSpec, options: TrainOptions, labelled: int
) -> TrainingPlan:
    """The plan of the training alone, on so many labelled pixels; see ``plan_training``."""
    steps, evaluations = options.steps, options.steps // options.evaluate_every
    trial = try_step(spec, options)
    pixels = padded_pixels([scene.shape[:2] for scene in scenes])
    ceiling = rss_bytes() + int(FREE_SHARE * free_memory())
    if options.max_memory is not None:
        ceiling = int(SAFE_SHARE * options.max_memory)
    if MODELS[spec.name].patch is not None:
        return plan_patches(spec, scenes, steps, trial, ceiling)
    need = memory_need(spec, scenes, trial, labelled)
    pixel_seconds = trial.seconds / TRIAL_SIDE**2 / options.ranks.size
    if pixels <= LARGEST_WHOLE and need.whole(pixels) <= ceiling:
        seconds = pixel_seconds * pixels * (steps + FORWARD_SHARE * evaluations)
        if options.propagation > 0:
            seconds += PROPAGATION_SECONDS * pixels
        return TrainingPlan(None, need.whole(pixels), seconds)
    pixels = sum(scene.shape[0] * scene.shape[1] for scene in scenes)
    crops, peak = choose_crops(spec, need, min(STEP_PIXELS, pixels), ceiling, scenes[0].path)
    step_pixels = crops.count * crops.side**2
    forward_pixels = FORWARD_SHARE * EVALUATION_PIXELS * evaluations
    seconds = pixel_seconds * (step_pixels * steps + forward_pixels)
    if options.propagation > 0:
        crops, peak = choose_windows(crops, peak, need, ceiling)
        seconds += PROPAGATION_SECONDS * propagated_pixels(crops.window, scenes)
    return TrainingPlan(crops, peak, seconds)


def plan_patches(
    spec: ModelSpec, scenes: Sequence[Scene], steps: int, trial: Trial, ceiling: int
) -> TrainingPlan:
    """How to train a patch CNN: on scenes held in memory, with two padded copies."""
    pixels = padded_pixels([scene.shape[:2] for scene in scenes])
    peak = rss_bytes() + SCRATCH + trial.kept + pixels * 3 * FLOAT * spec.bands
    if peak > ceiling:
        raise MemoryCeilingError(
            f"{scenes[0].path} does not fit into the memory given, and {spec.name} is trained on "
            "scenes held in memory",
            f"give --max-memory {ceiling_for(peak)}, or take another model",
        )
    return TrainingPlan(None, peak, trial.seconds * steps)


def memory_need(spec: ModelSpec, scenes: Sequence[Scene], trial: Trial, labelled: int) -> Need:
    """Memory that training a whole-scene network takes by arithmetic, the process's included."""
    weights = sum(parameter.nbytes for parameter in build(spec).parameters())
    widest = FLOAT * max(*spec.stem, spec.stem_channels, spec.widths[0])
    keep_memory_together()  # gives back what the trial step freed
    on_disk = max(scene.shape[2] * scene.dtype.itemsize for scene in scenes)
    # Minimum noise fractions, and principal components of spectra and of their shapes.
    components = min(COMPONENTS, spec.bands) + 2 * min(PRINCIPAL, spec.bands)
    features = DOUBLE * min(labelled, MAX_LABELLED) * len(SMOOTHING) * components
    kernel = DOUBLE * KERNELS_HELD * min(labelled, MAX_KERNEL) ** 2
    return Need(
        fixed=rss_bytes() + WEIGHTS_HELD * weights + SCRATCH,
        labels=LABELS_HELD * sum(scene.shape[0] * scene.shape[1] for scene in scenes),
        cube=FLOAT * spec.bands,
        step=trial.kept / TRIAL_SIDE**2 + GRADIENTS_HELD * widest,
        propagation=FLOAT * (spec.bands + len(SMOOTHING) * components)
        + FLOAT * SOLVER_VALUES * min(SMOOTHED_AT_ONCE, components)
        + FLOAT * PROPAGATION_VALUES * spec.classes,
        fitting=features + max(features, kernel),
        reading=2 * on_disk + FLOAT * spec.bands,
    )


def choose_crops(
    spec: ModelSpec, need: Need, pixels: int, ceiling: int, path: str
) -> tuple[CropSize, int]:
    """The largest crops and tiles that suit a network and fit, and the memory that they take.

    Parameters
    ----------
    spec : ModelSpec
    need : Need
    pixels : int
        That a step is to see.
    ceiling : int
        Bytes.
    path : str
        Of a scene, for the message.

    Raises
    ------
    MemoryCeilingError
        None fit.
    """
    room = ceiling - need.fixed - need.labels
    reach, stride = geometry(spec).halo, geometry(spec).stride
    wide = reach is None or reach > WIDE_HALO
    fitting = (
        (side, batch)
        for side in (SIDES if wide else SIDES[1:])
        for batch in range(max(1, pixels // side**2), 0, -1)
        if need.training(batch, side) <= room
    )
    side, batch = next(fitting, (0, 0))
    for tile in TILE_SIDES if wide else TILE_SIDES[1:]:
        halo = tile // HALO_SHARE if reach is None else min(reach, tile // HALO_SHARE)
        core = max(1, (tile - 2 * halo) // stride) * stride
        count = max(1, pixels // max(1, side**2))
        crops = CropSize(side, count, batch, core, halo, stride)
        evaluating = need.evaluating(crops.tiles_at_once, crops.tile_pixels)
        if batch and evaluating <= room:
            return crops, ceiling - room + max(need.training(batch, side), evaluating)
    least = max(need.training(1, SIDES[-1]), evaluating)
    raise MemoryCeilingError(
        f"{path} cannot be trained on within the memory given",
        f"the smallest crops take --max-memory {ceiling_for(ceiling - room + least)}",
    )


def choose_windows(crops: CropSize, peak: int, need: Need, ceiling: int) -> tuple[CropSize, int]:
    """The crops with the largest windows that labels can be propagated over, and the peak then."""
    held = need.fixed + need.labels
    for side in WINDOW_SIDES:
        if held + need.window(side + 2 * HALO) <= ceiling:
            return replace(crops, window=side), max(peak, held + need.window(side + 2 * HALO))
    return crops, peak


def propagated_pixels(side: int, scenes: Sequence[Scene]) -> int:
    """Pixels read at most to propagate labels over windows of such a core; none for 0."""
    if not side:
        return 0
    windows = sum(-(-scene.shape[0] // side) * -(-scene.shape[1] // side) for scene in scenes)
    return min(MAX_WINDOWS, windows) * (side + 2 * HALO) ** 2


def ceiling_for(peak: int) -> str:
    """The ceiling that such a peak is safe under, as the option takes it."""
    return f"{int(peak / SAFE_SHARE / 1e6) + 1}M"


def try_step(spec: ModelSpec, options: TrainOptions) -> Trial:
    """Count and time a step on a small made-up scene, whose labels and pseudo-labels are given."""
    torch.manual_seed(0)
    pixels = torch.arange(TRIAL_SIDE**2)
    targets = pixels % spec.classes
    cube = torch.randn(1, TRIAL_SIDE, TRIAL_SIDE, spec.bands).permute(0, 3, 1, 2)
    nothing = pixels[:0]
    pseudo_labels = PseudoLabels(targets, torch.full((len(pixels),), 1 / len(pixels)))
    scene = TrainingScene(
        cube, None, pixels, targets, nothing, nothing,
        pseudo_labels if options.propagation > 0 else None,
    )  # fmt: skip
    options = replace(options, materialised=False, ranks=ALONE)
    objective = make_objective(WholeScenes(scene, [(TRIAL_SIDE, TRIAL_SIDE)]), spec, options)
    network = build(spec).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kept = Kept(network)
    with kept:
        objective.backward(network, np.random.default_rng(0))
    seconds = []
    for _ in range(TRIALS):
        with Stopwatch() as watch:
            objective.backward(network, np.random.default_rng(0))
        seconds.append(watch.seconds)
    return Trial(sum(kept.sizes.values()), min(seconds))


class Kept(torch.autograd.graph.saved_tensors_hooks):
    """Counts what autograd keeps within a ``with`` block, weights left out: ``sizes`` in bytes."""

    def __init__(self, network: nn.Module) -> None:
        self.sizes: dict[int, int] = {}
        own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                self.sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        super().__init__(note, lambda tensor: tensor)


def mapping_peak(dataset: Dataset, spec: ModelSpec, options: TrainOptions) -> int:
    """Memory that mapping the scenes with the trained model is expected to take, bytes.

    Raises
    ------
    MemoryCeilingError
        They cannot be mapped within the ceiling.
    """
    held = bytes_of_maps(dataset) + TRAINED_BYTES
    ceiling, refinement = less(options.max_memory, held), DEFAULTS.get(options.refine)
    return max(
        held + plan_scene(spec, scene, ceiling, refinement).peak_bytes for scene in dataset.scenes
    )


def report_peak(dataset: Dataset, options: TrainOptions) -> int:
    """Memory that the process takes at the end, with the libraries that draw the report.

    Raises
    ------
    MemoryCeilingError
        That is over the ceiling.
    """
    keep_memory_together()  # gives back what reading the scenes freed
    pixels = sum(split.labels.size for split in dataset.splits)
    peak = rss_bytes() + REPORT_BYTES + REPORT_PIXEL_BYTES * pixels
    if options.max_memory is not None and peak > options.max_memory:
        raise MemoryCeilingError(
            f"{dataset.scenes[0].path} cannot be trained on within the memory given",
            f"with its report it takes --max-memory {-(-peak // 10**6)}M",
        )
    return peak


def bytes_of_maps(dataset: Dataset) -> int:
    """Memory of the maps of all scenes, and of their confidence."""
    return MAP_BYTES * sum(split.labels.size for split in dataset.splits)


def less(ceiling: int | None, held: int) -> int | None:
    """What a ceiling leaves beside what is held; no ceiling leaves all."""
    return None if ceiling is None else max(1, ceiling - held - HEAP_SLACK)
