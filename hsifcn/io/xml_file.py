"""Small XML files of other programs: parsed without what XML can be abused for."""

from __future__ import annotations

from xml.etree import ElementTree

from hsifcn.core.errors import UnreadableFileError
from hsifcn.io.files import read_text


def parse_xml(path: str) -> ElementTree.Element:
    """Parse a small XML file without entities of its own, which may expand without end.

    Raises
    ------
    UnreadableFileError
        It is missing, no XML, or declares entities.
    """
    text = read_text(path)
    if "<!ENTITY" in text:
        raise UnreadableFileError(f"{path} declares XML entities, which are not read")
    try:  # without entities it cannot expand
        return ElementTree.fromstring(text)  # nosec B314
    except ElementTree.ParseError as error:
        raise UnreadableFileError(f"{path} is no XML ({error})", "copy it again") from error
