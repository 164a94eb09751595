"""The memory that this process may use, by the machine, a container's limit and the limits of the shell."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from vprep.processors import CGROUPS, MEMBERSHIP, groups, upwards

MEMINFO = Path("/proc/meminfo")
UNLIMITED = 1 << 62  # from here on, control groups of version 1 mean "no limit"


def memory(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return how many bytes of memory this process may use; the limit of a container or of `ulimit -v` counts."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    shell = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    limited = [limit for limit in shell if limit != resource.RLIM_INFINITY]
    return min([machine, *limited, *(limit for limit, _ in _limits(cgroups, membership))])


def memory_with_swap() -> int:
    """Return the bytes that this process can never go beyond: memory, and the system's swap."""
    return memory() + _meminfo("SwapTotal", 0)


def free_memory(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Return the available memory, at most what the container's limit leaves; None when unknown."""
    left = [limit - used for limit, used in _limits(cgroups, membership)]
    available = _meminfo("MemAvailable", -1)
    return min([*left, *([available] if available >= 0 else [])], default=None)


def _meminfo(name: str, unknown: int) -> int:
    """Return a value of the system's table of memory in bytes; `unknown` where there is no such table."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(MEMINFO.read_text().partition(f"{name}:")[2].split()[0]) * 1024
    return unknown


def _limits(cgroups: Path, membership: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use of each control group that this process is in, for versions 1 and 2."""
    version_1, version_2 = groups("memory", membership)
    files = [(folder, "memory.max", "memory.current") for folder in upwards(cgroups, version_2)]
    files += [
        (folder, "memory.limit_in_bytes", "memory.usage_in_bytes") for folder in upwards(cgroups / "memory", version_1)
    ]
    for folder, limit, used in files:
        if (most := _number(folder / limit)) is not None and most < UNLIMITED:
            yield most, _number(folder / used) or 0


def _number(path: Path) -> int | None:
    """Return the number in a file; None when there is none, or the word "max", which means no limit."""
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None
