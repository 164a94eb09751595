"""The machine a command runs on: versions, processors, memory.

`environment` says enough to tell why two runs differ, and nothing about whose machine it is.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import torch

from vprep.processors import processors as usable_processors
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
    """Return how many processors this process may use; a container's quota counts."""
    return len(usable_processors())


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


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # numbers of glibc's mallopt
TRIM_THRESHOLD, MMAP_MAX = 128 << 10, 1 << 16  # glibc's own values


def default_workers(device: torch.device) -> int:
    """Return how many processes should read for a process that trains on `device`.

    On a CPU the network needs the processors itself; beside a GPU all of them are free for decoding.
    """
    mine = processors() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, min(16, mine - 1)) if device.type == "cuda" else max(1, mine // 4)


@contextmanager
def kept_memory(wanted: bool = True) -> Iterator[None]:
    """Keep freed memory in this process while the block runs; without glibc nothing happens.

    By default the C library returns large blocks to the system at once. The system fills each with zeros when the next
    step asks for it again, which costs a quarter to a third of a step on a CPU (benchmarks/LOG.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt if wanted else None
    except (OSError, AttributeError, TypeError):
        mallopt = None
    if mallopt is None:
        yield
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        mallopt(M_MMAP_MAX, MMAP_MAX)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)
