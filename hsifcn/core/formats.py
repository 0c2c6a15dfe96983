"""How numbers are printed, in the terminal and on pages.

Data are fractions of 1, bytes and seconds; print is per cent, MB and seconds. What is missing,
NaN or no number at all becomes a dash, so that nobody ever reads ``None``.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NOTHING = "\u2013"
MINUS = "\u2212"
TIMES = "\u00d7"
MEGA = 1e6
GIGA = 1e9
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def shown(text: str) -> str:
    r"""Text as it may reach a terminal: control characters of names in files become ``\x1b``.

    Else a name could clear the screen, rename the window or hide what stands beside it.
    """
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def finite(value: object) -> float | None:
    """Turn a value into a float, or into None where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def percent(value: object, digits: int = 2) -> str:
    """``98.92`` of 0.98917; the unit stands in the sentence or the table's head."""
    number = finite(value)
    return NOTHING if number is None else f"{100 * number:.{digits}f}"


def points(value: object) -> str:
    """``+1.24`` percentage points of 0.01237."""
    number = finite(value)
    return NOTHING if number is None else f"{100 * number:+.2f}".replace("-", MINUS)


def mean_sd(statistic: object) -> str:
    """``98.20 ± 0.19`` of ``{mean, std, values}``; a single value has no deviation."""
    if not isinstance(statistic, Mapping):
        return NOTHING
    text = percent(statistic.get("mean"))
    if len(statistic.get("values") or []) > 1 and finite(statistic.get("std")) is not None:
        text += f" ± {percent(statistic['std'])}"
    return text


def interval(bounds: object) -> str:
    """``-0.12 to +1.30`` percentage points of ``[lo, hi]``."""
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return NOTHING
    return f"{points(bounds[0])} to {points(bounds[1])}"


def percent_interval(bounds: object, digits: int = 2) -> str:
    """``97.80 to 98.61`` of ``[lo, hi]``, in per cent."""
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return NOTHING
    return f"{percent(bounds[0], digits)} to {percent(bounds[1], digits)}"


def p_value(value: object) -> str:
    """``0.034``, and ``< 0.001`` where more digits would say nothing."""
    number = finite(value)
    if number is None:
        return NOTHING
    return "< 0.001" if number < 0.001 else f"{number:.3f}"


def count(value: object) -> str:
    """``9,211``."""
    number = finite(value)
    return NOTHING if number is None else f"{number:,.0f}"


def significant(value: object, digits: int = 3) -> str:
    """Three significant digits without an exponent, as long as that is short."""
    number = finite(value)
    if number is None:
        return NOTHING
    if number == 0:
        return "0"
    mantissa, exponent = f"{number:.{digits - 1}e}".split("e")
    power = int(exponent)
    if power < -4:
        return f"{mantissa} {TIMES} 10{str(power).translate(_SUPERSCRIPTS)}"
    decimals = max(0, digits - 1 - power)
    return f"{round(number, digits - 1 - power):,.{decimals}f}"


def seconds(value: object) -> str:
    """``34.1 ms``, ``22.4 s``, ``7 min 38 s``, ``2 h 20 min``."""
    number = finite(value)
    if number is None:
        return NOTHING
    if number < 0.1:
        return f"{significant(1000 * number)} ms"
    if number < 120:
        return f"{significant(number)} s"
    minutes, rest = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(number / 60), 60)
    return f"{hours:,} h {minutes:02d} min"


def about(seconds: float) -> str:
    """``about 40 s``, ``about 5 min``: a time that is expected."""
    if seconds < 1:
        return "less than a second"
    return f"about {seconds:.0f} s" if seconds < 180 else f"about {seconds / 60:.0f} min"


def size(value: object) -> str:
    """``412 MB`` of bytes, by powers of 1000."""
    return _scaled(value, (("TB", 1e12), ("GB", GIGA), ("MB", MEGA), ("kB", 1e3)), "bytes")


def operations(value: object) -> str:
    """``310 kFLOP`` of floating-point operations."""
    return _scaled(
        value, (("TFLOP", 1e12), ("GFLOP", GIGA), ("MFLOP", MEGA), ("kFLOP", 1e3)), "FLOP"
    )


def _scaled(value: object, units: Sequence[tuple[str, float]], unit: str) -> str:
    number = finite(value)
    if number is None:
        return NOTHING
    for larger, factor in units:
        if abs(number) >= factor:
            return f"{significant(number / factor)} {larger}"
    return f"{number:,.0f} {unit}"


def megabytes(value: object) -> str:
    """Bytes as MB, for a column."""
    number = finite(value)
    return NOTHING if number is None else significant(number / MEGA)


def giga(value: object) -> str:
    """Operations as thousands of millions, for a column."""
    number = finite(value)
    return NOTHING if number is None else significant(number / GIGA)


def html_table(facts: Mapping[str, str]) -> str:
    """Names and values as a table for notebooks, escaped."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{rows}</table>"


def flatten(mapping: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and text of every entry that has a value; a dict inside becomes one line."""
    for key, value in mapping.items():
        name, text = str(key).replace("_", " "), _words(value)
        if isinstance(value, Mapping):
            text = ", ".join(f"{inner} {words}" for inner, words in flatten(value))
        elif str(key).endswith("_bytes"):
            name, text = name.removesuffix(" bytes"), size(value)
        if text:
            yield name, text


def _words(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)


def recipe_sentence(recipe: Mapping[str, Any] | None) -> str:
    """What training chose from the labels and on what evidence; empty where it chose nothing.

    ``recipe`` is that of ``metrics.json``.
    """
    if not recipe:
        return ""
    classifiers = sorted(recipe["classifiers"].items(), key=lambda pair: -pair[1])
    named = "; ".join(f"{name} ({percent(weight, 0)} %)" for name, weight in classifiers[:2])
    others = len(classifiers) - 2
    more = f" and {others} more" if others > 0 else ""
    expected = finite(recipe["expected_oa"])
    if expected is None:
        evidence = "no group of labels could be left out, so all count alike"
    else:
        evidence = (
            f"of {count(recipe['groups'])} groups of labels left out in turn, about "
            f"{percent(expected, 0)} % of the pixels were predicted right"
        )
    return (
        f"spectral classifiers {named}{more}; weight {recipe['prior_weight']:.1g} in the random "
        f"walker; {evidence}"
    )
