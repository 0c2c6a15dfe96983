"""A full disk, no descriptors, little address space; and small files that would take much."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from torture.checks import Check, Context, Outcome
from torture.kills import COMMANDS, leftovers, load, outputs, prepare, run
from torture.samples import CUBE, _shapes, _with_scene, as_bomb, read_labels, read_scene

STARVED = ("train", "predict-envi", "predict-gtiff", "predict-mat", "predict-polygons", "sample")
BOMB_S, BOMB_BYTES = 2.0, 300e6  # seconds of the processor, and memory above the baseline


def checks() -> list[Check]:
    """Checks of what is scarce, and of bombs."""
    scarce = [
        Check("scarce", name, lambda context, limit=limit: _starved(context, limit))
        for name, limit in LIMITS.items()
    ]
    return [*scarce, Check("scarce", "disk", _full_disk), Check("bombs", "all", _bombs)]


def _file_size(rng: np.random.Generator) -> tuple[int, int]:
    return resource.RLIMIT_FSIZE, int(10 ** rng.uniform(3.3, 5.3))  # room for messages


def _descriptors(rng: np.random.Generator) -> tuple[int, int]:
    return resource.RLIMIT_NOFILE, len(os.listdir("/proc/self/fd")) + int(rng.integers(0, 20))


def _address_space(rng: np.random.Generator) -> tuple[int, int]:
    from hsifcn.core.process import address_space_bytes

    return resource.RLIMIT_AS, address_space_bytes() + int(10 ** rng.uniform(5, 8.5))


LIMITS: dict[str, Callable[[np.random.Generator], tuple[int, int]]] = {
    "file-size": _file_size,
    "descriptors": _descriptors,
    "address-space": _address_space,
}


def _starved(context: Context, limit: Callable[[np.random.Generator], tuple[int, int]]) -> Outcome:
    """Commands under a limit: done, or one line and nothing left."""
    load()
    outcome, base = Outcome(), prepare(context.folder / "base")
    for number in range(context.count(90)):
        rng, name = context.generator(number), STARVED[number % len(STARVED)]
        folder = shutil.copytree(base, context.folder / "case")
        bound = limit(rng)
        faults = _faults_of(folder, name, [bound], base)
        told = f"{name}, case {number}, seed {context.seed}, limit {bound[1]}: "
        outcome.case(*(told + fault for fault in faults))
        shutil.rmtree(folder)
    return outcome


def _faults_of(folder: Path, name: str, limits: list[tuple[int, int]], base: Path) -> list[str]:
    """What is wrong after a command that may have failed."""
    command = COMMANDS[name]
    code, said = run(folder, command.words, limits)
    if code == -signal.SIGABRT and limits and limits[0][0] == resource.RLIMIT_AS:
        code, said = run(folder, command.words)  # a library gave up; what it left does no harm
    faults = []
    if code not in (0, 1, 2):
        faults.append(f"exit code {code}: {said[-300:]}")
    if "Traceback" in said or "a bug" in said:
        faults.append(f"no plain message: {said[-300:]}")
    if code in (1, 2):
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        faults += [] if len(lines) == 1 else [f"{len(lines)} errors: {said[-300:]}"]
        before = outputs(base, command)
        finished = {n: v for n, v in outputs(folder, command).items() if n not in before}
        faults += [f"failed, yet {n} is there" for n in finished if not n.startswith("out/")]
        if (folder / "out/metrics.json").exists():
            faults.append("failed, yet the run looks finished")
    return faults + [f"left {path}" for path in leftovers(folder)]


def _full_disk(context: Context) -> Outcome:
    """Commands on a small file system; without the right to mount one there is nothing to try."""
    load()
    outcome, base = Outcome(), prepare(context.folder / "base")
    size = sum(path.stat().st_size for path in base.rglob("*") if path.is_file())
    for number in range(context.count(60)):
        rng, name = context.generator(number), STARVED[number % len(STARVED)]
        room = int(10 ** rng.uniform(3.6, 5.8))
        with small_disk(context.folder / "disk", size + 400_000 + room) as disk:
            if disk is None:
                outcome.note = "no right to mount a small file system: not tried"
                return outcome
            folder = disk / "case"
            shutil.copytree(base, folder)
            free = shutil.disk_usage(folder).free
            if free > room:
                (disk / "ballast").write_bytes(bytes(free - room))
            faults = _faults_of(folder, name, [], base)
        told = f"{name}, case {number}, seed {context.seed}, {room} bytes free: "
        outcome.case(*(told + fault for fault in faults))
    return outcome


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """A file system of so many bytes, gone afterwards; None where none can be mounted."""
    folder.mkdir(exist_ok=True)
    options = f"size={size},mode=700"
    mount = ["mount", "-t", "tmpfs", "-o", options, "hsifcn-torture", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def _bombs(context: Context) -> Outcome:
    """Every bomb, in a process of its own whose time and memory are measured."""
    outcome = Outcome()
    for name, make in BOMBS.items():
        folder = context.folder / name
        folder.mkdir()
        path = make(folder)
        read = read_labels if path.name.startswith("l") else read_scene
        outcome.case(*_explodes(name, path, read))
        shutil.rmtree(folder)
    return outcome


def _explodes(name: str, path: Path, read: Callable[[Path], None]) -> list[str]:
    """Read a bomb; what was wrong."""
    import warnings

    from hsifcn.core.errors import HsifcnError
    from hsifcn.core.process import peak_rss_bytes, reset_peak, rss_bytes
    from hsifcn.io import child

    warnings.simplefilter("ignore")
    told = path.with_name("told.json")
    process = os.fork()
    if not process:
        fault = ""
        try:
            os.environ["HSIFCN_CACHE"] = str(path.with_name("cache"))
            reset_peak()
            held, used = rss_bytes(), sum(os.times()[:4])
            try:
                read(path)
            except HsifcnError as error:
                fault = "" if "\n" not in str(error) else "a message of several lines"
            except BaseException as error:
                fault = f"{type(error).__name__}: {str(error)[:200]}"
            child._end_all()
            used = sum(os.times()[:4]) - used
            took = max(
                peak_rss_bytes() - held,
                1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - 150_000_000,
            )
            told.write_text(json.dumps([fault, used, took]))
        finally:
            os._exit(0)
    os.waitpid(process, 0)
    if not told.exists():
        return [f"{name}: killed"]
    fault, used, took = json.loads(told.read_text())
    faults = [f"{name}: {fault}"] if fault else []
    faults += [f"{name}: {used:.1f} s of the processor"] if used > BOMB_S else []
    return faults + ([f"{name}: {took / 1e6:.0f} MB"] if took > BOMB_BYTES else [])


def _claiming_npy(folder: Path, shape: tuple[int, ...]) -> Path:
    with (folder / "s.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(800))
    return folder / "s.npy"


def _zipped(folder: Path) -> Path:
    _with_scene(folder)
    head = folder / "head"
    with head.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (40000, 40000)}
        np.lib.format.write_array_header_1_0(file, header)
    with (
        zipfile.ZipFile(folder / "l.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("gt.npy", "w", force_zip64=True) as member,
    ):
        member.write(head.read_bytes())
        for _ in range(1600):
            member.write(bytes(1_000_000))
    return folder / "l.npz"


def _entities(folder: Path) -> Path:
    from torture.samples import _enmap

    path = _enmap(folder)
    levels = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9))
    xml = f'<!DOCTYPE x [<!ENTITY a0 "ha">{levels}]><x>&a9;</x>'
    next(folder.glob("*.XML")).write_text(xml)
    return path.rename(folder / path.name)


def _many_names(folder: Path) -> Path:
    from torture.samples import _envi_labels

    path = _envi_labels(folder)
    names = ", ".join(f"n{i}" for i in range(100_000))
    header = path.with_suffix(".hdr")
    text = header.read_text().replace("{ none, corn, oak, pine }", f"{{ {names} }}")
    header.write_text(text.replace("classes = 4", "classes = 100000"))
    path.rename(folder / "l.img")
    header.rename(folder / "l.hdr")
    return folder / "l.img"


def _nested_json(folder: Path) -> Path:
    _with_scene(folder)
    (folder / "l.geojson").write_text('{"type":' + "[" * 200_000)
    return folder / "l.geojson"


def _vertices(folder: Path) -> Path:
    _shapes(folder, ".geojson")
    turns = np.linspace(0, 2 * np.pi, 300_000)
    ring = np.column_stack((9 + 1e-3 * np.cos(turns), 47 + 1e-3 * np.sin(turns)))
    ring[-1] = ring[0]
    shape = {"type": "Polygon", "coordinates": [ring.round(6).tolist()]}
    feature = {"type": "Feature", "properties": {"class": 1}, "geometry": shape}
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    (folder / "l.geojson").write_text(text)
    return folder / "l.geojson"


def _huge_envi(folder: Path) -> Path:
    from io_samples import write_envi

    return write_envi(folder / "s.img", CUBE, lines=10**9, wavelength="{" + "1, " * 10**6 + "1}")


BOMBS: dict[str, Callable[[Path], Path]] = {
    "npy-terabytes": lambda folder: _claiming_npy(folder, (10**5, 10**5, 200)),
    "npz-zeros": _zipped,
    "envi-terabytes": _huge_envi,
    "class-names": _many_names,
    "xml-entities": _entities,
    "nested-json": _nested_json,
    "vertices": _vertices,
    "geotiff-labels": lambda folder: as_bomb(folder, "labels"),
    "geotiff-bands": lambda folder: as_bomb(folder, "bands"),
    "geotiff-columns": lambda folder: as_bomb(folder, "columns"),
    "geopackage-view": lambda folder: as_bomb(folder, "view"),
    "hdf5-chunks": lambda folder: as_bomb(folder, "chunks"),
}
