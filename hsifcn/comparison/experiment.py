"""What is compared: the experiment, and the contenders that may take part in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hsifcn.core.errors import SettingError
from hsifcn.models import DEFAULT_MODEL, MODELS, default_spec, geometry
from hsifcn.models.plugin import add_plugin, is_plugin
from hsifcn.training.memory_plan import LARGEST_WHOLE
from hsifcn.training.settings import default_options

CLASSICAL = {
    "svm": "SVM, single spectra",
    "svm7x7": "SVM, 7x7 means",
    "rf": "random forest, single spectra",
    "rf7x7": "random forest, 7x7 means",
}
REGIMES = {
    "labels-alone": "labels alone",
    "pseudo-labels": "labels, and pseudo-labels that a random walker propagates from them",
}
DEFAULT_SPLITS = {"random": "random:0.1", "disjoint": "checkerboard:14:gap=3"}
QUICK_CONTENDERS = ("svm7x7", "patch", "cast", DEFAULT_MODEL)
DEFAULT_CONTENDERS = (*CLASSICAL, "patch", "materialised", "cast", "fcn8s", DEFAULT_MODEL)


@dataclass(frozen=True)
class Case:
    """A split on which contenders learn in one regime: what one table of results is about.

    Attributes
    ----------
    name : str
        Of the split, and of the regime where it is not labels alone.
    recipe : str
        Of ``splits.make_split``.
    regime : str
        Key of ``REGIMES``: what networks learn from.
    """

    name: str
    recipe: str
    regime: str


@dataclass(frozen=True)
class Experiment:
    """What to compare.

    Attributes
    ----------
    scene, labels : str
        Paths.
    splits : dict of str to str
        Recipe by name.
    regimes : tuple of str
        Of ``REGIMES``; each split is compared in each.
    contenders : tuple of str
    patch : int
        Side of the patches.
    seeds, first_seed : int
        Trainings of each contender on each split, with seeds from the first on. The split is made
        with the first seed.
    wavelengths, class_names : str or None
        Text files.
    nodata : float or None
        Of ``open_scene``.
    bands, keep_bad_bands
        Of ``data.bands.with_chosen_bands``.
    label_field, all_touched
        Of ``data.dataset.Labelling``.
    steps : int or None
        Optimiser steps of every network. By default each is trained until it no longer gains, see
        ``tasks.train_until_no_gain``.
    fixed_steps : bool
        Take the default steps of each network, and do not look whether more would gain.
    quick : bool
        Take half of these.
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
    regimes: tuple[str, ...] = ("labels-alone",)
    contenders: tuple[str, ...] = DEFAULT_CONTENDERS
    patch: int = 15
    seeds: int = 3
    first_seed: int = 0
    wavelengths: str | None = None
    nodata: float | None = None
    class_names: str | None = None
    bands: str | None = None
    keep_bad_bands: bool = False
    label_field: str | None = None
    all_touched: bool = False
    steps: int | None = None
    fixed_steps: bool = False
    quick: bool = False
    budget_seconds: float = 0.0
    device: str = "cpu"
    max_memory: int | None = None
    command: str = ""

    @property
    def cases(self) -> tuple[Case, ...]:
        """Every split in every regime."""
        return tuple(
            Case(name if regime == "labels-alone" else f"{name}, {regime}", recipe, regime)
            for regime in self.regimes
            for name, recipe in self.splits.items()
        )

    def steps_of(self, contender: Contender) -> int | None:
        """Optimiser steps of a contender; None until it no longer gains."""
        if contender.kind == "classical" or self.steps is not None:
            return self.steps
        if self.quick or self.fixed_steps:
            return default_options(contender.model).steps // (2 if self.quick else 1)
        return None


@dataclass(frozen=True)
class Contender:
    """One row of the comparison.

    Attributes
    ----------
    name : str
        As ``--models`` takes it.
    label : str
        For people.
    kind : str
        ``classical``, ``patch``, ``cast`` or ``fcn``.
    storage : str
        How its input is kept: ``materialised`` (every patch copied), ``windowed`` (gathered batch
        by batch) or ``scene``.
    model : str
        Key of ``models.MODELS``, ``/folder/my_module.py:Net`` for one of another module; for a
        classical one, of ``CLASSICAL``.
    weights_of : str or None
        The contender whose trained weights it takes, None where it trains its own.
    """

    name: str
    label: str
    kind: str
    storage: str
    model: str
    weights_of: str | None = None


def contenders(patch: int) -> dict[str, Contender]:
    """All contenders by name, with patches of that side; one that trains comes before its casts."""
    side = f"{patch}x{patch}"
    model = f"patch{patch}"
    table = [
        Contender(name, label, "classical", "scene", name) for name, label in CLASSICAL.items()
    ]
    table += [
        Contender("patch", f"patch CNN {side}, windowed", "patch", "windowed", model),
        Contender(
            "materialised",
            f"patch CNN {side}, materialised",
            "patch",
            "materialised",
            model,
            "patch",
        ),
        Contender("cast", f"patch CNN {side}, cast", "cast", "scene", model, "patch"),
    ]
    for name, entry in MODELS.items():
        if entry.patch is None:
            table.append(Contender(name, f"FCN {name}", "fcn", "scene", name))
    return {contender.name: contender for contender in table}


def choose_contenders(names: Sequence[str], patch: int) -> list[Contender]:
    """The named contenders and those whose weights they take, in the order of ``contenders``.

    Raises
    ------
    SettingError
        An unknown name, or patches that are even or out of 5 to 31.
    """
    if patch not in range(5, 32, 2):
        raise SettingError(f"patches of {patch} pixels are not offered", "take 5, 7, ... or 31")
    known = contenders(patch)
    wanted: set[str | None] = set()
    for name in names:
        if is_plugin(name):
            own = name.rpartition(":")[2]
            if own in known:
                raise SettingError(f"two models are called {own}", "rename the class")
            known[own] = Contender(own, name, "fcn", "scene", add_plugin(name))
            wanted.add(own)
        elif name in known:
            wanted |= {name, known[name].weights_of}
        else:
            raise SettingError(
                f"there is no contender '{name}'", f"choose from {', '.join(known)}, my_module:Net"
            )
    return [contender for name, contender in known.items() if name in wanted]


def require_sound_plugins(
    chosen: Sequence[Contender], shape: tuple[int, int, int], classes: int
) -> None:
    """Look at networks of other modules before anything is trained.

    Parameters
    ----------
    chosen : sequence of Contender
    shape : tuple of int
        Rows, columns and used bands of the scene.
    classes : int

    Raises
    ------
    SettingError
        One fails, gives another shape, or looks at the whole of a scene that is trained in crops.
    """
    rows, cols, bands = shape
    for contender in chosen:
        if not is_plugin(contender.model):
            continue
        sees = geometry(default_spec(contender.model, bands, classes)).receptive_field
        if sees is None and rows * cols > LARGEST_WHOLE:
            raise SettingError(
                f"{contender.label} looks at the whole scene, and scenes of {rows}x{cols} pixels "
                "are trained on in crops",
                "compare local networks there, or a smaller scene",
            )
