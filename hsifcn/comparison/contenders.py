"""Who takes part in a comparison of patch CNNs with fully convolutional networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hsifcn.core.errors import SettingError
from hsifcn.models import MODELS


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
        Key of ``models.MODELS``; for a classical one, of ``CLASSICAL``.
    weights_of : str or None
        The contender whose trained weights it takes, None where it trains its own.
    """

    name: str
    label: str
    kind: str
    storage: str
    model: str
    weights_of: str | None = None


CLASSICAL = {
    "svm": "SVM, single spectra",
    "svm7x7": "SVM, 7x7 means",
    "rf": "random forest, single spectra",
    "rf7x7": "random forest, 7x7 means",
}


def contenders(patch: int) -> dict[str, Contender]:
    """All that can take part, by name, with patches of that side; weights come before their use."""
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
    for name in names:
        if name not in known:
            raise SettingError(f"there is no contender '{name}'", f"choose from {', '.join(known)}")
    wanted = {*names, *(known[name].weights_of for name in names)}
    return [contender for name, contender in known.items() if name in wanted]
