"""Addresses of scenes on a network, as texts: which are taken, and what of them may be told.

``io/remote.py`` asks the network. The query of an address may sign it, and what stands before an
``@`` may be a password; neither is ever told.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, urlsplit

from hsifcn.core.errors import UnreadableFileError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|/vsi")
_OF_GDAL = {"/vsicurl/": "", "/vsis3/": "s3://", "/vsigs/": "gs://"}
# Others, such as file:// and zip://, may lead back to this machine or into other files.
_PROTOCOLS = {"https", "http", "s3", "gs", "gcs", "az", "abfs", "abfss"}
_VARIABLE = re.compile(r"(.+?\.(?:mat|npz|h5|hdf5|he5|nc|nc4|zarr)):(.+)", re.IGNORECASE)
# What comes before an @: a user on the web; anywhere a name and a password, which may hold a slash.
# `host:80/` is none. A Path makes `https:/` of `https://`.
_USER = re.compile(r"(https?:/+)[^/\s]*@", re.IGNORECASE)
_PASSWORD = re.compile(r"(:/+)[^/\s:@\[]*:(?!\d*(?:[/?\s'\"]|$))[^\s?]*?@")
_QUERY = re.compile(r"(:/[^\s?'\"]*)\?[^\s'\"]*")


@dataclass(frozen=True)
class Address:
    """The address of a scene.

    Attributes
    ----------
    parts : SplitResult
        Protocol, host or bucket, path and query.
    variable : str or None
        Of a file that holds several arrays.
    """

    parts: SplitResult
    variable: str | None = None

    @property
    def url(self) -> str:
        """What is asked for; it may hold secrets."""
        return self.parts.geturl()

    @property
    def name(self) -> str:
        """The last part of its path: the name of the file."""
        return PurePosixPath(self.parts.path).name

    @property
    def source(self) -> str:
        """The address as it may be told."""
        text = without_secrets(self.parts._replace(query="").geturl())
        return text if self.variable is None else f"{text}:{self.variable}"

    @property
    def folder(self) -> str:
        """The address of its folder, as it may be told."""
        return without_secrets(self._in_place("").geturl()).rstrip("/")

    def beside(self, name: str) -> str:
        """What is asked for to get another file of the same folder."""
        return self._in_place(name, self.parts.query).geturl()

    def _in_place(self, name: str, query: str = "") -> SplitResult:
        return self.parts._replace(path=f"{self.parts.path.rpartition('/')[0]}/{name}", query=query)


def is_address(path: str) -> bool:
    """Whether a path that is no file names a place on a network."""
    return _ADDRESS.match(path) is not None and not os.path.exists(path)


def refuse_address(path: str) -> None:
    """Raise UnreadableFileError for an address, which is followed only where that is allowed."""
    if is_address(path):
        raise UnreadableFileError(
            f"{without_secrets(path.partition('?')[0])} is an address, and hsifcn reads files only",
            "hsifcn predict takes scenes at addresses with --allow-remote; else download it, or "
            "mount the store",
        )


def parse_address(text: str) -> Address:
    """Read an address, in GDAL's spelling too.

    Raises
    ------
    UnreadableFileError
        Its protocol is none of those that are followed, or it names no file.
    """
    shown = without_secrets(text.partition("?")[0])
    for prefix, protocol in _OF_GDAL.items():
        if text.startswith(prefix):
            text = protocol + text.removeprefix(prefix)
    try:
        parts = urlsplit(text, allow_fragments=False)
    except ValueError as error:
        raise UnreadableFileError(f"{shown} is no address: {error}", "check it") from None
    if parts.scheme not in _PROTOCOLS:
        raise UnreadableFileError(
            f"{shown} is an address of a kind that is not followed",
            "give one that begins with https://, s3://, gs:// or az://",
        )
    path, variable = parts.path.rstrip("/"), None
    if match := _VARIABLE.fullmatch(path):
        path, variable = match[1], match[2]
    address = Address(parts._replace(path=path), variable)
    if address.name in {"", ".."} or "\\" in address.name or "\0" in address.name:
        raise UnreadableFileError(f"{shown} names no file", "check the address")
    return address


def source_of(path: str) -> str:
    """The path of a scene as it may be told; it may be an address."""
    return parse_address(path).source if is_address(path) else path


def without_secrets(text: str) -> str:
    """A text whose addresses have neither query nor password."""
    return _QUERY.sub(r"\1", _PASSWORD.sub(r"\1", _USER.sub(r"\1", text)))
