"""What a run takes behind training, known beforehand: mapping the scenes, and the report."""

from __future__ import annotations

from dataclasses import replace

from hsifcn.core.errors import MemoryCeilingError
from hsifcn.core.process import rss_bytes
from hsifcn.data.dataset import Inputs
from hsifcn.inference.refine.potentials import DEFAULTS
from hsifcn.inference.tiling import plan_scene
from hsifcn.models import default_spec
from hsifcn.training.settings import Settings

MAP_BYTES = 6  # a pixel of a map: its label and how sure it is
HEAP_SLACK = 16_000_000  # freed, but not given back to the system by the time of mapping
TRAINED_BYTES = 60_000_000  # that the process takes more once it has trained
REPORT_BYTES = 125_000_000  # of libraries: those that training and figures load
REPORT_PIXEL_BYTES = 20  # of maps, their pictures and leakage


def later_peak(
    inputs: Inputs, settings: Settings, members: int, max_memory: int | None, refine: str
) -> int:
    """Memory that a run is expected to take behind training, bytes; parameters of ``train_run``.

    Raises
    ------
    MemoryCeilingError
        The report does not fit under the ceiling, or the scenes cannot be mapped under it.
    """
    report = reporting_peak(inputs, max_memory)
    return max(report, mapping_peak(inputs, settings, members, max_memory, refine))


def mapping_peak(
    inputs: Inputs, settings: Settings, members: int, max_memory: int | None, refine: str
) -> int:
    """Memory that mapping the scenes with the trained model is expected to take, bytes.

    Raises
    ------
    MemoryCeilingError
        They cannot be mapped within the ceiling.
    """
    held = bytes_of_maps(inputs) + TRAINED_BYTES
    peaks = []
    for scene in inputs.scenes:
        spec = default_spec(settings.model, scene.shape[2], len(inputs.class_names))
        plan = plan_scene(
            replace(spec, members=members), scene, less(max_memory, held), DEFAULTS.get(refine)
        )
        peaks.append(held + plan.peak_bytes)
    return max(peaks)


def bytes_of_maps(inputs: Inputs) -> int:
    """Memory of the maps of all scenes, and of how sure they are."""
    return MAP_BYTES * sum(split.labels.size for split in inputs.splits)


def less(ceiling: int | None, held: int) -> int | None:
    """What a ceiling leaves beside what is held; no ceiling leaves all."""
    return None if ceiling is None else max(1, ceiling - held - HEAP_SLACK)


def reporting_peak(inputs: Inputs, max_memory: int | None) -> int:
    """Memory that the process takes at the end, with the libraries that draw the report.

    Raises
    ------
    MemoryCeilingError
        That is over the ceiling.
    """
    pixels = sum(split.labels.size for split in inputs.splits)
    peak = rss_bytes() + REPORT_BYTES + REPORT_PIXEL_BYTES * pixels
    if max_memory is not None and peak > max_memory:
        raise MemoryCeilingError(
            f"{inputs.scenes[0].path} cannot be trained on within the memory given",
            f"with its report it takes --max-memory {-(-peak // 10**6)}M",
        )
    return peak
