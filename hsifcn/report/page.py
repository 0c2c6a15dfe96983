"""From a template and its values to one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from hsifcn.core import formats
from hsifcn.core.errors import FailedError

# A random split on a scene of fields lies far above both limits, a split with a gap far below:
# beyond them the nearest training pixel is mostly the same field, and accuracy tells how well
# fields are filled in, not how well new ground is classified. Four pixels are what a 9x9 patch
# sees to each side, the smallest window in common use.
TOUCHING_LIMIT = 0.05
WITHIN_4_LIMIT = 0.20

# Larger images are thinned: a page should open at once, and the full map is a raster of its own.
MAX_IMAGE_SIZE = 1200


@dataclass(frozen=True)
class Picture:
    """One image: its PNG as a data URI, its caption, whether it is far wider than high."""

    source: str
    caption: str
    wide: bool


def as_json(data: Any) -> Any:
    """Return the data as a JSON file would: string keys, lists, plain numbers."""
    return json.loads(json.dumps(data))


def picture(image: npt.NDArray[np.uint8], caption: str) -> Picture:
    """Pack a (rows, cols, 3) uint8 image into the page."""
    step = max(1, -(-max(image.shape[:2]) // MAX_IMAGE_SIZE))
    if step > 1:
        image = image[::step, ::step]
        caption = f"{caption} (thinned: one row and column in {step})"
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, "PNG", optimize=True)
    encoded = base64.b64encode(stream.getvalue()).decode("ascii")
    rows, cols = image.shape[:2]
    return Picture(f"data:image/png;base64,{encoded}", caption, cols > 2 * rows)


def legend(
    class_names: Sequence[str], colours: Sequence[Sequence[int]]
) -> list[tuple[str, tuple[int, ...]]]:
    """Name and colour of each class; numbers keep a colour from being CSS of its own."""
    return [
        (name, tuple(int(channel) for channel in colour))
        for name, colour in zip(class_names, colours, strict=False)
    ]


def codes_of(class_codes: Sequence[int], n_classes: int) -> list[int | str]:
    """What stands before the name of each class: its value in label files, or 1, 2, ...

    Nothing stands before a class whose code is not known.
    """
    if not class_codes:
        return list(range(1, n_classes + 1))
    return [*class_codes, *[""] * (n_classes - len(class_codes))]


def with_codes(class_names: Sequence[str], class_codes: Sequence[int]) -> list[str]:
    """The name of each class with its code before it."""
    codes = codes_of(class_codes, len(class_names))
    return [f"{code} {name}".strip() for code, name in zip(codes, class_names, strict=False)]


def is_leaky(leakage: Mapping[str, Any]) -> bool:
    """Whether the test pixels lie so near to training pixels that accuracy rests on it."""
    touching = formats.finite(leakage.get("test_touching")) or 0.0
    within_4 = formats.finite((leakage.get("test_within") or {}).get("4")) or 0.0
    return touching > TOUCHING_LIMIT or within_4 > WITHIN_4_LIMIT


def leakage_sentence(leakage: Mapping[str, Any] | None) -> str:
    """Put the leakage of a split into one sentence, empty where it is unknown."""
    leakage = leakage or {}
    within = leakage.get("test_within") or {}
    parts = []
    if formats.finite(leakage.get("test_touching")) is not None:
        parts.append(f"{percent_of(leakage['test_touching'])} touch a training or validation pixel")
    if formats.finite(within.get("4")) is not None:
        parts.append(f"{percent_of(within['4'])} lie within 4 px of one")
    return f"Of the test pixels {' and '.join(parts)}." if parts else ""


def isolated(name: str) -> str:
    """A name as it may stand within a sentence: one written from right to left turns none round.

    Unicode Standard Annex 9 (bidirectional algorithm): first strong isolate, and its end.
    """
    if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name):
        return f"\u2068{name}\u2069"
    return name


def percent_of(share: object) -> str:
    """``63.1 %``, as sentences have it."""
    return f"{formats.percent(share, 1)}\u00a0%"  # a line does not end before the sign


def viewer_script() -> str:
    """The script of the viewer, as it stands on the page."""
    return (Path(__file__).parent / "templates" / "viewer.js").read_text("utf-8")


def script_hash(script: str) -> str:
    """What the content security policy of a page lets run: this script, nothing else."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def embedded_json(data: Any) -> Markup:
    """JSON that may stand within a script element: nothing in it can end the element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def write_page(path: str | os.PathLike[str], template: str, values: Mapping[str, Any]) -> None:
    """Fill a template and write the page in one step, so that a reader never sees half of it.

    Raises
    ------
    FailedError
        The page cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("hsifcn.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        name: getattr(formats, name) for name in ("count", "significant", "size")
    }
    text = environment.get_template(template).render(
        {
            **values,
            "script_hash": script_hash(str(values["script"])) if values.get("script") else "",
        }
    )
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            # A file name may hold bytes that are no UTF-8; they are shown escaped.
            stream.write(text.encode("utf-8", "backslashreplace"))
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FailedError(
            f"{target} could not be written: {error.strerror}",
            "free some space or choose another output directory",
        ) from error
