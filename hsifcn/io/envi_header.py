"""The text header of an ENVI raster: ``key = value`` lines, lists in braces.

Spectral Python's ``read_envi_header`` takes a file only, not text, so that a cleaned header would
have to be written first; and it does not tell of a brace that is never closed or a key given
twice. Its parsing would replace 20 lines of ``read_header``; the checks of counts and numbers
would stay.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hsifcn.core.errors import UnreadableFileError
from hsifcn.io.files import read_text

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?", re.ASCII)
_LIST = re.compile(r"\s*[A-Za-z][\w ]*=\s*\{")  # begins a field
_LARGEST_COUNT = 2**53  # above, a count written as a float would not be exact


@dataclass(frozen=True)
class EnviHeader:
    """The fields of a header, as text, with checked ways to read them.

    Attributes
    ----------
    path : str
        The header file, for messages.
    fields : mapping
        Lower-case keys to text; the text of a list is what stood between its braces.
    """

    path: str
    fields: Mapping[str, str]

    def fault(self, problem: str, remedy: str = "correct the header") -> UnreadableFileError:
        """Make the error for a problem of this header."""
        return UnreadableFileError(f"{self.path} {problem}", remedy)

    def text(self, key: str, default: str = "") -> str:
        """Give a field as it stands."""
        return self.fields.get(key, default)

    def words(self, key: str) -> tuple[str, ...]:
        """Give the items of a list; none where the field is missing."""
        text = self.text(key).strip().rstrip(",")
        return tuple(item.strip() for item in text.split(",")) if text else ()

    def count(self, key: str, default: int | None = None, least: int = 0) -> int:
        """Give a whole number, which some programs write as ``110.0``."""
        if key not in self.fields:
            if default is None:
                raise self.fault(f"has no '{key}'", f"add a line '{key} = ...'")
            return default
        value = self._number(key, self.fields[key])
        if not (math.isfinite(value) and value.is_integer() and least <= value < _LARGEST_COUNT):
            raise self.fault(f"has an impossible '{key}': {self.fields[key][:40]!r}")
        return int(value)

    def number(self, key: str) -> float | None:
        """Give a number, maybe NaN or infinite; None where the field is missing."""
        return self._number(key, self.fields[key]) if key in self.fields else None

    def numbers(self, key: str, count: int) -> npt.NDArray[np.float64] | None:
        """Give a list of ``count`` finite numbers; None where the field is missing or empty."""
        words = self.words(key)
        if not words:
            return None
        if len(words) != count:
            raise self.fault(f"has {len(words)} values in '{key}' where {count} belong")
        values = np.array([self._number(key, word) for word in words], dtype=np.float64)
        if not np.isfinite(values).all():
            raise self.fault(f"has a value in '{key}' that is not finite")
        return values

    def _number(self, key: str, text: str) -> float:
        text = text.strip()
        if text.lower() in {"nan", "-nan", "inf", "+inf", "-inf"}:
            return float(text)
        if not _NUMBER.fullmatch(text):
            raise self.fault(f"has something else than a number in '{key}': {text[:40]!r}")
        return float(text.lower().replace("d", "e"))


def read_header(path: Path) -> EnviHeader:
    """Read and parse a header file.

    A field without a value is left out, as if its line were not there.

    Raises
    ------
    UnreadableFileError
        It does not begin with ``ENVI``, a list is not closed, or a key comes twice with different
        values.
    """
    name = str(path)
    lines = read_text(path).splitlines()
    if not lines or lines[0].strip().upper() != "ENVI":
        if any(line.split()[:1] and line.split()[0].upper() == "NROWS" for line in lines):
            raise UnreadableFileError(
                f"{name} is a header of ESRI's BIL, BIP or BSQ files, not of ENVI's",
                "convert the raster: gdal_translate -of ENVI",
            )
        raise UnreadableFileError(f"{name} is no ENVI header: its first line is not 'ENVI'")
    fields: dict[str, str] = {}
    remaining = deque(line for line in lines[1:] if not line.lstrip().startswith(";"))
    while remaining:
        key, equals, value = remaining.popleft().partition("=")
        if not equals:
            continue
        key, value = " ".join(key.split()).lower(), value.strip()
        if not value and _next_text(remaining).startswith("{"):
            value = _next_text(remaining)  # a list may begin on the line below
            while not remaining.popleft().strip():
                pass
        if value.startswith("{"):
            while "}" not in value:
                if not remaining or _LIST.match(remaining[0]):
                    raise UnreadableFileError(f"{name} does not close the brace of '{key}'")
                value += " " + remaining.popleft().strip()
            value = value[1 : value.index("}")].strip()
        else:
            value = value.partition(";")[0].strip()
        if value and fields.setdefault(key, value) != value:
            raise UnreadableFileError(f"{name} gives '{key}' twice, with different values")
    return EnviHeader(name, fields)


def _next_text(lines: Iterable[str]) -> str:
    """The next line that is not blank; empty where there is none."""
    return next((line.strip() for line in lines if line.strip()), "")


def format_header(fields: Mapping[str, str | int | float | Sequence[object]]) -> bytes:
    """Write the content of a header file.

    Items of lists lose their commas, braces and line breaks to "-": ENVI knows no way to quote
    them. A text in braces is kept as it is.
    """
    lines = ["ENVI"]
    for key, value in fields.items():
        if isinstance(value, str | int | float):
            lines.append(f"{key} = {value}")
        else:
            lines.append(f"{key} = {{ {' , '.join(_item(item) for item in value)} }}")
    return ("\n".join(lines) + "\n").encode()


def _item(value: object) -> str:
    return re.sub(r"[,{}\s]*[,{}\r\n][,{}\s]*", "-", str(value)).strip() or "-"
