"""Who takes part in a comparison of patch CNNs with fully convolutional networks."""

from __future__ import annotations

from dataclasses import dataclass

from hsifcn.errors import SettingError


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
        ``patch``, ``cast`` or ``fcn``.
    storage : str
        How its input is kept: ``materialised`` (every patch copied), ``windowed`` (gathered batch
        by batch) or ``scene``.
    model : str
        Key of ``models.MODELS``.
    weights_of : str or None
        The contender whose trained weights it takes, None where it trains its own.
    """

    name: str
    label: str
    kind: str
    storage: str
    model: str
    weights_of: str | None = None


def contenders(patch: int, default_model: str) -> dict[str, Contender]:
    """All that can take part, by name, with patches of that side."""
    side = f"{patch}x{patch}"
    model = f"patch{patch}"
    table = [
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
    for name in dict.fromkeys(
        ["fcn8s", default_model, "fcn32s", "fcn16s", "fcn4s", "fcn2s", "fcn1s"]
    ):
        label = f"{name.upper().replace('FCN', 'FCN-').replace('S', 's')}"
        table.append(Contender(name, label, "fcn", "scene", name))
    return {contender.name: contender for contender in table}


def choose_contenders(names: list[str], patch: int, default_model: str) -> list[Contender]:
    """The named contenders, in that order, each after the one whose weights it takes.

    Raises
    ------
    SettingError
        An unknown name, or patches that are even or out of 5 to 31.
    """
    if patch not in range(5, 32, 2):
        raise SettingError(f"patches of {patch} pixels are not offered", "take 5, 7, ... or 31")
    known = contenders(patch, default_model)
    for name in names:
        if name not in known:
            raise SettingError(f"there is no contender '{name}'", f"choose from {', '.join(known)}")
    chosen = [known[name] for name in names]
    needed = [c.weights_of for c in chosen if c.weights_of and c.weights_of not in names]
    chosen += [known[name] for name in dict.fromkeys(needed)]
    return sorted(chosen, key=lambda contender: contender.weights_of is not None)
