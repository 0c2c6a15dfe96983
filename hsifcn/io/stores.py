"""Stores of files on a network, through fsspec: what they tell of files, and the files themselves.

Whatever goes wrong is one line that names the address.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsifcn.core.errors import FailedError, HsifcnError, SettingError, UnreadableFileError
from hsifcn.io.addresses import Address, without_secrets

CONNECT_S, READ_S = 30, 60  # seconds of silence after which a server is given up
AT_ONCE = 8  # files of a scene
BLOCK = 2**23  # bytes of a large file of S3 that are asked for at once, ten times

# What stores tell of a file that changes when it does.
_MARKS = (
    *("size", "ETag", "etag", "Content-MD5", "content-md5", "md5Hash", "generation", "updated"),
    *("Last-Modified", "LastModified", "last_modified", "mtime"),
)
# What libraries of stores raise besides errors of the system.
_ERRORS = {
    "aiohttp": ("ClientError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "azure.core.exceptions": ("AzureError",),
}


@dataclass(frozen=True)
class Listing:
    """What a store tells of the files of a scene.

    Attributes
    ----------
    address : Address
    files : dict
        What is told of each file, by its path from the folder of the scene.
    places : dict of str
        What to ask for to get it.
    """

    address: Address
    files: dict[str, dict[str, Any]]
    places: dict[str, str]

    @property
    def digest(self) -> str:
        """Another one when names, sizes, tags or times of change are others."""
        told = {
            name: {mark: str(info[mark]) for mark in _MARKS if mark in info}
            for name, info in self.files.items()
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def open_store(protocol: str) -> Any:
    """The file system of a protocol; SettingError where a package is missing that it needs."""
    options: dict[str, Any] = {}
    try:
        import fsspec

        if protocol in {"http", "https"}:
            from aiohttp import ClientTimeout

            silence = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
            # Proxies and ~/.netrc as other programs know them. Packed bytes have another length.
            options["client_kwargs"] = {"timeout": silence, "trust_env": True}
            options["headers"] = {"Accept-Encoding": "identity"}
        elif protocol == "s3":
            options["default_block_size"] = BLOCK
        return fsspec.filesystem(protocol, use_listings_cache=False, **options)
    except ImportError as error:
        further = {"g": " gcsfs", "a": " adlfs"}.get(protocol[0], "")  # of Google, of Azure
        raise SettingError(
            f"{protocol}:// needs packages that are missing",
            f"pip install 'hsifcn[remote]'{further}",
        ) from error


def info_if_there(store: Any, place: str) -> dict[str, Any] | None:
    """What is told of a file; None where there is none, or none that may be seen."""
    try:
        info: dict[str, Any] = store.info(place)
    except (FileNotFoundError, PermissionError) as error:
        if _is_absent(error) or _is_forbidden(error):
            return None
        raise
    return info if is_file(info) else None


def is_file(info: dict[str, Any]) -> bool:
    """Whether a file is told of, not a folder, nor a page that a site shows instead of a file."""
    return info["type"] == "file" and info.get("mimetype") != "text/html"


def get_files(listing: Listing, folder: Path, free: int) -> None:
    """Get the files of a scene into a folder, within so many bytes where none are stated.

    Raises
    ------
    FailedError
        A file has not the length that was stated, or the connection was lost.
    """
    from fsspec.callbacks import Callback

    store = open_store(listing.address.parts.scheme)
    sizes = {str(folder / name): info["size"] for name, info in listing.files.items()}

    def wrong(path: str, what: str) -> FailedError:
        name = Path(path).relative_to(folder).as_posix()
        return FailedError(f"{listing.address.folder}/{name}: {what}", "give the command again")

    def watch(_: str, path: str, **others: Any) -> Any:
        most = free if sizes[path] is None else sizes[path]

        def check(_: int | None, received: int, **others: Any) -> None:
            if received > most:
                raise wrong(path, f"more came than the {most:,} bytes stated")

        return Callback(hooks={"length": check})

    callback: Any = Callback()
    callback.branched = watch
    places = [store._strip_protocol(place) for place in listing.places.values()]
    try:
        with naming(listing.address):
            store.get(places, list(sizes), callback=callback, batch_size=AT_ONCE)
    except KeyboardInterrupt:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it tells of what it leaves undone
        raise
    for path, size in sizes.items():
        received = os.path.getsize(path)
        if size is not None and received != size:
            raise wrong(path, f"{received:,} of {size:,} bytes came")


@contextmanager
def naming(address: Address) -> Iterator[None]:
    """Turn what a store's library raises into one line that names the address.

    What it says is left out of tracebacks, where it would tell the query.
    """
    try:
        yield
    except _failures() as error:
        raise _failure(address, error) from None


def _failures() -> tuple[type[Exception], ...]:
    """What the libraries that are loaded raise."""
    found: list[type[Exception]] = [OSError, ValueError]
    for module, names in _ERRORS.items():
        if module in sys.modules:
            found += [getattr(sys.modules[module], name) for name in names]
    return tuple(found)


def _failure(address: Address, error: Exception) -> HsifcnError:
    """The error to raise for one of a store's library."""
    if _is_absent(error):
        return UnreadableFileError(f"{address.source} does not exist", "check the address")
    if _is_forbidden(error):
        return UnreadableFileError(
            f"{address.source} may not be read", "check the address and your credentials"
        )
    cause = _cause(error)
    text = str(cause).replace(f"?{address.parts.query}", "")
    reason = without_secrets(text) or type(cause).__name__
    if type(cause).__name__ == "ClientPayloadError":
        reason = "the connection was lost"
    return FailedError(
        f"{address.source} cannot be copied: {reason}",
        "check address, credentials and network, and try again",
    )


def _cause(error: Exception) -> BaseException:
    """What went wrong: fsspec says of every failure over HTTP that there is no such file."""
    return error.__cause__ or error if isinstance(error, FileNotFoundError) else error


def _is_absent(error: Exception) -> bool:
    cause = _cause(error)
    return isinstance(cause, FileNotFoundError) or getattr(cause, "status", 0) in {404, 410}


def _is_forbidden(error: Exception) -> bool:
    cause = _cause(error)
    return isinstance(cause, PermissionError) or getattr(cause, "status", 0) in {401, 403}
