"""The processors that this process may use, by the system's affinity and by a container's quota of time."""

import os
from collections.abc import Iterator
from pathlib import Path

from vprep.errors import UsageError

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
LEAST_OF_MOST, PER_PROCESSOR = 64, 8  # workers that are allowed: where disks are slow, many may wait for them
_V1_FOLDERS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")  # where systems mount version 1's controller


def processors(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> list[int]:
    """Return the numbers of the usable processors; no more than a container's quota of time allows."""
    allowed = hasattr(os, "sched_getaffinity")  # not on macOS
    usable = sorted(os.sched_getaffinity(0)) if allowed else list(range(os.cpu_count() or 1))
    granted = quota(cgroups, membership)
    return usable if granted is None else usable[: max(1, int(granted))]


def most_workers() -> int:
    """Return how many workers a command may have: more than are ever of use, and fewer than do harm."""
    return max(LEAST_OF_MOST, PER_PROCESSOR * len(processors()))


def demand_workers(count: int, name: str = "workers") -> None:
    """Refuse far more loader workers than there are processors; `name` is how the user writes their number."""
    if count > most_workers():
        raise UsageError(
            f"{name} is {count}, and this machine has {len(processors())} processors: at most {most_workers()} workers "
            "can be of use here"
        )


def quota(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Return how many processors' worth of time the control groups grant this process; None when they set no limit.

    `cgroups` is where the groups' file system is mounted; `membership` lists this process's groups. A group's limit
    holds for all groups in it, so the smallest on the way up to the root counts.
    """
    return min(_limits(cgroups, membership), default=None)


def _limits(cgroups: Path, membership: Path) -> Iterator[float]:
    """Yield the limit of each group that this process is in, for versions 1 and 2 of control groups."""
    version_1, version_2 = groups("cpu", membership)
    for folder in upwards(cgroups, version_2):
        yield from _limit(*_words(folder / "cpu.max", 2))
    for mount in _V1_FOLDERS:
        for folder in upwards(cgroups / mount, version_1):
            yield from _limit(*_words(folder / "cpu.cfs_quota_us", 1), *_words(folder / "cpu.cfs_period_us", 1))


def groups(controller: str, membership: Path = MEMBERSHIP) -> tuple[str, str]:
    """Return the paths of this process's groups: that of a controller of version 1, and that of version 2."""
    version_1 = version_2 = ""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return version_1, version_2
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            version_2 = path
        elif controller in controllers.split(","):
            version_1 = path
    return version_1, version_2


def upwards(root: Path, group: str) -> Iterator[Path]:
    """Yield the folder of `group` below `root`, then those around it up to `root`.

    In a container the path is often the host's and does not exist; `root` itself is then the container's group.
    """
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:length])


def _words(path: Path, count: int) -> list[str]:
    """Return the words of a file; empty when it does not exist or has another number of words than `count`."""
    try:
        words = path.read_text().split()
    except OSError:
        return []
    return words if len(words) == count else []


def _limit(*words: str) -> Iterator[float]:
    """Yield quota / period, both in microseconds; nothing when there is no limit (`max`, or -1)."""
    if len(words) == 2 and all(word.isdecimal() for word in words) and all(int(word) > 0 for word in words):
        yield int(words[0]) / int(words[1])
