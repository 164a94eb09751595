"""The machine a command runs on: versions, processors, memory.

`environment` says enough to tell why two runs differ, and nothing about whose machine it is.
"""

import ctypes
import os
import platform
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import torch

from vtrain import __version__

PACKAGES = ("numpy", "webdataset", "pyarrow")


def environment() -> dict[str, Any]:
    """For a run's environment.json and for `vtrain doctor`; all of it can be written as JSON."""
    return {
        "command": command(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": processors(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "versions": versions(),
        "cuda": torch.version.cuda,
        "cudnn": cudnn(),
        "gpus": gpus(),
    }


def command(words: list[str]) -> list[str]:
    """The command line as it was typed. Where the program lies is left out: that is often somebody's home."""
    program = Path(words[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    # A word that is not UTF-8, as a file's name may be, could not be written into a file of UTF-8.
    return [word.encode("utf-8", "backslashreplace").decode() for word in (name, *words[1:])]


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str | None]:
    # OpenCV is called differently by each of its distributions, and so is torch by its builds.
    imported = {"playspeed": __version__, "torch": str(torch.__version__), "cv2": str(cv2.__version__)}
    return imported | {name: installed(name) for name in PACKAGES}


def installed(distribution: str) -> str | None:
    """Its version; None when it is not there."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def cudnn() -> int | None:
    """91501 is 9.15.1; None when torch has none, or one that does not fit it."""
    with suppress(RuntimeError):
        found: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        return found
    return None


def gpus() -> list[dict[str, Any]]:
    """Those that torch can use."""
    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [{"name": one.name, "memory": one.total_memory, "capability": f"{one.major}.{one.minor}"} for one in found]


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt


def keep_memory() -> None:
    """Keep freed memory in this process until it ends; without glibc nothing happens.

    By default the C library returns large blocks to the system at once. The system fills each with zeros when the next
    step asks for it again, which costs a quarter to a third of a step on a CPU (benchmarks/LOG.md).
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
