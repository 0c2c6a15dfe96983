"""Scenes at addresses on a network: each is copied into a folder of this process and read there.

So every format is read as any file is, under the same limits. The folder lies where temporary
files do. It is removed when another scene is copied, or the process ends; what a killed process
left is removed by the next one on the same computer.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy.typing as npt

from hsifcn.core.errors import FailedError, HsifcnError, UnreadableFileError
from hsifcn.core.scene import Window
from hsifcn.io import envi, tiff
from hsifcn.io.addresses import Address, is_address, parse_address
from hsifcn.io.files import temporary_beside
from hsifcn.io.finding import likely_scenes
from hsifcn.io.formats import FileScene, Voxels
from hsifcn.io.product_xml import metadata_name
from hsifcn.io.reading import open_scene
from hsifcn.io.stores import Listing, get_files, info_if_there, is_file, naming, open_store
from hsifcn.io.table import FORMATS

DEPTH = 16  # folders in one another that are looked into


@dataclass(frozen=True)
class Copy:
    """A scene that was copied.

    Attributes
    ----------
    address : Address
    digest : str
        Of ``Listing``.
    folder : Path
        Where its files lie on this computer.
    """

    address: Address
    digest: str
    folder: Path

    def named(self, text: str) -> str:
        """A text that names the files by their address."""
        return text.replace(str(self.folder), self.address.folder)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Have errors name the address, not the copy."""
        try:
            yield
        except HsifcnError as error:
            raise type(error)(self.named(error.message), self.named(error.remedy)) from error


@dataclass(frozen=True)
class CopiedVoxels:
    """Reads the voxels of a copy."""

    voxels: Voxels
    copy: Copy

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Read all bands of a window, as ``Scene.read`` does."""
        with self.copy.naming():
            return self.voxels.read(window)


_held: Copy | None = None  # the scene that was copied last


def open_scene_at(path: str, *, wavelengths: str | None, nodata: float | None) -> FileScene:
    """Open a scene; one at an address is copied, unless it is the one that was copied last.

    Parameters
    ----------
    path : str
        A path or an address, with ``:variable`` where the file holds several arrays.
    wavelengths, nodata
        As for ``open_scene``.

    Returns
    -------
    FileScene
        Its path is the one given, without what signs an address.

    Raises
    ------
    UnreadableFileError
        It is not there, may not be read, or is no scene.
    SettingError
        A package is missing that the protocol needs.
    FailedError
        The connection was lost, another length came than was stated, or the disk is too small.
    """
    if not is_address(path):
        return open_scene(path, wavelengths=wavelengths, nodata=nodata)
    copy = copy_scene(look_up(path))
    local = str(copy.folder / copy.address.name)
    if copy.address.variable is not None:
        local += f":{copy.address.variable}"
    with copy.naming(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scene = open_scene(local, wavelengths=wavelengths, nodata=nodata)
    for warning in caught:
        warnings.warn(copy.named(str(warning.message)), warning.category, stacklevel=2)
    return replace(scene, path=copy.named(scene.path), voxels=CopiedVoxels(scene.voxels, copy))


def matching_scenes(text: str) -> list[str]:
    """The addresses that a pattern stands for, ``s3://store/2026/*.tif``; see ``scene_files``."""
    address = parse_address(text)
    if address.parts.query:
        raise UnreadableFileError(
            f"{address.source} is a pattern, and only addresses of files are signed",
            "name each scene, in a list: @scenes.txt",
        )
    store = open_store(address.parts.scheme)
    with naming(address):
        found = store.glob(store._strip_protocol(address.url))
    names = {Path(name): store.unstrip_protocol(name) for name in found}
    return [names[path] for path in likely_scenes(sorted(names))]


def copied_digest(source: str) -> str | None:
    """The digest of the scene that was copied last; None where it is another one."""
    same = _held is not None and source.startswith(replace(_held.address, variable=None).source)
    return _held.digest if _held is not None and same else None


