"""Classes: the field of a table that tells them, their codes and their names."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import AmbiguousInputError, LabelError
from hsifcn.io.files import read_text

LARGEST_CODE = 2**32 - 1  # what a raster of 32 bits can hold
LARGEST_COUNT = 1000  # classes; more are measurements or identifiers
_LARGE, _SIX_DIGITS = 1e15, 2e-6  # a float that is no code; how far rounding moves it
_DIGITS = re.compile(r"-?[0-9]+(\.0*)?")
_CODED_NAME = re.compile(r"([0-9]+)(?:\s*[=:,;\t]\s*|\s+)(\S.*)")
_MISSING = ("na", "n/a", "#n/a", "nan", "null", "none")  # as R, pandas and spreadsheets write it
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


@dataclass(frozen=True)
class ClassCodes:
    """The classes of the lines of a table.

    Attributes
    ----------
    codes : ndarray, (n,), int64
        0 for none.
    names : dict of int to str
        Of the classes, by code; empty where the table holds numbers.
    given : bool
        False where the table names its classes and the codes only number these names.
    """

    codes: npt.NDArray[np.int64]
    names: Mapping[int, str]
    given: bool


def class_codes(
    path: str, values: npt.NDArray[Any], names: Mapping[int, str], *, complete: bool
) -> ClassCodes:
    """Turn the values of a field into class codes.

    Numbers are codes, and so are texts if all of them are written in digits. Every other text is
    a name, exactly as it is written: "1_1", "1e3" and "0x10" are no numbers.

    Parameters
    ----------
    path : str
        Of the table, for messages.
    values : ndarray, (n,), numbers, booleans or objects
        NaN, None, blanks and 0 are no class.
    names : mapping of int to str
        Names of classes, by code: they number the texts. Without them classes are numbered in
        order of their names.
    complete : bool
        Whether a text that is not among ``names`` is an error; else it gets a code of its own.

    Warns
    -----
    UserWarning
        Classes were numbered in order of their names, or cells such as "NA" are no class.

    Raises
    ------
    LabelError
        Fractions, negative numbers, too many classes, or a name that is not among ``names``.
    """
    if values.dtype.kind not in "Ob":
        numbers = np.where(np.isnan(values), 0, values)
        require_class_codes(path, numbers)
        return ClassCodes(numbers.astype(np.int64), {}, given=True)
    texts = [_text(value) for value in values]
    found = sorted(set(texts) - {""})
    blanks = [text for text in found if text.casefold() in _MISSING]
    digits = [text for text in found if text not in blanks]
    if _are_codes(digits) and not set(digits) <= set(names.values()):
        if blanks:
            warnings.warn(
                f"{path}: {_quoted(blanks)} among numbers is no class: those lines label nothing",
                stacklevel=2,
            )
        return _written_in_digits(path, texts, blanks)
    if "0" in found and "0" not in names.values():
        warnings.warn(f"{path}: '0' among names is no class", stacklevel=2)
        texts = ["" if text == "0" else text for text in texts]
        found.remove("0")
    if blanks and not names:
        warnings.warn(
            f"{path}: {_quoted(blanks)} is taken for the name of a class; leave the cell blank if "
            "it means none",
            stacklevel=2,
        )
    alike = [text for text in found if sum(text.casefold() == t.casefold() for t in found) > 1]
    if alike:
        warnings.warn(
            f"{path}: {_quoted(alike)} are different classes, though only by upper and lower case",
            stacklevel=2,
        )
    return _named(path, texts, found, names, complete)


def _written_in_digits(path: str, texts: Sequence[str], blanks: Sequence[str]) -> ClassCodes:
    """Codes of texts that are whole numbers; "01" stays the name of class 1."""
    codes = {text: 0 if text in blanks else int(text.split(".")[0] or 0) for text in set(texts)}
    numbers = np.array([codes[text] for text in texts], np.int64)
    require_class_codes(path, numbers)
    names = {code: text for text, code in codes.items() if code and text.startswith("0")}
    return ClassCodes(numbers, names, given=True)


def _named(
    path: str,
    texts: Sequence[str],
    found: Sequence[str],
    names: Mapping[int, str],
    complete: bool,
) -> ClassCodes:
    """Codes of texts that are names."""
    if len(found) > LARGEST_COUNT:
        raise LabelError(f"{path} has {len(found)} different classes", "choose another field")
    code_of = {name: code for code, name in reversed(list(names.items()))}
    missing = [text for text in found if text not in code_of]
    if missing and names and complete:
        raise LabelError(
            f"{path} has a class '{missing[0]}' where the classes are {_listed(names)}",
            "name all classes with --class-names",
        )
    new = dict(enumerate(missing, start=max(names, default=0) + 1))
    if missing and not names:
        warnings.warn(
            f"{path}: classes are numbered in order of their names: {_listed(new)}; "
            "--class-names gives another order",
            stacklevel=2,
        )
    code_of |= {name: code for code, name in new.items()}
    codes = np.array([code_of.get(text, 0) for text in texts], np.int64)
    return ClassCodes(codes, {**names, **new}, given=not new)


def require_class_codes(path: str, values: npt.NDArray[Any]) -> None:
    """Raise LabelError for what cannot be class codes: fractions, negative or huge numbers."""
    if not is_integral(values):
        raise LabelError(
            f"{path} holds values that are no whole numbers", "labels are 0, 1, 2, ..."
        )
    if values.size and values.min() < 0:
        raise LabelError(
            f"{path} holds negative labels", f"0 must mean unlabelled, not {values.min():g}"
        )
    if values.size and values.max() > LARGEST_CODE:
        raise LabelError(
            f"{path} holds labels up to {int(values.max())}",
            f"0 must mean unlabelled, and class codes are at most {LARGEST_CODE}",
        )


def is_integral(values: npt.NDArray[Any]) -> bool:
    """Tell whether an array holds whole numbers only, of whatever type."""
    return values.dtype.kind in "biu" or bool(
        values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all()
    )


def read_class_names(path: str | os.PathLike[str]) -> dict[int, str]:
    """Read names of classes, one a line, blank lines left out.

    The lines name classes 1, 2, ...; or each begins with the code of its class: ``311 = forest``
    (also with a colon, comma, semicolon or blank). Lines that begin with ``#`` are left out.

    Raises
    ------
    UnreadableFileError
        The file is missing.
    LabelError
        It holds no name, or one code twice.
    """
    texts = [composed(line.strip()) for line in read_text(path).splitlines()]
    lines = [text for text in texts if text and not text.startswith("#")]
    if not 0 < len(lines) <= LARGEST_COUNT:
        raise LabelError(f"{os.fspath(path)} holds {len(lines)} class names", "one a line")
    coded = [match for line in lines if (match := _CODED_NAME.fullmatch(line))]
    names = dict(enumerate(lines, start=1))
    if len(coded) == len(lines):
        names = {int(match[1]): match[2] for match in coded}
        if len(names) < len(lines) or max(names) > LARGEST_CODE:
            raise LabelError(
                f"{os.fspath(path)} names a class code twice, or one out of 1 to {LARGEST_CODE}",
                "give one line a class",
            )
        names.pop(0, None)  # unlabelled
    given = list(names.values())
    twice = next((name for name in given if given.count(name) > 1), None)
    if twice is not None:
        raise LabelError(
            f"{os.fspath(path)} has two classes called '{twice}'",
            "give every class a name of its own",
        )
    return names


def _text(value: Any) -> str:
    """A cell as text without blanks round it; booleans as ``true`` and ``false``."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    return "" if missing else composed(" ".join(str(value).split()))


