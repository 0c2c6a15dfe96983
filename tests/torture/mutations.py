"""Mutated files of every format: read rightly, or refused in one line.

A batch is read by one process, ``python -m torture.mutations NAME SEED FIRST COUNT``, which says
on stdout what comes next, a line a case; the campaign watches it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np

from torture.checks import Check, Context, Outcome

FULL = 1000  # cases a format
HANG_S = 5.0  # seconds of the processor for a case
SILENCE_S = 120.0  # seconds of the clock, on a machine that is busy
MEMORY = 4 * 2**30
NUMBERS = (b"0", b"-1", b"1", b"65536", b"2147483648", b"1e308", b"nan", b"1e-320", b"", b"x")
WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Content with one to a few changes of a random kind."""
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        content = _KINDS[int(rng.integers(len(_KINDS)))](content or b"\0", rng)
    return content


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    array = bytearray(content)
    for place in rng.integers(len(array), size=int(rng.integers(1, 9))):
        array[place] ^= 1 << int(rng.integers(8))
    return bytes(array)


def _random_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    at, size = int(rng.integers(len(content))), int(rng.integers(1, 17))
    return content[:at] + rng.bytes(size) + content[at + size :]


def _word(content: bytes, rng: np.random.Generator) -> bytes:
    size = int(rng.choice([1, 2, 4, 8]))
    order = "little" if rng.random() < 0.7 else "big"
    value = int(WORDS[int(rng.integers(len(WORDS)))]) % 2 ** (8 * size)
    at = int(rng.integers(len(content)))
    return content[:at] + value.to_bytes(size, order) + content[at + size :]


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def _remove(content: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(content)))
    return content[:at] + content[at + int(rng.integers(1, 65)) :]


def _repeat(content: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(content)))
    part = content[at : at + int(rng.integers(1, 257))]
    return content[:at] + part * int(rng.integers(2, 5)) + content[at + len(part) :]


def _number(content: bytes, rng: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"-?\d[\d.]*", content))
    if not found:
        return _word(content, rng)
    match = found[int(rng.integers(len(found)))]
    text = NUMBERS[int(rng.integers(len(NUMBERS)))]
    return content[: match.start()] + text + content[match.end() :]


_KINDS = (_flip, _random_bytes, _word, _cut, _remove, _repeat, _number)


def checks() -> list[Check]:
    """A check a format."""
    from torture.samples import SAMPLES

    return [
        Check("mutations", name, lambda context, name=name: _of_format(context, name))
        for name in SAMPLES
    ]


def _of_format(context: Context, name: str) -> Outcome:
    outcome = Outcome()
    total = context.count(FULL)
    while outcome.cases < total:
        before = outcome.cases
        _batch(context, name, outcome, total - before)
        if outcome.cases == before:
            outcome.case(f"{name}: the reader did not start")
    return outcome


def _batch(context: Context, name: str, outcome: Outcome, count: int) -> None:
    """Watch one process that reads; where it ends before its time, that case is a breach."""
    first = outcome.cases
    words = [name, str(context.seed), str(first), str(count)]
    with tempfile.TemporaryDirectory(dir=context.folder) as folder:
        reader = subprocess.Popen(
            [sys.executable, "-m", "torture.mutations", *words],
            cwd=folder,
            env={**os.environ, "HSIFCN_CACHE": f"{folder}/cache"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert reader.stdout is not None
        while True:
            clock = threading.Timer(SILENCE_S, reader.kill)
            clock.start()
            line = reader.stdout.readline()
            clock.cancel()
            if not line.endswith("\n"):
                break
            fault = json.loads(line)
            outcome.case(fault and f"{name}, case {outcome.cases}, seed {context.seed}: {fault}")
        code = reader.wait()
    if outcome.cases < first + count:
        outcome.case(f"{name}, case {outcome.cases}, seed {context.seed}: ended with {code}")


def main(name: str, seed: str, first: str, count: str) -> None:
    """Read a batch of cases; print null, or what was wrong, a line a case."""
    from torture.samples import SAMPLES

    sample, here = SAMPLES[name], Path.cwd()
    limit = (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1])
    good = here / "good"
    good.mkdir()
    path = sample.write(good)
    files = (
        sorted(p for p in good.glob(sample.changed) if p.is_file()) if sample.changed else [path]
    )
    warnings.simplefilter("ignore")
    sample.read(path)  # as it is it can be read
    resource.setrlimit(resource.RLIMIT_AS, limit)
    signal.signal(signal.SIGPROF, _hang)
    for number in range(int(first), int(first) + int(count)):
        rng = np.random.default_rng([int(seed), number])
        case = here / "case"
        shutil.copytree(good, case)
        chosen = files[int(rng.integers(len(files)))]
        bad = case / chosen.relative_to(good)
        bad.write_bytes(mutated(chosen.read_bytes(), rng))
        print(json.dumps(_fault(sample.read, case / path.relative_to(good))), flush=True)
        shutil.rmtree(case)


def _hang(*_: object) -> None:
    raise TimeoutError(f"more than {HANG_S:g} s of the processor")


def _fault(read: object, path: Path) -> str | None:
    """What is wrong with how a file is read; None where it is read, or refused in one line."""
    from hsifcn.core.errors import HsifcnError

    used = sum(os.times()[:4])
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    try:
        read(path)  # type: ignore[operator]
    except HsifcnError as error:
        text = str(error)
        if "\n" in text or not text.strip() or len(text) > 2000:
            return f"message of {len(text)} letters: {text[:200]!r}"
    except BaseException as error:  # whatever it is, the user would be told of a bug
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    used = sum(os.times()[:4]) - used
    return f"{used:.0f} s of the processor" if used > HANG_S else None


if __name__ == "__main__":
    main(*sys.argv[1:])
