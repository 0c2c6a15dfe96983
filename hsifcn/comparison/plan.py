"""What to compare: the plan of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field

from hsifcn.comparison.contenders import CLASSICAL, Contender
from hsifcn.models import DEFAULT_MODEL
from hsifcn.training.settings import default_settings

DEFAULT_SPLITS = {"random": "random:0.1", "disjoint": "checkerboard:14:gap=3"}
QUICK_CONTENDERS = ("svm7x7", "patch", "cast", DEFAULT_MODEL)
DEFAULT_CONTENDERS = (*CLASSICAL, "patch", "materialised", "cast", "fcn8s", DEFAULT_MODEL)


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes
    ----------
    scene, labels : str
        Paths.
    splits : dict of str to str
        Recipe by name.
    contenders : tuple of str
    patch : int
        Side of the patches.
    seeds : int
        Trainings of each contender on each split; the split is that of the first seed.
    first_seed : int
    wavelengths, class_names : str or None
        Text files.
    bands, keep_bad_bands
        Of ``bands.with_chosen_bands``.
    label_field, all_touched
        Of ``inputs.Labelling``.
    steps : int or None
        Optimiser steps, if not the default.
    quick : bool
        Half the steps.
    budget_seconds : float
        Time for measuring how cost grows with patch and scene; 0 leaves that out.
    device : str
        Where networks run: ``cpu``, ``cuda`` or ``mps``.
    max_memory : int or None
        Ceiling on the resident memory of each contender's process, bytes.
    command : str
        As it was called, for the page.
    """

    scene: str
    labels: str
    splits: dict[str, str] = field(default_factory=lambda: dict(DEFAULT_SPLITS))
    contenders: tuple[str, ...] = DEFAULT_CONTENDERS
    patch: int = 15
    seeds: int = 3
    first_seed: int = 0
    wavelengths: str | None = None
    class_names: str | None = None
    bands: str | None = None
    keep_bad_bands: bool = False
    label_field: str | None = None
    all_touched: bool = False
    steps: int | None = None
    quick: bool = False
    budget_seconds: float = 0.0
    device: str = "cpu"
    max_memory: int | None = None
    command: str = ""

    def steps_of(self, contender: Contender) -> int | None:
        """Steps that a contender trains, None for the default."""
        if self.steps is None and self.quick and contender.kind != "classical":
            return default_settings(contender.model).steps // 2
        return self.steps