def composed(name: str) -> str:
    """A name with its letters composed, so that one name has one spelling in Unicode (NFC)."""
    return unicodedata.normalize("NFC", name)


def unlabel(labels: npt.NDArray[Any], nodata: float) -> None:
    """Set labels that hold the declared no-data value to 0, in place.

    Headers write the largest floats with six digits.
    """
    if labels.dtype.kind == "f" and abs(nodata) > _LARGE:
        labels[np.isclose(labels, nodata, rtol=_SIX_DIGITS, atol=0)] = 0
    elif labels.dtype.kind == "f":
        labels[labels == labels.dtype.type(nodata)] = 0
    else:
        labels[labels == np.float64(nodata)] = 0


def _are_codes(texts: Sequence[str]) -> bool:
    """Whether all texts are whole numbers in digits, and different ones different numbers."""
    if not texts or not all(_DIGITS.fullmatch(text) for text in texts):
        return False
    wholes = {text.split(".")[0] for text in texts}  # as floats are written: 1 and 1.0
    numbers = {int(whole) for whole in wholes}
    return len(numbers) == len(wholes) and max(numbers) <= LARGEST_CODE


def _plain(field: str) -> str:
    """Name of a field without case, blanks and signs."""
    return "".join(character for character in field.casefold() if character.isalnum())


def _quoted(texts: Sequence[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts)


def _listed(names: Mapping[int, str]) -> str:
    shown = [f"{code} {name}" for code, name in list(names.items())[:5]]
    return ", ".join(shown + ["..."] * (len(names) > 5))
