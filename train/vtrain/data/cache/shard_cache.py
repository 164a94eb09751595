"""The cached shards on the disk, named by their content: the hash of a shard and its size.

    lock        held for a moment by whoever counts, makes room or notes needs
    leases/     what living readers need (leases.py)
    shards/     complete shards, and drafts of shards that are being fetched

A shard is complete and verified, or absent: a draft is flushed to the disk before it gets its name. A draft is locked
by the process that fetches it, so what a killed process leaves is known and removed. A complete shard goes only to make
room for others, the least recently used first, and never while a living reader needs it now or soon.
"""

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vprep.atomic import move_into_place
from vprep.errors import WorkError, reason, writing
from vprep.hashing import hash_file
from vprep.text import byte_size
from vtrain.data.cache import leases, locks
from vtrain.data.cache.leases import Lease, Needs
from vtrain.data.cache.place import CachePlace

SUFFIX, DRAFT = ".tar", ".draft"
OURS = re.compile(rf"[0-9a-f]{{32}}-\d+\{SUFFIX}|\.[0-9a-f]{{32}}-\d+\{SUFFIX}\{DRAFT}")  # all else belongs to others
MOST_DRAFTS = 16  # shards that all processes of a machine fetch at once
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
ALLOCATE = getattr(os, "posix_fallocate", None)  # some systems do not have it

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A shard that a reader needs, now or soon."""

    name: str
    size: int
    soon: bool


@dataclass(frozen=True, slots=True)
class Reservation:
    """The answer to a reader that needs shards."""

    draft: "Draft | None" = None  # of the first shard that can be fetched
    there: frozenset[str] = frozenset()  # names of those that are complete
    full: bool = False  # no room is left for the others


@contextlib.contextmanager
def usable(place: CachePlace) -> Iterator[None]:
    """Turn an error of the system about the cache into one sentence, which also a loader's worker passes on."""
    try:
        yield
    except OSError as error:
        raise WorkError(
            f"the cache {place.path} cannot be used: {error.filename or 'a file'}: {reason(error)}; mend that, or name "
            "another folder: --cache DIR"
        ) from None