def look_up(text: str) -> Listing:
    """Ask a store for the files of a scene, without getting them; see ``open_scene_at``."""
    address = parse_address(text)
    store = open_store(address.parts.scheme)
    with naming(address):
        store.invalidate_cache()
        if address.name.lower().endswith(".zarr"):
            return _look_up_folder(store, address)
        places = {address.name: address.url}
        files = {address.name: store.info(address.url)}
        if not is_file(files[address.name]):
            raise UnreadableFileError(
                f"{address.source} is a folder or a web page, no file",
                "name a scene; where a site wants a login, put it into ~/.netrc",
            )
        for names in names_beside(address.name):
            for name in names:
                info = info_if_there(store, address.beside(name))
                if info is not None:
                    files[name], places[name] = info, address.beside(name)
                    break
    return Listing(address, files, places)


def names_beside(name: str) -> list[list[str]]:
    """What files that belong to a scene may be called: of each list the first that is there."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if suffix == ".hdr":
        usual = [end for end in envi.FORMAT.suffixes if end != suffix]
        usual = usual if path.suffix == suffix else [end.upper() for end in usual]
        inner = [path.stem] if PurePosixPath(path.stem).suffix else []
        return [[*inner, *(f"{path.stem}{end}" for end in usual), path.stem]]
    if suffix in tiff.FORMAT.suffixes:
        beside = [[f"{name}.aux.xml"], [f"{name}.msk"], [f"{path.stem}.tfw"]]
        metadata = metadata_name(name)
        return beside if metadata is None else [*beside, [metadata]]
    if any(suffix in form.suffixes for form in FORMATS if form is not envi.FORMAT):
        return []
    return [[f"{name}.hdr", f"{path.stem}.hdr"]]


def copy_scene(listing: Listing) -> Copy:
    """Copy the files of a scene, unless they were the last to be copied; see ``open_scene_at``."""
    global _held
    address, digest = listing.address, listing.digest
    if _held is not None and (_held.address, _held.digest) == (address, digest):
        return _held
    remove_copy()
    base = Path(tempfile.gettempdir(), "hsifcn-copy")
    needed = sum(info["size"] or 0 for info in listing.files.values())
    free = shutil.disk_usage(base.parent).free
    if needed > free:
        raise FailedError(
            f"{address.source} has {needed / 1e9:.3g} GB, and {base.parent} has {free / 1e9:.3g} "
            "GB left",
            "make room, or set TMPDIR to another folder",
        )
    copy = Copy(address, digest, temporary_beside(base))
    copy.folder.mkdir(mode=0o700)
    _held = copy
    finished = False
    try:
        get_files(listing, copy.folder, free)
        finished = True
    finally:
        if not finished:
            remove_copy()
    return copy


def remove_copy() -> None:
    """Remove the scene that was copied last."""
    global _held
    if _held is not None:
        shutil.rmtree(_held.folder, ignore_errors=True)
        _held = None


atexit.register(remove_copy)


def _look_up_folder(store: Any, address: Address) -> Listing:
    """The files of a folder, of which none may lie outside of it."""
    root = store._strip_protocol(address.parts._replace(query="").geturl()).rstrip("/")
    files, places = {}, {}
    for place, info in sorted(store.find(root, maxdepth=DEPTH, detail=True).items()):
        if place.endswith("/"):  # some stores keep an empty object for a folder
            continue
        inner = place.removeprefix(f"{root}/")
        if inner == place or not {"", ".", ".."}.isdisjoint(inner.split("/")) or "\\" in inner:
            raise UnreadableFileError(f"{address.source} names files outside of it", "copy it")
        name = f"{address.name}/{inner}"
        files[name] = store.info(place) if info.get("size") is None else info
        places[name] = place
    if not files:
        raise UnreadableFileError(f"{address.source} does not exist", "check the address")
    return Listing(address, files, places)
