"""The folder of the cache, and how many bytes it may hold.

The options --cache and --cache-gb choose both for a command; a program may pass a `CachePlace` to `ShardSet.open`.
"""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from vprep.errors import UsageError

NAME = "playspeed"
GB = 10**9
MOST_GB = 10**9  # more than any disk has
DEFAULT_SHARE = 0.5  # of the disk's free space, to which counts what the cache holds already


@dataclass(frozen=True, slots=True)
class CachePlace:
    """Where copies of remote files are kept. None stands for the default."""

    folder: Path | None = None  # default: playspeed/ in the user's folder for caches
    limit: int | None = None  # bytes of shards; default: half of the disk's free space

    @property
    def path(self) -> Path:
        return (default_folder() if self.folder is None else self.folder).absolute()

    def limit_with(self, held: int) -> int:
        """Return the limit in bytes, where the cache holds `held` bytes already."""
        if self.limit is not None:
            return self.limit
        return int((shutil.disk_usage(self.path).free + held) * DEFAULT_SHARE)


_chosen = CachePlace()


def chosen() -> CachePlace:
    """Return the place that the options of this command name."""
    return _chosen


def choose_folder(folder: Path | None) -> Path | None:
    """Take the value of --cache."""
    global _chosen
    _chosen = replace(_chosen, folder=folder)
    return folder


def choose_gb(gb: float | None) -> float | None:
    """Take the value of --cache-gb."""
    global _chosen
    _chosen = replace(_chosen, limit=None if gb is None else int(min(gb, MOST_GB) * GB))
    return gb


def default_folder() -> Path:
    """Return playspeed/ in XDG_CACHE_HOME, or else in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the specification has a relative path ignored
        return Path(base) / NAME
    try:
        return Path.home() / ".cache" / NAME
    except RuntimeError:
        raise UsageError("this user has no home folder for the cache of remote shards; name one: --cache DIR") from None