class ShardCache:
    """The cache at a place, which any number of processes and threads may use at once."""

    def __init__(self, place: CachePlace) -> None:
        self.folder = place.path
        self._shards, self._leases = self.folder / "shards", self.folder / "leases"
        with writing(self.folder, "name another folder: --cache DIR"):
            for folder in (self.folder, self._shards, self._leases):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._alone():
                self.limit = place.limit_with(sum(self._files().values()))

    def path(self, name: str) -> Path:
        return self._shards / name

    def open(self, name: str, size: int) -> int | None:
        """Open a cached shard, which counts as a use of it; return None when it is not there."""
        try:
            file = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if os.fstat(file).st_size != size and self.path(name).is_file():  # somebody has cut it
            os.close(file)
            self.path(name).unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(file)
        return file

    def drop_if_damaged(self, name: str, digest: str) -> bool:
        """Remove a cached shard whose bytes are not those that were fetched; return whether it was so."""
        with contextlib.suppress(FileNotFoundError):
            if hash_file(self.path(name)) == digest:
                return False
            self.path(name).unlink()
        return True

    def lease(self, needs: Needs, lease: Lease | None = None) -> Lease:
        """Return the lease that notes what a reader needs, instead of what it needed before."""
        with self._alone():
            lease = self._with_space(lambda: lease or Lease(self._leases))
            self._with_space(lambda: lease.write(needs))
            return lease

    def reserve(self, wanted: Sequence[Wanted]) -> Reservation:
        """Return a draft of the first of these shards that nobody fetches, after making room for it.

        What is needed soon takes no room from what is needed now.
        """
        with self._alone():
            files = self._files()
            there = frozenset(shard.name for shard in wanted if shard.name in files)
            absent = [shard for shard in wanted if not {shard.name, _draft(shard.name)} & files.keys()]
            if not absent or sum(map(_is_draft, files)) >= MOST_DRAFTS:
                return Reservation(there=there)
            draft = self._drafted(absent[0]) if self._made_room(files, absent[0]) else None
            return Reservation(draft, there, full=draft is None)

    def capacity(self) -> int:
        """Return how many bytes of shards can be here: up to the limit, and as the disk has space."""
        return min(self.limit, self.disk_space())

    def disk_space(self) -> int:
        """Return how many bytes of shards the disk can hold, with those that are here."""
        with self._alone():
            held = sum(self._files().values())
        stats = os.statvfs(self.folder)
        return held + stats.f_bavail * stats.f_frsize

    def free_one(self) -> None:
        """Remove the least recently used shard that nobody needs, because the disk is full."""
        with self._alone():
            self._free_one()

    def _made_room(self, files: dict[str, int], shard: Wanted) -> bool:
        """Return whether there is room for a shard; unneeded ones are removed, unless that would not be enough."""
        needs = leases.of_the_living(self._leases)
        wanted = sum(files.values()) + shard.size
        if shard.soon:
            wanted += sum(size for name, size in needs.now.items() if not {name, _draft(name)} & files.keys())
        unneeded = self._unneeded(files, needs)
        if wanted - sum(files[name] for name in unneeded) > self.limit:
            return False
        while wanted > self.limit:
            wanted -= files[unneeded[0]]
            self.path(unneeded.pop(0)).unlink(missing_ok=True)
        return True

    def _drafted(self, shard: Wanted) -> "Draft | None":
        """Return a draft whose space on the disk is taken already, where the file system can do so."""
        draft = self._with_space(lambda: Draft(self, shard.name))
        try:
            self._with_space(lambda: draft.allocate(shard.size))
        except WorkError:
            draft.discard()
            if not shard.soon:
                raise
            return None
        return draft

    def _with_space(self, act: Callable[[], Made]) -> Made:
        """Return what `act` returns; remove unneeded shards and try again while the disk is full."""
        while True:
            try:
                return act()
            except OSError as error:
                if error.errno not in FULL_DISK:
                    raise
            self._free_one()

    def _free_one(self) -> None:
        files, needs = self._files(), leases.of_the_living(self._leases)
        unneeded = self._unneeded(files, needs)
        if not unneeded:
            missing = sum(size for name, size in needs.now.items() if name not in files)
            needed = f"{byte_size(missing)} more are needed for the shards that are read now"
            more = needed if missing else "it needs more"
            advice = "free some space, or name a folder on another disk: --cache DIR"
            raise WorkError(f"the disk of the cache {self.folder} is full: {more}; {advice}")
        self.path(unneeded[0]).unlink(missing_ok=True)

    def _unneeded(self, files: dict[str, int], needs: Needs) -> list[str]:
        """Return the complete shards that no reader needs, the least recently used first."""
        used: dict[str, int] = {}
        for name in files:
            if not _is_draft(name) and name not in needs:
                with contextlib.suppress(FileNotFoundError):
                    used[name] = self.path(name).stat().st_mtime_ns
        return sorted(used, key=lambda name: used[name])

    def _files(self) -> dict[str, int]:
        """Return the sizes of all shards and drafts by name, after the drafts of the dead are removed."""
        found: dict[str, int] = {}
        for entry in list(os.scandir(self._shards)):
            if not OURS.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                continue
            if _is_draft(entry.name) and not locks.is_held(Path(entry.path)):
                Path(entry.path).unlink(missing_ok=True)
            else:
                with contextlib.suppress(FileNotFoundError):
                    found[entry.name] = entry.stat(follow_symlinks=False).st_size
        return found

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with locks.alone(self.folder / "lock"):
            yield


class Draft:
    """A shard that is being fetched, locked by this process until it has its name or is given up."""

    def __init__(self, cache: ShardCache, name: str) -> None:
        self._cache, self._path, self.name = cache, cache.path(_draft(name)), name
        self._file = locks.opened(self._path, os.O_EXCL)
        locks.hold(self._file, self._path)

    def allocate(self, size: int) -> None:
        """Take the space; where a file system cannot, at least count the size."""
        if ALLOCATE is not None:
            try:
                ALLOCATE(self._file, 0, size)
            except OSError as error:
                if error.errno in FULL_DISK:
                    raise
        os.ftruncate(self._file, size)

    def write(self, at: int, data: memoryview) -> None:
        """Write at an offset; while the disk is full, shards that nobody needs go."""
        while data:
            try:
                written = os.pwrite(self._file, data, at)
            except OSError as error:
                if error.errno not in FULL_DISK:
                    raise
                self._cache.free_one()
                continue
            at, data = at + written, data[written:]

    def finish(self) -> None:
        """Give the shard its name, after its bytes are on the disk."""
        os.fsync(self._file)
        move_into_place(self._path, self._cache.path(self.name))
        self._close()

    def discard(self) -> None:
        """Remove what was fetched so far, unless it is finished."""
        if self._file >= 0:
            self._path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        os.close(self._file)
        self._file = -1


def _draft(name: str) -> str:
    return f".{name}{DRAFT}"


def _is_draft(name: str) -> bool:
    return name.endswith(DRAFT)
