"""The machine a command runs on: versions, devices, processors, memory.

`environment` explains why two runs differ, and contains nothing about the machine's owner.
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

from vprep.errors import UsageError
from vprep.memory import memory
from vprep.processors import processors as usable_processors
from vtrain import __version__

PACKAGES = ("numpy", "webdataset", "pyarrow")


def environment() -> dict[str, Any]:
    """Return the description of this machine for a run's environment.json and for `vtrain doctor`."""
    return {
        "command": command(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": processors(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "memory": memory(),
        "versions": versions(),
        "cuda": torch.version.cuda,
        "cudnn": cudnn(),
        "gpus": gpus(),
    }


def command(words: list[str]) -> list[str]:
    """Return the command line as it was typed, without the program's folder, which often names a person."""
    program = Path(words[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    # The name of a file need not be UTF-8, but the file that the words are written to is.
    return [word.encode("utf-8", "backslashreplace").decode() for word in (name, *words[1:])]


def processors() -> int:
    """Return how many processors this process may use; a container's quota counts."""
    return len(usable_processors())


def versions() -> dict[str, str | None]:
    """Return the versions of this package and of those that its numbers depend on."""
    # The distributions of OpenCV have different names, and so have the builds of torch.
    imported = {"playspeed": __version__, "torch": str(torch.__version__), "cv2": str(cv2.__version__)}
    return imported | {name: installed(name) for name in PACKAGES}


def installed(distribution: str) -> str | None:
    """Return the version of a distribution; None when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def cudnn() -> int | None:
    """Return the version of cuDNN, as in 91501 for 9.15.1; None when torch cannot load it."""
    with suppress(RuntimeError):
        found: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        return found
    return None


def gpus() -> list[dict[str, Any]]:
    """Return the GPUs that torch can use."""
    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [{"name": gpu.name, "memory": gpu.total_memory, "capability": f"{gpu.major}.{gpu.minor}"} for gpu in found]


def device_named(word: str = "") -> torch.device:
    """Return the device of that name; without a name, this process's GPU, or the CPU when there is no GPU."""
    if not word:
        word = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(word)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"there is no device '{word}' ({str(error).splitlines()[0]}); write cpu or cuda") from None
    return found


def name_of(device: torch.device) -> str:
    """Return the GPU's name as its maker gives it, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # numbers of glibc's mallopt
TRIM_THRESHOLD, MMAP_MAX = 128 << 10, 1 << 16  # glibc's own values


def default_workers(device: torch.device) -> int:
    """Return how many loader workers a process that trains on `device` should have.

    On a CPU the network needs the processors itself; beside a GPU all of them are free for decoding.
    """
    share = processors() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, min(16, share - 1)) if device.type == "cuda" else max(1, share // 4)


@contextmanager
def kept_memory(wanted: bool = True) -> Iterator[None]:
    """Keep freed memory in this process while the block runs. Only glibc can do so; elsewhere nothing changes.

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
