"""Where a set is written: a local folder, or a folder of a store.

A file of the set is always made in a local folder, complete or not at all. In a local set that is the set itself. With
a store it is a scratch folder, and the file is then sent. A store has no locks, so two writers are kept apart by this:

- the plan is written by who is first, and the others compare theirs with it
- a shard is written by who is first. Its record, which lists its videos and is sent before it, is named by the hash of
  the shard: whichever of two different shards arrives first, its record is there
- index and dataset.json follow from these, so all who write them write the same bytes
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vprep.atomic import move_into_place
from vprep.errors import UsageError
from vprep.hashing import hash_file
from vprep.store import Location, MissingError, Store
from vprep.store.named import named
from vprep.store.scratch import scratch_folder

WORK = ".work"  # drafts and records of shards, in the set's folder until the set is finished
RECORD = ".parquet"


class Destination(Protocol):
    """A set that is written. `str` gives its place as the user named it."""

    @property
    def folder(self) -> Path:
        """The local folder in which its files are made."""

    @property
    def is_local(self) -> bool:
        """Whether the set is in `folder` itself."""

    @property
    def address(self) -> str:
        """Its place as other processes and machines name it."""

    def fetch(self, name: str) -> Path:
        """Return the local path of a file of the set; where the set has none, nothing is there."""

    def forget(self, name: str) -> None:
        """Remove the local copy of a file that is in a store."""

    def sizes(self, below: str = "") -> dict[str, int]:
        """Return the sizes of the files in the set, or in a folder of it, by their names in that folder."""

    def names(self, below: str = "") -> list[str]:
        """Return the names in the set, or in a folder of it, with those of folders, in order."""

    def size(self, name: str) -> int | None:
        """Return the size of a file as it is now; None when there is none."""

    def hash(self, name: str) -> str:
        """Return the hash of a file as it is now."""

    def keep(self, name: str, *, create: bool = False) -> bool:
        """Make a file in `folder` a part of the set; with `create`, return False if another writer was first."""

    def place(self, draft: Path, name: str, *, create: bool = False) -> bool:
        """Make a draft the file `name`, and remove the draft; returns as `keep`."""

    def remove(self, name: str) -> None:
        """Remove a file."""

    def remove_work(self) -> None:
        """Remove the records and drafts of shards, which a finished set does not need."""

    def record_name(self, shard: str, content: str) -> str:
        """Return the name of the record of a shard whose bytes have the hash `content`."""

    def records(self, shard: str) -> list[Path]:
        """Return the local paths of the records of a shard: none, one, or those of several writers."""


@dataclass(frozen=True, slots=True)
class LocalSet:
    """A set in a local folder."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def is_local(self) -> bool:
        return True

    @property
    def address(self) -> str:
        return str(self.folder.resolve())

    def fetch(self, name: str) -> Path:
        return self.folder / name

    def forget(self, name: str) -> None:
        """There is no other copy."""

    def sizes(self, below: str = "") -> dict[str, int]:
        found = {}
        for path in (self.folder / below).iterdir():
            with contextlib.suppress(FileNotFoundError):  # removed by another writer, or a link that leads nowhere
                found[path.name] = path.stat().st_size
        return found

    def names(self, below: str = "") -> list[str]:
        folder = self.folder / below
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def size(self, name: str) -> int | None:
        try:
            return (self.folder / name).stat().st_size
        except FileNotFoundError:
            return None

    def hash(self, name: str) -> str:
        return hash_file(self.folder / name)

    def keep(self, name: str, *, create: bool = False) -> bool:
        return True

    def place(self, draft: Path, name: str, *, create: bool = False) -> bool:
        move_into_place(draft, self.folder / name)
        return True

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def remove_work(self) -> None:
        shutil.rmtree(self.folder / WORK, ignore_errors=True)

    def record_name(self, shard: str, content: str) -> str:
        return f"{WORK}/{shard.removesuffix('.tar')}{RECORD}"

    def records(self, shard: str) -> list[Path]:
        return [self.folder / self.record_name(shard, "")]


@dataclass(frozen=True, slots=True)
class StoreSet:
    """A set in a store; `folder` is the scratch folder, which holds what was made or read of it."""

    store: Store
    folder: Path

    def __str__(self) -> str:
        return str(self.store.location)

    @property
    def is_local(self) -> bool:
        return False

    @property
    def address(self) -> str:
        return str(self)

    def fetch(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(MissingError):
                self.store.download(name, path)
        return path

    def forget(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def sizes(self, below: str = "") -> dict[str, int]:
        start = len(below) + 1 if below else 0
        found = {head.name[start:]: head.size for head in self.store.list(below)}
        return {name: size for name, size in found.items() if "/" not in name}

    def names(self, below: str = "") -> list[str]:
        start = len(below) + 1 if below else 0
        return sorted({head.name[start:].partition("/")[0] for head in self.store.list(below)})

    def size(self, name: str) -> int | None:
        head = self.store.head(name)
        return None if head is None else head.size

    def hash(self, name: str) -> str:
        return self.store.hash(name)

    def keep(self, name: str, *, create: bool = False) -> bool:
        return self.store.put(name, self.folder / name, create=create)

    def place(self, draft: Path, name: str, *, create: bool = False) -> bool:
        first = self.store.put(name, draft, create=create)
        if first or not create:
            draft.unlink()
        return first

    def remove(self, name: str) -> None:
        self.store.delete(name)
        self.forget(name)

    def remove_work(self) -> None:
        for head in [*self.store.list(WORK)]:
            self.store.delete(head.name)
        shutil.rmtree(self.folder / WORK, ignore_errors=True)

    def record_name(self, shard: str, content: str) -> str:
        return f"{WORK}/{shard.removesuffix('.tar')}/{content}{RECORD}"

    def records(self, shard: str) -> list[Path]:
        below = f"{WORK}/{shard.removesuffix('.tar')}"
        return [self.fetch(f"{below}/{name}") for name in self.sizes(below)]


@contextlib.contextmanager
def opened(place: Path | Location, scratch: Path | None = None) -> Iterator[Destination]:
    """Open the place of a set for a writer; `scratch` is where the files for a store are made, by default in TMPDIR."""
    if isinstance(place, Path):
        yield LocalSet(place)
        return
    if not place.is_listed:
        raise UsageError(f"{place} cannot be written to, as {place.scheme} has no way to; name a bucket, as in s3://")
    with scratch_folder(scratch) as folder, named(folder, place):
        yield StoreSet(Store(place), folder)
