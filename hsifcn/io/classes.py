"""Classes: the field of a table that tells them, their numbers and their names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import AmbiguousInputError, LabelError
from hsifcn.io.files import read_text

_LARGEST_LABEL = 1000
_CLASS_FIELDS = (
    *("class", "classid", "classname", "classnumber", "label", "labelid", "labelname", "category"),
    *("cover", "landcover", "landuse", "lulc", "crop", "croptype", "species", "gt", "groundtruth"),
)
_COUNTING_FIELDS = ("id", "fid", "ogcfid", "gid", "uid", "objectid", "index")


def class_field(
    path: str, fields: Sequence[str], integers: Sequence[str], wanted: str | None
) -> str:
    """Choose the field of a table that tells the class.

    Without a wish it is the one with the name of a class (``class``, ``Label_ID``, ``crop``, ...),
    else the only one of integers that does not just count rows (``fid``, ``OBJECTID``), else the
    only one at all.

    Parameters
    ----------
    path : str
        Of the table, for messages.
    fields, integers : sequences of str
        All fields of text or numbers; those of integers.
    wanted : str or None
        As the user named it.

    Warns
    -----
    UserWarning
        There were several fields: it tells which one was taken.

    Raises
    ------
    LabelError
        There is none, or not the one wanted.
    AmbiguousInputError
        There are several.
    """
    known = ", ".join(fields) or "none"
    if wanted is not None:
        if wanted not in fields:
            raise LabelError(f"{path} has no field '{wanted}'", f"its fields are {known}")
        return wanted
    if not fields:
        raise LabelError(f"{path} has no field that could tell the class", "add one named class")
    named = [name for name in fields if _plain(name) in _CLASS_FIELDS]
    numbered = [name for name in integers if _plain(name) not in _COUNTING_FIELDS]
    candidates = named or numbered or list(fields)
    if len(candidates) > 1:
        raise AmbiguousInputError(
            f"{path} may tell the class in {', '.join(candidates)}", "name one with --label-field"
        )
    if len(fields) > 1:
        warnings.warn(
            f"{path}: classes are taken from the field '{candidates[0]}' of {known}; "
            "--label-field chooses",
            stacklevel=2,
        )
    return candidates[0]


def class_numbers(
    path: str, values: npt.NDArray[Any], names: Sequence[str]
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Turn the values of a field into class numbers.

    Parameters
    ----------
    path : str
        Of the table, for messages.
    values : ndarray, (n,), numbers or objects
        Whole numbers, as numbers or as text, are class numbers. Other texts are names. NaN, None,
        blanks and 0 are no class.
    names : sequence of str
        Names of classes 1, 2, ...: they number the texts. Without them classes are numbered in
        order of their names.

    Returns
    -------
    ndarray, (n,), int64
        Classes counted from 1; 0 for none.
    tuple of str
        Names of classes 1, 2, ..., or () where the values are numbers.

    Warns
    -----
    UserWarning
        Classes were numbered in order of their names.

    Raises
    ------
    LabelError
        Fractions, negative numbers, numbers above 1000, or a name that is not among ``names``.
    """
    texts = []
    numbers: npt.NDArray[Any] | None = values
    if values.dtype.kind == "O":
        texts = ["" if value is None else " ".join(str(value).split()) for value in values]
        numbers = _as_numbers(texts)
    if numbers is not None:
        numbers = np.where(np.isnan(numbers), 0, numbers)
        require_class_numbers(path, numbers)
        return numbers.astype(np.int64), ()
    found = sorted(set(texts) - {""})
    if len(found) > _LARGEST_LABEL:
        raise LabelError(f"{path} has {len(found)} different classes", "choose another field")
    order = tuple(names or found)
    missing = [text for text in found if text not in order]
    if missing:
        raise LabelError(
            f"{path} has a class '{missing[0]}' where the classes are {_listed(order)}",
            "name all classes with --class-names",
        )
    if not names:
        warnings.warn(
            f"{path}: classes are numbered in order of their names: {_listed(order)}; "
            "--class-names gives another order",
            stacklevel=2,
        )
    number_of = {name: number for number, name in reversed([*enumerate(order, start=1)])}
    return np.array([number_of.get(text, 0) for text in texts], np.int64), order


def require_class_numbers(path: str, values: npt.NDArray[Any]) -> None:
    """Raise LabelError for what cannot be classes: fractions, negative or huge numbers."""
    if not is_integral(values):
        raise LabelError(
            f"{path} holds values that are no whole numbers", "labels are 0, 1, 2, ..."
        )
    if values.size and values.min() < 0:
        raise LabelError(f"{path} holds negative labels", "0 must mean unlabelled")
    if values.size and values.max() > _LARGEST_LABEL:
        raise LabelError(
            f"{path} holds labels up to {int(values.max())}",
            "0 must mean unlabelled, and classes are counted from 1",
        )


def is_integral(values: npt.NDArray[Any]) -> bool:
    """Tell whether an array holds whole numbers only, of whatever type."""
    return values.dtype.kind in "biu" or bool(
        values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all()
    )


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read names of classes 1, 2, ..., one a line, blank lines left out.

    Raises
    ------
    UnreadableFileError
        The file is missing.
    LabelError
        It holds no name.
    """
    lines = (line.strip() for line in read_text(path).splitlines())
    names = tuple(line for line in lines if line)
    if not 0 < len(names) <= _LARGEST_LABEL:
        raise LabelError(f"{os.fspath(path)} holds {len(names)} class names", "one a line")
    return names


def _as_numbers(texts: Sequence[str]) -> npt.NDArray[np.float64] | None:
    """Numbers that all texts are, blanks being NaN; None where one is something else."""
    try:
        return np.array([float(text or "nan") for text in texts])
    except ValueError:
        return None


def _plain(field: str) -> str:
    """Name of a field without case, blanks and signs."""
    return "".join(character for character in field.casefold() if character.isalnum())


def _listed(names: Sequence[str]) -> str:
    shown = [f"{number} {name}" for number, name in enumerate(names[:5], start=1)]
    return ", ".join(shown + ["..."] * (len(names) > 5))
