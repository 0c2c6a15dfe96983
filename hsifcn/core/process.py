"""Seconds, peak memory and FLOPs, measured; and what they were measured on."""

from __future__ import annotations

import _thread
import ctypes
import gc
import importlib
import importlib.metadata
import os
import platform
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_SPINS = 1000  # about 0.1 ms: longer than from one layer to the next
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


def peak_rss_bytes() -> int:
    """Peak resident memory of this process, bytes.

    VmHWM where there is a ``/proc``: unlike ``ru_maxrss`` it is not inherited from the parent.
    """
    if _STATUS.exists():
        return _status_bytes("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def rss_bytes() -> int:
    """Resident memory of this process now, bytes (the peak where the system does not tell)."""
    return _status_bytes("VmRSS") if _STATUS.exists() else peak_rss_bytes()


def address_space_bytes() -> int:
    """Address space of this process now, bytes; 0 where the system does not tell."""
    return _status_bytes("VmSize") if _STATUS.exists() else 0


def reset_peak() -> bool:
    """Start a new peak from the memory held now; False where the system cannot."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def start_peak(device: str) -> int:
    """Start a new peak of memory on a device; returns what is held there now, bytes.

    Parameters
    ----------
    device : str
        On ``cuda`` what counts is PyTorch's allocator, elsewhere the process's resident memory.
    """
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    reset_peak()
    return rss_bytes()


def peak_bytes(device: str) -> int:
    """Peak memory since ``start_peak``, what was held then included, bytes."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return peak_rss_bytes()


def _status_bytes(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{_STATUS} has no {field}")


def end_with_parent(grace: float) -> None:
    """End this process when its parent does: stdin is a pipe that closes then.

    Parameters
    ----------
    grace : float
        Seconds that the process has, once it is interrupted, to end of itself.
    """

    def wait() -> None:
        while os.read(0, 1):
            pass
        _thread.interrupt_main()  # an interrupt leaves no half-written file behind
        time.sleep(grace)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def keep_memory_together() -> None:
    """Let the C library (glibc) keep one heap, and give back now what was freed.

    A heap a thread holds freed arrays back from the other threads.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 3_000_000)
        libc.mallopt(_M_TRIM_THRESHOLD, 100_000_000)
        libc.malloc_trim(0)


def ask_for_huge_pages() -> None:
    """Let PyTorch (``c10/core/impl/alloc_cpu.cpp``) ask Linux for large pages of memory.

    Memory that goes back at once, as ``keep_memory_together`` has it, must be given page by page
    again: of 4 KiB pages that takes a third of the time of prediction, of 2 MiB pages next to none.
    To be called before PyTorch is loaded.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def load_torch() -> None:
    """Load PyTorch without looking for garbage on the way; a quarter of a second less.

    The million objects that it makes stay for good, so later searches for garbage, that at the end
    of the process included, leave them out.
    """
    gc.disable()
    try:
        importlib.import_module("torch")
        gc.freeze()
    finally:
        gc.enable()


def spin_briefly() -> None:
    """Let PyTorch's threads (GNU's OpenMP) wait for each other asleep, but for the first moment.

    Else they wait at full speed for longer than a turn on the processor: where another program
    runs beside, they take the core from the very thread they wait for, and prediction takes many
    times as long. To be called before PyTorch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(_SPINS))


def use_one_blas_thread() -> None:
    """Let the OpenBLAS libraries of NumPy and SciPy compute in the thread that calls them.

    Their products are small here, and their threads wait for each other at full speed: beside
    another program that makes seconds of a tenth of one. PyTorch brings a library of its own on
    x86, which this leaves alone; elsewhere it may use OpenBLAS, so that nothing is changed there.
    To be called before NumPy is loaded.
    """
    if platform.machine().lower() in {"x86_64", "amd64"}:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def ranks_started() -> int:
    """Processes that share this work, as ``torchrun``, or who starts them in its stead, tells."""
    told = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if told else 1


class Stopwatch:
    """Wall seconds of a ``with`` block, in ``seconds``."""

    seconds: float = 0.0

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._start


def versions() -> dict[str, str]:
    """Versions of Python, of hsifcn and of what it computes with."""
    packages = ("hsifcn", "torch", "numpy", "scipy", "spectral", "h5py", "safetensors")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def machine() -> dict[str, str | int]:
    """Processor, cores that may be used, memory and system, for reports."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.machine()}",
    }


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def multiplies_bfloat16() -> bool:
    """Whether the processor has a matrix unit for bfloat16 (AMX), as Linux tells."""
    try:
        flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0]
    except OSError:
        return False
    return "amx_bf16" in flags.split()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


FREE_SHARE = 0.6  # of the free memory that prediction takes unless told otherwise
FLOAT = 4  # bytes


def free_memory() -> int:
    """Bytes of memory that can be had without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
