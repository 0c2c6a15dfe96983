"""What the launcher asks of a worker, and the exit codes that it answers with."""

from __future__ import annotations

from dataclasses import dataclass

NO_ROOM = 3  # the task does not fit into memory
INTERRUPTED = 130
LEAST_GAIN = 0.02  # share of the validation loss that doubled steps must save
MOST_DOUBLINGS = 2  # of the default number of steps


@dataclass(frozen=True)
class Task:
    """What one worker does; paths are absolute.

    Attributes
    ----------
    kind : str
        ``train``, ``predict`` or ``classical`` (which does both).
    scene : str
    storage : str
        Of the contender.
    device : str
    model : str
        Of the contender; unused where weights are given.
    split, bundle : str
        Files of the split, and of the weights that are written or used. A training without a
        bundle only shows what it costs.
    map, logits : str
        Where labels (rows, cols) and, if named, logits (classes, rows, cols) are written, ``.npy``.
    regime : str
        What a network learns from.
    steps : int or None
        Optimiser steps; None until the network no longer gains.
    seed, max_memory, wavelengths, nodata, bands, keep_bad_bands
        Of the experiment.
    class_names, colours : tuple
        Of classes 1, 2, ...
    """

    kind: str
    scene: str
    storage: str
    device: str
    model: str = ""
    split: str = ""
    bundle: str = ""
    map: str = ""
    logits: str = ""
    regime: str = "labels-alone"
    seed: int = 0
    steps: int | None = None
    max_memory: int | None = None
    wavelengths: str | None = None
    nodata: float | None = None
    bands: str | None = None
    keep_bad_bands: bool = False
    class_names: tuple[str, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
